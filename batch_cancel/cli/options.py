"""The options of ``run``, ``plan`` and ``resume``, as the contract's table has them.

Every one can be given in the environment as BATCH_CANCEL_<OPTION>, except consent: that is given on the spot.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import click
from click.shell_completion import CompletionItem

from batch_cancel.cli.grouped import GroupedOption
from batch_cancel.core.duration import parse_duration
from batch_cancel.core.errors import UsageError
from batch_cancel.core.selection import ACTIVE_STATUSES
from batch_cancel.core.task_run import TaskType
from batch_cancel.glue.regions import known_regions
from batch_cancel.settings import ManifestFormat, ReportFormat
from batch_cancel.values import (
    MOST_ATTEMPTS,
    MOST_CONCURRENT,
    check_account,
    check_external_id,
    check_id,
    check_region_or_all,
    check_role_arn,
    check_role_name,
    check_text,
    check_url,
    parse_max_errors,
    parse_percent,
    parse_report_format,
    parse_rps,
    parse_status,
    parse_tag,
    parse_task_type,
)

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


class Value(click.ParamType, Generic[T]):  # type: ignore[type-arg]  # click made it generic only lately
    """A value that one of our own readers reads, so that flags and sweep files mean the same by a word.

    Args:
        offers: what a shell may complete, given what was typed of it; asked for only then.
    """

    def __init__(
        self, name: str, read: Callable[[str], T], offers: Callable[[str], Iterable[str]] | None = None
    ) -> None:
        self.name = name
        self._read = read
        self._offers = offers

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:  # noqa: ANN401
        """Read a text, or refuse it with the option's name."""
        if not isinstance(value, str):
            read: T = value  # a default, or one that was read before
            return read
        try:
            return self._read(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What a shell offers: of a known set those that begin so."""
        words = self._offers(incomplete) if self._offers else ()
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class ScenarioName(click.ParamType):  # type: ignore[type-arg]  # click made it generic only lately
    """A built-in scenario's name, or a file."""

    name = "scenario"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so, else files: bash drops the words that come with a request for files."""
        from batch_cancel.simulator.scenarios import scenario_names  # noqa: PLC0415  # only a shell asks

        names = [CompletionItem(name) for name in scenario_names() if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]


class OneFile(Value[str]):
    """A file's name in an option that is taken as often as it is given, to refuse a second (:func:`_only_one`)."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """The variable's value is one name, blanks and all."""
        return [rv]


def _only_one(ctx: click.Context, param: click.Parameter, lists: tuple[str, ...]) -> str | None:
    """The list that was named. Of two, click would drop the first, and its runs would go on running, untold."""
    if len(lists) > 1:
        message = f"is given {len(lists)} times, and a sweep reads one list: make one of them, or run once for each"
        raise click.BadParameter(message, ctx, param)
    return lists[0] if lists else None


def offer_regions(_incomplete: str) -> Iterable[str]:
    """Every region that botocore's data file knows, and all."""
    return ("all", *sorted(known_regions()))


def _offer_reports(incomplete: str) -> Iterable[str]:
    """A further format behind those that stand there."""
    before, comma, _ = incomplete.rpartition(",")
    return [before + comma + kind for kind in ReportFormat if kind not in before.split(",")]


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18):
            raise UsageError(f"{text[:40]!r} is not a whole number")
        number = int(text)
        if number < least:
            raise UsageError(f"{number} is less than {least}")
        if most is not None and number > most:
            raise UsageError(f"{number} is more than {most:,}")
        return number

    return read


def report_formats(text: str) -> tuple[ReportFormat, ...]:
    """A list of formats with commas between, each once."""
    return tuple(dict.fromkeys(parse_report_format(part.strip()) for part in text.split(",")))


def _existing_file(text: str) -> str:
    if not Path(check_text(text)).is_file():
        raise UsageError(f"there is no file {text!r}")
    return text


TEXT = Value("TEXT", check_text)
DURATION: Value[timedelta] = Value("DURATION", parse_duration)


def _option(group: str, *names: str, env: bool = True, **kwargs: Any) -> Decorator[Any]:  # noqa: ANN401
    parameter = next(name for name in names if name.startswith("--")).split("/")[0]
    envvar = "BATCH_CANCEL_" + parameter.removeprefix("--").replace("-", "_").upper() if env else None
    decorator: Decorator[Any] = click.option(*names, cls=GroupedOption, group=group, envvar=envvar, **kwargs)
    return decorator


