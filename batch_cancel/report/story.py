"""What a report says first, in plain words: is all stopped, and what went wrong."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from batch_cancel.core.error_codes import KIND_BY_CODE
from batch_cancel.core.errors import ENTERING, REGION_NOT_ENABLED, ErrorKind, Guardrail
from batch_cancel.core.outcome import Outcome, words_of
from batch_cancel.core.wording import counted
from batch_cancel.ledger.reader import TargetRow
from batch_cancel.report.document import Document

MEANING = {
    Outcome.FAILED: "known to be still running: every attempt was used up",
    Outcome.UNKNOWN: "a request may have reached Glue, and no reading told what became of the run",
    Outcome.STUCK_STOPPING: "Glue accepted, but its end was not seen in time",
    Outcome.DENIED: "access denied",
    Outcome.INVALID: "Glue refused the request as invalid; not known to have ended",
    Outcome.NOT_FOUND: "Glue knows no such transform or run",
    Outcome.NOT_ATTEMPTED: "no request was carried out",
    Outcome.STOPPING: "Glue accepted; its end was not seen yet",
    Outcome.WOULD_CANCEL: "dry run: it would have been cancelled",
    Outcome.STOPPED: "we asked, and it was then seen STOPPED",
    Outcome.FINISHED_FIRST: "ended by itself although we asked",
    Outcome.ALREADY_FINISHED: "had ended before we asked",
    Outcome.EXCLUDED: "left alone by a rule of selection or protection",
}
"""Each outcome in a few words (the contract's table)."""

_UNDER_WAY = {
    Outcome.UNKNOWN: "a request is being made, or what came of it is being read",
    Outcome.NOT_ATTEMPTED: "no request was made yet",
}
"""The same while the sweep is at work: these runs have their turn, or it is still to come."""

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

_CAUSES = {
    "interrupted": "it was interrupted",
    "deadline": "its deadline came",
    "max_errors": "more errors than max-errors allows",
    "credentials": "credentials were missing, expired or not let in",
    "guardrail": "a guardrail refused",
}

_NO_CREDENTIALS = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
        *("SSOTokenLoadError", "UnauthorizedSSOTokenError", "ProfileNotFound"),
    }
)
"""The words of the AWS libraries for credentials that are not there, or could not be had."""
_REGION_CODE = "OptInRequired"
"""The code of access that is denied because the region is not enabled."""

UNREACHED = frozenset({"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError"})
"""Their words for an endpoint that there was no talking to."""
NOT_TRUSTED = frozenset({"SSLError"})
"""Their word for one that there was no talking to in private: mostly its certificate, or a proxy's in its place."""

_LINES_TOLD = 3
"""So many rows of a manifest that were left out are told with their reason."""
_LONGEST_REASON = 60
_PLACES_TOLD = 3
"""Of targets with the same trouble; the report's table of targets has them all."""


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
    """One thing that went wrong: where, what, and why (text from outside); of runs, their outcome."""

    place: str
    what: str
    detail: str | None
    outcome: Outcome | None = None


def meaning(document: Document, outcome: Outcome) -> str:
    """An outcome in a few words, as it is to be read in this report."""
    if outcome is Outcome.UNKNOWN and document.facts.get("mode") == "dry-run":
        return "it could not be read, so whether it is still running is not known"
    if document.at_work and outcome in _UNDER_WAY:
        return _UNDER_WAY[outcome]
    if outcome is Outcome.UNKNOWN and document.in_doubt:
        return "it is not known whether its request was sent; resume reads it back first"
    return MEANING[outcome]


def headline(document: Document) -> Headline:
    """Whether all is stopped, in a sentence or two."""
    facts, outcomes = document.facts, document.whole.outcomes
    if facts.get("mode") == "dry-run":
        return _dry_run_headline(document)
    open_runs = sum(outcomes[outcome] for outcome in MAY_RUN)
    wanted = outcomes.total() - outcomes[Outcome.EXCLUDED]
    left = f"{open_runs:,} of {runs(wanted)} {_be(open_runs)}, or may be, still running."
    if not open_runs:
        left = "No run that was found is still running."
    if facts.get("finished_at") is None or facts.get("stop_cause") or refusal(document):
        return _early_headline(document, left if wanted else "")
    if open_runs and open_runs == outcomes[Outcome.STOPPING] and not unread_targets(document):
        return Headline(Level.WARN, f"Accepted, not yet seen stopped: {left}")
    if open_runs:
        return Headline(Level.BAD, f"Not all is stopped: {left} {_more(document)}".rstrip() + _last_sweep(document))
    if unread_targets(document):
        return Headline(Level.BAD, f"Not complete: {_unread(document)}, so what still runs there is not known.")
    return _clear_headline(document, wanted)


