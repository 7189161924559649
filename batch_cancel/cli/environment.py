"""The BATCH_CANCEL_* variables: a name that nobody knows is a slip, and consent is never taken from them."""

from collections.abc import Iterable, Mapping

import click

from batch_cancel.core.errors import UsageError

PREFIX = "BATCH_CANCEL_"
OTHERS = frozenset({"BATCH_CANCEL_DEBUG", "BATCH_CANCEL_BROWSER_TESTS", "BATCH_CANCEL_REPORTS"})
"""Variables that are no option: for a traceback, for the tests, and of the Lambda function."""
CONSENT = frozenset({"BATCH_CANCEL_YES", "BATCH_CANCEL_CONFIRM_COUNT"})


def check_environment(environment: Mapping[str, str], commands: Iterable[click.Command]) -> None:
    """Refuse what would silently do nothing.

    Args:
        environment: the process's variables.
        commands: whose options' variables are known; looked at only where there is a variable at all.

    Raises:
        UsageError: a variable that no command knows, or one that would consent.
    """
    given = {name for name in environment if name.startswith(PREFIX)} - OTHERS
    if not given:
        return
    if consent := sorted(given & CONSENT):
        option = "--" + consent[0].removeprefix(PREFIX).lower().replace("_", "-")
        raise UsageError(f"{consent[0]} is set, and consent is given on the spot, by flag: unset it, and give {option}")
    known = {
        option.envvar
        for command in commands
        for option in command.params
        if isinstance(option, click.Option) and isinstance(option.envvar, str)
    }
    if unknown := sorted(given - known):
        from batch_cancel.core.wording import did_you_mean  # noqa: PLC0415  # for a slip alone

        raise UsageError(
            f"the environment has {unknown[0]}, which is no option of any command{did_you_mean(unknown[0], known)}"
        )
