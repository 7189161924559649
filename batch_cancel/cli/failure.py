"""What is said of a command that failed: sentences for people, or a line of JSON where the log has those."""

import contextlib
import os
import sys
from datetime import UTC, datetime

import click

from batch_cancel.log_format import logs_json


def say_failure(error: Exception, message: str, exit_code: int) -> None:
    """Say on standard error why a command ends.

    A wrong command line is shown with its usage, as click does. Where the log is JSON it is a line like the others:
    event ``failed`` with type, message and exit_code. Where standard error cannot be written to, nothing is said.
    """
    with contextlib.suppress(OSError):
        _say(error, message, exit_code)


def _say(error: Exception, message: str, exit_code: int) -> None:
    if logs_json(sys.argv[1:], os.environ):
        click.echo(failure_line(type(error).__name__, message, exit_code), err=True)
    elif isinstance(error, click.ClickException):
        error.show()
    else:
        from batch_cancel.core.wording import printable  # noqa: PLC0415  # --help does without

        for line in message.splitlines() or [""]:
            click.echo(f"batch-cancel: error: {printable(line)}", err=True)


def failure_line(kind: str, message: str, exit_code: int) -> str:
    """The line of a log that is JSON."""
    from batch_cancel.cli.progress.log import Level, Record, as_json  # noqa: PLC0415  # as above

    fields = {"type": kind, "message": message, "exit_code": exit_code}
    return as_json(Record(Level.ERROR, "failed", fields, message), datetime.now(UTC))
