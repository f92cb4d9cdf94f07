"""One id leads from the socket to FHIR: what the daemon logs of a message, what it is decided as, what an EMR reads."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from interface.domain.permissions import Role
from tests.e2e.daemon import Process, eventually, get
from tests.e2e.people import register_people
from tests.e2e.test_main_job import ASTM, HL7, send


async def clock(daemon: Process) -> float:
    """How far the analyzer's clock is ahead, as the metrics have it."""
    found = re.search(r'labora_link_clock_seconds{link="astm"} (\S+)', (await get(daemon.api, "/metrics"))[1])
    assert found is not None
    return float(found[1])


async def test_a_messages_id_is_in_each_line_about_it_and_in_the_provenance_of_its_result(
    state_dir: Path, tmp_path: Path
) -> None:
    async with Process(state_dir, tmp_path) as daemon:
        people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR, Role.TECHNOLOGIST)
        await people.order("S1", "WBC", "K")
        for address, message in ((daemon.astm, ASTM), (daemon.hl7, HL7), (daemon.hl7, HL7)):
            assert (await send(address, message % (b"C1", b"S1"))).complete
        for result in await eventually(lambda: people.results(3)):
            if not result["held"]:
                await people.release(result["id"])
        sources = {}
        for seen in await people.observations():
            path = f"/fhir/Provenance?target=Observation/{seen['id']}"
            bundle = await people.ask("GET", path, people.emr)
            entities = [one for entry in bundle["entry"] for one in entry["resource"].get("entity", [])]
            (sources[seen["code"]["text"]],) = {
                one["what"]["identifier"]["value"] for one in entities if one["role"] == "source"
            }
        behind = datetime.now(UTC) - datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)  # as the message's header has it
        assert abs(await clock(daemon) + behind.total_seconds()) < 60
    lines = [json.loads(line) for line in daemon.said().splitlines()]
    told = {  # by message: each step once, in this order
        id: [(one["action"], one["link"]) for one in lines if one.get("message_id") == id]
        for one in lines if (id := one.get("message_id"))
    }  # fmt: skip
    for test, link in (("Leukocytes", "astm"), ("Potassium", "hl7")):
        assert told.pop(sources[test]) == [("message.sealed", link), ("message.settled", link)]
    assert [steps[0] for steps in told.values()] == [("message.sealed", "hl7")], "the one that was sent again"
    states = [one["state"] for one in lines if one["action"] == "message.sealed"]
    assert states == ["complete", "complete", "duplicate"]
    peers = {one["peer"] for one in lines if one["action"] == "message.sealed"}
    assert peers <= {one["peer"] for one in lines if one["action"] == "link.connected"}
