"""What peers measure beside what the laboratory measured: imported whole or not at all, compared, handed over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from fhir.resources.R4B.bundle import Bundle

from interface.domain.map_files import FileFaults
from interface.domain.permissions import Role
from interface.errors import ApiError
from interface.flow import qc_peers
from interface.flow.qc_peers import Imported
from interface.render.json import dumps
from interface.render.qc_fhir import STATISTICS, periods_bundle
from interface.render.qc_peer_table import WRITTEN, read_peers, write_periods
from interface.store import qc_peers as rows
from interface.store.db import Database
from tests.conftest import Organization
from tests.qc_records import add_lot, add_points, director
from tests.records import Laboratory, found, user

OCTOBER, NOVEMBER = datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC)
WHY = "report of the programme"
HEADINGS = "lot,level,test,peer_group,period,unit,laboratories,points,mean,sd\n"


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    made = await found(database, organization.id)
    low, high = await add_lot(made), await add_lot(made, level="high", number=2)
    await add_points(made, low.id, ["11.8", "12.0"], begin=OCTOBER)
    await add_points(made, low.id, ["12.2", "12.6", "12.4"], begin=NOVEMBER)
    await add_points(made, low.id, ["99"], begin=NOVEMBER + timedelta(hours=1), excluded=True)
    await add_points(made, high.id, ["18"], begin=NOVEMBER)
    return made


async def take(laboratory: Laboratory, text: str, **said: object) -> Imported:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        read = read_peers("peers.csv", HEADINGS + text)
        return await qc_peers.import_peers(connection, director(laboratory), read, WHY, **said)  # type: ignore[arg-type]


async def faults(laboratory: Laboratory, text: str) -> list[str]:
    with pytest.raises(FileFaults) as caught:
        await take(laboratory, text)
    return [str(fault) for fault in caught.value.faults]


async def test_a_month_is_compared_with_that_of_the_peers(laboratory: Laboratory) -> None:
    text = "4711,low,HGB,all,2026-11,g/L,12,340,120,4\n4711,high,HGB,all,2026-11,g/dL,12,338,18,0.5\n"
    assert await take(laboratory, text, source="Programme") == Imported(added=2)
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        low, high = await qc_peers.compare(connection, "2026-11")
        assert await qc_peers.compare(connection, "2026-11", peer_group="none") == []
        assert await qc_peers.compare(connection, "2026-10") == []
    assert (low.n, low.mean, low.sd) == (3, Decimal("12.400"), Decimal("0.200"))
    assert (low.unit, low.peer_mean, low.peer_sd) == ("g/dL", Decimal("12.000"), Decimal("0.400"))
    assert (low.bias, low.sdi) == (Decimal("3.33"), Decimal("1.00"))
    assert (low.cv, low.peer_cv, low.cvr) == (Decimal("1.61"), Decimal("3.33"), Decimal("0.48"))
    assert (high.n, high.sd, high.cvr, high.sdi) == (1, None, None, Decimal("0.00"))


async def test_a_file_is_imported_again_and_what_was_corrected_takes_its_place(laboratory: Laboratory) -> None:
    row = "4711,low,HGB,all,2026-11,g/dL,12,340,{},0.4\n"
    assert await take(laboratory, row.format("12.0")) == Imported(added=1)
    assert await take(laboratory, row.format("12.0")) == Imported(known=1)
    assert await take(laboratory, row.format("12.1"), dry_run=True) == Imported(changed=1)
    assert await take(laboratory, row.format("12.1")) == Imported(changed=1)
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        (peer,) = await rows.find_peers(connection)
        said = await connection.fetch(
            "select action, detail from lab.audit_event where entity_kind = 'qc_peer' order by id"
        )
    assert (peer.mean, peer.by, peer.points) == (Decimal("12.1"), "dora", 340)
    assert [row["action"] for row in said] == ["create", "update"]
    assert "12.0 → 12.1" in str(said[1]["detail"]) and WHY in str(said[1]["detail"])


async def test_everything_that_is_wrong_with_a_file_is_said_with_its_line_and_nothing_is_taken(
    laboratory: Laboratory,
) -> None:
    text = (
        "4711,low,HGB,all,2026-11,g/dL,12,340,12.0,0.4\n"
        "4712,low,HGB,all,2026-11,g/dL,12,340,12.0,0.4\n"
        "4711,low,XYZ,all,2026-11,g/dL,12,340,12.0,0.4\n"
        "4711,low,HGB,all,2026-13,g/dL,12,340,12.0,0.4\n"
        "4711,low,HGB,all,2026-11,mmHg,12,340,12.0,0.4\n"
        "4711,low,HGB,all,2026-11,g/dL,many,340,12.0,0\n"
        "4711,low,HGB,,2026-11,g/dL,12,340,twelve,0.4\n"
        "4711,low,HGB,all,2026-11,g/dL,12,340,12.3,0.4\n"
    )
    said = await faults(laboratory, text)
    for line, words in (
        (3, "there is no lot '4712/low'"), (4, "'XYZ'"), (5, "'2026-13'"), (6, "cannot be converted to g/dL"),
        (7, "'many'"), (8, "peer_group: is missing"), (8, "'twelve'"), (9, "says again what line 2 says"),
    ):  # fmt: skip
        assert any(one.startswith(f"peers.csv:{line}:") and words in one for one in said), (line, words, said)
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        assert await rows.find_peers(connection) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no row"),
        ("lot,test\n1,2\n", "peer_group: is missing"),
        ("lot,lot,test,peer_group,period,mean,sd\n1,1,2,3,4,5,6\n", "stands twice"),
        ("lot,test,peer_group,period,mean,sd,colour\n1,2,3,4,5,6,7\n", "colour: is no column"),
    ],
)
def test_what_is_no_such_file_is_refused(text: str, words: str) -> None:
    with pytest.raises(FileFaults, match=words):
        read_peers("peers.csv", text)


async def test_only_who_manages_quality_control_imports(laboratory: Laboratory) -> None:
    vera = user(laboratory.organization_id, Role.TECHNOLOGIST, "vera")
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        read = read_peers("peers.csv", HEADINGS + "4711,low,HGB,all,2026-11,g/dL,1,1,12,1\n")
        with pytest.raises(ApiError, match="qc:manage"):
            await qc_peers.import_peers(connection, vera, read, WHY)
        with pytest.raises(ApiError, match="a month"):
            await qc_peers.compare(connection, "november")


async def test_our_month_is_handed_over_with_the_lot_to_date(laboratory: Laboratory) -> None:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        name, periods = await qc_peers.export(connection, "2026-11")
        assert await qc_peers.own_periods(connection, "2026-11", analyzer="other") == []
        (october,) = await qc_peers.own_periods(connection, "2026-10", test="HGB")
    lines = write_periods(name, periods).splitlines()
    low = dict(zip(WRITTEN, lines[1].split(","), strict=True))
    assert {key: low[key] for key in ("analyzer", "test", "unit", "lot", "level", "period", "n", "mean", "sd")} == {
        "analyzer": "hema", "test": "HGB", "unit": "g/dL", "lot": "4711", "level": "low", "period": "2026-11",
        "n": "3", "mean": "12.400", "sd": "0.200",
    }  # fmt: skip
    assert (low["n_to_date"], low["mean_to_date"], low["sd_to_date"]) == ("5", "12.200", "0.316")
    assert (low["minimum"], low["maximum"], low["laboratory"]) == ("12.2", "12.6", name)
    assert len(lines) == 3
    assert (october.own, october.own.n) == (october.to_date, 2)


async def test_as_fhir_it_is_of_the_analyzer_and_of_no_patient(laboratory: Laboratory) -> None:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        bundle = periods_bundle(*await qc_peers.export(connection, "2026-11"))
        again = periods_bundle(*await qc_peers.export(connection, "2026-11"))
    body = dumps(bundle)
    Bundle.model_validate_json(body)
    assert b"Patient" not in body and b"Specimen" not in body
    assert bundle == again  # the same month has the same ids
    resources = [entry["resource"] for entry in bundle["entry"]]
    kinds = [resource["resourceType"] for resource in resources]
    assert kinds == ["Device", "Substance", "Substance", "Observation", "Observation"]
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    low, high = resources[3:]
    for observation in (low, high):
        assert {observation["subject"]["reference"], observation["focus"][0]["reference"]} <= urls
    told = {
        part["code"].get("coding", [{}])[0].get("code", "cv"): part["valueQuantity"]["value"]
        for part in low["component"]
    }
    assert told == {
        "count": 3, "average": Decimal("12.4"), "std-dev": Decimal("0.2"), "minimum": Decimal("12.2"),
        "maximum": Decimal("12.6"), "cv": Decimal("1.61"),
    }  # fmt: skip
    assert low["component"][0]["code"]["coding"][0]["system"] == STATISTICS
    assert low["effectivePeriod"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-11-30T23:59:59Z"}
    # one number has no SD
    assert {part["code"].get("coding", [{}])[0].get("code") for part in high["component"]} == {
        "count", "average", "minimum", "maximum",
    }  # fmt: skip
    assert periods_bundle("x", []) == {"resourceType": "Bundle", "type": "collection"}


@pytest.mark.parametrize(("text", "cell"), [("=1+1", "'=1+1"), ("+a", "'+a"), ("a=b", "a=b")])
async def test_no_spreadsheet_takes_a_cell_for_a_formula(laboratory: Laboratory, text: str, cell: str) -> None:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        _, periods = await qc_peers.export(connection, "2026-11")
    assert write_periods(text, periods).splitlines()[1].startswith(cell + ",")
