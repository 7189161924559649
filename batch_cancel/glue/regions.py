"""Which regions there are, by botocore's own data file, read without importing botocore.

A name that the file does not know is refused: a slip in it would otherwise be an empty sweep or a time-out.
"""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from batch_cancel.core.errors import UsageError
from batch_cancel.core.wording import did_you_mean, quoted

DEFAULT_PARTITION = "aws"


@cache
def partitions() -> dict[str, tuple[str, ...]]:
    """Every partition's regions, for example ``{"aws-cn": ("cn-north-1", "cn-northwest-1")}``."""
    return {
        entry["id"]: tuple(sorted(region for region in entry["regions"] if not region.endswith("-global")))
        for entry in _data()
    }


@cache
def glue_regions(partition: str) -> tuple[str, ...]:
    """The regions of a partition that have Glue; all of them where botocore's data says nothing of Glue there."""
    for entry in _endpoints():
        if entry["partition"] == partition and "glue" in entry["services"]:
            with_glue = entry["services"]["glue"]["endpoints"]  # also holds names such as fips-us-east-1
            return tuple(region for region in partitions().get(partition, ()) if region in with_glue)
    return partitions().get(partition, ())


@cache
def known_regions() -> frozenset[str]:
    """The regions of every partition."""
    return frozenset(region for regions in partitions().values() for region in regions)


@cache
def partition_of(region: str) -> str:
    """The partition that a region is in: by name, else by the shape of its name, else ``aws``."""
    for partition, regions in partitions().items():
        if region in regions:
            return partition
    for entry in _data():
        if re.fullmatch(entry["regionRegex"], region):
            return str(entry["id"])
    return DEFAULT_PARTITION


def region_fault(region: str) -> str | None:
    """What is wrong with a region's name, or None."""
    if region in known_regions():
        return None
    if "," in region:
        return f"{quoted(region)} is no region: name each of several by itself"
    return f"unknown region {quoted(region)}{did_you_mean(region, sorted(known_regions()))}"


def check_region(region: str) -> str:
    """The region itself.

    Raises:
        UsageError: no partition has such a region.
    """
    if fault := region_fault(region):
        raise UsageError(fault)
    return region


@cache
def _data() -> list[dict[str, str]]:
    entries: list[dict[str, str]] = json.loads(_read("partitions.json"))["partitions"]
    return entries


def _endpoints() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(_read("endpoints.json"))["partitions"]
    return entries


def _read(name: str) -> str:
    spec = importlib.util.find_spec("botocore")  # finds the package without running it
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("botocore is not installed: install batch-cancel again")
    return (Path(spec.submodule_search_locations[0]) / "data" / name).read_text(encoding="utf-8")
