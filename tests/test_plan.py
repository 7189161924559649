"""Plans: what was reviewed is what happens, or less; and only once."""

import errno
import json
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from batch_cancel.core.errors import GuardrailRefused, InputError, RecordLost
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.selection import Protection, Selection
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.plan import Plan, digest_of, read_plan, write_plan
from batch_cancel.settings import Consent, Guardrails, Rate, Retry, TargetSettings
from batch_cancel.simulator.settings import Behaviour, FleetSettings, WorldSettings
from tests.sweeps import Play, settings


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def planned(play: Play, path: Path, **changes: Any) -> Plan:  # noqa: ANN401  # fields of Settings
    """A plan of what the play's world shows now."""
    play.sweep(settings(dry_run=True, consent=Consent(), **changes))
    reader = LedgerReader(play.directory / LEDGER_NAME)
    write_plan(reader, path, now=datetime.fromtimestamp(play.now(), UTC))
    reader.close()
    play.directory = play.directory.with_name("apply")
    return read_plan(path)


def applied(play: Play, plan: Plan) -> int:
    return play.sweep(replace(plan.settings, consent=Consent(yes=True))).exit_code


def test_apply_cancels_what_the_plan_names(tmp_path: Path) -> None:
    play = Play()
    active = play.active()
    plan = planned(play, tmp_path / "plan.json")
    assert len(plan.document["cancel"]) == active
    assert (tmp_path / "plan.json").stat().st_mode & 0o077 == 0
    assert applied(play, plan) == 0
    assert play.outcomes() == {Outcome.STOPPED: active}
    assert play.facts()["source"]["digest"] == plan.digest


def test_a_plan_holds_whatever_was_typed(tmp_path: Path) -> None:
    reason = "a byte of the command line that is no UTF-8: \udcff"
    assert planned(Play(), tmp_path / "plan.json", reason=reason).document["reason"] == reason


def test_a_plan_that_cannot_be_written_leaves_the_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "plan.json"
    plan = planned(Play(), path)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RecordLost, match="No space left on device"):
        planned(Play(), path)
    assert read_plan(path) == plan
    assert not list(tmp_path.glob(".plan*"))


def test_a_run_that_starts_after_the_plan_is_not_touched_and_one_that_ended_is_reported(tmp_path: Path) -> None:
    behaviour = Behaviour(new_runs_per_second=0.01, new_runs_until_seconds=7200.0)
    fleet = FleetSettings(transforms=6, runs=40, ends_in_seconds=(600.0, 7200.0), starting_seconds=(20.0, 30.0))
    play = Play(WorldSettings(fleet=fleet, behaviour=behaviour))
    plan = planned(play, tmp_path / "plan.json")
    play.clock += 3600.0
    assert applied(play, plan) == 0
    named = {entry["task_run_id"] for entry in plan.document["cancel"]}
    assert {row.task_run_id for row in play.rows()} == named
    assert play.outcomes()[Outcome.ALREADY_FINISHED] > 0 < play.outcomes()[Outcome.STOPPED]
    assert play.active() > 0
    asked = {call.task_run_id for call in play.world.log if call.operation == "CancelMLTaskRun"}
    assert asked == {row.task_run_id for row in play.rows() if row.outcome is Outcome.STOPPED}


def test_the_rules_are_checked_again(tmp_path: Path) -> None:
    play = Play()
    selection = Selection(newer_than=timedelta(hours=12))
    plan = planned(play, tmp_path / "plan.json", selection=selection)
    play.clock += 3 * 3600.0
    applied(play, plan)
    dropped = [row for row in play.rows() if row.outcome is Outcome.EXCLUDED]
    assert dropped and all(row.rule == "select: newer_than 12h" for row in dropped)


def test_exclusions_stand_in_the_plan_with_their_rule(tmp_path: Path) -> None:
    play = Play(WorldSettings(fleet=FleetSettings(transforms=12, runs=80)))
    plan = planned(play, tmp_path / "plan.json", protection=Protection(transform_names=("critical-*",)))
    assert plan.document["exclude"]
    assert all("critical-*" in entry["rule"] for entry in plan.document["exclude"])
    assert plan.document["counts"] == {
        "cancel": len(plan.document["cancel"]),
        "exclude": len(plan.document["exclude"]),
    }
    hours = sum(entry["estimated_dpu_hours"] for entry in plan.document["cancel"])
    assert plan.document["estimated_dpu_hours"] == pytest.approx(hours, abs=0.001)  # what is reviewed, and no more


