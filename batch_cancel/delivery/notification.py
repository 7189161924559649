"""One SNS message for a sweep: a few lines for people, a JSON document for programs."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from batch_cancel.core.outcome import words_of
from batch_cancel.delivery.change import Mark
from batch_cancel.report.advice import next_steps
from batch_cancel.report.document import Document
from batch_cancel.report.story import came_back_in_words, came_back_title, headline, meaning, troubles

SCHEMA = "batch-cancel/notification/1"
SUBJECT_CHARACTERS = 99
"""SNS takes ASCII, fewer than 100 characters, no line breaks (SNS API reference, Publish)."""
MOST_TROUBLES = 8
MOST_TARGETS = 50
MOST_KEYS = 100
MOST_BYTES = 250_000
"""SNS takes 262,144 bytes for all protocols together, as they are sent: in JSON, in which a letter may be twelve bytes
(SNS API reference, Publish; CloudWatch and others add attributes of their own)."""
LENGTHS = (1_000_000, 20_000, 5_000, 2_000, 500, 60)
"""How long a text of others' may be, in characters: the longest with which the whole fits."""
PROGRAMS = ("lambda", "sqs", "http", "https", "firehose")
"""Protocols behind which a program reads; ``email`` and the others get the text."""


def subject(document: Document, exit_code: int) -> str:
    """A line that says which sweep it was and how it ended."""
    name = document.facts.get("name") or document.facts.get("sweep_id")
    kind = "audit" if document.facts.get("mode") == "dry-run" else "sweep"
    ended = "done" if exit_code == 0 else f"NOT all done (exit code {exit_code})"
    return _subject(f"batch-cancel {kind} {name}: {ended}")


def messages(
    document: Document,
    exit_code: int,
    *,
    directory: Path,
    reports: str | None,
    before: Mark | None,
    faults: Sequence[str],
) -> dict[str, str]:
    """The message for each protocol.

    Args:
        reports: where the copies are in S3.
        before: the sweep that this one was compared with.
        faults: what went wrong in delivering.
    """
    lines = _text(document, directory, reports, before, faults)
    return _fitting(subject(document, exit_code), lines, _facts(document, exit_code, reports, before, faults))


def failure(name: str, sweep_id: str, error: str, exit_code: int, *, began: bool) -> tuple[str, dict[str, str]]:
    """Subject and messages for a sweep that left no report: it could not begin, or its record could not be kept."""
    happened = "broke off" if began else "did not begin"
    told = _subject(f"batch-cancel sweep {name}: {happened} (exit code {exit_code})")
    facts = {
        "schema": SCHEMA,
        "sweep_id": sweep_id,
        "name": name,
        "exit_code": exit_code,
        "began": began,
        "error": error,
    }
    what = "broke off; look into its run directory" if began else "did not begin, and nothing was cancelled"
    return told, _fitting(told, [f"The sweep {name} {what}:", error], facts)


def message_bytes(told: Mapping[str, str]) -> int:
    """How much of SNS's limit the messages take, all protocols together."""
    return len(json.dumps(dict(told)))


def _fitting(sms: str, lines: Sequence[str], facts: dict[str, Any]) -> dict[str, str]:
    """The messages, with each text in them as long as all of them have room for."""
    told: dict[str, str] = {}
    for characters in LENGTHS:
        text = "\n".join(_cut(line, characters) for line in lines) + "\n"
        document = json.dumps(_cut(facts, characters), ensure_ascii=False)
        told = {"default": text, "sms": sms, **dict.fromkeys(PROGRAMS, document)}
        if message_bytes(told) <= MOST_BYTES:
            break
    return told


def _cut(value: Any, characters: int) -> Any:  # noqa: ANN401  # JSON
    """The same with shorter texts, and with shorter lists where texts have to be short."""
    match value:
        case str() if len(value) > characters:
            return value[: characters - 1] + "…"
        case list():
            return [_cut(item, characters) for item in value[: max(1, characters // 100)]]
        case dict():
            return {key[:characters]: _cut(item, characters) for key, item in islice(value.items(), MOST_KEYS)}
        case _:
            return value


def _text(
    document: Document, directory: Path, reports: str | None, before: Mark | None, faults: Sequence[str]
) -> list[str]:
    lines = [headline(document).text, ""]
    lines += [
        f"{count:,} {words_of(outcome)}: {meaning(document, outcome)}" for outcome, count in document.outcomes.items()
    ]
    told = list(troubles(document))
    if told:
        lines += ["", "What went wrong"]
        lines += [f"  {trouble.place}: {trouble.what}" for trouble in told[:MOST_TROUBLES]]
        if len(told) > MOST_TROUBLES:
            lines.append(f"  and {len(told) - MOST_TROUBLES:,} more; the reports have them all")
    lines += [f"  {fault}" for fault in faults]
    if back := came_back_in_words(document):
        lines += ["", came_back_title(document), f"  {back}"]
    if before is not None:
        counts = ", ".join(f"{count:,} {words_of(name)}" for name, count in before.outcomes.items()) or "no runs"
        lines += ["", f"The sweep before ({before.sweep_id}): {counts}."]
    # Whoever reads this has the copies, and not always the machine.
    here = Path(str(document.facts.get("sweep_id"))) if reports else directory
    steps = list(next_steps(document, here))
    if steps:
        lines += ["", "Next"]
        if reports and any(str(here) in (step.command or "") for step in steps):
            lines += ["  Get the run directory:", f"    aws s3 cp --recursive {reports} {here}/"]
        for step in steps:
            lines.append(f"  {step.text}")
            if step.command is not None:
                lines.append(f"    {step.command}")
    return [*lines, "", f"Reports: {reports or directory.absolute()}"]


def _facts(
    document: Document, exit_code: int, reports: str | None, before: Mark | None, faults: Sequence[str]
) -> dict[str, Any]:
    """``--output json`` without what may be long: rows that were left out, and targets that are well."""
    summary = document.summary()
    targets = [target for target in summary["targets"] if not target["complete"]]
    return {
        "schema": SCHEMA,
        **{key: summary[key] for key in _KEPT},
        "exit_code": exit_code,
        "headline": headline(document).text,
        "reports": reports,
        "targets": len(summary["targets"]),
        "incomplete_targets": targets[:MOST_TARGETS],
        "sweep_before": None if before is None else {"sweep_id": before.sweep_id, "outcomes": before.outcomes},
        "delivery_faults": list(faults),
    }


_KEPT = (
    "sweep_id",
    "tool_version",
    "name",
    "reason",
    "mode",
    "started_at",
    "finished_at",
    "complete",
    "stop_cause",
    "source",
    "totals",
    "refusal",
)


def _subject(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()
    printable = "".join(character if character.isprintable() else " " for character in plain)
    return printable if len(printable) <= SUBJECT_CHARACTERS else printable[: SUBJECT_CHARACTERS - 3] + "..."


def is_occasion(wanted: Sequence[str], exit_code: int, *, changed: bool) -> bool:
    """Whether one of the occasions that were asked for is at hand."""
    at_hand = {"failure": exit_code != 0, "change": changed, "always": True}
    return any(at_hand[occasion] for occasion in wanted)
