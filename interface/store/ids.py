"""UUIDv7 identifiers (RFC 9562 5.7), made here because PostgreSQL before 18 has none.

Layout as CPython 3.14's: 48 bits of milliseconds, a 42-bit counter (12 bits before, 30 after the variant), 32 random
bits. The low 24 bits carry no uniqueness within a process, so who makes an id may use them (the journal does).
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as FastUUID  # a `uuid.UUID`, as every id that is read

_VARIANT: Final = 0x2 << 62
_VERSION_AND_VARIANT: Final = (0x7 << 76) | _VARIANT
_COUNTER_LIMIT: Final = 1 << 42
FAR_MS: Final = 86_400_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_lock = threading.Lock()
_random: list[int] = []  # from the system's generator, a page at a time: asking it for each id costs more than the id
_LOW: Final = (1 << 30) - 1  # the part of the counter after the variant
_PAGE: Final = struct.Struct("512Q")
_last_ms = -1
_last_counter = 0


def _bits(count: int) -> int:
    """Random bits, 64 at most. The caller holds the lock."""
    if not _random:
        _random.extend(_PAGE.unpack(os.urandom(_PAGE.size)))
    return _random.pop() >> 64 - count


def _forget() -> None:
    """A forked process must not draw what its parent draws."""
    _random.clear()


os.register_at_fork(after_in_child=_forget)


def _fresh_counter() -> int:
    """A random start whose top bit is clear, so that there is room to count (RFC 9562 6.2 method 1)."""
    return _bits(41)


def _number(at_ms: int, counter: int, tail: int) -> int:
    high, low = counter >> 30, counter & _LOW
    return (at_ms << 80) | _VERSION_AND_VARIANT | (high << 64) | (low << 32) | tail


def of_int(number: int) -> UUID:
    """The id whose 128 bits these are, as the driver makes them: a tenth of the standard library's cost."""
    identifier: UUID = FastUUID(number.to_bytes(16))
    return identifier


def uuid7(at_ms: int | None = None) -> UUID:
    """A new id. Without `at_ms` each is greater than every earlier one of this process, even when the clock steps back.

    `at_ms`: milliseconds since 1970 UTC for a row of another time; such ids take no part in the order.
    """
    if at_ms is None:
        return of_int(uuid7_number())
    with _lock:
        return of_int(_number(at_ms, _fresh_counter(), _bits(32)))


def uuid7s(count: int) -> list[UUID]:
    """So many new ids at once, each greater than the one before."""
    global _last_ms, _last_counter
    with _lock:
        first = _count_on()
        if (first & _LOW) + count > _LOW:  # on to where the part before the variant is the same in all of them
            first = (first | _LOW) + 1
        if first + count >= _COUNTER_LIMIT:
            _last_ms, _last_counter = _last_ms + 1, _fresh_counter() & ~_LOW
            first = _last_counter
        _last_counter = first + count
        head = _number(_last_ms, first, 0).to_bytes(16)
    low = 0x2 << 30 | first & _LOW  # the variant before it
    counted = struct.pack(f"!{count}I", *range(low, low + count))
    tails = os.urandom(4 * count)
    made = bytearray(head * count)
    for at in range(4):  # a byte of all of them at once
        made[8 + at :: 16] = counted[at::4]
        made[12 + at :: 16] = tails[at::4]
    return list(map(FastUUID, struct.unpack("16s" * count, made)))


# An id as it is written. Raises ValueError for what is none.
read_id: Final[Callable[[str], UUID]] = FastUUID


def uuid7_number() -> int:
    """The 128 bits of `uuid7()`."""
    with _lock:
        counter = _count_on()
        return _number(_last_ms, counter, _bits(32))


def go_on_after(identifier: UUID) -> None:
    """Let the next be greater than one of another process, whose clock may have been ahead of this one's. What is more
    than FAR_MS ahead is passed over: it says nothing of any clock that somebody works by."""
    global _last_ms, _last_counter
    at_ms = identifier.int >> 80
    with _lock:
        if _last_ms <= at_ms <= time.time_ns() // 1_000_000 + FAR_MS:
            _last_ms, _last_counter = at_ms + 1, _fresh_counter()


def _count_on() -> int:
    """The next counter, of `_last_ms` as it is then. The caller holds the lock."""
    global _last_ms, _last_counter
    now_ms = time.time_ns() // 1_000_000
    if now_ms > _last_ms:
        _last_ms, _last_counter = now_ms, _fresh_counter()
    else:
        _last_counter += 1
        if _last_counter >= _COUNTER_LIMIT:
            _last_ms, _last_counter = _last_ms + 1, _fresh_counter()
    return _last_counter


def uuid7_floor(at: datetime) -> UUID:
    """The smallest UUIDv7 of an instant: a lower (inclusive) or upper (exclusive) bound of a range of ids. Before 1970
    there are none: it is the smallest of all.

    Raises ValueError for a naive datetime.
    """
    if at.tzinfo is None:
        raise ValueError("an instant must carry its time zone")
    return of_int(_number(max(0, (at - _EPOCH) // timedelta(milliseconds=1)), 0, 0))


def instant_of(identifier: UUID) -> datetime:
    """The instant, to the millisecond, at which a UUIDv7 was made."""
    return _EPOCH + timedelta(milliseconds=identifier.int >> 80)