def _all(options: list[Decorator[Any]]) -> Decorator[Any]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_SOURCE = [
    _option(
        "source",
        "--manifest",
        type=OneFile("TEXT", check_text),
        metavar="FILE",
        multiple=True,
        callback=_only_one,
        help="A list of runs; - is standard input.",
    ),
    _option(
        "source",
        "--manifest-format",
        type=click.Choice([str(kind) for kind in ManifestFormat]),
        help="Its format (default: by the file's ending).",
    ),
    _option("source", "--skip-invalid", is_flag=True, help="Leave out rows that are wrong, and report them."),
    _option("source", "--discover", is_flag=True, help="Find the active runs of the targets."),
]

_SCOPE = [
    _option(
        "scope",
        "--region",
        type=Value("REGION", check_region_or_all, offer_regions),
        multiple=True,
        help="Repeatable; all is every region of the partition.",
    ),
    _option(
        "scope",
        "--profile",
        type=TEXT,
        metavar="NAME",
        multiple=True,
        help="A profile of the AWS config files; repeatable.",
    ),
    _option(
        "scope", "--role-arn", type=Value("ARN", check_role_arn), multiple=True, help="A role to assume; repeatable."
    ),
    _option(
        "scope", "--external-id", type=Value("ID", check_external_id), help="The external id that the role asks for."
    ),
    _option(
        "scope",
        "--account-id",
        type=Value("ACCOUNT", check_account),
        multiple=True,
        help="Sweep this account through --role-name; repeatable.",
    ),
    _option("scope", "--role-name", type=Value("NAME", check_role_name), help="The role to assume in each account."),
    _option(
        "scope",
        "--organization-unit",
        type=TEXT,
        metavar="OU",
        multiple=True,
        help="Sweep its accounts through --role-name; r-... is the whole organization; repeatable.",
    ),
]

_ENDPOINT = [
    _option("endpoint", "--endpoint-url", type=Value("URL", check_url), help="An endpoint for every service."),
    _option("endpoint", "--ca-bundle", type=Value("FILE", _existing_file), help="Certificates to trust."),
    _option("endpoint", "--no-verify-ssl", is_flag=True, help="Do not check the endpoint's certificate."),
]

_SELECT = [
    _option("select", "--transform-id", type=Value("ID", check_id), multiple=True, help="Repeatable."),
    _option("select", "--transform-name", type=TEXT, metavar="GLOB", multiple=True, help="Case-sensitive; repeatable."),
    _option(
        "select", "--tag", type=Value("KEY=VALUE", parse_tag), multiple=True, help="A tag of the transform; repeatable."
    ),
    _option(
        "select",
        "--status",
        type=Value("STATUS", parse_status, lambda _: ACTIVE_STATUSES),
        multiple=True,
        help="STARTING or RUNNING (default: both); repeatable.",
    ),
    _option(
        "select",
        "--task-type",
        type=Value("TYPE", parse_task_type, lambda _: TaskType),
        multiple=True,
        help="Such as FIND_MATCHES; repeatable.",
    ),
    _option("select", "--older-than", type=DURATION, help="Started longer ago, such as 6h."),
    _option("select", "--newer-than", type=DURATION, help="Started no longer ago, such as 2d."),
]

_PROTECT = [
    _option(
        "protect",
        "--protect-transform",
        type=TEXT,
        metavar="ID_OR_GLOB",
        multiple=True,
        help="Leave it alone, whatever is selected; repeatable.",
    ),
    _option(
        "protect",
        "--protect-tag",
        type=Value("KEY=VALUE", parse_tag),
        multiple=True,
        help="Leave alone what carries it; repeatable. Both add to the sweep file's.",
    ),
]

_GUARDRAILS = [
    _option("guardrails", "--max-runs", type=Value("N", _whole(1)), help="More than N to cancel: refuse, cancel none."),
    _option(
        "guardrails",
        "--max-percent",
        type=Value("P", parse_percent),
        help="A larger share of all active runs at the targets (from a manifest: among its rows): refuse.",
    ),
    _option(
        "guardrails",
        "--allow-account",
        type=Value("ACCOUNT", check_account),
        multiple=True,
        help="Refuse to touch any other account; repeatable.",
    ),
    _option(
        "guardrails", "--max-errors", type=Value("N|N%", parse_max_errors), help="Stop on the first error past it."
    ),
]

