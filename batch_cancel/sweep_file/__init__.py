"""The sweep file: YAML in, settings out, every fault at once with its line and column."""

from batch_cancel.sweep_file.load import load_sweep_file
from batch_cancel.sweep_file.model import json_schema

__all__ = ["json_schema", "load_sweep_file"]
