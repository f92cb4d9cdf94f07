"""No patient data in logs, metrics and server logs (DESIGN §1.9): canaries in every field of every way in.

A whole daemon is given words that occur nowhere else, along good ways and bad ones: cut and garbled transmissions,
refused messages, rows that PostgreSQL refuses with their content in its DETAIL, a database that is killed, JSON that is
none, addresses that do not exist. Then everything it wrote is searched for them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncpg

from interface.domain.permissions import Role
from interface.settings import Address
from interface.simulator import parse_source, play
from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import OWNER_ROLE
from tests.e2e.daemon import Process, eventually, free_ports, get
from tests.e2e.people import EmrAndStaff, register_people

POISON = "VENENUM"  # rows with this word are refused by the database
_given: list[str] = []


def canary(word: str = "") -> str:
    """A word that occurs nowhere else."""
    _given.append(f"QZX{len(_given):03d}{word}XZQ")
    return _given[-1]


def astm(barcode: str, value: str) -> bytes:
    c = canary
    return (
        f"H|\\^&|{c()}|{c()}|{c()}^1|{c()}||{c()}||{c()}|{c()}|P|LIS2-A2|20260102030405\r"
        f"P|1|{c()}|{c()}|{c()}|{c()}^{c()}|{c()}|19510317|F||{c()}|{c()}|{c()}|{c()}|{c()}\rC|1|L|{c()}|G\r"
        f"O|1|{barcode}|{c()}|^^^{c()}|R||||||{c()}|||{c()}|{c()}|{c()}|||{c()}|{c()}\rC|1|I|{c()}|G\r"
        f"R|1|^^^{c()}^{c()}|{value}|{c()}|{c()}|{c()}|{c()}|{c()}|{c()}|{c()}|{c()}|20260102030000|{c()}\r"
        f"C|1|I|{c()}|G\rM|1|{c()}|{c()}\rL|1|N\r"
    ).encode()


def hl7(kind: str, barcode: str, value: str) -> bytes:
    c = canary
    return (
        f"MSH|^~\\&|{c()}|{c()}|{c()}|{c()}|20260102030405||{kind}|{c()}|P|2.5.1\r"
        f"PID|1|{c()}|{c()}^^^{c()}|{c()}|{c()}^{c()}|{c()}|19510317|F|||{c()}^^{c()}||{c()}\rNTE|1||{c()}\r"
        f"ORC|RE|{c()}|{c()}\rOBR|1|{c()}|{c()}|{c()}^{c()}|||||||{c()}|||{c()}|||{c()}\r"
        f"OBX|1|ST|{c()}^{c()}^L||{value}|{c()}|{c()}|{c()}|||F|||20260102030000\rNTE|1||{c()}\r"
        f"SPM|1|{barcode}||{c()}\r"
    ).encode()


def order(**changed: Any) -> dict[str, Any]:
    patient = {
        "identifiers": [{"authority": canary(), "value": canary(), "type": canary()}],
        "family": canary(), "given": canary(), "birth_date": "1951-03-17", "sex": "female",
    }  # fmt: skip
    specimens = [{"barcode": canary(), "type": canary(), "tests": ["WBC"]}]
    return {
        "patient": patient,
        "specimens": specimens,
        "placer_number": canary(),
        "clinical_history": canary(),
    } | changed


async def send(address: Address, message: bytes) -> None:
    with suppress(OSError):
        await play(parse_source(message), address)


async def send_raw(address: Address, *pieces: bytes) -> None:
    """Bytes as they are, then the cable is pulled."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    with suppress(OSError, TimeoutError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.wait_for(reader.read(1), 1.0)
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def ask(api: Address, method: str, path: str, token: str = "", **options: Any) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{api}{path}", headers=headers, **options) as response,
    ):
        return response.status


async def analyzers(daemon: Process) -> None:
    """Good messages, then everything that can be wrong with one."""
    await send(daemon.astm, astm(canary(), canary()))
    await send(daemon.hl7, hl7("ORU^R01^ORU_R01", canary(), canary()))
    await send(daemon.astm, astm(canary(POISON), canary(POISON)))
    await send(daemon.hl7, hl7("ORU^R01^ORU_R01", canary(POISON), canary(POISON)))
    await send(daemon.hl7, hl7("ADT^A01", canary(), canary()))
    await send(daemon.hl7, hl7(canary(), canary(), canary()))
    await send(daemon.hl7, hl7("ORU^R01", canary(), canary()).replace(b"2.5.1", canary().encode()))
    await send(daemon.hl7, hl7("ORU^R01", canary(), canary()).replace(b"PID|", b"P\xffD" + canary().encode()))
    frame = f"1H|\\^&|{canary()}\rP|1|{canary()}\r".encode()
    await send_raw(daemon.astm, b"\x05", b"\x02" + frame + b"\x17FF\r\n", canary().encode() + b"\x15\x04")
    await send_raw(daemon.astm, canary().encode(), b"\x05", b"\x027" + canary().encode() + b"\x0300\r\n")
    await send_raw(daemon.hl7, b"\x0b" + canary().encode())
    await send_raw(daemon.hl7, canary().encode() + b"\x0bMSH|" + canary().encode() + b"\x1c\r")
    whole = parse_source(astm(canary(), canary())).transmissions[0]
    await send_raw(daemon.astm, b"\x05", *whole[:-1])


