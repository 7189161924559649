"""What a row of a manifest is, and what can be wrong with one, whatever the format."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from batch_cancel.core.errors import InputError, Problem
from batch_cancel.core.wording import did_you_mean, quoted
from batch_cancel.glue.regions import region_fault

LONGEST_ID = 255
"""Characters (Glue API reference, CancelMLTaskRun: TransformId, TaskRunId)."""

NEEDED = ("transform_id", "task_run_id")
"""The columns or keys without which there is no run."""

NO_LABELS: Mapping[str, str] = MappingProxyType({})

FIELDS = {
    "transform_id": "transform_id",
    "TransformId": "transform_id",
    "task_run_id": "task_run_id",
    "TaskRunId": "task_run_id",
    "account_id": "account_id",
    "region": "region",
}
"""What a column or key is called, and which field it is; any other is a label."""

NOT_IN_AN_ID = re.compile("[^\t\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_ROUNDED = re.compile(r"[0-9][.,]?[0-9]*E\+[0-9]+", re.ASCII | re.IGNORECASE)


class ManifestRow(NamedTuple):
    """One run that is asked for; ``line`` is where its row begins, counted from 1."""

    line: int
    transform_id: str
    task_run_id: str
    account_id: str | None
    region: str | None
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NotText:
    """A scalar that its format takes for something else than text: ``kind`` is "a number", ``text`` as written."""

    kind: str
    text: str


class RepeatedKey(dict[str, object]):
    """A mapping that names one key twice; it holds the last value, and :attr:`key` says which."""

    key = ""


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a row: each fault with the field where it is, by the name that stands in the file.

    Never empty; None for the field where the fault is the row's as a whole.
    """

    found: tuple[tuple[str | None, str], ...]

    def problem(self, source: str, place_of: Callable[[str | None], tuple[int, int]], text: str) -> Problem:
        """The row's Problem; ``place_of`` tells line and column of a field."""
        return problem_of_row(source, ((place_of(field), message) for field, message in self.found), text)


def problem_of_row(source: str, faults: Iterable[tuple[tuple[int, int], str]], text: str) -> Problem:
    """One row's faults as one Problem, in the file's order: a sentence for each place, a line and a column."""
    by_place: dict[tuple[int, int], list[str]] = {}
    for place, message in faults:
        by_place.setdefault(place, []).append(message)
    first, *further = (Problem(source, "; ".join(by_place[place]), *place, text) for place in sorted(by_place))
    return replace(first, further=tuple(further))


def unreadable(source: str, message: str, line: int | None = None, column: int | None = None) -> InputError:
    """A fault after which the rest of the file cannot be read."""
    return InputError([Problem(source, message, line, column)])


def id_fault(name: str, value: str) -> str | None:
    """What is wrong with an id, or None."""
    if not value:
        return f"{name} is empty"
    if found := NOT_IN_AN_ID.search(value):
        code, place = ord(found[0]), f"character {found.start() + 1}"
        if 0xDC80 <= code <= 0xDCFF:  # how "surrogateescape" brings a byte that is not UTF-8
            return f"{name} is not UTF-8: byte 0x{code - 0xDC00:02X} at {place}; save the file as UTF-8"
        return f"{name} holds U+{code:04X} at {place}, which no id can"
    if len(value) > LONGEST_ID:
        return f"{name} has {len(value):,} characters; at most {LONGEST_ID} are allowed"
    return None


def check_encoding(start: str, source: str) -> None:
    """Refuse a text by how it begins.

    Args:
        start: read as UTF-8, bytes that are not as lone surrogates.

    Raises:
        InputError: it is UTF-16 or UTF-32.
    """
    if start.startswith(("\udcff\udcfe", "\udcfe\udcff")) or "\0" in start[:4]:
        raise unreadable(source, "the file is not UTF-8 (UTF-16?): save it as UTF-8", 1, 1)


def account_fault(value: str) -> str | None:
    """What is wrong with an account id, or None."""
    if _ACCOUNT.fullmatch(value):
        return None
    hint = ""
    if value.isdecimal() and len(value) < 12:
        hint = " (was a leading zero lost?)"
    elif _ROUNDED.fullmatch(value):
        hint = " (a spreadsheet rounded it as a number: make it text there)"
    return f"account_id {quoted(value)} is not twelve digits{hint}"


def label_fault(name: str, value: str) -> str | None:
    """What is wrong with a label, or None: any text will do."""
    if value.isascii():
        return None
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        what = f"byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else f"U+{code:04X}"
        return f"{quoted(name)} is not UTF-8: {what} at character {error.start + 1}; save the file as UTF-8"
    return None


def missing(field: str, names: object) -> str:
    """The sentence for a required column or key that is not there."""
    others = [name for name in names if name not in FIELDS] if isinstance(names, list) else []
    for spelling in others:
        hint = did_you_mean(spelling, [field])
        if hint and hint == did_you_mean(spelling, NEEDED):  # else it is the other id, misspelt
            return f"there is no {field}, but {quoted(spelling)}{hint}"
    return f"there is no {field}"


def row_of(line: int, entries: Mapping[str, object]) -> ManifestRow | Faults:  # noqa: C901  # a field a branch
    """A row from the keys and values of a mapping."""
    found: dict[str, str] = {}
    labels: dict[str, str] = {}
    faults: list[tuple[str | None, str]] = []
    if isinstance(entries, RepeatedKey):
        faults.append((entries.key, f"{quoted(entries.key)} stands there twice"))
    for name, value in entries.items():
        field = FIELDS.get(name)
        if field is None:
            if value is not None:
                text = label_text(value)
                labels[name] = text
                if fault := label_fault(name, text) or label_fault("a key", name):
                    faults.append((name, fault))
        elif field in found:
            faults.append((name, f"{field} is given twice"))
        elif isinstance(value, str):
            found[field] = value
            if fault := _field_fault(field, value):
                faults.append((name, fault))
        elif value is not None or field in NEEDED:
            found[field] = ""
            faults.append((name, f"{field} {_what_it_is(value)}"))
    faults.extend((None, missing(field, list(entries))) for field in NEEDED if field not in found)
    if faults:
        return Faults(tuple(faults))
    return ManifestRow(
        line,
        found["transform_id"],
        found["task_run_id"],
        found.get("account_id") or None,
        found.get("region") or None,
        labels or NO_LABELS,
    )


def _field_fault(field: str, value: str) -> str | None:
    if field in NEEDED:
        return id_fault(field, value)
    if not value:
        return None
    return account_fault(value) if field == "account_id" else region_fault(value)


def _what_it_is(value: object) -> str:
    match value:
        case NotText(kind=kind, text=text):
            return f'is {kind}: quote it, "{text[:LONGEST_ID]}"'
        case bool():
            return f'is a truth value: quote it, "{str(value).lower()}"'
        case None:
            return "is null"
        case _:
            return f"is {'a list' if isinstance(value, list) else 'a mapping'}, not text"


def label_text(value: object) -> str:
    """A label's text: what was written, or compact JSON for what has parts."""
    match value:
        case str():
            return value
        case NotText(text=text):
            return text
        case bool():
            return str(value).lower()
        case list() | dict():
            return _compact_json(value)
        case _:
            return "null"


def _compact_json(value: object) -> str:
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case list():
            return "[" + ",".join(_compact_json(item) for item in value) + "]"
        case dict():
            pairs = (f"{json.dumps(key, ensure_ascii=False)}:{_compact_json(item)}" for key, item in value.items())
            return "{" + ",".join(pairs) + "}"
        case _:
            return label_text(value)
