"""The hospital of `scripts/bench day`: it orders over HL7 v2, on a few connections, and over FHIR, says it again, and
takes some of it back."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from interface.errors import LinkLost
from interface.link.tcp import TcpStream, connect
from interface.wire import hl7_reply, mllp
from tests.bench.day_daemon import House
from tests.bench.day_plan import KINDS, Placed


class Refused(RuntimeError):
    """The laboratory said no, with this status."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Hospital:
    """Orders over HL7, on a few connections, and over FHIR."""

    def __init__(self, house: House, token: str) -> None:
        self._house, self._token = house, token
        self._streams: asyncio.Queue[Any] = asyncio.Queue()
        self._number = 0

    async def place(self, session: aiohttp.ClientSession, order: Placed) -> None:
        """Order it; said again, it must be answered as what it was. Raises RuntimeError for any other answer."""
        if order.over == "hl7":
            reply = await self._send(self._message(order, "NW"))
            if reply.count(b"\rORC|OK|") != len(order.tests):
                raise RuntimeError(f"not every test of {order.number} was placed: {reply.decode()!r}")
            return
        places = await self._post(session, order)
        if len(places) != len(order.tests) or (order.resources and places != order.resources):
            raise RuntimeError(f"{order.number} was placed as {places} and before as {order.resources}")
        order.resources = places

    async def close(self) -> None:
        """End its connections."""
        while not self._streams.empty():
            stream, _ = self._streams.get_nowait()
            await stream.close()

    async def take_back(self, session: aiohttp.ClientSession, order: Placed) -> bool:
        """Whether the laboratory says that all of it is cancelled. Raises RuntimeError when it says so of a part."""
        if order.over == "hl7":
            reply = await self._send(self._message(order, "CA"))
            done, refused = reply.count(b"\rORC|CR|"), reply.count(b"\rORC|UC|")
        else:
            done, refused = 0, 0
            for place in order.resources:
                found = await self._ask(session, "GET", place)
                found["status"] = "revoked"
                try:
                    await self._ask(session, "PUT", place, found)
                    done += 1
                except Refused as error:
                    if error.status not in (409, 422):
                        raise
                    refused += 1
        if sorted((done, refused)) != [0, len(order.tests)]:
            raise RuntimeError(f"of {order.number} {done} tests are cancelled and {refused} are not")
        return bool(done)

    def _message(self, order: Placed, control: str) -> bytes:
        self._number += 1
        lines = [
            rf"MSH|^~\&|HIS|HOSP|LABORA|LAB|20260102080000+0000||OML^O21^OML_O21|M{self._number}|P|2.5.1",
            f"PID|1||P{order.number}^^^HOSP^MR||MUSTER^N{order.number}||19800501|F",
        ]
        for at, test in enumerate(order.tests, start=1):
            placer = f"{order.number}-{at}"
            lines += [f"ORC|{control}|{placer}||{order.number}", f"OBR|{at}|{placer}||{test}|"]
            lines.append(f"SPM|1|{order.barcode}||{KINDS[order.kinds[0]].tube}")
        return "".join(f"{line}\r" for line in lines).encode()

    async def _send(self, message: bytes) -> bytes:
        return await self._house.persist(lambda tried: self._exchange(message))

    async def _exchange(self, message: bytes) -> bytes:
        stream, decoder = await self._streams.get() if not self._streams.empty() else (
            await connect(self._house.links["his"]), mllp.Decoder(),
        )  # fmt: skip
        try:
            block = await self._answer(stream, decoder, message)
        except BaseException:  # what comes of this connection later is nobody's answer
            await stream.close()
            raise
        self._streams.put_nowait((stream, decoder))
        return block

    @staticmethod
    async def _answer(stream: TcpStream, decoder: mllp.Decoder, message: bytes) -> bytes:
        await stream.write(mllp.encode(message))
        while True:
            data = await stream.read()
            if not data:
                raise LinkLost("the laboratory has hung up")
            for event in decoder.receive(data):
                if isinstance(event, mllp.BlockReceived):
                    said = hl7_reply.verdict(event.block)
                    if said is None or said.code != "AA":
                        raise RuntimeError(f"the laboratory answered {event.block.decode()!r}")
                    return event.block

    async def _post(self, session: aiohttp.ClientSession, order: Placed) -> list[str]:
        person, tube = "urn:uuid:00000000-0000-4000-8000-000000000001", "urn:uuid:00000000-0000-4000-8000-000000000002"
        patient = {
            "resourceType": "Patient", "identifier": [{"system": "urn:hospital", "value": f"P{order.number}"}],
            "name": [{"family": "Muster", "given": [f"N{order.number}"]}], "gender": "female",
            "birthDate": "1980-05-01",
        }  # fmt: skip
        specimen = {
            "resourceType": "Specimen", "accessionIdentifier": {"value": order.barcode},
            "subject": {"reference": person},
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0487",
                                 "code": KINDS[order.kinds[0]].tube}]},
        }  # fmt: skip
        requests = [
            {
                "resourceType": "ServiceRequest", "status": "active", "intent": "order",
                "requisition": {"system": "urn:ward", "value": order.number},
                "code": {"coding": [{"system": "urn:labora:test", "code": test}]},
                "subject": {"reference": person}, "specimen": [{"reference": tube}],
            }
            for test in order.tests
        ]  # fmt: skip
        entries: list[tuple[dict[str, Any], str]] = [
            (patient, person),
            (specimen, tube),
            *((one, "") for one in requests),
        ]
        bundle = {
            "resourceType": "Bundle", "type": "transaction",
            "entry": [
                {"resource": one, "request": {"method": "POST", "url": one["resourceType"]},
                 **({"fullUrl": place} if place else {})}
                for one, place in entries
            ],
        }  # fmt: skip
        answer = await self._ask(session, "POST", "/fhir", bundle)
        places = [entry["response"]["location"].partition("/_history")[0] for entry in answer["entry"]]
        return ["/fhir/" + place.rpartition("/fhir/")[2] for place in places if "ServiceRequest" in place]

    async def _ask(self, session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
        return await ask(session, self._house, method, path, self._token, body)


async def ask(
    session: aiohttp.ClientSession, house: House, method: str, path: str, token: str, body: Any = None, *,
    once: bool = False,
) -> Any:  # fmt: skip
    """The parsed answer. Raises Refused for anything but success; but `once`, which is refused with a conflict when it
    was done before, and was asked again because nobody knows, gives None."""
    headers = {"Authorization": f"Bearer {token}"}
    if path.startswith("/fhir"):
        headers["Content-Type"] = headers["Accept"] = "application/fhir+json"

    async def asked(tried: int) -> Any:
        async with session.request(method, f"http://{house.api}{path}", json=body, headers=headers) as response:
            if tried and once and response.status == 409:
                return None
            if response.status >= 300:
                raise Refused(response.status, f"{method} {path}: {response.status} {(await response.text())[:300]}")
            return await response.json(content_type=None)

    return await house.persist(asked)
