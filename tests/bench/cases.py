"""What is measured, and beside whom. Contenders run by turns, so that a noisy moment hits all of them."""

import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.measure import PEER, PROGRAM, Took, endpoint, manifest, took

OURS = "batch-cancel"
BARE = "aioboto3 gather"
SCRIPTS = {
    BARE: "aioboto3",
    "boto3 threads": "boto3-threads",
    "aioboto3 adaptive": "aioboto3-adaptive",
    "boto3 adaptive": "boto3-adaptive",
}
AT_ONCE, LIMITED_AT_ONCE = 50, 20
"""Calls in flight of the scripts, where nothing and where a limit holds them back: what they do best with."""
ADAPTIVE = ("aioboto3 adaptive", "boto3 adaptive")


@dataclass(slots=True)
class Table:
    """One case's figures.

    Attributes:
        bar: what issue 4 asks of this case.
        met: whether our figures meet it.
    """

    title: str
    columns: tuple[str, ...]
    bar: str
    rows: list[tuple[str, ...]] = field(default_factory=list)
    met: bool | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where it is measured, and how thoroughly.

    Attributes:
        quick: a tenth of the work, to see that everything runs; its figures prove nothing.
    """

    home: Path
    quick: bool
    rounds: int

    def some(self, number: int) -> int:
        """So many, or a tenth."""
        return max(1, number // 10) if self.quick else number

    def out(self) -> str:
        """A new run directory."""
        return str(self.home / f"out-{time.monotonic_ns()}")

    def run(self, *words: str) -> list[str]:
        """A whole sweep with ledger and reports that does not wait for the runs' ends, as the scripts do not."""
        return [*PROGRAM, "run", *words, "--yes", "--no-wait", "--no-progress", "--quiet", "--out", self.out()]

    def manifest(self, runs: int) -> str:
        """A manifest of so many runs."""
        return str(manifest(self.home / f"runs-{runs}.csv", runs))

    def forget(self) -> None:
        """Nothing learned may help the next run."""
        for path in (self.home / "state").rglob("*.json"):
            path.unlink(missing_ok=True)

    def cancel(self, contender: str, runs: str, *options: str, **setting: object) -> Took:
        """One contender against an endpoint of its own."""
        ours = contender.startswith(OURS)
        if ours:
            self.forget()
        command = (
            self.run("--manifest", runs, *options)
            if ours
            else [*PEER, SCRIPTS[contender], runs, str(AT_ONCE if setting.get("rps") is None else LIMITED_AT_ONCE)]
        )
        with endpoint(**setting) as at:
            return took(command, self.home, at)


def unlimited(bench: Bench) -> Iterable[Table]:
    """Nothing but processor time."""
    number = bench.some(6000)
    runs = bench.manifest(number)
    told = f"{OURS} --rps 10000"
    contenders: dict[str, tuple[str, ...]] = {
        OURS: (),
        told: ("--rps", "10000"),
        BARE: (),
        "boto3 threads": (),
        "aioboto3 adaptive": (),
    }
    results: dict[str, list[Took]] = {name: [] for name in contenders}
    for _ in range(bench.rounds):
        for name, options in contenders.items():
            results[name].append(bench.cancel(name, runs, *options))
    table = Table(
        f"Unlimited endpoint, {number:,} runs, whole process (ours with ledger and four reports)",
        ("contender", "seconds", "calls/s, whole", "calls/s, cancelling", "CPU s", "CPU ms a call", "speed", "CPU"),
        "at least the bare script's speed, aim 1.5 times",
    )
    base = results[BARE]
    for name, all_took in results.items():
        seconds, cpu = _middle(all_took, "seconds"), _middle(all_took, "cpu_seconds")
        speed = _pairwise(base, all_took, lambda each: each.seconds)
        table.rows.append(
            (
                name,
                f"{seconds:.2f}",
                f"{number / seconds:,.0f}",
                f"{number / _middle(all_took, 'cancelling_seconds'):,.0f}",
                f"{cpu:.2f}",
                f"{1000 * cpu / number:.2f}",
                f"{speed:.2f}x",
                f"{_pairwise(all_took, base, lambda each: each.cpu_seconds):.2f}x",
            )
        )
        if name == OURS:
            table.met = speed >= 1.0
    table.notes.append(f"the endpoint alone answers {ceiling():,.0f} calls/s: it is not what holds anybody back")
    yield table


