"""The program against an endpoint: what goes out on which stream, and the exit code.

As its users start it wherever that could tell: signals, standard streams, what happens before and after the command.
"""

import contextlib
import fcntl
import json
import os
import resource
import shlex
import signal
import stat
import subprocess
import sys
import termios
import time
from array import array
from collections.abc import Iterator
from contextlib import redirect_stderr
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest

from batch_cancel.cli import main
from batch_cancel.cli.run import Execution, _list_here
from batch_cancel.cli.settings_from import Output
from batch_cancel.manifest import ManifestRow, read_manifest
from batch_cancel.settings import ManifestSource
from batch_cancel.simulator.latency import always
from batch_cancel.simulator.settings import Behaviour, Fault, FaultKind, FleetSettings, Limit, WorldSettings
from batch_cancel.version import __version__
from tests.endpoints import Endpoint, csv_of, report_of, served
from tests.sweeps import settings

NOTHING_COMPILED = {"PYTHONDONTWRITEBYTECODE": "1"}
"""Where files have no room: Python would keep what it could write of a module, and stumble over it the next time."""
QUICK = Behaviour(stopping_seconds=(0.1, 0.3))


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    settings = WorldSettings(fleet=FleetSettings(transforms=5, runs=40, odd_ids=True), behaviour=QUICK)
    with served(settings, tmp_path) as serving:
        yield serving


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Endpoint]:
    """So slow that there is time to interrupt it."""
    settings = WorldSettings(
        fleet=FleetSettings(transforms=5, runs=200), behaviour=QUICK, limits=(Limit(1000.0, 1000.0),)
    )
    with served(settings, tmp_path, latency=always(0.05)) as serving:
        yield serving


def until_some_are_asked(endpoint: Endpoint, process: "subprocess.Popen[str]") -> None:
    """So that the process is in the middle of its sweep. It is waited for, since a loop would take its processor."""
    while endpoint.cancels() < 10:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            raise AssertionError(process.communicate())


