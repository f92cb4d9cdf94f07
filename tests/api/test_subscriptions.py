"""Subscriptions against real endpoints: in order, at least once, and nothing that the EMR may not see."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from interface.api.fhir.reading import Reader
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.domain.subscription import MOST_ATTEMPTS
from interface.ops.alert_watch import LEAST_ATTEMPTS
from interface.store import subscriptions as rows
from interface.store.alert_conditions import deliveries
from interface.store.db import Connection
from interface.store.ids import uuid7
from tests.api.bench import Laboratory, found_laboratory
from tests.api.hooks_use import Hooked, hooked

HELD = (HoldReason.QUESTIONABLE,)


@pytest.fixture
async def emr(laboratory: Laboratory) -> AsyncIterator[Hooked]:
    async with hooked(laboratory) as emr:
        yield emr


async def test_what_matches_is_put_to_the_endpoint_in_order(emr: Hooked) -> None:
    await emr.released("10.0")  # before there was a subscription
    made = await emr.subscribe(
        "Observation?code=http://loinc.org|718-7", channel={"header": ["Authorization: Bearer s3cret", "X-Site: 4"]}
    )
    assert (made["status"], made["channel"]["header"]) == ("active", ["Authorization: ***", "X-Site: ***"])
    first = await emr.released("11.0")
    await emr.released("1.0", loinc="2345-7", test_code="GLU")
    second = await emr.released("12.0")
    await emr.told()
    assert emr.receiver.paths == [f"PUT /hook/Observation/{first}", f"PUT /hook/Observation/{second}"]
    assert emr.receiver.values == ["11.0", "12.0"]
    _, _, headers, body = emr.receiver.got[0]
    assert (headers["Authorization"], headers["Content-Type"]) == (
        "Bearer s3cret", "application/fhir+json; charset=utf-8"
    )  # fmt: skip
    assert body == (await emr.bench.get(f"/fhir/Observation/{first}", emr.token)).json
    await emr.told()
    assert len(emr.receiver.got) == 2, "once, when all goes well"
    await emr.bench.writer.flush()
    assert [row["entity_id"] for row in await emr.laboratory.audit("send")] == [first, second]
    assert len(await emr.laboratory.audit("disclose")) >= 2


async def test_what_was_made_is_read_where_its_location_says(emr: Hooked) -> None:
    made = await emr.bench.ask("POST", "/fhir/Subscription", emr.token, json=emr.wish())
    assert made.status == 201, made.body
    read = await emr.bench.get(made.headers["Location"].removeprefix(emr.bench.url), emr.token)
    assert (read.status, read.json, read.headers["ETag"]) == (200, made.json, made.headers["ETag"])


async def test_nothing_is_told_that_the_emr_may_not_see(emr: Hooked) -> None:
    await emr.subscribe()
    await emr.released("9.1", status=ResultStatus.FINAL, held=HELD)
    await emr.released("9.2", status=ResultStatus.PRELIMINARY)
    narrow = await emr.laboratory.client_token(
        "system/Observation.rs?code=http://loinc.org|2345-7", "system/Subscription.c"
    )
    await emr.subscribe(token=narrow)
    await emr.told()
    assert emr.receiver.got == []
    await emr.released("9.3")
    await emr.told()
    assert emr.receiver.values == ["9.3"], "by the one whose scopes read it, and the one held still is not"


async def test_a_dead_endpoint_is_waited_out_in_order_and_then_off_until_resumed(emr: Hooked) -> None:
    made = await emr.subscribe()
    emr.receiver.answers = [503] * MOST_ATTEMPTS
    for value in ("11.0", "12.0"):
        await emr.released(value)
    await emr.told()
    assert await emr.state(made) == ("error", f"{emr.receiver.url} answered 503")
    await emr.told()
    assert emr.receiver.values == ["11.0"], "not before it is due"
    await emr.later(2)
    await emr.later(3)
    assert emr.receiver.values == ["11.0"] * 2, "2 s, then 4 s"
    for _ in range(MOST_ATTEMPTS):
        await emr.later(3601)
    assert emr.receiver.values == ["11.0"] * MOST_ATTEMPTS, "what is behind waits"
    status, error = await emr.state(made)
    assert (status, error) == ("off", f"stopped after {MOST_ATTEMPTS} attempts: {emr.receiver.url} answered 503")
    emr.receiver.got.clear()
    token = await emr.laboratory.user_token(Role.ADMINISTRATOR)
    [shown] = (await emr.bench.get("/api/subscriptions", token)).json["subscriptions"]
    assert (shown["id"], shown["status"], shown["behind"] > 0) == (made["id"], "off", True)
    resumed = await emr.bench.ask("POST", f"/api/subscriptions/{made['id']}/resume", token)
    assert resumed.status == 200
    await emr.told()
    assert (emr.receiver.values, await emr.state(made)) == (["11.0", "12.0"], ("active", ""))


@pytest.mark.parametrize("column", ["due_at", "claimed_until"])
async def test_what_was_written_by_a_clock_that_was_ahead_is_not_waited_for(emr: Hooked, column: str) -> None:
    """When it was made, when it failed, by whom it was claimed who was killed: it would be silent until then."""
    made = await emr.subscribe()
    await emr.released("11.0")
    async with emr.laboratory.database.transaction(emr.laboratory.organization_id) as connection:
        await connection.execute(
            f"update lab.subscription set {column} = now() + interval '7 h' where id = $1",  # noqa: S608 - of two
            UUID(made["id"]),
        )
    await emr.told()
    assert emr.receiver.values == ["11.0"]


async def test_what_is_refused_becomes_a_letter_and_the_next_is_told(emr: Hooked) -> None:
    made = await emr.subscribe()
    emr.receiver.answers = [422, 422, 422]
    for value in ("11.0", "12.0"):
        await emr.released(value)
    await emr.told()
    for _ in range(4):
        await emr.later(60)
    assert emr.receiver.values == ["11.0", "11.0", "11.0", "12.0"]
    token = await emr.laboratory.user_token(Role.ADMINISTRATOR)
    shown = (await emr.bench.get(f"/api/subscriptions/{made['id']}", token)).json
    assert [(one["attempts"], one["error"]) for one in shown["letters"]] == [(3, f"{emr.receiver.url} answered 422")]
    await emr.bench.ask("POST", f"/api/subscriptions/{made['id']}/resume", token, json={"letters": True})
    await emr.told()
    assert emr.receiver.values[-1] == "11.0"
    assert (await emr.bench.get(f"/api/subscriptions/{made['id']}", token)).json["letters"] == []


@pytest.mark.parametrize("outages", [2, MOST_ATTEMPTS - 1])
async def test_no_outage_makes_a_letter_of_what_is_refused_once_and_no_refusal_ends_it(
    emr: Hooked, outages: int
) -> None:
    made = await emr.subscribe()
    emr.receiver.answers = [*([503] * outages), 400]
    await emr.released("11.0")
    await emr.told()
    for _ in range(outages):
        await emr.later(3601)
    assert await emr.state(made) == ("error", f"{emr.receiver.url} answered 400")
    await emr.later(2)
    assert emr.receiver.values == ["11.0"] * (outages + 2), "soon after: it answers again"
    assert await emr.state(made) == ("active", "")
    token = await emr.laboratory.user_token(Role.ADMINISTRATOR)
    assert (await emr.bench.get(f"/api/subscriptions/{made['id']}", token)).json["letters"] == []


async def test_refusals_between_outages_and_of_another_message_are_counted_each_for_itself(emr: Hooked) -> None:
    made = await emr.subscribe()
    emr.receiver.answers = [400, 503, 400, 503, 503, 400, 400, 503, 400]
    for value in ("11.0", "12.0"):
        await emr.released(value)
    await emr.told()
    for _ in range(9):
        await emr.later(3601)
    assert emr.receiver.values == ["11.0"] * 6 + ["12.0"] * 4
    token = await emr.laboratory.user_token(Role.ADMINISTRATOR)
    shown = (await emr.bench.get(f"/api/subscriptions/{made['id']}", token)).json
    assert [one["attempts"] for one in shown["letters"]] == [3]


async def test_a_process_that_dies_before_noting_has_it_sent_again_first(
    emr: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    await emr.subscribe()
    first, second = await emr.released("11.0"), await emr.released("12.0")

    async def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(emr.sender, "_note", dies)
    with pytest.raises(KeyboardInterrupt):
        await emr.told()
    emr.sender = emr.another()
    await emr.later(61)
    ids = [first, first, second]
    assert emr.receiver.paths == [f"PUT /hook/Observation/{id}" for id in ids]


async def test_a_process_killed_between_sending_and_noting_sends_it_again_first(
    emr: Hooked, shared_database_url: str
) -> None:
    """kill -9, while the endpoint has the message and has not answered."""
    await emr.subscribe()
    first, second = await emr.released("11.0"), await emr.released("12.0")
    command = (sys.executable, "-m", "tests.api.sender_process", shared_database_url,
               str(emr.laboratory.organization_id), emr.receiver.url)  # fmt: skip
    killed, done = await asyncio.create_subprocess_exec(*command), asyncio.Event()

    def kill(_: web.Request) -> web.Response:
        killed.kill()
        return web.Response()

    def answer(_: web.Request) -> web.Response:
        if len(emr.receiver.got) == 3:
            done.set()
        return web.Response()

    emr.receiver.answers = [kill, answer, answer]
    assert await killed.wait() == -signal.SIGKILL
    async with emr.laboratory.database.organization(emr.laboratory.organization_id) as connection:
        row = await connection.fetchrow("select sent, claimed_by from lab.subscription")
        assert row is not None and (row["sent"], row["claimed_by"] is None) == (0, False)
        # a minute passes
        await connection.execute("update lab.subscription set claimed_until = claimed_until - interval '61 seconds'")
    another = await asyncio.create_subprocess_exec(*command)
    try:
        await done.wait()
    finally:
        another.kill()
        await another.wait()
    assert emr.receiver.paths == [f"PUT /hook/Observation/{id}" for id in (first, first, second)]


async def test_it_stays_claimed_for_as_long_as_it_is_told(emr: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters that a person has sent again may be many, and an endpoint slow: what another sends meanwhile would be
    overtaken by what was read before."""
    made = await emr.subscribe()
    emr.receiver.answers = [422] * 9
    for value in ("11.0", "12.0", "13.0"):
        await emr.released(value)
    await emr.told()
    for _ in range(9):
        await emr.later(60)
    assert len(emr.receiver.got) == 9
    token = await emr.laboratory.user_token(Role.ADMINISTRATOR)
    await emr.bench.ask("POST", f"/api/subscriptions/{made['id']}/resume", token, json={"letters": True})
    await emr.released("14.0")
    send, taken = emr.sender._send, list[bool]()

    async def slowly(*what: Any) -> None:
        await send(*what)
        emr.now += timedelta(seconds=40)
        other = emr.another()
        taken.append(await other.serve(emr.laboratory.organization_id, UUID(made["id"])))

    monkeypatch.setattr(emr.sender, "_send", slowly)
    await emr.told()
    assert emr.receiver.values[9:] == ["11.0", "12.0", "13.0", "14.0"]
    assert taken == [False] * 4


