"""From flags, environment and sweep file to settings: a flag beats the environment, which beats the sweep file.

Protection is the exception: what a flag protects is added to what the sweep file protects, never put in its place.
"""

import os
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import click
from click.core import ParameterSource

from batch_cancel.cli.out_file import check_out_file
from batch_cancel.core.errors import UsageError
from batch_cancel.core.selection import Protection, Selection
from batch_cancel.core.wording import did_you_mean
from batch_cancel.glue.regions import known_regions
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.manifest import format_by_ending
from batch_cancel.settings import (
    Consent,
    DiscoverySource,
    Endpoint,
    ManifestFormat,
    ManifestSource,
    Settings,
    Source,
    TargetSettings,
)
from batch_cancel.settings_check import check_until_clear
from batch_cancel.values import check_url

T = TypeVar("T")


class Given:
    """The options of a command that somebody gave, and how near they stand: 2 a flag, 1 the environment, 0 nobody."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx
        self._overruled: set[str] = set()

    def level(self, name: str) -> int:
        """How near an option was given."""
        if name in self._overruled:
            return 0
        match self._ctx.get_parameter_source(name):
            case ParameterSource.COMMANDLINE:
                return 2
            case ParameterSource.ENVIRONMENT:
                return 1
            case _:
                return 0

    def __contains__(self, name: str) -> bool:
        return self.level(name) > 0

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  # each option has its own type
        if name in self._overruled:
            return self._unsaid(name)
        return self._ctx.params[name]

    def flags(self) -> set[str]:
        """Every option of the command, as it is typed."""
        return {flag for option in self._ctx.command.params for flag in (*option.opts, *option.secondary_opts)}

    def _unsaid(self, name: str) -> object:
        option = next(option for option in self._ctx.command.params if option.name == name)
        assert isinstance(option, click.Option)  # noqa: S101  # arguments exclude nothing
        return () if option.multiple else False if option.is_flag else None

    def overrule(self, *names: str) -> None:
        """Take options as not given: one that stands nearer excludes them."""
        self._overruled.update(names)

    def otherwise(self, name: str, value: T) -> T:
        """The option, if it was given, else the value."""
        return cast("T", self[name]) if name in self else value

    def nearer(self, one: str, other: str, sentence: str) -> str | None:
        """Which of two options that exclude each other counts; both as near as each other is an error."""
        if self.level(one) == self.level(other) > 0:
            raise UsageError(sentence)
        return max((one, other), key=self.level) if one in self or other in self else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How a sweep looks while it runs and where it leaves its files; None is the default directory, and no metrics."""

    directory: Path | None
    form: Literal["text", "json"]
    progress: bool
    quiet: bool
    verbose: bool
    log_format: Literal["text", "json"]
    color: bool
    emf: str | None = None


def settings_from(ctx: click.Context) -> Settings:
    """What a command with ``sweep_options`` was told to do.

    Raises:
        UsageError: options that do not go together.
        InputError: a sweep file with faults.
    """
    given = Given(ctx)
    _check_combinations(given)
    in_file = _from_file(given)
    if in_file is not None and in_file.dry_run and (given["yes"] or given["confirm_count"] is not None):
        consent = "--yes" if given["yes"] else "--confirm-count"
        raise UsageError(
            f"{given['sweep_file']} says dry_run: true, so that nothing is cancelled: leave out {consent}, or take"
            " dry_run out of the file"
        )
    base = in_file or Settings(source=DiscoverySource())
    settings = replace(
        base,
        source=_source(given, in_file),
        reason=given.otherwise("reason", base.reason),
        targets=_targets(given, base.targets),
        selection=_selection(given, base),
        protection=_protection(given, base),
        guardrails=replace(
            base.guardrails,
            max_runs=given.otherwise("max_runs", base.guardrails.max_runs),
            max_percent=given.otherwise("max_percent", base.guardrails.max_percent),
            allow_accounts=given.otherwise("allow_account", base.guardrails.allow_accounts),
            max_errors=given.otherwise("max_errors", base.guardrails.max_errors),
        ),
        consent=Consent(yes=given["yes"], confirm_count=given["confirm_count"]),
        endpoint=_endpoint(given),
        report=replace(base.report, formats=given.otherwise("report", base.report.formats)),
        until_clear=given["until_clear"],
        ignore_not_found=given["ignore_not_found"],
        dry_run=given["dry_run"] or base.dry_run,
    )
    settings = renewed(settings, ctx)
    check_until_clear(
        settings,
        until_clear="--until-clear",
        discovery="--discover, not a manifest",
        dry_run="--dry-run",
        yes="--yes",
        wait="--wait",
    )
    return settings


