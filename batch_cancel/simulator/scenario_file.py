"""Worlds as documents: YAML scenarios and the changes that a running endpoint takes. Strict; every fault is named."""

import io
import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from batch_cancel.core.errors import InputError, Problem
from batch_cancel.core.wording import did_you_mean, quoted
from batch_cancel.manifest.rows import NotText
from batch_cancel.simulator.settings import STRICT, Fault, Limit, WorldSettings, trouble_in
from batch_cancel.sweep_file.tree import Keys, Tree, read_small, read_tree


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world to practise in: what has happened, what is to be done about it, and the world itself.

    Attributes:
        latency_seconds: of a round trip, from and to.
        command: what to try first.
    """

    __pydantic_config__ = STRICT

    story: str
    goal: str
    world: WorldSettings
    name: str = "scenario"
    command: str = "batch-cancel run --discover --yes"
    latency_seconds: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Changes:
    """Other faults or limits for a world that runs; None leaves them as they are."""

    __pydantic_config__ = STRICT

    faults: tuple[Fault, ...] | None = None
    limits: tuple[Limit, ...] | None = None


def load_scenario(path: str) -> Scenario:
    """Read a scenario file.

    Raises:
        InputError: with every fault, each at its line and column.
    """
    return parse_scenario(read_small(path, "a scenario"), path)


def parse_scenario(data: bytes, source: str) -> Scenario:
    """Read a scenario from YAML text.

    Raises:
        InputError: with every fault, each at its line and column.
    """
    tree = read_tree(io.BytesIO(data), source)
    problems = list(tree.problems)
    try:
        # Strict, but as JSON: there a list is how a tuple is written, and text how a word of an enumeration is.
        scenario = TypeAdapter(Scenario).validate_json(json.dumps(tree.root, default=_as_written))
    except ValidationError as error:
        problems += [_problem(detail, tree, Scenario) for detail in error.errors(include_url=False)]
    else:
        problems += [_at(tree, ("world", *path), said) for path, said in trouble_in(scenario.world)]
        if not problems:
            return scenario
    raise InputError(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))


def read_changes(data: bytes) -> Changes:
    """Read what is to change from JSON.

    Raises:
        InputError: with every fault.
    """
    try:
        changes = TypeAdapter(Changes).validate_json(data)
    except ValidationError as error:
        raise InputError(
            [_problem(detail, Tree("body"), Changes) for detail in error.errors(include_url=False)]
        ) from error
    wrong = trouble_in(WorldSettings(faults=changes.faults or (), limits=changes.limits or ()))
    if wrong:
        raise InputError([Problem("body", f"{_name(path)}: {said}") for path, said in wrong])
    return changes


def _as_written(value: object) -> str:
    """A scalar that YAML takes for something else, such as 012: as it was written."""
    if isinstance(value, NotText):
        return value.text
    raise TypeError(str(type(value)))


def _problem(detail: ErrorDetails, tree: Tree, document: type[Scenario | Changes]) -> Problem:
    path: Keys = tuple(detail["loc"])
    word = quoted(str(path[-1])) if path else "this"
    match detail["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            message = f"unknown key {word}{did_you_mean(str(path[-1]), _keys_beside(path, document))}"
            return Problem(tree.source, message, *tree.keys.get(path, (None, None)))
        case "missing" | "missing_argument":
            return _at(tree, path[:-1], f"the key {path[-1]} is missing")
        case "enum":
            choices = str(detail.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
            given = str(detail["input"])
            said = f"unknown word {quoted(given)}{did_you_mean(given, choices)} (choose from {', '.join(choices)})"
            return _at(tree, path, said)
        case _:
            return _at(tree, path, detail["msg"][0].lower() + detail["msg"][1:])


def _keys_beside(path: Keys, document: type[Scenario | Changes]) -> list[str]:
    """The keys that are known where an unknown one stands, by walking down the classes."""
    schema: Any = TypeAdapter(document).json_schema()
    node = schema
    for part in path[:-1]:
        node = _resolved(schema, node)
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return list(_resolved(schema, node).get("properties", {}))


def _resolved(schema: Any, node: Any) -> Any:  # noqa: ANN401  # JSON Schema, as plain data
    while True:
        if "anyOf" in node:  # a key that may be left out: what it is otherwise comes first
            node = node["anyOf"][0]
        elif "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        else:
            return node


def _at(tree: Tree, path: Keys, message: str) -> Problem:
    named = f"{_name(path)}: {message}" if path else message
    while path and path not in tree.values:
        path = path[:-1]
    place = tree.values.get(path)
    return Problem(tree.source, named, *(place or (None, None)))


def _name(path: Keys) -> str:
    return ".".join(str(part) for part in path)
