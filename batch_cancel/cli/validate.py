"""``validate`` and ``schema``: what is wrong with a file, and what a sweep file may hold. Neither calls anything."""

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batch_cancel.cli import sample
from batch_cancel.cli.grouped import GroupedOption
from batch_cancel.cli.options import Value
from batch_cancel.core.errors import GuardrailRefused, InputError, Problem
from batch_cancel.core.wording import counted, one_line
from batch_cancel.glue.outbox import SCHEME
from batch_cancel.manifest import ManifestRow, name_of, read_manifest
from batch_cancel.manifest.read import STANDARD_INPUT, comes_from_a_pipe
from batch_cancel.settings import ManifestFormat, ManifestSource, Source, TargetSettings

MOST_SHOWN = 1000
"""Faults of one file that are written out; the rest are counted."""

MOST_REMEMBERED = 100_000
"""Rows among which a run that is named again is found: memory is bounded, however long the list."""

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
    repeated: int = 0
    """Rows of runs that stand there already."""
    notes: list[Problem] = field(default_factory=list)
    """What is no fault, and may not be meant so."""
    note_count: int = 0

    def add(self, problem: Problem) -> None:
        """Count a row's faults, and keep those that are among the first."""
        for fault in problem.apart:
            self.problem_count += 1
            if self.problem_count <= MOST_SHOWN:
                self.problems.append(fault)

    def note(self, note: Problem) -> None:
        """The same with what is no fault."""
        self.note_count += 1
        if self.note_count <= MOST_SHOWN:
            self.notes.append(note)


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
    """Check sweep files, manifests, plans and scenarios: every fault, with its file, line and column.

    What comes from a pipe is taken for a manifest. Calls nothing. Exit code 2 if anything is wrong.
    """
    chosen = ManifestFormat(manifest_format) if manifest_format else None
    findings = (_examine(file, chosen) for file in files)
    if output == "json":
        wrong = _print_json(list(findings))
    else:
        told = [_print_text(finding) for finding in findings]
        wrong = any(told)
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
    if chosen is not None or comes_from_a_pipe(file):  # what is read of a pipe to tell what it holds, is gone
        return _examine_manifest(file, chosen)
    try:
        if file.lower().endswith((".yaml", ".yml")) and not _is_yaml_manifest(file):
            return _examine_scenario(file) if _is_scenario(file) else _examine_sweep_file(file)
        if file.lower().endswith(".json") and _is_plan(file):
            return _examine_plan(file)
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
    finding.says = ", ".join([*_places(settings.targets), _found_by(source)])
    return finding


def _found_by(source: Source) -> str:
    """What the runs are found by; a list that is not there is no fault: it may be written before each sweep."""
    if not isinstance(source, ManifestSource):
        return "discovery"
    elsewhere = source.path == STANDARD_INPUT or source.path.startswith(SCHEME)
    return f"manifest {source.path}" + ("" if elsewhere or Path(source.path).exists() else " (which is not there)")


def _places(targets: Sequence[TargetSettings]) -> Iterator[str]:
    """How many of everything that targets name: what a target is in a report, only a sweep finds out."""
    if not targets:
        yield "no target"
    elif targets == (TargetSettings(),):
        yield "the caller's account and region"
    for noun, names in (
        ("profile", {each.profile for each in targets}),
        ("role", {each.role_arn for each in targets}),
        ("account", {account for each in targets for account in each.accounts or ()}),
        ("organizational unit", {unit for each in targets for unit in each.organization_units or ()}),
    ):
        if named := len(names - {None}):
            yield counted(named, noun)
    regions = [each.regions for each in targets]
    if "all" in regions:
        yield "all regions"
    elif named := len({region for names in regions for region in names or ()}):
        yield counted(named, "region")


