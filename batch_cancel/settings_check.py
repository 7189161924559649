"""Whether settings that were made in Python make sense: what flags and sweep files are held to, in one place.

A slip in them would otherwise be an empty sweep, one that never calls anything, or a failure once every run is
cancelled. What a part can say of itself it says where it is made (:class:`~batch_cancel.core.selection.Selection`).
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from batch_cancel.core.errors import UsageError
from batch_cancel.settings import (
    Guardrails,
    ManifestSource,
    Notify,
    Report,
    Settings,
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
)

T = TypeVar("T")


def check_settings(settings: Settings) -> None:
    """Refuse what cannot be meant. Pure: nothing is read or called.

    Raises:
        UsageError: naming the attribute.
    """
    _check_modes(settings)
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
    _one("rate.rps", settings.rate.rps, positive)
    _one("rate.max_concurrency", settings.rate.max_concurrency, _whole(1, MOST_CONCURRENT))
    _one("retry.max_attempts", settings.retry.max_attempts, _whole(1, MOST_ATTEMPTS))
    _one("retry.deadline_seconds", settings.retry.deadline_seconds, positive)
    _one("verify.timeout_seconds", settings.verify.timeout_seconds, positive)


def _check_modes(settings: Settings) -> None:
    consent = settings.consent
    if consent.yes and consent.confirm_count is not None:
        raise UsageError("consent: yes and confirm_count exclude each other")
    if settings.dry_run and (consent.yes or consent.confirm_count is not None):
        raise UsageError("dry_run and consent exclude each other: a dry run cancels nothing")
    if not settings.until_clear:
        return
    if isinstance(settings.source, ManifestSource):
        raise UsageError("until_clear sweeps again and again: it needs a DiscoverySource")
    if settings.dry_run:
        raise UsageError("until_clear and dry_run exclude each other: a dry run clears nothing")
    if not consent.yes:
        raise UsageError("until_clear needs consent.yes: how many runs it will cancel cannot be known beforehand")
    if not settings.verify.wait:
        raise UsageError("until_clear has to see the runs end: it needs verify.wait")


def _check_target(name: str, target: TargetSettings) -> None:
    _one(f"{name}.profile", target.profile, check_text)
    _one(f"{name}.role_arn", target.role_arn, check_role_arn)
    _one(f"{name}.role_name", target.role_name, check_role_name)
    _one(f"{name}.external_id", target.external_id, check_external_id)
    _each(f"{name}.accounts", target.accounts, check_account)
    _each(f"{name}.organization_units", target.organization_units, check_text)
    if target.regions != "all":
        _each(f"{name}.regions", target.regions, check_region)
    several = target.accounts is not None or target.organization_units is not None
    if several and target.role_name is None:
        raise UsageError(f"{name}: accounts need role_name, the role to assume in each of them")
    if target.role_name is not None and not several:
        raise UsageError(f"{name}: role_name needs accounts (for one role use role_arn)")
    if target.role_name is not None and target.role_arn is not None:
        raise UsageError(f"{name}: role_arn and role_name exclude each other")
    if target.external_id is not None and target.role_name is None and target.role_arn is None:
        raise UsageError(f"{name}: external_id needs role_arn or role_name")


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
    if isinstance(values, str):
        raise UsageError(f"{name}: {values!r} is text where a tuple belongs: write ({values!r},)")
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
