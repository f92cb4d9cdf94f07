"""Controls that were judged, for the tests of what follows: points of one lot a level, as `flow.qc` writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from interface.domain.qc import QcVerdict, Stream
from interface.domain.qc_state import Meanwhile, Plan
from interface.domain.views import Actor
from interface.flow import qc_gate
from interface.flow.qc_sweep import Swept, sweep
from interface.settings import packaged
from interface.store import qc_gate as rows
from interface.store.db import Connection
from interface.store.ids import uuid7
from tests.flow.laboratory import Laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.qc_failing import add_level, add_point

ACCEPT, WARN, REJECT = QcVerdict.ACCEPT, QcVerdict.WARN, QcVerdict.REJECT
IN_CONTROL = RULES.replace("qc = true\n", "")  # quality control is asked for


@dataclass(slots=True)
class Bench:
    """A laboratory whose rules ask for quality control, and its time: `ago` is in minutes before the test began."""

    lab: Laboratory
    tests: dict[str, UUID]
    lots: dict[int, UUID] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def ago(self, minutes: float) -> datetime:
        return self.now - timedelta(minutes=minutes)

    def stream(self, test: str = "NA", module: str = "") -> Stream:
        return Stream(self.lab.context.analyzer_id, self.tests[test], module)

    def message(self, barcode: str, minutes: float, using: str = "", **values: str) -> list[str]:
        """A patient's results, measured so many minutes ago; `using`: module and reagent lot, where the driver of
        `modular` finds them."""
        at = f"{self.ago(minutes):%Y%m%d%H%M%S}"
        records = sent(barcode, values, control=f"{barcode} {minutes}", at=at)
        return [f"{one}|{using}" if using and one.startswith("R|") else one for one in records]

    async def send(self, barcode: str, minutes: float, using: str = "", **values: str) -> None:
        """The same, decided."""
        await self.lab.send(self.message(barcode, minutes, using, **values))
        await self.lab.settle()

    async def control(
        self, minutes: float, verdict: QcVerdict = ACCEPT, test: str = "NA", *, level: int = 1, module: str = "",
        lot: str = "", follow: bool = True, run: UUID | None = None,
    ) -> UUID:  # fmt: skip
        """A control of that time, judged; the results follow unless they are not to."""
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            point_id = await self.judged(connection, minutes, verdict, test, level, module, lot, run)
        if follow:
            await self.follow()
        return point_id

    async def judged(
        self, connection: Connection, minutes: float, verdict: QcVerdict, test: str = "NA", level: int = 1,
        module: str = "", lot: str = "", run: UUID | None = None,
    ) -> UUID:  # fmt: skip
        stream = self.stream(test, module)
        lot_id = await self._lot(connection, level)
        return await add_point(
            connection, self.lab.context.actor, stream, lot_id, self.ago(minutes), verdict, level=level, lot=lot,
            run=run,
        )  # fmt: skip

    async def _lot(self, connection: Connection, level: int) -> UUID:
        if level not in self.lots:
            self.lots[level] = await add_level(connection, self.lab.organization_id, level)
        return self.lots[level]

    async def wanted(self, *levels: int, test: str = "NA") -> None:
        """These levels have targets."""
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            for level in levels:
                stream = self.stream(test)
                await connection.execute(
                    """insert into lab.qc_target (id, organization_id, lot_id, analyzer_id, test_id, mean, sd,
                           unit, valid_from, actor_kind) values ($1, $2, $3, $4, $5, 140, 2, 'mmol/L', $6, 'user')""",
                    uuid7(), self.lab.organization_id, await self._lot(connection, level), stream.analyzer_id,
                    stream.test_id, self.ago(100_000),
                )  # fmt: skip

    async def act(
        self, meanwhile: Meanwhile | None = Meanwhile.STANDS, test: str = "NA", *, module: str = "",
        follow: bool = True, actor: Actor | None = None, kind: str = "corrective", point_id: UUID | None = None,
    ) -> UUID:  # fmt: skip
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            action_id, _ = await qc_gate.act(
                connection, actor or self.lab.director, self.stream(test, module), kind, "needle cleaned",
                meanwhile=meanwhile, point_id=point_id,
            )  # fmt: skip
        if follow:
            await self.follow()
        return action_id

    async def stands(self) -> list[tuple[str, str, UUID | None]]:
        """Of each stream: its module, its state, the control that failed last."""
        found = await self.lab.owner.fetch("select module, state, failed_id from lab.qc_stream order by module")
        return [tuple(row) for row in found]

    async def follow(self) -> Swept:
        return await sweep(self.lab.database, self.lab.organization_id)

    async def plan(self, plan: Plan) -> None:
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            await rows.set_plan(connection, self.lab.organization_id, None, None, plan)

    async def said(self, test: str = "NA") -> dict[str, tuple[str, str]]:
        """Of each specimen's reported result: its status, and what holds it."""
        return {
            one.barcode: (one.status.value, " ".join(one.held))
            for one in await self.lab.results()
            if one.test_code == test and one.reportable
        }

    async def listed(self) -> list[str]:
        """The specimens on the look-back lists."""
        found = await self.lab.owner.fetch(
            """select v.specimen_as_sent from lab.qc_lookback_item i
               join lab.result_version v on v.id = i.result_version_id order by 1"""
        )
        return [row["specimen_as_sent"] for row in found]


def modular(folder: Path) -> Path:
    """A search path on which the generic driver reads module and reagent lot behind the time of a result."""
    made = folder / "generic_lis2"
    made.mkdir()
    text = (packaged("drivers") / "generic_lis2" / "driver.toml").read_text(encoding="utf-8")
    paths = '\n[paths]\nmodule = "R.14.1"\nreagent_lot = "R.14.2"\n'
    (made / "driver.toml").write_text(text + paths, encoding="utf-8")
    return folder


async def bench(lab: Laboratory, rules: str = IN_CONTROL) -> Bench:
    if rules:
        await put_in_force(lab, rules)
    found = await lab.owner.fetch("select code, id from lab.test where organization_id = $1", lab.organization_id)
    return Bench(lab, {row["code"]: row["id"] for row in found})
