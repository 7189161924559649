"""The command line: reads arguments, calls the story, chooses the exit code."""

import errno
import gc
import importlib
import os
import sys

import click

from batch_cancel.cli.failure import say_failure
from batch_cancel.core.errors import BatchCancelError
from batch_cancel.log_format import interrupted
from batch_cancel.version import __version__

COMMANDS = {
    "run": ("run", "Find the task runs, decide, ask, cancel, verify, report."),
    "plan": ("plan", "Decide what would be cancelled, and save the decision for review."),
    "apply": ("plan", "Cancel what a plan names and nothing else."),
    "resume": ("run", "Go on with a sweep that was interrupted, killed or stopped early."),
    "report": ("report", "Render a sweep's reports again, from its ledger."),
    "diff": ("diff", "What is new, gone or still running between two sweeps."),
    "validate": ("validate", "Check sweep files, manifests and plans: every fault, with its place."),
    "schema": ("validate", "Print the JSON Schema of the sweep file."),
    "iam-policy": ("iam_policy", "Print the least-privilege IAM policy for sweeps or audits."),
    "shard": ("shard", "Write a sweep's parts, for an engine that runs many at once."),
    "merge": ("merge", "Make one report of the parts' reports."),
    "simulate": ("simulate", "Serve a made-up Glue fleet on this machine, for drills and tests."),
    "demo": ("demo", "Watch a whole sweep against a made-up fleet."),
}
"""Each command's module in this package, and what it does: a room is entered only when its command is called, so that
``--help`` loads nothing heavy."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write says that fails for want of room. Files of ours are told by whoever writes them, and by name: where a
failure comes up to here without one, it is standard output's."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, from the attribute of its module that carries its name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)  # noqa: S101  # COMMANDS names click commands only
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; where none is so called, what is near, and what there is."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from batch_cancel.core.wording import did_you_mean, quoted  # noqa: PLC0415  # for a slip alone

            near = did_you_mean(args[0], COMMANDS)
            ctx.fail(f"there is no command {quoted(args[0])}" + (near or "; there are " + ", ".join(COMMANDS)))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List them without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (_, does) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="batch-cancel")
def batch_cancel() -> None:
    """Cancel AWS Glue machine-learning task runs in bulk."""
    if any(name.startswith("BATCH_CANCEL_") for name in os.environ) and not {"-h", "--help"} & set(sys.argv):
        from batch_cancel.cli.environment import check_environment  # noqa: PLC0415  # for those who have any

        ctx = click.get_current_context()
        check_environment(os.environ, (_command(ctx, name) for name in COMMANDS))


def _command(ctx: click.Context, name: str) -> click.Command:
    command = batch_cancel.get_command(ctx, name)
    assert command is not None  # noqa: S101  # COMMANDS names those that are
    return command


def main() -> None:
    """The console script: whatever goes wrong becomes a sentence on standard error and an exit code."""
    # Short-lived objects by the million: looking for cycles every 700 of them costs an eighth of a long sweep.
    gc.set_threshold(10_000, 10, 10)
    try:
        code = batch_cancel.main(prog_name="batch-cancel", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        say_failure(error, error.format_message(), error.exit_code)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo(interrupted(130), err=True, nl=False)
        sys.exit(130)
    except BatchCancelError as error:
        say_failure(error, str(error), error.exit_code)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever read our output has had enough of it
        _forget_stdout()
        sys.exit(1)
    except Exception as error:  # our own mistake: never a traceback for a user at three in the morning
        if os.environ.get("BATCH_CANCEL_DEBUG"):
            raise
        told = f"internal error: {type(error).__name__}: {error}"
        told += " (set BATCH_CANCEL_DEBUG=1 for the traceback, and report it)"
        if isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None:
            told = f"standard output cannot be written: {error.strerror}"
            _forget_stdout()
        say_failure(error, told, 1)
        sys.exit(1)


def _forget_stdout() -> None:
    """What is left in the buffer goes nowhere: the interpreter would stumble over it at the very end, with code 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
