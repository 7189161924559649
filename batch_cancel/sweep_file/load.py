"""From a sweep file to settings, or to the list of all that is wrong with it."""

import io
import re
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from batch_cancel.core.errors import InputError, Problem
from batch_cancel.core.selection import Protection, Selection
from batch_cancel.core.wording import did_you_mean, quoted
from batch_cancel.glue.outbox import SCHEME
from batch_cancel.manifest.read import STANDARD_INPUT, format_by_ending
from batch_cancel.settings import (
    Cost,
    DiscoverySource,
    Guardrails,
    ManifestSource,
    Notify,
    Rate,
    Report,
    Retry,
    Settings,
    TargetSettings,
    Verify,
)
from batch_cancel.sweep_file.model import SECTIONS, ManifestKeys, SweepKeys, TargetKeys
from batch_cancel.sweep_file.tree import Keys, Tree, read_small, read_tree


class SweepFile(NamedTuple):
    """What a sweep file says; ``source_given`` is False where it leaves the source to the flags."""

    settings: Settings
    source_given: bool


def load_sweep_file(path: str) -> SweepFile:
    """Read a sweep file.

    Raises:
        InputError: with every fault, each at its line and column.
    """
    tree = _tree(path)
    problems = list(tree.problems)
    try:
        keys = SweepKeys.model_validate(tree.root)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [problem for detail in details if (problem := _problem(detail, tree))]
    else:
        settings = _settings(keys, Path(path).parent)
        if isinstance(keys.source, ManifestKeys) and keys.source.format is None:
            problems += _format_problems(keys.source.manifest, tree)
        if not problems:
            return SweepFile(settings, keys.source is not None)
    raise InputError(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))


def _tree(path: str) -> Tree:
    """What the file holds, a mapping.

    Raises:
        InputError: it cannot be read, or it is another kind of file.
    """
    tree = read_tree(io.BytesIO(read_small(path, "a sweep file")), path)
    if not isinstance(tree.root, dict):
        rows = ", and this is a list: if it is one of runs, --manifest takes it" if isinstance(tree.root, list) else ""
        raise InputError([Problem(path, f"a sweep file is a mapping of keys to values{rows}", *tree.values[()])])
    if "world" in tree.root:
        what = "is a scenario, not a sweep file: batch-cancel demo --scenario plays it, simulate --scenario serves it"
        raise InputError([Problem(path, what)])
    return tree


def _format_problems(manifest: str, tree: Tree) -> list[Problem]:
    try:
        format_by_ending(manifest)
    except InputError as error:
        said = error.problems[0].message.replace("--manifest-format", "source.format")
        return [_at(tree, ("source", "manifest"), f"source.manifest: {said}")]
    return []


# -- what is wrong ----------------------------------------------------------------------------------------------------


def _problem(detail: ErrorDetails, tree: Tree) -> Problem | None:
    """Pydantic's finding in our words, at its place; None where the same was said already."""
    path = _path_in(tree, detail["loc"])
    name = ".".join(str(part) for part in path if isinstance(part, str))
    if detail["type"] == "extra_forbidden":
        section = tuple(part for part in path[:-1] if isinstance(part, str))
        known = SECTIONS[section].model_fields
        message = f"unknown key {quoted(str(path[-1]))}{did_you_mean(str(path[-1]), known)}"
        return Problem(tree.source, message, *tree.keys[path])
    if detail["type"] == "missing":
        if path in tree.without_value:
            return None
        return _at(tree, path, f"{name} lacks the key {detail['loc'][-1]}")
    if path in tree.without_value:
        return None
    said = _said(detail, tree.texts.get(path, ""))
    return _at(tree, path, f"{name}: {said}" if name else said)


def _path_in(tree: Tree, loc: tuple[int | str, ...]) -> Keys:
    """The part of pydantic's path that exists in the file: it names alternatives, too, and keys that are not there."""
    path: Keys = ()
    for part in loc:
        if (*path, part) in tree.values:
            path = (*path, part)
    return path


def _at(tree: Tree, path: Keys, message: str) -> Problem:
    while path not in tree.values:
        path = path[:-1]
    return Problem(tree.source, message, *tree.values[path])


_SAYINGS = {
    "model_type": "{shown} is not a mapping of keys to values",
    "dict_type": "{shown} is not a mapping of keys to values",
    "bool_type": "{shown} is neither true nor false",
    "int_type": "{shown} is not a whole number",
    "int_from_float": "{shown} is not a whole number",
    "float_type": "{shown} is not a number",
    "finite_number": "{shown} is not a number",
    "greater_than": "{shown} is not more than {gt:g}",
    "greater_than_equal": "{shown} is less than {ge:g}",
    "less_than_equal": "{shown} is more than {le:g}",
    "value_error": "{error}",
}
"""Pydantic's kinds of fault, and what we say."""


