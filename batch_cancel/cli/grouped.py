"""A click command whose help shows its options in groups, and whose errors say what came from the environment."""

import re
from typing import Any

import click
from click.core import ParameterSource

from batch_cancel.core.errors import UsageError

_FLAG = re.compile(r"--[a-z][a-z-]*")


class GroupedOption(click.Option):
    """An option that knows under which heading it stands."""

    def __init__(self, *args: Any, group: str = "other", **kwargs: Any) -> None:  # noqa: ANN401  # click's own
        super().__init__(*args, **kwargs)
        self.group = group

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """What an error names: the variable where the value came from one, as nobody typed the flag."""
        hint = super().get_error_hint(ctx)
        return f"{self.envvar} ({hint})" if ctx is not None and from_environment(self, ctx) else hint


def from_environment(option: click.Parameter, ctx: click.Context) -> bool:
    """Whether an option's value was given by its variable."""
    return option.name is not None and ctx.get_parameter_source(option.name) is ParameterSource.ENVIRONMENT


class GroupedCommand(click.Command):
    """A command that lists its options group by group, in the order in which they were made."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's own
        """Carry it out; where options do not go together, those that nobody typed are named by their variables."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if type(error) is not UsageError:
                raise
            flags = set(_FLAG.findall(str(error)))
            told = [
                f"{min(named)} comes from {option.envvar}"
                for option in self.params
                if (named := flags & {*option.opts, *option.secondary_opts}) and from_environment(option, ctx)
            ]
            if not told:
                raise
            raise UsageError(f"{error} ({', '.join(told)})") from error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        for parameter in sorted(options, key=lambda option: not isinstance(option, GroupedOption)):  # --help comes last
            record = parameter.get_help_record(ctx)
            if record is not None:
                group = parameter.group if isinstance(parameter, GroupedOption) else "other"
                groups.setdefault(group, []).append(record)
        for group, records in groups.items():
            with formatter.section(group.capitalize()):
                formatter.write_dl(records, col_max=34)