def endpoint_from(ctx: click.Context) -> Endpoint:
    """How the services are reached: known before any sweep file is read, which may be in S3.

    Raises:
        UsageError: options that exclude each other.
    """
    given = Given(ctx)
    _check_combinations(given)
    return _endpoint(given)


def _endpoint(given: Given) -> Endpoint:
    url = given["endpoint_url"]
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if bundle and not given["ca_bundle"] and not given["no_verify_ssl"] and not Path(bundle).exists():
        raise UsageError(f"AWS_CA_BUNDLE: there is no file {bundle!r}")
    return Endpoint(
        url=url,
        variables=None if url else _endpoint_variables(),
        ca_bundle=given["ca_bundle"],
        verify_ssl=not given["no_verify_ssl"],
    )


def _endpoint_variables() -> dict[str, str]:
    """What the environment says of endpoints: ``resume`` and ``apply`` call what was called before."""
    variables = {name: value for name, value in os.environ.items() if _is_of_endpoints(name)}
    for name, value in variables.items():
        if value and name != _IGNORE_ENDPOINTS:
            try:
                check_url(value)
            except UsageError as error:
                raise UsageError(f"{name}: {error}") from None
    return variables


def restore_endpoints(endpoint: Endpoint) -> None:
    """Let the AWS libraries find the endpoints that they found when the sweep, or the plan, was made."""
    if endpoint.variables is None:
        return
    for name in [name for name in os.environ if _is_of_endpoints(name)]:
        del os.environ[name]
    os.environ.update(endpoint.variables)


_IGNORE_ENDPOINTS = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"


def _is_of_endpoints(name: str) -> bool:
    return name in ("AWS_ENDPOINT_URL", _IGNORE_ENDPOINTS) or name.startswith("AWS_ENDPOINT_URL_")


def renewed(settings: Settings, ctx: click.Context) -> Settings:
    """Settings with the rate, deadline and verify options that were given anew."""
    given = Given(ctx)
    deadline: timedelta | None = given.otherwise("deadline", None)
    timeout: timedelta | None = given.otherwise("wait_timeout", None)
    wait = given.otherwise("wait", settings.verify.wait)
    if timeout and not wait:
        given.nearer("wait", "wait_timeout", "--no-wait and --wait-timeout exclude each other: give one of them")
        if given.level("wait_timeout") > given.level("wait"):
            raise UsageError("--wait-timeout means nothing without waiting: add --wait")
    return replace(
        settings,
        rate=replace(
            settings.rate,
            rps=given.otherwise("rps", settings.rate.rps),
            max_concurrency=given.otherwise("max_concurrency", settings.rate.max_concurrency),
        ),
        retry=replace(
            settings.retry,
            max_attempts=given.otherwise("max_attempts", settings.retry.max_attempts),
            deadline_seconds=deadline.total_seconds() if deadline else settings.retry.deadline_seconds,
        ),
        verify=replace(
            settings.verify,
            wait=wait,
            timeout_seconds=timeout.total_seconds() if timeout else settings.verify.timeout_seconds,
        ),
    )