def ceiling() -> float:
    """Calls a second that the endpoint itself can answer, from a client that only writes bytes."""
    import asyncio
    from urllib.parse import urlsplit

    body = b'{"TransformId": "tfm-0", "TaskRunId": "tr-0"}'
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Amz-Target: AWSGlue.CancelMLTaskRun\r\nUser-Agent: " + b"a" * 300
    keys = b"\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIA/20261124/us-east-1/glue/aws4_request, Signature=0"
    request = head + keys + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    batch, batches, connections = 10, 50, 16

    async def converse(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(batches):
            writer.write(request * batch)
            for _ in range(batch):
                answer = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(answer.rpartition(b": ")[2]))
        writer.close()

    async def converse_all(port: int) -> float:
        began = time.monotonic()
        await asyncio.gather(*(converse(port) for _ in range(connections)))
        return batch * batches * connections / (time.monotonic() - began)

    with endpoint() as at:
        return asyncio.run(converse_all(urlsplit(at.url).port or 0))


def limited(bench: Bench) -> Iterable[Table]:
    """A limit that nobody was told."""
    for title, number, rps, burst, bar in (
        ("Unknown limit, 300 runs, 20/s, burst 20", 300, 20, 20, "<= 15.0 s, <= 5 % throttled, 0 lost"),
        (
            "Unknown limit of 20/s, burst 20, 60 s of work",
            1200,
            20,
            20,
            ">= 95 % of the limit, <= 5 % throttled, 0 lost",
        ),
        (
            "Unknown limit of 100/s, burst 100, 60 s of work",
            6000,
            100,
            100,
            ">= 95 % of the limit, <= 5 % throttled, 0 lost",
        ),
    ):
        if bench.quick and number > 300:
            continue
        runs = bench.manifest(number)
        table = Table(
            title,
            ("contender", "seconds", "use of the limit", "throttled", "lost", "whole process s", "seconds, ratio"),
            bar,
        )
        ideal = (number - burst) / rps
        contenders = (OURS, *SCRIPTS)
        with ThreadPoolExecutor(len(contenders)) as side_by_side:  # waiting is all that they do, so all at once
            measured = side_by_side.map(
                lambda name: bench.cancel(name, runs, rps=rps, burst=burst, latency_seconds=0.05),  # noqa: B023  # done in this round
                contenders,
            )
            all_took = dict(zip(contenders, measured, strict=True))
        ours = all_took[OURS]
        for name, each in all_took.items():
            lost = number - int(each.stats["cancelled"])
            table.rows.append(
                (
                    name,
                    f"{each.cancelling_seconds:.1f}",
                    f"{100 * (number - lost - burst) / rps / each.cancelling_seconds:.1f} %",
                    f"{each.throttled_percent:.1f} %",
                    str(lost),
                    f"{each.seconds:.1f}",
                    f"{each.cancelling_seconds / ours.cancelling_seconds:.2f}x",
                )
            )
        most = 15.0 if number == 300 else ideal / 0.95
        table.met = (
            ours.cancelling_seconds <= most
            and ours.throttled_percent <= 5.0
            and ours.stats["cancelled"] == number
            and all(ours.cancelling_seconds < all_took[name].cancelling_seconds for name in ADAPTIVE)
        )
        table.notes.append(f"seconds from the first request to the last accepted one; the limiter allows {ideal:.1f}")
        table.notes.append(
            f"all at once, each with an endpoint of its own; the scripts with {LIMITED_AT_ONCE} in flight"
        )
        yield table


