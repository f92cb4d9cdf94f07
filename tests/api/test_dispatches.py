"""The order book over REST: for the laboratory's people, with the permission, and for no client."""

from __future__ import annotations

from interface.domain.permissions import Role
from interface.flow import waking
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.api.bench import Bench, Laboratory, found_laboratory
from tests.api.dispatch_use import refused


async def test_work_is_listed_shown_sent_again_and_taken_back(bench: Bench, laboratory: Laboratory) -> None:
    first, second = await refused(laboratory, "T-1"), await refused(laboratory, "T-2")
    token = await laboratory.user_token(Role.TECHNOLOGIST)
    page = (await bench.get("/api/dispatches?state=refused&limit=1", token)).json
    assert [one["id"] for one in page["dispatches"]] == [str(second)]
    rest = (await bench.get(page["next"], token)).json
    assert ([one["id"] for one in rest["dispatches"]], rest["next"]) == ([str(first)], None)
    [shown] = rest["dispatches"]
    assert (shown["barcode"], shown["answer"], shown["analyzer"]) == ("T-1", "no reagent", "chem-1")
    again = await bench.ask(
        "POST", f"/api/dispatches/{shown['work_id']}/resend", token, json={"reason": "reagent is in"}
    )
    assert (again.status, again.json["dispatch"]["state"]) == (200, "queued")
    off = await bench.ask("POST", f"/api/dispatches/{second}/cancel", token, json={"reason": "by hand"})
    assert (off.json["dispatch"]["state"], off.json["dispatch"]["barred"]) == ("cancelled", True)
    one = (await bench.get(f"/api/dispatches/{second}", token)).json
    assert [event["reason"] for event in one["events"]] == ["by hand"]
    assert len((await bench.get("/api/dispatches", token)).json["dispatches"]) == 1
    assert len((await bench.get("/api/dispatches?all=true&barcode=T-1", token)).json["dispatches"]) == 2
    assert len(await laboratory.audit("resend")) == 1


async def test_what_cannot_be_is_refused_in_the_words_of_the_interface(bench: Bench, laboratory: Laboratory) -> None:
    work = await refused(laboratory, "T-1")
    await laboratory.user_token(Role.ADMINISTRATOR)  # the first user is one
    token, viewer = await laboratory.user_token(Role.TECHNOLOGIST), await laboratory.user_token(Role.VIEWER)
    client = await laboratory.client_token("system/*.cruds")
    for status, answer in (
        (404, await bench.get("/api/dispatches/4711", token)),
        (404, await bench.get(f"/api/dispatches/{uuid7()}", token)),
        (400, await bench.get("/api/dispatches?state=lost", token)),
        (422, await bench.ask("POST", f"/api/dispatches/{work}/resend", token, json={})),
        (422, await bench.ask("POST", f"/api/dispatches/{work}/cancel", token, json={"reason": " "})),
        (403, await bench.ask("POST", f"/api/dispatches/{work}/cancel", viewer, json={"reason": "x"})),
        (403, await bench.get("/api/dispatches", client)),
        (403, await bench.ask("PUT", "/api/routes/HGB", token, json={"analyzers": [], "reason": "x"})),
    ):
        assert answer.status == status, answer.body
    assert (await bench.get("/api/dispatches", viewer)).status == 200


async def test_routes_and_analyzers_that_are_down(bench: Bench, laboratory: Laboratory) -> None:
    await refused(laboratory, "T-1")
    token = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    entry = {"analyzer": "chem-1", "share": 3, "when_down": "wait", "codes": ["HB"]}
    body = {"analyzers": [entry], "specimen_type": "EDTA", "reason": "the new one"}
    assert (await bench.ask("PUT", "/api/routes/HGB", token, json=body)).status == 200
    assert (await bench.ask("POST", "/api/analyzers/chem-1/down", token, json={"reason": "broken"})).status == 200
    [route] = (await bench.get("/api/routes?test=HGB", token)).json["routes"]
    assert {**entry, "specimen_type": "EDTA", "place": 1, "down": True}.items() <= route.items()
    assert (await bench.ask("POST", "/api/analyzers/chem-1/down", token, json={"reason": "x"})).status == 409
    assert (await bench.ask("POST", "/api/analyzers/chem-1/up", token, json={"reason": "repaired"})).status == 200
    assert (await bench.get("/api/routes", token)).json["routes"][0]["down"] is False


async def test_another_laboratory_has_none_of_it(bench: Bench, laboratory: Laboratory, database: Database) -> None:
    work = await refused(laboratory, "T-1")
    token = await (await found_laboratory(database)).user_token(Role.LABORATORY_DIRECTOR)
    assert (await bench.get(f"/api/dispatches/{work}", token)).status == 404
    assert (await bench.ask("POST", f"/api/dispatches/{work}/cancel", token, json={"reason": "x"})).status == 404
    assert (await bench.get("/api/dispatches?all=true", token)).json["dispatches"] == []


async def test_who_changes_something_wakes_the_links_that_may_have_to_tell_it(
    bench: Bench, laboratory: Laboratory
) -> None:
    """Once it is committed, and nobody else's; who reads or is refused wakes nobody."""
    work = await refused(laboratory, "T-1")
    order = {"patient": {"family": "Muster"}, "specimens": [{"barcode": "T-2", "tests": ["HGB"]}]}
    technologist, client = await laboratory.user_token(Role.TECHNOLOGIST), await laboratory.client_token("system/*.s")
    url, why = f"/api/dispatches/{work}", {"json": {"reason": "reagent is in"}}
    calls: list[str] = []

    def ours() -> None:
        calls.append("ours")

    def theirs() -> None:
        calls.append("theirs")

    waking.sleep(laboratory.organization_id, uuid7(), ours)
    stranger = uuid7()
    waking.sleep(stranger, uuid7(), theirs)
    try:
        for method, path, token, sent, status, woken in (
            ("GET", url, technologist, {}, 200, 0),
            ("POST", f"{url}/resend", technologist, {"json": {}}, 422, 0),
            ("POST", "/fhir/Patient/_search", client, {"data": {"_count": "1"}}, 200, 0),
            ("POST", f"{url}/resend", technologist, why, 200, 1),
            ("POST", f"{url}/resend", technologist, why, 409, 0),
            ("POST", "/api/orders", technologist, {"json": order}, 201, 1),
        ):
            calls.clear()
            answer = await bench.ask(method, path, token, **sent)
            assert (answer.status, calls) == (status, ["ours"] * woken), (method, path)
        (again,) = (await bench.get("/api/dispatches", technologist)).json["dispatches"]
        calls.clear()
        assert (await bench.ask("POST", f"/api/dispatches/{again['id']}/cancel", technologist, **why)).status == 200
        assert calls == ["ours"]
    finally:
        waking.leave(laboratory.organization_id, ours)
        waking.leave(stranger, theirs)