def refusal(document: Document) -> str | None:
    """Why a guardrail or the user refused before anything was cancelled; without the words that nothing was."""
    facts = document.facts
    if not facts.get("refusal") and facts.get("stop_cause") != "guardrail":
        return None
    return re.sub(r"[:;] nothing was cancelled\.?$", "", str(facts.get("refusal") or "a guardrail refused"))


def not_confirmed(document: Document) -> bool:
    """Whether the user, asked, did not type the count."""
    return document.facts.get("refused_by") == Guardrail.QUESTION


def is_of_access(code: str | None) -> bool:
    """Whether an error code says that a permission is missing."""
    return code is not None and code != _REGION_CODE and KIND_BY_CODE.get(code) is ErrorKind.ACCESS


def is_of_credentials(code: str | None) -> bool:
    """Whether an error code says that the credentials are missing, expired or wrong."""
    return code is not None and (code in _NO_CREDENTIALS or KIND_BY_CODE.get(code) is ErrorKind.CREDENTIALS)


def is_of_region(row: TargetRow) -> bool:
    """Whether a target's region is not enabled, which is no matter of credentials, whatever its code says."""
    return row.error_code == _REGION_CODE or (row.error_message or "").startswith(REGION_NOT_ENABLED)


def is_of_role(row: TargetRow) -> bool:
    """Whether the role that leads into a target did not let us in."""
    return is_of_access(row.error_code) and (row.error_message or "").startswith(f"{ENTERING}:")


def codes(document: Document) -> set[str]:
    """The error codes of all that is in trouble; what a region's not being enabled is told by is left out."""
    found = {row.error_code for row in document.targets.values() if not is_of_region(row)}
    found |= {cause.error_code for cause in document.causes}
    return {code for code in found if code is not None}


def _early_headline(document: Document, left: str) -> Headline:
    facts = document.facts
    if facts.get("finished_at") is None:
        more = _more(document) if left else ""
        if document.at_work:
            return Headline(Level.WARN, " ".join(filter(None, ("The sweep is still at work.", left, more))))
        how = "a part of it is still at work, or was killed" if facts.get("merged") else "it was killed or cut short"
        told = (f"The sweep did not end: {how}.", left, more)
        return Headline(Level.BAD, " ".join(filter(None, told)))
    why = refusal(document)
    if why is not None and not document.asked:
        if not_confirmed(document):
            return Headline(Level.WARN, "Not confirmed: nothing was cancelled.")
        return Headline(Level.BAD, f"Refused: {why.rstrip('.')}. Nothing was cancelled.")
    cause = _CAUSES.get(str(facts.get("stop_cause")), str(facts.get("stop_cause")))
    if why is not None:
        cause = why.rstrip(".")
    elif facts.get("stop_cause") == "credentials":
        cause = _what_kept_us_out(codes(document)) or cause
    if left:
        left = f"{left} {_more(document)}"
    elif unread_targets(document):
        left = f"{sentence(_unread(document)).rstrip('.')}, so what still runs there is not known."
    return Headline(Level.BAD, f"Stopped early: {cause}. {left}".rstrip())


def _what_kept_us_out(found: set[str]) -> str | None:
    """The cause where it was no matter of credentials."""
    if any(map(is_of_access, found)) and not any(map(is_of_credentials, found)):
        return "access was denied"
    if found and found <= UNREACHED | NOT_TRUSTED:
        return "whose account it is could not be found out"
    return None


def _more(document: Document) -> str:
    """That the runs which were found need not be all; nothing where every listing came to its end."""
    unlisted = sum(not row.listed for row in document.targets.values())
    if not unlisted or not discovers(document):
        return ""
    of = f"{unlisted:,} of {counted(len(document.targets), 'target')}"
    return f"There may be more: {of} {'was' if unlisted == 1 else 'were'} not read to the end."


def discovers(document: Document) -> bool:
    """Whether the runs were to be found, rather than standing in a list."""
    source = document.facts.get("source")
    return isinstance(source, dict) and source.get("kind") == "discovery"


