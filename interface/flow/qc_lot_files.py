"""Lots with their targets from a file into the laboratory and back: all of a file or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from interface.domain.map_files import Fault, FileFaults
from interface.domain.permissions import Permission
from interface.domain.qc_lot_files import FileTarget, LotRow, LotRows, written
from interface.domain.qc_lots import LotView, MaterialView, TargetView, overlapping
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.flow import qc_lots, qc_targets
from interface.flow.actors import require
from interface.flow.problems import reason_of
from interface.flow.qc_lots import LotChange, MaterialChange
from interface.flow.qc_targets import Place, Wanted
from interface.store import qc_lots as rows
from interface.store.db import Connection
from interface.store.qc_lots import TargetFilter

MOST_FAULTS: Final = 200  # that are said; the rest is more of the same


@dataclass(frozen=True, slots=True)
class Imported:
    """How many a file made, and how many of its rows say what there is already."""

    materials: int = 0
    lots: int = 0
    targets: int = 0
    known: int = 0


class _Undo(Exception):
    """Takes back what a dry run wrote."""


async def import_lots(
    connection: Connection, actor: Actor, read: LotRows, reason: str, dry_run: bool = False
) -> Imported:
    """Add the materials, lots and targets of a file. Raises FileFaults with everything that is wrong: nothing is added.

    What there is already is not changed by a file: a row that says otherwise is a fault.
    """
    require(actor, Permission.QC_MANAGE)
    reason = reason_of(reason)
    work = _Import(connection, actor, reason, datetime.now(UTC))
    try:
        async with connection.transaction():
            faults = list(read.faults)
            for row in read.rows:
                try:
                    await work.take(row)
                except ApiError as error:
                    faults += [row.fault(text) for text in str(error).split("; ")]
            if faults:
                raise FileFaults(sorted(faults, key=_by_line)[:MOST_FAULTS])
            if dry_run:
                raise _Undo
    except _Undo:
        pass
    return work.done


def _by_line(fault: Fault) -> int:
    return fault.line


@dataclass(slots=True)
class _Import:
    connection: Connection
    actor: Actor
    reason: str
    now: datetime
    done: Imported = Imported()

    def _count(self, **more: int) -> None:
        self.done = replace(self.done, **{name: getattr(self.done, name) + by for name, by in more.items()})

    async def take(self, row: LotRow) -> None:
        material, new_material = await self._material(row)
        lot, new_lot = await self._lot(row, material)
        new_target = row.target is not None and await self._target(lot, row.target)
        self._count(
            materials=new_material, lots=new_lot, targets=new_target, known=not (new_material or new_lot or new_target)
        )

    async def _material(self, row: LotRow) -> tuple[MaterialView, bool]:
        said = {"manufacturer": row.manufacturer, "catalogue_number": row.catalogue_number}
        found = await rows.read_materials(self.connection, names=[row.material])
        if not found:
            new = MaterialChange(row.material, **said)
            return await qc_lots.create_material(self.connection, self.actor, new), True
        _same(f"material {row.material}", found[0], said)
        return found[0], False

    async def _lot(self, row: LotRow, material: MaterialView) -> tuple[LotView, bool]:
        said: dict[str, object] = {
            "level_number": row.level_number, "expires_on": row.expires_on, "identifiers": row.identifiers,
            "analyzers": tuple(sorted(row.analyzers)),
        }  # fmt: skip
        lots = await rows.read_lots(self.connection, material_id=material.id, closed=True)
        known = next((one for one in lots if (one.lot, one.level) == (row.lot, row.level)), None)
        if known is None:
            new = LotChange(
                row.lot, row.level, row.level_number, row.expires_on, row.identifiers or None, row.analyzers or None
            )
            return await qc_lots.create_lot(self.connection, self.actor, material.id, new), True
        _same(f"lot {known.name}", known, said)
        return known, False

    async def _target(self, lot: LotView, said: FileTarget) -> bool:
        place = Place(str(lot.id), said.analyzer, said.test, said.module, said.reagent_lot)
        wanted = Wanted(
            said.mean, said.sd, said.unit, said.source, said.kind, said.note, said.valid_from or self.now, said.valid_to
        )
        new = await qc_targets.target_at(self.connection, self.actor, place, wanted)
        known = await rows.find_targets(self.connection, TargetFilter(lot_ids=(lot.id,), ended=True))
        other = overlapping(new, known)
        if other is not None and _says(other) == _says(new):
            when = {"valid_from": said.valid_from, "valid_to": said.valid_to, "note": said.note}
            _same(f"the target of {said.test} on {said.analyzer}", other, when)
            return False
        await qc_targets.set_target(self.connection, self.actor, place, wanted, self.reason)
        return True


def _says(one: TargetView) -> tuple[object, ...]:
    return one.mean, one.sd, one.unit, one.source, one.kind


_TOLD: Final = {"level_number": "level number", "expires_on": "expiry", "catalogue_number": "catalogue number",
                "valid_from": "begin", "valid_to": "end"}  # fmt: skip


def _same(what: str, known: object, said: Mapping[str, object]) -> None:
    """Raise ApiError 409 where a file says something else than there is; what it does not say is as it is."""
    for name, value in said.items():
        there = getattr(known, name)
        if value in (None, "", ()) or there == value:
            continue
        text = ", ".join(there) if isinstance(there, tuple) else there
        has = f"the {_TOLD.get(name, name)} {text}" if text else f"no {_TOLD.get(name, name)}"
        raise ApiError(409, "conflict", f"{what} has {has}: change it by itself")


async def export_lots(
    connection: Connection, *, material: str = "", closed: bool = False
) -> Sequence[dict[str, object]]:
    """Lots with the targets that are not over, as rows that `import_lots` takes; one without targets is a row too."""
    materials = {one.id: one for one in await rows.read_materials(connection, closed=True)}
    lots = [one for one in await rows.read_lots(connection, closed=closed) if not material or one.material == material]
    targets: dict[object, list[TargetView]] = {}
    for target in await rows.find_targets(connection, TargetFilter(lot_ids=tuple(one.id for one in lots))):
        targets.setdefault(target.lot_id, []).append(target)
    return [
        written(lot, target, materials[lot.material_id].manufacturer, materials[lot.material_id].catalogue_number)
        for lot in lots
        for target in targets.get(lot.id, [None])
    ]
