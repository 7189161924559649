"""The document behind every report: ``report.json`` as the contract has it, made from a ledger at any instant.

A ledger may be unfinished (its process was killed, or is still at work): what is not there yet is null.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TextIO

from batch_cancel.core.cost import Tally, at_most_dpu_hours, estimated_dpu_hours, money
from batch_cancel.core.moment import moment_of, rfc3339
from batch_cancel.core.outcome import ACCEPTED, TROUBLE, TROUBLE_FIRST, Outcome
from batch_cancel.core.selection import Protection
from batch_cancel.core.task_run import Status, Transform
from batch_cancel.ledger.reader import CallTotals, LedgerReader, RunRow, TargetRow

SCHEMA = "batch-cancel/report/1"

RUN_FIELDS = (
    "account_id",
    "region",
    "transform_id",
    "transform_name",
    "task_run_id",
    "task_type",
    "started_on",
    "status_before",
    "outcome",
    "status_after",
    "rule",
    "attempts",
    "throttled",
    "error_code",
    "error_message",
    "request_id",
    "requested_at",
    "confirmed_at",
    "labels",
    "sweep_number",
    "glue_version",
    "estimated_dpu_hours",
    "at_most_dpu_hours",
    "stopped_after_seconds",
    "returns",
)
"""The fields of a run, in their order; those after ``labels`` are additions to the contract's."""

READING = "GetMLTaskRun"
"""How a message begins of what kept a run from being read (the verifier puts the operation first)."""

_ASKED = ACCEPTED | {Outcome.FAILED, Outcome.UNKNOWN, Outcome.DENIED}
"""Outcomes that need a request; the others can also come of reading alone."""
_SEEN_ENDED = frozenset({Outcome.STOPPED, Outcome.FINISHED_FIRST})
_ENDED_OR_GONE = frozenset({Outcome.ALREADY_FINISHED, Outcome.NOT_FOUND})
_MOST_CAUSES = 200
"""Error codes are few, but they are the service's words: so many different ones are told apart."""


@dataclass(slots=True)
class Cause:
    """Runs in trouble that have target, outcome and error code in common; ``message`` is the first one's."""

    target_id: int
    outcome: Outcome
    error_code: str | None
    message: str | None
    runs: int = 0


