"""What people write today: the scripts that this program is measured beside, each as a process of its own.

``python -m tests.bench.peers KIND MANIFEST AT_ONCE`` cancels what a CSV of transform and run ids names. Nothing here
writes a record. The number at the end is of the runs that a script gave up.
"""

import asyncio
import csv
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ATTEMPTS = 10

Run = tuple[str, str]


def read(manifest: str) -> list[Run]:
    """The runs of a manifest."""
    with Path(manifest).open(encoding="utf-8", newline="") as lines:
        return [(row["transform_id"], row["task_run_id"]) for row in csv.DictReader(lines)]


async def aioboto3_gather(runs: list[Run], mode: str, at_once: int) -> int:
    """``asyncio.gather`` under a semaphore; how many runs were given up."""
    import aioboto3
    from aiobotocore.config import AioConfig

    places = asyncio.Semaphore(at_once)
    config = AioConfig(retries={"mode": mode, "total_max_attempts": ATTEMPTS}, max_pool_connections=at_once)
    async with aioboto3.Session().client("glue", config=config) as glue:

        async def cancel(run: Run) -> None:
            async with places:
                await glue.cancel_ml_task_run(TransformId=run[0], TaskRunId=run[1])

        ends = await asyncio.gather(*(cancel(run) for run in runs), return_exceptions=True)
    return sum(isinstance(end, BaseException) for end in ends)


def boto3_threads(runs: list[Run], mode: str, at_once: int) -> int:
    """A thread pool; how many runs were given up."""
    import boto3
    from botocore.config import Config

    config = Config(retries={"mode": mode, "total_max_attempts": ATTEMPTS}, max_pool_connections=at_once)
    glue = boto3.client("glue", config=config)

    def cancel(run: Run) -> bool:
        try:
            glue.cancel_ml_task_run(TransformId=run[0], TaskRunId=run[1])
        except Exception:  # a script that has given a run up
            return True
        return False

    with ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(cancel, runs))


async def client_per_target(accounts: list[str], regions: list[str]) -> int:
    """List the active runs everywhere: a session for each account, a client for each target, 64 at once."""
    import aioboto3

    places = asyncio.Semaphore(64)
    source = aioboto3.Session()

    async def session_of(account: str) -> aioboto3.Session:
        async with source.client("sts") as sts:
            role = f"arn:aws:iam::{account}:role/BatchCancel"
            keys = (await sts.assume_role(RoleArn=role, RoleSessionName="script"))["Credentials"]
        return aioboto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])

    async def active(session: aioboto3.Session, region: str) -> int:
        found = 0
        async with places, session.client("glue", region_name=region) as glue:
            for transform_id in (await glue.list_ml_transforms())["TransformIds"]:
                for status in ("STARTING", "RUNNING"):
                    answer = await glue.get_ml_task_runs(TransformId=transform_id, Filter={"Status": status})
                    found += len(answer["TaskRuns"])
        return found

    async def of_account(account: str) -> int:
        session = await session_of(account)
        return sum(await asyncio.gather(*(active(session, region) for region in regions)))

    return sum(await asyncio.gather(*(of_account(account) for account in accounts)))


def main(kind: str, *words: str) -> None:
    """Run one of them and print how many runs it gave up, or found."""
    cancelling: dict[str, Callable[[list[Run], int], int]] = {
        "aioboto3": lambda runs, at_once: asyncio.run(aioboto3_gather(runs, "standard", at_once)),
        "aioboto3-adaptive": lambda runs, at_once: asyncio.run(aioboto3_gather(runs, "adaptive", at_once)),
        "boto3-threads": lambda runs, at_once: boto3_threads(runs, "standard", at_once),
        "boto3-adaptive": lambda runs, at_once: boto3_threads(runs, "adaptive", at_once),
    }
    if kind == "client-per-target":
        accounts, regions = (word.split(",") for word in words)
        sys.stdout.write(f"{asyncio.run(client_per_target(accounts, regions))}\n")
    else:
        sys.stdout.write(f"{cancelling[kind](read(words[0]), int(words[1]))}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
