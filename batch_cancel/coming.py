"""What the contract has and this version cannot do yet: refused by name, never ignored.

To lift a refusal, drop its lines here.
"""

from batch_cancel.settings import Settings

Path = tuple[str | int, ...]


def not_yet(settings: Settings) -> list[tuple[Path, str]]:
    """The sweep-file keys (and the flags behind them) that cannot be honoured, each with the sentence that says so."""
    refusals: list[tuple[Path, str]] = []
    if settings.report.s3 is not None:
        refusals.append((("report", "s3"), "copies of reports in S3 are not supported yet: copy the run directory"))
    if settings.notify is not None:
        refusals.append((("notify",), "notifications are not supported yet: act on the exit code"))
    return refusals