_CONSENT = [
    _option("consent", "--yes", env=False, is_flag=True, help="Cancel without asking."),
    _option(
        "consent",
        "--confirm-count",
        env=False,
        type=Value("N", _whole(0)),
        help="Cancel without asking, if it is exactly N runs.",
    ),
    _option("consent", "--dry-run", is_flag=True, help="Decide and report; make read calls only."),
]

_RATE = [
    _option(
        "rate",
        "--rps",
        type=Value("N|auto", parse_rps, lambda _: ("auto",)),
        metavar="N|auto",
        help="Requests a second, per operation and target (default auto).",
    ),
    _option(
        "rate",
        "--max-concurrency",
        type=Value("N", _whole(1, MOST_CONCURRENT)),
        help="Calls in flight (default 256).",
    ),
]

_RETRY = [
    _option(
        "retry",
        "--max-attempts",
        type=Value("N", _whole(1, MOST_ATTEMPTS)),
        help="For each call (default 5); throttles do not count.",
    ),
    _option("retry", "--deadline", type=DURATION, help="For the whole sweep; what is left by then is not attempted."),
]

_VERIFY = [
    _option("verify", "--wait/--no-wait", default=None, help="Wait until the runs have ended (default)."),
    _option("verify", "--wait-timeout", type=DURATION, help="How long (default 15m)."),
    _option("verify", "--ignore-not-found", is_flag=True, help="Runs that Glue does not know are no failure."),
]

_INCIDENT = [
    _option("incident", "--until-clear", is_flag=True, help="Sweep again until a sweep finds nothing running."),
]

_OUTPUT = [
    _option("output", "--out", type=TEXT, metavar="DIR", help="Run directory (default batch-cancel-runs/<sweep id>)."),
    _option(
        "output",
        "--report",
        type=Value("LIST", report_formats, _offer_reports),
        help="Which of json,csv,md,html (default: all).",
    ),
    _option("output", "--reason", type=TEXT, help="Why; stands in the reports."),
]

_LOOKS = [
    _option("output", "--output", type=click.Choice(["text", "json"]), default="text", help="Format of the result."),
    _option("output", "--no-progress", is_flag=True, help="No progress on standard error."),
    _option("output", "--quiet", is_flag=True, help="On standard error only what failed or was stopped."),
    _option("output", "--verbose", is_flag=True, help="Every call, with its time, on standard error."),
    _option(
        "output", "--log-format", type=click.Choice(["text", "json"]), default="text", help="Format of standard error."
    ),
    _option("output", "--no-color", is_flag=True, help="No colours."),
    _option(
        "output",
        "--emf",
        type=TEXT,
        metavar="FILE",
        help="Append CloudWatch metrics (embedded metric format); - is standard error.",
    ),
]

sweep_options: Decorator[Any] = _all(
    [
        click.argument("sweep_file", required=False, metavar="[SWEEP.yaml]"),
        *_SOURCE,
        *_SCOPE,
        *_ENDPOINT,
        *_SELECT,
        *_PROTECT,
        *_GUARDRAILS,
        *_CONSENT,
        *_RATE,
        *_RETRY,
        *_VERIFY,
        *_INCIDENT,
        *_OUTPUT,
        *_LOOKS,
    ]
)
"""Everything that ``run`` and ``plan`` take."""

plan_options: Decorator[Any] = _all(
    [
        _option("plan", "--plan-out", type=TEXT, metavar="PLAN.json", required=True, help="Where to save the plan."),
        _option("plan", "--expires-after", type=DURATION, help="How long it can be applied (default 24h)."),
    ]
)
"""What ``plan`` takes besides."""

apply_options: Decorator[Any] = _all([*_CONSENT, *_RATE, *_RETRY, *_VERIFY, *_OUTPUT, *_LOOKS])
"""What may be given to a plan that is applied; everything else stands in it."""

resume_options: Decorator[Any] = _all([*_RATE, *_RETRY, *_VERIFY[:2], *_LOOKS])
"""What may be given anew to a sweep that goes on."""
