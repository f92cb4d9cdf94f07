"""Which record of a person is to be used, from the merges that are in force. Pure.

Each record has been merged into at most one other, and no chain returns to where it began: the records of one person
are a tree, its root the survivor. Taking a merge back cuts the branch off, as it was before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

Id = TypeVar("Id", bound=Hashable)


def root(parents: Mapping[Id, Id], record: Id) -> Id:
    """The survivor of the person that the record is of. ValueError when the merges go in a circle."""
    seen = {record}
    while record in parents:
        record = parents[record]
        if record in seen:
            raise ValueError("the merges go in a circle")
        seen.add(record)
    return record


def survivors(parents: Mapping[Id, Id], records: Iterable[Id]) -> dict[Id, Id | None]:
    """Of each record the one to use in its place, None where that is itself."""
    found = {record: root(parents, record) for record in records}
    return {record: None if survivor == record else survivor for record, survivor in found.items()}
