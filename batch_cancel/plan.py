"""A decision, saved for review: written by a dry run, sealed by a digest, good once and for a limited time.

The file is JSON for people and programs. Its digest covers every other key, so that what was reviewed is what is
applied: an edit, however small, is found out.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from batch_cancel.core.errors import Guardrail, GuardrailRefused, InputError, Problem, RecordLost, UsageError
from batch_cancel.core.moment import rfc3339
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Access, Target, TaskRun
from batch_cancel.glue.learned import state_file
from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.private_file import private, written_to
from batch_cancel.report.document import Document
from batch_cancel.settings import PlanSource, Settings, from_json

SCHEMA = "batch-cancel/plan/1"
EXPIRES_AFTER = timedelta(hours=24)
APPLIED_SUFFIX = ".applied"
DIGEST_IN_NAME = 12

_MAKE_ONE = "make one with `batch-cancel plan --plan-out`"

_RUN_KEYS = (
    "account_id",
    "region",
    "transform_id",
    "transform_name",
    "task_run_id",
    "task_type",
    "started_on",
    "status_before",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that was read: whole, unedited, and of a version that we know."""

    path: Path
    document: dict[str, Any]

    @property
    def digest(self) -> str:
        """What seals it."""
        return str(self.document["digest"])

    @property
    def plan_id(self) -> str:
        """The sweep id of the dry run that made it."""
        return str(self.document["plan_id"])

    @property
    def settings(self) -> Settings:
        """The settings that it was made with; as a source, the plan itself."""
        settings = from_json(json.dumps(self.document["settings"]))
        return settings_for_apply(settings, PlanSource(path=str(self.path), digest=self.digest))

    def runs(self) -> Iterator[tuple[Target, TaskRun]]:
        """What it would cancel. Their status is left open: it is read again before anything is asked."""
        targets = {(entry["account_id"], entry["region"]): _target(entry) for entry in self.document["targets"]}
        for entry in self.document["cancel"]:
            started_on = entry["started_on"]
            yield (
                targets[entry["account_id"], entry["region"]],
                TaskRun(
                    entry["transform_id"],
                    entry["task_run_id"],
                    task_type=entry["task_type"],
                    started_on=datetime.fromisoformat(started_on) if started_on else None,
                ),
            )

    def check_whole(self) -> None:
        """Look at everything that is going to be used.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: something is missing, or not what it should be.
        """
        if datetime.fromisoformat(self.document["expires_at"]).tzinfo is None:
            raise ValueError(self.document["expires_at"])
        for _, run in self.runs():
            if not (isinstance(run.transform_id, str) and isinstance(run.task_run_id, str)):
                raise TypeError(f"{run.transform_id!r}, {run.task_run_id!r}")

    def check_fresh(self, now: datetime) -> None:
        """Refuse what is too old.

        Raises:
            GuardrailRefused: it has expired.
        """
        expires_at = datetime.fromisoformat(self.document["expires_at"])
        if now >= expires_at:
            raise GuardrailRefused(
                f"the plan expired at {self.document['expires_at']}: make a new one with `batch-cancel plan`;"
                " nothing was cancelled",
                Guardrail.PLAN,
            )

    @property
    def names_no_account(self) -> bool:
        """Whether it does not know, of some runs, whose account they are in: STS did not answer when it was made."""
        return any(entry["account_id"] is None for entry in self.document["cancel"])

    def check_may_cancel(self) -> None:
        """Refuse what was made from a sweep file that is always a dry run.

        Raises:
            GuardrailRefused: it was.
        """
        if self.document.get("only_for_review"):
            raise GuardrailRefused(
                "the plan was made from a sweep file that says dry_run: true, and so is there to be read alone;"
                " nothing was cancelled",
                Guardrail.PLAN,
            )

    def check_unused(self) -> None:
        """Refuse what was applied before.

        Raises:
            GuardrailRefused: it was.
        """
        for mark in self._marks():
            with suppress(OSError):
                told = mark.read_text(encoding="utf-8").strip() or "just now"
                raise GuardrailRefused(
                    f"the plan was applied before ({told}); if that was cut short, `batch-cancel resume` goes on with"
                    " it; nothing was cancelled",
                    Guardrail.PLAN,
                )

    def use_up(self, directory: Path, now: datetime) -> None:
        """Mark it as applied, before anything is cancelled.

        A mark of the same run directory is this sweep's own: a process died behind it, and before its ledger knew.

        Raises:
            GuardrailRefused: another process was quicker.
            RecordLost: no mark can be written, neither beside the plan nor in the user's state directory.
        """
        place = f"{directory.resolve()}\n"
        told = f"at {rfc3339(now)} in {place}"
        marked = 0
        for mark in self._marks():
            try:
                mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _make(mark, told)
            except FileExistsError:
                if _text(mark).partition(" in ")[2] == place:
                    marked += 1
                    continue
                self.check_unused()
                raise GuardrailRefused("the plan was applied before; nothing was cancelled", Guardrail.PLAN) from None
            except OSError:
                continue  # a read-only place; the other mark serves
            marked += 1
        if not marked:
            raise RecordLost(
                f"the plan cannot be marked as applied, neither beside {self.path} nor in {state_file().parent}:"
                " make one of them writable; nothing was cancelled"
            )

    def _marks(self) -> tuple[Path, Path]:
        """Beside the plan, for who looks there; and by its digest, for who made a copy of it."""
        digest = self.digest.removeprefix("sha256:")
        # By its digest too: the next plan may be saved under the same name.
        beside = self.path.with_name(f"{self.path.name}.{digest[:DIGEST_IN_NAME]}{APPLIED_SUFFIX}")
        return beside, state_file().parent / "applied-plans" / digest


