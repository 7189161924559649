"""What holds for every test, and what each is followed by."""

from collections.abc import Iterator

import hypothesis
import pytest

from tests.scratch import forget

hypothesis.settings.register_profile("untimed", deadline=None)  # on a busy machine any example may take a second
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    forget()
