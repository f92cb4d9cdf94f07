"""Looks at what may never answer: a mount whose server is gone keeps whoever asks it for anything, and no limit of time
ends that. So each look has a thread of its own, for which nobody waits longer than for what is well, nor at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, Final, TypeVar

WAIT_S: Final = 10.0  # a disk that is busy answers by then
HANGS: Final = "does not answer: a mount whose server is gone?"

_T = TypeVar("_T")


class Looks:
    """By a name each. One that still hangs is waited for again, and not begun once more: there would be a thread more
    each minute."""

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._under_way: dict[str, Future[tuple[Any, Exception | None]]] = {}

    async def at(self, name: str, look: Callable[[], _T]) -> _T:
        """What `look` returns or raises; TimeoutError where it does not end in time."""
        future = self._under_way.get(name)
        if future is None or future.done():
            future = self._under_way[name] = Future()
            Thread(target=_run, args=(future, look), name=f"look {name}", daemon=True).start()
        await asyncio.wait([asyncio.wrap_future(future)], timeout=self._wait_s)
        if not future.done():
            raise TimeoutError(HANGS)
        self._under_way.pop(name, None)
        found, error = future.result()
        if error is not None:
            raise error
        return found  # type: ignore[no-any-return]


def _run(future: Future[tuple[Any, Exception | None]], look: Callable[[], object]) -> None:
    try:
        future.set_result((look(), None))
    except Exception as error:  # told to who waits, if anybody still does
        future.set_result((None, error))
