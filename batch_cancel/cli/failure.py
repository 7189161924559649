"""What is said of a command that failed: sentences for people, or a line of JSON where the log has those."""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import click

_OPTION, _VARIABLE = "--log-format", "BATCH_CANCEL_LOG_FORMAT"


def say_failure(error: Exception, message: str, exit_code: int) -> None:
    """Say on standard error why a command ends.

    A wrong command line is shown with its usage, as click does. Where the log is JSON it is a line like the others:
    event ``failed`` with type, message and exit_code.
    """
    if logs_json(sys.argv[1:], os.environ):
        from batch_cancel.cli.progress.log import Level, Record, as_json  # noqa: PLC0415  # --help does without

        fields = {"type": type(error).__name__, "message": message, "exit_code": exit_code}
        click.echo(as_json(Record(Level.ERROR, "failed", fields, message), datetime.now(UTC)), err=True)
    elif isinstance(error, click.ClickException):
        error.show()
    else:
        from batch_cancel.cli.wording import printable  # noqa: PLC0415  # as above

        for line in message.splitlines() or [""]:
            click.echo(f"batch-cancel: error: {printable(line)}", err=True)


def logs_json(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether ``--log-format json`` was asked for, as far as that can be seen where the rest may make no sense."""
    form = environment.get(_VARIABLE, "")
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == "--":
            break
        if word == _OPTION:
            form = after
        elif word.startswith(f"{_OPTION}="):
            form = word.partition("=")[2]
    return form == "json"
