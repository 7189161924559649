"""The settings of a command whose sweep file stands in S3, as those of any other."""

import asyncio
from dataclasses import replace

import click

from batch_cancel.cli.settings_from import endpoint_from, settings_from
from batch_cancel.core.errors import InputError, UsageError
from batch_cancel.execution import aws_outbox, new_sweep_id
from batch_cancel.glue.outbox import S3Place
from batch_cancel.s3_inputs import beside, fetch, folder_for, is_in_s3
from batch_cancel.settings import DiscoverySource, ManifestSource, Settings


def settings_wherever(ctx: click.Context) -> Settings:
    """What the arguments say, wherever the sweep file stands: containers have none on their own disk.

    Raises:
        UsageError: options that do not go together.
        InputError: a sweep file with faults, or none.
        AccessStopped: it cannot be read.
    """
    named: str | None = ctx.params["sweep_file"]
    if named is None or not is_in_s3(named):
        return settings_from(ctx)
    with folder_for(named) as folder:
        endpoint = endpoint_from(ctx)
        outbox = aws_outbox(Settings(source=DiscoverySource(), endpoint=endpoint), new_sweep_id())
        path = asyncio.run(fetch(outbox, named, folder))
        ctx.params["sweep_file"] = str(path)
        try:
            settings = settings_from(ctx)
        except InputError as error:
            raise InputError([replace(problem, source=named) for problem in error.problems]) from None
        except UsageError as error:  # by the name that the user knows
            raise UsageError(str(error).replace(str(path), named)) from None
    source = settings.source
    if isinstance(source, ManifestSource) and source.path.startswith(f"{folder}/"):
        uri = beside(S3Place.of(named), source.path.removeprefix(f"{folder}/"))
        return replace(settings, source=replace(source, path=uri))
    return settings
