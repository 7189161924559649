"""``diff``: what changed between sweeps, and never more than their listings can tell."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batch_cancel.cli.diff import MOST_SHOWN, WIDTH, diff
from batch_cancel.core.errors import LedgerError, UsageError
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.selection import Selection
from batch_cancel.core.task_run import Access, Status, Target, TaskRun, Transform
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.report.diff import Comparison
from batch_cancel.settings import DiscoverySource, ManifestSource, Settings, to_json

ODD = ["\u202egnp.exe", "a\tb", "'; DROP", "\\x1b[31m", "😀" * 200, "ä b", '"q"']
DAY = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
LONG_AGO = DAY - timedelta(days=30)
HOME = Target("us-east-1", "222222222222")
ABROAD = Target("eu-west-1", "222222222222")


def run(
    name: str,
    *,
    transform: str = "tfm-1",
    status: Status | None = Status.RUNNING,
    outcome: Outcome = Outcome.WOULD_CANCEL,
    started_on: datetime | None = LONG_AGO,
) -> NewRun:
    rule = "protect: tag env=prod" if outcome is Outcome.EXCLUDED else None
    return NewRun(
        TaskRun(transform, name, status=status, task_type="FIND_MATCHES", started_on=started_on), rule, outcome
    )


@dataclass
class Listing:
    """A target of a sweep; ``listed`` False is one whose runs came from a manifest."""

    target: Target = HOME
    runs: Sequence[NewRun] = ()
    error: tuple[str, str] | None = None
    listed: bool = True
    complete: bool | None = None
    names: dict[str, str] = field(default_factory=dict)


class Sweeps:
    """Run directories, a day apart."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[Path] = []

    def add(self, *listings: Listing, selection: Selection | None = None, finished: bool = True, **facts: Any) -> Path:  # noqa: ANN401  # JSON values
        at = len(self.made)
        directory = self.directory / f"sweep-{at}"
        manifest = any(not listing.listed for listing in listings)
        source = ManifestSource(path="runs.csv") if manifest else DiscoverySource()
        started = DAY + timedelta(days=at)
        known = {
            "sweep_id": f"id-{at}",
            "name": "nightly",
            "mode": "dry-run",
            "started_at": started.isoformat().replace("+00:00", "Z"),
            "finished_at": (started + timedelta(minutes=1)).isoformat() if finished else None,
            "source": {"kind": source.kind},
            "settings": to_json(Settings(source=source, selection=selection or Selection())),
        }

        async def fill() -> None:
            ledger = Ledger.create(directory)
            await ledger.set_facts(**(known | facts))
            for listing in listings:
                target = await ledger.add_target(listing.target)
                if listing.listed:
                    complete = listing.error is None if listing.complete is None else listing.complete
                    ledger.set_listed(target, transforms=3, active_runs=len(listing.runs), complete=complete)
                if listing.error:
                    ledger.set_target_error(target, *listing.error)
                ledger.add_transforms(target, [Transform(key, name=name) for key, name in listing.names.items()])
                await ledger.add_runs(target, listing.runs)
            await ledger.close()

        asyncio.run(fill())
        self.made.append(directory)
        return directory

    def compared(self, *arguments: str) -> Result:
        return invoke(*self.made, *arguments)

    def json(self) -> dict[str, Any]:
        result = self.compared("--output", "json")
        document: dict[str, Any] = json.loads(result.stdout)
        assert result.exit_code == int(document["differs"])
        return document

    def changes(self) -> dict[str, str]:
        return {run["task_run_id"]: run["change"] for run in self.json()["runs"]}

    def reasons(self) -> dict[str, str | None]:
        return {run["task_run_id"]: run["reason"] for run in self.json()["runs"]}


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(diff, [str(argument) for argument in arguments], catch_exceptions=False)


def said(result: Result) -> str:
    """What was printed, however its lines were broken."""
    return " ".join(result.stdout.split())


@pytest.fixture
def sweeps(tmp_path: Path) -> Sweeps:
    return Sweeps(tmp_path)


DENIED = ("AccessDeniedException", "no ListMLTransforms")