@pytest.mark.parametrize("seed", range(20))
def test_any_edit_is_found_out(tmp_path: Path, seed: int) -> None:
    play = Play()
    planned(play, tmp_path / "plan.json")
    document = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    draw = random.Random(seed)
    node: Any = document
    while isinstance(node, dict | list) and node:  # down to some leaf, and another value there
        key = draw.choice(
            [k for k in node if k not in ("digest", "schema")] if isinstance(node, dict) else range(len(node))
        )
        parent, node = node, node[key]
    parent[key] = "edited"
    (tmp_path / "plan.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(GuardrailRefused, match="edited"):
        read_plan(tmp_path / "plan.json")


def test_a_plan_that_was_only_written_anew_is_the_same_plan(tmp_path: Path) -> None:
    play = Play()
    active = play.active()
    plan = planned(play, tmp_path / "plan.json")

    def shortest(text: str) -> float:  # as jq does it: 900 for 900.0
        return int(float(text)) if text.endswith(".0") else float(text)

    assert ".0," in (tmp_path / "plan.json").read_text()
    content = json.loads((tmp_path / "plan.json").read_text(), parse_float=shortest)
    (tmp_path / "plan.json").write_text(json.dumps(content, sort_keys=True))
    rewritten = read_plan(tmp_path / "plan.json")
    assert (rewritten.digest, rewritten.settings) == (plan.digest, plan.settings)
    assert applied(play, rewritten) == 0
    assert play.outcomes() == {Outcome.STOPPED: active}


def test_a_plan_is_good_once_wherever_its_copy_lies(tmp_path: Path) -> None:
    play = Play()
    plan = planned(play, tmp_path / "plan.json")
    copy = tmp_path / "copy.json"
    copy.write_bytes((tmp_path / "plan.json").read_bytes())
    assert applied(play, plan) == 0
    asked = play.calls()
    for path in (plan.path, copy):
        with pytest.raises(GuardrailRefused, match="applied before"):
            read_plan(path).check_unused()
    play.directory = play.directory.with_name("again")
    assert applied(play, plan) == 3
    assert play.calls() == asked


def test_a_process_that_dies_when_the_plan_is_marked_has_used_it_up_for_nobody_but_its_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play()
    plan = planned(play, tmp_path / "plan.json")
    set_facts = Ledger.set_facts

    async def dies(self: Ledger, **facts: object) -> None:
        if "decided" in facts:
            raise RuntimeError("killed")
        await set_facts(self, **facts)

    monkeypatch.setattr(Ledger, "set_facts", dies)
    with pytest.raises(RuntimeError, match="killed"):
        applied(play, plan)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(GuardrailRefused, match="applied before"):
        read_plan(tmp_path / "plan.json").use_up(tmp_path / "another", datetime.now(UTC))
    resumed = play.resume(replace(plan.settings, consent=Consent(yes=True)))
    assert (resumed.exit_code, play.active()) == (0, 0)


def test_a_process_that_dies_before_its_mark_has_a_text_leaves_none_and_can_be_resumed(
    tmp_path: Path, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, out, now = planned(Play(), tmp_path / "plan.json"), tmp_path / "out", datetime.now(UTC)

    def dies(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("killed")

    for step in ("fdopen", "fsync", "link"):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
            patch.setattr(os, step, dies)
            plan.use_up(out, now)
        plan.check_unused()
    plan.use_up(out, now)
    plan.use_up(out, now)  # its own
    for mark in (*tmp_path.glob("plan.json.*"), *(state_home / "batch-cancel" / "applied-plans").iterdir()):
        assert (mark.read_text().endswith(f" in {out}\n"), mark.stat().st_mode & 0o777) == (True, 0o600)
    with pytest.raises(GuardrailRefused, match="applied before"):
        plan.use_up(tmp_path / "another", now)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "plan.json",
        f"plan.json.{plan.digest.removeprefix('sha256:')[:12]}.applied",
    ]


def test_a_plan_is_marked_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> NoReturn:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", unsupported)
    plan = planned(Play(), tmp_path / "plan.json")
    for _ in range(2):
        plan.use_up(tmp_path / "out", datetime.now(UTC))
    with pytest.raises(GuardrailRefused, match="applied before"):
        plan.use_up(tmp_path / "another", datetime.now(UTC))
    assert len(list(tmp_path.glob("plan.json.*.applied"))) == 1


def test_a_run_directory_whose_name_ends_like_another_s_mark_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plan, out = planned(Play(), tmp_path / "plan.json"), tmp_path / "out"
    plan.use_up(tmp_path / "a in " / out.relative_to("/"), datetime.now(UTC))
    with pytest.raises(GuardrailRefused, match="applied before"):
        plan.use_up(out, datetime.now(UTC))


def test_another_plan_that_takes_the_place_of_the_reviewed_one_is_not_applied_for_it(tmp_path: Path) -> None:
    play = Play()
    plan = planned(play, tmp_path / "plan.json")
    planned(Play(), tmp_path / "plan.json", reason="another")
    assert applied(play, plan) == 3
    assert (play.calls(), play.rows()) == (0, [])
    assert "is another plan" in play.facts()["refusal"]
    read_plan(tmp_path / "plan.json").check_unused()


def test_the_next_plan_may_have_the_same_name(tmp_path: Path) -> None:
    play = Play()
    assert applied(play, planned(play, tmp_path / "plan.json")) == 0
    later = Play()
    later.clock += 24 * 3600.0
    plan = planned(later, tmp_path / "plan.json")
    plan.check_unused()
    assert (applied(later, plan), later.active()) == (0, 0)


def test_a_plan_expires(tmp_path: Path) -> None:
    play = Play()
    plan = planned(play, tmp_path / "plan.json")
    made = datetime.fromtimestamp(play.now(), UTC)
    plan.check_fresh(made + timedelta(hours=23))
    with pytest.raises(GuardrailRefused, match="expired"):
        plan.check_fresh(made + timedelta(hours=24))


def test_a_plan_that_expires_before_anything_was_decided_by_it_is_not_resumed(tmp_path: Path) -> None:
    for decided in (False, True):
        play = Play()
        plan = planned(play, tmp_path / f"{decided}.json")
        # What is read first takes longer than a second here, and what is asked for then longer than ten.
        deadline = 10.0 if decided else 0.5
        cut = replace(
            plan.settings, consent=Consent(yes=True), rate=Rate(rps=2.0), retry=Retry(deadline_seconds=deadline)
        )
        assert play.sweep(cut).exit_code == 5
        assert bool(play.facts().get("decided")) is decided
        play.clock += 24 * 3600.0
        called, go_on = len(play.world.log), replace(cut, rate=Rate(rps=50.0), retry=Retry())
        if decided:  # begun in time, it is gone on with
            assert play.resume(go_on).exit_code == 0
            continue
        with pytest.raises(GuardrailRefused, match="expired"):
            play.resume(go_on)
        assert len(play.world.log) == called
        assert set(play.outcomes()) == {Outcome.NOT_ATTEMPTED}


def test_a_plan_of_another_account_is_refused(tmp_path: Path) -> None:
    fleet = FleetSettings(accounts=("111111111111", "222222222222"), transforms=4, runs=40)
    play = Play(WorldSettings(fleet=fleet), profiles={"ops": "111111111111"})
    targets = (TargetSettings(profile="ops", regions=("us-east-1",)),)
    plan = planned(play, tmp_path / "plan.json", targets=targets)
    play.service._profiles["ops"] = "222222222222"
    for access in list(play.service._keys):
        play.service.forget(access)
    assert applied(play, plan) == 3
    assert play.calls() == 0


def test_a_plan_that_can_be_marked_nowhere_is_not_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    play = Play()
    plan = planned(play, tmp_path / "plan.json")
    monkeypatch.setattr("batch_cancel.plan._make", read_only)
    with pytest.raises(RecordLost, match="cannot be marked as applied"):
        applied(play, plan)
    assert play.calls() == 0


def test_the_share_of_a_plan_was_judged_when_all_runs_were_known(tmp_path: Path) -> None:
    """Among those that it names, every one is to be cancelled."""
    play = Play(WorldSettings(fleet=FleetSettings(transforms=12, runs=80)))
    plan = planned(
        play,
        tmp_path / "plan.json",
        protection=Protection(transform_names=("critical-*",)),
        guardrails=Guardrails(max_percent=95.0),
    )
    assert plan.document["exclude"]
    assert applied(play, plan) == 0
    assert set(play.outcomes()) == {Outcome.STOPPED}


def test_guardrails_hold_when_a_plan_is_applied(tmp_path: Path) -> None:
    play = Play()
    plan = planned(
        play, tmp_path / "plan.json", guardrails=Guardrails(allow_accounts=("111111111111",), max_percent=100.0)
    )
    assert applied(play, plan) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("version: 1", "make one with `batch-cancel plan"),
        ("[]", "is not a plan"),
        ('{"schema": "batch-cancel/report/1"}', "is not a plan"),
        ('{"schema": "batch-cancel/plan/9"}', "another version"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_plan(tmp_path / "plan.json")


def test_a_sealed_plan_with_settings_of_another_kind_is_refused(tmp_path: Path) -> None:
    document: dict[str, Any] = {"schema": "batch-cancel/plan/1", "settings": {"schema": "other"}}
    document["digest"] = digest_of(document)
    (tmp_path / "plan.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match="cannot be used"):
        read_plan(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("expires_at",), "tomorrow"),
        (("expires_at",), "2030-01-01T00:00:00"),
        (("expires_at",), None),
        (("cancel",), "all"),
        (("cancel", 0, "task_run_id"), None),
        (("cancel", 0, "started_on"), "x"),
        (("cancel", 0, "region"), "eu-west-9"),
        (("targets",), []),
        (("targets", 0, "access"), {"key": "x"}),
        (("targets", 0), "x"),
    ],
)
def test_a_sealed_plan_that_no_program_of_ours_wrote_is_refused(
    tmp_path: Path, place: tuple[str | int, ...], value: object
) -> None:
    document = planned(Play(), tmp_path / "plan.json").document
    *way, last = place
    parent: Any = document
    for key in way:
        parent = parent[key]
    parent[last] = value
    sealed = json.dumps(document | {"digest": digest_of(document)})
    (tmp_path / "plan.json").write_text(sealed, encoding="utf-8")
    with pytest.raises(InputError, match="cannot be used"):
        read_plan(tmp_path / "plan.json")
