"""Rows and arrays as PostgreSQL sends them in binary (`record_send`, `array_send`), read."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TypeAlias
from uuid import UUID

Sent: TypeAlias = bytes | None  # None: null
_FIELD = Struct(">Ii")  # of a row: type, length
_ARRAY = Struct(">iiI")  # dimensions, whether there are nulls, type; then of each dimension its length and lower bound
_LENGTH = Struct(">i")


def fields(sent: bytes) -> Iterator[Sent]:
    """The columns of a row."""
    at = _LENGTH.size  # how many there are
    while at < len(sent):
        _, length = _FIELD.unpack_from(sent, at)
        at += _FIELD.size
        yield sent[at : at + length] if length >= 0 else None
        at += max(0, length)


def texts(sent: Sent) -> Iterator[str]:
    """The texts of an array of one dimension, or none."""
    if sent is None:
        return
    dimensions, *_ = _ARRAY.unpack_from(sent)
    at = _ARRAY.size + 8 * dimensions
    while at < len(sent):
        [length] = _LENGTH.unpack_from(sent, at)
        at += _LENGTH.size
        yield sent[at : at + max(0, length)].decode()
        at += max(0, length)


def text(sent: Sent) -> str:
    return sent.decode() if sent else ""


def optional_text(sent: Sent) -> str | None:
    return sent.decode() if sent is not None else None


def optional_id(sent: Sent) -> UUID | None:
    return UUID(bytes=sent) if sent else None