def _make(mark: Path, text: str) -> None:
    """Make a mark, private to the user, with its text in one stroke: an empty one would refuse its own sweep's resume.

    Raises:
        FileExistsError: there is one.
        OSError: none can be made.
    """
    handle, name = tempfile.mkstemp(prefix=".applied-", dir=mark.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        try:
            os.link(name, mark)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: a mark in two strokes rather than none
            with open(mark, "x", encoding="utf-8", opener=private) as file:
                file.write(text)
    finally:
        Path(name).unlink(missing_ok=True)


def _text(path: Path) -> str:
    """What stands in a file; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def settings_for_apply(settings: Settings, source: PlanSource) -> Settings:
    """The plan's settings as they are applied: its share of the active runs was judged when all of them were known."""
    return replace(settings, source=source, dry_run=False, guardrails=replace(settings.guardrails, max_percent=None))


def write_plan(
    reader: LedgerReader,
    path: Path,
    *,
    now: datetime,
    expires_after: timedelta = EXPIRES_AFTER,
    only_for_review: bool = False,
) -> int:
    """Save the decision of a finished dry run; how many runs it names.

    Args:
        only_for_review: its sweep file says that nothing is ever cancelled by it, and that holds for its plans.

    Raises:
        RecordLost: the file cannot be written.
    """
    report = Document(reader)
    summary = report.summary()
    cancel = [_entry(run, "why", "selected, and not protected") for run in report.runs(Outcome.WOULD_CANCEL)]
    exclude = [_entry(run, "rule", run["rule"]) for run in report.runs(Outcome.EXCLUDED)]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "tool_version": summary["tool_version"],
        "plan_id": summary["sweep_id"],
        "name": summary["name"],
        "reason": summary["reason"],
        "created_at": rfc3339(now),
        "expires_at": rfc3339(now + expires_after),
        "complete": summary["complete"],
        "only_for_review": only_for_review,
        "source": summary["source"],
        "settings": json.loads(str(reader.facts()["settings"])),
        "targets": [
            told | {"access": _access(row.target.access)}
            for told, row in zip(summary["targets"], reader.targets(), strict=True)
        ],
        "counts": {"cancel": len(cancel), "exclude": len(exclude)},
        "estimated_dpu_hours": summary["totals"]["selected"]["estimated_dpu_hours"],
        "estimated_cost": summary["totals"]["selected"]["estimated_cost"],
        "cancel": cancel,
        "exclude": exclude,
    }
    document["digest"] = digest_of(document)
    try:
        with written_to(path) as out:
            out.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RecordLost(f"cannot write the plan {path}: {error.strerror or error}") from error
    return len(cancel)


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        InputError: it is no plan.
        GuardrailRefused: it was edited.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError([Problem(str(path), f"cannot be read: {error.strerror or error}")]) from error
    except (ValueError, RecursionError) as error:
        raise InputError([Problem(str(path), f"is not a plan: not JSON ({error}); {_MAKE_ONE}")]) from error
    if not isinstance(document, dict) or not str(document.get("schema", "")).startswith("batch-cancel/plan/"):
        raise InputError([Problem(str(path), f"is not a plan: {_MAKE_ONE}")])
    if document["schema"] != SCHEMA:
        message = f"is a plan of another version ({document['schema']}; this program knows {SCHEMA}): make a new one"
        raise InputError([Problem(str(path), message)])
    if document.get("digest") != digest_of(document):
        raise GuardrailRefused(
            f"{path} was edited after it was made: what was reviewed is not what it says now; make a new plan;"
            " nothing was cancelled",
            Guardrail.PLAN,
        )
    plan = Plan(path, document)
    try:  # a plan that cannot be used is refused before anything is done
        plan.settings  # noqa: B018
        plan.check_whole()
    except UsageError as error:
        raise InputError([Problem(str(path), f"cannot be used: {error}")]) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"cannot be used: it is sealed, and yet no plan of this program ({error!r})"
        raise InputError([Problem(str(path), message)]) from error
    return plan


def plan_of(source: PlanSource) -> Plan:
    """The plan that a sweep began with, read again.

    Raises:
        InputError, GuardrailRefused: as :func:`read_plan`; also where another one stands there now.
    """
    plan = read_plan(Path(source.path))
    if plan.digest != source.digest:
        raise GuardrailRefused(
            f"{source.path} is another plan than it was when this sweep was asked for; nothing was cancelled",
            Guardrail.PLAN,
        )
    return plan


def digest_of(document: dict[str, Any]) -> str:
    """The seal: SHA-256 over every key but the digest itself, in one spelling of JSON.

    What was reviewed is the content: a plan that ``jq -S .`` has rewritten, with 900 for 900.0, is the same plan.
    """
    content = {key: value for key, value in document.items() if key != "digest"}
    one_spelling = json.loads(json.dumps(content), parse_float=_number)
    text = json.dumps(one_spelling, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _entry(run: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    entry = {name: run[name] for name in _RUN_KEYS}
    return {**entry, "estimated_dpu_hours": run.get("estimated_dpu_hours"), key: value}


def _access(access: Access) -> dict[str, str | None]:
    return {"profile": access.profile, "role_arn": access.role_arn, "external_id": access.external_id}


def _target(entry: dict[str, Any]) -> Target:
    return Target(entry["region"], entry["account_id"], Access(**entry["access"]))
