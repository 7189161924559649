"""Single values as people write them, in a flag or in a sweep file: read, or refused with the way to mend it."""

import math
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from batch_cancel.core.errors import UsageError
from batch_cancel.core.selection import ACTIVE_STATUSES, not_active
from batch_cancel.core.task_run import Status, TaskType
from batch_cancel.core.wording import did_you_mean, quoted
from batch_cancel.glue.regions import check_region
from batch_cancel.manifest.rows import account_fault, id_fault
from batch_cancel.settings import ManifestFormat, MaxErrors, ReportFormat

MOST_CONCURRENT = 10_000
MOST_ATTEMPTS = 100
OCCASIONS = ("failure", "change", "always")
DURATION_PATTERN = r"^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"

__all__ = ["check_region"]  # a value like the others, whose knowledge lives elsewhere


def check_region_or_all(text: str) -> str:
    """A region's name, or ``all``."""
    return text if text == "all" else check_region(text)


def check_text(text: str) -> str:
    """Text that is not empty."""
    if not text.strip():
        raise UsageError("is empty")
    return text


def check_id(text: str) -> str:
    """A transform's id, as the API has them (1 to 255 characters)."""
    if fault := id_fault("the id", text):
        raise UsageError(fault)
    return text


def check_account(text: str) -> str:
    """A twelve-digit account id."""
    if fault := account_fault(text):
        raise UsageError(fault)
    return text


def check_role_arn(text: str) -> str:
    """The ARN of an IAM role."""
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+", text, re.ASCII):
        raise UsageError(f"{quoted(text)} is not a role's ARN, such as arn:aws:iam::222222222222:role/BatchCancel")
    return text


def check_role_name(text: str) -> str:
    """The name of an IAM role, with its path where it has one."""
    if not re.fullmatch(r"[\w+=,.@-][\w+=,.@/-]*", text, re.ASCII):
        raise UsageError(f"{quoted(text)} is not a role's name (for an ARN use role-arn)")
    return text


def check_external_id(text: str) -> str:
    """An external id as sts:AssumeRole takes it (STS API reference, AssumeRole)."""
    if not re.fullmatch(r"[\w+=,.@:/-]{2,1224}", text, re.ASCII):
        raise UsageError(f"{quoted(text)} is not an external id (2 to 1,224 letters, digits and +=,.@:/-)")
    return text


def way_in_fault(*, role_arn: str | None, role_name: str | None, external_id: str | None, several: bool) -> str | None:
    """What of a target's way in does not go together, or None; ``several``: it names accounts or units."""
    if several and role_name is None:
        return "accounts need role_name, the role to assume in each of them"
    if role_name is not None and not several:
        return "role_name needs accounts (for one role use role_arn)"
    if role_name is not None and role_arn is not None:
        return "role_arn and role_name exclude each other"
    if external_id is not None and role_name is None and role_arn is None:
        return "external_id needs role_arn or role_name"
    return None


def check_url(text: str) -> str:
    """An http or https address, without a user's name and password: it is kept in ledgers, and shown."""
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, sound = None, False
    if parts is not None and "@" in parts.netloc:
        raise UsageError(
            f"the address of {quoted(parts.netloc.rpartition('@')[2])} holds a user's name or password, which would be"
            " kept in the ledger: leave out what stands before the @"
        )
    if not sound:
        raise UsageError(f"{quoted(text)} is not an address such as http://127.0.0.1:8080")
    return text


def check_s3(text: str) -> str:
    """An S3 prefix."""
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", text):
        raise UsageError(f"{quoted(text)} is not an S3 prefix such as s3://bucket/prefix/")
    return text


def check_topic_arn(text: str) -> str:
    """The ARN of an SNS topic."""
    if not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w-]+(\.fifo)?", text, re.ASCII):
        raise UsageError(f"{quoted(text)} is not an SNS topic's ARN, such as arn:aws:sns:us-east-1:222222222222:ops")
    return text


def check_currency(text: str) -> str:
    """A currency's code."""
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise UsageError(f"{quoted(text)} is not a currency's code such as USD")
    return text


def parse_status(text: str) -> Status:
    """A status that can be selected: an active one."""
    if text in ACTIVE_STATUSES:
        return Status(text)
    if text in Status.__members__:
        raise UsageError(not_active(Status(text)))
    raise UsageError(_unknown("status", text, ACTIVE_STATUSES))


def parse_task_type(text: str) -> str:
    """A task type of Glue's."""
    if text not in TaskType.__members__:
        raise UsageError(_unknown("task type", text, TaskType))
    return text


def parse_report_format(text: str) -> ReportFormat:
    """A report's format."""
    if text not in tuple(ReportFormat):
        raise UsageError(_unknown("report format", text, ReportFormat))
    return ReportFormat(text)


def parse_manifest_format(text: str) -> ManifestFormat:
    """A manifest's format."""
    if text not in tuple(ManifestFormat):
        raise UsageError(_unknown("word", text, ManifestFormat))
    return ManifestFormat(text)


def parse_occasion(text: str) -> str:
    """An occasion to notify somebody."""
    if text not in OCCASIONS:
        raise UsageError(_unknown("word", text, OCCASIONS))
    return text


def parse_tag(text: str) -> tuple[str, str]:
    """A tag's key and value from ``KEY=VALUE``; the value may be empty, and may hold further ``=``."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{quoted(text)} is not KEY=VALUE")
    return key, value


def parse_rps(text: str) -> float | None:
    """``auto`` (None), or a positive number of requests a second."""
    if text == "auto":
        return None
    try:
        return positive(float(text))
    except ValueError:
        raise UsageError(f"{quoted(text)} is neither auto nor a number of requests a second") from None


def parse_max_errors(text: str) -> MaxErrors:
    """``5`` or ``5%``; zero stops at the first error."""
    match = re.fullmatch(r"([0-9]{1,9})(\.[0-9]{1,9})?(%)?", text, re.ASCII)
    if match is None or (match[2] and not match[3]):
        raise UsageError(f"{quoted(text)} is neither a count such as 5 nor a share such as 5%")
    if not match[3]:
        return MaxErrors(count=int(match[1]))
    percent = float(match[1] + (match[2] or ""))
    if percent > 100:
        raise UsageError(f"{quoted(text)} is more than 100%")
    return MaxErrors(percent=percent)


def parse_percent(text: str) -> float:
    """More than 0 and at most 100, with or without ``%``."""
    try:
        return percent(float(text.removesuffix("%")))
    except ValueError:
        raise UsageError(f"{quoted(text)} is not a number of percent") from None


def positive(number: float) -> float:
    """A finite number greater than zero."""
    if not math.isfinite(number) or number <= 0:
        raise UsageError(f"{number:g} is not a number greater than zero")
    return number


def percent(number: float) -> float:
    """A share that can be refused past."""
    if positive(number) > 100:
        raise UsageError(f"{number:g} is more than 100 %")
    return number


def _unknown(what: str, text: str, choices: Iterable[str]) -> str:
    return f"unknown {what} {quoted(text)}{did_you_mean(text, choices)} (choose from {', '.join(choices)})"