def test_new_gone_and_still_running(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("stays"), run("goes", transform="tfm-2")]), Listing(ABROAD))
    sweeps.add(Listing(runs=[run("stays"), run("comes")], names={"tfm-1": "dedupe"}), Listing(ABROAD))
    document = sweeps.json()
    assert document["cautions"] == []
    assert {run["task_run_id"]: run["change"] for run in document["runs"]} == {
        "stays": "still_running",
        "goes": "gone",
        "comes": "new",
    }
    assert document["totals"] == {"new": 1, "gone": 1, "still_running": 1, "newly_seen": 0, "not_seen": 0}
    assert [
        (each["transform_id"], each["transform_name"], each["new"], each["gone"], each["still_running"])
        for each in document["transforms"]
    ] == [("tfm-1", "dedupe", 1, 0, 1), ("tfm-2", None, 0, 1, 0)]
    assert sweeps.compared().exit_code == 1


def test_no_difference_is_exit_code_0_in_text_and_json(sweeps: Sweeps) -> None:
    for _ in range(2):
        sweeps.add(Listing(runs=[run("stays")]))
    result = sweeps.compared()
    assert result.exit_code == 0
    assert "0 new, 0 gone, 1 still running" in result.stdout
    assert "COMPARABLE" not in result.stdout
    assert not sweeps.json()["differs"]


def test_nothing_active_anywhere_is_no_difference(sweeps: Sweeps) -> None:
    sweeps.add(Listing())
    sweeps.add(Listing())
    result = sweeps.compared()
    assert (result.exit_code, "No run was active in any of them." in result.stdout) == (0, True)
    assert sweeps.json()["runs"] == []


def test_a_run_that_a_rule_left_alone_is_as_active_as_any(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("spared", outcome=Outcome.EXCLUDED)]))
    sweeps.add(Listing(runs=[run("spared")]))
    assert sweeps.changes() == {"spared": "still_running"}


def test_runs_that_had_ended_are_no_changes(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("old", status=Status.SUCCEEDED, outcome=Outcome.ALREADY_FINISHED)]))
    sweeps.add(Listing(runs=[run("late", status=Status.STOPPING, outcome=Outcome.EXCLUDED)]))
    assert sweeps.changes() == {}


def test_the_order_in_which_runs_were_found_is_no_difference(sweeps: Sweeps) -> None:
    names = [*ODD, *"zyxabc", "\ufffd", "\U00010000", "Z", "é"]  # by code points and by bytes the order is the same
    sweeps.add(Listing(runs=[run(name, transform=name[::-1]) for name in names]), Listing(ABROAD, [run("a")]))
    sweeps.add(Listing(ABROAD, [run("a")]), Listing(runs=[run(name, transform=name[::-1]) for name in reversed(names)]))
    document = sweeps.json()
    assert (document["differs"], len(document["runs"])) == (False, len(names) + 1)


def test_for_how_many_sweeps_a_run_has_been_running_is_told(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("a"), run("once")]))
    sweeps.add(Listing(runs=[run("a"), run("b")]))
    sweeps.add(Listing(runs=[run("a"), run("b"), run("c")]))
    runs = {each["task_run_id"]: each for each in sweeps.json()["runs"]}
    assert {name: (each["change"], each["sweeps"]) for name, each in runs.items()} == {
        "a": ("still_running", 3),
        "b": ("still_running", 2),
        "c": ("new", 1),
        "once": ("gone", 1),
    }
    assert runs["b"]["first_seen_at"] == "2026-11-21T01:00:00.000Z"
    text = sweeps.compared("--all").stdout
    assert "in 3 of 3 sweeps, since that of 2026-11-20 01:00:00Z" in text
    assert "last seen by the sweep of 2026-11-20 01:00:00Z" in text


# -- gone and new only where the listing can tell ---------------------------------------------------------------------


def test_a_run_is_not_gone_where_the_last_listing_was_not_complete(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("where")]))
    sweeps.add(Listing(error=DENIED))
    assert sweeps.changes() == {"where": "not_seen"}
    result = sweeps.compared()
    assert result.exit_code == 1
    assert "NOT COMPARABLE THROUGHOUT" in result.stdout
    assert "222222222222/us-east-1: not listed completely: AccessDeniedException: no ListMLTransforms" in said(result)


def test_an_incomplete_listing_is_a_difference_although_no_run_shows_one(sweeps: Sweeps) -> None:
    sweeps.add(Listing(error=DENIED))
    sweeps.add(Listing())
    assert sweeps.compared().exit_code == 1


def test_a_run_is_not_gone_where_its_target_was_not_swept(sweeps: Sweeps) -> None:
    first = sweeps.add(Listing(), Listing(ABROAD, runs=[run("abroad")]))
    sweeps.add(Listing())
    assert sweeps.reasons() == {"abroad": "its account and region were not swept"}
    assert f"222222222222/eu-west-1: not swept, although {first} did" in said(sweeps.compared())


