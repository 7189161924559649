"""Figures in CloudWatch's embedded metric format: log lines that CloudWatch Logs turns into metrics, for alarms.

The format: CloudWatch user guide, "Specification: Embedded metric format". A document for each target and one for the
whole; each is one line, small enough for any log driver.
"""

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

_COUNTED = (Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.ALREADY_FINISHED, Outcome.EXCLUDED, Outcome.WOULD_CANCEL)


def metric_lines(document: Document, at: datetime) -> Iterator[str]:
    """The lines of a sweep, without line ends: its targets, then the whole.

    Args:
        at: the moment that the figures are of.
    """
    name = document.facts.get("name") or UNNAMED
    timestamp = int(at.timestamp() * 1000)
    for target in document.summary_of_targets():
        counts = Counter({Outcome(outcome): count for outcome, count in target["outcomes"].items()})
        place = {"Sweep": name, "Account": target["account_id"] or "unknown", "Region": target["region"]}
        figures = _of_runs(counts) | {"Complete": (int(target["complete"]), "None")}
        yield _line(timestamp, place, figures, document)
    yield _line(timestamp, {"Sweep": name}, _whole(document), document)


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


def _seconds(started: object, finished: object) -> float | None:
    if not isinstance(started, str) or not isinstance(finished, str):
        return None
    return max(0.0, (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds())
