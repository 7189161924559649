"""Cancel AWS Glue machine-learning task runs in bulk, and tell the truth about every one of them."""

from batch_cancel.version import __version__

__all__ = ["__version__"]
