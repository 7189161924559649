"""Progress on standard error, drawn from the sweep's events."""

from batch_cancel.cli.progress.progress import Progress

__all__ = ["Progress"]
