"""Figures in CloudWatch's embedded metric format: log lines that CloudWatch Logs turns into metrics, for alarms.

The format: CloudWatch user guide, "Specification: Embedded metric format". A document for each target and one for the
whole; each is one line, small enough for any log driver.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from batch_cancel.core.outcome import Outcome
from batch_cancel.report.document import Document
from batch_cancel.report.story import MAY_RUN

NAMESPACE = "BatchCancel"
UNNAMED = "unnamed"
DIMENSION_CHARACTERS = 1024
"""A dimension's value is printable ASCII, not blank, and at most so long (CloudWatch API reference, Dimension)."""
_DIGEST_CHARACTERS = 16

_COUNTED = (Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.ALREADY_FINISHED, Outcome.EXCLUDED, Outcome.WOULD_CANCEL)


def metric_lines(document: Document, at: datetime) -> Iterator[str]:
    """The lines of a sweep, without line ends: its targets, then the whole.

    Args:
        at: the moment that the figures are of.
    """
    name = _dimension(document.facts.get("name"))
    timestamp = _milliseconds(at)
    for target in document.summary_of_targets():
        counts = Counter({Outcome(outcome): count for outcome, count in target["outcomes"].items()})
        account, region = _dimension(target["account_id"], "unknown"), _dimension(target["region"])
        place = {"Sweep": name, "Account": account, "Region": region}
        figures = _of_runs(counts) | {"Complete": (int(target["complete"]), "None")}
        yield _line(timestamp, place, figures, document)
    yield _line(timestamp, {"Sweep": name}, _whole(document), document)


def failure_line(name: str | None, exit_code: int, at: datetime) -> str:
    """The line of a sweep that left no report: it could not begin, or its record could not be kept.

    ``NoReport`` stands there without any dimension too: where not even the sweep file could be read, nobody knows the
    sweep's name, and an alarm has to hear of it all the same.
    """
    no_report = {"Name": "NoReport", "Unit": "Count"}
    directives = [
        {
            "Namespace": NAMESPACE,
            "Dimensions": [["Sweep"]],
            "Metrics": [{"Name": "ExitCode", "Unit": "None"}, no_report],
        },
        {"Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": [no_report]},
    ]
    head = {"_aws": {"Timestamp": _milliseconds(at), "CloudWatchMetrics": directives}}
    return json.dumps(head | {"Sweep": _dimension(name), "ExitCode": exit_code, "NoReport": 1})


def _whole(document: Document) -> dict[str, tuple[float, str]]:
    summary = document.summary()
    totals = summary["totals"]
    figures = _of_runs(document.whole.outcomes)
    figures |= {
        "Complete": (int(document.complete), "None"),
        "ExitCode": (summary["exit_code"] if summary["exit_code"] is not None else 1, "None"),
        "Targets": (len(summary["targets"]), "Count"),
        "IncompleteTargets": (sum(not target["complete"] for target in summary["targets"]), "Count"),
        "ApiCalls": (sum(totals["api_calls"].values()), "Count"),
        "Throttled": (totals["throttled"], "Count"),
        "Retries": (totals["retries"], "Count"),
        "Rejected": (totals["rejected"], "Count"),
    }
    if totals["estimated_dpu_hours"] is not None:
        figures["EstimatedDpuHours"] = (totals["estimated_dpu_hours"], "None")
    if (seconds := _seconds(summary["started_at"], summary["finished_at"])) is not None:
        figures["Duration"] = (seconds, "Seconds")
    return figures


def _of_runs(outcomes: Counter[Outcome]) -> dict[str, tuple[float, str]]:
    counted = {
        "".join(word.capitalize() for word in outcome.split("_")): (float(outcomes[outcome]), "Count")
        for outcome in _COUNTED
    }
    return {
        "Runs": (float(outcomes.total()), "Count"),
        "MayBeRunning": (float(sum(outcomes[outcome] for outcome in MAY_RUN)), "Count"),
        **counted,
    }


def _line(timestamp: int, place: dict[str, str], figures: dict[str, tuple[float, str]], document: Document) -> str:
    directive: dict[str, Any] = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(place)],
        "Metrics": [{"Name": name, "Unit": unit} for name, (_, unit) in figures.items()],
    }
    properties = {"sweep_id": document.facts.get("sweep_id"), "mode": document.facts.get("mode")}
    values = {name: value for name, (value, _) in figures.items()}
    return json.dumps(
        {"_aws": {"Timestamp": timestamp, "CloudWatchMetrics": [directive]}} | place | properties | values
    )


def _dimension(text: object, otherwise: str = UNNAMED) -> str:
    """A name as CloudWatch takes it: what is plain stays, the rest is escaped, so that two names stay two."""
    escaped = str(text or "").encode("unicode_escape").decode()
    if not escaped.strip():
        return otherwise
    if len(escaped) <= DIMENSION_CHARACTERS:
        return escaped
    digest = hashlib.sha256(escaped.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{escaped[: DIMENSION_CHARACTERS - _DIGEST_CHARACTERS - 1]}~{digest}"


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _seconds(started: object, finished: object) -> float | None:
    if not isinstance(started, str) or not isinstance(finished, str):
        return None
    return max(0.0, (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds())
