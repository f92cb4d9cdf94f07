"""Records, of which many are made for each result of each message, and the words in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A slotted dataclass that nobody changes: compared and hashed by its fields, as a frozen one.

    That nobody changes it is proven by the type checker, which refuses the assignment; at run time nothing stands in
    the way. A frozen dataclass sets each field past its own guard, and is five times as dear to make (110 to 20 ns a
    field, Python 3.11); there are about a thousand of them in a message of 25 results.

    What is in one was there before it, and must not lead back to it: compiled, the garbage collector does not look at
    records (docs/decisions/compiled-rooms.md).
    """
    return dataclass(slots=True, unsafe_hash="__hash__" not in vars(cls))(cls)


@dataclass_transform(field_specifiers=(field,))
def draft(cls: type[T]) -> type[T]:
    """A slotted dataclass that is filled step by step; as of a record, nothing in it may lead back to it."""
    return dataclass(slots=True)(cls)


class Word(StrEnum):
    """One of a closed list of words. It is looked for in sets and tables for each result: an enumeration's own hash is
    made in Python, a text's is kept with the text.

    To read a member from its class takes four times as long as a name of the module (Python 3.11: 130 to 30 ns). Where
    that is done for each result, the module has a name for it.
    """

    __hash__ = str.__hash__
