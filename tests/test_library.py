"""``import batch_cancel``: what is public, what it costs, and each function in use against a simulated endpoint."""

import asyncio
import importlib
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import batch_cancel
from batch_cancel.simulator.settings import Behaviour, FleetSettings, WorldSettings
from batch_cancel.simulator.world import World
from tests.served import active, served
from tests.wire.conftest import _models_are_read_once, aws_config

__all__ = ["_models_are_read_once", "aws_config"]  # fixtures


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A fleet of eight runs behind AWS_ENDPOINT_URL."""
    fleet = FleetSettings(accounts=("111111111111",), regions=("us-east-1",), transforms=4, runs=8)
    world = World(WorldSettings(fleet=fleet, behaviour=Behaviour(stopping_seconds=(0.1, 0.3))), now=time.time)
    with served(world) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield world


def settings(**changes: Any) -> batch_cancel.Settings:  # noqa: ANN401  # fields of Settings, each of its own type
    return batch_cancel.Settings(
        source=batch_cancel.DiscoverySource(),
        targets=(batch_cancel.TargetSettings(regions=("us-east-1",)),),
        report=batch_cancel.Report(formats=(batch_cancel.ReportFormat.JSON,)),
        **changes,
    )


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    assert sorted(batch_cancel.__all__) == batch_cancel.__all__ == sorted([*batch_cancel._HOME, "__version__"])
    for name in batch_cancel.__all__:
        value = getattr(batch_cancel, name)
        if callable(value):
            assert value.__doc__, name
    assert set(batch_cancel.__all__) <= set(dir(batch_cancel))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = batch_cancel.nothing  # type: ignore[attr-defined]  # that is the point


def test_no_public_name_hides_a_module() -> None:
    folder = Path(batch_cancel.__file__).parent
    assert not {path.stem for path in folder.iterdir()} & set(batch_cancel.__all__)


def test_importing_it_imports_nothing_of_ours_or_others() -> None:
    code = "import sys; before = set(sys.modules); import batch_cancel; print(*sorted(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    ours = {name for name in out.split() if name.startswith("batch_cancel")}
    assert ours == {"batch_cancel", "batch_cancel.version"}
    assert not {"aioboto3", "botocore", "pydantic", "click", "rich", "asyncio"} & set(out.split())


def test_the_example_at_the_top_runs(world: World, tmp_path: Path) -> None:
    doc = importlib.import_module("batch_cancel").__doc__
    assert doc is not None
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", doc)
    assert blocks
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(blocks[0])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(re.findall(r"^tfm-\S+ tsk-\S+$", out, re.MULTILINE)) == active(world) > 0
    assert "PhaseBegan" in out


def test_a_sweep_with_consent_stops_every_run_and_its_events_tell_of_each(world: World, tmp_path: Path) -> None:
    events: list[batch_cancel.Event] = []
    count = active(world)
    swept = asyncio.run(
        batch_cancel.run_sweep(
            settings(consent=batch_cancel.Consent(yes=True)), tmp_path / "run", on_event=events.append
        )
    )
    assert (swept.exit_code, swept.stop_cause, swept.faults) == (0, None, ())
    assert active(world) == 0
    reached = [event for event in events if isinstance(event, batch_cancel.OutcomeReached)]
    assert len(reached) == count == batch_cancel.read_report(swept.directory)["totals"]["runs"]
    runs = list(batch_cancel.read_runs(swept.directory, batch_cancel.Outcome.STOPPED))
    assert {(run["transform_id"], run["task_run_id"]) for run in runs} == {event.key for event in reached}
    assert [path.name for path in swept.reports] == ["report.json"]


@pytest.mark.parametrize("answer", [True, False])
def test_without_consent_somebody_is_asked_with_the_counts(world: World, tmp_path: Path, *, answer: bool) -> None:
    asked: list[batch_cancel.Found] = []
    count = active(world)

    async def ask(found: batch_cancel.Found) -> bool:
        asked.append(found)
        return answer

    swept = asyncio.run(batch_cancel.run_sweep(settings(), tmp_path / "run", ask=ask))
    assert asked == [batch_cancel.Found(count, 0)]
    assert (swept.exit_code, active(world)) == ((0, 0) if answer else (2, count))


def test_without_consent_and_nobody_to_ask_nothing_is_cancelled(world: World, tmp_path: Path) -> None:
    count = active(world)
    with pytest.raises(batch_cancel.UsageError, match="consent"):
        asyncio.run(batch_cancel.run_sweep(settings(), tmp_path / "run"))
    assert active(world) == count
    assert not (tmp_path / "run").exists()  # taken back: the same directory can be used again


def test_a_stop_ends_it_calmly_and_resume_goes_on(world: World, tmp_path: Path) -> None:
    stop = batch_cancel.Stop()

    def at_the_first(event: batch_cancel.Event) -> None:
        if isinstance(event, batch_cancel.Accepted):
            stop.request(batch_cancel.StopCause.INTERRUPTED)

    slow = settings(consent=batch_cancel.Consent(yes=True), rate=batch_cancel.Rate(rps=3.0))
    swept = asyncio.run(batch_cancel.run_sweep(slow, tmp_path / "run", on_event=at_the_first, stop=stop))
    assert (swept.exit_code, swept.stop_cause) == (130, batch_cancel.StopCause.INTERRUPTED)
    assert active(world) > 0
    again = asyncio.run(
        batch_cancel.resume_sweep(
            tmp_path / "run", change=lambda before: replace(before, rate=batch_cancel.Rate(rps=None))
        )
    )
    assert (again.exit_code, active(world)) == (0, 0)


def test_what_cannot_be_gone_on_with_is_said(world: World, tmp_path: Path) -> None:
    with pytest.raises(batch_cancel.LedgerError, match="holds no ledger"):
        asyncio.run(batch_cancel.resume_sweep(tmp_path))
    directory = asyncio.run(batch_cancel.run_sweep(settings(dry_run=True), tmp_path / "audit")).directory
    for statement, says in (
        ("UPDATE sweep SET value = '7' WHERE key = 'settings'", "its settings are not text"),
        ("DELETE FROM sweep WHERE key = 'settings'", "the sweep had not begun"),
        ("INSERT INTO sweep VALUES ('merged', '[\"a\"]')", "resume its parts"),
    ):
        with closing(sqlite3.connect(directory / "ledger.db")) as ledger, ledger:
            ledger.execute(statement)
        with pytest.raises(batch_cancel.LedgerError, match=says):
            asyncio.run(batch_cancel.resume_sweep(directory))
    with pytest.raises(batch_cancel.LedgerError):
        batch_cancel.read_report(tmp_path)
    both = settings(consent=batch_cancel.Consent(yes=True, confirm_count=3))
    with pytest.raises(batch_cancel.UsageError, match="exclude each other"):
        asyncio.run(batch_cancel.run_sweep(both, tmp_path / "run"))


def test_sweep_files_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("name: x\nsource: discovery\n")
    assert batch_cancel.load_sweep_file(path).name == "x"
    path.write_text("nam: x\n")
    with pytest.raises(batch_cancel.InputError, match="did you mean 'name'"):
        batch_cancel.load_sweep_file(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dry_run": True, "consent": batch_cancel.Consent(yes=True)}, "dry_run and consent exclude"),
        ({"dry_run": True, "consent": batch_cancel.Consent(confirm_count=1)}, "dry_run and consent exclude"),
        ({"consent": batch_cancel.Consent(confirm_count=-1)}, "consent.confirm_count: -1 is less than 0"),
        ({"rate": batch_cancel.Rate(rps=0)}, "rate.rps: 0 is not a number greater than zero"),
        ({"rate": batch_cancel.Rate(rps=-5)}, "rate.rps"),
        ({"rate": batch_cancel.Rate(rps=float("nan"))}, "rate.rps"),
        ({"rate": batch_cancel.Rate(rps="5")}, "rate.rps"),  # type: ignore[arg-type]  # for those who do not check
        ({"rate": batch_cancel.Rate(max_concurrency=0)}, "rate.max_concurrency: 0 is less than 1"),
        ({"retry": batch_cancel.Retry(max_attempts=0)}, "retry.max_attempts"),
        ({"retry": batch_cancel.Retry(deadline_seconds=0)}, "retry.deadline_seconds"),
        ({"verify": batch_cancel.Verify(timeout_seconds=-1)}, "verify.timeout_seconds"),
        ({"guardrails": batch_cancel.Guardrails(max_percent=500)}, "guardrails.max_percent: 500 is more than 100"),
        ({"guardrails": batch_cancel.Guardrails(max_runs=0)}, "guardrails.max_runs"),
        ({"guardrails": batch_cancel.Guardrails(max_errors=batch_cancel.MaxErrors())}, "either count or percent"),
        ({"guardrails": batch_cancel.Guardrails(allow_accounts=("5",))}, "guardrails.allow_accounts"),
        ({"targets": (batch_cancel.TargetSettings(regions=("us-est-1",)),)}, "unknown region 'us-est-1'"),
        ({"targets": (batch_cancel.TargetSettings(regions="us-east-1"),)}, "text where a tuple"),  # type: ignore[arg-type]  # as above
        ({"targets": (batch_cancel.TargetSettings(role_name="X"),)}, "role_name needs accounts"),
        ({"targets": (batch_cancel.TargetSettings(accounts=("1" * 12,)),)}, "accounts need role_name"),
        ({"targets": (batch_cancel.TargetSettings(accounts=("5",), role_name="X"),)}, r"targets\[0\].accounts"),
        ({"targets": (batch_cancel.TargetSettings(external_id="x-1"),)}, "external_id needs"),
        ({"report": batch_cancel.Report(s3="foo")}, "report.s3: 'foo' is not an S3 prefix"),
        ({"report": batch_cancel.Report(formats=("pdf",))}, "unknown report format"),  # type: ignore[arg-type]  # as above
        ({"notify": batch_cancel.Notify(sns_topic_arn="x", on=("failure",))}, "notify.sns_topic_arn"),
        (
            {"notify": batch_cancel.Notify(sns_topic_arn=f"arn:aws:sns:us-east-1:{'1' * 12}:t", on=("allways",))},
            "did you mean 'always'",
        ),
        ({"endpoint": batch_cancel.Endpoint(url="http://me:secret@h")}, "password"),
        ({"until_clear": True}, "until_clear needs consent.yes"),
        ({"until_clear": True, "dry_run": True}, "until_clear and dry_run exclude each other"),
        ({"until_clear": True, "source": batch_cancel.ManifestSource(path="x.csv")}, "it needs a DiscoverySource"),
        (
            {
                "until_clear": True,
                "consent": batch_cancel.Consent(yes=True),
                "verify": batch_cancel.Verify(wait=False),
            },
            "it needs verify.wait",
        ),
        ({"targets": (batch_cancel.TargetSettings(regions=("all", "us-east-1")),)}, "all stands alone"),
        ({"source": batch_cancel.ManifestSource(path="")}, "source.path: is empty"),
        ({"source": batch_cancel.ManifestSource(path="x", format="cvs")}, "source.format"),  # type: ignore[arg-type]  # as above
        ({"selection": batch_cancel.Selection(statuses=("SUCCEEDED",))}, "selection.statuses"),  # type: ignore[arg-type]  # as above
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anything_is_called(
    world: World, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    wanted = replace(settings(), **changes)
    with pytest.raises(batch_cancel.UsageError, match=said) as caught:
        asyncio.run(batch_cancel.run_sweep(wanted, tmp_path / "run", ask=_nobody))
    assert "secret" not in str(caught.value)
    assert not world.log
    assert not (tmp_path / "run").exists()


SLIPS: list[tuple[dict[str, Any], str]] = [  # what a type checker would say, had it been asked
    ({"selection": {"tags": {"env": "dev"}}}, r"selection.tags\['env'\]: 'dev' is text .* give a tuple of values"),
    ({"protection": {"tags": {"env": "production"}}}, r"protection.tags\['env'\]: .* tuple of values"),
    ({"selection": {"tags": ("env", "dev")}}, "selection.tags: tuple stands where a mapping"),
    ({"selection": {"transform_ids": "tfm-1"}}, "selection.transform_ids: .* tuple of values"),
    ({"selection": {"transform_names": "dedupe-*"}}, "selection.transform_names: .* tuple of values"),
    ({"selection": {"statuses": "RUNNING"}}, "selection.statuses: .* tuple of values"),
    ({"selection": {"statuses": None}}, "selection.statuses: None"),
    ({"selection": {"task_types": "EVALUATION"}}, "selection.task_types: .* tuple of values"),
    ({"selection": {"older_than": "6h"}}, "selection.older_than: str stands where a timedelta"),
    ({"selection": {"older_than": "6h", "newer_than": "2d"}}, "selection.older_than"),
    ({"protection": {"transforms": "critical-*"}}, "protection.transforms: .* tuple of values"),
    ({"protection": None}, "protection: None stands where Protection belongs"),
    ({"guardrails": {"allow_accounts": "222222222222"}}, "guardrails.allow_accounts: .* tuple of values"),
    ({"guardrails": {"max_errors": 5}}, "guardrails.max_errors: 5 stands where MaxErrors belongs"),
    ({"guardrails": {"max_runs": True}}, "guardrails.max_runs: True stands where a whole number"),
    ({"report": {"formats": "json"}}, "report.formats: .* tuple of values"),
    ({"notify": {"sns_topic_arn": f"arn:aws:sns:us-east-1:{'1' * 12}:t", "on": "failure"}}, "notify.on: .* tuple of"),
    ({"consent": {"yes": "no"}}, "consent.yes: str stands where True or False belongs"),
    ({"dry_run": "false"}, "dry_run: str stands where True or False belongs"),
    ({"rate": {"rps": True}}, "rate.rps: True stands where a number belongs"),
    ({"verify": {"timeout_seconds": "15m"}}, "verify.timeout_seconds: str"),
    ({"source": "discovery"}, "source: str stands where ManifestSource or DiscoverySource"),
    ({"source": {"path": 5}}, "source.path: 5 stands where text belongs"),
    ({"targets": batch_cancel.TargetSettings()}, "targets: TargetSettings stands where a tuple of values belongs"),
    ({"targets": ({"accounts": "222222222222"},)}, r"targets\[0\]"),
    ({"endpoint": "http://me:secret@h"}, "endpoint: str stands where Endpoint belongs"),
    ({"reason": 5}, "reason: 5 stands where text belongs"),
]
CLASSES: dict[str, type] = {
    "selection": batch_cancel.Selection,
    "protection": batch_cancel.Protection,
    "guardrails": batch_cancel.Guardrails,
    "report": batch_cancel.Report,
    "notify": batch_cancel.Notify,
    "consent": batch_cancel.Consent,
    "rate": batch_cancel.Rate,
    "verify": batch_cancel.Verify,
    "source": batch_cancel.ManifestSource,
}


@pytest.mark.parametrize(("slip", "said"), SLIPS)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_attribute(
    world: World, tmp_path: Path, slip: dict[str, Any], said: str
) -> None:
    changes = {name: CLASSES[name](**value) if isinstance(value, dict) else value for name, value in slip.items()}
    with pytest.raises(batch_cancel.UsageError, match=said) as caught:
        asyncio.run(batch_cancel.run_sweep(replace(settings(), **changes), tmp_path / "run", ask=_nobody))
    assert "secret" not in str(caught.value)
    assert not world.log
    assert not (tmp_path / "run").exists()


def test_lists_and_words_will_do_for_tuples_and_enums(world: World, tmp_path: Path) -> None:
    loose: dict[str, Any] = {
        "selection": batch_cancel.Selection(statuses=("RUNNING", "STARTING")),  # type: ignore[arg-type]  # that is it
        "targets": [batch_cancel.TargetSettings(regions=("all",))],
        "report": batch_cancel.Report(formats=["json"]),  # type: ignore[arg-type]  # as above
        "verify": batch_cancel.Verify(timeout_seconds=60),
    }
    swept = asyncio.run(batch_cancel.run_sweep(replace(settings(dry_run=True), **loose), tmp_path / "run"))
    assert [path.name for path in swept.reports] == ["report.json"]
    assert len(list(batch_cancel.read_runs(tmp_path / "run", batch_cancel.Outcome.WOULD_CANCEL))) == active(world) > 0


def test_a_stop_ends_a_delivery_that_hangs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = batch_cancel.Stop()

    async def hang(*_: object) -> None:
        asyncio.get_running_loop().call_soon(stop.request, batch_cancel.StopCause.INTERRUPTED)
        await asyncio.Event().wait()

    monkeypatch.setattr("batch_cancel.glue.aws_outbox.AwsOutbox.put_file", hang)
    copied = replace(
        settings(consent=batch_cancel.Consent(yes=True)), report=batch_cancel.Report(s3="s3://ops-reports/x/")
    )
    swept = asyncio.run(batch_cancel.run_sweep(copied, tmp_path / "run", stop=stop))
    assert (swept.exit_code, swept.stop_cause, swept.copies) == (130, None, None)
    assert len(swept.faults) > 0
    assert batch_cancel.read_report(tmp_path / "run")["exit_code"] == 130
    assert active(world) == 0


def test_what_a_change_returns_is_looked_at_before_anything_goes_on(world: World, tmp_path: Path) -> None:
    asyncio.run(batch_cancel.run_sweep(settings(dry_run=True), tmp_path / "run"))
    before = len(world.log)
    forgotten: Any = lambda before: None  # noqa: E731
    with pytest.raises(batch_cancel.UsageError, match="change has to return the settings"):
        asyncio.run(batch_cancel.resume_sweep(tmp_path / "run", change=forgotten))
    slip: Any = {"rps": "5"}
    with pytest.raises(batch_cancel.UsageError, match=r"rate\.rps: str"):
        asyncio.run(
            batch_cancel.resume_sweep(tmp_path / "run", change=lambda old: replace(old, rate=batch_cancel.Rate(**slip)))
        )
    assert len(world.log) == before


async def _nobody(found: batch_cancel.Found) -> bool:
    raise AssertionError(found)


def test_a_run_directory_may_be_named_by_text(world: World, tmp_path: Path) -> None:
    swept = asyncio.run(batch_cancel.run_sweep(settings(dry_run=True), str(tmp_path / "run")))
    assert swept.directory == tmp_path / "run"
    told = batch_cancel.read_report(str(tmp_path / "run"))
    assert told["totals"]["runs"] == len(list(batch_cancel.read_runs(str(tmp_path / "run")))) > 0
    assert active(world) > 0