def test_discovery_stops_every_run_and_the_result_is_on_standard_output(endpoint: Endpoint) -> None:
    active = endpoint.active()
    done = endpoint.run("run", "--discover", "--yes", "--out", "out", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert not endpoint.active()
    summary, report = json.loads(done.stdout), report_of(endpoint.folder)
    runs = report.pop("runs")
    assert summary == report
    assert {(run["transform_id"], run["task_run_id"]): run["outcome"] for run in runs} == dict.fromkeys(
        active, "stopped"
    )
    assert report["totals"]["outcomes"] == {"stopped": len(active)}
    assert report["targets"][0]["identity_arn"] or not report["targets"][0]["account_id"]


def test_odd_ids_arrive_exactly_as_they_stand_in_a_manifest(endpoint: Endpoint) -> None:
    active = endpoint.active()
    (endpoint.folder / "runs.csv").write_text(csv_of([*active, *active[:3]]), encoding="utf-8", newline="")
    done = endpoint.command("run", "--manifest", "runs.csv", "--confirm-count", str(len(active)), "--out", "out")
    assert done.returncode == 0, done.stderr
    assert (endpoint.active(), endpoint.cancels()) == ([], len(active))
    assert report_of(endpoint.folder)["totals"]["duplicates"] == 3


@pytest.mark.parametrize("first", ["named", "unnamed"])
def test_rows_that_name_the_account_and_rows_that_leave_it_out_are_of_one_target(
    endpoint: Endpoint, first: str
) -> None:
    active = endpoint.active()
    account = "111111111111"
    places = [(account, "us-east-1"), ("", "")]
    rows = [f"{run[0]},{run[1]},{named},{region}" for named, region in places for run in active[:5]]
    lines = ["transform_id,task_run_id,account_id,region", *(rows if first == "named" else reversed(rows))]
    (endpoint.folder / "runs.csv").write_text("\n".join(lines), encoding="utf-8")
    done = endpoint.command("run", "--manifest", "runs.csv", "--confirm-count", "5", "--out", "out")
    assert done.returncode == 0, done.stderr
    report = report_of(endpoint.folder)
    assert (len(report["runs"]), report["totals"]["duplicates"], endpoint.cancels()) == (5, 5, 5)
    assert {run["account_id"] for run in report["runs"]} == {account}


def test_a_report_is_a_manifest_of_what_is_left(endpoint: Endpoint) -> None:
    assert endpoint.command("run", "--discover", "--dry-run", "--out", "audit").returncode == 0
    assert endpoint.cancels() == 0
    done = endpoint.command("run", "--manifest", "audit/report.json", "--yes", "--out", "out")
    assert (done.returncode, endpoint.active()) == (0, [])


def test_standard_input_is_a_manifest(endpoint: Endpoint) -> None:
    arguments = ("run", "--manifest", "-", "--manifest-format", "csv", "--out", "out")
    refused = endpoint.run(*arguments, given=csv_of(endpoint.active()))
    assert refused.returncode == 2 and "standard input is the manifest" in refused.stderr
    done = endpoint.run(*arguments, "--yes", given=csv_of(endpoint.active()))
    assert (done.returncode, endpoint.active()) == (0, [])


def test_a_plan_made_where_nobody_can_tell_whose_account_it_is_is_applied_with_a_warning(tmp_path: Path) -> None:
    fleet = FleetSettings(transforms=2, runs=6, ended_share=0.0)
    nobody_knows = Fault(FaultKind.DENIED, operations=("GetCallerIdentity",))
    with served(WorldSettings(fleet=fleet, faults=(nobody_knows,)), tmp_path) as endpoint:
        assert endpoint.command("plan", "--discover", "--out", "planned", "--plan-out", "plan.json").returncode == 0
        applied = endpoint.command("apply", "plan.json", "--out", "out")
        assert (applied.returncode, endpoint.active()) == (0, [])
        assert "the plan does not know whose account it is of" in applied.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("path", ["-", "runs.csv"])
def test_a_signal_ends_the_wait_for_a_list_that_does_not_come_to_its_end(
    endpoint: Endpoint, path: str, signum: int, code: int
) -> None:
    os.mkfifo(endpoint.folder / "runs.csv")
    arguments = ("run", "--manifest", path, "--manifest-format", "csv", "--yes", "--out", "out")
    with endpoint.start(*arguments, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        with process.stdin if path == "-" else (endpoint.folder / path).open("w") as pipe:
            print(csv_of(endpoint.active()[:1]), file=pipe, flush=True)
            while array("i", fcntl.ioctl(pipe, termios.FIONREAD, b"0123"))[0]:  # until that has been read
                time.sleep(0.01)
            process.send_signal(signum)
            assert process.wait(20) == code
        assert process.stderr.read() == "batch-cancel: interrupted\n"
    assert not (endpoint.folder / "out").exists()
    assert not endpoint.world.log


def test_a_kill_during_the_wait_for_a_list_leaves_nothing_of_it_behind(endpoint: Endpoint) -> None:
    (endpoint.folder / "tmp").mkdir()
    os.mkfifo(endpoint.folder / "runs.csv")
    environment = endpoint.environment | {"TMPDIR": str(endpoint.folder / "tmp")}
    program = [sys.executable, "-m", "batch_cancel", "run", "--manifest", "runs.csv", "--yes"]
    with (
        subprocess.Popen(program, cwd=endpoint.folder, env=environment) as process,
        (endpoint.folder / "runs.csv").open("w") as pipe,
    ):
        print(csv_of(endpoint.active()[:1]), file=pipe, flush=True)
        while array("i", fcntl.ioctl(pipe, termios.FIONREAD, b"0123"))[0]:  # until that has been read
            time.sleep(0.01)
        process.kill()
    assert list((endpoint.folder / "tmp").iterdir()) == []


def test_a_list_from_s3_stands_nowhere_any_more_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetched(outbox: object, uri: str, folder: Path) -> Path:
        (folder / "runs.csv").write_text("transform_id,task_run_id\nt,r\n")
        return folder / "runs.csv"

    monkeypatch.setattr("batch_cancel.cli.run.fetch", fetched)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    wanted = settings(source=ManifestSource(path="s3://lists/runs.csv"))
    output = Output(
        directory=None, form="text", progress=False, quiet=True, verbose=False, log_format="text", color=False
    )
    execution = Execution(tmp_path / "run", "s-1", wanted, output)
    with _list_here(execution):
        assert list(tmp_path.iterdir()) == []
        (row,) = read_manifest("s3://lists/runs.csv", at=execution.manifest)
        assert isinstance(row, ManifestRow) and row.task_run_id == "r"


def test_a_named_pipe_is_a_manifest(endpoint: Endpoint) -> None:
    os.mkfifo(endpoint.folder / "runs.csv")
    process = endpoint.start("run", "--manifest", "runs.csv", "--yes", "--out", "out")
    (endpoint.folder / "runs.csv").write_text(csv_of(endpoint.active()), encoding="utf-8", newline="")
    _, told = process.communicate(timeout=60)
    assert (process.returncode, endpoint.active()) == (0, []), told


def test_a_configuration_that_cannot_be_read_is_a_sentence_though_a_list_waits(endpoint: Endpoint) -> None:
    (endpoint.folder / "config").write_text("[[not a config", encoding="utf-8")
    arguments = ("run", "--manifest", "-", "--manifest-format", "csv", "--yes", "--out", "out")
    environment = {**endpoint.environment, "AWS_CONFIG_FILE": str(endpoint.folder / "config")}
    environment.pop("AWS_DEFAULT_REGION", None)
    done = subprocess.run(
        [sys.executable, "-m", "batch_cancel", *arguments],
        cwd=endpoint.folder,
        env=environment,
        input=csv_of(endpoint.active()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4 and "Unable to parse config file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not endpoint.world.log


def test_a_closed_standard_input_is_no_manifest(endpoint: Endpoint) -> None:
    program = f"exec <&-; exec {sys.executable} -m batch_cancel run --manifest - --manifest-format csv --yes --out out"
    done = subprocess.run(
        ["/bin/sh", "-c", program],
        cwd=endpoint.folder,
        env=endpoint.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "standard input: is closed" in done.stderr
    assert not (endpoint.folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "there is no command 'frobnicate'; there are run, plan, apply, resume, report, diff,"),
        (["rseume", "none"], "there is no command 'rseume'; did you mean 'resume'?"),
        (["run"], "which runs?"),
        (["run", "--discover"], "--confirm-count"),
        (["run", "--discover", "--yes", "--region", "us-esat-1"], "did you mean 'us-east-1'?"),
        (["run", "--manifest", "none.csv", "--yes"], "no such file"),
        (["run", "--manifest", "bad.csv", "--yes"], "bad.csv:2:"),
        (["run", "--manifest", "empty.csv", "--yes"], "empty"),
        (["run", "--manifest", "runs.docx", "--yes"], "--manifest-format"),
        (["run", "bad.yaml", "--yes"], "did you mean 'select'?"),
        (["run", "--discover", "--yes", "--older-than", "6"], "has no unit"),
        (["run", "--discover", "--yes", "--rps", "0"], "greater than zero"),
        (["run", "--discover", "--yes", "--max-runs", "-1"], "less than 1"),
        (["apply", "none.json"], "none.json"),
        (["resume", "none"], "no ledger"),
        (["report", "none"], "no ledger"),
        (["diff", "none", "nothing"], "none"),
        (["plan", "--discover", "--plan-out", "no/such/place.json"], "no such directory"),
        (["plan", "good.yaml", "--plan-out", "./good.yaml"], "it would be overwritten"),
        (["plan", "--manifest", "empty.csv", "--plan-out", "empty.csv"], "it would be overwritten"),
        (["plan", "--discover", "--out", "out", "--plan-out", "out/report.json"], "a report goes there"),
        (["run", "--discover", "--yes", "--emf", "old/ledger.db"], "is not written over"),
        (["run", "--discover", "--yes", "--emf", "no/such/place.log"], "no such directory"),
        (["run", "--discover", "--yes", "--out", "out", "--emf", "out/report.csv"], "a report goes there"),
    ],
)
def test_bad_input_ends_with_two_and_a_sentence_and_calls_nothing(
    endpoint: Endpoint,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(endpoint.folder)
    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["batch-cancel", *arguments])
    (endpoint.folder / "bad.csv").write_text("transform_id,task_run_id\n,tr-1\n", encoding="utf-8")
    (endpoint.folder / "empty.csv").write_text("", encoding="utf-8")
    (endpoint.folder / "good.yaml").write_text("version: 1\nsource: discovery\n", encoding="utf-8")
    (endpoint.folder / "bad.yaml").write_text("version: 1\nslect: {older_than: 6h}\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main()
    told = capfd.readouterr()
    assert ended.value.code == 2 and says in told.err
    assert "Traceback" not in told.err and not told.out
    assert "batch-cancel resume" not in told.err  # of a directory that is taken back
    assert not endpoint.world.log
    assert not (endpoint.folder / "batch-cancel-runs").exists()


def test_where_metrics_would_do_harm_nothing_is_written_not_even_the_metric_of_that_failure(endpoint: Endpoint) -> None:
    sweep_file, runs, old = (endpoint.folder / name for name in ("sweep.yaml", "runs.csv", "old/ledger.db"))
    sweep_file.write_text("version: 1\nsource: discovery\n", encoding="utf-8")
    runs.write_text(csv_of(endpoint.active()), encoding="utf-8")
    assert endpoint.command("run", "--discover", "--dry-run", "--out", "old").returncode == 0
    before = [path.read_bytes() for path in (sweep_file, runs, old)]
    called = len(endpoint.world.log)
    for sweep in (
        ["run", "sweep.yaml", "--yes", "--emf", "sweep.yaml"],
        ["run", "--manifest", "runs.csv", "--yes", "--emf", "./runs.csv"],
        ["run", "--discover", "--yes", "--emf", "old/ledger.db"],
        ["resume", "old", "--emf", "old/report.json"],
    ):
        refused = endpoint.command(*sweep)
        assert refused.returncode == 2 and "--emf" in refused.stderr, sweep
    assert [path.read_bytes() for path in (sweep_file, runs, old)] == before
    assert len(endpoint.world.log) == called
    # Beside the reports there is room for them, in a directory that is not there yet.
    done = endpoint.command("run", "--discover", "--dry-run", "--out", "new", "--emf", "new/metrics.log")
    assert done.returncode == 0 and (endpoint.folder / "new" / "metrics.log").read_text(encoding="utf-8")


def test_a_directory_with_a_ledger_is_refused(endpoint: Endpoint) -> None:
    assert endpoint.command("run", "--discover", "--dry-run", "--out", "out").returncode == 0
    again = endpoint.command("run", "--discover", "--dry-run", "--out", "out")
    assert again.returncode == 2 and "batch-cancel resume out" in again.stderr
    assert (endpoint.folder / "out" / "report.json").is_file()


def test_everything_that_names_accounts_is_private(endpoint: Endpoint) -> None:
    endpoint.command("plan", "--discover", "--out", "out", "--plan-out", "plan.json")
    files = [*(endpoint.folder / "out").iterdir(), endpoint.folder / "plan.json"]
    assert len(files) >= 6
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_plan_and_apply(endpoint: Endpoint) -> None:
    assert endpoint.command("plan", "--discover", "--out", "planned", "--plan-out", "plan.json").returncode == 0
    assert endpoint.cancels() == 0
    # Where the plan was made, and not wherever the environment points now.
    done = endpoint.command("apply", "plan.json", "--out", "out", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert (done.returncode, endpoint.active()) == (0, []), done.stderr
    again = endpoint.command("apply", "plan.json", "--out", "again")
    assert again.returncode == 3 and "applied before" in again.stderr


def test_a_plan_of_a_sweep_that_is_always_a_dry_run_cancels_nothing(endpoint: Endpoint) -> None:
    (endpoint.folder / "audit.yaml").write_text("version: 1\nsource: discovery\ndry_run: true\n", encoding="utf-8")
    planned = endpoint.command("plan", "audit.yaml", "--out", "planned", "--plan-out", "plan.json")
    assert planned.returncode == 0 and "not applied: its sweep file says dry_run: true" in planned.stderr
    refused = endpoint.command("apply", "plan.json", "--yes", "--out", "out")
    assert refused.returncode == 3 and "dry_run: true" in refused.stderr
    assert endpoint.cancels() == 0


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_whole_and_resume_finishes(slow: Endpoint, signum: int, code: int) -> None:
    process = slow.start("run", "--discover", "--yes", "--rps", "20", "--out", "out")
    until_some_are_asked(slow, process)
    process.send_signal(signum)
    process.communicate(timeout=60)
    assert process.returncode == code
    report = report_of(slow.folder)
    assert (report["exit_code"], report["stop_cause"], report["complete"]) == (code, "interrupted", False)
    assert set(report["totals"]["outcomes"]) <= {"stopped", "stopping", "not_attempted"}
    done = slow.command("resume", "out", "--rps", "500")
    assert (done.returncode, slow.active()) == (0, []), done.stderr
    assert report_of(slow.folder)["totals"]["outcomes"].keys() == {"stopped"}


def test_a_killed_sweep_is_resumed_and_a_second_process_is_kept_out(slow: Endpoint) -> None:
    process = slow.start("run", "--discover", "--yes", "--rps", "20", "--out", "out")
    until_some_are_asked(slow, process)
    second = slow.command("resume", "out")
    assert second.returncode == 2 and "in use" in second.stderr
    process.kill()
    process.communicate()
    done = slow.command("resume", "out", "--rps", "500")
    assert (done.returncode, slow.active()) == (0, []), done.stderr
    assert slow.cancels() <= len(report_of(slow.folder)["runs"]) + 20


def test_a_closed_standard_output_changes_nothing(endpoint: Endpoint) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = endpoint.start("run", "--discover", "--yes", "--out", "out", stdout=writing)
    os.close(writing)
    process.communicate(timeout=60)
    assert (process.returncode, endpoint.active()) == (0, [])
    assert (endpoint.folder / "out" / "report.html").is_file()
    none_at_all = ("sh", "-c", f"exec {sys.executable} -m batch_cancel run --discover --dry-run --out none >&-")
    audit = subprocess.run(none_at_all, cwd=endpoint.folder, env=endpoint.environment, capture_output=True, check=False)
    assert (audit.returncode, report_of(endpoint.folder, "none")["exit_code"]) == (0, 0), audit.stderr


def test_a_full_disk_cancels_nothing_without_a_record_and_is_resumable(slow: Endpoint) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    options = ("--discover", "--yes", "--rps", "50", "--out", "out")
    process = slow.start("run", *options, preexec_fn=no_room, env=NOTHING_COMPILED)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ledger cannot be written" in err and "Traceback" not in err
    assert slow.active()
    asked = {(call.transform_id, call.task_run_id) for call in slow.world.log if call.operation == "CancelMLTaskRun"}
    done = slow.command("resume", "out", "--rps", "500")
    assert (done.returncode, slow.active()) == (0, []), done.stderr
    known = {(run["transform_id"], run["task_run_id"]) for run in report_of(slow.folder)["runs"]}
    assert asked <= known


@pytest.mark.parametrize("deleted", [True, False])
def test_a_ledger_that_is_moved_or_deleted_is_a_record_that_is_lost(slow: Endpoint, *, deleted: bool) -> None:
    process = slow.start("run", "--discover", "--yes", "--rps", "20", "--out", "out")
    until_some_are_asked(slow, process)
    if deleted:
        (slow.folder / "out" / "ledger.db").unlink()
    else:
        (slow.folder / "out").rename(slow.folder / "elsewhere")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1  # and not 2, which says that nothing was called
    assert "out/ledger.db was moved or deleted; nothing more was sent" in err
    assert slow.active()
    if not deleted:
        done = slow.command("resume", "elsewhere", "--rps", "500")
        assert (done.returncode, slow.active()) == (0, []), done.stderr


@pytest.mark.parametrize("out", ["file/out", "/proc/x", "x" * 300])
def test_a_run_directory_that_cannot_be_made_is_told(endpoint: Endpoint, out: str) -> None:
    (endpoint.folder / "file").write_text("", encoding="utf-8")
    done = endpoint.command("run", "--discover", "--yes", "--out", out)
    assert done.returncode == 2 and out in done.stderr and "Traceback" not in done.stderr
    assert not endpoint.world.log


@pytest.mark.parametrize("spelt", [("--external-id", "open-sesame"), ("--external-id=open-sesame",)])
def test_no_report_tells_an_external_id(endpoint: Endpoint, spelt: tuple[str, ...]) -> None:
    role = f"arn:aws:iam::{endpoint.world.settings.fleet.accounts[0]}:role/BatchCancel"
    done = endpoint.command("run", "--discover", "--role-arn", role, *spelt, "--dry-run", "--out", "out")
    assert done.returncode == 0, done.stderr
    told = [done.stdout, *(path.read_text(encoding="utf-8") for path in (endpoint.folder / "out").glob("report.*"))]
    assert len(told) == 5 and not any("open-sesame" in text for text in told)
    [again] = [line for line in told[0].splitlines() if "--role-arn" in line]
    words = shlex.split(again.split("$")[-1])
    assert "<external id>" in words or "--external-id=<external id>" in words
    refused = endpoint.command(*words[1:])
    assert refused.returncode == 2 and "external" in refused.stderr


def test_a_profile_that_is_not_there_ends_with_four_and_is_not_said_of_every_row(endpoint: Endpoint) -> None:
    (endpoint.folder / "runs.csv").write_text(csv_of(endpoint.active()), encoding="utf-8", newline="")
    done = endpoint.command("run", "--manifest", "runs.csv", "--yes", "--profile", "nope", "--out", "out")
    assert done.returncode == 4 and "config profile (nope)" in done.stderr, done.stderr
    assert done.stderr.count("config profile (nope)") < 3 and len(endpoint.active()) > 3
    assert not endpoint.world.log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("command", ["schema", "iam-policy", "--help"])
def test_a_full_disk_below_standard_output_is_no_mistake_of_ours(endpoint: Endpoint, command: str) -> None:
    # Buffered, as everywhere but in containers: what could not be written is tried once more at the very end.
    with Path("/dev/full").open("w") as full:
        done = endpoint.run(command, stdout=full, env={"PYTHONUNBUFFERED": ""})
    says = "batch-cancel: error: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, says)


def test_a_report_for_a_standard_output_that_is_closed_is_no_mistake_of_ours(endpoint: Endpoint) -> None:
    assert endpoint.command("run", "--discover", "--dry-run", "--out", "out").returncode == 0
    done = endpoint.run("report", "out", "--format", "json", preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plan_is_said_to_lack_runs_only_where_something_could_not_be_read(endpoint: Endpoint) -> None:
    runs = endpoint.folder / "runs.csv"
    runs.write_text(csv_of([*endpoint.active(), ("tfm-gone", "tr-gone")]), encoding="utf-8", newline="")
    plan = ("plan", "--manifest", "runs.csv", "--plan-out", "plan.json", "--max-attempts", "1")
    done = endpoint.command(*plan, "--out", "whole")
    assert done.returncode == 1 and " to cancel; review it" in done.stderr  # one is not found: that is known
    endpoint.world.change_faults([Fault(FaultKind.INTERNAL, operations=("GetMLTaskRun", "GetMLTaskRuns"))])
    done = endpoint.command(*plan, "--out", "unread")
    assert done.returncode == 1 and "not everything could be read" in done.stderr.splitlines()[-1]


def test_a_full_disk_below_another_file_is_not_said_of_standard_output(endpoint: Endpoint) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    rows = "".join(f"tfm-1,tsk-{number}\n" for number in range(1_000))
    (endpoint.folder / "runs.csv").write_text(f"transform_id,task_run_id\n{rows}", encoding="utf-8")
    (endpoint.folder / "sweep.yaml").write_text("source: {manifest: runs.csv}\n", encoding="utf-8")
    done = endpoint.run("shard", "sweep.yaml", "--yes", "--out", "out", preexec_fn=no_room, env=NOTHING_COMPILED)
    assert (done.returncode, done.stderr) == (
        1,
        "batch-cancel: error: cannot write the slices in out/slices: File too large\n",
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_result_that_cannot_be_written_is_in_the_report_s_exit_code(endpoint: Endpoint) -> None:
    with Path("/dev/full").open("w") as full:
        done = endpoint.run("run", "--discover", "--yes", "--out", "out", stdout=full)
    assert done.returncode == 1 and "standard output cannot be written" in done.stderr
    assert report_of(endpoint.folder)["exit_code"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [("run --discover --dry-run --max-runs 1 --out out", 3), ("report nowhere", 2), ("frobnicate", 2)],
)
def test_a_full_disk_below_standard_error_changes_no_exit_code(endpoint: Endpoint, arguments: str, code: int) -> None:
    with Path("/dev/full").open("w") as full:
        done = endpoint.run(*arguments.split(), stderr=full)
    assert done.returncode == code
    if arguments.startswith("run"):
        assert report_of(endpoint.folder)["exit_code"] == code


def test_a_report_that_cannot_be_written_is_in_the_others_exit_code(endpoint: Endpoint) -> None:
    (endpoint.folder / "out" / "report.csv" / "in the way").mkdir(parents=True)
    done = endpoint.command("run", "--discover", "--yes", "--out", "out")
    assert done.returncode == 1 and "report.csv" in done.stderr
    assert report_of(endpoint.folder)["exit_code"] == 1


def signalled_at_import(
    endpoint: Endpoint, signum: int, place: str, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """The program, with a signal in the moment in which it imports a module."""
    program = (
        "import os, signal, sys\n"
        "from batch_cancel.__main__ import main\n"
        "from importlib.abc import MetaPathFinder\n"
        "class AtImport(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {place!r}: os.kill(os.getpid(), {int(signum)})\n"
        "sys.meta_path.insert(0, AtImport())\n"
        "main()\n"
    )
    return endpoint.program(program, *arguments)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_first_moments_has_its_code_and_leaves_no_half_ledger(
    endpoint: Endpoint, signum: int, code: int
) -> None:
    for place in ("click", "batch_cancel.cli.run", "aiobotocore"):
        done = signalled_at_import(endpoint, signum, place, "run", "--discover", "--yes", "--out", "out")
        assert (done.returncode, done.stderr) == (code, "batch-cancel: interrupted\n"), place
        assert not (endpoint.folder / "out").exists()
    assert not endpoint.world.log


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_where_the_log_is_json_an_interruption_is_a_line_of_it(endpoint: Endpoint, signum: int, code: int) -> None:
    for place in ("click", "batch_cancel.cli.run", "aiobotocore"):
        done = signalled_at_import(endpoint, signum, place, "run", "--discover", "--yes", "--log-format", "json")
        line = json.loads(done.stderr)
        assert (done.returncode, line["level"], line["event"]) == (code, "error", "failed"), place
        assert line["fields"] == {"type": "Interrupted", "message": "interrupted", "exit_code": code}
        assert abs(datetime.fromisoformat(line["ts"]) - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_signal_in_the_first_moments_of_a_resume_is_in_its_reports(slow: Endpoint) -> None:
    assert slow.run("run", "--discover", "--yes", "--rps", "20", "--deadline", "1s", "--out", "out").returncode == 5
    for place, signum, code in (("click", signal.SIGINT, 130), ("aiobotocore", signal.SIGTERM, 143)):
        done = signalled_at_import(slow, signum, place, "resume", "out")
        report = report_of(slow.folder)
        assert (done.returncode, report["exit_code"], report["stop_cause"]) == (code, code, "interrupted"), place
        assert "batch-cancel resume out" in done.stdout
    assert slow.active()


def test_a_signal_while_the_ledger_is_made_is_an_interruption(endpoint: Endpoint) -> None:
    program = (
        "import os, signal\n"
        "from batch_cancel.ledger import schema\n"
        "create = schema.create\n"
        "def interrupted(path):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return create(path)\n"
        "schema.create = interrupted\n"
        "from batch_cancel.__main__ import main\n"
        "main()\n"
    )
    done = endpoint.program(program, "run", "--discover", "--yes", "--out", "out")
    assert done.returncode == 143, done.stderr
    assert (report_of(endpoint.folder)["exit_code"], endpoint.cancels()) == (143, 0)


def test_apply_as_a_dry_run_does_not_use_the_plan_up(endpoint: Endpoint) -> None:
    arguments = ("plan", "--discover", "--plan-out", "plan.json")
    first = endpoint.command(*arguments, "--out", "planned")
    assert "replaces" not in first.stderr
    assert "(it replaces the one that was there)" in endpoint.command(*arguments, "--out", "again").stderr
    assert endpoint.command(*arguments, "--out", "quiet", "--quiet").stderr == ""
    dry = endpoint.command("apply", "plan.json", "--dry-run", "--out", "dry")
    assert (dry.returncode, endpoint.cancels()) == (0, 0), dry.stderr
    assert report_of(endpoint.folder, "dry")["totals"]["outcomes"] == {"would_cancel": len(endpoint.active())}
    done = endpoint.command("apply", "plan.json", "--out", "out")
    assert (done.returncode, endpoint.active()) == (0, []), done.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("BATCH_CANCEL_YES", "consent is given on the spot, by flag"),
        ("BATCH_CANCEL_CONFIRM_COUNT", "give --confirm-count"),
        ("BATCH_CANCEL_REGON", "did you mean 'BATCH_CANCEL_REGION'?"),
    ],
)
def test_variables_that_would_silently_do_nothing_are_refused(
    name: str, says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["batch-cancel", "schema"])
    for known in ("BATCH_CANCEL_EXPIRES_AFTER", "BATCH_CANCEL_BROWSER_TESTS", "BATCH_CANCEL_WAIT"):
        monkeypatch.setenv(known, "1h")
    with pytest.raises(SystemExit) as fine:
        main()
    assert fine.value.code == 0
    monkeypatch.setenv(name, "1")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and says in capfd.readouterr().err


def test_quiet_is_quiet_and_json_lines_are_json(endpoint: Endpoint) -> None:
    quiet = endpoint.run("run", "--discover", "--dry-run", "--quiet", "--out", "quiet")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    arguments = ("run", "--discover", "--dry-run", "--log-format", "json", "--max-runs", "1", "--out", "lines")
    lines = [json.loads(line) for line in endpoint.command(*arguments).stderr.splitlines()]
    assert "max-runs allows 1" in lines[-1]["fields"]["message"]  # what is said after the sweep is no exception
    assert all(line["event"] for line in lines)
    plan = ("plan", "--discover", "--log-format", "json", "--plan-out", "my plan.json", "--out", "planned")
    last = json.loads(endpoint.run(*plan).stderr.splitlines()[-1])
    assert last["level"] == "info" and "review it, then: batch-cancel apply 'my plan.json'" in last["fields"]["message"]
    nothing = ("plan", "--discover", "--older-than", "3650d", "--plan-out", "none.json", "--out", "nothing")
    assert endpoint.run(*nothing).stderr.endswith("none.json names 0 runs to cancel; there is nothing to apply\n")


@pytest.mark.parametrize(
    ("arguments", "variable", "kind", "says"),
    [
        ("run --discover --log-format json --no-such-option", "", "NoSuchOption", "--no-such-option"),
        ("run --discover --max-runs=-1 --log-format=json", "", "BadParameter", "less than 1"),
        ("run --discover --log-format json", "", "UsageError", "--confirm-count"),
        ("run bad.yaml --yes", "json", "InputError", "bad.yaml:2"),
        ("run --log-format json --log-format text --discover", "json", None, "--confirm-count"),
        ("run --log-format xml --discover", "json", None, "'xml' is not one of"),
    ],
)
@pytest.mark.usefixtures("in_an_empty_place")
def test_where_the_log_is_json_a_failure_is_a_line_of_it(
    arguments: str, variable: str, kind: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_CANCEL_LOG_FORMAT", variable or "text")
    monkeypatch.setattr("sys.argv", ["batch-cancel", *arguments.split()])
    Path("bad.yaml").write_text("version: 1\nslect: {older_than: 6h}\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended, redirect_stderr(StringIO()) as told:
        main()
    assert ended.value.code == 2
    if kind is None:
        assert says in told.getvalue() and not told.getvalue().startswith("{")
        return
    line = json.loads(told.getvalue())
    assert (line["level"], line["event"]) == ("error", "failed")
    assert (line["fields"]["type"], line["fields"]["exit_code"]) == (kind, 2)
    assert says in line["fields"]["message"]


@pytest.fixture
def in_an_empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_sweep_id_is_in_the_user_agent_and_no_secret_is_anywhere(endpoint: Endpoint) -> None:
    endpoint.command(
        "run", "--discover", "--yes", "--out", "out", "--verbose", env={"AWS_SECRET_ACCESS_KEY": "s3cr3t-k3y"}
    )
    for file in (endpoint.folder / "out").iterdir():
        assert b"s3cr3t-k3y" not in file.read_bytes()


def test_python_m_is_the_same_program(endpoint: Endpoint) -> None:
    assert __version__ in endpoint.run("--version").stdout
