"""What a sweep is told to do: plain data, made from flags, environment and sweep file, and kept in the ledger.

Nothing here reads files or knows pydantic: importing that costs a manifest run more than its first request takes.
None means "not said"; an empty tuple means "none of them", which is never the same.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

from batch_cancel.core.errors import UsageError
from batch_cancel.core.selection import Protection, Selection

SCHEMA = "batch-cancel/settings/1"


class ManifestFormat(StrEnum):
    """How a manifest is written."""

    CSV = "csv"
    TSV = "tsv"
    YAML = "yaml"
    JSON = "json"
    JSONL = "jsonl"


class ReportFormat(StrEnum):
    """A report file that a sweep can leave."""

    JSON = "json"
    CSV = "csv"
    MD = "md"
    HTML = "html"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings:
    """Where to sweep: one way in (or one for each account), times its regions. Nothing set: the caller's own.

    Attributes:
        profile: of the shared config files; with a role, the profile that assumes it.
        role_arn: a role to assume.
        role_name: a role to assume in each of ``accounts``.
        accounts: twelve-digit ids; only with ``role_name``.
        organization_units: their accounts; only with ``role_name``.
        regions: names, ``all`` that the partition has, or None for the caller's own.
    """

    profile: str | None = None
    role_arn: str | None = None
    role_name: str | None = None
    accounts: tuple[str, ...] | None = None
    organization_units: tuple[str, ...] | None = None
    external_id: str | None = None
    regions: tuple[str, ...] | Literal["all"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """The runs stand in a list; ``path`` is ``-`` for standard input, ``format`` None for "by the file's ending"."""

    path: str
    format: ManifestFormat | None = None
    skip_invalid: bool = False
    kind: Literal["manifest"] = "manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySource:
    """The runs are those that the targets list as active."""

    kind: Literal["discovery"] = "discovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource:
    """The runs are those that a reviewed plan names; ``digest`` says which one it was."""

    path: str
    digest: str
    kind: Literal["plan"] = "plan"


Source = ManifestSource | DiscoverySource | PlanSource


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxErrors:
    """How many runs may end in an error before the sweep stops; exactly one of the two is set."""

    count: int | None = None
    percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrails:
    """Caps that refuse whole (``max_errors``: that stop). ``allow_accounts`` () allows no account, None any."""

    max_runs: int | None = None
    max_percent: float | None = None
    allow_accounts: tuple[str, ...] | None = None
    max_errors: MaxErrors | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What was consented to beforehand; neither set means that a person has to be asked."""

    yes: bool = False
    confirm_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """``rps`` None: as fast as the service's limit, which is found out. Else a cap for each operation of a target."""

    rps: float | None = None
    max_concurrency: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """``deadline_seconds`` is of the whole sweep, from its start."""

    max_attempts: int = 5
    deadline_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Whether the end of the cancelled runs is waited for, and how long without seeing it."""

    wait: bool = True
    timeout_seconds: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint for every service, and how its certificate is judged. Unset parts are left to the AWS library.

    Attributes:
        variables: what the environment said of endpoints where there is no ``url``, for who goes on with the sweep;
            None where nobody looked.
    """

    url: str | None = None
    variables: Mapping[str, str] | None = None
    ca_bundle: str | None = None
    verify_ssl: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A price, and where it is from."""

    price_per_dpu_hour: float
    currency: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Which files a sweep leaves in its run directory, and where a copy of them goes."""

    formats: tuple[ReportFormat, ...] = tuple(ReportFormat)
    s3: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Whom to tell, and of what (``failure``, ``change``, ``always``)."""

    sns_topic_arn: str
    on: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides what a sweep does; how it looks while it does so is the command line's business.

    Attributes:
        targets: an empty tuple sweeps nowhere.
        protection: holds whatever is selected.
        dry_run_only: the sweep file says that it is always a dry run, so that no flag makes it anything else.
    """

    source: Source
    name: str | None = None
    reason: str | None = None
    targets: tuple[TargetSettings, ...] = (TargetSettings(),)
    selection: Selection = field(default_factory=Selection)
    protection: Protection = field(default_factory=Protection)
    guardrails: Guardrails = field(default_factory=Guardrails)
    consent: Consent = field(default_factory=Consent)
    rate: Rate = field(default_factory=Rate)
    retry: Retry = field(default_factory=Retry)
    verify: Verify = field(default_factory=Verify)
    until_clear: bool = False
    ignore_not_found: bool = False
    dry_run: bool = False
    dry_run_only: bool = False
    endpoint: Endpoint = field(default_factory=Endpoint)
    cost: Cost | None = None
    report: Report = field(default_factory=Report)
    notify: Notify | None = None


def to_json(settings: Settings) -> str:
    """Settings as the ledger keeps them; :func:`from_json` reads them back."""
    return json.dumps({"schema": SCHEMA, "settings": asdict(settings)}, default=_plain)


def _plain(value: object) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"settings hold a {type(value).__name__}")


def from_json(text: str) -> Settings:
    """Settings from what :func:`to_json` wrote.

    Raises:
        UsageError: the text is not what this version writes.
    """
    import pydantic  # noqa: PLC0415  # only a resumed sweep pays for it

    try:
        document: Any = json.loads(text)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise UsageError(f"the stored settings are not {SCHEMA}: they were written by another version")
        return pydantic.TypeAdapter(Settings).validate_python(document["settings"])
    except (ValueError, KeyError) as error:  # a pydantic.ValidationError is a ValueError
        raise UsageError(f"the stored settings cannot be read: {error}") from error