def test_a_run_is_not_new_where_the_sweep_before_could_not_have_told(sweeps: Sweeps) -> None:
    sweeps.add(Listing(error=DENIED))
    sweeps.add(Listing(runs=[run("old"), run("young", started_on=DAY + timedelta(hours=5))]))
    assert sweeps.changes() == {"old": "newly_seen", "young": "new"}


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        (Selection(transform_ids=("tfm-9",)), "only other transforms were looked at"),
        (Selection(tags={"env": ("dev",)}), "only transforms with certain tags were looked at"),
        (Selection(statuses=(Status.STARTING,)), "only runs that are STARTING were looked at"),
    ],
)
def test_a_run_is_not_gone_where_the_selection_kept_it_from_being_listed(
    sweeps: Sweeps, selection: Selection, reason: str
) -> None:
    sweeps.add(Listing(runs=[run("r")]))
    sweeps.add(Listing(), selection=selection)
    assert sweeps.reasons() == {"r": reason}
    assert "another source or selection" in said(sweeps.compared())


@pytest.mark.parametrize(
    "selection",
    [Selection(transform_ids=("tfm-1",)), Selection(transform_names=("x*",)), Selection(tags={"env": ()})],
)
def test_a_selection_that_lists_the_run_all_the_same_lets_it_be_gone(sweeps: Sweeps, selection: Selection) -> None:
    sweeps.add(Listing(runs=[run("r")]), selection=selection)
    sweeps.add(Listing(), selection=selection)
    assert sweeps.changes() == {"r": "gone"}
    assert sweeps.json()["cautions"] == []


def test_sweeps_of_the_same_list_are_compared_run_by_run(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("a"), run("b"), run("c"), run("d")], listed=False))
    over = run("b", status=Status.SUCCEEDED, outcome=Outcome.ALREADY_FINISHED)
    unread = run("c", status=None, outcome=Outcome.DENIED)
    sweeps.add(Listing(runs=[run("a"), over, unread], listed=False))
    assert sweeps.changes() == {"a": "still_running", "b": "gone", "c": "not_seen", "d": "not_seen"}
    assert sweeps.reasons()["c"] == "its state was not read (denied)"
    assert sweeps.json()["cautions"] == []


def test_a_run_is_not_gone_where_the_last_sweep_looked_at_a_plan_alone(sweeps: Sweeps) -> None:
    """``apply`` counts the active runs among those that the plan names, and lists no others."""
    sweeps.add(Listing(runs=[run("planned"), run("spared")]))
    sweeps.add(Listing(runs=[run("planned", outcome=Outcome.STOPPED)]), mode="cancel", source={"kind": "plan"})
    assert sweeps.changes() == {"planned": "gone", "spared": "not_seen"}
    text = sweeps.compared().stdout
    assert "1 run not seen: only the runs of a list were looked at." in text
    assert "spared" not in text
    assert "spared" in sweeps.compared("--all").stdout


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.FINISHED_FIRST])
def test_what_a_sweep_saw_end_is_gone_whatever_the_next_one_could_list(sweeps: Sweeps, outcome: Outcome) -> None:
    sweeps.add(Listing(runs=[run("r", status=None, outcome=outcome)]), mode="cancel")
    sweeps.add(Listing(error=DENIED))
    assert sweeps.changes() == {"r": "gone"}


def test_trouble_after_a_complete_listing_hides_no_run(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("r")]))
    sweeps.add(Listing(error=DENIED, complete=True))
    assert sweeps.changes() == {"r": "gone"}
    assert sweeps.json()["cautions"] == []


def test_what_the_last_sweep_stopped_is_not_called_still_running(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("old"), run("stuck")]))
    stopped = [run(name, outcome=Outcome.STOPPED) for name in ("old", "fresh")]
    sweeps.add(Listing(runs=[*stopped, run("stuck", outcome=Outcome.STUCK_STOPPING)]), mode="cancel")
    assert sweeps.changes() == {"old": "gone", "fresh": "new", "stuck": "still_running"}
    text = sweeps.compared("--all").stdout
    assert re.search("old .* outcome in that sweep: stopped", text)
    assert re.search("stuck .* outcome in that sweep: stuck_stopping", text)


