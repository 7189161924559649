"""A ``report.json`` made into a ledger, for merging where only reports were kept.

Reports hold no capacities, so what comes from them has no estimates; and their counts of calls are known as sums alone.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from batch_cancel.core.errors import InputError, LedgerError, Problem
from batch_cancel.core.outcome import Outcome
from batch_cancel.ledger import LEDGER_NAME, schema
from batch_cancel.manifest.json_text import JsonText
from batch_cancel.manifest.read import os_fault
from batch_cancel.manifest.rows import NotText
from batch_cancel.report.document import SCHEMA

_LISTS = frozenset({"targets", "rejected", "runs"})
"""What makes a report whole: ``--output json`` prints one without its runs."""
_OPTIONAL_FACTS = ("refusal", "refused_by", "sweeps", "left_out")
"""Additions to the contract's fields."""
_RUN_COLUMNS = (
    "transform_id, task_run_id, requested_at, attempts, throttled, execution_time_seconds, status_after, confirmed_at,"
    " task_type, started_on, status_before, rule, labels, priority, sweep_number, returns, accepted_at, tainted,"
    " refusal, error_code, error_message, request_id"
)
"""In the order of :meth:`_Report._add_run_to`'s values."""


def ledger_of(part: Path, path: Path) -> Path:
    """The ledger of a part; one is made at ``path`` where it is a report.

    Raises:
        InputError: a report that cannot be read, or is none.
    """
    if part.is_dir():
        if not (part / LEDGER_NAME).is_file() and (part / "report.json").is_file():
            return _from_report(part / "report.json", path)
        return part / LEDGER_NAME
    if part.suffix.lower() == ".json":
        return _from_report(part, path)
    return part


def _from_report(report: Path, path: Path) -> Path:
    connection = schema.create(path)
    try:
        with report.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            connection.execute("BEGIN")
            _Report(JsonText(stream, str(report)), str(report), connection).read()
            connection.execute("COMMIT")
    except OSError as error:
        raise InputError([Problem(str(report), os_fault(error))]) from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, sqlite3.IntegrityError) as error:
        raise InputError([Problem(str(report), f"is not a report.json of batch-cancel ({error!r})")]) from error
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
    try:
        schema.check(path)
    except LedgerError as error:  # of a ledger that nobody knows of: the report is what is wrong
        message = f"is not a report.json of batch-cancel ({str(error).removeprefix(f'{path} ')})"
        raise InputError([Problem(str(report), message)]) from error
    return path


