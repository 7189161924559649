"""Lists of runs in CSV, TSV, YAML, JSON and JSON Lines, as a stream of rows.

A row that is wrong is yielded as a :class:`~batch_cancel.core.errors.Problem` in its place, and reading goes on: the
caller decides whether it may be skipped. A fault after which nothing can be read raises
:class:`~batch_cancel.core.errors.InputError`. A million rows pass in bounded memory.
"""

from batch_cancel.manifest.read import format_by_ending, name_of, read_manifest
from batch_cancel.manifest.rows import ManifestRow

__all__ = ["ManifestRow", "format_by_ending", "name_of", "read_manifest"]
