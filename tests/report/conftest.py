"""What the tests of reports share, and what becomes of those that need a browser where there is none."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.report.ledgers import build, many


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without chromium the browser's tests are deselected, which pytest counts in its last line; CI requires them."""
    if shutil.which("chromium") or os.environ.get("BATCH_CANCEL_BROWSER_TESTS") == "required":
        return
    left_out = [item for item in items if item.get_closest_marker("browser")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("browser")]


@pytest.fixture(scope="session")
def hundred_thousand(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A run directory with so many runs: made once, and only when it is asked for, because that takes seconds."""
    return cache(lambda: build(tmp_path_factory.mktemp("many") / "run", lambda ledger: many(ledger, 100_000)))
