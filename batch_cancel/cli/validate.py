"""``validate`` and ``schema``: what is wrong with a file, and what a sweep file may hold. Neither calls anything."""

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from batch_cancel.cli import sample
from batch_cancel.cli.grouped import GroupedOption
from batch_cancel.cli.options import Value
from batch_cancel.core.errors import InputError, Problem
from batch_cancel.glue.outbox import SCHEME
from batch_cancel.manifest import ManifestRow, read_manifest
from batch_cancel.settings import DiscoverySource, ManifestFormat

MOST_SHOWN = 1000
"""Faults of one file that are written out; the rest are counted."""

_EXAMPLES = f"""\b
Examples:
  batch-cancel validate configs/cost-control.yaml
  batch-cancel validate runs.csv more-runs.jsonl
  some-command | batch-cancel validate - --manifest-format jsonl

{sample.for_help(yaml=True)}"""


@dataclass(slots=True)
class Finding:
    """What is known of a file after it was read."""

    file: str
    kind: str
    rows: int | None = None
    accounts: set[str] = field(default_factory=set)
    regions: set[str] = field(default_factory=set)
    says: str = ""
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0

    def add(self, problem: Problem) -> None:
        """Count a fault, and keep it if it is one of the first."""
        self.problem_count += 1
        if self.problem_count <= MOST_SHOWN:
            self.problems.append(problem)


@click.command(epilog=_EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=Value("FILE", str))
@click.option(
    "--manifest-format",
    cls=GroupedOption,
    type=click.Choice([str(kind) for kind in ManifestFormat]),
    envvar="BATCH_CANCEL_MANIFEST_FORMAT",
    help="Take every file for a manifest in this format (default: by its ending and content).",
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="How to print the findings.")
def validate(files: tuple[str, ...], manifest_format: str | None, output: str) -> None:
    """Check sweep files, manifests and scenarios: every fault, with its file, line and column.

    Calls nothing. Exit code 2 if anything is wrong.
    """
    chosen = ManifestFormat(manifest_format) if manifest_format else None
    findings = (_examine(file, chosen) for file in files)
    if output == "json":
        wrong = _print_json(list(findings))
    else:
        wrong = [_print_text(finding) for finding in findings].count(True) > 0
    if wrong:
        sys.exit(2)


@click.command(epilog="Example: batch-cancel schema > sweep.schema.json")
def schema() -> None:
    """Print the JSON Schema of the sweep file.

    A list of runs has none: batch-cancel validate --help shows one.
    """
    from batch_cancel.sweep_file import json_schema  # noqa: PLC0415  # brings pydantic, which --help can do without

    click.echo(json.dumps(json_schema(), indent=2))


def _examine(file: str, chosen: ManifestFormat | None) -> Finding:
    if file.startswith(SCHEME):
        sentence = "is in S3, and validate calls nothing: copy it here first (aws s3 cp), or try run --dry-run"
        return _refused(Finding(file, "file"), InputError([Problem(file, sentence)]))
    try:
        if chosen is None and file.lower().endswith((".yaml", ".yml")) and not _is_yaml_manifest(file):
            return _examine_scenario(file) if _is_scenario(file) else _examine_sweep_file(file)
    except InputError as error:
        return _refused(Finding(file, "file"), error)
    return _examine_manifest(file, chosen)


def _examine_sweep_file(file: str) -> Finding:
    from batch_cancel.sweep_file import load_sweep_file  # noqa: PLC0415  # as above

    finding = Finding(file, "sweep file")
    try:
        settings = load_sweep_file(file).settings
    except InputError as error:
        return _refused(finding, error)
    source = settings.source
    targets = len(settings.targets)
    finding.says = ", ".join(
        [
            f"{targets} target{'' if targets == 1 else 's'}",
            "discovery" if isinstance(source, DiscoverySource) else f"manifest {source.path}",
        ]
    )
    return finding


