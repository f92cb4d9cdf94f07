"""Lots from a file: all of it or nothing, what there is stays, and what goes out comes back."""

from __future__ import annotations

from decimal import Decimal

import pytest

from interface.domain.map_files import FileFaults
from interface.domain.permissions import Role
from interface.errors import ApiError
from interface.flow.qc_lot_files import Imported, export_lots, import_lots
from interface.render.qc_lot_table import read_lots, write_csv
from interface.store.db import Database
from interface.store.qc_lots import TargetFilter, find_targets
from interface.store.qc_lots import read_lots as lots_there
from tests.conftest import Organization
from tests.qc_records import WHY, add_lot, add_target, director
from tests.records import Laboratory, found, user

HEAD = "material,manufacturer,lot,level,level_number,expires_on,identifiers,analyzers,test,analyzer,unit,mean,sd\n"
FILE = (
    HEAD
    + "Multi,Maker,77,low,1,2999-01-31,Q1,hema,HGB,hema,g/dL,7.5,0.20\n"
    + "Multi,Maker,77,low,1,2999-01-31,Q1,hema,WBC,hema,10^3/uL,3.1,0.15\n"
    + "Multi,Maker,77,high,2,2999-01-31,Q2,hema,HGB,hema,g/dL,16.0,0.40\n"
    + "Multi,Maker,78,low,1,,,,,,,,\n"
)


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def take(laboratory: Laboratory, text: str, dry_run: bool = False) -> Imported:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        return await import_lots(connection, director(laboratory), read_lots("f", text), WHY, dry_run)


async def faults(laboratory: Laboratory, text: str) -> list[str]:
    with pytest.raises(FileFaults) as caught:
        await take(laboratory, text)
    return [str(fault) for fault in caught.value.faults]


async def test_a_file_is_taken_once_and_says_afterwards_what_there_is(laboratory: Laboratory) -> None:
    assert await take(laboratory, FILE, dry_run=True) == Imported(1, 3, 3, 0)
    assert await laboratory.count("qc_lot", "true") == 0, "a dry run writes nothing"
    assert await laboratory.count("audit_event", "entity_kind like 'qc_%'") == 0
    assert await take(laboratory, FILE) == Imported(1, 3, 3, 0)
    assert await laboratory.count("audit_event", "entity_kind like 'qc_%'") == 7
    assert await take(laboratory, FILE) == Imported(known=4)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        [low, high, bare] = await lots_there(connection)
        targets = await find_targets(connection, TargetFilter(lot_ids=(low.id,)))
        out = write_csv(await export_lots(connection))
        assert await export_lots(connection, material="Other") == []
    assert [(one.lot, one.level, one.level_number) for one in (low, high, bare)] == [
        ("77", "low", 1), ("77", "high", 2), ("78", "low", 1),
    ]  # fmt: skip
    assert [(one.test, one.mean, one.sd, one.unit) for one in targets] == [
        ("HGB", Decimal("7.5"), Decimal("0.20"), "g/dL"), ("WBC", Decimal("3.1"), Decimal("0.15"), "10^3/uL"),
    ]  # fmt: skip
    assert len(out.splitlines()) == 5
    assert await take(laboratory, out) == Imported(known=4), "what goes out says nothing new"


async def test_one_fault_and_nothing_of_the_file_is_taken(laboratory: Laboratory) -> None:
    await add_lot(laboratory, "77", identifiers=("Q1",))
    await add_target(laboratory, "77")
    rows = (
        "Multi,Maker,80,low,1,,,,,,,,",  # nothing is wrong with it
        "Control,Other,77,low,1,,,,,,,,",
        "Control,,77,low,2,,,,,,,,",
        "Control,,77,low,1,2027-01-31,,,,,,,",
        "Control,,77,low,1,,Q9,,,,,,",
        "Control,,77,low,,,,,HGB,hema,g/dL,12.5,0.5",
        "Control,,77,low,,,,,HGB,nobody,g/dL,12,0.5",
        "Control,,77,low,,,,,NO,hema,g/dL,12,0.5",
        "Control,,77,low,,,,,GLU,hema,mg/dL,12,0.5",
        "Control,,77,low,,,,,WBC,hema,g/dL,12,0",
        "Multi,,81,low,1,,Q1,,,,,,",
        "Multi,,82,low,x,,,,,,,,",
    )
    said = await faults(laboratory, HEAD + "\n".join(rows) + "\n")
    assert [fault.split(":")[1] for fault in said] == ["3", "4", "5", "6", "7", "8", "9", "10", "11", "11", "12", "13"]
    assert said[0] == "f:3: material Control has the manufacturer Maker: change it by itself"
    assert said[2] == "f:5: lot 77/low has no expiry: change it by itself"
    assert said[4].startswith("f:7: lot 77/low has a target for HGB on hema since ")
    assert said[7] == "f:10: mg/dL cannot be converted to no unit, in which GLU is reported"
    assert said[8:10] == [
        "f:11: the SD is not above 0",
        "f:11: g/dL cannot be converted to 10*9/L, in which WBC is reported",
    ]
    assert await laboratory.count("qc_material", "name = 'Multi'") == 0


async def test_only_who_manages_quality_control_imports_and_says_why(laboratory: Laboratory) -> None:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        for actor, why, said in (
            (laboratory.technologist, WHY, "qc:manage"),
            (user(laboratory.organization_id, Role.VIEWER), WHY, "qc:manage"),
            (director(laboratory), " ", "reason"),
        ):
            with pytest.raises(ApiError, match=said):
                await import_lots(connection, actor, read_lots("f", FILE), why)


@pytest.mark.parametrize(
    ("column", "there", "said", "text"),
    [
        ("valid_to", "", "2999-01-01", "has no end: change it by itself"),
        ("valid_to", "2999-01-01", "2998-01-01", "has the end 2999-01-01"),
        ("valid_from", "2026-01-01", "2026-02-01", "has the begin 2026-01-01"),
        ("note", "a", "b", "has the note a: change it by itself"),
    ],
)
async def test_a_target_that_is_said_to_end_or_begin_otherwise_is_not_known(
    laboratory: Laboratory, column: str, there: str, said: str, text: str
) -> None:
    """It was counted as known, and went on judging after the end that the file says."""
    head = HEAD.rstrip("\n") + f",{column}\n"
    row = "Multi,Maker,77,low,1,2999-01-31,Q1,hema,HGB,hema,g/dL,7.5,0.20,"
    assert (await take(laboratory, f"{head}{row}{there}\n")).targets == 1
    assert await take(laboratory, f"{head}{row}{there}\n") == Imported(known=1)
    assert await take(laboratory, f"{head}{row}\n") == Imported(known=1), "what a file does not say is as it is"
    [fault] = await faults(laboratory, f"{head}{row}{said}\n")
    assert text in fault
