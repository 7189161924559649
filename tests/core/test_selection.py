"""Which runs are cancelled: protection wins, what is not known is left alone, an empty list selects nothing."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.core.errors import UsageError
from batch_cancel.core.selection import (
    Decision,
    Protection,
    Selection,
    decide,
    max_percent_refusal,
    max_runs_refusal,
    past_max_errors,
)
from batch_cancel.core.task_run import Status, TaskRun, Transform

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
RUN = TaskRun("tfm-1", "r-1", status=Status.RUNNING, task_type="FIND_MATCHES", started_on=NOW - 7 * HOUR)
TRANSFORM = Transform("tfm-1", name="dedupe-people", tags={"env": "dev", "team": "ml"})
BARE = Transform("tfm-1")


def rule(
    selection: Selection, protection: Protection | None = None, run: TaskRun = RUN, of: Transform = TRANSFORM
) -> str:
    decision = decide(run, of, selection, protection or Protection(), NOW)
    assert decision.cancel is (decision.rule is None)
    return decision.rule or "cancel"


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), "cancel"),
        (Selection(transform_ids=("tfm-1", "x")), "cancel"),
        (Selection(transform_ids=("tfm-2",)), "select: transform_id tfm-2"),
        (Selection(transform_ids=("a", "b", "c", "d", "e")), "select: transform_id a, b, c and 2 more"),
        (Selection(transform_ids=()), "select: transform_id [] (an empty list selects nothing)"),
        (Selection(transform_names=("x", "dedupe-*")), "cancel"),
        (Selection(transform_names=("Dedupe-*", "y?")), "select: transform_name Dedupe-*, y?"),
        (Selection(transform_names=()), "select: transform_name [] (an empty list selects nothing)"),
        (Selection(tags={"env": ("prod", "dev"), "team": ("ml",)}), "cancel"),
        (Selection(tags={"env": ("dev",), "team": ("web", "ops")}), "select: tag team=web, team=ops"),
        (Selection(tags={"none": ("x",)}), "select: tag none=x"),
        (Selection(tags={"env": ()}), "select: tag env [] (an empty list selects nothing)"),
        (Selection(tags={}), "select: tag [] (an empty list selects nothing)"),
        (Selection(statuses=(Status.STARTING,)), "select: status STARTING"),
        (Selection(statuses=()), "select: status [] (an empty list selects nothing)"),
        (Selection(task_types=("FIND_MATCHES", "EVALUATION")), "cancel"),
        (Selection(task_types=("EVALUATION",)), "select: task_type EVALUATION"),
        (Selection(task_types=()), "select: task_type [] (an empty list selects nothing)"),
        (Selection(older_than=6 * HOUR), "cancel"),
        (Selection(older_than=7 * HOUR), "select: older_than 7h"),
        (Selection(newer_than=7 * HOUR), "cancel"),
        (Selection(newer_than=6 * HOUR + HOUR / 2), "select: newer_than 6h30m"),
        (Selection(older_than=HOUR, newer_than=8 * HOUR), "cancel"),
    ],
)
def test_each_kind_of_selection(selection: Selection, expected: str) -> None:
    assert rule(selection) == expected


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), "cancel"),  # a manifest's run that nobody has read: the service will say
        (Selection(transform_names=("*",)), "select: transform_name * (not known)"),
        (Selection(tags={"env": ("dev",)}), "select: tag env=dev (not known)"),
        (Selection(statuses=(Status.RUNNING,)), "select: status RUNNING (not known)"),
        (Selection(task_types=("EVALUATION",)), "select: task_type EVALUATION (not known)"),
        (Selection(older_than=HOUR), "select: older_than 1h (start not known)"),
        (Selection(newer_than=HOUR), "select: newer_than 1h (start not known)"),
    ],
)
def test_what_is_not_known_is_not_selected(selection: Selection, expected: str) -> None:
    assert rule(selection, run=TaskRun("tfm-1", "r-1"), of=BARE) == expected


@pytest.mark.parametrize("status", [status for status in Status if not status.active])
def test_a_run_that_is_not_active_is_not_selected(status: Status) -> None:
    assert rule(Selection(), run=replace(RUN, status=status)) == "select: status STARTING, RUNNING"


@pytest.mark.parametrize(
    ("protection", "expected"),
    [
        (Protection(transform_ids=("tfm-1",)), "protect: transform_id tfm-1"),
        (Protection(transform_ids=("tfm-*",)), "cancel"),
        (Protection(transforms=("x", "tfm-1")), "protect: transform tfm-1"),
        (Protection(transforms=("tfm-?",)), "protect: transform tfm-?"),
        (Protection(transforms=("dedupe-*",)), "protect: transform dedupe-*"),
        (Protection(transforms=("DEDUPE-*",)), "cancel"),
        (Protection(transform_names=("x", "*-people")), "protect: transform_name *-people"),
        (Protection(transform_names=("*-PEOPLE",)), "cancel"),
        (Protection(transform_names=("tfm-1",)), "cancel"),
        (Protection(tags={"x": ("y",), "env": ("prod", "dev")}), "protect: tag env=dev"),
        (Protection(tags={"env": ("prod",)}), "cancel"),
        (Protection(tags={"env": ()}), "cancel"),
        (Protection(tags={}), "cancel"),
    ],
)
def test_each_kind_of_protection(protection: Protection, expected: str) -> None:
    assert rule(Selection(), protection) == expected


@pytest.mark.parametrize("protection", [Protection(transforms=("a[1]",)), Protection(transform_names=("a[1]",))])
def test_a_literal_name_with_wildcards_in_it_is_protected(protection: Protection) -> None:
    assert rule(Selection(), protection, of=replace(TRANSFORM, name="a[1]")).startswith("protect")
    assert rule(Selection(), protection, of=replace(TRANSFORM, name="a1")).startswith("protect")


@pytest.mark.parametrize(
    ("protection", "expected"),
    [
        (Protection(transform_ids=("tfm-2",)), "cancel"),
        (Protection(transforms=("tfm-2",)), "protect: transform_name not known (tfm-2)"),
        (Protection(transform_names=("a*", "b*")), "protect: transform_name not known (a*, b*)"),
        (Protection(tags={"env": ("prod",)}), "protect: tags not known (env=prod)"),
        (Protection(tags={"env": ()}), "cancel"),
    ],
)
def test_what_cannot_be_shown_unprotected_is_protected(protection: Protection, expected: str) -> None:
    assert rule(Selection(), protection, of=BARE) == expected


def test_not_selected_is_said_before_a_protection_that_is_only_possible() -> None:
    protection = Protection(tags={"env": ("prod",)})
    assert rule(Selection(transform_ids=("x",)), protection, of=BARE) == "select: transform_id x"


def test_protection_is_named_before_selection() -> None:
    assert rule(Selection(transform_ids=()), Protection(transform_ids=("tfm-1",))) == "protect: transform_id tfm-1"


def test_wrong_selections_are_refused() -> None:
    with pytest.raises(UsageError, match="status STOPPED cannot be cancelled; choose from STARTING, RUNNING"):
        Selection(statuses=(Status.RUNNING, Status.STOPPED))
    with pytest.raises(UsageError, match="no run is older than 6h and newer than 2h"):
        Selection(older_than=6 * HOUR, newer_than=2 * HOUR)


def test_what_has_to_be_fetched() -> None:
    assert not (Selection().needs_names or Selection().needs_tags or Selection().needs_run)
    assert not (Protection(transform_ids=("x",)).needs_names or Protection(tags={}).needs_tags)
    assert Selection(transform_names=("x",)).needs_names
    assert Selection(tags={"a": ("b",)}).needs_tags
    for selection in (
        Selection(task_types=("x",)),
        Selection(older_than=HOUR),
        Selection(newer_than=HOUR),
        Selection(statuses=(Status.RUNNING,)),
    ):
        assert selection.needs_run
    assert Protection(transforms=("x",)).needs_names
    assert Protection(transform_names=("x",)).needs_names
    assert Protection(tags={"a": ("b",)}).needs_tags


# -- what holds for all -----------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["a", "b", "a*", "*", "tfm-1", "[ab]"])
TUPLES = st.lists(WORDS, max_size=3).map(tuple)
TAGS = st.dictionaries(st.sampled_from(["k", "l"]), TUPLES, max_size=2)
AGES = st.none() | st.integers(1, 48).map(lambda hours: hours * HOUR)
SELECTIONS = st.builds(
    Selection,
    transform_ids=st.none() | TUPLES,
    transform_names=st.none() | TUPLES,
    tags=st.none() | TAGS,
    statuses=st.lists(st.sampled_from([Status.STARTING, Status.RUNNING]), max_size=2).map(tuple),
    task_types=st.none() | TUPLES,
    older_than=AGES,
)
PROTECTIONS = st.builds(Protection, transforms=TUPLES, transform_ids=TUPLES, transform_names=TUPLES, tags=TAGS)
RUNS = st.builds(
    TaskRun,
    transform_id=WORDS,
    task_run_id=st.just("r"),
    status=st.none() | st.sampled_from(list(Status)),
    task_type=st.none() | WORDS,
    started_on=st.none() | st.integers(-5, 60).map(lambda hours: NOW - hours * HOUR),
)
TRANSFORMS = st.builds(
    Transform,
    transform_id=WORDS,
    name=st.none() | WORDS,
    tags=st.none() | st.dictionaries(st.sampled_from(["k", "l"]), WORDS, max_size=2),
)


@given(RUNS, TRANSFORMS, SELECTIONS, PROTECTIONS, PROTECTIONS)
def test_more_protection_never_cancels_more(
    run: TaskRun, transform: Transform, selection: Selection, protection: Protection, more: Protection
) -> None:
    both = Protection(
        transforms=protection.transforms + more.transforms,
        transform_ids=protection.transform_ids + more.transform_ids,
        transform_names=protection.transform_names + more.transform_names,
        tags={
            key: (protection.tags or {}).get(key, ()) + (more.tags or {}).get(key, ())
            for key in {*(protection.tags or {}), *(more.tags or {})}
        },
    )
    if decide(run, transform, selection, both, NOW).cancel:
        assert decide(run, transform, selection, protection, NOW).cancel


@given(RUNS, TRANSFORMS, SELECTIONS, PROTECTIONS, st.sampled_from(["name", "tags"]))
def test_knowing_less_never_cancels_more(
    run: TaskRun, transform: Transform, selection: Selection, protection: Protection, forgotten: str
) -> None:
    less = replace(transform, **{forgotten: None})  # type: ignore[arg-type]
    if decide(run, less, selection, protection, NOW).cancel:
        assert decide(run, transform, selection, protection, NOW).cancel
        assert not (forgotten == "name" and (selection.needs_names or protection.needs_names))
        assert not (forgotten == "tags" and (selection.needs_tags or protection.needs_tags))


@given(RUNS, TRANSFORMS, SELECTIONS)
def test_an_empty_list_of_any_kind_selects_nothing(run: TaskRun, transform: Transform, selection: Selection) -> None:
    for field in fields(Selection):
        if field.name not in ("older_than", "newer_than"):
            empty = replace(selection, **{field.name: {} if field.name == "tags" else ()})  # type: ignore[arg-type]
            assert not decide(run, transform, empty, Protection(), NOW).cancel


@given(RUNS, TRANSFORMS, st.integers(1, 48))
def test_a_run_is_either_older_or_newer(run: TaskRun, transform: Transform, hours: int) -> None:
    older = decide(run, transform, Selection(older_than=hours * HOUR), Protection(), NOW).cancel
    newer = decide(run, transform, Selection(newer_than=hours * HOUR), Protection(), NOW).cancel
    cancellable = decide(run, transform, Selection(), Protection(), NOW).cancel
    assert older + newer == (cancellable and run.started_on is not None)


# -- guardrails -------------------------------------------------------------------------------------------------------


def test_protection_that_spares_no_run_is_named_and_what_spares_some_is_not() -> None:
    protection = Protection(
        transforms=("crtical-*", "dedupe-*"),
        transform_ids=("tfm-9",),
        transform_names=("prod-*",),
        tags={"env": ("prod", "dev"), "keep": ("yes",)},
    )
    rules = [
        rule(Selection(), protection),
        rule(Selection(), Protection(tags=protection.tags)),
        rule(Selection(transform_ids=())),
    ]
    assert rules[:2] == ["protect: transform dedupe-*", "protect: tag env=dev"]
    assert protection.sparing_none(rules) == (
        "transform_id tfm-9, transform crtical-*, transform_name prod-* and 2 more"
    )
    assert Protection(transforms=("dedupe-*",)).sparing_none(rules) is None
    assert Protection().sparing_none([]) is None


def test_what_could_not_be_read_may_have_been_what_is_protected() -> None:
    for protection in (Protection(transform_names=("prod-*",)), Protection(tags={"keep": ("yes",)})):
        unknown = rule(Selection(), protection, of=BARE)
        assert "not known" in unknown
        assert protection.sparing_none([unknown]) is None
        assert protection.sparing_none(["select: older_than 6h"]) is not None


def test_max_runs() -> None:
    assert max_runs_refusal(5, 5) is None
    assert max_runs_refusal(0, 0) is None
    assert max_runs_refusal(5, 1234) == ("1,234 runs would be cancelled, and max-runs allows 5: nothing was cancelled")


def test_max_percent() -> None:
    assert max_percent_refusal(80, 8, 10) is None
    assert max_percent_refusal(80, 0, 0) is None
    assert max_percent_refusal(33.3, 333, 1000) is None
    assert max_percent_refusal(80, 9, 10) == (
        "9 of 10 active runs would be cancelled, and max-percent allows 80 %: nothing was cancelled"
    )


def test_max_errors() -> None:
    assert [past_max_errors(errors, 100, count=2, percent=None) for errors in (2, 3)] == [False, True]
    assert [past_max_errors(errors, 100, count=None, percent=29) for errors in (29, 30)] == [False, True]
    assert [past_max_errors(errors, 30, count=None, percent=5.0) for errors in (1, 2)] == [False, True]
    assert past_max_errors(1, 100, count=None, percent=0.0)
    assert past_max_errors(1, 100, count=0, percent=None)


@given(st.floats(0, 100, exclude_min=True), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_hundred_percent_never_refuses_and_less_never_allows_more(percent: float, some: int, others: int) -> None:
    assert max_percent_refusal(100, some, some + others) is None
    if max_percent_refusal(percent, some, some + others) is None:
        assert some <= percent / 100 * (some + others) * (1 + 1e-9)


def test_decisions_compare() -> None:
    assert decide(RUN, TRANSFORM, Selection(), Protection(), NOW) == Decision(cancel=True)
