"""The rates that were found last time, kept in the user's state directory.

A convenience and nothing more: a file that is lost, damaged, stale or not writable only makes the next sweep find its
limits anew.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from batch_cancel.private_file import replacing

STALE_SECONDS = 7 * 86400.0
MOST_ENTRIES = 5_000
LONGEST_FILE = 4_000_000


def state_file() -> Path:
    """``rates.json`` in this program's state directory (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home and Path(home).is_absolute() else Path("~/.local/state").expanduser()
    return base / "batch-cancel" / "rates.json"


class LearnedRates:
    """Requests a second by endpoint, account, region and operation."""

    def __init__(self, path: Path, *, endpoint_url: str | None = None, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._endpoint = endpoint_url or "aws"
        self._now = now
        self._known: Mapping[str, tuple[float, float]] | None = None

    def get(self, account: str, region: str, operation: str) -> float | None:
        """What was found last time, if that was not too long ago."""
        if self._known is None:
            self._known = self._read()
        known = self._known.get(self._key(account, region, operation))
        return known[0] if known else None

    def save(self, found: Mapping[tuple[str, str, str], float]) -> None:
        """Keep what was found, by (account, region, operation), beside what others have found meanwhile."""
        if not found:
            return
        now = self._now()
        entries = self._read()
        entries.update({self._key(*key): (rps, now) for key, rps in found.items()})
        newest = sorted(entries.items(), key=lambda entry: entry[1][1])[-MOST_ENTRIES:]
        with suppress(OSError, RuntimeError):
            self._write(json.dumps({"version": 1, "rates": dict(newest)}, indent=0))

    def _key(self, account: str, region: str, operation: str) -> str:
        return f"{self._endpoint} {account} {region} {operation}"

    def _read(self) -> dict[str, tuple[float, float]]:
        try:
            with self._path.open("rb") as file:
                rates = json.loads(file.read(LONGEST_FILE))["rates"].items()
            entries = {str(key): (float(rps), float(at)) for key, (rps, at) in rates}
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}
        now = self._now()
        return {
            key: (rps, at) for key, (rps, at) in entries.items() if 0.0 < rps < 1e6 and 0.0 <= now - at < STALE_SECONDS
        }

    def _write(self, text: str) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(self._path) as new:
            new.write_text(text, encoding="utf-8")
