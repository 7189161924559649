"""What the rules and the report want to know of a target's transforms: names, tags, capacity."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from batch_cancel.core.errors import CallFailed
from batch_cancel.core.events import Warned
from batch_cancel.core.selection import Protection, Selection
from batch_cancel.core.task_run import Transform
from batch_cancel.engine.reading import pages
from batch_cancel.glue.paced import Line


class Transforms:
    """What the rules want to know of a target's transforms, fetched when the first active run makes it matter.

    Tags come from ListMLTransforms with one pair at a time: whether it takes several as "any" or as "all" is not
    documented. So only pairs that a rule names are known, which is all that the rules ask.
    """

    def __init__(self, line: Line[Any], selection: Selection, protection: Protection) -> None:
        self.described: dict[str, Transform] = {}
        self._line = line
        self._selection = selection
        self._protection = protection
        self._tagged: dict[tuple[str, str], set[str]] = {}
        self._fetched = False
        self._fetching = asyncio.Lock()

    async def ids(self, *, every: bool = False) -> AsyncIterator[Sequence[str]]:
        """The transforms to look into, a page at a time: by id, else by tag, as asked for; else all.

        Args:
            every: all of them, whatever is asked for.
        """
        selection = Selection() if every else self._selection
        if selection.transform_ids:
            yield list(dict.fromkeys(selection.transform_ids))
        elif selection.needs_tags and all((selection.tags or {}).values()):
            yield sorted(await self._ids_by_tags(selection.tags or {}))
        else:
            listing = pages(
                self._line, "ListMLTransforms", lambda glue, token: glue.list_transform_ids(next_token=token)
            )
            async for items in listing:
                yield items

    async def transform(self, transform_id: str) -> Transform:
        """A transform with what the rules want to know of it.

        Raises:
            CallFailed: names or tags could not be had; then nothing can be shown to be unprotected.
        """
        async with self._fetching:
            if not self._fetched:
                if self._protection.needs_tags or self._selection.needs_tags:
                    await self._fetch_tags()
                if self._protection.needs_names or self._selection.needs_names:
                    await self._fetch_names()
                self._fetched = True
        transform = self.described.get(transform_id, Transform(transform_id))
        if self._tagged:
            tags = {key: value for (key, value), ids in self._tagged.items() if transform_id in ids}
            transform = replace(transform, tags=tags)
        return transform

    async def describe(self) -> None:
        """Names and capacity for the report, if they can be had."""
        if not self.described:
            try:
                await self._fetch_names()
            except CallFailed as failure:
                self._line.on_event(
                    Warned(f"{self._line.target}: names and capacity of transforms are not known: {failure}")
                )

    async def _ids_by_tags(self, tags: Mapping[str, Sequence[str]]) -> set[str]:
        """Keys are ANDed, the values of one key ORed."""
        return set.intersection(
            *[set().union(*[await self._tagged_with(key, value) for value in values]) for key, values in tags.items()]
        )

    async def _tagged_with(self, key: str, value: str) -> set[str]:
        ids = self._tagged.get((key, value))
        if ids is None:
            ids = set()
            listing = pages(
                self._line,
                "ListMLTransforms",
                lambda glue, token: glue.list_transform_ids(tags={key: value}, next_token=token),
            )
            async for items in listing:
                ids.update(items)
            self._tagged[key, value] = ids
        return ids

    async def _fetch_tags(self) -> None:
        for tags in (self._protection.tags or {}, self._selection.tags or {}):
            for key, values in tags.items():
                for value in values:
                    await self._tagged_with(key, value)

    async def _fetch_names(self) -> None:
        listing = pages(self._line, "GetMLTransforms", lambda glue, token: glue.list_transforms(next_token=token))
        async for items in listing:
            self.described.update((transform.transform_id, transform) for transform in items)
