"""The last step of a sweep: its result to those who are not at the terminal.

Whatever fails here loses nothing: the run directory is whole before it begins, and each fault is a sentence that ends
in an exit code of at least 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batch_cancel.core.errors import (
    AccessStopped,
    BatchCancelError,
    CallFailed,
    ErrorKind,
    GuardrailRefused,
    UsageError,
)
from batch_cancel.delivery.bounded import DELIVERY_SECONDS, Bounded
from batch_cancel.delivery.change import Mark, Marks, scope
from batch_cancel.delivery.notification import failure as failure_messages
from batch_cancel.delivery.notification import is_occasion, messages, subject
from batch_cancel.delivery.upload import place_of_sweep, upload
from batch_cancel.glue.outbox import Outbox, S3Place
from batch_cancel.report.document import Document
from batch_cancel.report.files import opened
from batch_cancel.settings import Notify, Settings
from batch_cancel.stop import Stop


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of it.

    Attributes:
        place: where the copies are; None where none were asked for, or one could not be made.
        copied: the files that S3 has copies of all the same.
        faults: what went wrong, a sentence each.
    """

    place: S3Place | None
    copied: tuple[Path, ...]
    faults: tuple[str, ...]


def wanted(settings: Settings) -> bool:
    """Whether there is anything to deliver."""
    return settings.report.s3 is not None or settings.notify is not None


async def deliver(
    directory: Path,
    settings: Settings,
    reports: Sequence[Path],
    outbox: Outbox,
    *,
    sweep_id: str,
    exit_code: int,
    notify: bool = True,
    stop: Stop | None = None,
    seconds: float = DELIVERY_SECONDS,
) -> Delivered:
    """Upload and notify, as the settings say.

    Args:
        notify: False where the sweep goes on elsewhere: then its end is not news yet.
        stop: ends it; what was not delivered by then is a fault.
        seconds: for all of it; large files get more (:mod:`batch_cancel.delivery.bounded`).
    """
    outbox = Bounded(outbox, stop=stop, seconds=seconds)
    faults: list[str] = []
    place = None
    copied: tuple[Path, ...] = ()
    if settings.report.s3 is not None:
        place = place_of_sweep(settings.report.s3, sweep_id)
        uploaded = await upload(outbox, place, directory, reports)
        copied = uploaded.copied
        faults += uploaded.faults
        place = None if faults else place
    if settings.notify is not None and notify:
        with opened(directory) as document:
            news = _News(document, settings, directory, place, exit_code or (1 if faults else 0), faults)
            faults += await news.tell(settings.notify, outbox)
    return Delivered(place, copied, tuple(faults))


async def tell_of_failure(settings: Settings, sweep_id: str, error: BatchCancelError, outbox: Outbox) -> list[str]:
    """Tell whoever wants to hear of failures of a sweep that left no report; what went wrong in telling."""
    if settings.notify is None or not {"failure", "always"} & set(settings.notify.on):
        return []
    began = not isinstance(error, UsageError | GuardrailRefused | AccessStopped)
    told = failure_messages(settings.name or sweep_id, sweep_id, str(error), error.exit_code, began=began)
    try:
        await Bounded(outbox).publish(settings.notify.sns_topic_arn, *told)
    except CallFailed as failure:
        return [_not_told(settings.notify, failure)]
    return []


@dataclass(frozen=True, slots=True)
class _News:
    """What a notification is about."""

    document: Document
    settings: Settings
    directory: Path
    place: S3Place | None
    exit_code: int
    faults: Sequence[str]

    async def tell(self, notify: Notify, outbox: Outbox) -> list[str]:
        """Tell whoever wants to hear of it; what went wrong in telling.

        The mark is moved on only once the news is out: else it would never be told.
        """
        troubles: list[str] = []
        exit_code = self.exit_code
        marks, before, mark = None, None, None
        if "change" in notify.on:
            prefix = S3Place.of(self.settings.report.s3) if self.settings.report.s3 else None
            marks = Marks(outbox, prefix, scope(self.document))
            try:
                before = await marks.last()
            except CallFailed as failure:
                troubles.append(_not_compared(failure))
                exit_code = exit_code or 1  # the process will end with it, so that is the news
            mark = Mark.of(self.document, exit_code)
        changed = mark is not None and (before is None or before.fingerprint != mark.fingerprint)
        if is_occasion(notify.on, exit_code, changed=changed):
            told = messages(
                self.document,
                exit_code,
                directory=self.directory,
                reports=f"{self.place}/" if self.place else None,
                before=before,
                faults=[*self.faults, *troubles],
            )
            try:
                await outbox.publish(notify.sns_topic_arn, subject(self.document, exit_code), told)
            except CallFailed as failure:
                return [*troubles, _not_told(notify, failure)]
        if marks is not None and mark is not None:
            try:
                await marks.save(mark)
            except CallFailed as failure:
                troubles.append(_not_compared(failure))
        return troubles


def _not_told(notify: Notify, failure: CallFailed) -> str:
    hint = " (it needs sns:Publish, and the use of the topic's key)" if failure.kind is ErrorKind.ACCESS else ""
    return f"{notify.sns_topic_arn} could not be notified: {failure.code}: {failure.message}{hint}"


def _not_compared(failure: CallFailed) -> str:
    hint = " (it needs s3:GetObject and s3:ListBucket there)" if failure.kind is ErrorKind.ACCESS else ""
    return f"the last sweep's mark cannot be read or written: {failure.code}: {failure.message}{hint}"
