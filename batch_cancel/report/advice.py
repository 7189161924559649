"""What to do next: steps that keep what the sweep was told, its protection, guardrails, role and profile included."""

import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch_cancel.core.errors import Guardrail
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.wording import counted
from batch_cancel.ledger.reader import TargetRow
from batch_cancel.report.document import Document
from batch_cancel.report.story import (
    NOT_TRUSTED,
    UNREACHED,
    codes,
    discovers,
    is_of_access,
    is_of_credentials,
    is_of_region,
    is_of_role,
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

_GETTING_IN = {
    "NoCredentialsError": (
        "There are no credentials. Log in (aws sso login, aws configure), name a profile (--profile, AWS_PROFILE), or"
        " set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    ),
    "PartialCredentialsError": "A part of the credentials is missing: give both the access key id and the secret key.",
    "ProfileNotFound": "Name a profile that the AWS config files have (--profile, AWS_PROFILE), or add this one.",
}
"""What helps where credentials were never there; any other kind of trouble with them wants new ones."""

_MOST_NAMED = 3
"""So many accounts or regions are told by name; of more, how many."""


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
    if document.at_work:
        return  # it goes on by itself, and its run directory is in use
    unfinished = facts.get("finished_at") is None
    left = unfinished or facts.get("stop_cause") or any(outcomes[kind] for kind in _RESUMED)
    there = shlex.quote(str(directory))
    if unfinished and not outcomes.total() and not facts.get("merged"):
        yield Step("It ended before it had found its runs: start anew.", _again(document))
    elif left and not facts.get("merged"):
        out_of_time = facts.get("stop_cause") == "deadline"  # which holds for whoever goes on, from then on
        for_how_long = ", for as long again unless --deadline says otherwise" if out_of_time else ""
        yield Step(f"Go on with what is left{for_how_long}:", f"batch-cancel resume {there}")
    elif left or (outcomes[Outcome.STOPPING] and facts.get("calls_are_sums")):  # of reports, which cannot be resumed
        report = shlex.quote(str(directory / "report.json"))
        yield Step("Ask again, and wait for the end:", f"batch-cancel run --manifest {report}")
    elif outcomes[Outcome.STOPPING] and facts.get("merged"):
        yield Step("See them end, in the run directory of each part:", "batch-cancel resume --wait PART_DIR")
    elif outcomes[Outcome.STOPPING]:
        yield Step("See them end:", f"batch-cancel resume --wait {there}")
    if outcomes[Outcome.INVALID] or outcomes[Outcome.NOT_FOUND]:
        yield Step("Check the ids, accounts and regions of runs that are invalid or not found.")
    yield from _sweep_again(document)


def _let_in(document: Document) -> Iterator[Step]:
    """A way there, permission and credentials come first: nothing else helps without them."""
    rows = document.targets.values()
    found = codes(document)
    if not_trusted := _in_vain(document, NOT_TRUSTED):
        yield Step(
            f"Check the certificate of the endpoint of {_named(map(_place, not_trusted), 'target')}. Where an authority"
            " of your own vouches for it, or a proxy stands between, name the file of the authority's certificates:"
            " AWS_CA_BUNDLE, or --ca-bundle of a new sweep."
        )
    if unreached := _in_vain(document, UNREACHED):
        yield Step(
            f"Check that {_named(map(_place, unreached), 'target')} can be reached: the endpoint (AWS_ENDPOINT_URL,"
            " --endpoint-url), the region, a proxy, the network."
        )
    closed = [row for row in rows if is_of_role(row)]
    denied = bool(document.whole.outcomes[Outcome.DENIED]) or any(
        is_of_access(code) for code in [cause.error_code for cause in document.causes]
    )
    inside = [row for row in rows if is_of_access(row.error_code) and not is_of_role(row) and not _is_of_units(row)]
    if denied or inside:
        policy = "batch-cancel iam-policy" + (" --audit" if document.facts.get("mode") == "dry-run" else "")
        yield Step(f"Give {_identity(inside)} the rights that it was denied; the policy that it needs:", policy)
    yield from _entering(document, closed)
    yield from _enabling([row for row in rows if is_of_region(row)])
    expired = set(filter(is_of_credentials, found))
    yield from (Step(words) for code, words in _GETTING_IN.items() if code in expired)
    if expired - _GETTING_IN.keys():
        yield Step("Renew the credentials.")
    told = not_trusted or unreached or expired or any(map(is_of_access, found))
    if document.facts.get("stop_cause") == "credentials" and not told:
        yield Step("Check the credentials, and what they are allowed to do.")


def _in_vain(document: Document, because: Collection[str]) -> list[TargetRow]:
    """The targets from which nothing ever came back, because of one of these errors of the way there."""
    in_vain = {cause.target_id for cause in document.causes if cause.error_code in because}
    in_vain |= {row.id for row in document.targets.values() if row.error_code in because}
    return [document.targets[target_id] for target_id in sorted(in_vain - document.reader.targets_that_answered())]


def _entering(document: Document, closed: Sequence[TargetRow]) -> Iterator[Step]:
    """What the caller needs for roles that did not let it in, and for looking up organizational units."""
    names = dict.fromkeys(_role_name(row) for row in closed)
    units = any(map(_is_of_units, document.targets.values()))
    flags = " --organization" if units or _names_units(document) else ""
    for name in names:
        accounts = _named([row.target.account_id for row in closed if _role_name(row) == name], "account")
        yield Step(
            f"Let the caller in: the trust policy of the role {name} in {accounts} has to name it (and the external"
            " id, where it asks for one), and the caller needs this policy:",
            shlex.join(["batch-cancel", "iam-policy", "--no-glue", "--assume-role", name]) + flags,
        )
    if units and not names:
        yield Step(
            "Let the caller look up the organization's units; the policy that it needs for that:",
            "batch-cancel iam-policy --no-glue --organization",
        )


def _enabling(rows: Sequence[TargetRow]) -> Iterator[Step]:
    for region in dict.fromkeys(row.target.region for row in rows):
        accounts = _named([row.target.account_id for row in rows if row.target.region == region], "account")
        yield Step(f"Enable the region {region} in {accounts}, or leave it out: name the regions to sweep.")


def _sweep_again(document: Document) -> Iterator[Step]:
    """For targets that something kept from being listed: ``resume`` looks after the runs that were found."""
    if not discovers(document) or document.facts.get("stop_cause") == "credentials":
        return  # where nobody was let in at all, resume begins there
    rows = [row for row in document.targets.values() if row.error_code is not None and not row.listed]
    if not rows:
        return
    mended = all(is_of_access(row.error_code) or is_of_credentials(row.error_code) for row in rows)
    again = None if document.facts.get("merged") else _again(document)
    first = "Then sweep" if mended else "Mend what keeps targets from being read, and sweep"
    yield Step(f"{first} again, for what runs in {_named(map(_place, rows), 'target')}{':' if again else '.'}", again)


def _identity(rows: Sequence[TargetRow]) -> str:
    """Whom a right is missing: the role by its name where it is one."""
    names = {_role_name(row) for row in rows if row.target.access.role_arn}
    if len(names) != 1 or not all(row.target.access.role_arn for row in rows):
        return "the identity"
    return f"the role {names.pop()} in {_named([row.target.account_id for row in rows], 'account')}"


def _role_name(row: TargetRow) -> str:
    return (row.target.access.role_arn or "").rpartition("/")[2] or "ROLE_NAME"


def _is_of_units(row: TargetRow) -> bool:
    """Whether an organizational unit could not be looked up, so that its accounts are not known."""
    return is_of_access(row.error_code) and "organizations:" in (row.error_message or "")


def _names_units(document: Document) -> bool:
    """Whether accounts were to be found by their organizational units."""
    targets = document.settings.get("targets") or ()
    return any(isinstance(target, dict) and target.get("organization_units") for target in targets)


def _place(row: TargetRow) -> str:
    return f"{row.target.account_id or 'account not known'}/{row.target.region}"


def _named(names: Iterable[str | None], noun: str) -> str:
    """Names while they are few, else how many there are."""
    known = list(dict.fromkeys(name or f"an {noun} that is not known" for name in names))
    if len(known) > _MOST_NAMED:
        return counted(len(known), noun)
    return " and ".join(filter(None, (", ".join(known[:-1]), known[-1])))


def _after_a_dry_run(document: Document) -> Iterator[Step]:
    """Never a command that drops what the dry run was told: what it spared would be cancelled."""
    yield from _let_in(document)
    typed = _typed(document)
    if document.at_work:
        return
    if document.facts.get("finished_at") is None:
        yield Step("It did not end: look again.", _again(document))
        return
    if not document.whole.outcomes[Outcome.WOULD_CANCEL]:
        return
    if document.settings.get("dry_run_only"):
        yield Step("This sweep file never cancels (dry_run: true): to cancel, run one that does not say so.")
        return
    if typed[:2] == ["batch-cancel", "plan"]:
        if (plan := _value_of("--plan-out", typed)) is not None:
            yield Step("Cancel what the plan names, and nothing else:", shlex.join(["batch-cancel", "apply", plan]))
        return
    if typed[:2] == ["batch-cancel", "apply"]:
        yield Step("Cancel what is left of the plan, and nothing else:", shlex.join(_without_dry_run(typed)))
    elif typed[:2] == ["batch-cancel", "run"] and "--dry-run" in typed:
        yield _for_real(document, _without_dry_run(typed))
    else:
        yield Step("To cancel, run the same sweep without --dry-run.")


def _for_real(document: Document, words: list[str]) -> Step:
    """The command of a dry run without its ``--dry-run``, and whether it asks."""
    consent = next((option for option in ("--yes", "--confirm-count") if _is_given(option, words)), None)
    asking = f"without a question, since it says {consent}" if consent else "after a last question"
    again = ""
    if _reads_stdin(document):
        again = ", with the manifest on standard input again"
        if consent is None:  # nobody can be asked where the list comes from
            asking = "if it is exactly so many runs"
            words = [*words, "--confirm-count", str(document.whole.outcomes[Outcome.WOULD_CANCEL])]
    return Step(f"Cancel, {asking}: the same command without --dry-run{again}:", shlex.join(words))


def _after_a_refusal(document: Document) -> Iterator[Step]:
    """What helps against this refusal. A guardrail that has spoken is never followed by a command that cancels."""
    by = document.facts.get("refused_by")
    if not_confirmed(document):
        again = _again(document)
        if again is None:
            yield Step("To cancel after all, run the same sweep again and type the count.")
        else:
            yield Step("To cancel after all, the same command again:", again)
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


def _without_dry_run(typed: Sequence[str]) -> list[str]:
    return [word for word in _without_out(typed) if word != "--dry-run"]


def _is_given(option: str, typed: Sequence[str]) -> bool:
    return option in typed or _value_of(option, typed) is not None


def _value_of(option: str, typed: Sequence[str]) -> str | None:
    for at, word in enumerate(typed):
        if word == option and at + 1 < len(typed):
            return typed[at + 1]
        if word.startswith(option + "="):
            return word.removeprefix(option + "=")
    return None


def _reads_stdin(document: Document) -> bool:
    source = document.facts.get("source")
    return isinstance(source, dict) and source.get("path") == "-"
