"""Manifests in CSV and TSV: a header line, then a row for each run, quoted as RFC 4180 has it.

A CSV whose first line names both ids between semicolons is read so: a spreadsheet writes them where the comma is the
decimal point.
"""

import csv
from collections.abc import Iterator
from itertools import chain
from typing import TextIO

from batch_cancel.core.errors import InputError, Problem
from batch_cancel.core.wording import cut, quoted
from batch_cancel.glue.regions import region_fault
from batch_cancel.manifest.rows import (
    FIELDS,
    LONGEST_ID,
    NEEDED,
    NO_LABELS,
    ManifestRow,
    account_fault,
    id_fault,
    label_fault,
    missing,
    problem_of_row,
    unreadable,
)

LONGEST_LINE = 1_000_000
"""Characters: what is longer is not a list of runs, and must not fill the memory."""

MOST_REMEMBERED = 10_000
"""Pairs of account and region that need not be looked at twice."""

REPORT_COLUMNS = frozenset({"outcome", "status_before", "confirmed_at", "request_id"})
"""What only our own report.csv has: an id that begins with = + - or @ stands there with an apostrophe before it."""


class _Lines:
    """The lines of a text stream, and those of the record that is being read."""

    def __init__(self, stream: TextIO, source: str) -> None:
        self.record: list[str] = []
        self._stream = stream
        self._source = source
        self._ahead: list[str] = []

    def first(self) -> str:
        """The first line that is not blank; whoever goes through the lines begins before it all the same."""
        while line := self._stream.readline(LONGEST_LINE):
            self._ahead.append(line)
            if not line.isspace():
                return line
        return ""

    def __iter__(self) -> Iterator[str]:
        readline, keep = self._stream.readline, self.record.append
        for count, line in enumerate(chain(self._ahead, iter(lambda: readline(LONGEST_LINE), "")), 1):
            if len(line) == LONGEST_LINE:
                raise unreadable(self._source, f"a line of more than {LONGEST_LINE:,} characters", count)
            keep(line)
            yield line


def read_delimited(stream: TextIO, source: str, delimiter: str) -> Iterator[ManifestRow | Problem]:
    """The rows of a CSV or TSV text (opened with ``newline=""``), or what is wrong with them.

    Raises:
        InputError: no usable header, or a quote that swallows the rest.
    """
    lines = _Lines(stream, source)
    if delimiter == "," and not _names_both(first := lines.first(), delimiter) and _names_both(first, ";"):
        delimiter = ";"
    reader = csv.reader(lines, delimiter=delimiter, strict=True)

    def begun_at() -> int:
        return reader.line_num - len(lines.record) + 1

    try:
        header = _header(reader, lines, source, delimiter)
    except csv.Error as error:
        raise InputError([_quote_problem(error, lines.record, source, begun_at(), delimiter)]) from error
    columns = _Columns(header, lines.record, begun_at(), source, delimiter)
    while True:
        lines.record.clear()
        try:
            for fields in reader:
                if fields and not (len(fields) == 1 and fields[0].isspace()):
                    yield columns.row(fields, begun_at())
                lines.record.clear()
        except csv.Error as error:
            problem = _quote_problem(error, lines.record, source, begun_at(), delimiter)
            if len(lines.record) > 1:  # nobody can say at which line the next row begins
                raise InputError([problem]) from error
            yield problem
        else:
            return


def _names_both(line: str, delimiter: str) -> bool:
    """Whether a line is a header that names both ids, by this delimiter."""
    try:
        fields = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return False
    return {FIELDS.get(field) for field in fields}.issuperset(NEEDED)


def _header(reader: Iterator[list[str]], lines: _Lines, source: str, delimiter: str) -> list[str]:
    for fields in reader:
        if any(field.strip() for field in fields):
            if any("\0" in field for field in fields) or fields[0].startswith(("\udcff\udcfe", "\udcfe\udcff")):
                raise unreadable(source, "the file is not UTF-8 (UTF-16?): save it as UTF-8", 1, 1)
            if REPORT_COLUMNS.issubset(fields):
                what = "this is a report.csv, whose ids are guarded for spreadsheets: use the report.json beside it"
                raise unreadable(source, what, 1, 1)
            return fields
        lines.record.clear()
    what = "TSV" if delimiter == "\t" else "CSV"
    raise unreadable(source, f"the file is empty: a {what} manifest begins with a line that names its columns")


