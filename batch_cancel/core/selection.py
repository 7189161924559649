"""Which runs are cancelled and which are left alone: a run in, a decision with its rule out.

Kinds of rule are ANDed, the values of one kind ORed, tags with different keys ANDed. Protection always wins, and where
something that a rule asks about is not known, the run is left alone: it cannot be shown to be wanted, or unprotected.
None means "no such rule"; an empty list is a rule that nothing meets.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from fractions import Fraction

from batch_cancel.core.duration import format_duration
from batch_cancel.core.errors import UsageError
from batch_cancel.core.task_run import Status, TaskRun, Transform

ACTIVE_STATUSES = tuple(status for status in Status if status.active)
"""The statuses that a cancel request can still change; no other may be selected."""

_PROTECT = "protect: "
NOT_KNOWN = "not known"
"""Stands in each rule that left a run alone only because what it asks for could not be read; seldom in another, too."""
_NOT_KNOWN = (f"{_PROTECT}transform_name {NOT_KNOWN}", f"{_PROTECT}tags {NOT_KNOWN}")

SHOWN_VALUES = 3
"""So many values of a long list stand in a rule's text, which is repeated for every run that it leaves alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to cancel.

    Attributes:
        transform_ids: exact ids.
        transform_names: globs (``fnmatch``, case-sensitive).
        tags: for each key the values of which the transform must carry one.
        statuses: active ones only.
        task_types: Glue's words.
        older_than: the run started longer ago than this.
        newer_than: the run started no longer ago than this.

    Raises:
        UsageError: a status that is not active, or ages that exclude each other.
    """

    transform_ids: tuple[str, ...] | None = None
    transform_names: tuple[str, ...] | None = None
    tags: Mapping[str, tuple[str, ...]] | None = None
    statuses: tuple[Status, ...] = ACTIVE_STATUSES
    task_types: tuple[str, ...] | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None

    def __post_init__(self) -> None:
        """Judge what can be judged; that every attribute is of its type is asked where settings are checked."""
        statuses = self.statuses if isinstance(self.statuses, tuple) else ()
        for status in statuses:
            if isinstance(status, Status) and not status.active:
                raise UsageError(not_active(status))
        older, newer = self.older_than, self.newer_than
        if isinstance(older, timedelta) and isinstance(newer, timedelta) and older >= newer:
            raise UsageError(ages_exclude(older, newer))

    @property
    def needs_names(self) -> bool:
        """Whether the transform's name has a say. An empty list is decided without."""
        return bool(self.transform_names)

    @property
    def needs_tags(self) -> bool:
        """Whether the transform's tags have a say. An empty mapping is decided without."""
        return bool(self.tags)

    @property
    def needs_run(self) -> bool:
        """Whether more than the ids of a run has a say: a manifest's runs must be read before the decision."""
        return (
            self.task_types is not None
            or self.older_than is not None
            or self.newer_than is not None
            or not set(self.statuses).issuperset(ACTIVE_STATUSES)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What to leave alone, whatever is selected: any match protects.

    Attributes:
        transforms: exact ids, or globs that match an id or a name.
        transform_ids: exact ids alone.
        transform_names: globs of names alone.
        tags: for each key the values of which any one protects.
    """

    transforms: tuple[str, ...] = ()
    transform_ids: tuple[str, ...] = ()
    transform_names: tuple[str, ...] = ()
    tags: Mapping[str, tuple[str, ...]] | None = None

    @property
    def needs_names(self) -> bool:
        """Whether a transform can be shown to be unprotected only with its name."""
        return bool(self.transforms or self.transform_names)

    @property
    def needs_tags(self) -> bool:
        """Whether a transform can be shown to be unprotected only with its tags."""
        return any((self.tags or {}).values())

    def sparing_none(self, rules: Collection[str | None]) -> str | None:
        """Which of it spared no run, though it was asked for: a name that is misspelt protects nothing.

        None where all of it did, or where that cannot be told, because some names or tags could not be read.

        Args:
            rules: every rule that left a run alone.
        """
        if any(rule is not None and rule.startswith(_NOT_KNOWN) for rule in rules):
            return None
        asked = [
            *(f"transform_id {each}" for each in self.transform_ids),
            *(f"transform {each}" for each in self.transforms),
            *(f"transform_name {each}" for each in self.transform_names),
            *(f"tag {key}={value}" for key, values in (self.tags or {}).items() for value in values),
        ]
        idle = [each for each in asked if f"{_PROTECT}{each}" not in rules]
        return _listed(idle) if idle else None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of a run; ``rule`` names what left it alone and is None for a run to be cancelled."""

    cancel: bool
    rule: str | None = None


_CANCEL = Decision(cancel=True)


def decide(run: TaskRun, transform: Transform, selection: Selection, protection: Protection, now: datetime) -> Decision:
    """Decide about one run.

    A rule of selection is named before a protection that merely cannot be ruled out: whoever fetches names and tags
    only where they matter need not fetch them for a run that is not selected anyway.

    Args:
        run: fields that are not known are None.
        transform: the run's transform, as far as it is known.
        selection: what is asked for.
        protection: what is to be spared.
        now: an aware datetime, the moment at which ages are measured.
    """
    rule = (
        _protected_by(transform, protection)
        or _transform_left_out_by(transform, selection)
        or _run_left_out_by(run, selection, now)
        or _not_shown_unprotected(transform, protection)
    )
    return _CANCEL if rule is None else Decision(cancel=False, rule=rule)


def _protected_by(transform: Transform, protection: Protection) -> str | None:
    if transform.transform_id in protection.transform_ids:
        return f"{_PROTECT}transform_id {transform.transform_id}"
    for pattern in protection.transforms:
        if _meant(transform.transform_id, pattern) or _meant(transform.name, pattern):
            return f"{_PROTECT}transform {pattern}"
    for pattern in protection.transform_names:
        if _meant(transform.name, pattern):
            return f"{_PROTECT}transform_name {pattern}"
    for key, values in (protection.tags or {}).items():
        if transform.tags is not None and transform.tags.get(key) in values:
            return f"{_PROTECT}tag {key}={transform.tags[key]}"
    return None


def _meant(name: str | None, pattern: str) -> bool:
    """By a glob, or to the letter: what a name with wildcards in it is to protect is that name, too."""
    return name is not None and (name == pattern or fnmatchcase(name, pattern))


def _not_shown_unprotected(transform: Transform, protection: Protection) -> str | None:
    if protection.needs_names and transform.name is None:
        return f"{_NOT_KNOWN[0]} ({_listed((*protection.transforms, *protection.transform_names))})"
    if protection.needs_tags and transform.tags is None:
        pairs = [f"{key}={value}" for key, values in (protection.tags or {}).items() for value in values]
        return f"{_NOT_KNOWN[1]} ({_listed(pairs)})"
    return None


def _transform_left_out_by(transform: Transform, selection: Selection) -> str | None:
    ids, patterns = selection.transform_ids, selection.transform_names
    if ids is not None and transform.transform_id not in ids:
        return f"select: transform_id {_listed(ids)}"
    if patterns is not None and not any(
        transform.name is not None and fnmatchcase(transform.name, pattern) for pattern in patterns
    ):
        return f"select: transform_name {_listed(patterns)}{_unknown(bool(patterns) and transform.name is None)}"
    if selection.tags is not None and not selection.tags:
        return f"select: tag {_listed(())}"
    for key, values in (selection.tags or {}).items():
        if transform.tags is None or transform.tags.get(key) not in values:
            wanted = _listed([f"{key}={value}" for value in values]) if values else f"{key} {_listed(())}"
            return f"select: tag {wanted}{_unknown(bool(values) and transform.tags is None)}"
    return None


def _run_left_out_by(run: TaskRun, selection: Selection, now: datetime) -> str | None:
    statuses, task_types = selection.statuses, selection.task_types
    # A status that nobody has read yet may well be active, so it is left out only where not every active one will do.
    status_unread = run.status is None and set(statuses).issuperset(ACTIVE_STATUSES)
    if run.status not in statuses and not status_unread:
        return f"select: status {_listed(statuses)}{_unknown(bool(statuses) and run.status is None)}"
    if task_types is not None and run.task_type not in task_types:
        return f"select: task_type {_listed(task_types)}{_unknown(bool(task_types) and run.task_type is None)}"
    for name, limit in (("older_than", selection.older_than), ("newer_than", selection.newer_than)):
        if limit is None:
            continue
        if run.started_on is None:
            return f"select: {name} {format_duration(limit)} (start {NOT_KNOWN})"
        older = now - run.started_on > limit
        if older is not (name == "older_than"):
            return f"select: {name} {format_duration(limit)}"
    return None


def _unknown(unknown: bool) -> str:
    return f" ({NOT_KNOWN})" if unknown else ""


def _listed(values: Collection[str]) -> str:
    if not values:
        return "[] (an empty list selects nothing)"
    shown = ", ".join(list(values)[:SHOWN_VALUES])
    more = len(values) - SHOWN_VALUES
    return f"{shown} and {more} more" if more > 0 else shown


def not_active(status: Status) -> str:
    """The sentence for a status that cannot be selected."""
    return f"status {status} cannot be cancelled; choose from {', '.join(ACTIVE_STATUSES)}"


def ages_exclude(older_than: timedelta, newer_than: timedelta) -> str:
    """The sentence for two ages that no run can have at once."""
    return (
        f"no run is older than {format_duration(older_than)} and newer than {format_duration(newer_than)}: "
        "older-than must be the shorter of the two"
    )


def max_runs_refusal(max_runs: int, to_cancel: int, *, all_looked_at: bool = True) -> str | None:
    """The sentence with which ``max_runs`` refuses, or None if it does not mind.

    Args:
        all_looked_at: False where looking ended as soon as it was clear: of ``to_cancel`` some may have ended.
    """
    if to_cancel <= max_runs:
        return None
    up_to = "" if all_looked_at else "up to "
    return f"{up_to}{to_cancel:,} runs would be cancelled, and max-runs allows {max_runs:,}: nothing was cancelled"


def max_percent_refusal(max_percent: float, to_cancel: int, active: int) -> str | None:
    """The sentence with which ``max_percent`` refuses, or None if it does not mind.

    Args:
        max_percent: 0 to 100.
        to_cancel: how many runs would be cancelled.
        active: how many active runs were found, excluded ones among them.
    """
    if to_cancel <= _share(max_percent, active):
        return None
    return (
        f"{to_cancel:,} of {active:,} active runs would be cancelled, and max-percent allows {max_percent:g} %: "
        "nothing was cancelled"
    )


def past_max_errors(errors: int, to_cancel: int, *, count: int | None, percent: float | None) -> bool:
    """Whether so many errors are past ``max_errors``, which is a count or a share of the runs to be cancelled."""
    return errors > (_share(percent or 0.0, to_cancel) if count is None else count)


def _share(percent: float, of: int) -> Fraction:
    """Exact, by the number as it was written: 28 of 40 is 70 %, and no rounding may say otherwise."""
    return Fraction(repr(percent)) * of / 100