@dataclass(slots=True)
class Part:
    """What is summed up over a target's or a transform's runs, or over all."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    estimated: Tally = field(default_factory=Tally)
    at_most: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class TransformPart(Part):
    """A transform of known capacity."""

    transform_id: str = ""
    name: str | None = None
    target_id: int = 0


class Document:
    """One look at a ledger. Make it, and use it, inside the reader's ``snapshot()`` if the sweep may still be at work.

    Attributes:
        facts: what the sweep wrote about itself.
        settings: what it was told to do, as plain JSON; empty where that is not known.
        targets: the ledger's targets by their id.
        whole: sums over all runs; ``by_target`` over those of a target.
        selected: sums over the runs that no rule left alone; ``by_transform`` (those of known capacity) over a
            transform's. What the others use is not what this sweep is about.
        causes: why runs are in trouble, most pressing first.
        seconds_to_stop: of every stopped run, from our request to the reading that showed it, in ascending order.
        paused: whether some of these contain a pause between two processes, in which nobody looked.
        sweeps: how many runs each sweep of ``--until-clear`` found.
        active_again, started_meanwhile: of the runs that later sweeps found and did not leave alone, how many were
            known before, and how many were new.
        at_work: whether the sweep's process is known to go on just now; False where nobody has looked.
        in_doubt: how many runs a process that did not end has left with a request of which nobody knows whether it
            was sent; 0 once the sweep has ended.
    """

    def __init__(self, reader: LedgerReader) -> None:
        self.reader = reader
        self.facts = reader.facts()
        self.settings = settings_kept_in(self.facts)
        self.targets: dict[int, TargetRow] = {row.id: row for row in reader.targets()}
        self.whole = Part()
        self.selected = Part()
        self.by_target: dict[int, Part] = {target_id: Part() for target_id in self.targets}
        self.by_transform: dict[tuple[int, str], TransformPart] = {}
        self.causes: list[Cause] = []
        self.seconds_to_stop: array[float] = array("d")
        self.paused = False
        self.at_work = False
        self.sweeps: Counter[int] = Counter()
        self.active_again = self.started_meanwhile = 0
        self.in_doubt = reader.in_doubt() if self.facts.get("finished_at") is None else 0
        self._transforms: dict[tuple[int, str], tuple[Transform, float | None]] = {}
        self._as_of = moment_of(self.facts.get("finished_at")) or reader.last_call()
        self._survey()

    @property
    def complete(self) -> bool:
        """Whether the sweep ended by itself, saw all that it was to see, and left no run untried."""
        return (
            self.facts.get("finished_at") is not None
            and self.facts.get("stop_cause") is None
            and all(row.complete for row in self.targets.values())
            and not self.whole.outcomes[Outcome.NOT_ATTEMPTED]
        )

    @property
    def asked(self) -> bool:
        """Whether any cancel request may have been sent."""
        return any(self.whole.outcomes[outcome] for outcome in _ASKED)

    @property
    def calls(self) -> CallTotals:
        """The sums over the calls of all operations."""
        totals = self.reader.call_totals().values()
        return CallTotals(*map(sum, zip(*totals, strict=True))) if totals else CallTotals(0, 0, 0, 0)

    @property
    def digest(self) -> str | None:
        """The digest of the plan that was applied, or of the manifest, where there is one."""
        source = self.facts.get("source")
        digest = self.facts.get("digest") or (source.get("digest") if isinstance(source, dict) else None)
        return None if digest is None else str(digest)

    @property
    def left_out(self) -> list[dict[str, Any]]:
        """Accounts that were not swept on purpose, because they are closed or suspended: account_id, code, message."""
        return list(self.facts.get("left_out") or [])

    @property
    def left_alone(self) -> list[tuple[str, int]]:
        """Rules of selection and protection, and how many runs each left alone; the one with most comes first."""
        return [(rule or "no rule named", count) for rule, count in self.reader.excluded_by_rule()]

    @property
    def sparing_none(self) -> str | None:
        """Protection that spared no run of those that a dry run looked at; None where there is nothing to say of it.

        Of a plan there is not: what its protection spares was left out when it was made.
        """
        known, source = self.settings.get("protection"), self.facts.get("source")
        planned = isinstance(source, dict) and source.get("kind") == "plan"
        if planned or not isinstance(known, dict) or not self.whole.outcomes[Outcome.WOULD_CANCEL]:
            return None
        protection = Protection(
            transforms=known.get("transforms") or (),
            transform_ids=known.get("transform_ids") or (),
            transform_names=known.get("transform_names") or (),
            tags=known.get("tags"),
        )
        return protection.sparing_none([rule for rule, _ in self.reader.excluded_by_rule()])

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """How many runs have each outcome, trouble first; only those that occur."""
        return {outcome: self.whole.outcomes[outcome] for outcome in TROUBLE_FIRST if self.whole.outcomes[outcome]}

    def stopped_within(self, percent: int) -> float:
        """The seconds that the quickest ``percent`` (below 100) of the stopped runs took at most; there are some."""
        return self.seconds_to_stop[len(self.seconds_to_stop) * percent // 100]

    def summary(self) -> dict[str, Any]:
        """``report.json`` without its ``runs``: what ``--output json`` prints."""
        return self._head() | {"rejected": list(self.rejected())}

    def runs(self, *outcomes: Outcome) -> Iterator[dict[str, Any]]:
        """Every run, or those with one of these outcomes, as report.json has them; streamed."""
        for row in self.reader.runs(*outcomes):
            yield self.run(row)

    def came_back(self) -> Iterator[dict[str, Any]]:
        """Runs that later sweeps of ``--until-clear`` found and did not leave alone; streamed."""
        for row in self.reader.runs_of_later_sweeps():
            yield self.run(row)

    def rejected(self) -> Iterator[dict[str, Any]]:
        """Manifest rows that were left out; streamed."""
        for row in self.reader.rejected():
            yield {"line": row.line, "text": row.text, "error": row.error}

    def run(self, row: RunRow) -> dict[str, Any]:
        """A run's fields, in the order of :data:`RUN_FIELDS`."""
        estimated, at_most = self._cost(row)
        return {
            "account_id": row.account_id,
            "region": row.region,
            "transform_id": row.transform_id,
            "transform_name": row.transform_name,
            "task_run_id": row.task_run_id,
            "task_type": row.task_type,
            "started_on": rfc3339(row.started_on),
            "status_before": row.status_before,
            "outcome": str(row.outcome),
            "status_after": row.status_after,
            "rule": row.rule,
            "attempts": row.attempts,
            "throttled": row.throttled,
            "error_code": row.error_code,
            "error_message": row.error_message,
            "request_id": row.request_id,
            "requested_at": rfc3339(row.requested_at),
            "confirmed_at": rfc3339(row.confirmed_at),
            "labels": row.labels,
            "sweep_number": row.sweep_number,
            "glue_version": row.glue_version,
            "estimated_dpu_hours": estimated,
            "at_most_dpu_hours": at_most,
            "stopped_after_seconds": _stopped_after(row),
            "returns": row.returns,
        }

    def write_json(self, out: TextIO) -> None:
        """Write the whole of ``report.json``, a run a line, without ever holding all runs."""
        out.write("{\n")
        for key, value in self._head().items():
            out.write(f"  {json.dumps(key)}: ")
            if key == "rejected":
                _write_list(out, self.rejected())
            else:
                out.write(_json(value, indent=2).replace("\n", "\n  "))
            out.write(",\n")
        out.write('  "runs": ')
        _write_list(out, self.runs())
        out.write("\n}\n")

    def _head(self) -> dict[str, Any]:
        facts, by_operation, calls = self.facts, self.reader.call_totals(), self.calls
        rejected = self.reader.rejected_count()
        return {
            "schema": SCHEMA,
            "tool_version": facts.get("tool_version"),
            "sweep_id": facts.get("sweep_id"),
            "name": facts.get("name"),
            "reason": facts.get("reason"),
            "mode": facts.get("mode"),
            "started_at": facts.get("started_at"),
            "finished_at": facts.get("finished_at"),
            "complete": self.complete,
            "stop_cause": facts.get("stop_cause"),
            "exit_code": facts.get("exit_code"),
            "source": facts.get("source"),
            "targets": self.summary_of_targets(),
            "totals": {
                "runs": self.whole.outcomes.total(),
                "duplicates": facts.get("duplicates", 0),
                "rejected": rejected,
                "outcomes": {str(outcome): count for outcome, count in self.outcomes.items()},
                "api_calls": {operation: totals.calls for operation, totals in by_operation.items()},
                "throttled": calls.throttled,
                "failed": calls.failed,
                "retries": calls.retries,
                "estimated_dpu_hours": _rounded(self.whole.estimated.total),
                "estimated_cost": self.estimated_cost(self.whole),
                "at_most_dpu_hours": _rounded(self.whole.at_most.total),
                "selected": {
                    "runs": self.selected.outcomes.total(),
                    "estimated_dpu_hours": _rounded(self.selected.estimated.total),
                    "estimated_cost": self.estimated_cost(self.selected),
                    "at_most_dpu_hours": _rounded(self.selected.at_most.total),
                },
                "runs_without_estimate": self.whole.estimated.unknown,
            },
            "rejected": None,  # may be long: filled in, or written row by row, by whoever asks
            "sweeps": facts.get("sweeps", 1),
            "refusal": facts.get("refusal"),
            "refused_by": facts.get("refused_by"),
            "digest": self.digest,
            "left_out": self.left_out,
        }

    def estimated_cost(self, part: Part) -> dict[str, Any] | None:
        """What a part's estimated DPU-hours cost by the price in the settings; None without price or hours."""
        price = self.settings.get("cost")
        if not isinstance(price, dict):
            return None
        amount = money(part.estimated.total, price["price_per_dpu_hour"])
        if amount is None:
            return None
        return {
            "amount": round(amount, 2),
            "currency": price["currency"],
            "price_per_dpu_hour": price["price_per_dpu_hour"],
            "source": price["source"],
        }

    def summary_of_targets(self) -> list[dict[str, Any]]:
        """The report's ``targets``."""
        return [self._target(row) for row in self.targets.values()]

    def _target(self, row: TargetRow) -> dict[str, Any]:
        part = self.by_target[row.id]
        return {
            "account_id": row.target.account_id,
            "region": row.target.region,
            "identity_arn": row.identity_arn,
            "complete": row.complete,
            "transforms": row.transforms,
            "active_runs": row.active_runs,
            "error": None if row.error_code is None else {"code": row.error_code, "message": row.error_message},
            "outcomes": {str(outcome): part.outcomes[outcome] for outcome in TROUBLE_FIRST if part.outcomes[outcome]},
            "estimated_dpu_hours": _rounded(part.estimated.total),
            "at_most_dpu_hours": _rounded(part.at_most.total),
        }

    def _survey(self) -> None:
        """One pass over all runs for everything that is summed up."""
        causes: dict[tuple[int, Outcome, str | None], Cause] = {}
        to_stop = array("d")
        resumed_at = [moment for text in self.facts.get("resumed_at") or () if (moment := moment_of(text))]
        for row in self.reader.runs():
            estimated, at_most = self._cost(row)
            parts = [self.whole, self.by_target[row.target_id]]
            selected = row.outcome is not Outcome.EXCLUDED
            if selected:
                parts.append(self.selected)
            if selected and (at_most is not None or estimated is not None):
                transform = TransformPart(
                    transform_id=row.transform_id, name=row.transform_name, target_id=row.target_id
                )
                parts.append(self.by_transform.setdefault((row.target_id, row.transform_id), transform))
            for part in parts:
                part.outcomes[row.outcome] += 1
                part.estimated.add(estimated)
                part.at_most.add(at_most)
            self.sweeps[row.sweep_number] += 1
            if row.sweep_number > 1 and row.outcome is not Outcome.EXCLUDED:
                self.active_again += row.returns > 0
                self.started_meanwhile += row.returns == 0
            if (seconds := _stopped_after(row)) is not None:
                to_stop.append(seconds)
                self.paused = self.paused or _lies_between(resumed_at, row.requested_at, row.confirmed_at)
            if row.outcome in TROUBLE:
                explained = explains(row.outcome, row.error_message)
                code, message = (row.error_code, row.error_message) if explained else (None, None)
                key = (row.target_id, row.outcome, code)
                if key in causes or len(causes) < _MOST_CAUSES:
                    cause = Cause(row.target_id, row.outcome, code, message)
                    causes.setdefault(key, cause).runs += 1
        self.seconds_to_stop = array("d", sorted(to_stop))
        self.causes = sorted(causes.values(), key=lambda cause: (TROUBLE.index(cause.outcome), -cause.runs))

    def _cost(self, row: RunRow) -> tuple[float | None, float | None]:
        if row.max_capacity is None and row.worker_type is None:
            return None, None
        key = row.target_id, row.transform_id
        known = self._transforms.get(key)
        if known is None:
            transform = Transform(
                row.transform_id,
                max_capacity=row.max_capacity,
                worker_type=row.worker_type,
                number_of_workers=row.number_of_workers,
                timeout_minutes=row.timeout_minutes,
            )
            known = self._transforms[key] = transform, _rounded(at_most_dpu_hours(transform))
        transform, at_most = known
        estimated = estimated_dpu_hours(
            transform, row.execution_time_seconds, started_on=row.started_on, now=self._active_until(row)
        )
        return _rounded(estimated), None if row.outcome in _ENDED_OR_GONE else at_most

    def _active_until(self, row: RunRow) -> datetime | None:
        """The latest moment at which the run can be taken to have been active, or None where nobody can say."""
        if row.outcome in _SEEN_ENDED:
            return row.confirmed_at
        status = row.status_after or row.status_before
        if row.outcome in _ENDED_OR_GONE or status is None or Status(status).ended:
            return None
        if row.outcome is Outcome.UNKNOWN:
            return row.requested_at
        return self._as_of


