"""Pages of FHIR searches go on where they were, whatever has become of the token and of what they ended with."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from interface.api.context import SERVICES
from interface.api.fhir import everything
from interface.api.paging import NextPage
from interface.flow import actors
from interface.store.search.engine import Place, TooCostly
from tests.api.bench import Answer, Bench, Laboratory
from tests.api.conftest import bench as bench
from tests.api.conftest import laboratory as laboratory
from tests.api.hooks_use import hooked

TYPES = ("Observation", "DiagnosticReport", "ServiceRequest")
WINDOW = "_lastUpdated=gt2020-01-01"


def following(answer: Answer) -> str:
    [url] = [one["url"] for one in answer.json["link"] if one["relation"] == "next"]
    return str(url)


def ids(*answers: Answer) -> list[str]:
    entries: list[dict[str, Any]] = [entry for answer in answers for entry in answer.json.get("entry", [])]
    return [entry["resource"]["id"] for entry in entries]


@pytest.mark.parametrize("kind", TYPES)
async def test_the_next_page_may_be_asked_for_with_other_scopes(
    bench: Bench, laboratory: Laboratory, kind: str
) -> None:
    mine, other = await laboratory.order(), await laboratory.order()
    for order in (mine, other, mine, other):
        await laboratory.result(order)
    scopes = (f"system/{kind}.rs", f"system/{kind}.rs?patient=Patient/{mine['patient']}")
    client = await laboratory.client(*scopes)
    wide, narrow = [
        (await actors.client_token(laboratory.database, client.client_id, client.secret, scope, 600)).token
        for scope in scopes
    ]
    everybody, only = [ids(await bench.get(f"/fhir/{kind}?{WINDOW}", token)) for token in (wide, narrow)]
    assert set(only) < set(everybody)
    first = await bench.get(f"/fhir/{kind}?{WINDOW}&_count=1", wide)
    rest = await bench.get(following(first), narrow)
    assert rest.status == 200 and set(ids(rest)) <= set(only), "what is seen is as the token has it now"
    first = await bench.get(f"/fhir/{kind}?{WINDOW}&_count=1", narrow)
    if len(only) > 1:
        rest = await bench.get(following(first), wide)
        assert rest.status == 200 and set(ids(rest)) <= set(everybody)


async def test_a_page_link_of_an_earlier_program_goes_on_in_its_order(bench: Bench, laboratory: Laboratory) -> None:
    """It put a search that asks for no order in that of the ids, and a daemon is upgraded while an EMR reads pages."""
    order = await laboratory.order()
    results = [str(await laboratory.result(order)) for _ in range(3)]
    client = await laboratory.client("system/Observation.rs")
    token = (await actors.client_token(laboratory.database, client.client_id, client.secret, "", 600)).token
    actor = await actors.token_actor(laboratory.database, token)
    assert actor is not None
    seal = await bench.app[SERVICES].pages.seal(laboratory.organization_id)
    applied = (("_lastUpdated", "gt2020-01-01"), ("_count", "1"))
    page = NextPage("Observation", actor.id, laboratory.organization_id, applied, place=Place((), UUID(results[0])))
    second = await bench.get(f"/fhir/Observation?_cursor={seal.keep(page)}", token)
    third = await bench.get(following(second), token)
    assert ids(second, third) == results[1:]


async def test_what_a_page_ended_with_may_be_gone(laboratory: Laboratory) -> None:
    async with hooked(laboratory) as emr:
        made = [(await emr.subscribe())["id"] for _ in range(4)]
        first = await emr.bench.get("/fhir/Subscription?_count=2", emr.token)
        await emr.bench.ask("DELETE", f"/fhir/Subscription/{made[1]}", emr.token)
        rest = await emr.bench.get(following(first), emr.token)
        assert ids(first, rest) == made, "none twice"


async def test_an_operation_that_takes_too_long_is_refused_in_words(
    bench: Bench, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def costly(*_: object) -> None:
        raise TooCostly

    patient, token = (await laboratory.order())["patient"], await laboratory.client_token("system/*.rs")
    monkeypatch.setattr(everything, "find_places", costly)
    for method in ("GET", "POST"):
        refused = await bench.ask(method, f"/fhir/Patient/{patient}/$everything", token)
        assert (refused.status, refused.json["issue"][0]["code"]) == (400, "too-costly")
