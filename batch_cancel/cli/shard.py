"""``shard``: a sweep in parts, for an engine that runs many at once."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from batch_cancel.cli.options import Value
from batch_cancel.core.errors import CallFailed, LedgerError, RecordLost, UsageError
from batch_cancel.core.wording import counted, printable
from batch_cancel.glue.outbox import S3Place
from batch_cancel.private_file import private
from batch_cancel.settings import Consent, Endpoint, ManifestSource, Settings
from batch_cancel.values import check_s3

_EXAMPLES = """\b
Examples:
  batch-cancel shard configs/cost-control.yaml --yes --caps-per-shard --out shards/
  batch-cancel shard sweep.yaml --dry-run --out shards/ --s3 s3://ops-reports/shards/nightly/
  batch-cancel shard sweep.yaml --yes --out shards/ --s3 s3://ops-reports/shards/ --slice-runs 2000 --format jsonl

\b
Each item is an event of the Lambda function (configs/deploy/): an account and region, or a slice of the list. The
function reads and writes S3 alone: slices need --s3, and the sweep file report.s3, unless its BATCH_CANCEL_REPORTS says
where reports go.
Afterwards: batch-cancel merge --sharding shards/sharding.json RUN_DIR... --out DIR
Exit code 0; 1 where no part could be made for some place, or rows were skipped (sharding.json names them, and so will
the merged report).
"""


@click.command(epilog=_EXAMPLES)
@click.argument("sweep_file", metavar="SWEEP.yaml")
@click.option("--out", metavar="DIR", required=True, help="Where to write items, sharding.json and slices.")
@click.option("--yes", is_flag=True, help="The items say yes: their runs are cancelled without asking.")
@click.option("--dry-run", is_flag=True, help="The items are dry runs.")
@click.option("--s3", type=Value("PREFIX", check_s3), help="Upload DIR there; the items name it.")
@click.option(
    "--slice-runs", type=click.IntRange(1), metavar="N", default=5_000, help="Rows of a list in a part (default 5000)."
)
@click.option("--format", "form", type=click.Choice(["json", "jsonl"]), default="json", help="Format of the items.")
@click.option("--caps-per-shard", is_flag=True, help="Guardrails that count hold for each part by itself.")
@click.option("--endpoint-url", metavar="URL", help="An endpoint for every service.")
def shard(sweep_file: str, out: str, **options: Any) -> None:  # noqa: ANN401  # each option has its own type
    """Write a sweep's parts: for each account and region, or each slice of the list, an event of the Lambda function.

    Organizational units are looked up; nothing else is called.
    """
    if options["yes"] and options["dry_run"]:
        raise UsageError("--yes and --dry-run exclude each other: give one of them")
    if not options["yes"] and not options["dry_run"]:
        raise UsageError("the items carry the consent: give --yes, or --dry-run for an audit")
    sys.exit(asyncio.run(_shard(sweep_file, Path(out), options)))


async def _shard(sweep_file: str, directory: Path, options: dict[str, Any]) -> int:
    from dataclasses import replace  # noqa: PLC0415

    from batch_cancel.execution import aws, aws_outbox, new_sweep_id  # noqa: PLC0415  # --help does without
    from batch_cancel.shards import (  # noqa: PLC0415
        ITEMS_NAME,
        SHARDING_NAME,
        SLICES_NAME,
        check_caps,
        parts_of_manifest,
        parts_of_targets,
    )
    from batch_cancel.sweep_file import load_sweep_file  # noqa: PLC0415

    settings = load_sweep_file(sweep_file).settings
    if settings.dry_run and options["yes"]:
        raise UsageError(f"{sweep_file} says dry_run: true, so that nothing is cancelled: give --dry-run, not --yes")
    settings = replace(
        settings,
        endpoint=Endpoint(url=options["endpoint_url"]),
        consent=Consent(yes=options["yes"]),
        dry_run=options["dry_run"],
    )
    check_caps(settings, per_shard=options["caps_per_shard"])
    sweep_id = new_sweep_id()
    _make(directory)
    base = S3Place.of(options["s3"]) if options["s3"] else None
    service = aws(settings, sweep_id)
    if isinstance(settings.source, ManifestSource):
        sharding = parts_of_manifest(
            settings,
            settings.source,
            service,
            sweep_id,
            folder=directory / SLICES_NAME,
            base=base,
            slice_runs=options["slice_runs"],
        )
    else:
        sharding = await parts_of_targets(settings, service, sweep_id)
    event = {"sweep": _keys(sweep_file), "yes": options["yes"], "dry_run": options["dry_run"]}
    lines = [json.dumps(item, ensure_ascii=False) for item in sharding.items(event)]
    items = directory / (ITEMS_NAME if options["form"] == "json" else f"{ITEMS_NAME}l")
    _write(items, "\n".join(lines) + "\n" if options["form"] == "jsonl" else "[\n" + ",\n".join(lines) + "\n]\n")
    _write(directory / SHARDING_NAME, sharding.written())
    if base is not None:
        outbox = aws_outbox(settings, sweep_id)
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):  # noqa: ASYNC240  # a one-shot command
            try:
                await outbox.put_file(base.below(*path.relative_to(directory).parts), path, "application/json")
            except CallFailed as failure:
                raise RecordLost(f"{path} could not be uploaded: {failure.code}: {failure.message}") from failure
    click.echo(str(base.below(items.name) if base else items))
    for gap in sharding.failed:
        click.echo(f"batch-cancel: no part for {printable(gap.message)} ({printable(gap.code)})", err=True)
    for account in sharding.left_out:
        click.echo(f"batch-cancel: {account['account_id']}: {printable(account['message'])}", err=True)
    if sharding.rejected:
        click.echo(f"batch-cancel: {counted(len(sharding.rejected), 'row')} left out", err=True)
    for refusal in _refusals(settings, base):
        click.echo(f"batch-cancel: warning: the function refuses these items {refusal}", err=True)
    click.echo(f"batch-cancel: {counted(len(sharding.parts), 'part')} of sweep {sweep_id}", err=True)
    return 1 if sharding.failed or sharding.rejected else 0


def _refusals(settings: Settings, base: S3Place | None) -> Iterator[str]:
    """Why the function would take none of the items, and the mend: it sees nothing of this machine.

    Warnings alone: another engine may put slices and reports elsewhere, and how a function is set up is not known here.
    """
    if settings.report.s3 is None:
        yield (
            "unless its BATCH_CANCEL_REPORTS names an S3 prefix, as configs/deploy/organization.yaml has it: the sweep"
            " file has no report.s3; write report: {s3: s3://BUCKET/PREFIX/} there, and shard it again"
        )
    if isinstance(settings.source, ManifestSource) and base is None:
        yield "as they name slices on this machine: shard again with --s3 s3://BUCKET/PREFIX/, which uploads them"


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RecordLost(f"cannot make the directory {directory}: {error.strerror}") from error
    if any(directory.iterdir()):
        raise LedgerError(f"{directory} is not empty: parts of two sweeps would get mixed up; choose another directory")


def _write(path: Path, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8", opener=private) as file:
            file.write(text)
    except OSError as error:
        raise RecordLost(f"cannot write {path}: {error.strerror}") from error


def _keys(sweep_file: str) -> Any:  # noqa: ANN401  # JSON
    """The sweep file as an event has it, in JSON's words: it was checked already."""
    from batch_cancel.sweep_file.tree import read_tree  # noqa: PLC0415  # --help does without

    with Path(sweep_file).open("rb") as stream:
        return _plain(read_tree(stream, sweep_file).root)


def _plain(value: object) -> object:
    from batch_cancel.manifest.rows import NotText  # noqa: PLC0415  # as above

    match value:
        case NotText(text=text):
            return text
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value