def summary(reader: LedgerReader) -> dict[str, Any]:
    """``report.json`` without its ``runs``, from a ledger at any instant."""
    return Document(reader).summary()


def explains(outcome: str, error_message: str | None) -> bool:
    """Whether an error is a reason for the outcome: of an accepted run only one that kept it from being read is."""
    return outcome not in ACCEPTED or (error_message or "").startswith(READING)


def _stopped_after(row: RunRow) -> float | None:
    if row.outcome is not Outcome.STOPPED or row.confirmed_at is None or row.requested_at is None:
        return None
    return round(max(0.0, (row.confirmed_at - row.requested_at).total_seconds()), 3)


def _lies_between(moments: Sequence[datetime], begin: datetime | None, end: datetime | None) -> bool:
    """Whether one of the moments does."""
    return begin is not None and end is not None and any(begin < moment < end for moment in moments)


def settings_kept_in(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What ``settings.to_json`` wrote, read tolerantly: a report is made from any ledger."""
    text = facts.get("settings")
    try:
        settings = json.loads(text)["settings"] if isinstance(text, str) else None
    except (ValueError, KeyError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _rounded(dpu_hours: float | None) -> float | None:
    return None if dpu_hours is None else round(dpu_hours, 4)


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _write_list(out: TextIO, items: Iterator[dict[str, Any]]) -> None:
    separator = "[\n    "
    for item in items:
        out.write(separator + _json(item))
        separator = ",\n    "
    out.write("[]" if separator[0] == "[" else "\n  ]")