@pytest.mark.parametrize("outcome", [Outcome.STUCK_STOPPING, Outcome.STOPPING, Outcome.UNKNOWN])
def test_what_may_be_stopping_is_not_gone_by_a_listing_of_active_runs(sweeps: Sweeps, outcome: Outcome) -> None:
    sweeps.add(Listing(runs=[run("hangs", outcome=outcome), run("goes", outcome=Outcome.STOPPED)]), mode="cancel")
    sweeps.add(Listing(runs=[run("comes")]))
    assert sweeps.changes() == {"hangs": "not_seen", "goes": "gone", "comes": "new"}
    assert sweeps.reasons()["hangs"] == "it may be STOPPING, and only STARTING and RUNNING runs are listed"
    text = sweeps.compared().stdout
    told = text.index("Still running or STOPPING, although asked to stop:")
    assert told < text.index("hangs") < text.index("By transform") < text.index("New:")
    sweeps.add(Listing(runs=[run("hangs", status=Status.STOPPED, outcome=Outcome.ALREADY_FINISHED)], listed=False))
    assert sweeps.changes()["hangs"] == "gone"


def test_a_run_that_the_last_sweep_found_stopping_is_not_gone(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("r")], listed=False))
    sweeps.add(Listing(runs=[run("r", status=Status.STOPPING, outcome=Outcome.EXCLUDED)], listed=False))
    assert (sweeps.changes(), sweeps.reasons()) == ({"r": "still_running"}, {"r": "STOPPING by now"})


@pytest.mark.parametrize("outcome", [Outcome.STUCK_STOPPING, Outcome.FAILED, Outcome.DENIED])
def test_what_the_last_sweep_could_not_stop_stands_at_the_top_unasked(sweeps: Sweeps, outcome: Outcome) -> None:
    sweeps.add(Listing(runs=[run("r"), run("other")]))
    sweeps.add(Listing(runs=[run("r", outcome=outcome), run("other")]), mode="cancel")
    lines = sweeps.compared().stdout.splitlines()
    at = lines.index("Still running or STOPPING, although asked to stop:")
    assert lines[at + 2].split()[0] == "r" and lines[at + 2].endswith(f"outcome in that sweep: {outcome}")
    assert "other" not in "\n".join(lines)


def test_a_run_that_could_not_be_asked_is_gone_where_a_complete_listing_lacks_it(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("r", outcome=Outcome.DENIED)]), mode="cancel")
    sweeps.add(Listing())
    assert sweeps.changes() == {"r": "gone"}


def test_numbers_of_transforms_stand_below_one_another(sweeps: Sweeps) -> None:
    sweeps.add(Listing(runs=[run("old", transform="tfm-2")]))
    new = [run(f"r{at}", transform="tfm-1") for at in range(12)]
    sweeps.add(Listing(runs=[*new, run("fresh", transform="tfm-2")]))
    lines = sweeps.compared().stdout.splitlines()
    at = lines.index("By transform, in 222222222222/us-east-1:")
    assert lines[at + 1 : at + 3] == ["  12 new          tfm-1", "   1 new  1 gone  tfm-2"]


def test_one_place_is_the_heading_only_where_nothing_else_was_compared(sweeps: Sweeps) -> None:
    elsewhere = Listing(Target("eu-west-1", "222222222222"), [run("same", transform="tfm-2")])
    sweeps.add(Listing(runs=[]), elsewhere)
    sweeps.add(Listing(runs=[run("new", transform="tfm-1")]), elsewhere)
    lines = sweeps.compared().stdout.splitlines()
    at = lines.index("By transform:")
    told = ["  1 new  tfm-1  222222222222/us-east-1", "  and 1 transform without a change that was seen"]
    assert lines[at + 1 : at + 3] == told


def test_a_sweep_that_did_not_finish_is_told(sweeps: Sweeps) -> None:
    sweeps.add(Listing())
    sweeps.add(Listing(), finished=False)
    result = sweeps.compared()
    assert result.exit_code == 1
    assert "the sweep has not finished" in said(result)


def test_an_account_is_the_same_whether_its_id_or_its_role_was_known(sweeps: Sweeps) -> None:
    by_role = Target("us-east-1", None, Access(role_arn="arn:aws:iam::222222222222:role/Sweep"))
    sweeps.add(Listing(by_role, [run("r")]))
    sweeps.add(Listing(HOME, [run("r")]))
    document = sweeps.json()
    assert document["cautions"] == []
    assert [(each["account_id"], each["change"]) for each in document["runs"]] == [("222222222222", "still_running")]


