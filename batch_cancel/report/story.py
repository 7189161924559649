"""What a report says first, in plain words: is all stopped, what went wrong, and what to do next."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from batch_cancel.core.outcome import Outcome
from batch_cancel.report.document import Document

MEANING = {
    Outcome.FAILED: "known to be still running: every attempt was used up",
    Outcome.UNKNOWN: "an answer was lost, and no reading could tell what became of it",
    Outcome.STUCK_STOPPING: "Glue accepted, but its end was not seen in time",
    Outcome.DENIED: "access denied",
    Outcome.INVALID: "Glue refused the request as invalid; not known to have ended",
    Outcome.NOT_FOUND: "Glue knows no such transform or run",
    Outcome.NOT_ATTEMPTED: "no request was sent",
    Outcome.STOPPING: "Glue accepted; its end was not seen yet",
    Outcome.WOULD_CANCEL: "dry run: it would have been cancelled",
    Outcome.STOPPED: "we asked, and it was then seen STOPPED",
    Outcome.FINISHED_FIRST: "ended by itself although we asked",
    Outcome.ALREADY_FINISHED: "had ended before we asked",
    Outcome.EXCLUDED: "left alone by a rule of selection or protection",
}
"""Each outcome in a few words (the contract's table)."""

MAY_RUN = (
    Outcome.FAILED,
    Outcome.UNKNOWN,
    Outcome.STUCK_STOPPING,
    Outcome.DENIED,
    Outcome.INVALID,
    Outcome.NOT_ATTEMPTED,
    Outcome.STOPPING,
)
"""Outcomes whose runs are, or may be, still running although they were to be cancelled."""

_RESUMED = (
    Outcome.FAILED,
    Outcome.UNKNOWN,
    Outcome.STUCK_STOPPING,
    Outcome.DENIED,
    Outcome.NOT_ATTEMPTED,
)
"""Outcomes that ``resume`` takes up again."""

_CAUSES = {
    "interrupted": "it was interrupted",
    "deadline": "its deadline came",
    "max_errors": "more errors than max-errors allows",
    "credentials": "credentials were missing, expired or not let in",
    "guardrail": "a guardrail refused",
}


class Level(StrEnum):
    """How a headline is to be taken."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Headline:
    """The first sentence of every report."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that went wrong: where, what, and the service's words (text from outside)."""

    place: str
    what: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do next; ``command`` is to be typed."""

    text: str
    command: str | None = None


def headline(document: Document) -> Headline:
    """Whether all is stopped, in a sentence or two."""
    facts, outcomes = document.facts, document.whole.outcomes
    if facts.get("mode") == "dry-run":
        return _dry_run_headline(document)
    open_runs = sum(outcomes[outcome] for outcome in MAY_RUN)
    wanted = outcomes.total() - outcomes[Outcome.EXCLUDED]
    left = f"{open_runs:,} of {runs(wanted)} {_be(open_runs)}, or may be, still running."
    if facts.get("finished_at") is None or facts.get("stop_cause") or facts.get("refusal"):
        return _early_headline(document, left)
    if open_runs and open_runs == outcomes[Outcome.STOPPING]:
        return Headline(Level.WARN, f"Accepted, not yet seen stopped: {left}")
    if open_runs:
        return Headline(Level.BAD, f"Not all is stopped: {left}")
    if unread := _unread_targets(document):
        what = "1 target is" if unread == 1 else f"{unread:,} targets are"
        return Headline(Level.BAD, f"Not complete: {what} in trouble, so what still runs there is not known.")
    return _clear_headline(document, wanted)


def _early_headline(document: Document, left: str) -> Headline:
    facts = document.facts
    cause = facts.get("stop_cause")
    if facts.get("finished_at") is None:
        return Headline(Level.BAD, f"Unfinished: the sweep is still at work, or was killed. {left}")
    if facts.get("refusal") or cause == "guardrail":
        why = sentence(str(facts.get("refusal") or "a guardrail refused"))
        return Headline(Level.BAD, f"Refused, and so nothing was cancelled. {why}")
    return Headline(Level.BAD, f"Stopped early: {_CAUSES.get(str(cause), cause)}. {left}")


def _dry_run_headline(document: Document) -> Headline:
    facts, outcomes = document.facts, document.whole.outcomes
    text = f"Dry run: {runs(outcomes[Outcome.WOULD_CANCEL])} would be cancelled; nothing was."
    if facts.get("finished_at") is None:
        return Headline(Level.BAD, f"{text} It is unfinished: still at work, or killed.")
    if facts.get("refusal"):
        return Headline(Level.WARN, f"{text} A guardrail would refuse: {sentence(str(facts['refusal']))}")
    if not document.complete:
        return Headline(Level.BAD, f"{text} It is not complete: there may be more.")
    return Headline(Level.GOOD, text)


def _clear_headline(document: Document, wanted: int) -> Headline:
    not_found = document.whole.outcomes[Outcome.NOT_FOUND]
    rejected = document.reader.rejected_count()
    if not_found and document.facts.get("exit_code") != 0:
        return Headline(Level.WARN, f"Nothing is known to be still running, but Glue does not know {runs(not_found)}.")
    if rejected:
        rows = "1 row of the manifest was" if rejected == 1 else f"{rejected:,} rows of the manifest were"
        return Headline(Level.WARN, f"Nothing that could be asked for is still running, but {rows} left out.")
    if not wanted:
        return Headline(Level.GOOD, "Nothing to do: no run that was to be cancelled was found.")
    return Headline(Level.GOOD, "All stopped: nothing that was asked for is still running.")


def troubles(document: Document) -> Iterator[Trouble]:
    """What went wrong, the most pressing first: targets that were not read, then runs by cause."""
    for row in document.targets.values():
        if row.error_code is not None or not row.complete:
            what = "in trouble" if row.listed else "not read to the end"
            yield Trouble(place(document, row.id), what, _words(row.error_code, row.error_message))
    for cause in document.causes:
        words = _words(cause.error_code, cause.message)
        yield Trouble(place(document, cause.target_id), f"{cause.runs:,} {cause.outcome}", words)
    for account in document.left_out:
        yield Trouble(str(account.get("account_id")), "left out", _words(account.get("code"), account.get("message")))
    came_back = sum(count for number, count in document.sweeps.items() if number > 1)
    if came_back:
        yield Trouble("later sweeps", f"{runs(came_back)} came back, or started meanwhile", None)


def source_in_words(document: Document) -> str | None:
    """Where the runs came from."""
    source = document.facts.get("source")
    if not isinstance(source, dict):
        return None
    words = str(source.get("kind"))
    if source.get("path") is not None:
        words += " from standard input" if source["path"] == "-" else f" {source['path']}"
    if isinstance(source.get("rows"), int):
        words += f", {counted(source['rows'], 'row')}"
    return words


def next_steps(document: Document, directory: Path) -> Iterator[Step]:
    """What to do about what is left."""
    facts, outcomes = document.facts, document.whole.outcomes
    report = shlex.quote(str(directory / "report.json"))
    if facts.get("mode") == "dry-run":
        yield from _after_a_dry_run(document, report)
        return
    if facts.get("refusal") or facts.get("stop_cause") == "guardrail":
        yield Step("If this many is right, raise the guardrail and run again.")
        return
    if facts.get("stop_cause") == "credentials":
        yield Step("Renew the credentials first.")
    if outcomes[Outcome.DENIED]:
        yield Step("Give the identity the right to cancel; the policy that it needs:", "batch-cancel iam-policy")
    left = facts.get("finished_at") is None or facts.get("stop_cause") or any(outcomes[kind] for kind in _RESUMED)
    if left and not facts.get("merged"):
        yield Step("Go on with what is left:", f"batch-cancel resume {shlex.quote(str(directory))}")
    elif left or outcomes[Outcome.STOPPING]:
        yield Step("Ask again, and wait for the end:", f"batch-cancel run --manifest {report}")
    if outcomes[Outcome.INVALID] or outcomes[Outcome.NOT_FOUND]:
        yield Step("Check the ids, accounts and regions of runs that are invalid or not found.")
    if _unread_targets(document):
        yield Step("Mend what keeps targets from being read, and sweep them again.")


def _after_a_dry_run(document: Document, report: str) -> Iterator[Step]:
    if document.facts.get("refusal"):
        yield Step("If this many is right, raise the guardrail first.")
    if document.whole.outcomes[Outcome.WOULD_CANCEL]:
        yield Step("Cancel these runs and no others:", f"batch-cancel run --manifest {report}")


def facts_in_words(document: Document) -> Iterator[str]:
    """Time, calls and cost, each in a sentence; only what is known."""
    yield from calls_in_words(document)
    seconds = document.seconds_to_stop
    if seconds:
        half, most = seconds[len(seconds) // 2], seconds[min(len(seconds) - 1, len(seconds) * 95 // 100)]
        yield f"From request to the reading that showed STOPPED: half within {half:.1f} s, 95 % within {most:.1f} s."
    yield from cost_in_words(document)


def calls_in_words(document: Document) -> Iterator[str]:
    """What was asked of the service; nothing where nothing was."""
    totals = document.reader.call_totals().values()
    calls, throttled, retries = (sum(total[at] for total in totals) for at in range(3))
    if calls:
        yield f"{calls:,} calls to the service: {throttled:,} throttled, {retries:,} tried again."


def cost_in_words(document: Document) -> Iterator[str]:
    """The estimate, with all that it does not know."""
    estimated, at_most = document.whole.estimated, document.whole.at_most
    if estimated.total is not None:
        text = f"Estimated {estimated.total:,.1f} DPU-hours used so far"
        if estimated.unknown:
            text += f" by {estimated.known:,} of {runs(estimated.known + estimated.unknown)} (the rest is not known)"
        cost = document.estimated_cost()
        if cost is not None:
            text += (
                f"; estimated {cost['amount']:,.2f} {cost['currency']}"
                f" at {cost['price_per_dpu_hour']:g} a DPU-hour ({cost['source']})"
            )
        yield text + "."
    if at_most.total is not None:
        yield f"At most {at_most.total:,.1f} DPU-hours, if every run had gone on until its time-out."


def place(document: Document, target_id: int) -> str:
    """A target's account and region."""
    row = document.targets[target_id]
    return f"{row.target.account_id or 'account not known'}/{row.target.region}"


def runs(count: int) -> str:
    """``1 run``, ``3,000 runs``."""
    return counted(count, "run")


def counted(count: int, noun: str) -> str:
    """``1 target``, ``200 targets``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def sentence(text: str) -> str:
    """Words as a sentence of their own."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _words(code: str | None, message: str | None) -> str | None:
    return ": ".join(word for word in (code, message) if word) or None


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _unread_targets(document: Document) -> int:
    return sum(not row.complete for row in document.targets.values())
