"""Bytes that wait to be read, taken from the front in amortised linear time."""

from __future__ import annotations

import re

_COMPACT_BYTES = 65_536


class ByteQueue:
    """First in, first out; the caller searches and takes, the consumed front is dropped now and then."""

    __slots__ = ("_at", "_data")

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0

    def __len__(self) -> int:
        return len(self._data) - self._at

    def append(self, data: bytes) -> None:
        self._data += data

    def find(self, pattern: re.Pattern[bytes]) -> int:
        """Distance of the first match from the front; the length when there is none."""
        match = pattern.search(self._data, self._at)
        return (match.start() if match else len(self._data)) - self._at

    def find_byte(self, code: int) -> int:
        """As `find`, for one byte, at a tenth of the cost."""
        at = self._data.find(code, self._at)
        return (at if at >= 0 else len(self._data)) - self._at

    def match(self, pattern: re.Pattern[bytes]) -> bytes:
        """What the pattern matches at the front, left where it is; empty when it does not."""
        match = pattern.match(self._data, self._at)
        return match[0] if match else b""

    def first(self) -> int:
        """The byte at the front; there must be one."""
        return self._data[self._at]

    def peek(self, count: int) -> bytes:
        """The next `count` bytes, or as many as there are, left where they are."""
        return bytes(memoryview(self._data)[self._at : self._at + count])

    def take(self, count: int) -> bytes:
        """The next `count` bytes, or as many as there are."""
        taken = bytes(memoryview(self._data)[self._at : self._at + count])
        self._at += len(taken)
        if self._at == len(self._data):
            self._data.clear()
            self._at = 0
        elif self._at > _COMPACT_BYTES and 2 * self._at > len(self._data):
            del self._data[: self._at]
            self._at = 0
        return taken

    def clear(self) -> None:
        self._data.clear()
        self._at = 0
