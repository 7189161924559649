"""Moments as every file of this program has them: RFC 3339 in UTC, to the millisecond, with Z."""

from datetime import UTC, datetime


def rfc3339(moment: datetime | None) -> str | None:
    """An aware moment as it is written; None where there is none."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def moment_of(text: object) -> datetime | None:
    """A moment that was written, aware; None for anything else."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