def settings_of_plan(settings: Settings, ctx: click.Context) -> Settings:
    """A plan's settings with what ``apply_options`` gave anew. A plan that was reviewed needs no question.

    Raises:
        UsageError: options that do not go together.
    """
    given = Given(ctx)
    if "yes" in given and "confirm_count" in given:
        raise UsageError("--yes and --confirm-count exclude each other: give one of them")
    consent = Consent(yes=given["confirm_count"] is None, confirm_count=given["confirm_count"])
    settings = replace(
        settings,
        consent=consent,
        reason=given.otherwise("reason", settings.reason),
        report=replace(settings.report, formats=given.otherwise("report", settings.report.formats)),
        ignore_not_found=given["ignore_not_found"],
        dry_run=given["dry_run"],
        dry_run_only=False,
    )
    return renewed(settings, ctx)


def output_from(ctx: click.Context) -> Output:
    """How a command with ``sweep_options`` or ``resume_options`` is to look.

    Raises:
        UsageError: ``--quiet`` with ``--verbose``; metrics that cannot be written, or not without harm.
    """
    given = Given(ctx)
    out = ctx.params.get("out") or ctx.params.get("run_dir")
    directory = Path(out) if out else None
    emf = ctx.params.get("emf")
    if emf is not None and emf != "-":
        read_from = [Path(ctx.params[name]) for name in ("sweep_file", "manifest", "plan_file") if ctx.params.get(name)]
        check_out_file("--emf", Path(emf), read_from=read_from, run_directory=directory)
    louder = given.nearer("quiet", "verbose", "--quiet and --verbose exclude each other: give one of them")
    return Output(
        directory=directory,
        form=given["output"],
        progress=not given["no_progress"] and louder != "quiet",
        quiet=louder == "quiet",
        verbose=louder == "verbose",
        log_format=given["log_format"],
        color=not given["no_color"],
        emf=emf,
    )


# -- the parts --------------------------------------------------------------------------------------------------------


def _from_file(given: Given) -> Settings | None:
    """The sweep file's settings; where it names no source, a flag must."""
    path = given["sweep_file"]
    if path is None:
        return None
    if path.lower().endswith((".csv", ".tsv", ".jsonl", ".ndjson")):
        raise UsageError(f"{path} is not a sweep file: for a list of runs write --manifest {path}")
    if (Path(path) / LEDGER_NAME).is_file():
        raise UsageError(f"{path} is a run directory: batch-cancel resume {path} goes on with what is left there")
    if not Path(path).exists() and (meant := _meant_by(path, given)):
        raise UsageError(f"{path}: there is no such file{meant}")
    from batch_cancel.sweep_file import load_sweep_file  # noqa: PLC0415  # brings pydantic, which --manifest can do without

    sweep = load_sweep_file(path)
    if not (sweep.source_given or "manifest" in given or "discover" in given):
        raise UsageError(f"{path} names no source: add 'source: discovery', or give --manifest FILE or --discover")
    return sweep.settings


def _meant_by(word: str, given: Given) -> str:
    """The end of a sentence about a word that is no file: what lacks its dashes or its option, or is misspelt."""
    if word in known_regions():
        return f"; for a region write --region {word}"
    if f"--{word}" in given.flags():
        return f"; did you mean --{word}?"
    path = Path(word)
    return did_you_mean(path.name, (each.name for each in path.parent.glob("*.y*ml")))


def _source(given: Given, in_file: Settings | None) -> Source:
    chosen = given.nearer("manifest", "discover", "--manifest and --discover exclude each other: give one of them")
    if chosen is None and in_file is None:
        raise UsageError("which runs? Give --manifest FILE, or --discover, or a sweep file")
    file_format = ManifestFormat(given["manifest_format"]) if given["manifest_format"] else None
    if chosen == "manifest":
        path = given["manifest"]
        if file_format is None:
            format_by_ending(path)  # a fault here is told before anything is opened
        return ManifestSource(path=path, format=file_format, skip_invalid=given["skip_invalid"])
    source = DiscoverySource() if chosen == "discover" or in_file is None else in_file.source
    if isinstance(source, ManifestSource):
        return replace(
            source,
            format=file_format or source.format,
            skip_invalid=given.otherwise("skip_invalid", source.skip_invalid),
        )
    for name in ("manifest_format", "skip_invalid"):
        if given.level(name) == 2:
            raise UsageError(f"{_flag(name)} is about a manifest, and the runs are to be discovered: leave it out")
    return source