async def test_a_clock_that_was_ahead_keeps_nothing_from_being_told(emr: Hooked) -> None:
    await emr.subscribe()
    right, emr.now = emr.now, emr.now + timedelta(days=400)
    emr.receiver.answers = [503]
    await emr.released("11.0")
    await emr.told()
    emr.now = right
    await emr.told()
    assert emr.receiver.values == ["11.0", "11.0"]


async def test_a_claim_of_a_clock_that_was_ahead_ends(emr: Hooked) -> None:
    """Of a process that died with it."""
    made = await emr.subscribe()
    await emr.released("11.0")
    ahead = emr.now + timedelta(days=400)
    async with emr.laboratory.database.transaction(emr.laboratory.organization_id) as connection:
        assert await rows.claim(connection, UUID(made["id"]), uuid7(), emr.now + timedelta(minutes=1), ahead, ahead)
    await emr.told()
    assert emr.receiver.values == ["11.0"]


async def test_while_one_has_it_claimed_no_other_sends(emr: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await emr.subscribe()
    await emr.released("11.0")
    await emr.feed.look(emr.laboratory.organization_id)
    rival = emr.another()

    seen: list[list[UUID]] = []

    async def meanwhile(*given: Any) -> None:
        seen.append(await rival.due(emr.laboratory.organization_id))
        assert not await rival.serve(emr.laboratory.organization_id, UUID(made["id"]))
        await send(*given)

    send = emr.sender._send
    monkeypatch.setattr(emr.sender, "_send", meanwhile)
    await emr.told()
    assert (seen, len(emr.receiver.got)) == ([[]], 1)


async def test_without_a_payload_the_endpoint_is_only_told_that_something_is_new(emr: Hooked) -> None:
    await emr.subscribe(channel={"payload": ""})
    for value in ("11.0", "12.0"):
        await emr.released(value)
    await emr.told()
    assert [(one[0], one[1], one[3]) for one in emr.receiver.got] == [("POST", "/hook", None)]


async def test_a_redirect_is_not_followed_and_an_endless_answer_not_read(emr: Hooked) -> None:
    made = await emr.subscribe()
    elsewhere = f"{emr.receiver.url}/elsewhere"
    emr.receiver.answers = [
        lambda _: web.Response(status=307, headers={"Location": elsewhere}),
        lambda _: web.Response(status=200, body=b"x" * 1_000_000),
    ]
    await emr.released("11.0")
    await emr.told()
    status, error = await emr.state(made)
    assert (status, "which is not followed" in error, len(emr.receiver.got)) == ("error", True, 1)
    await emr.later(3)
    assert (await emr.state(made), len(emr.receiver.got)) == (("active", ""), 2)


async def test_who_may_no_longer_read_is_told_nothing_more(emr: Hooked) -> None:
    async with emr.laboratory.database.organization(emr.laboratory.organization_id) as connection:
        for change, text in (
            ("scopes = '{system/Patient.rs}'", "may not read Observation any more"),
            ("scopes = '{system/*.cruds}', disabled_at = now()", "is disabled"),
        ):
            made = await emr.subscribe()
            await emr.released("11.0")
            await connection.execute(" ".join(("update lab.client set", change)))
            await emr.told()
            found = await connection.fetchrow(
                "select status, error from lab.subscription where id = $1", UUID(made["id"])
            )
            assert found is not None and (found["status"], text in found["error"]) == ("off", True)
    assert emr.receiver.got == []


async def test_what_goes_wrong_inside_is_said_waited_out_and_told_of(
    emr: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its EMR hears nothing more, and nobody knows."""
    made, other = await emr.subscribe(), await emr.subscribe("Observation?status=final")
    await emr.released("11.0", status=ResultStatus.FINAL)
    among = Reader.among

    async def fails(self: Reader, connection: Connection, type: str, ids: Any, given: Any, within: Any) -> Any:
        if not given:
            raise RuntimeError("a fault of ours")
        return await among(self, connection, type, ids, given, within)

    monkeypatch.setattr(Reader, "among", fails)
    await emr.told()
    assert (emr.receiver.values, (await emr.state(other))[0]) == (["11.0"], "active")
    status, error = await emr.state(made)
    assert (status, "inside" in error, "fault of ours" in error) == ("error", True, False)
    for _ in range(5):
        await emr.later(120)
    async with emr.laboratory.database.organization(emr.laboratory.organization_id) as connection:
        assert list(await deliveries(connection, LEAST_ATTEMPTS)) == [UUID(made["id"])]
    monkeypatch.setattr(Reader, "among", among)
    await emr.later(120)
    assert (emr.receiver.values, await emr.state(made)) == (["11.0"] * 2, ("active", ""))


async def test_who_switched_it_off_is_not_told_that_it_is_off(emr: Hooked) -> None:
    theirs, ours, stopped = [await emr.subscribe() for _ in range(3)]
    put = {**emr.wish(), "id": theirs["id"], "status": "off"}
    assert (await emr.bench.ask("PUT", f"/fhir/Subscription/{theirs['id']}", emr.token, json=put)).status == 200
    token = await emr.laboratory.user_token(Role.ADMINISTRATOR)
    path = f"/api/subscriptions/{ours['id']}/off"
    assert (await emr.bench.ask("POST", path, token, json={"reason": "a new system"})).status == 200
    emr.receiver.answers = [503] * MOST_ATTEMPTS
    await emr.released("11.0")
    for _ in range(MOST_ATTEMPTS):
        await emr.later(3601)
    assert (await emr.state(stopped))[0] == "off"
    async with emr.laboratory.database.organization(emr.laboratory.organization_id) as connection:
        assert list(await deliveries(connection, LEAST_ATTEMPTS)) == [UUID(stopped["id"])]


async def test_each_client_has_its_own_and_may_end_them(emr: Hooked) -> None:
    made = await emr.subscribe()
    path = f"/fhir/Subscription/{made['id']}"
    other = await emr.laboratory.client_token("system/*.cruds")
    stranger = await (await found_laboratory(emr.laboratory.database)).client_token("system/*.cruds")
    for token in (other, stranger):
        for method in ("GET", "DELETE"):
            assert (await emr.bench.ask(method, path, token)).status == 404
        assert (await emr.bench.ask("PUT", path, token, json={**emr.wish(), "id": made["id"]})).status == 404
        assert (await emr.bench.get("/fhir/Subscription", token)).json["total"] == 0
    found = (await emr.bench.get("/fhir/Subscription?status=active", emr.token)).json
    assert [one["resource"]["id"] for one in found["entry"]] == [made["id"]]
    read = await emr.bench.get(path, emr.token)
    off = {**emr.wish(), "id": made["id"], "status": "off"}
    stale = await emr.bench.ask("PUT", path, emr.token, json=off, headers={"If-Match": 'W/"99"'})
    assert stale.status == 412
    done = await emr.bench.ask("PUT", path, emr.token, json=off, headers={"If-Match": read.headers["ETag"]})
    assert (done.status, done.json["status"]) == (200, "off")
    await emr.released("11.0")
    await emr.told()
    again = await emr.bench.ask("PUT", path, emr.token, json={**emr.wish(), "id": made["id"]})
    assert again.json["status"] == "active"
    await emr.told()
    assert emr.receiver.values == ["11.0"], "its place was kept"
    assert [(await emr.bench.ask("DELETE", path, emr.token)).status for _ in range(2)] == [204, 204]
    assert (await emr.bench.get(path, emr.token)).status == 410
    await emr.bench.writer.flush()
    async with emr.laboratory.database.organization(emr.laboratory.organization_id) as connection:
        rows = await connection.fetch(
            "select action, actor_kind from lab.audit_event"
            " where lower(entity_kind) = 'subscription' and actor_name = $1",
            emr.client.client.name,
        )
    assert {row["action"] for row in rows} >= {"create", "read", "search", "update", "off", "delete"}
    assert {row["actor_kind"] for row in rows} == {"client"}
    await emr.released("12.0")
    await emr.told()
    assert emr.receiver.values == ["11.0"]


async def test_what_the_laboratory_switched_off_only_a_person_turns_on(emr: Hooked) -> None:
    made = await emr.subscribe()
    path, person = f"/fhir/Subscription/{made['id']}", await emr.laboratory.user_token(Role.ADMINISTRATOR)
    said = {"json": {"reason": "sends to the wrong ward"}}
    assert (await emr.bench.ask("POST", f"/api/subscriptions/{made['id']}/off", person, **said)).status == 200
    await emr.released("11.0")
    for status in ("requested", "off"):
        body = {**emr.wish(), "id": made["id"], "status": status}
        answer = await emr.bench.ask("PUT", path, emr.token, json=body)
        assert answer.status == 409 and "sends to the wrong ward" in str(answer.json), answer.json
    await emr.told()
    assert emr.receiver.values == []
    again = await emr.bench.ask("POST", f"/api/subscriptions/{made['id']}/resume", person, json={"letters": False})
    assert again.json["subscription"]["status"] == "active"
    await emr.told()
    assert emr.receiver.values == ["11.0"], "its place was kept"


async def test_everything_wrong_with_one_is_said_at_once(emr: Hooked) -> None:
    bad = emr.wish("Observation?status=", status="error", channel={"header": ["Host: x"], "payload": "text/plain"})
    bad["channel"]["endpoint"] = "http://169.254.169.254/latest"
    answer = await emr.bench.ask("POST", "/fhir/Subscription", emr.token, json=bad)
    assert (answer.status, len(answer.json["issue"])) == (422, 4), answer.json
    cases: list[tuple[dict[str, Any], int]] = [
        (emr.wish("Medication?code=1"), 422),
        (emr.wish("Observation?unknown=1"), 422),
        (emr.wish("Observation?_tag=x"), 422),  # nothing here has one: it would never tell anything
        (emr.wish("Observation?_include=Observation:patient"), 422),
        (emr.wish(channel={"type": "websocket"}), 422),
        (emr.wish() | {"resourceType": "Patient"}, 400),
    ]
    for body, status in cases:
        answer = await emr.bench.ask("POST", "/fhir/Subscription", emr.token, json=body)
        assert answer.status == status, (body, answer.json)
    reader = await emr.laboratory.client_token("system/Patient.rs", "system/Subscription.cruds")
    assert (await emr.bench.ask("POST", "/fhir/Subscription", reader, json=emr.wish())).status == 403
    user = await emr.laboratory.user_token(Role.ADMINISTRATOR)
    assert (await emr.bench.ask("POST", "/fhir/Subscription", user, json=emr.wish())).status == 403