def test_profiles_without_a_known_account_are_told_apart(sweeps: Sweeps) -> None:
    a, b = (Target("us-east-1", None, Access(profile)) for profile in "ab")
    sweeps.add(Listing(a, [run("r")]), Listing(b))
    sweeps.add(Listing(a), Listing(b, [run("r")]))
    assert sorted(each["change"] for each in sweeps.json()["runs"]) == ["gone", "new"]


# -- what is printed --------------------------------------------------------------------------------------------------


def test_json_keeps_ids_exactly_and_text_lets_none_of_them_touch_the_terminal(sweeps: Sweeps) -> None:
    sweeps.add(Listing(error=("Odd\x1b[2J", "new\nline")))
    sweeps.add(Listing(runs=[run(name, transform=name) for name in ODD], names=dict.fromkeys(ODD, "n\x1b]0;x\x07")))
    assert set(sweeps.changes()) == set(ODD)
    text = sweeps.compared().stdout
    assert all(line.isprintable() for line in text.splitlines())
    assert r"\u202egnp.exe" in text


def test_text_shows_the_first_of_many_and_counts_the_rest(sweeps: Sweeps) -> None:
    sweeps.add(Listing())
    sweeps.add(Listing(runs=[run(f"r{number:04}", transform=f"t{number}") for number in range(MOST_SHOWN + 7)]))
    text = sweeps.compared().stdout
    assert "and 7 runs more; --output json has all" in text
    assert "and 7 transforms more; --output json has all" in text
    assert len(sweeps.json()["runs"]) == MOST_SHOWN + 7


def test_what_did_not_change_is_a_count_unless_it_is_asked_for(sweeps: Sweeps) -> None:
    for names in (["same", "goes"], ["same"]):
        sweeps.add(Listing(runs=[run(name, transform=f"tfm-{name}") for name in names]))
    text = sweeps.compared().stdout
    assert "tfm-same" not in text and "and 1 transform without a change" in text
    assert "1 run still running.\n--all lists them." in text
    assert "tfm-same" in sweeps.compared("--all").stdout


def test_lines_keep_to_the_width_and_ids_stay_whole(sweeps: Sweeps) -> None:
    transform, task_run = "tfm-" + "a" * 40, "tsk-" + "b" * 40
    sweeps.add(Listing(error=DENIED, runs=[run(task_run, transform=transform)]))
    sweeps.add(Listing(runs=[run(f"{task_run}-{at}", transform=transform) for at in range(3)]))
    lines = sweeps.compared("--all").stdout.splitlines()
    assert [line for line in lines if len(line) > WIDTH and str(sweeps.directory) not in line] == []
    assert sum(f"{task_run}-" in line for line in lines) == 3


# -- bad input --------------------------------------------------------------------------------------------------------


def test_the_wrong_order_is_refused_with_the_mend(sweeps: Sweeps) -> None:
    older, newer = sweeps.add(Listing()), sweeps.add(Listing())
    with pytest.raises(UsageError, match=r"is older than .*: name the oldest first"):
        invoke(newer, older)


def test_the_same_sweep_twice_is_refused(sweeps: Sweeps) -> None:
    only = sweeps.add(Listing())
    with pytest.raises(UsageError, match="hold the same sweep"):
        invoke(only, only)


def test_one_directory_alone_is_refused(sweeps: Sweeps) -> None:
    with pytest.raises(UsageError, match="two run directories or more"):
        invoke(sweeps.add(Listing()))


def test_a_directory_without_a_ledger_and_one_that_is_damaged_are_named(sweeps: Sweeps, tmp_path: Path) -> None:
    first = sweeps.add(Listing())
    with pytest.raises(LedgerError, match=f"{tmp_path} holds no ledger"):
        invoke(first, tmp_path)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / LEDGER_NAME).write_bytes(b"SQLite format 3\x00" + b"\x07" * 5000)
    with pytest.raises(LedgerError, match="damaged"):
        invoke(first, damaged)


def test_a_comparison_that_cannot_be_made_leaves_no_ledger_open(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [sweeps.add(Listing()), sweeps.add(Listing())]
    monkeypatch.setattr("batch_cancel.report.past_sweep.RUNS", "SELECT * FROM no_such_table")
    with pytest.raises(LedgerError, match="cannot be read") as raised:
        Comparison(made)
    still_open = {str(each.resolve()) for each in Path("/proc/self/fd").iterdir()}
    assert not {str(directory / LEDGER_NAME) for directory in made} & still_open, raised