def _targets(given: Given, in_file: tuple[TargetSettings, ...]) -> tuple[TargetSettings, ...]:
    """The file's targets, with the ways in and the regions that were given in the place of theirs."""
    if "region" in given:
        regions: tuple[str, ...] = tuple(dict.fromkeys(given["region"]))
        if "all" in regions and len(regions) > 1:
            raise UsageError("--region all and other regions exclude each other: give all alone, or name the regions")
        wanted: tuple[str, ...] | Literal["all"] = "all" if regions == ("all",) else regions
        in_file = tuple(dict.fromkeys(replace(target, regions=wanted) for target in in_file))
    access = ("profile", "role_arn", "external_id", "account_id", "role_name", "organization_unit")
    if not any(name in given for name in access):
        return in_file
    ways_in = [
        TargetSettings(
            profile=profile,
            role_arn=role_arn,
            role_name=given["role_name"],
            accounts=given["account_id"] or None,
            organization_units=given["organization_unit"] or None,
            external_id=given["external_id"],
        )
        for profile, role_arn in product(given["profile"] or (None,), given["role_arn"] or (None,))
    ]
    places = dict.fromkeys(target.regions for target in in_file)
    return tuple(dict.fromkeys(replace(way_in, regions=place) for way_in, place in product(ways_in, places)))


def _selection(given: Given, base: Settings) -> Selection:
    selection = base.selection
    return replace(
        selection,
        transform_ids=given.otherwise("transform_id", selection.transform_ids),
        transform_names=given.otherwise("transform_name", selection.transform_names),
        tags=_by_key(given["tag"]) if "tag" in given else selection.tags,
        statuses=given.otherwise("status", selection.statuses),
        task_types=given.otherwise("task_type", selection.task_types),
        older_than=given.otherwise("older_than", selection.older_than),
        newer_than=given.otherwise("newer_than", selection.newer_than),
    )


def _protection(given: Given, base: Settings) -> Protection:
    protection = base.protection
    tags = {key: tuple(values) for key, values in (protection.tags or {}).items()}
    for key, values in _by_key(given["protect_tag"]).items():
        tags[key] = tags.get(key, ()) + values
    return replace(
        protection, transforms=(*protection.transforms, *given["protect_transform"]), tags=tags or protection.tags
    )


def _by_key(pairs: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, ...]]:
    by_key: dict[str, tuple[str, ...]] = {}
    for key, value in pairs:
        by_key[key] = (*by_key.get(key, ()), value)
    return by_key


# -- what does not go together ----------------------------------------------------------------------------------------


def _check_combinations(given: Given) -> None:
    if "yes" in given and "confirm_count" in given:
        raise UsageError("--yes and --confirm-count exclude each other: give one of them")
    _exclude(given, ("ca_bundle",), ("no_verify_ssl",) if given["no_verify_ssl"] else ())
    _exclude(given, ("role_arn",), ("role_name", "account_id", "organization_unit"))
    several = "account_id" in given or "organization_unit" in given
    if several and "role_name" not in given:
        raise UsageError("--account-id needs --role-name, the role to assume in each account")
    if "role_name" in given and not several:
        raise UsageError("--role-name needs --account-id (for one role use --role-arn)")
    if "external_id" in given and "role_arn" not in given and "role_name" not in given:
        raise UsageError("--external-id needs --role-arn or --role-name")


def _exclude(given: Given, one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Of options that exclude each other those count that stand nearer: a flag beats the environment."""
    levels = [max((given.level(name) for name in names), default=0) for names in (one, other)]
    if not all(levels):
        return
    if levels[0] == levels[1]:
        first, second = (next(name for name in names if name in given) for names in (one, other))
        raise UsageError(f"{_flag(first)} and {_flag(second)} exclude each other: give one of them")
    given.overrule(*(one if levels[0] < levels[1] else other))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
