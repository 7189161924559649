"""The README's parts that the program itself knows: ``python -m tests.readme`` writes them anew."""

import re
from pathlib import Path
from typing import Any

from batch_cancel.cli import COMMANDS, sample
from batch_cancel.sweep_file import json_schema

README = Path(__file__).parent.parent / "README.md"


def reference() -> str:
    """Every key of the sweep file, from its schema."""
    schema = json_schema()
    lines = ["| key | what it says |", "|---|---|"]
    _add(schema, schema, "", lines)
    return "\n".join(lines)


def commands() -> str:
    """Every command, and what it does."""
    return "\n".join(
        ["| command | what it does |", "|---|---|", *(f"| `{name}` | {does} |" for name, (_, does) in COMMANDS.items())]
    )


def manifest() -> str:
    """A list of runs, as the help shows it."""
    return f"```text\n{sample.CSV}```\n\n```yaml\n{sample.YAML}```"


PARTS = {"sweep file": reference, "commands": commands, "manifest": manifest}


def written(text: str) -> str:
    """A README with its generated parts made anew."""
    for name, make in PARTS.items():
        begin, end = f"<!-- {name}: made by python -m tests.readme -->\n", f"\n<!-- end of {name} -->"
        text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: begin + make() + end, text, flags=re.DOTALL)  # noqa: B023  # used at once
    return text


def _add(schema: dict[str, Any], node: dict[str, Any], prefix: str, lines: list[str]) -> None:
    for key, value in node["properties"].items():
        inner = _object(schema, value)
        said = value.get("description") or (inner or {}).get("description", "")
        lines.append(f"| `{prefix}{key}` | {said.replace('|', '/')} |")
        if inner is not None:
            _add(schema, inner, f"{prefix}{key}{'[]' if value.get('type') == 'array' else ''}.", lines)


def _object(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any] | None:
    """The mapping of known keys that a value is, or is a list of."""
    for candidate in [value, value.get("items", {}), *value.get("anyOf", []), *value.get("oneOf", [])]:
        reference = candidate.get("$ref")
        found = schema["$defs"][reference.rsplit("/", 1)[1]] if reference else candidate
        if "properties" in found and found is not value:
            mapping: dict[str, Any] = found
            return mapping
        if "items" in found and (inner := _object(schema, found["items"])) is not None and found is not value:
            return inner
    return None


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
