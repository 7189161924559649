"""Who we are at each target: asked once for each way in, as soon as somebody has to know."""

import asyncio
from collections.abc import Iterable

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Access, Identity, Target
from batch_cancel.glue.api import Service

AT_ONCE = 16
ATTEMPTS = 5


class Identities:
    """The answers of sts:GetCallerIdentity, each asked for once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._places = asyncio.Semaphore(AT_ONCE)
        self._asked: dict[Access, asyncio.Task[Identity]] = {}

    async def of(self, target: Target) -> Identity:
        """Who we are there.

        Raises:
            CallFailed: it could not be found out.
        """
        task = self._asked.get(target.access)
        if task is None:
            task = self._asked[target.access] = asyncio.create_task(self._ask(target))
        return await asyncio.shield(task)  # one who gives up waiting does not take the answer from the others

    def tasks(self) -> Iterable["asyncio.Task[Identity]"]:
        """Everything that was asked, for who has to see that nothing outlives the sweep."""
        return self._asked.values()

    async def _ask(self, target: Target) -> Identity:
        tries = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=0.2, max=5.0),
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        async with self._places:
            return await tries(self._service.identify, target.access, target.region)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, CallFailed) and error.kind in (ErrorKind.THROTTLE, ErrorKind.TRANSIENT)