HOSPITAL = """
[[link]]
id = "his"
organization = "main"
role = "hospital"
driver = "generic_hospital"
transport = {{ type = "mllp-listen", listen = "127.0.0.1:{port}" }}
"""


async def hospital(address: Address) -> None:
    """Orders and patients that are taken, refused, and refused by the database."""

    def oml(kind: str, code: str, history: str = "", control: str = "NW") -> bytes:
        number, told = canary(), history or canary()
        placed = f"ORC|{control}|{number}|{canary()}\rOBR|1|{number}||{code}|||||||||{told}\rZOR|"
        return hl7(kind, canary(), canary()).replace(b"ORC|RE|", placed.encode())

    for block in (
        oml("OML^O21", "K"), oml("OML^O21", canary()), oml("OML^O21", "K", canary(POISON)), oml("ORM^O01", "K"),
        oml("OML^O33", "K"), oml("OML^O21", "K", control="CA"), oml("OML^O21", "K", control=canary()),
        hl7("ADT^A01", canary(), canary()), hl7("ADT^A40", canary(), canary()), hl7("ADT^A34", canary(), canary()),
        hl7("ADT^A08", canary(), canary()).replace(b"PID|1|", b"PID|1|\xff"),
    ):  # fmt: skip
        await send(address, block)


async def clients(daemon: Process, people: EmrAndStaff) -> None:
    api, staff, emr = daemon.api, people.staff, people.emr
    c = canary
    given = order()
    assert await ask(api, "POST", "/api/orders", staff, json=given) == 201
    assert await ask(api, "POST", "/api/orders", staff, json=given | {"priority": "stat"}) == 409
    assert await ask(api, "POST", "/api/orders", staff, json=order(placer_number=given["placer_number"])) == 409
    assert await ask(api, "POST", "/api/orders", staff, json=order(clinical_history=c(POISON))) == 500
    assert await ask(api, "POST", "/api/patients", staff, json=order()["patient"] | {"family": c(POISON)}) == 500
    assert await ask(api, "POST", "/api/orders", staff, json=order(**{c(): c(), "priority": c()})) == 422
    assert await ask(api, "POST", "/api/orders", staff, json=order(specimens=[{"barcode": c(), "tests": [c()]}])) == 422
    headers = {"Authorization": f"Bearer {staff}", "Content-Type": "application/json"}
    for body in (f'{{"family": "{c()}"', f'"{c()}"', f'{{"family": "{c()}\\ud800"}}'):
        async with aiohttp.ClientSession() as session:
            for path in ("/api/patients", "/api/login", "/oauth/token"):
                async with session.post(f"http://{api}{path}", data=body, headers=headers) as response:
                    assert 400 <= response.status < 500
    for path in (
        f"/api/patients?family={c()}&identifier={c()}", f"/api/patients?{c()}={c()}", f"/api/orders/{c()}",
        f"/api/orders?number={c()}", f"/api/results?barcode={c()}", f"/api/results?status={c()}",
        f"/api/results/{c()}", f"/{c()}", f"/api/{c()}/{c()}", f"/api/patients?cursor={c()}",
        f"/fhir/Patient?name={c()}",
        f"/fhir/Patient?{c()}={c()}", f"/fhir/Patient?birthdate={c()}", f"/fhir/Patient/{c()}", f"/fhir/{c()}",
        f"/fhir/Observation?code={c()}&subject=Patient/{c()}", f"/fhir/Patient?_cursor={c()}&name:{c()}=x",
        f"/fhir/ServiceRequest?identifier={c()}|{c()}", f"/fhir/Specimen?accession={c()}", f"/api/orders/{c()}%00%ff",
    ):  # fmt: skip
        for token in (staff, emr, c(), ""):
            assert await ask(api, "GET", path, token) < 500, path
    login = {"organization": "main", "username": c(), "password": c()}
    assert await ask(api, "POST", "/api/login", json=login) == 401
    assert await ask(api, "POST", "/api/login", json=login | {"organization": c()}) == 401
    form = {"grant_type": "client_credentials", "client_id": c(), "client_secret": c(), "scope": c()}
    assert await ask(api, "POST", "/oauth/token", data=form) == 401
    assert await ask(api, "POST", "/fhir/Patient/_search", emr, data={"family": c(), c(): c()}) == 200
    for request in ("GET /{} HTTP/9.9\r\n\r\n", "{} / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\n{}\r\n\r\n"):
        await send_raw(api, request.format(c()).encode())