class _Report:
    """One ``report.json`` on its way into a ledger; its runs are read one by one."""

    def __init__(self, text: JsonText, source: str, connection: sqlite3.Connection) -> None:
        self._text = text
        self._source = source
        self._ledger = connection
        self._facts: dict[str, Any] = {}
        self._targets: dict[tuple[object, object], list[int]] = {}

    def read(self) -> None:
        text = self._text
        text.expect("{", "at the beginning of a report")
        lists = set()
        while not text.take("}"):
            key = text.key()
            lists |= {key} & _LISTS
            match key:
                case "runs":
                    for run in self._items():
                        self._add_run(run)
                case "rejected":
                    for row in self._items():
                        self._ledger.execute(
                            "INSERT INTO rejected VALUES (?, ?, ?)", (row["line"], row["text"], row["error"])
                        )
                case "targets":
                    for target in self._items():
                        self._add_target(target)
                case _:
                    self._facts[key] = _plain(text.value())
            text.comma_or("}")
        if self._facts.get("schema") != SCHEMA:
            raise InputError([Problem(self._source, f"is not a report.json ({SCHEMA}) of batch-cancel")])
        if missing := _LISTS - lists:
            raise InputError([Problem(self._source, f"has no list of {min(missing)}: it is no whole report.json")])
        self._add_calls()
        kept = ("sweep_id", "tool_version", "name", "reason", "mode", "started_at", "finished_at", "stop_cause")
        facts = {key: self._facts.get(key) for key in (*kept, "exit_code", "source", *_OPTIONAL_FACTS)}
        facts["left_out"] = [dict(account) for account in facts["left_out"] or ()]
        facts["calls_are_sums"] = True
        facts["duplicates"] = self._facts["totals"]["duplicates"]
        self._ledger.executemany(
            "INSERT INTO sweep VALUES (?, ?)", [(key, json.dumps(value)) for key, value in facts.items()]
        )

    def _items(self) -> Iterator[Any]:
        self._text.expect("[", "at the beginning of a list")
        while not self._text.take("]"):
            yield _plain(self._text.value())
            self._text.comma_or("]")

    def _add_target(self, target: Any) -> None:  # noqa: ANN401  # as it stands in the file
        error = target["error"] or {}
        cursor = self._ledger.execute(
            "INSERT INTO targets (account_id, region, identity_arn, listed, transforms, active_runs, error_code,"
            " error_message) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                target["account_id"],
                target["region"],
                target["identity_arn"],
                int(target["complete"] or (bool(error) and not self._unlisted(target))),
                target["transforms"],
                target["active_runs"],
                error.get("code"),
                error.get("message"),
            ),
        )
        ids = self._targets.setdefault((target["account_id"], target["region"]), [])
        ids.append(int(cursor.lastrowid or 0))

    def _unlisted(self, target: Any) -> bool:  # noqa: ANN401
        """Whether its trouble kept even its transforms from being listed; a report tells that by their number."""
        source = self._facts.get("source")
        return isinstance(source, dict) and source.get("kind") == "discovery" and target["transforms"] is None

    def _add_run(self, run: Any) -> None:  # noqa: ANN401
        """Enter a run; one that stands there already gets a target of its own, and is merged as any other.

        Where two ways in led to one account, and that was not known at first, a report has its runs twice.
        """
        ids = self._targets[run["account_id"], run["region"]]
        for target_id in ids:
            with contextlib.suppress(sqlite3.IntegrityError):
                self._add_run_to(target_id, run)
                return
        cursor = self._ledger.execute(
            "INSERT INTO targets (account_id, region, listed) VALUES (?, ?, 1)", (run["account_id"], run["region"])
        )
        ids.append(int(cursor.lastrowid or 0))
        self._add_run_to(ids[-1], run)

    def _add_run_to(self, target_id: int, run: Any) -> None:  # noqa: ANN401
        outcome = Outcome(run["outcome"])
        self._ledger.execute(
            f"INSERT INTO runs (target_id, state, outcome, {_RUN_COLUMNS}) VALUES ({', '.join('?' * 25)})",  # noqa: S608  # constant
            (
                target_id,
                "excluded" if outcome is Outcome.EXCLUDED else "done",
                str(outcome),
                run["transform_id"],
                run["task_run_id"],
                _seconds(run["requested_at"]),
                run["attempts"],
                run["throttled"],
                None,
                run["status_after"],
                _seconds(run["confirmed_at"]),
                run["task_type"],
                _seconds(run["started_on"]),
                run["status_before"],
                run["rule"],
                json.dumps(run["labels"], ensure_ascii=False) if run["labels"] else None,
                0,
                run.get("sweep_number") or 1,
                run.get("returns") or 0,
                None,
                0,
                None,
                run["error_code"],
                run["error_message"],
                run["request_id"],
            ),
        )
        if run["transform_name"] is not None or run.get("glue_version") is not None:
            self._ledger.execute(
                "INSERT OR IGNORE INTO transforms (target_id, transform_id, name, glue_version) VALUES (?, ?, ?, ?)",
                (target_id, run["transform_id"], run["transform_name"], run.get("glue_version")),
            )

    def _add_calls(self) -> None:
        """The sums, at the sweep's begin and its first target: a report knows no more."""
        if not self._targets:
            return
        second = int(_seconds(self._facts["started_at"]) or 0)
        totals = self._facts["totals"]
        throttled, failed, retries = totals["throttled"], totals.get("failed", 0), totals["retries"]
        for operation, calls in totals["api_calls"].items():
            self._ledger.execute(
                "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                (next(iter(self._targets.values()))[0], operation, second, calls, throttled, failed, retries),
            )
            throttled = failed = retries = 0


def _plain(value: object) -> Any:  # noqa: ANN401  # JSON
    """JSON's numbers as numbers: the reader keeps them as they were written."""
    match value:
        case NotText(text=text):
            return int(text) if text.lstrip("-").isdigit() else float(text)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()
