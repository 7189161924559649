"""``python -m tests.bench``: this program beside what people write today, on one endpoint, in one run.

Prints its tables and, after a whole run, keeps them in RESULTS.md with the machine and the date. Nothing here fails for
being slow.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.bench.cases import CASES, Bench, Table

RESULTS = Path(__file__).with_name("RESULTS.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure."""
    options = _options(arguments)
    began = datetime.now(UTC)
    parts = [_machine(began, options.rounds)]
    _print(parts[0])
    met: list[bool] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        bench = Bench(Path(home), options.quick, options.rounds)
        for name in options.case or CASES:
            for table in CASES[name](bench):
                parts.append(_markdown(table))
                _print(parts[-1])
                met += [] if table.met is None else [table.met]
    minutes = (datetime.now(UTC) - began).total_seconds() / 60
    parts.append(f"{sum(met)} of {len(met)} bars met. Measured in {minutes:.0f} minutes.")
    _print(parts[-1])
    if not options.quick and not options.case:
        RESULTS.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        _print(f"Kept in {RESULTS.name}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: shows that it runs, proves nothing")
    parser.add_argument("--rounds", type=int, default=5, help="of the cases that compare speed (default 5)")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds = 1
    return options


def _machine(now: datetime, rounds: int) -> str:
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    libraries = ", ".join(f"{name} {version(name)}" for name in ("aioboto3", "aiobotocore", "botocore", "aiohttp"))
    load = os.getloadavg()[0]
    return (
        "# Speed, beside the peers\n\n"
        "Made by `make bench` (`tests/bench`); the newest whole run. Contenders run by turns, each a process of its own"
        f" against an endpoint of its own; medians of {rounds} rounds, ratios round by round.\n\n"
        f"{now:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} x {processor}, load {load:.1f} at the start,"
        f" {platform.system()} {platform.release()}, Python {platform.python_version()}, {libraries}."
    )


def _markdown(table: Table) -> str:
    verdict = "" if table.met is None else ": **met**" if table.met else ": **missed**"
    lines = [
        f"## {table.title}",
        "",
        f"Bar: {table.bar}{verdict}",
        "",
        f"| {' | '.join(table.columns)} |",
        f"|{'---|' * len(table.columns)}",
        *(f"| {' | '.join(row)} |" for row in table.rows),
    ]
    return "\n".join([*lines, *(f"\n{note[0].upper()}{note[1:]}." for note in table.notes)])


def _print(text: str) -> None:
    sys.stdout.write(text + "\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
