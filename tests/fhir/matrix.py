"""A laboratory in which every kind of result there is was released, and everything around it that FHIR shows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from interface.domain.model import Origin, Priority, ResultStatus
from interface.domain.specimens import RejectReason
from interface.store.ids import uuid7
from tests.api.bench import Laboratory

_TEXT = {"kind": "text", "number": None, "unit": "", "low": None, "high": None}
# The columns of the version, by what kind of result it is; more by name: `status`, `origin`.
KINDS: dict[str, dict[str, Any]] = {
    "numeric": {"value": "5.10", "number": Decimal("5.10"), "reference": "11.90 - 15.0"},
    "many digits": {"value": "123456789012345678.123", "number": Decimal("123456789012345678.123")},
    "zero": {"value": "0.00", "number": Decimal("0.00"), "flags": ["L"]},
    "negative": {"value": "-1.5", "number": Decimal("-1.5"), "unit": "mmol/L"},
    "below the scale": {"value": "0.5", "number": Decimal("0.5"), "comparator": "<"},
    "above the scale": {"value": "900", "number": Decimal("900"), "comparator": ">", "flags": ["HH", ">"]},
    "without unit": {"value": "1.015", "number": Decimal("1.015"), "unit": "", "low": None, "high": None},
    "one limit": {"value": "3", "number": Decimal(3), "low": None, "reference": "< 5"},
    "without interval": {"value": "3", "number": Decimal(3), "low": None, "high": None, "reference": ""},
    "interval in words": {**_TEXT, "kind": "coded", "value": "negative", "reference": "negative", "flags": ["N"]},
    "text": {**_TEXT, "value": "turbid, see note", "note": "Repeated & <checked>.", "comments": ["diluted", " "]},
    "coded": {**_TEXT, "kind": "coded", "value": "positive", "flags": ["POS", "A"]},
    "ratio": {**_TEXT, "kind": "ratio", "value": "1:128"},
    "titre off the scale": {**_TEXT, "kind": "ratio", "value": ">1:2560"},
    "range": {**_TEXT, "kind": "range", "value": "5-10", "unit": "/[HPF]"},
    "time": {**_TEXT, "kind": "time", "value": "20260102"},
    "image": {**_TEXT, "kind": "image", "value": "scattergram.png"},
    "failed": {**_TEXT, "kind": "failed", "value": "----"},
    "empty": {**_TEXT, "kind": "empty", "value": ""},
    "control characters": {**_TEXT, "value": " a\tb\x07c \n", "flags": ["odd\x01flag", ""]},
    "no catalogue entry": {"value": "1", "number": Decimal(1), "test_code": "", "test_name": "", "loinc": ""},
    "preliminary": {"value": "7", "number": Decimal(7), "status": ResultStatus.PRELIMINARY},
    "corrected": {"value": "7", "number": Decimal(7), "status": ResultStatus.CORRECTED},
    "amended": {"value": "7", "number": Decimal(7), "status": ResultStatus.AMENDED},
    "entered in error": {"value": "7", "number": Decimal(7), "status": ResultStatus.ENTERED_IN_ERROR},
    "calculated": {"value": "7", "number": Decimal(7), "origin": Origin.CALCULATION},
    "manual": {"value": "7", "number": Decimal(7), "origin": Origin.MANUAL, "actor_kind": "user"},
}
EXPLAINED: dict[str, Any] = {
    "steps": '[{"step":"map","verdict":"ok","text":"HGB Haemoglobin <&>","version":"test map 3"},'
    '{"step":"delta","verdict":"ok","text":"another result was 9.9"},'
    '{"step":"hold","verdict":"hold","text":"waits for a person"}]',
    "driver_revision": "generic_lis2 1",
    "map_revision": 3,
}


async def released_of_every_kind(laboratory: Laboratory) -> dict[str, UUID]:
    """An order with a result for each of KINDS; their ids."""
    results: dict[str, UUID] = {}
    for name, columns in KINDS.items():
        version = {key: value for key, value in columns.items() if key not in ("value", "status", "origin")}
        order = await laboratory.order()
        status = columns.get("status", ResultStatus.FINAL)
        results[name] = await laboratory.result(order, columns["value"], status, **EXPLAINED, **version)
        await _complete(laboratory, order, results[name], columns.get("origin", Origin.ANALYZER), len(results))
    return results


async def _complete(laboratory: Laboratory, order: dict[str, UUID], result_id: UUID, origin: Origin, n: int) -> None:
    """What of the result stands elsewhere; every other specimen was collected, and says so."""
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            "update lab.result set released_at = now(), origin = $2::text,"
            " analyzer_id = case when $2::text = 'analyzer' then analyzer_id end where id = $1",
            result_id, origin.value,
        )  # fmt: skip
        if n % 2:
            await connection.execute(
                "update lab.specimen set collected_at = now(), received_at = now(), collected_by = 'Nurse',"
                " container = 'EDTA', type = 'WB', version = version + 1, updated_at = now() where id = $1",
                order["specimen"],
            )
            await connection.execute("update lab.order_item set status = 'completed' where id = $1", order["item"])


async def around(laboratory: Laboratory) -> None:
    """Orders in every state and priority, specimens rejected for every reason, people with and without names."""
    for priority in Priority:
        await _changed(
            laboratory, "lab_order", (await laboratory.order(placer="P&1"))["order"], priority=priority.value
        )
    cancelled = await laboratory.order()
    await _changed(laboratory, "order_item", cancelled["item"], status="cancelled", reason="not wanted")
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            "update lab.lab_order set cancelled_at = now(), cancel_reason = 'died' where id = $1", cancelled["order"]
        )
    for reason in RejectReason:
        specimen = (await laboratory.order())["specimen"]
        await _changed(
            laboratory, "specimen", specimen, state="rejected", status="unsatisfactory", reject_code=reason.value,
            reject_reason="see there",
        )  # fmt: skip
    nobody = await laboratory.order()
    await _changed(laboratory, "patient", nobody["patient"], family="", given="", active=False)
    who = await laboratory.order()
    requester = uuid7()
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await laboratory._insert(
            connection, "practitioner", id=requester, family="House", given="Gregory M.", role="Head of diagnostics"
        )
        await laboratory._insert(
            connection, "practitioner_identifier", id=uuid7(), practitioner_id=requester, authority="St. Anna",
            value="4711", type="DN",
        )  # fmt: skip
        await laboratory._insert(connection, "practitioner", id=uuid7(), active=False)
    await _changed(laboratory, "lab_order", who["order"], requester_id=requester, ward="3B", clinical_history="a < b")


async def _changed(laboratory: Laboratory, table: str, id: UUID, **columns: Any) -> None:
    sets = ", ".join(f"{name} = ${place}" for place, name in enumerate(columns, 2))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(f"update lab.{table} set {sets} where id = $1", id, *columns.values())  # noqa: S608
