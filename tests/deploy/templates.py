"""The CloudFormation templates as data, and the state machine as Step Functions gets it."""

import json
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parent.parent.parent / "configs" / "deploy"


class _Loader(yaml.SafeLoader):
    """YAML with ``!Ref`` and its like, which stand for themselves here."""


def _intrinsic(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {tag: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {tag: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {tag: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _intrinsic)


def template(name: str) -> dict[str, Any]:
    """A template of configs/deploy."""
    found: dict[str, Any] = yaml.load((DEPLOY / name).read_text(), _Loader)  # noqa: S506  # a SafeLoader with one addition
    return found


def state_machine(**substitutions: str) -> dict[str, Any]:
    """The definition, with the template's substitutions made as CloudFormation makes them: in its text."""
    machine = template("organization.yaml")["Resources"]["Machine"]["Properties"]
    assert set(machine["DefinitionSubstitutions"]) == set(substitutions)
    text = json.dumps(machine["Definition"])
    for name, value in substitutions.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    definition: dict[str, Any] = json.loads(text)
    return definition
