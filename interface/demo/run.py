"""One pass of the demo: people, daemon, orders, analyzers, release, EMR, comparison, table."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from interface import simulator
from interface.demo import site
from interface.demo.client import Api, Json, connected
from interface.demo.plan import PlannedSpecimen, Play, all_specimens, make_plan
from interface.demo.report import Outcome, compare
from interface.demo.site import Credentials, Daemon, DemoError
from interface.store.catalogue import shipped_tests

DECIDED_WAIT_S = 60.0
POLL_S = 0.05

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass showed."""

    outcomes: tuple[Outcome, ...]
    base_url: str
    credentials: Credentials
    emr_token: str
    patient_id: str  # of the first specimen, for the ready-made request
    seconds: float

    @property
    def differences(self) -> tuple[str, ...]:
        return tuple(text for outcome in self.outcomes for text in outcome.differences)


@dataclass(frozen=True, slots=True)
class _Placed:
    """An order that was placed: where its results will be found."""

    specimen: PlannedSpecimen
    patient_id: str
    specimen_id: str


async def demo(folder: Path, tamper: bool, say: Say, show: Callable[[Pass], None], stay: bool) -> Pass:
    """Run one pass in the state directory `folder`, `show` it, and with `stay` keep the daemon until Ctrl-C or SIGTERM.

    Raises LaboraError for whatever keeps it from getting to the comparison; cancelled before that, it stops the daemon.
    """
    began = time.monotonic()
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # Ctrl-C cancels as it is
    plays = make_plan(tamper)
    organization = site.new_organization()
    settings = site.prepare(folder, organization)
    say(f"database, organization, people and an EMR client in {folder}")
    credentials = await site.employ(settings)
    say("daemon")
    async with site.daemon(folder, organization) as daemon, connected(daemon.base_url) as api:
        done = await _pass(daemon, api, credentials, plays, say, began)
        show(done)
        if stay:
            await _stay(daemon)
        say("stopping the daemon")
    return done


async def _pass(
    daemon: Daemon, api: Api, credentials: Credentials, plays: Sequence[Play], say: Say, began: float
) -> Pass:
    specimens = all_specimens(plays)
    staff = await _login(api, credentials)
    say(f"orders for {sum(bool(one.tests) for one in specimens)} specimens, by REST")
    placed = [await _order(staff, one) for one in specimens if one.tests]
    say(f"{len(plays)} transmissions on {len({one.link for one in plays})} links, as the analyzers")
    await _play_all(daemon, plays)
    say(f"decisions on {sum(len(one.sent) for one in specimens)} results")
    results = {one.barcode: await _decided(staff, one) for one in specimens}
    say(f"release of {sum(_releasable(one) for found in results.values() for one in found)} results")
    await _release(staff, results.values())
    say("reading back over FHIR, as the EMR")
    emr = await _emr(api, credentials)
    observations = await _read(emr, placed)
    outcomes = tuple(compare(one, results[one.barcode], observations.get(one.barcode, [])) for one in specimens)
    return Pass(outcomes, daemon.base_url, credentials, emr.token, placed[0].patient_id, time.monotonic() - began)


async def _login(api: Api, credentials: Credentials) -> Api:
    answer = await api.post(
        "/api/login",
        {
            "organization": credentials.organization,
            "username": credentials.username,
            "password": credentials.password,
        },
    )
    return api.with_token(answer["access_token"])


async def _emr(api: Api, credentials: Credentials) -> Api:
    """OAuth 2.0 client credentials (RFC 6749 4.4)."""
    fields = {
        "grant_type": "client_credentials",
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
    }
    return api.with_token((await api.form("/oauth/token", fields))["access_token"])


async def _order(staff: Api, specimen: PlannedSpecimen) -> _Placed:
    """An order for one specimen and its patient, who is new in this pass."""
    tests = {test.code: test for test in shipped_tests()}
    types = tests[specimen.tests[0]].specimen_types
    order = await staff.post(
        "/api/orders",
        {
            "placer_number": f"EMR-{specimen.barcode}",
            "patient": _patient(specimen),
            "specimens": [
                {
                    "barcode": specimen.barcode,
                    "type": types[0] if types else "",
                    "tests": list(specimen.tests),
                    "collected_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds"),
                }
            ],
        },
    )
    return _Placed(specimen, order["patient_id"], order["items"][0]["specimen_id"])


def _patient(specimen: PlannedSpecimen) -> Json:
    """The patient as the analyzer will name them; an invented one where it names none."""
    person = specimen.person
    if person is None or not person.patient_id:
        identifier = {"value": f"DEMO-{specimen.barcode}"}
        return {
            "identifiers": [identifier],
            "family": "Demo",
            "given": "Dora",
            "birth_date": "1979-05-17",
            "sex": "female",
        }
    family, _, given = person.name.partition("^")
    return {
        "identifiers": [{"value": person.patient_id}],
        "family": family or "Demo",
        "given": given,
        "birth_date": person.birth_date or "1979-05-17",
        "sex": person.sex or "unknown",
    }


async def _play_all(daemon: Daemon, plays: Sequence[Play]) -> None:
    """Each link's transmissions one after the other, the links beside each other, as in a laboratory."""

    async def one_link(link_id: str) -> None:
        for one in plays:
            if one.link.id == link_id:
                address = daemon.address(link_id)
                report = await simulator.play(one.source, address)
                if not report.complete:
                    raise DemoError(f"{link_id} did not take {one.vector}: {'; '.join(report.faults)}")

    async with asyncio.TaskGroup() as links:
        for link_id in dict.fromkeys(one.link.id for one in plays):
            links.create_task(one_link(link_id))


async def _decided(staff: Api, specimen: PlannedSpecimen) -> list[Json]:
    """All results of a specimen once they are there; what is there when they do not come."""
    deadline = asyncio.get_running_loop().time() + DECIDED_WAIT_S
    while True:
        answer = await staff.get("/api/results", {"barcode": specimen.barcode, "limit": "500"})
        found: list[Json] = answer["results"]
        if len(found) >= len(specimen.sent) or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(POLL_S)


def _releasable(result: Json) -> bool:
    return not result["held"] and result["status"] in ("registered", "preliminary")


async def _release(staff: Api, results: Iterable[list[Json]]) -> None:
    """What nothing holds is released; the held ones wait for a person, which the demo is not."""
    for one in (each for found in results for each in found if _releasable(each)):
        await staff.post(f"/api/results/{one['id']}/release", {"version": int(one["version"])})


async def _read(emr: Api, placed: Sequence[_Placed]) -> dict[str, list[Json]]:
    """What the EMR reads of each specimen, by barcode."""
    found: dict[str, list[Json]] = {}
    for one in placed:
        observations = await emr.search("Observation", {"patient": one.patient_id, "_count": "100"})
        reference = f"Specimen/{one.specimen_id}"
        found[one.specimen.barcode] = [
            each for each in observations if each.get("specimen", {}).get("reference") == reference
        ]
    return found


async def _stay(daemon: Daemon) -> None:
    """Until cancelled, or the daemon ends by itself, which it should not."""
    try:
        status = await daemon.ended()
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is not None:
            task.uncancel()  # it was asked for: the demo ends well
        return
    raise DemoError(f"the daemon ended by itself with status {status}; see {daemon.log}")
