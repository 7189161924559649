"""What to do next: steps that keep what the sweep was told, its protection, guardrails, role and profile included."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch_cancel.core.errors import Guardrail
from batch_cancel.core.outcome import Outcome
from batch_cancel.report.document import Document
from batch_cancel.report.story import (
    codes,
    is_of_access,
    is_of_credentials,
    not_confirmed,
    refusal,
)

_RESUMED = (
    Outcome.FAILED,
    Outcome.UNKNOWN,
    Outcome.STUCK_STOPPING,
    Outcome.DENIED,
    Outcome.NOT_ATTEMPTED,
)
"""Outcomes that ``resume`` takes up again."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do next; ``command`` is to be typed."""

    text: str
    command: str | None = None


def next_steps(document: Document, directory: Path) -> Iterator[Step]:
    """What to do about what is left. ``directory`` is the run directory, as commands name it."""
    facts, outcomes = document.facts, document.whole.outcomes
    if facts.get("finished_at") is not None and refusal(document) is not None and not document.asked:
        yield from _after_a_refusal(document)
        return
    if facts.get("mode") == "dry-run":
        yield from _after_a_dry_run(document)
        return
    yield from _let_in(document)
    unfinished = facts.get("finished_at") is None
    left = unfinished or facts.get("stop_cause") or any(outcomes[kind] for kind in _RESUMED)
    there = shlex.quote(str(directory))
    if unfinished and not outcomes.total() and not facts.get("merged"):
        yield Step("It ended before it had found its runs: start anew.", _again(document))
    elif left and not facts.get("merged"):
        yield Step("Go on with what is left:", f"batch-cancel resume {there}")
    elif left or (outcomes[Outcome.STOPPING] and facts.get("merged")):
        report = shlex.quote(str(directory / "report.json"))
        yield Step("Ask again, and wait for the end:", f"batch-cancel run --manifest {report}")
    elif outcomes[Outcome.STOPPING]:
        yield Step("See them end:", f"batch-cancel resume --wait {there}")
    if outcomes[Outcome.INVALID] or outcomes[Outcome.NOT_FOUND]:
        yield Step("Check the ids, accounts and regions of runs that are invalid or not found.")
    if _unread_for_other_reasons(document):
        yield Step("Mend what keeps targets from being read, and sweep them again.")


def _let_in(document: Document) -> Iterator[Step]:
    """Permission and credentials come first: nothing else helps without them."""
    found = codes(document)
    denied = bool(document.whole.outcomes[Outcome.DENIED]) or any(map(is_of_access, found))
    expired = any(map(is_of_credentials, found))
    if denied:
        policy = "batch-cancel iam-policy" + (" --audit" if document.facts.get("mode") == "dry-run" else "")
        yield Step("Give the identity the rights that it was denied; the policy that it needs:", policy)
    if expired:
        yield Step("Renew the credentials.")
    if document.facts.get("stop_cause") == "credentials" and not denied and not expired:
        yield Step("Check the credentials, and what they are allowed to do.")


def _unread_for_other_reasons(document: Document) -> bool:
    """Whether a target is incomplete for a reason that neither a right nor fresh credentials mend."""
    return any(
        not row.complete and not is_of_access(row.error_code) and not is_of_credentials(row.error_code)
        for row in document.targets.values()
    )


def _after_a_dry_run(document: Document) -> Iterator[Step]:
    """Never a command that drops what the dry run was told: what it spared would be cancelled."""
    yield from _let_in(document)
    typed = _typed(document)
    if document.facts.get("finished_at") is None:
        yield Step("It did not end: look again.", _again(document))
        return
    if not document.whole.outcomes[Outcome.WOULD_CANCEL]:
        return
    if typed[:2] == ["batch-cancel", "plan"]:
        if (plan := _value_of("--plan-out", typed)) is not None:
            yield Step("Cancel what the plan names, and nothing else:", shlex.join(["batch-cancel", "apply", plan]))
        return
    if typed[:2] == ["batch-cancel", "run"] and "--dry-run" in typed:
        without = [word for word in _without_out(typed) if word != "--dry-run"]
        yield Step(
            f"Cancel, after a last question: the same command without --dry-run{_from_stdin(typed)}:",
            shlex.join(without),
        )
        return
    yield Step("To cancel, run the same sweep without --dry-run.")


def _after_a_refusal(document: Document) -> Iterator[Step]:
    """What helps against this refusal. A guardrail that has spoken is never followed by a command that cancels."""
    by = document.facts.get("refused_by")
    if not_confirmed(document):
        again = _again(document)
        if again is None:
            yield Step("To cancel after all, run the same sweep again and type the count.")
        else:
            yield Step(f"To cancel after all, the same command again{_from_stdin(_typed(document))}:", again)
    elif by == Guardrail.MAX_RUNS:
        yield Step("If this many is right, raise --max-runs (guardrails: max_runs in a sweep file) and run again.")
    elif by == Guardrail.MAX_PERCENT:
        yield Step(
            "If this share is right, raise --max-percent (guardrails: max_percent in a sweep file) and run again."
        )
    elif by == Guardrail.CONFIRM_COUNT:
        outcomes = document.whole.outcomes
        count = outcomes[Outcome.WOULD_CANCEL] + outcomes[Outcome.NOT_ATTEMPTED]
        yield Step(
            f"The runs are not those that were counted. If these are right, run again with --confirm-count {count}."
        )
    elif by == Guardrail.ALLOW_ACCOUNTS:
        yield Step(
            "Use credentials of an allowed account, or allow this one:"
            " --allow-account (guardrails: allow_accounts in a sweep file)."
        )
    elif by == Guardrail.MEANT_ACCOUNT:
        source = document.facts.get("source")
        if isinstance(source, dict) and source.get("kind") == "plan":
            yield Step("Apply the plan with credentials of the account that it was made for, or make a new plan.")
        else:
            yield Step("Use the profile or role of the account that is named, or name the account that is meant.")
    elif by == Guardrail.PLAN:
        yield Step("Make a new plan, have it reviewed, and apply that one.")
    else:
        yield Step("Mend what the refusal names, and run again.")


def _again(document: Document) -> str | None:
    """The command as it was typed, for a new run directory; None where it is not known."""
    return shlex.join(_without_out(_typed(document))) or None


def _typed(document: Document) -> list[str]:
    command = document.facts.get("command")
    try:
        return shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return []


def _without_out(typed: Sequence[str]) -> Iterator[str]:
    """The words without ``--out DIR``: that directory holds a ledger now, and would be refused."""
    words = iter(typed)
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out="):
            yield word


def _value_of(option: str, typed: Sequence[str]) -> str | None:
    for at, word in enumerate(typed):
        if word == option and at + 1 < len(typed):
            return typed[at + 1]
        if word.startswith(option + "="):
            return word.removeprefix(option + "=")
    return None


def _from_stdin(typed: Sequence[str]) -> str:
    return ", with the manifest on standard input again" if _value_of("--manifest", typed) == "-" else ""
