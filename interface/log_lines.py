"""Finished lines of the log on their way to its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from threading import get_ident
from typing import IO, Any, TypeVar

_T = TypeVar("_T")


class Lines:
    """Writes finished lines to a stream and outlives it: a closed journal must never stop a link.

    While an event loop gathers them, lines of its thread that are no warnings wait for the end of its turn: a group of
    messages is one write.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._lines: list[bytes] = []  # the loop's thread alone has to do with them

    def msg(self, line: bytes) -> None:
        """Write a line, after those that were said before it."""
        if self._lines and get_ident() == self._thread:
            self._flush()
        self._write(line + b"\n")

    def info(self, line: bytes) -> None:
        """Write a line, soon where lines are gathered."""
        if self._loop is None or get_ident() != self._thread:
            self._write(line + b"\n")
            return
        if not self._lines:
            self._loop.call_soon(self._flush)
        self._lines.append(line + b"\n")

    debug = info
    warning = error = critical = exception = log = msg

    async def gathering(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do what is said in an event loop, which gathers lines meanwhile."""
        self._loop, self._thread = asyncio.get_running_loop(), get_ident()
        try:
            return await work
        finally:
            self._loop = None
            self._flush()

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._write(b"".join(lines))

    def _write(self, lines: bytes) -> None:
        try:
            self._stream.write(lines)
            self._stream.flush()
        except (OSError, ValueError):
            return
