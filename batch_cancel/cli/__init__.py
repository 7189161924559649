"""The command line: reads arguments, calls the story, chooses the exit code."""

import importlib
import sys

import click

from batch_cancel.core.errors import BatchCancelError
from batch_cancel.version import __version__

COMMANDS = {
    "run": "batch_cancel.cli.run",
    "resume": "batch_cancel.cli.run",
    "report": "batch_cancel.cli.report",
    "validate": "batch_cancel.cli.validate",
    "schema": "batch_cancel.cli.validate",
    "simulate": "batch_cancel.cli.simulate",
    "demo": "batch_cancel.cli.demo",
}
"""Where each command lives: a room is entered only when its command is called, so ``--help`` loads nothing heavy."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, from the attribute of its module that carries its name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101  # COMMANDS names click commands only
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="batch-cancel")
def batch_cancel() -> None:
    """Cancel AWS Glue machine-learning task runs in bulk."""


def main() -> None:
    """The console script: every error of ours becomes a sentence on standard error and an exit code."""
    try:
        batch_cancel(prog_name="batch-cancel")
    except BatchCancelError as error:
        click.echo(f"batch-cancel: error: {error}", err=True)
        sys.exit(error.exit_code)
