"""Regions that are not enabled, told from credentials that are wrong, over many targets."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from batch_cancel.core.task_run import Access, Target
from batch_cancel.engine.closed_regions import closed_ones, explain_closed_regions
from batch_cancel.ledger.ledger import Ledger

CLOSED = "eu-south-1"


class Counted(Target):
    """A target that counts how often it is compared with another."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = Target.__hash__


def test_closed_regions_of_many_accounts_are_explained_without_comparing_each_target_with_each(tmp_path: Path) -> None:
    accounts = [f"{number:012}" for number in range(300)]
    targets = [
        Counted(region, account, Access(role_arn=f"arn:aws:iam::{account}:role/X"))
        for account in accounts
        for region in ("us-east-1", CLOSED)
    ]

    async def main() -> None:
        ledger = Ledger.create(tmp_path / "run")
        for target in targets:
            target_id = await ledger.add_target(target)
            if target.region == CLOSED:
                ledger.set_target_error(target_id, "UnrecognizedClientException", "The token is invalid.")
        await ledger.writer.commit()
        rows = [replace(row, target=own) for row, own in zip(ledger.reader.targets(), targets, strict=True)]
        Counted.compared = 0
        closed = explain_closed_regions(ledger, rows, [target for target in targets if target.region != CLOSED])
        await ledger.writer.commit()
        assert closed == {CLOSED: len(accounts)}
        assert Counted.compared <= len(targets)
        explained = [row.error_message for row in ledger.reader.targets() if row.error_message is not None]
        said = "the region is not enabled for this account; in the service's words: The token is invalid."
        assert explained == [said] * len(accounts)
        await ledger.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "taken_elsewhere", "closed"),
    [
        ("UnrecognizedClientException", True, True),
        ("InvalidClientTokenId", True, True),
        ("UnrecognizedClientException", False, False),
        ("OptInRequired", False, True),
        ("ExpiredTokenException", True, False),
        ("SignatureDoesNotMatch", True, False),
    ],
)
def test_a_refusal_is_told_by_its_code_and_by_what_other_regions_said(
    code: str, taken_elsewhere: bool, closed: bool
) -> None:
    refused = Target("af-south-1")
    answered = [Target("us-east-1")] if taken_elsewhere else []
    assert closed_ones({refused: code}, answered) == ({refused} if closed else set())


def test_only_the_same_credentials_in_another_region_speak_for_a_target() -> None:
    a, b = Access("a"), Access("b")
    refused = dict.fromkeys(
        (Target("af-south-1", access=a), Target("af-south-1", access=b)), "UnrecognizedClientException"
    )
    answered = [Target("us-east-1", access=a), Target("af-south-1", access=b)]
    assert closed_ones(refused, answered) == {Target("af-south-1", access=a)}