def _examine_scenario(file: str) -> Finding:
    from batch_cancel.simulator.scenario_file import load_scenario  # noqa: PLC0415  # as above

    finding = Finding(file, "scenario")
    try:
        scenario = load_scenario(file)
    except InputError as error:
        return _refused(finding, error)
    finding.says = f"{scenario.name}, {scenario.world.fleet.runs:,} runs"
    return finding


def _is_scenario(file: str) -> bool:
    """Whether a YAML file describes a world to practise in, which no sweep file does."""
    from batch_cancel.sweep_file.tree import read_tree  # noqa: PLC0415  # as above

    try:
        with Path(file).open("rb") as stream:
            root = read_tree(stream, file).root
    except (InputError, OSError, ValueError):
        return False  # whoever reads it as a sweep file says what is wrong
    return isinstance(root, dict) and "world" in root


def _examine_manifest(file: str, chosen: ManifestFormat | None) -> Finding:
    finding = Finding(file, "manifest", rows=0)
    count = 0
    try:
        for row in read_manifest(file, chosen):
            if isinstance(row, ManifestRow):
                count += 1
                if row.account_id and len(finding.accounts) < MOST_SHOWN:
                    finding.accounts.add(row.account_id)
                if row.region and len(finding.regions) < MOST_SHOWN:
                    finding.regions.add(row.region)
            else:
                finding.add(row)
    except InputError as error:
        return _refused(finding, error)
    finally:
        finding.rows = count
    finding.says = f"{count:,} row{'' if count == 1 else 's'}"
    for names, word in ((finding.accounts, "account"), (finding.regions, "region")):
        if names:
            finding.says += f", {len(names)} {word}{'' if len(names) == 1 else 's'}"
    return finding


def _refused(finding: Finding, error: InputError) -> Finding:
    for problem in error.problems:
        finding.add(problem)
    return finding


def _is_yaml_manifest(file: str) -> bool:
    """Whether a YAML file is a list, or begins with a key that only manifests have."""
    from batch_cancel.manifest.read import os_fault  # noqa: PLC0415  # YAML's library only for YAML
    from batch_cancel.manifest.yaml_rows import looks_like_rows  # noqa: PLC0415

    try:
        with Path(file).open("rb") as stream:
            return looks_like_rows(stream, file)
    except (OSError, ValueError) as error:
        raise InputError([Problem(file, os_fault(error))]) from error


# -- what is printed --------------------------------------------------------------------------------------------------


def _print_text(finding: Finding) -> bool:
    if not finding.problem_count:
        click.echo(f"{_printable(finding.file)}: {finding.kind} is fine: {_printable(finding.says)}")
        return False
    for problem in finding.problems:
        click.echo(_printable(str(problem)))
    if finding.problem_count > MOST_SHOWN:
        click.echo(f"{_printable(finding.file)}: and {finding.problem_count - MOST_SHOWN:,} faults more")
    return True


def _print_json(findings: list[Finding]) -> bool:
    wrong = any(finding.problem_count for finding in findings)
    document = {"ok": not wrong, "files": [_as_json(finding) for finding in findings]}
    click.echo(json.dumps(document, indent=2))
    return wrong


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        "file": finding.file,
        "kind": finding.kind,
        "ok": not finding.problem_count,
        "rows": finding.rows,
        "accounts": sorted(finding.accounts),
        "regions": sorted(finding.regions),
        "problem_count": finding.problem_count,
        "problems": [
            {"line": problem.line, "column": problem.column, "message": problem.message, "text": problem.text}
            for problem in finding.problems
        ],
    }


def _printable(text: str) -> str:
    return "".join(_pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Names of files and of columns come from outside: nothing in them may move the cursor or break the output."""
    for printable, characters in itertools.groupby(text, str.isprintable):
        piece = "".join(characters)
        yield piece if printable else piece.encode("unicode_escape", "backslashreplace").decode()
