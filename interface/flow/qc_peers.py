"""What other laboratories measure with the same lots: imported, compared with, and our own for them.

API and command line share it. Raises ApiError 403 and 422, and FileFaults for a file that cannot be taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from interface.domain.map_files import Fault, FileFaults
from interface.domain.model import LabTest, ValueKind
from interface.domain.permissions import Permission
from interface.domain.qc_peers import (
    ComparedView,
    OwnPeriod,
    PeerRow,
    PeerRows,
    PeerView,
    beside,
    by_place,
    month,
    peer_unit_problem,
)
from interface.domain.units import UNKNOWN_SUBSTANCE, canonical
from interface.domain.views import Actor
from interface.errors import ApiError, UnknownUnit
from interface.flow.actors import require
from interface.flow.changes import record_change
from interface.flow.problems import reason_of
from interface.flow.qc_lots import lot_named
from interface.store import qc_peers as rows
from interface.store.actors import laboratory_name
from interface.store.catalogue import read_tests, shipped_aliases
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.qc_lots import lock_lots

MOST_FAULTS: Final = 200  # that are said; the rest is more of the same


@dataclass(frozen=True, slots=True)
class Imported:
    """How many rows were new, said something else than was there, or said what there is already."""

    added: int = 0
    changed: int = 0
    known: int = 0


class _Undo(Exception):
    """Takes back what a dry run wrote."""


# ---- import ---------------------------------------------------------------------------------------------------------


async def import_peers(
    connection: Connection, actor: Actor, read: PeerRows, reason: str, *, source: str = "", dry_run: bool = False
) -> Imported:
    """All rows of a file or none. A row of a lot, test, group and month that there is takes its place.

    Raises FileFaults with everything that is wrong.
    """
    require(actor, Permission.QC_MANAGE)
    reason = reason_of(reason)
    await lock_lots(connection, actor.organization_id)
    work = _Import(connection, actor, reason, source, {test.code: test for test in await read_tests(connection)})
    faults = list(read.faults)
    try:
        async with connection.transaction():
            for row in read.rows:
                faults += [Fault(row.file, row.line, "", text) for text in await work.take(row)]
            if faults:
                raise FileFaults(sorted(faults, key=lambda fault: fault.line)[:MOST_FAULTS])
            if dry_run:
                raise _Undo
    except _Undo:
        pass
    return work.done


class _Import:
    def __init__(
        self, connection: Connection, actor: Actor, reason: str, source: str, tests: dict[str, LabTest]
    ) -> None:
        self._connection, self._actor, self._reason, self._source = connection, actor, reason, source
        self._tests = tests
        self._lines: dict[tuple[object, ...], int] = {}
        self.done = Imported()

    async def take(self, row: PeerRow) -> Sequence[str]:
        """Write it; what is wrong with it."""
        test = self._tests.get(row.test)
        if test is None or test.kind is not ValueKind.NUMERIC:
            return [f"there is no test {row.test!r} that measures a number"]
        try:
            lot = await lot_named(self._connection, row.name)
        except ApiError as error:
            return [str(error)]
        try:
            unit = canonical(row.unit, shipped_aliases(), test.unit) if row.unit else test.unit
        except UnknownUnit as error:
            return [str(error)]
        if problem := peer_unit_problem(unit, test.code, test.unit, test.substance):
            return [problem]
        key = (lot.id, test.id, row.peer_group, row.period)
        if (first := self._lines.setdefault(key, row.line)) != row.line:
            return [f"says again what line {first} says"]
        known = await rows.peer_of(self._connection, lot.id, UUID(test.id), row.peer_group, row.period)
        new = PeerView(
            known.id if known else uuid7(), lot.id, lot.material, lot.lot, lot.level, UUID(test.id), test.code,
            row.peer_group, row.period, unit, row.laboratories, row.points, row.mean, row.sd,
            self._source, self._actor.name, datetime.now(UTC),
        )  # fmt: skip
        await self._write(known, new)
        return ()

    async def _write(self, known: PeerView | None, new: PeerView) -> None:
        if known is None:
            await rows.insert_peer(self._connection, self._actor, new)
            self.done = replace(self.done, added=self.done.added + 1)
        elif _said(known) == _said(new):
            self.done = replace(self.done, known=self.done.known + 1)
            return
        else:
            await rows.update_peer(self._connection, self._actor, new)
            self.done = replace(self.done, changed=self.done.changed + 1)
        name = f"{new.lot}/{new.level} {new.test} {new.peer_group} {new.period}"
        await record_change(self._connection, self._actor, "qc_peer", new.id, name, self._reason, known, new)


def _said(view: PeerView) -> tuple[object, ...]:
    return view.unit, view.laboratories, view.points, view.mean, view.sd


# ---- our own --------------------------------------------------------------------------------------------------------


async def own_periods(connection: Connection, period: str, *, analyzer: str = "", test: str = "") -> list[OwnPeriod]:
    """What the laboratory's controls came to in a month, for a peer programme. "": of all."""
    try:
        begin, end = month(period)
    except ValueError:
        raise ApiError(422, "value", "a period is a month, such as 2026-11") from None
    complete = datetime.now(UTC) >= end
    return await rows.own_periods(connection, period, begin, end, complete=complete, analyzer=analyzer, test=test)


async def export(
    connection: Connection, period: str, *, analyzer: str = "", test: str = ""
) -> tuple[str, list[OwnPeriod]]:
    """The laboratory's name, and `own_periods`."""
    name = await laboratory_name(connection)
    return name, await own_periods(connection, period, analyzer=analyzer, test=test)


async def compare(
    connection: Connection,
    period: str,
    *,
    analyzer: str = "",
    test: str = "",
    peer_group: str = "",
) -> list[ComparedView]:
    """The laboratory beside each peer group of which the month is known, by stream and level."""
    own = await own_periods(connection, period, analyzer=analyzer, test=test)
    peers = by_place(await rows.find_peers(connection, period=period, peer_group=peer_group, test=test))
    substances = {UUID(one.id): one.substance for one in await read_tests(connection)}
    found = []
    for one in own:
        for peer in peers.get((one.lot_id, one.test_id), ()):
            try:
                found.append(beside(one, peer, substances.get(one.test_id, UNKNOWN_SUBSTANCE)))
            except UnknownUnit as error:
                raise ApiError(422, "value", f"{one.test} of {peer.peer_group}: {error}") from error
    return found
