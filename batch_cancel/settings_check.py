"""Whether settings that were made in Python make sense: what flags and sweep files are held to, in one place.

A slip in them would otherwise be an empty sweep, one that never calls anything, or a failure once every run is
cancelled. What a part can say of itself it says where it is made (:class:`~batch_cancel.core.selection.Selection`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from datetime import timedelta
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from batch_cancel.core.errors import UsageError
from batch_cancel.settings import (
    Guardrails,
    ManifestFormat,
    ManifestSource,
    Notify,
    Report,
    Settings,
    Source,
    TargetSettings,
)
from batch_cancel.values import (
    MOST_ATTEMPTS,
    MOST_CONCURRENT,
    check_account,
    check_currency,
    check_external_id,
    check_id,
    check_region,
    check_role_arn,
    check_role_name,
    check_s3,
    check_text,
    check_topic_arn,
    check_url,
    parse_occasion,
    parse_report_format,
    parse_status,
    parse_task_type,
    percent,
    positive,
    way_in_fault,
)

T = TypeVar("T")


def check_settings(settings: Settings) -> None:
    """Refuse what cannot be meant. Pure: nothing is read or called.

    Raises:
        UsageError: naming the attribute.
    """
    _check_kind("settings", settings, Settings)
    _check_modes(settings)
    _check_source(settings.source)
    for number, target in enumerate(settings.targets):
        _check_target(f"targets[{number}]", target)
    _check_selection(settings)
    _check_guardrails(settings.guardrails)
    check_pace(settings)
    _one("consent.confirm_count", settings.consent.confirm_count, _whole(0))
    _one("name", settings.name, check_text)
    _one("reason", settings.reason, check_text)
    _one("endpoint.url", settings.endpoint.url, check_url)
    if settings.cost is not None:
        _one("cost.price_per_dpu_hour", settings.cost.price_per_dpu_hour, positive)
        _one("cost.currency", settings.cost.currency, check_currency)
    _check_report(settings.report)
    if settings.notify is not None:
        _check_notify(settings.notify)


def check_pace(settings: Settings) -> None:
    """The same of what may be given anew to a sweep that goes on: rate, retries and verification.

    Raises:
        UsageError: naming the attribute.
    """
    for name in ("rate", "retry", "verify"):
        _check_kind(name, getattr(settings, name), get_type_hints(Settings)[name])
    _one("rate.rps", settings.rate.rps, positive)
    _one("rate.max_concurrency", settings.rate.max_concurrency, _whole(1, MOST_CONCURRENT))
    _one("retry.max_attempts", settings.retry.max_attempts, _whole(1, MOST_ATTEMPTS))
    _one("retry.deadline_seconds", settings.retry.deadline_seconds, positive)
    _one("verify.timeout_seconds", settings.verify.timeout_seconds, positive)


def check_until_clear(
    settings: Settings,
    *,
    until_clear: str = "until_clear",
    discovery: str = "a DiscoverySource",
    dry_run: str = "dry_run",
    yes: str = "consent.yes",
    wait: str = "verify.wait",
) -> None:
    """Refuse to sweep again and again where that could never come to a clear end; in the words of who is told.

    Raises:
        UsageError: what it needs, or does not go with.
    """
    if not settings.until_clear:
        return
    if isinstance(settings.source, ManifestSource):
        raise UsageError(f"{until_clear} sweeps again and again: it needs {discovery}")
    if settings.dry_run:
        raise UsageError(f"{until_clear} and {dry_run} exclude each other: a dry run clears nothing")
    if not settings.consent.yes:
        raise UsageError(f"{until_clear} needs {yes}: how many runs it will cancel cannot be known beforehand")
    if not settings.verify.wait:
        raise UsageError(f"{until_clear} has to see the runs end: it needs {wait}")


def _check_modes(settings: Settings) -> None:
    consent = settings.consent
    if consent.yes and consent.confirm_count is not None:
        raise UsageError("consent: yes and confirm_count exclude each other")
    if settings.dry_run and (consent.yes or consent.confirm_count is not None):
        raise UsageError("dry_run and consent exclude each other: a dry run cancels nothing")
    check_until_clear(settings)


def _check_source(source: Source) -> None:
    if not isinstance(source, ManifestSource):
        return
    _one("source.path", source.path, check_text)
    _one("source.format", source.format, ManifestFormat)


def _check_target(name: str, target: TargetSettings) -> None:
    _one(f"{name}.profile", target.profile, check_text)
    _one(f"{name}.role_arn", target.role_arn, check_role_arn)
    _one(f"{name}.role_name", target.role_name, check_role_name)
    _one(f"{name}.external_id", target.external_id, check_external_id)
    _each(f"{name}.accounts", target.accounts, check_account)
    _each(f"{name}.organization_units", target.organization_units, check_text)
    if target.regions is not None and "all" in target.regions:
        if target.regions != "all" and len(target.regions) > 1:
            raise UsageError(f"{name}.regions: all stands alone: it is every region")
    else:
        _each(f"{name}.regions", target.regions, check_region)
    fault = way_in_fault(
        role_arn=target.role_arn,
        role_name=target.role_name,
        external_id=target.external_id,
        several=target.accounts is not None or target.organization_units is not None,
    )
    if fault:
        raise UsageError(f"{name}: {fault}")


def _check_selection(settings: Settings) -> None:
    selection, protection = settings.selection, settings.protection
    _each("selection.transform_ids", selection.transform_ids, check_id)
    _each("selection.transform_names", selection.transform_names, check_text)
    _each("selection.statuses", selection.statuses, parse_status)
    _each("selection.task_types", selection.task_types, parse_task_type)
    _each("protection.transforms", protection.transforms, check_text)
    _each("protection.transform_ids", protection.transform_ids, check_id)
    _each("protection.transform_names", protection.transform_names, check_text)


def _check_guardrails(guardrails: Guardrails) -> None:
    _one("guardrails.max_runs", guardrails.max_runs, _whole(1))
    _one("guardrails.max_percent", guardrails.max_percent, percent)
    _each("guardrails.allow_accounts", guardrails.allow_accounts, check_account)
    errors = guardrails.max_errors
    if errors is None:
        return
    if (errors.count is None) is (errors.percent is None):
        raise UsageError("guardrails.max_errors: give either count or percent")
    _one("guardrails.max_errors.count", errors.count, _whole(0))
    _one("guardrails.max_errors.percent", errors.percent or None, percent)  # 0 stops at the first error


def _check_report(report: Report) -> None:
    _each("report.formats", report.formats, parse_report_format)
    _one("report.s3", report.s3, check_s3)


def _check_notify(notify: Notify) -> None:
    _one("notify.sns_topic_arn", notify.sns_topic_arn, check_topic_arn)
    _each("notify.on", notify.on, parse_occasion)


def _one(name: str, value: T | None, check: Callable[[T], object]) -> None:
    if value is None:
        return
    try:
        check(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{name}: {value!r} is not a value for it") from error


def _each(name: str, values: Iterable[str] | None, check: Callable[[str], object]) -> None:
    if values is None:
        return
    for value in values:
        _one(name, value, check)


def _whole(least: int, most: int | None = None) -> Callable[[Any], None]:
    def check(number: Any) -> None:  # noqa: ANN401  # whatever somebody wrote
        if not isinstance(number, int) or isinstance(number, bool):
            raise UsageError(f"{number!r} is not a whole number")
        if number < least:
            raise UsageError(f"{number} is less than {least}")
        if most is not None and number > most:
            raise UsageError(f"{number} is more than {most:,}")

    return check


# -- types, for those who have no type checker ------------------------------------------------------------------------


def _check_kind(name: str, value: object, kind: Any) -> None:  # noqa: ANN401  # an annotation
    """Refuse what a type checker would refuse in a settings class; a list will do for a tuple, an enum's word for it.

    Values are shown only where they are text for a tuple: an address may hold a password.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        _check_kind(name, value, _meant(name, value, inner))
    elif origin is tuple:
        _check_tuple(name, value, inner[0])
    elif origin is Mapping:
        if not isinstance(value, Mapping):
            raise _misfit(name, value, "a mapping")
        for key, values in value.items():
            _check_kind(f"{name}: a key", key, inner[0])
            _check_kind(f"{name}[{key!r}]", values, inner[1])
    elif origin is Literal:
        if value not in inner:
            raise _misfit(name, value, " or ".join(map(repr, inner)))
    elif isinstance(kind, type) and is_dataclass(kind):
        _check_fields(name, value, kind)
    elif not _is(value, kind):
        raise _misfit(name, value, _NAMES.get(kind, kind.__name__))


