"""Manifests in JSON and in JSON Lines."""

import json
import re
from collections.abc import Callable, Iterator
from typing import TextIO

from batch_cancel.core.errors import Problem
from batch_cancel.core.outcome import UNFINISHED, Outcome
from batch_cancel.core.wording import cut, did_you_mean
from batch_cancel.manifest.json_text import DECODER, LONGEST_VALUE, JsonText
from batch_cancel.manifest.rows import Faults, ManifestRow, check_encoding, row_of, unreadable

ROW_LISTS = ("TaskRuns", "runs")
"""Keys of an object that hold the list: what ``aws glue get-ml-task-runs`` prints, and our own ``report.json``."""

PLAN_SCHEMAS = "batch-cancel/plan/"
"""How the schema of a plan begins."""

_NEXT_PAGE = "NextToken"
_ONE_PAGE = "holds a NextToken: it is one page of a longer list, and what stands on the others is not in it"

_FINISHED = frozenset(Outcome) - UNFINISHED
_FORMS = "a JSON manifest is a list of objects, an object with TaskRuns, or a report.json"


def read_json(stream: TextIO, source: str, on_remark: Callable[[str], None]) -> Iterator[ManifestRow | Problem]:
    """The rows of a JSON text, or what is wrong with them.

    Args:
        on_remark: told what is no fault, and should be known.

    Raises:
        InputError: the text is not JSON, or holds no list of runs.
    """
    text = JsonText(stream, source)
    match text.peek():
        case "":
            raise unreadable(source, f"the file is empty: {_FORMS}")
        case "[":
            yield from _rows(text, source, report=False)
        case "{":
            yield from _rows_in_object(text, source, on_remark)
        case _:
            text.value()
            raise unreadable(source, f"neither a list nor an object: {_FORMS}", 1, 1)
    if text.peek():
        text.fail("something follows the end of the JSON value (for an object a line use --manifest-format jsonl)")


def is_plan(stream: TextIO, source: str) -> bool:
    """Whether a JSON text is what ``plan`` writes, in whatever order its keys stand; no list of runs is read for that.

    Raises:
        InputError: the text is not JSON as far as it was read.
    """
    text = JsonText(stream, source)
    if not text.take("{"):
        return False
    while not text.take("}"):
        key = text.key()
        if key == "schema":
            return str(text.value()).startswith(PLAN_SCHEMAS)
        if key in ROW_LISTS:
            return False
        text.skip()
        text.comma_or("}")
    return False


def _rows_in_object(text: JsonText, source: str, on_remark: Callable[[str], None]) -> Iterator[ManifestRow | Problem]:
    start = text.line, text.column
    keys: list[str] = []
    text.expect("{", "")
    while not text.take("}"):
        key = text.key()
        if key == "schema" and text.peek() == '"':
            _check_schema(text, source)
        elif key == _NEXT_PAGE and text.peek() == '"':
            if text.value():
                on_remark(f"{source}: {_ONE_PAGE}")
        elif key not in ROW_LISTS:
            text.skip()
        elif text.peek() != "[":
            text.fail(f"{key} is not a list")
        elif key in keys:
            text.fail(f"{key} stands there twice")
        else:
            yield from _rows(text, source, report=key == "runs")
        keys.append(key)
        text.comma_or("}")
    if not set(keys) & set(ROW_LISTS):
        hint = next((hint for key in keys if (hint := did_you_mean(key, ROW_LISTS))), "")
        raise unreadable(source, f"the object has no list of runs: {_FORMS}{hint}", *start)


def _check_schema(text: JsonText, source: str) -> None:
    """Refuse what this program wrote as something else than a report."""
    line, column = text.line, text.column
    if str(text.value()).startswith(PLAN_SCHEMAS):
        what = "this is a plan, not a list of runs: `batch-cancel apply` cancels what it names"
        raise unreadable(source, what, line, column)


def _rows(text: JsonText, source: str, *, report: bool) -> Iterator[ManifestRow | Problem]:
    text.expect("[", "")
    while not text.take("]"):
        text.peek()
        line, column = text.line, text.column
        value = text.value()
        if not report or not _is_finished(value):
            row = _row(value, line, report=report)
            yield row if isinstance(row, ManifestRow) else _problem(row, text.text, source, line, column)
        text.comma_or("]")


def read_json_lines(stream: TextIO, source: str) -> Iterator[ManifestRow | Problem]:
    """The rows of a text with a JSON object a line, or what is wrong with them.

    Raises:
        InputError: there is no line at all, or one that is too long to be a run.
    """
    line_number, empty = 0, True
    while line := stream.readline(LONGEST_VALUE):
        line_number += 1
        if len(line) == LONGEST_VALUE:
            raise unreadable(source, f"a line of more than {LONGEST_VALUE:,} characters", line_number)
        if line_number == 1:
            check_encoding(line, source)
        if line.isspace():
            continue
        empty = False
        start = len(line) - len(line.lstrip(" \t"))
        try:
            value = DECODER.decode(line)
        except json.JSONDecodeError as error:
            message = f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}; each line is an object of its own"
            yield Problem(source, message, line_number, error.pos + 1, cut(line.rstrip("\r\n")))
        except RecursionError:
            yield Problem(source, "nested too deeply", line_number, 1, cut(line.rstrip("\r\n")))
        else:
            row = _row(value, line_number, report=False)
            if isinstance(row, Faults):
                yield _problem(row, line[start:].rstrip("\r\n"), source, line_number, start + 1)
            else:
                yield row
    if empty:
        raise unreadable(source, "the file is empty: a JSON Lines manifest has an object a line")


def _row(value: object, line: int, *, report: bool) -> ManifestRow | Faults:
    if not isinstance(value, dict):
        return Faults(((None, "not an object with transform_id and task_run_id"),))
    if report and _of_report(value):
        # A report's other fields are what became of the run; only its labels are the user's own.
        names = ("transform_id", "task_run_id", "account_id", "region")
        labels = value.get("labels")
        value = (labels if isinstance(labels, dict) else {}) | {name: value.get(name) for name in names}
    return row_of(line, value)


def _of_report(value: dict[str, object]) -> bool:
    return "outcome" in value and "status_before" in value


def _is_finished(value: object) -> bool:
    return isinstance(value, dict) and _of_report(value) and value["outcome"] in _FINISHED


def _problem(faults: Faults, text: str, source: str, line: int, column: int) -> Problem:
    """Each fault at the place of the key that it is about, as near as its text shows."""

    def place_of(field: str | None) -> tuple[int, int]:
        key = field and re.search(re.escape(json.dumps(field, ensure_ascii=False)) + r"\s*:\s*", text)
        at = key.end() if key else 0
        newlines = text.count("\n", 0, at)
        return line + newlines, at - text.rfind("\n", 0, at) if newlines else column + at

    return faults.problem(source, place_of, cut(text))