def _dry_run_headline(document: Document) -> Headline:
    facts, outcomes = document.facts, document.whole.outcomes
    found, unseen = outcomes.total(), outcomes[Outcome.NOT_ATTEMPTED] + outcomes[Outcome.UNKNOWN]
    if document.targets and found == unseen and all(row.error_code for row in document.targets.values()):
        of_whom = f" It is not known of any of {runs(unseen)} whether it would be cancelled." if unseen > 1 else ""
        return Headline(Level.BAD, f"Dry run: nothing could be looked at.{of_whom}")
    text = f"Dry run: {runs(outcomes[Outcome.WOULD_CANCEL])}{_where(document)} would be cancelled; nothing was."
    if facts.get("finished_at") is None:
        how = "the dry run is still at work" if document.at_work else "it was killed or cut short"
        return Headline(Level.BAD, f"{text} It is unfinished: {how}.")
    if why := refusal(document):
        return Headline(Level.WARN, f"{text} {sentence(f'a guardrail would refuse: {why}')}")
    if unseen:
        text += f" {unseen:,} of {runs(found)} {'was' if unseen == 1 else 'were'} not looked at: there may be more."
    if not document.complete:
        return Headline(Level.BAD, text if unseen else f"{text} It is not complete: there may be more.")
    return Headline(Level.GOOD, text)


def _where(document: Document) -> str:
    """Where the runs that would be cancelled are: a target by its name, of several how many and where most are."""
    count = document.whole.outcomes[Outcome.WOULD_CANCEL]
    parts = (
        document.by_target
        if count == 0
        else {target_id: part for target_id, part in document.by_target.items() if part.outcomes[Outcome.WOULD_CANCEL]}
    )
    if len(parts) <= 1:
        return "".join(f" in {place(document, target_id)}" for target_id in parts)
    rows = [document.targets[target_id].target for target_id in parts]
    accounts, regions = {row.account_id for row in rows}, {row.region for row in rows}
    told = [f"{counted(len(accounts), 'account')}, {counted(len(regions), 'region')}"]
    if count:
        most = max(parts, key=lambda target_id: parts[target_id].outcomes[Outcome.WOULD_CANCEL])
        told.append(f"most in {place(document, most)}: {parts[most].outcomes[Outcome.WOULD_CANCEL]:,}")
    return f" in {counted(len(parts), 'target')} ({'; '.join(told)})"


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
    if not document.asked:
        return Headline(Level.GOOD, "Nothing had to be stopped: no run that was named is still running.")
    told = "All stopped: nothing that was asked for is still running."
    return Headline(Level.GOOD, told + _last_sweep(document))


def _last_sweep(document: Document) -> str:
    """With what ``--until-clear`` ended: that all is stopped which was found does not say that nothing more came."""
    if not document.facts.get("clear"):
        return ""
    return f" The last of {counted(document.facts['sweeps'], 'sweep')} found nothing more to cancel."


def troubles(document: Document) -> Iterator[Trouble]:
    """What went wrong: rows that were never asked for, targets that were not read, then runs by cause."""
    yield from _rejected(document)
    untouched = refusal(document) is not None and not document.asked
    places: dict[tuple[str, str | None], list[str]] = {}
    for row in document.targets.values():
        if row.complete or (untouched and row.error_code is None):
            continue  # a refusal before they were read is no trouble of theirs
        what = "in trouble" if row.listed else "not read to the end"
        if row.error_code is None and (why := _CAUSES.get(str(document.facts.get("stop_cause")))):
            what += f": {why}"
        places.setdefault((what, _words(row.error_code, row.error_message)), []).append(place(document, row.id))
    # A region that no account has enabled would else be told so often that nothing was seen of what comes after it.
    for (what, why), there in places.items():
        more = f" and {len(there) - _PLACES_TOLD:,} more" if len(there) > _PLACES_TOLD else ""
        yield Trouble(f"{', '.join(there[:_PLACES_TOLD])}{more}", what, why)
    for cause in document.causes:
        if untouched and cause.outcome is Outcome.NOT_ATTEMPTED:
            continue  # that is what was wanted of a refusal
        words = _words(cause.error_code, cause.message)
        if words is None and document.at_work and cause.outcome in _UNDER_WAY:
            continue  # nor is this
        if words is None and cause.outcome is Outcome.UNKNOWN and document.in_doubt:
            words = meaning(document, cause.outcome)
        yield Trouble(
            place(document, cause.target_id), f"{cause.runs:,} {words_of(cause.outcome)}", words, cause.outcome
        )
    for account in document.left_out:
        yield Trouble(str(account.get("account_id")), "left out", _words(account.get("code"), account.get("message")))


def _rejected(document: Document) -> Iterator[Trouble]:
    count = document.reader.rejected_count()
    if not count:
        return
    reasons = []
    for row in islice(document.reader.rejected(), _LINES_TOLD):
        error = row.error if len(row.error) <= _LONGEST_REASON else row.error[: _LONGEST_REASON - 1] + "…"
        reasons.append(error if row.line is None else f"line {row.line}: {error}")
    if count > _LINES_TOLD:
        reasons.append("…")
    yield Trouble("manifest", f"{counted(count, 'row')} left out", "; ".join(reasons))


