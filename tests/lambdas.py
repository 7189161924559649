"""What a Lambda function finds around it: moto's S3 and SNS, a simulated Glue and STS, and a clock that runs out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from batch_cancel.simulator.world import World
from tests.served import served


@dataclass
class Context:
    """So many seconds are left, whenever it is asked."""

    seconds: float = 60.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@contextmanager
def around(world: World, moto: str) -> Iterator[dict[str, str]]:
    """Inside, Glue and STS are the world's, S3, SNS and Organizations are moto's; yields the variables."""
    with served(world) as glue, pytest.MonkeyPatch.context() as patch:
        variables = {
            "AWS_ENDPOINT_URL_GLUE": glue,
            "AWS_ENDPOINT_URL_STS": glue,
            "AWS_ENDPOINT_URL_ORGANIZATIONS": glue,
            "AWS_ENDPOINT_URL_S3": moto,
            "AWS_ENDPOINT_URL_SNS": moto,
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables
