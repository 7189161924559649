"""From a path (or standard input) and a format to rows."""

import io
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, assert_never

from batch_cancel.core.errors import InputError, Problem, UsageError
from batch_cancel.core.wording import quoted
from batch_cancel.manifest.doubts import tell_doubts
from batch_cancel.manifest.rows import ManifestRow
from batch_cancel.settings import ManifestFormat

STANDARD_INPUT = "-"
NAME_OF_STANDARD_INPUT = "standard input"
"""What faults call it."""
BLOCK_BYTES = 1 << 16

ENDINGS = {
    ".csv": ManifestFormat.CSV,
    ".tsv": ManifestFormat.TSV,
    ".tab": ManifestFormat.TSV,
    ".yaml": ManifestFormat.YAML,
    ".yml": ManifestFormat.YAML,
    ".json": ManifestFormat.JSON,
    ".jsonl": ManifestFormat.JSONL,
    ".ndjson": ManifestFormat.JSONL,
}

WORKBOOKS = frozenset({".xlsx", ".xls", ".ods"})


def format_by_ending(path: str) -> ManifestFormat:
    """The format that a path's ending stands for.

    Raises:
        InputError: it stands for none, or the path is ``-`` or a directory's.
    """
    forms = "|".join(ManifestFormat)
    if path == STANDARD_INPUT:
        raise _refused(NAME_OF_STANDARD_INPUT, f"its format is not known: give --manifest-format {forms}")
    ending = Path(path).suffix
    if found := ENDINGS.get(ending.lower()):
        return found
    if ending.lower() in WORKBOOKS:
        raise _refused(path, "is a workbook: save the sheet with the list as CSV")
    if Path(path).is_dir():
        raise _refused(path, os_fault(IsADirectoryError()))
    if not ending and not Path(path).exists():
        raise _refused(path, os_fault(FileNotFoundError()))
    what = f"the file ending {quoted(ending)} is not known" if ending else "the file has no ending"
    known = ", ".join(ENDINGS)
    raise _refused(path, f"{what} (known: {known}): give --manifest-format {forms}")


def read_manifest(
    path: str,
    file_format: ManifestFormat | None = None,
    *,
    stdin: BinaryIO | None = None,
    at: Path | BinaryIO | None = None,
    on_remark: Callable[[str], None] = lambda _: None,
) -> Generator[ManifestRow | Problem, None, None]:
    """The rows of a manifest in the file's order, each bad row as the Problem that it is.

    Args:
        path: a file, or ``-`` for standard input.
        file_format: None for "by the file's ending".
        stdin: what ``-`` reads; the process's own standard input if None.
        at: where the file stands on this machine, or the open file, if ``path`` is its name elsewhere.
        on_remark: told what is no fault, and should be known.

    Raises:
        InputError: the file cannot be opened, or from some place on not be read (while iterating).
    """
    chosen = file_format or format_by_ending(path)
    source = name_of(path)
    try:
        opened = _opened(str(at or path), stdin) if at is None or isinstance(at, Path) else nullcontext(at)
        with opened as stream, closing(_rows(stream, chosen, source, on_remark)) as rows:
            yield from tell_doubts(rows, source, on_remark)
    except OSError as error:
        raise _refused(source, os_fault(error)) from error


def name_of(path: str) -> str:
    """What faults call a list: its path, or standard input."""
    return NAME_OF_STANDARD_INPUT if path == STANDARD_INPUT else path


def comes_from_a_pipe(path: str) -> bool:
    """Whether a manifest is not there yet: whoever writes it may take his time, or never come."""
    try:
        if path == STANDARD_INPUT:
            return sys.stdin is not None and not stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)
        return Path(path).is_fifo()
    except (OSError, ValueError):
        return False


def copy_manifest(path: str, file_format: ManifestFormat | None) -> BinaryIO:
    """What comes from a pipe, to its end, in a file without a name: no death leaves it behind.

    Raises:
        InputError: as :func:`read_manifest` does before its first row.
        UsageError: there is no room for it; the list is not what is wrong.
    """
    if file_format is None:
        format_by_ending(path)  # a fault that need not be waited for
    try:
        file = TemporaryFile()  # noqa: SIM115  # whoever reads it closes it
        try:
            file.writelines(_blocks(path))
            file.seek(0)
        except BaseException:
            with suppress(OSError):  # what still waits to be written finds no room at the closing either
                file.close()
            raise
    except OSError as error:
        raise no_room(error, "the list") from error
    return file


def no_room(error: OSError, what: str) -> UsageError:
    """Where what is read has to be kept meanwhile, and cannot be: it is not what is wrong."""
    where = f" in {tempfile.tempdir}" if tempfile.tempdir else ""  # None where no directory can be written to
    return UsageError(f"{what} cannot be kept{where} while it is read: {error.strerror or error}; nothing was called")


def _blocks(path: str) -> Iterator[bytes]:
    try:
        with _opened(path, None) as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        raise _refused(name_of(path), os_fault(error)) from error


def _opened(path: str, stdin: BinaryIO | None) -> AbstractContextManager[BinaryIO]:
    if path == STANDARD_INPUT:
        if stdin is None and sys.stdin is None:
            raise _refused(NAME_OF_STANDARD_INPUT, "is closed: there is no list to read")
        return nullcontext(stdin or sys.stdin.buffer)
    try:
        return Path(path).open("rb")
    except ValueError as error:
        raise _refused(path, os_fault(error)) from error


def _rows(
    stream: BinaryIO, chosen: ManifestFormat, source: str, on_remark: Callable[[str], None]
) -> Generator[ManifestRow | Problem, None, None]:
    # Each reader comes with its own library, so that a CSV of ten rows does not wait for YAML's.
    if chosen is ManifestFormat.YAML:
        from batch_cancel.manifest.yaml_rows import read_yaml  # noqa: PLC0415

        yield from read_yaml(stream, source)
        return
    # Bytes that are not UTF-8 come through as lone surrogates, so that the row that holds them can be named.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        match chosen:
            case ManifestFormat.CSV | ManifestFormat.TSV:
                from batch_cancel.manifest.delimited import read_delimited  # noqa: PLC0415

                yield from read_delimited(text, source, "," if chosen is ManifestFormat.CSV else "\t")
            case ManifestFormat.JSON:
                from batch_cancel.manifest.json_rows import read_json  # noqa: PLC0415

                yield from read_json(text, source, on_remark)
            case ManifestFormat.JSONL:
                from batch_cancel.manifest.json_rows import read_json_lines  # noqa: PLC0415

                yield from read_json_lines(text, source)
            case _:
                assert_never(chosen)
    finally:
        text.detach()  # standard input is not ours to close


def os_fault(error: OSError | ValueError) -> str:
    """The sentence for a file that cannot be opened (ValueError: its name holds a NUL)."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "is a directory, not a file"
        case PermissionError():
            return "may not be read (permission denied)"
        case OSError():
            return f"cannot be read: {error.strerror or error}"
        case _:
            return f"cannot be read: {error}"


def _refused(source: str, message: str) -> InputError:
    return InputError([Problem(source, message)])