async def command(daemon: Process, *arguments: str) -> tuple[int, bytes]:
    """`labora …` beside the daemon; its status and what it said on stderr, which a timer's journal would keep."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("labora")), "--config", str(daemon.config), *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LABORA_PASSWORD": "a long enough password 1"},
    )  # fmt: skip
    _, said = await process.communicate()
    return process.returncode or 0, said


async def commands(daemon: Process) -> bytes:
    c = canary
    said = b""
    for status, arguments in (
        (0, ("order", "create", "--as", "staff", "--test", "WBC", "--family", c(), "--identifier", f"{c()}|{c()}")),
        (1, ("order", "create", "--as", "staff", "--test", "WBC", "--family", c(), "--history", c(POISON))),
        (1, ("trace", c())),
        (0, ("result", "list", "--specimen", c(), "--test", c())),
    ):
        ended, words = await command(daemon, *arguments)
        assert ended == status, words
        said += words
    return said


async def poison(state_dir: Path) -> None:
    """From now on PostgreSQL refuses rows with the word, and says the whole row in the DETAIL of its error."""
    connection = await asyncpg.connect(EmbeddedPostgres(state_dir).url(OWNER_ROLE))
    try:
        for table, column in (
            ("lab_order", "clinical_history"),
            ("patient", "family"),
            ("result_version", "raw_value"),
        ):
            await connection.execute(
                f"alter table lab.{table} add constraint poison check ({column} not like '%{POISON}%') not valid"
            )
    finally:
        await connection.close()


def written(state_dir: Path, folder: Path) -> dict[str, bytes]:
    """Everything that the daemon and its PostgreSQL have written, but the database itself."""
    data = state_dir / "pg" / "data"
    files = [path for root in (state_dir, folder) for path in root.rglob("*") if data not in (path, *path.parents)]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


async def test_no_word_of_a_patient_is_in_any_log_or_metric(state_dir: Path, tmp_path: Path) -> None:
    _given.clear()
    daemon, [port] = Process(state_dir, tmp_path), free_ports(1)
    daemon.config.write_text(daemon.config.read_text() + HOSPITAL.format(port=port))
    async with daemon:
        people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR, Role.TECHNOLOGIST)
        await poison(state_dir)
        await analyzers(daemon)
        await hospital(Address("127.0.0.1", port))
        await clients(daemon, people)
        said = await commands(daemon)
        log = tmp_path / "log"

        async def parked() -> bool:
            return log.read_bytes().count(b"message.parked") >= 2

        await eventually(parked)
        pid = int((state_dir / "pg" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(
            send(daemon.hl7, hl7("ORU^R01", canary(), canary())),
            send(daemon.astm, astm(canary(), canary())),
            ask(daemon.api, "GET", f"/api/patients?family={canary()}", people.staff),
            ask(daemon.api, "POST", "/api/orders", people.staff, json=order()),
        )
        found = await people_see(daemon, people)
        metrics = (await get(daemon.api, "/metrics"))[1].encode()
        assert await daemon.end() == 0
    everything = {"metrics": metrics, "stderr of commands": said, **written(state_dir, tmp_path)}
    assert b"api.failed" in everything[str(log)] and b"request.fault" in everything[str(log)]
    assert b"message.failed" in everything[str(log)]
    assert b"Traceback" not in everything[str(log)]
    assert len(everything[str(state_dir / "pg" / "server.log")]) > 0
    assert any(word in found for word in _given), "the canaries did not get in"
    for word in (*_given, "19510317", "1951-03-17"):
        for name, text in everything.items():
            for form in (
                word,
                quote(word),
                word.lower(),
                word.encode().hex(),
                base64.b64encode(word.encode()).decode(),
            ):
                assert form.encode() not in text, f"{word} is in {name}"


async def people_see(daemon: Process, people: EmrAndStaff) -> str:
    """What staff see once the database is back."""

    async def results() -> Any:
        with suppress(AssertionError):
            return await people.results(2)

    return json.dumps(await eventually(results))
