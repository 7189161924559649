"""What holds for every test, what none may depend on, and what each is followed by."""

import gc
import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.scratch import forget

# The AWS variables of whoever runs the tests: an endpoint or a profile that they work with. On import, before any
# fixture of whatever scope has set its own.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]

hypothesis.settings.register_profile("untimed", deadline=None)  # on a busy machine any example may take a second
hypothesis.settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Tests and libraries stay: looking through them for garbage again and again is a tenth of the suite's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    forget()
