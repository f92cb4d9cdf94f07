"""UUIDv7 identifiers (RFC 9562 5.7), made here because PostgreSQL makes them only from version 18 on."""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def uuid7() -> UUID:
    """A new UUIDv7: milliseconds since 1970, then 12 bits of the millisecond's fraction, then 62 random bits.

    RFC 9562 6.2 method 3: the fraction keeps ids made after each other in order, which the partitions and indexes like.
    """
    milliseconds, remainder_ns = divmod(time.time_ns(), 1_000_000)
    fraction = remainder_ns * 4096 // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=value)
