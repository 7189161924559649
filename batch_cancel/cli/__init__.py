"""The command line: reads arguments, calls the story, chooses the exit code."""

import importlib
import os
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
    "diff": "batch_cancel.cli.diff",
    "iam-policy": "batch_cancel.cli.iam_policy",
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
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)  # noqa: S101  # COMMANDS names click commands only
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="batch-cancel")
def batch_cancel() -> None:
    """Cancel AWS Glue machine-learning task runs in bulk."""


def main() -> None:
    """The console script: whatever goes wrong becomes a sentence on standard error and an exit code."""
    try:
        code = batch_cancel.main(prog_name="batch-cancel", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("batch-cancel: interrupted", err=True)
        sys.exit(130)
    except BatchCancelError as error:
        _say_error(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever read our output has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Exception as error:  # our own mistake: never a traceback for a user at three in the morning
        if os.environ.get("BATCH_CANCEL_DEBUG"):
            raise
        name = type(error).__name__
        _say_error(f"internal error: {name}: {error} (set BATCH_CANCEL_DEBUG=1 for the traceback, and report it)")
        sys.exit(1)


def _say_error(message: str) -> None:
    from batch_cancel.cli.wording import printable  # noqa: PLC0415  # --help does without

    for line in message.splitlines() or [""]:
        click.echo(f"batch-cancel: error: {printable(line)}", err=True)
