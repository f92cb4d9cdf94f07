"""A small model of what PostgreSQL does with rows: transactions that others do not see, locks that others wait for.

READ COMMITTED, statement by statement. `tests/simulation/test_model.py` holds it against the real server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from copy import copy
from typing import Any, Final

NAMES: Final = ("frame", "message", "message_key", "queue", "audit", "specimen", "version")


class Row:
    """A row of a result, as the driver's: by name, by place, and its values one after the other."""

    __slots__ = ("_names", "_values")

    def __init__(self, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
        self._names, self._values = names, values

    def __getitem__(self, key: str | int) -> Any:
        return self._values[key if isinstance(key, int) else self._names.index(key)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> tuple[str, ...]:
        return self._names


class Waits(Exception):
    """The statement must wait for another transaction's end."""

    def __init__(self, holder: Transaction) -> None:
        self.holder = holder
        super().__init__()


class Transaction:
    """What one session has done since it began. `synchronous`: whether its commit waits for the disk."""

    def __init__(self) -> None:
        self.writes: dict[tuple[str, Any], dict[str, Any] | None] = {}
        self.locks: dict[tuple[str, Any], None] = {}
        self.aborted = False
        self.synchronous = True
        self.ended = asyncio.Event()
        self.waits_for: Transaction | None = None

    def behind(self, other: Transaction) -> bool:
        """Whether it waits for the other, or for somebody who does."""
        holder = self.waits_for
        while holder is not None and holder is not other:
            holder = holder.waits_for
        return holder is other


class Tables:
    """All rows that are committed, and who has locked which."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Any, dict[str, Any]]] = {name: {} for name in NAMES}
        self.holders: dict[tuple[str, Any], Transaction] = {}
        self._unsynced: list[list[tuple[str, Any, dict[str, Any] | None]]] = []  # what a crash may undo

    def commit(self, transaction: Transaction) -> None:
        before = []
        for (table, key), row in transaction.writes.items():
            before.append((table, key, self.rows[table].get(key)))
            if row is None:
                self.rows[table].pop(key, None)
            else:
                self.rows[table][key] = row
        if transaction.writes:
            if transaction.synchronous:
                self._unsynced.clear()  # the log is written in its order
            else:
                self._unsynced.append(before)
        self.end(transaction)

    def end(self, transaction: Transaction) -> None:
        """Give its locks back; what it wrote and did not commit is gone."""
        for lock in transaction.locks:
            if self.holders.get(lock) is transaction:
                del self.holders[lock]
        transaction.locks.clear()
        transaction.writes.clear()
        transaction.ended.set()

    def synced(self) -> None:
        """The server has written its log, as it does a few times a second."""
        self._unsynced.clear()

    @property
    def unsynced(self) -> int:
        return len(self._unsynced)

    def crash(self, lost: int) -> None:
        """Of the commits that did not wait for the disk the last so many are lost."""
        for before in reversed(self._unsynced[len(self._unsynced) - lost :]):
            for table, key, row in reversed(before):
                if row is None:
                    self.rows[table].pop(key, None)
                else:
                    self.rows[table][key] = row
        self._unsynced.clear()


class View:
    """The tables as one statement of a transaction sees and changes them. What it did is undone by `undo`."""

    def __init__(self, tables: Tables, transaction: Transaction) -> None:
        self._tables, self._transaction = tables, transaction
        self._writes, self._locks = copy(transaction.writes), copy(transaction.locks)

    def undo(self) -> None:
        for lock in self._transaction.locks.keys() - self._locks.keys():
            del self._tables.holders[lock]
        self._transaction.writes, self._transaction.locks = self._writes, self._locks

    def get(self, table: str, key: Any) -> dict[str, Any] | None:
        own = self._transaction.writes
        return own[table, key] if (table, key) in own else self._tables.rows[table].get(key)

    def scan(self, table: str) -> Iterator[tuple[Any, dict[str, Any]]]:
        own = self._transaction.writes
        if not own:
            yield from list(self._tables.rows[table].items())
            return
        for key, row in list(self._tables.rows[table].items()):
            if (table, key) not in own:
                yield key, row
        for (name, key), mine in list(own.items()):
            if name == table and mine is not None:
                yield key, mine

    def free(self, table: str, key: Any) -> bool:
        """Whether it can be locked now (SKIP LOCKED)."""
        return self._tables.holders.get((table, key)) in (None, self._transaction)

    def lock(self, table: str, key: Any) -> None:
        """Raises Waits."""
        holder = self._tables.holders.setdefault((table, key), self._transaction)
        if holder is not self._transaction:
            raise Waits(holder)
        self._transaction.locks[table, key] = None

    def put(self, table: str, key: Any, row: dict[str, Any]) -> None:
        self.lock(table, key)
        self._transaction.writes[table, key] = row

    def change(self, table: str, key: Any, **fields: Any) -> None:
        self.lock(table, key)
        known = self.get(table, key)
        assert known is not None
        self._transaction.writes[table, key] = known | fields

    def delete(self, table: str, key: Any) -> None:
        self.lock(table, key)
        self._transaction.writes[table, key] = None
