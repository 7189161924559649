"""Progress on standard error, drawn from the sweep's events."""

from batch_cancel.cli.progress.progress import Progress, progress

__all__ = ["Progress", "progress"]