def known(bench: Bench) -> Iterable[Table]:
    """A limit that was told."""
    number, rps = bench.some(2000), 50
    each = bench.cancel(OURS, bench.manifest(number), "--rps", str(rps), rps=rps, burst=5, latency_seconds=0.05)
    percent = 100 * (number - 1) / each.cancelling_seconds / rps
    throttled = int(each.stats["throttled"])
    yield Table(
        f"Known limit: --rps {rps} against {rps}/s, burst 5, {number:,} runs",
        ("contender", "seconds", "of the rate", "throttled", "lost"),
        "98 to 102 % of it, 0 throttled",
        [
            (
                OURS,
                f"{each.cancelling_seconds:.1f}",
                f"{percent:.1f} %",
                str(throttled),
                str(number - int(each.stats["cancelled"])),
            )
        ],
        met=98.0 <= percent <= 102.0 and not throttled,
    )


def start(bench: Bench) -> Iterable[Table]:
    """From the shell to the first request."""
    runs = bench.manifest(100)
    table = Table(
        "Start of the process to the first cancel request, manifest of 100 runs, median",
        ("contender", "seconds", "ratio"),
        "at most 1.3 times the bare script's",
    )
    results: dict[str, list[Took]] = {name: [] for name in (OURS, BARE, "boto3 threads")}
    for _ in range(1 if bench.quick else 7):
        for name, all_took in results.items():
            all_took.append(bench.cancel(name, runs))
    for name, all_took in results.items():
        ratio = _pairwise(all_took, results[BARE], lambda each: each.first_cancel_seconds)
        table.rows.append((name, f"{_middle(all_took, 'first_cancel_seconds'):.2f}", f"{ratio:.2f}x"))
        if name == OURS:
            table.met = ratio <= 1.3
    yield table

    helped = [took([*PROGRAM, "--help"], bench.home) for _ in range(3 if bench.quick else 15)]
    seconds = _middle(helped, "seconds")
    yield Table(
        "batch-cancel --help",
        ("what", "seconds, median"),
        "under 0.2 s",
        [(f"{OURS} --help", f"{seconds:.3f}")],
        met=seconds < 0.2,
    )


def memory(bench: Bench) -> Iterable[Table]:
    """Resident memory by how much there is to do."""
    table = Table(
        "Peak resident memory",
        ("what", "runs", "MB", "seconds", "CPU s"),
        "growth from 1,000 to 100,000 runs under 50 MB; a million rows under 200 MB in all",
    )
    peaks = []
    for number in map(bench.some, (1_000, 10_000, 100_000)):
        each = bench.cancel(OURS, bench.manifest(number), "--rps", "100000")
        peaks.append(each.peak_megabytes)
        table.rows.append(
            (
                f"{OURS} run",
                f"{number:,}",
                f"{each.peak_megabytes:.0f}",
                f"{each.seconds:.1f}",
                f"{each.cpu_seconds:.1f}",
            )
        )
    rows = bench.some(1_000_000)
    million = bench.manifest(rows)
    validated = took([*PROGRAM, "validate", million], bench.home)
    table.rows.append(
        (
            f"{OURS} validate",
            f"{rows:,}",
            f"{validated.peak_megabytes:.0f}",
            f"{validated.seconds:.1f}",
            f"{validated.cpu_seconds:.1f}",
        )
    )
    with endpoint() as at:  # refused by its cap: the whole take-in, and no call
        words = ("--manifest", million, "--max-runs", "1", "--report", "json")
        taken_in = took(bench.run(*words), bench.home, at)
    told = "take-in, decision, report.json"
    table.rows.append(
        (told, f"{rows:,}", f"{taken_in.peak_megabytes:.0f}", f"{taken_in.seconds:.1f}", f"{taken_in.cpu_seconds:.1f}")
    )
    grown = peaks[-1] - peaks[0]
    table.met = grown < 50 and max(validated.peak_megabytes, taken_in.peak_megabytes) < 200
    table.notes.append(f"growth {grown:.0f} MB; exit codes {validated.exit_code} and {taken_in.exit_code} (3: refused)")
    yield table