def _said(detail: ErrorDetails, text: str) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    shown = quoted(text) if text else "this"
    match detail["type"]:
        case "string_type":
            return f'{shown} is not text: quote it, "{text}"' if text else "a list or mapping stands where text belongs"
        case "list_type":
            # Without quotes an account would be refused next, and a glob that begins so taken for an alias.
            item = f'"{text}"' if text.isdecimal() or text.startswith("*") else text
            return f"{shown} is not a list: write [{item}]" if text else "a mapping stands where a list belongs"
        case "literal_error":
            choices = re.findall(r"'([^']*)'", str(context["expected"])) or [str(context["expected"])]
            if text in choices:
                return f"{shown} is text: write it without quotes"
            other = " or {manifest: FILE}" if choices == ["discovery"] else ""
            mend = did_you_mean(text, choices) or (f": write {choices[0]}{other}" if len(choices) == 1 else "")
            return f"{shown} is not {' or '.join(choices)}{mend}"
        case kind if kind in _SAYINGS:
            return _SAYINGS[kind].format(shown=shown, **context)
        case _:
            return detail["msg"]


# -- what is right ----------------------------------------------------------------------------------------------------


def _settings(keys: SweepKeys, folder: Path) -> Settings:
    select, protect, guardrails = keys.select, keys.protect, keys.guardrails
    retry, verify, report, cost = keys.retry, keys.verify, keys.report, keys.cost
    return Settings(
        name=keys.name,
        reason=keys.reason,
        targets=(TargetSettings(),) if keys.targets is None else tuple(map(_target, keys.targets)),
        source=_source(keys, folder),
        dry_run=keys.dry_run,
        dry_run_only=keys.dry_run,
        selection=Selection()
        if select is None
        else Selection(
            transform_ids=_tuple(select.transform_ids),
            transform_names=_tuple(select.transform_names),
            tags=_tags(select.tags),
            statuses=tuple(select.statuses),
            task_types=_tuple(select.task_types),
            older_than=select.older_than,
            newer_than=select.newer_than,
        ),
        protection=Protection()
        if protect is None
        else Protection(
            transform_ids=tuple(protect.transform_ids),
            transform_names=tuple(protect.transform_names),
            tags=_tags(protect.tags),
        ),
        guardrails=Guardrails()
        if guardrails is None
        else Guardrails(
            max_runs=guardrails.max_runs,
            max_percent=guardrails.max_percent,
            allow_accounts=_tuple(guardrails.allow_accounts),
            max_errors=guardrails.max_errors,
        ),
        rate=Rate() if keys.rate is None else Rate(rps=keys.rate.rps, max_concurrency=keys.rate.max_concurrency),
        retry=Retry()
        if retry is None
        else Retry(
            max_attempts=retry.max_attempts,
            deadline_seconds=retry.deadline.total_seconds() if retry.deadline else None,
        ),
        verify=Verify()
        if verify is None
        else Verify(
            wait=verify.wait,
            timeout_seconds=verify.timeout.total_seconds() if verify.timeout else Verify().timeout_seconds,
        ),
        cost=None
        if cost is None
        else Cost(price_per_dpu_hour=cost.price_per_dpu_hour, currency=cost.currency, source=cost.source),
        report=Report() if report is None else Report(formats=tuple(report.formats), s3=report.s3),
        notify=None
        if keys.notify is None
        else Notify(sns_topic_arn=keys.notify.sns_topic_arn, on=tuple(keys.notify.on)),
    )


def _target(keys: TargetKeys) -> TargetSettings:
    return TargetSettings(
        profile=keys.profile,
        role_arn=keys.role_arn,
        role_name=keys.role_name,
        accounts=_tuple(keys.accounts),
        organization_units=_tuple(keys.organization_units),
        external_id=keys.external_id,
        regions="all" if keys.regions == ["all"] else _tuple(keys.regions),
    )


def _source(keys: SweepKeys, folder: Path) -> ManifestSource | DiscoverySource:
    if not isinstance(keys.source, ManifestKeys):
        return DiscoverySource()
    manifest = keys.source.manifest
    elsewhere = manifest == STANDARD_INPUT or manifest.startswith(SCHEME)
    path = manifest if elsewhere else str(folder / manifest)
    return ManifestSource(path=path, format=keys.source.format, skip_invalid=keys.source.skip_invalid)


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _tags(tags: dict[str, list[str]] | None) -> dict[str, tuple[str, ...]] | None:
    return None if tags is None else {key: tuple(values) for key, values in tags.items()}
