"""Controls as an analyzer sends them, with lots and targets as people set them, for the tests of how they arrive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from interface.domain.qc_lots import LotView
from interface.domain.qc_views import ControlView
from interface.flow import qc_lots, qc_targets
from interface.flow.qc_lots import LotChange, MaterialChange
from interface.flow.qc_targets import Place, Wanted
from interface.store.qc_find import ControlFilter, find_controls, read_control
from tests.flow.laboratory import Laboratory, message

WHY = "a test of controls"


@dataclass(slots=True)
class ControlBench:
    """`now`: the time of the test; minutes are before it."""

    lab: Laboratory
    now: datetime

    def stamp(self, minutes: float) -> str:
        return f"{self.now - timedelta(minutes=minutes):%Y%m%d%H%M%S}"

    async def lot(
        self, level: int, *identifiers: str, number: str = "77", material: str = "Norm", expires_on: date | None = None
    ) -> LotView:
        lab, actor = self.lab, self.lab.director
        async with lab.database.transaction(lab.organization_id) as connection:
            known = await lab.owner.fetchval(
                "select id from lab.qc_material where name = $1 and organization_id = $2", material,
                lab.organization_id,
            )  # fmt: skip
            if known is None:
                known = (await qc_lots.create_material(connection, actor, MaterialChange(name=material))).id
            change = LotChange(number, str(level), level, identifiers=identifiers, expires_on=expires_on)
            return await qc_lots.create_lot(connection, actor, known, change)

    async def target(
        self, lot: LotView, mean: str, sd: str, unit: str, test: str = "WBC", module: str = "",
        *, analyzer: str = "bench",
    ) -> None:  # fmt: skip
        lab = self.lab
        place = Place(f"{lot.material}/{lot.lot}/{lot.level}", analyzer, test, module)
        wanted = Wanted(Decimal(mean), Decimal(sd), unit, valid_from=self.now - timedelta(days=80))
        async with lab.database.transaction(lab.organization_id) as connection:
            await qc_targets.set_target(connection, lab.director, place, wanted, WHY)

    async def levels(self, *numbers: int) -> list[LotView]:
        """Lots QC1, QC2, … with a mean of 7 and an SD of 0.1."""
        made = []
        for number in numbers:
            lot = await self.lot(number, f"QC{number}")
            await self.target(lot, "7", "0.1", "10*9/L")
            made.append(lot)
        return made

    async def send(
        self, specimen: str, value: str, minutes: float | None = 0, *, unit: str = "10*9/L", code: str = "WBC",
        control: str = "",
    ) -> None:  # fmt: skip
        """A control's message, decided. `minutes` None: of an analyzer without a clock."""
        at = "" if minutes is None else self.stamp(minutes)
        records = message(
            "P|1", f"O|1|{specimen}||^^^{code}|R||||||Q", f"R|1|^^^{code}|{value}|{unit}||N||F||||{at}",
            control=control or f"{specimen}{minutes}{value}",
        )  # fmt: skip
        await self.lab.send(records)
        await self.lab.settle()

    async def found(self, **filter: object) -> list[ControlView]:
        """In the order in which they came."""
        async with self.lab.database.organization(self.lab.organization_id) as connection:
            return await find_controls(connection, ControlFilter(**filter))  # type: ignore[arg-type]

    async def shown(self, one: ControlView) -> ControlView:
        async with self.lab.database.organization(self.lab.organization_id) as connection:
            found = await read_control(connection, one.id)
        assert found is not None
        return found


def control_bench(lab: Laboratory) -> ControlBench:
    return ControlBench(lab, datetime.now(UTC).replace(microsecond=0))


def judged(views: list[ControlView]) -> list[tuple[str, str, str]]:
    """Of each its value, verdict and the rules it broke; what is no point has its problem."""
    return [
        (one.value, one.point.verdict.value, " ".join(one.point.rules))
        if one.point
        else (one.value, "", one.problem.kind if one.problem else "")
        for one in views
    ]
