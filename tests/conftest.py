"""What every test is followed by."""

from collections.abc import Iterator

import pytest

from tests.scratch import forget


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    forget()