class _Columns:
    """Where each field of a row stands."""

    def __init__(self, header: list[str], record: list[str], line: int, source: str, delimiter: str) -> None:
        self._header = header
        self._record = record
        self._source = source
        self._delimiter = delimiter
        self._width = len(header)
        self._index = {FIELDS[name]: at for at, name in enumerate(header) if name in FIELDS}
        self._check(line)
        self._transform_id = self._index["transform_id"]
        self._task_run_id = self._index["task_run_id"]
        self._account_id = self._index.get("account_id")
        self._region = self._index.get("region")
        self._labels = [(at, name) for at, name in enumerate(header) if name not in FIELDS]
        self._plain = self._account_id is None and self._region is None and not self._labels
        self._sound: set[tuple[str | None, str | None]] = set()  # pairs of account and region that were looked at

    def _check(self, line: int) -> None:
        seen: set[str] = set()
        problems: list[Problem] = []
        for at, name in enumerate(self._header):
            field = FIELDS.get(name, name)
            if not name.strip():
                problems.append(self._problem(at, f"column {at + 1} has no name", line))
            elif field in seen:
                problems.append(self._problem(at, f"column {quoted(name)} stands there twice", line))
            elif fault := label_fault(name, name):
                problems.append(self._problem(at, fault, line))
            seen.add(field)
        problems.extend(self._problem(0, fault, line) for fault in self._missing())
        if problems:
            raise InputError(problems)

    def _missing(self) -> list[str]:
        """What is wrong with a header that does not name both ids, and what mends it."""
        absent = [field for field in NEEDED if field not in self._index]
        between = "<tab>" if self._delimiter == "\t" else self._delimiter
        begins = f"the first line must name the columns, as {between.join(NEEDED)} does"
        other = next((s for s in ";\t,|" if s != self._delimiter and s in self._header[0]), None)
        if len(self._header) == 1 and other:
            kind = {"\t": "tsv", ",": "csv"}.get(other)
            if other == ";" and self._delimiter == ",":
                mend = ", and " + begins.replace(between.join(NEEDED), other.join(NEEDED))
            else:
                mend = f": give --manifest-format {kind}" if kind else f": write {quoted(self._delimiter)} between them"
            return [f"the columns seem to be separated by {quoted(other)}{mend}"]
        told = [missing(field, self._header) for field in absent]
        if len(absent) == 2 and not any("did you mean" in each for each in told):
            run = "if it is a run already, put a line before it that names each of its columns"
            return [f"{begins}; this one names neither id: {run}"]
        return [each if "did you mean" in each else f"{each}: {begins}" for each in told]

    def row(self, fields: list[str], line: int) -> ManifestRow | Problem:
        """The row that these fields are, or what is wrong with it. The fast way is for rows without fault."""
        if len(fields) != self._width:
            return self._ragged(fields, line)
        transform_id, task_run_id = fields[self._transform_id], fields[self._task_run_id]
        if not (
            transform_id.isascii()
            and transform_id.isprintable()
            and 0 < len(transform_id) <= LONGEST_ID
            and task_run_id.isascii()
            and task_run_id.isprintable()
            and 0 < len(task_run_id) <= LONGEST_ID
        ) and (id_fault("", transform_id) or id_fault("", task_run_id)):
            return self._faulty(fields, line)
        if self._plain:
            return ManifestRow(line, transform_id, task_run_id, None, None, NO_LABELS)
        account_id = (fields[self._account_id] or None) if self._account_id is not None else None
        region = (fields[self._region] or None) if self._region is not None else None
        if (account_id, region) not in self._sound:
            if (account_id and account_fault(account_id)) or (region and region_fault(region)):
                return self._faulty(fields, line)
            if len(self._sound) < MOST_REMEMBERED:
                self._sound.add((account_id, region))
        labels = {name: fields[at] for at, name in self._labels if fields[at]} or NO_LABELS
        if any(not value.isascii() and label_fault(name, value) for name, value in labels.items()):
            return self._faulty(fields, line)
        return ManifestRow(line, transform_id, task_run_id, account_id, region, labels)

    def _ragged(self, fields: list[str], line: int) -> Problem:
        have, want = len(fields), self._width
        at = want if have > want else have - 1
        hint = " (a field that holds the separator must be quoted)" if have > want else ""
        return self._problem(at, f"{have} {_fields(have)} where the header has {want}{hint}", line)

    def _faulty(self, fields: list[str], line: int) -> Problem:
        faults: list[tuple[int, str]] = []
        for field, at in self._index.items():
            value = fields[at]
            if field in NEEDED:
                fault = id_fault(field, value)
            elif not value:
                fault = None
            else:
                fault = account_fault(value) if field == "account_id" else region_fault(value)
            if fault:
                faults.append((at, fault))
        faults.extend((at, fault) for at, name in self._labels if (fault := label_fault(name, fields[at])))
        return self._problem_of(faults, line)

    def _problem(self, at: int, message: str, line: int) -> Problem:
        return self._problem_of([(at, message)], line)

    def _problem_of(self, faults: list[tuple[int, str]], line: int) -> Problem:
        """Each fault with the field that it is about."""
        text = "".join(self._record)
        starts = _scan(text, self._delimiter)[0]
        placed = ((_place(text, starts[at], line), fault) for at, fault in faults)
        return problem_of_row(self._source, placed, cut(text.rstrip("\r\n")))


def _fields(count: int) -> str:
    return "field" if count == 1 else "fields"


def _quote_problem(error: csv.Error, record: list[str], source: str, line: int, delimiter: str) -> Problem:
    """The fault of a record that csv gave up: a quote that nobody closed, or text after one that was."""
    text = "".join(record)
    _, open_quote = _scan(text, delimiter)
    if open_quote is not None:
        message = "a quote opens here and is never closed"
        return Problem(source, message, *_place(text, open_quote, line), cut(text[open_quote:]))
    hint = "; a quote inside a quoted field is written twice" if "expected after" in str(error) else ""
    return Problem(source, f"the row cannot be read: {error}{hint}", line, None, cut(text.rstrip("\r\n")))


def _scan(text: str, delimiter: str) -> tuple[list[int], int | None]:
    """Where each field of a record starts, and where the quote stands that is open at its end."""
    starts, open_quote, at = [0], None, 0
    while at < len(text):
        character = text[at]
        if open_quote is not None:
            if character == '"':
                if text[at + 1 : at + 2] == '"':
                    at += 1
                else:
                    open_quote = None
        elif character == '"' and at == starts[-1]:
            open_quote = at
        elif character == delimiter:
            starts.append(at + 1)
        at += 1
    return starts, open_quote


def _place(text: str, offset: int, line: int) -> tuple[int, int]:
    """Line and column of an offset into a record that begins at ``line``."""
    return line + text.count("\n", 0, offset), offset - text.rfind("\n", 0, offset)