def sparing_none_in_words(document: Document) -> str | None:
    """That some of the protection matched nothing: who misspelt a name has to see it before it is too late."""
    idle = document.sparing_none
    return None if idle is None else f"Protection that spares no run: {idle}."


def came_back_title(document: Document) -> str:
    """What the runs of later sweeps are called: where none had its verdict before, none came back."""
    return "What came back" if document.active_again else "What started meanwhile"


def came_back_in_words(document: Document) -> str | None:
    """How many runs later sweeps of --until-clear found, and of which kind; None where there were none."""
    again, new = document.active_again, document.started_meanwhile
    if not again + new:
        return None
    parts = [
        f"{again:,} active again" if again else "",
        f"{new:,} started meanwhile" if new else "",
    ]
    return f"{runs(again + new)} found by later sweeps: {', '.join(filter(None, parts))}."


def how_it_came_back(run: Mapping[str, Any]) -> str:
    """In two words, for a run of a later sweep."""
    return "active again" if run["returns"] else "started meanwhile"


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


def facts_in_words(document: Document) -> Iterator[str]:
    """Time, calls and cost, each in a sentence; only what is known."""
    yield from calls_in_words(document)
    if document.seconds_to_stop:
        half, most = document.stopped_within(50), document.stopped_within(95)
        within = f"half within {lasting(half)}, 95 % within {lasting(most)}"
        yield f"From request to the reading that showed STOPPED: {within}."
        if document.paused:
            yield "Pauses before a resume, in which nobody looked, are part of these times."
    yield from cost_in_words(document)


def lasting(seconds: float) -> str:
    """A time as every figure of a report tells it: ``0.35 s``, ``3.5 s``, ``41 s``, ``6.87 min``."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.3g} min" if minutes < 120 else f"{minutes / 60:.3g} h"


def calls_in_words(document: Document) -> Iterator[str]:
    """What was asked of the service; nothing where nothing was."""
    calls, throttled, failed, retries = document.calls
    if calls:
        came_of_it = f"{throttled:,} throttled, {failed:,} failed, {retries:,} tried again"
        yield f"{counted(calls, 'call')} to the service: {came_of_it}."


def cost_in_words(document: Document) -> Iterator[str]:
    """The estimate for the runs that no rule left alone, with all that it does not know; and the others' beside it."""
    estimated, at_most = document.selected.estimated, document.selected.at_most
    others = document.whole.outcomes[Outcome.EXCLUDED]
    of_all = document.whole.estimated
    if estimated.total is not None:
        text = f"Estimated {estimated.total:,.1f} DPU-hours used so far"
        if others:
            text += ", without the runs that were left alone"
        if estimated.unknown:
            text += f" by {estimated.known:,} of {runs(estimated.known + estimated.unknown)} (the rest is not known)"
        cost = document.estimated_cost(document.selected)
        if cost is not None:
            text += (
                f"; estimated {cost['amount']:,.2f} {cost['currency']}"
                f" at {cost['price_per_dpu_hour']:g} a DPU-hour ({cost['source']})"
            )
        yield text + "."
    if at_most.total is not None:
        yield f"At most {at_most.total:,.1f} DPU-hours, if each of them had gone on until its time-out."
    if of_all.total is not None and of_all.known > estimated.known:
        besides = of_all.total - (estimated.total or 0.0)
        yield f"Estimated {besides:,.1f} DPU-hours used so far by the runs that were left alone."


def place(document: Document, target_id: int) -> str:
    """A target's account and region."""
    row = document.targets[target_id]
    return f"{row.target.account_id or 'account not known'}/{row.target.region}"


def runs(count: int) -> str:
    """``1 run``, ``3,000 runs``."""
    return counted(count, "run")


def sentence(text: str) -> str:
    """Words as a sentence of their own."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _words(code: str | None, message: str | None) -> str | None:
    return ": ".join(word for word in (code, message) if word) or None


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _unread(document: Document) -> str:
    """So many targets are in trouble; where nothing but a stop kept them from being read, that they were not."""
    rows = [row for row in document.targets.values() if not row.complete]
    if any(row.error_code is not None for row in rows):
        return f"{counted(len(rows), 'target')} {_be(len(rows))} in trouble"
    return f"{counted(len(rows), 'target')} {'was' if len(rows) == 1 else 'were'} not read to the end"


def unread_targets(document: Document) -> int:
    """How many targets were not read to their end, or have other trouble."""
    return sum(not row.complete for row in document.targets.values())
