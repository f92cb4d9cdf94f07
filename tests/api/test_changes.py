"""`/api/changes` as an EMR follows it: nothing missed, nothing shown that may not be read."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.store.lab_changes import owe
from tests.api.bench import Bench, Laboratory, found_laboratory

HELD = (HoldReason.QUESTIONABLE,)


async def told(bench: Bench, token: str, query: str = "") -> tuple[list[tuple[str, str]], int]:
    """Everything from a position to the end, page after page, and the position of the end."""
    found: list[tuple[str, str]] = []
    answer = (await bench.get(f"/api/changes?{query}", token)).json
    while True:
        found += [(one["type"], one["id"]) for one in answer["changes"]]
        if not answer["more"]:
            return found, answer["next"]
        answer = (await bench.get(f"/api/changes?limit=1&after={answer['next']}", token)).json


async def owed(laboratory: Laboratory, result_id: UUID) -> None:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await owe(connection, laboratory.organization_id, result_id, 1)


async def test_an_emr_follows_page_by_page_and_misses_nothing(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.client_token("system/*.rs")
    of = await laboratory.order()
    found, end = await told(bench, token)
    assert set(found) == {
        ("Patient", str(of["patient"])), ("Specimen", str(of["specimen"])), ("ServiceRequest", str(of["item"])),
        ("DiagnosticReport", str(of["order"])),
    }  # fmt: skip
    assert await told(bench, token, "after=now") == ([], end)
    result_id = await laboratory.result(of)
    await owed(laboratory, result_id)
    found, last = await told(bench, token, f"limit=1&after={end}")
    assert set(found) == {("Observation", str(result_id)), ("DiagnosticReport", str(of["order"]))}
    assert await told(bench, token, f"after={last}") == ([], last)
    by_type, _ = await told(bench, token, "type=Observation")
    assert by_type == [("Observation", str(result_id))]


async def test_what_an_emr_may_not_see_is_passed_over(bench: Bench, laboratory: Laboratory) -> None:
    of = await laboratory.order()
    _, end = await told(bench, await laboratory.client_token("system/*.rs"))
    for held, status in (((), ResultStatus.PRELIMINARY), (HELD, ResultStatus.REGISTERED), (HELD, ResultStatus.FINAL)):
        await owed(laboratory, await laboratory.result(of, status=status, held=held))
    for token in (await laboratory.client_token("system/Observation.rs"), await laboratory.user_token(Role.VIEWER)):
        found, last = await told(bench, token, f"after={end}")
        assert [one for one in found if one[0] == "Observation"] == []
        assert last == end + 3 if found else last == end


async def test_each_follows_what_its_scopes_and_permissions_read(bench: Bench, laboratory: Laboratory) -> None:
    of = await laboratory.order()
    result_id = await laboratory.result(of)
    await owed(laboratory, result_id)
    other = await found_laboratory(laboratory.database)

    async def types(token: str) -> set[str]:
        return {type for type, _ in (await told(bench, token))[0]}

    assert await types(await laboratory.client_token("system/Patient.r")) == {"Patient"}
    narrow = "system/Observation.rs?code=http://loinc.org|718-7"
    assert await types(await laboratory.client_token(narrow)) == {"Observation"}
    elsewhere = "system/Observation.rs?code=http://loinc.org|2345-7"
    assert await types(await laboratory.client_token(elsewhere)) == set()
    await laboratory.user()  # the first is an administrator
    assert await types(await laboratory.user_token(Role.PHLEBOTOMIST)) == {"Patient", "ServiceRequest", "Specimen"}
    assert await types(await other.client_token("system/*.rs")) == set()


async def test_what_cannot_be_followed_is_refused(bench: Bench, laboratory: Laboratory) -> None:
    client, auditor = await laboratory.client_token("system/Patient.rs"), await laboratory.user_token(Role.TECHNOLOGIST)
    cases: list[tuple[str, str, int]] = [
        (client, "after=x", 400), (client, "after=-1", 400), (client, "after=99", 410), (client, "limit=0", 400),
        (client, "type=Medication", 400), (client, "type=Observation", 403), (client, "unknown=1", 400),
        (auditor, "after=0", 200),
        (await laboratory.client_token("system/Subscription.c"), "", 403), ("", "", 401),
    ]  # fmt: skip
    for token, query, status in cases:
        answer = await bench.get(f"/api/changes?{query}", token)
        assert answer.status == status, (query, answer.json)


async def test_whose_data_was_told_is_audited(bench: Bench, laboratory: Laboratory) -> None:
    of = await laboratory.order()
    await told(bench, await laboratory.client_token("system/*.rs"))
    await bench.writer.flush()
    rows: list[Any] = list(await laboratory.audit("disclose"))
    assert of["patient"] in {row["entity_id"] for row in rows}
