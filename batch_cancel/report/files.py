"""Reports as files: made from a run directory's ledger, whole or not at all."""

import shlex
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, assert_never

from batch_cancel.core.errors import LedgerError, RecordLost
from batch_cancel.ledger import LEDGER_NAME, schema
from batch_cancel.ledger.ledger import in_use
from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.private_file import written_to
from batch_cancel.report.document import Document
from batch_cancel.settings import ReportFormat


def write_reports(directory: Path, formats: Iterable[ReportFormat]) -> list[Path]:
    """Write ``report.<format>`` into a run directory for each format, from its ledger, finished or not.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
        RecordLost: a report cannot be written; those before it stand.
    """
    with opened(directory) as document:
        return [write_report(document, form, directory, directory / f"report.{form}") for form in formats]


def write_report(document: Document, form: ReportFormat, directory: Path, path: Path) -> Path:
    """Write one report, private to the user; a file that stood there is replaced in one stroke.

    Raises:
        RecordLost: it cannot be written; what stood there still does.
    """
    try:
        with written_to(path) as out:
            render(document, form, directory, out)
    except OSError as error:
        raise RecordLost(
            f"cannot write the report {path}: {error.strerror or error}; the ledger is whole: mend that, then"
            f" `batch-cancel report {shlex.quote(str(directory))}` writes it again"
        ) from error
    return path


def render(document: Document, form: ReportFormat, directory: Path, out: TextIO) -> None:
    """Write one report to an open stream. ``directory`` is what its commands name."""
    # Each format is imported when it is asked for: jinja2 is not for those who want JSON.
    match form:
        case ReportFormat.JSON:
            document.write_json(out)
        case ReportFormat.CSV:
            from batch_cancel.report.csv import write_csv  # noqa: PLC0415

            write_csv(document, out)
        case ReportFormat.MD:
            from batch_cancel.report.markdown import write_markdown  # noqa: PLC0415

            write_markdown(document, directory, out)
        case ReportFormat.HTML:
            from batch_cancel.report.html import write_html  # noqa: PLC0415

            write_html(document, directory, out)
        case _:
            assert_never(form)


@contextmanager
def opened(directory: Path) -> Iterator[Document]:
    """The document of a run directory, as its ledger was at one moment.

    Raises:
        LedgerError: there is no ledger, or it is damaged, is none of ours, or is of a newer version.
    """
    path = directory / LEDGER_NAME
    schema.check(path)
    reader = LedgerReader(path)
    try:
        # Only of a sweep without an end: for an instant it keeps others out. And before the snapshot, which then has
        # the end of one that ends in between: looked at afterwards, its process is gone, as if it had been killed.
        at_work = reader.facts().get("finished_at") is None and in_use(directory)
        with reader.snapshot():
            document = Document(reader)
            document.at_work = at_work and document.facts.get("finished_at") is None
            yield document
    except sqlite3.Error as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error
    finally:
        reader.close()