def _check_fields(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise _misfit(name, value, kind.__name__)
    for field, wanted in get_type_hints(kind).items():
        _check_kind(field if kind is Settings else f"{name}.{field}", getattr(value, field), wanted)


def _check_tuple(name: str, values: object, kind: Any) -> None:  # noqa: ANN401  # an annotation
    if isinstance(values, str):
        raise UsageError(f"{name}: {values!r} is text where a tuple belongs: give a tuple of values, ({values!r},)")
    if not isinstance(values, tuple | list):
        raise _misfit(name, values, "a tuple of values")
    for number, value in enumerate(values):
        _check_kind(f"{name}[{number}]", value, kind)


def _meant(name: str, value: object, kinds: tuple[Any, ...]) -> Any:  # noqa: ANN401  # annotations
    """Which of several kinds a value is to be."""
    for kind in kinds:
        if get_origin(kind) is Literal and isinstance(value, str) and value in get_args(kind):
            return kind
        if isinstance(kind, type) and get_origin(kind) is None and isinstance(value, kind):
            return kind
    others = [kind for kind in kinds if kind is not NoneType and get_origin(kind) is not Literal]
    if len(others) > 1:
        raise _misfit(name, value, " or ".join(kind.__name__ for kind in others))
    return others[0]


_NAMES: Mapping[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    timedelta: "a timedelta",
}


def _is(value: object, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:  # which Python takes for a number
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float)
    return isinstance(value, str if issubclass(kind, str) else kind)  # whether it is an enum's word is asked later


def _misfit(name: str, value: object, wanted: str) -> UsageError:
    found = value if value is None or isinstance(value, bool | int | float) else type(value).__name__
    return UsageError(f"{name}: {found} stands where {wanted} belongs")