def discovery(bench: Bench) -> Iterable[Table]:
    """A region's transforms, two calls each."""
    table = Table(
        "Discovery of 100 transforms with 3 active runs each, 50 ms latency",
        ("what", "seconds", "CPU s", "first cancel after s", "calls"),
        "none; the first request does not wait for the last listing",
    )
    for title, words in (
        ("dry run", ("--dry-run",)),
        ("cancelling", ()),
        ("cancelling, --rps 1000", ("--rps", "1000")),
    ):
        bench.forget()
        with endpoint(transforms=bench.some(100), active_runs=3, latency_seconds=0.05) as at:
            each = took(bench.run("--discover", *words), bench.home, at)
        first = f"{each.first_cancel_seconds:.2f}" if each.stats["cancelled"] else "-"
        calls = ", ".join(f"{name or 'sts'} {count}" for name, count in sorted(each.stats["calls"].items()))
        table.rows.append((title, f"{each.seconds:.2f}", f"{each.cpu_seconds:.2f}", first, calls))
    yield table


REGIONS = {
    "us": ("east-1", "east-2", "west-1", "west-2"),
    "eu": ("west-1", "west-2", "west-3", "central-1", "north-1", "south-1"),
    "ap": ("south-1", "east-1", "southeast-1", "southeast-2", "northeast-1", "northeast-2"),
    "ca": ("central-1",),
    "sa": ("east-1",),
    "me": ("south-1",),
    "af": ("south-1",),
}
"""Twenty."""


def targets(bench: Bench) -> Iterable[Table]:
    """Many accounts and regions with little in them."""
    accounts = [f"{200000000000 + number}" for number in range(bench.some(50))]
    regions = [f"{area}-{name}" for area, names in REGIONS.items() for name in names]
    count = len(accounts) * len(regions)
    setting = {"latency_seconds": 0.05, "transforms": 2, "active_runs": 1, "full_every": 25}
    sweep = bench.home / "targets.yaml"
    sweep.write_text(
        "version: 1\nname: many\nsource: discovery\ntargets:\n"
        f"  - accounts: {accounts!r}\n    role_name: BatchCancel\n    regions: {regions!r}\n",
        encoding="utf-8",
    )
    table = Table(
        f"{count:,} account-region targets, 1 in 25 not empty, 50 ms latency, audit (dry run)",
        ("contender", "seconds", "CPU s", "MB", "speed", "calls", "connections"),
        "at least 3 times the script that opens a client per target with 64 at once",
    )
    pairs: list[tuple[Took, Took]] = []
    for _ in range(1):  # the script takes a minute
        with endpoint(**setting) as at:
            words = [*PROGRAM, "run", str(sweep), "--dry-run", "--no-progress", "--quiet", "--out", bench.out()]
            ours = took(words, bench.home, at)
        with endpoint(**setting) as at:
            theirs = took([*PEER, "client-per-target", ",".join(accounts), ",".join(regions)], bench.home, at)
        pairs.append((ours, theirs))
    base = [theirs for _, theirs in pairs]
    for at_place, name in ((0, OURS), (1, "client per target, 64 at once")):
        all_took = [pair[at_place] for pair in pairs]
        speed = _pairwise(base, all_took, lambda each: each.seconds)
        stats = all_took[0].stats
        table.rows.append(
            (
                name,
                f"{_middle(all_took, 'seconds'):.2f}",
                f"{_middle(all_took, 'cpu_seconds'):.2f}",
                f"{_middle(all_took, 'peak_megabytes'):.0f}",
                f"{speed:.2f}x",
                ", ".join(f"{call or 'sts'} {number}" for call, number in sorted(stats["calls"].items())),
                str(stats["connections"]),
            )
        )
        if name == OURS:
            table.met = speed >= 3.0
    if any(each.exit_code for pair in pairs for each in pair):
        table.notes.append(f"exit codes {[(ours.exit_code, theirs.exit_code) for ours, theirs in pairs]}")
        table.met = False
    yield table


CASES: dict[str, Callable[[Bench], Iterable[Table]]] = {
    "unlimited": unlimited,
    "start": start,
    "known": known,
    "limited": limited,
    "discovery": discovery,
    "targets": targets,
    "memory": memory,
}


def _middle(all_took: list[Took], attribute: str) -> float:
    return float(statistics.median(getattr(each, attribute) for each in all_took))


def _pairwise(over: list[Took], under: list[Took], of: Callable[[Took], float]) -> float:
    """The median of the rounds' own ratios: what slows a round slows both of its sides."""
    return statistics.median(of(one) / of(other) for one, other in zip(over, under, strict=True))