def _examine_scenario(file: str) -> Finding:
    from batch_cancel.simulator.scenario_file import load_scenario  # noqa: PLC0415  # as above

    finding = Finding(file, "scenario")
    try:
        scenario = load_scenario(file)
    except InputError as error:
        return _refused(finding, error)
    finding.says = f"{scenario.name}, {scenario.world.fleet.runs:,} runs"
    return finding


def _examine_plan(file: str) -> Finding:
    from batch_cancel.plan import read_plan  # noqa: PLC0415  # as above

    finding = Finding(file, "plan")
    try:
        plan = read_plan(Path(file))
        plan.check_unused()
        plan.check_fresh(datetime.now(UTC))
    except InputError as error:
        return _refused(finding, error)
    except GuardrailRefused as refused:
        said = str(refused).removesuffix("; nothing was cancelled")  # which nobody has asked here
        return _refused(finding, InputError([Problem(file, said)]))
    then = "to be reviewed, and not applied: its sweep file says dry_run: true"
    if not plan.document.get("only_for_review"):
        then = f"once it is reviewed, batch-cancel apply {shlex.quote(file)} cancels them, and nothing else"
    runs = counted(len(plan.document["cancel"]), "run")
    finding.says = f"{runs} to cancel, good until {plan.document['expires_at']}; {then}"
    return finding


def _is_plan(file: str) -> bool:
    """Whether a JSON file is one that plan wrote."""
    from batch_cancel.manifest.json_rows import is_plan  # noqa: PLC0415  # JSON's reader only for JSON

    try:
        with Path(file).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            return is_plan(stream, file)
    except (InputError, OSError, ValueError):
        return False  # whoever reads it as a manifest says what is wrong


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
    repeats = _Repeats(finding)
    count = 0
    remarks: list[str] = []
    try:
        for row in read_manifest(file, chosen, on_remark=remarks.append):
            if isinstance(row, ManifestRow):
                count += 1
                repeats.look_at(row)
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
    finding.says = counted(count, "row")
    if finding.repeated:
        once = "a run is cancelled once, with the labels of its first row"
        least = "at least " if count > MOST_REMEMBERED else ""
        finding.says += f", {least}{finding.repeated:,} of a run that stands there before ({once})"
    for names, word in ((finding.accounts, "account"), (finding.regions, "region")):
        if names:
            finding.says += f", {counted(len(names), word)}"
    finding.says += "".join(f"; {remark.removeprefix(f'{file}: ')}" for remark in remarks)
    return finding


class _Repeats:
    """The runs that a list has named so far, as far as they are remembered: what names one again, is counted."""

    def __init__(self, finding: Finding) -> None:
        self._finding = finding
        self._first: dict[int, tuple[int, int]] = {}
        """By a digest of the run: the line of its first row, and a digest of that one's labels."""

    def look_at(self, row: ManifestRow) -> None:
        run, labels = hash(row[1:5]), hash(frozenset(row.labels.items()))
        first = self._first.get(run)
        if first is None:
            if len(self._first) < MOST_REMEMBERED:
                self._first[run] = row.line, labels
            return
        self._finding.repeated += 1
        if first[1] != labels:
            said = f"the run of line {first[0]} again, with other labels: the report will have those of line {first[0]}"
            self._finding.note(Problem(name_of(self._finding.file), said, row.line))


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
    name = one_line(name_of(finding.file))
    if not finding.problem_count:
        click.echo(f"{name}: {finding.kind} is fine: {one_line(finding.says)}")
    for problem in finding.problems:
        click.echo(one_line(str(problem)))
    if finding.problem_count > MOST_SHOWN:
        click.echo(f"{name}: and {finding.problem_count - MOST_SHOWN:,} faults more")
    for note in finding.notes:
        click.echo(one_line(str(note)))
    if finding.note_count > MOST_SHOWN:
        click.echo(f"{name}: and {finding.note_count - MOST_SHOWN:,} rows more with other labels")
    return finding.problem_count > 0


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
        "repeated_rows": finding.repeated,
        "notes": [{"line": note.line, "message": note.message} for note in finding.notes],
    }
