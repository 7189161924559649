"""What may stand in a sweep file: pydantic models, strict, in which every key has its description."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    InstanceOf,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from batch_cancel.core.duration import parse_duration
from batch_cancel.core.errors import UsageError
from batch_cancel.core.selection import ACTIVE_STATUSES, ages_exclude
from batch_cancel.core.task_run import Status, TaskType
from batch_cancel.core.wording import quoted
from batch_cancel.manifest.rows import NotText
from batch_cancel.settings import ManifestFormat, MaxErrors, ReportFormat
from batch_cancel.values import (
    DURATION_PATTERN,
    MOST_ATTEMPTS,
    MOST_CONCURRENT,
    OCCASIONS,
    check_account,
    check_currency,
    check_external_id,
    check_id,
    check_region_or_all,
    check_role_arn,
    check_role_name,
    check_s3,
    check_text,
    check_topic_arn,
    parse_manifest_format,
    parse_max_errors,
    parse_occasion,
    parse_report_format,
    parse_rps,
    parse_status,
    parse_task_type,
    way_in_fault,
)

T = TypeVar("T")


def _reads(read: Callable[[str], T]) -> Callable[[Any], T]:
    """A reader of text as pydantic wants it: with ValueError, and sure that it is text."""

    def validate(value: Any) -> T:  # noqa: ANN401  # whatever stands in the file
        if isinstance(value, list | dict | bool):
            what = {list: "a list", dict: "a mapping", bool: "a truth value"}[type(value)]
            raise ValueError(f"{what} stands where text or a number belongs")  # noqa: TRY004  # what pydantic collects
        try:
            return read(value.text if isinstance(value, NotText) else str(value))
        except UsageError as error:
            raise ValueError(str(error)) from None

    return validate


def _one_or_more(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, list | dict) else [value]


def _regions(value: Any) -> Any:  # noqa: ANN401
    if value == "all":
        return ["all"]
    if isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not a list: write [{value}], or all")  # noqa: TRY004
    return value


Version = Annotated[Literal[1], BeforeValidator(lambda value: value if type(value) is int else str(value))]
"""Python takes 1.0 and True for 1."""
Text = Annotated[str, AfterValidator(_reads(check_text))]
Id = Annotated[str, AfterValidator(_reads(check_id))]
Account = Annotated[
    str, AfterValidator(_reads(check_account)), WithJsonSchema({"type": "string", "pattern": "^[0-9]{12}$"})
]
Regions = Annotated[
    list[Annotated[str, AfterValidator(_reads(check_region_or_all))]],
    BeforeValidator(_regions),
    WithJsonSchema({"anyOf": [{"const": "all"}, {"type": "array", "items": {"type": "string"}}]}),
]
Duration = Annotated[
    timedelta,
    BeforeValidator(_reads(parse_duration)),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["90s", "15m", "6h", "2d", "1h30m"]}),
]
Tags = Annotated[
    dict[str, Annotated[list[str], BeforeValidator(_one_or_more)]],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        }
    ),
]
Rps = Annotated[
    float | None,
    BeforeValidator(_reads(parse_rps)),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "exclusiveMinimum": 0}], "default": "auto"}),
]
Errors = Annotated[
    InstanceOf[MaxErrors],
    BeforeValidator(_reads(parse_max_errors)),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9.]+%$"}]}),
]
AStatus = Annotated[
    Status, BeforeValidator(_reads(parse_status)), WithJsonSchema({"enum": [str(status) for status in ACTIVE_STATUSES]})
]
ATaskType = Annotated[
    str, BeforeValidator(_reads(parse_task_type)), WithJsonSchema({"enum": [str(kind) for kind in TaskType]})
]
AReportFormat = Annotated[
    ReportFormat,
    BeforeValidator(_reads(parse_report_format)),
    WithJsonSchema({"enum": [str(kind) for kind in ReportFormat]}),
]
AManifestFormat = Annotated[
    ManifestFormat,
    BeforeValidator(_reads(parse_manifest_format)),
    WithJsonSchema({"enum": [str(kind) for kind in ManifestFormat]}),
]
AnOccasion = Annotated[
    str,
    BeforeValidator(_reads(parse_occasion)),
    WithJsonSchema({"enum": list(OCCASIONS)}),
]


class Keys(BaseModel):
    """A mapping of known keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TargetKeys(Keys):
    """One way in (or one for each account), times its regions."""

    profile: Text | None = Field(None, description="A profile of the shared AWS config files.")
    role_arn: Annotated[str, AfterValidator(_reads(check_role_arn))] | None = Field(
        None, description="A role to assume, by its ARN."
    )
    role_name: Annotated[str, AfterValidator(_reads(check_role_name))] | None = Field(
        None, description="A role to assume in each of the accounts, by its name."
    )
    accounts: list[Account] | None = Field(
        None, description="Account ids, quoted. They need role_name. An empty list is no account."
    )
    organization_units: list[Text] | None = Field(
        None, description="Organizational units whose accounts are swept. They need role_name."
    )
    external_id: Annotated[str, AfterValidator(_reads(check_external_id))] | None = Field(
        None, description="The external id that the role asks for."
    )
    regions: Regions | None = Field(
        None, description="Regions, or all; the default is the region of the environment. An empty list is no region."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        fault = way_in_fault(
            role_arn=self.role_arn,
            role_name=self.role_name,
            external_id=self.external_id,
            several=self.accounts is not None or self.organization_units is not None,
        )
        if fault:
            raise ValueError(fault)
        if self.regions and "all" in self.regions and len(self.regions) > 1:
            raise ValueError("regions are either all or a list of names")
        return self


class ManifestKeys(Keys):
    """The runs stand in a list."""

    manifest: Text = Field(description="The list's file, relative to the sweep file; - is standard input.")
    format: AManifestFormat | None = Field(None, description="The list's format; the default is by the file's ending.")
    skip_invalid: bool = Field(
        False, description="Leave out rows that are wrong, and report them, instead of refusing."
    )


class SelectKeys(Keys):
    """What to cancel: kinds are ANDed, values of one kind ORed, tags with different keys ANDed."""

    transform_ids: list[Id] | None = Field(None, description="Exact transform ids. An empty list selects nothing.")
    transform_names: list[Text] | None = Field(
        None, description="Globs of transform names, case-sensitive. An empty list selects nothing."
    )
    tags: Tags | None = Field(
        None, description="Tags that the transform must carry; a list of values means any of them."
    )
    statuses: list[AStatus] = Field(
        list(ACTIVE_STATUSES), description="Statuses of runs. An empty list selects nothing."
    )
    task_types: list[ATaskType] | None = Field(None, description="Task types. An empty list selects nothing.")
    older_than: Duration | None = Field(None, description="Only runs that started longer ago than this.")
    newer_than: Duration | None = Field(None, description="Only runs that started no longer ago than this.")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("select is empty: leave it out to select every active run, or say what to select")
        if self.older_than is not None and self.newer_than is not None and self.older_than >= self.newer_than:
            raise ValueError(ages_exclude(self.older_than, self.newer_than))
        return self


class ProtectKeys(Keys):
    """What to leave alone whatever is selected: any match protects."""

    transform_ids: list[Id] = Field([], description="Exact transform ids.")
    transform_names: list[Text] = Field([], description="Globs of transform names, case-sensitive.")
    tags: Tags | None = Field(None, description="Tags of which any one protects; a list of values means any of them.")


class GuardrailKeys(Keys):
    """Caps that refuse whole, before the first call."""

    max_runs: Annotated[int, Field(ge=1)] | None = Field(
        None, description="More runs than this to cancel: refuse, and cancel none."
    )
    max_percent: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = Field(
        None, description="A larger share of the active runs than this to cancel: refuse, and cancel none."
    )
    allow_accounts: list[Account] | None = Field(
        None, description="Accounts that may be touched, quoted. An empty list allows none."
    )
    max_errors: Errors | None = Field(None, description="Stop on the first error past this count, or share such as 5%.")


class RateKeys(Keys):
    """How fast."""

    rps: Rps = Field(None, description="At most so many requests a second for each operation of a target, or auto.")
    max_concurrency: int = Field(256, ge=1, le=MOST_CONCURRENT, description="Requests in flight, in all.")


class RetryKeys(Keys):
    """How long to try."""

    max_attempts: int = Field(5, ge=1, le=MOST_ATTEMPTS, description="Attempts for each call; throttles do not count.")
    deadline: Duration | None = Field(None, description="Of the whole sweep; what is left by then is not attempted.")


class VerifyKeys(Keys):
    """Whether to see it through."""

    wait: bool = Field(True, description="Wait until the cancelled runs have been seen to end.")
    timeout: Duration | None = Field(None, description="How long to wait for that (default 15m).")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.wait and self.timeout is not None:
            raise ValueError("a timeout without waiting means nothing: leave out timeout, or say wait: true")
        return self


class CostKeys(Keys):
    """What a DPU-hour is taken to cost, for estimates."""

    price_per_dpu_hour: float = Field(gt=0, allow_inf_nan=False, description="The price of a DPU-hour.")
    currency: Annotated[str, AfterValidator(_reads(check_currency))] = Field(description="Its currency, such as USD.")
    source: Text = Field("sweep file", description="Where the price is from; it stands in the report.")


class ReportKeys(Keys):
    """What is left behind."""

    formats: list[AReportFormat] = Field(list(ReportFormat), description="Report files. An empty list is none.")
    s3: Annotated[str, AfterValidator(_reads(check_s3))] | None = Field(
        None, description="An S3 prefix that gets a copy of reports and ledger, under the sweep's id."
    )


class NotifyKeys(Keys):
    """Whom to tell when a sweep is over."""

    sns_topic_arn: Annotated[str, AfterValidator(_reads(check_topic_arn))] = Field(
        description="An SNS topic, by its ARN."
    )
    on: list[AnOccasion] = Field(
        ["failure", "change"],
        description="On failure (an exit code other than 0), on a change since the last sweep, or always.",
    )


Source = Annotated[
    Annotated[Literal["discovery"], Tag("(word)")] | Annotated[ManifestKeys, Tag("(keys)")],
    Discriminator(lambda value: "(keys)" if isinstance(value, dict) else "(word)"),
]


class SweepKeys(Keys):
    """A sweep of batch-cancel: where, what, how much at most, how fast."""

    model_config = ConfigDict(title="batch-cancel sweep file")

    version: Version = Field(1, description="The version of this format.")
    name: Text | None = Field(None, description="What the sweep is called in its reports.")
    reason: Text | None = Field(None, description="Why it is done; stands in its reports.")
    targets: list[TargetKeys] | None = Field(
        None, description="Where; the default is the caller's account and region. An empty list is nowhere."
    )
    dry_run: bool = Field(False, description="Always a dry run: nothing is cancelled, and no flag can say otherwise.")
    source: Source | None = Field(None, description="discovery, or a manifest: what the runs are found by.")
    select: SelectKeys | None = Field(None, description="What to cancel; the default is every active run.")
    protect: ProtectKeys | None = Field(None, description="What to leave alone, whatever is selected.")
    guardrails: GuardrailKeys | None = Field(None, description="When to refuse.")
    rate: RateKeys | None = Field(None, description="How fast.")
    retry: RetryKeys | None = Field(None, description="How long to try.")
    verify: VerifyKeys | None = Field(None, description="Whether to wait for the end of the cancelled runs.")
    cost: CostKeys | None = Field(None, description="A price, for estimates.")
    report: ReportKeys | None = Field(None, description="What is left behind.")
    notify: NotifyKeys | None = Field(None, description="Whom to tell when a sweep is over.")


SECTIONS: dict[tuple[str, ...], type[Keys]] = {
    (): SweepKeys,
    ("targets",): TargetKeys,
    ("source",): ManifestKeys,
    ("select",): SelectKeys,
    ("protect",): ProtectKeys,
    ("guardrails",): GuardrailKeys,
    ("rate",): RateKeys,
    ("retry",): RetryKeys,
    ("verify",): VerifyKeys,
    ("cost",): CostKeys,
    ("report",): ReportKeys,
    ("notify",): NotifyKeys,
}
"""Which keys are known where."""


class _WithoutNull(GenerateJsonSchema):
    """A key without a value is an error, so the schema does not offer null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") is None and "default_factory" not in schema:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the sweep file."""
    schema = SweepKeys.model_json_schema(schema_generator=_WithoutNull)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
