"""``report.csv``: one line a run, fit for a spreadsheet that takes some texts for formulas."""

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from batch_cancel.report.document import RUN_FIELDS, Document

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these may be run as a formula (OWASP, "CSV Injection"); a leading ' makes it text."""


def write_csv(document: Document, out: TextIO) -> None:
    """Write a header and every run (RFC 4180, UTF-8). What is not known is an empty cell; labels are a JSON object."""
    writer = csv.writer(out)  # its line end, CR LF, makes it quote either of the two inside a cell
    writer.writerow(RUN_FIELDS)
    writer.writerows(cells(run) for run in document.runs())


def cells(run: Mapping[str, Any]) -> Iterator[object]:
    """A run's cells, in the order of the fields."""
    for name in RUN_FIELDS:
        value = run[name]
        if name == "labels":
            value = json.dumps(value, ensure_ascii=False) if value else None
        yield guarded(value) if isinstance(value, str) else value


def guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(FORMULA_STARTS) else text
