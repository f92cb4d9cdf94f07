"""`labora message show --wire` and `labora link wire` against a real daemon: they print what was on the wire."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from interface import config
from interface.cli import link_wire, run_command
from interface.cli.laboratory import CommandError, desk
from interface.daemon import started
from interface.flow import passwords
from interface.flow.wire_log import INCOMPLETE
from interface.link.supervisor import LinkSpec, Supervisor
from interface.settings import Address
from interface.store.actors import insert_user
from interface.store.db import Database
from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import OWNER_ROLE
from interface.wire.frames import build_frame
from interface.wire.trace import unescape
from interface.wire.wirelog import Noted, What, decode
from tests.cluster import new_state_dir, with_database
from tests.e2e.daemon import PATIENCE_S, Process, eventually, settings
from tests.flow.laboratory import laboratory
from tests.link.bench import FakeClock

ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"
VT, FS = b"\x0b", b"\x1c\r"
PASSWORD = "correct horse battery"
Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
CONFIG = """
[database]
url = "{url}"
[[link]]
id = "astm"
organization = "main"
driver = "generic_lis2"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:1" }}
[[link]]
id = "hl7"
organization = "main"
driver = "generic_hl7"
transport = {{ type = "mllp-listen", listen = "127.0.0.1:2" }}
"""
LINE = re.compile(r"(?P<at>\S+Z)(?: (?P<peer>127\S+))? (?P<sign>[<>#]) (?P<text>.*)")


@dataclass(frozen=True, slots=True)
class Line:
    at: datetime
    sign: str
    text: str
    peer: str

    @property
    def data(self) -> bytes:
        return unescape(self.text)


@dataclass(slots=True)
class Printed:
    """What a command printed."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Line]:
        found = [LINE.fullmatch(line) for line in self.out.splitlines()]
        assert all(found), self.out
        return [
            Line(datetime.fromisoformat(one["at"]), one["sign"], one["text"], one["peer"] or "") for one in found if one
        ]

    @property
    def turns(self) -> list[tuple[str, bytes]]:
        turns: list[tuple[str, bytes]] = []
        for line in self.lines:
            if line.sign != "#":
                before = turns.pop()[1] if turns and turns[-1][0] == line.sign else b""
                turns.append((line.sign, before + line.data))
        return turns

    @property
    def notes(self) -> list[str]:
        return [line.text for line in self.lines if line.sign == "#"]


@dataclass(slots=True)
class Bench:
    owner: Owner
    url: str
    folder: Path
    astm: Address = field(default_factory=lambda: Address("", 0))
    hl7: Address = field(default_factory=lambda: Address("", 0))

    async def labora(self, *arguments: str) -> Printed:
        """The command, as the technologist vera."""
        process = await asyncio.to_thread(self._run, arguments)
        return process

    def _run(self, arguments: Sequence[str]) -> Printed:
        out, err = (TextIOWrapper(BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            status = run_command(["--config", str(self.folder / "config.toml"), *arguments])
        return Printed(status, *(said.buffer.getvalue().decode() for said in (out, err)))

    async def message_ids(self, control: str) -> list[str]:
        rows = await self.owner.fetch(
            "select id from lab.message where control_id = $1 and state <> 'receiving' order by id", control
        )
        return [str(row["id"]) for row in rows]

    async def shown(self, control: str, until: str, number: int = 1) -> Printed:
        """`message show --wire` of the last of `number` messages, once it says `until`."""

        async def probe() -> Printed | None:
            ids = await self.message_ids(control)
            if len(ids) < number:
                return None
            printed = await self.labora("message", "show", ids[number - 1], "--wire", "--as", "vera")
            assert printed.status == 0, printed.err
            return printed if until in printed.out else None

        return await eventually(probe)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedPostgres]:
    state_dir = new_state_dir()
    server = EmbeddedPostgres(state_dir)
    await server.start()
    yield server
    await server.stop()
    shutil.rmtree(state_dir, ignore_errors=True)


@pytest.fixture(scope="module")
async def bench(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    url = server.url(OWNER_ROLE)
    owner = await asyncpg.connect(url)
    made = Bench(owner, url, tmp_path_factory.mktemp("wire"))
    (made.folder / "config.toml").write_text(CONFIG.format(url=url))
    with pytest.MonkeyPatch.context() as environment:
        environment.setattr("interface.link.recorder.FLUSH_S", 0.1)  # who waits for the log here waits less
        environment.setattr("interface.store.wire_log.GATHER_S", 0.02)
        environment.setenv("LABORA_PASSWORD", PASSWORD)
        for name in ("LABORA_TOKEN", "LABORA_ORGANIZATION", "LABORA_CONFIG", "LABORA_DATABASE_URL"):
            environment.delenv(name, raising=False)
        async with started(settings(made.folder, url)) as daemon:
            made.astm, made.hl7 = daemon.links["astm"], daemon.links["hl7"]
            database = await Database.connect(url)
            organization_id = await database.find_organization("main")
            assert organization_id is not None
            async with database.transaction(organization_id) as connection:
                digest = await passwords.digest(PASSWORD)
                await insert_user(connection, organization_id, "vera", "", digest, ("technologist",))
            await database.close()
            yield made
    await owner.close()


_open: list[Analyzer] = []


@pytest.fixture(autouse=True)
async def hang_up() -> AsyncIterator[None]:
    """Close what a test, or its failure, left open."""
    yield
    while _open:
        _open.pop().writer.close()


class Analyzer:
    """The analyzer's end of a connection; it remembers all that was said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.turns: list[tuple[str, bytes]] = []
        host, port = writer.get_extra_info("sockname")
        self.name = f"{host}:{port}"

    @classmethod
    async def at(cls, address: Address) -> Analyzer:
        made = cls(*await asyncio.open_connection(address.host, address.port))
        _open.append(made)
        return made

    async def talk(self, *parts: tuple[bytes, bytes]) -> None:
        for said, answer in parts:
            self.writer.write(said)
            await self.writer.drain()
            async with asyncio.timeout(PATIENCE_S):
                heard = await self.reader.readexactly(len(answer))
            assert heard == answer
            self._note(">", said)
            self._note("<", heard)

    async def ask(self, said: bytes, replies: int) -> list[bytes]:
        """Send HL7 and read so many blocks, envelopes included."""
        self.writer.write(said)
        async with asyncio.timeout(PATIENCE_S):
            return [await self.reader.readuntil(FS) for _ in range(replies)]

    def _note(self, sign: str, data: bytes) -> None:
        if data:
            before = self.turns.pop()[1] if self.turns and self.turns[-1][0] == sign else b""
            self.turns.append((sign, before + data))

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


def frames(control: str, *more: bytes) -> list[bytes]:
    """The frames of a message that no other test sends."""
    records = [
        b"H|\\^&|%s||Testmaker^Bench^1||||||||LIS2-A2|20260102030405" % control.encode(), b"P|1||P-1",
        b"O|1|S-%s||^^^CBC|R" % control.encode(), *more, b"L|1|N",
    ]  # fmt: skip
    return [build_frame(number % 8, record + b"\r", True) for number, record in enumerate(records, 1)]


async def test_a_conversation_is_printed_byte_for_byte_both_ways_with_times(bench: Bench) -> None:
    """Noise, a wrong checksum, a lost ACK, a number used twice: with what was answered to each, and when."""
    h, p, o, end = frames("W1")
    other = build_frame(3, b"O|1|other\r", True)
    began = datetime.now(UTC)
    analyzer = await Analyzer.at(bench.astm)
    await analyzer.talk(
        (b"\xff~noise" + ENQ, ACK), (b"#\x00" + h, ACK), (p.replace(b"P|", b"P!"), NAK), (p, ACK), (p, ACK), (o, ACK),
        (other, NAK), (end, ACK), (EOT, b""),
    )  # fmt: skip
    printed = await bench.shown("W1", "session ended: eot")
    ended = datetime.now(UTC)
    await analyzer.close()
    assert printed.turns == analyzer.turns
    times = [line.at for line in printed.lines if line.sign != "#"]
    assert times == sorted(times)
    assert began <= times[0] and times[-1] <= ended
    assert len({at.microsecond for at in times}) > 3
    assert [note for note in printed.notes if "skipped" not in note] == [
        f"connected: {analyzer.name}", f"refused: checksum, {len(p)} bytes", "repeated: frame 2 once more",
        f"refused: same_fn, {len(other)} bytes", "session ended: eot",
    ]  # fmt: skip
    assert sum("refused: skipped" in note for note in printed.notes) == 2


async def test_the_same_as_json(bench: Bench) -> None:
    h, p, o, end = frames("W2")
    analyzer = await Analyzer.at(bench.astm)
    await analyzer.talk((ENQ, ACK), (h, ACK), (h, ACK), (p, ACK), (o, ACK), (end, ACK), (EOT, b""))
    await bench.shown("W2", "session ended: eot")
    await analyzer.close()
    (message_id,) = await bench.message_ids("W2")
    printed = await bench.labora("message", "show", message_id, "--wire", "--json", "--as", "vera")
    data: dict[str, Any] = json.loads(printed.out)
    lines = [one for one in data["wire"] if one["direction"]]
    assert data["logged"] is True
    assert [(one["frame"], one["again"]) for one in lines if one["frame"] is not None] == [
        (0, False), (0, True), (1, False), (2, False), (3, False)
    ]  # fmt: skip
    assert b"".join(unescape(one["wire"]) for one in lines if one["direction"] == ">") == b"".join(
        data for sign, data in analyzer.turns if sign == ">"
    )
    assert all(datetime.fromisoformat(one["at"]).tzinfo for one in data["wire"])


async def test_of_several_messages_in_a_session_each_has_its_own_part(bench: Bench) -> None:
    first, second = frames("W3"), frames("W4")
    analyzer = await Analyzer.at(bench.astm)
    renumbered = [build_frame((4 + at) % 8, one[2:-5], True) for at, one in enumerate(second, 1)]
    await analyzer.talk((ENQ, ACK), *((one, ACK) for one in first + renumbered), (EOT, b""))
    of_second = await bench.shown("W4", "session ended: eot")
    of_first = await bench.shown("W3", "L|1")
    await analyzer.close()
    assert of_first.turns == [(">", ENQ), ("<", ACK), *((s, d) for one in first for s, d in ((">", one), ("<", ACK)))]
    assert of_second.turns[:-1] == [(s, d) for one in renumbered for s, d in ((">", one), ("<", ACK))]
    assert of_second.turns[-1] == (">", EOT)


async def test_an_analyzer_that_waits_for_no_reply_is_shown_whole(bench: Bench) -> None:
    parts = frames("W5")
    analyzer = await Analyzer.at(bench.astm)
    await analyzer.talk((ENQ + b"".join(parts) + EOT, ACK * 5))
    printed = await bench.shown("W5", "session ended: eot")
    await analyzer.close()
    for sign in "<>":
        assert b"".join(data for one, data in printed.turns if one == sign) == b"".join(
            data for one, data in analyzer.turns if one == sign
        )


HL7 = b"MSH|^~\\&|BENCH|LAB|L|LAB|20260102||%s|%s|P|2.5.1\rPID|1\rOBR|1||S-W|CBC\rOBX|1|NM|1^K||4|m||N|||F\r"


async def test_hl7_blocks_are_shown_each_with_its_acknowledgement(bench: Bench) -> None:
    types = [b"ORU^R01^ORU_R01", b"ADT^A01", b"ORU^R01^ORU_R01"]
    blocks = [VT + HL7 % (kind, b"V%d" % number) + FS for number, kind in enumerate(types)]
    analyzer = await Analyzer.at(bench.hl7)
    replies = await analyzer.ask(b"~" + b"".join(blocks), 3)
    for number, (block, reply) in enumerate(zip(blocks, replies, strict=True)):
        printed = await bench.shown(f"V{number}", f"|V{number}", 1)
        printed = await bench.shown(f"V{number}", "<VT>MSH|^~\\&|L|LAB|")
        assert printed.turns == [(">", block), ("<", reply)]
        assert printed.lines[0].at < printed.lines[-1].at
    await analyzer.close()


async def test_a_resend_is_shown_with_its_own_acknowledgement(bench: Bench) -> None:
    block = VT + HL7 % (b"ORU^R01^ORU_R01", b"R1") + FS
    analyzer = await Analyzer.at(bench.hl7)
    (first,) = await analyzer.ask(block, 1)
    (second,) = await analyzer.ask(block, 1)
    assert first != second, "each acknowledgement has an id of its own"
    assert (await bench.shown("R1", "MSA", 1)).turns == [(">", block), ("<", first)]
    assert (await bench.shown("R1", "MSA", 2)).turns == [(">", block), ("<", second)]
    await analyzer.close()


async def test_a_message_whose_log_is_gone_still_shows_its_frames(bench: Bench) -> None:
    parts = frames("W6")
    analyzer = await Analyzer.at(bench.astm)
    await analyzer.talk((ENQ, ACK), *((one, ACK) for one in parts), (EOT, b""))
    await bench.shown("W6", "session ended: eot")
    await analyzer.close()
    await bench.owner.execute("delete from lab.wire_log where peer = $1", analyzer.name)
    printed = await bench.shown("W6", "L|1")
    assert [line.data for line in printed.lines] == parts
    assert "its frames alone" in printed.err


async def test_frames_that_the_log_lacks_are_put_where_they_belong(bench: Bench) -> None:
    """A kill costs the log its last seconds, and no frame."""
    parts = frames("W7", *(b"C|%d|I|x|G" % number for number in range(4)))
    analyzer = await Analyzer.at(bench.astm)
    await analyzer.talk((ENQ, ACK), *((one, ACK) for one in parts[:3]))

    async def logged() -> bool:
        return bool(await bench.owner.fetchval("select count(*) from lab.wire_log where peer = $1", analyzer.name))

    await eventually(logged)
    await analyzer.talk(*((one, ACK) for one in parts[3:]), (EOT, b""))
    await bench.shown("W7", "session ended: eot")
    await analyzer.close()
    await bench.owner.execute(
        "delete from lab.wire_log where id in (select id from lab.wire_log where peer = $1 order by id offset 1)",
        analyzer.name,
    )
    printed = await bench.shown("W7", "L|1")
    assert [line.data for line in printed.lines if line.sign == ">" and len(line.data) > 1] == parts


async def test_what_made_no_message_is_shown_by_link_and_audited(bench: Bench) -> None:
    analyzer = await Analyzer.at(bench.astm)
    await analyzer.talk((b"\x01\x02garbage" + ENQ + EOT, ACK), (ENQ, ACK), (EOT, b""))
    await analyzer.close()

    async def probe() -> Printed | None:
        printed = await bench.labora("link", "wire", "astm", "--as", "vera", "--limit", "10000")
        return printed if f"{analyzer.name} # disconnected" in printed.out else None

    printed = await eventually(probe)
    mine = Printed(0, "\n".join(line for line in printed.out.splitlines() if f" {analyzer.name} " in line), "")
    assert b"".join(data for sign, data in mine.turns if sign == ">") == b"\x01\x02garbage" + ENQ + EOT + ENQ + EOT
    assert b"".join(data for sign, data in mine.turns if sign == "<") == ACK + ACK
    assert mine.notes[0] == f"connected: {analyzer.name}"
    audited = "select count(*) from lab.audit_event where action = 'read_payload' and entity_kind = 'link'"
    assert await bench.owner.fetchval(audited + " and actor_name = 'vera'") > 0
    later = await bench.labora("link", "wire", "hl7", "--since", "2100-01-01", "--as", "vera")
    assert (later.out.strip(), "nothing in the log" in later.err) == ("", True)
    limited = await bench.labora("link", "wire", "astm", "--as", "vera", "--limit", "2", "--json")
    assert len(json.loads(limited.out)) == 2


async def test_what_is_said_from_now_on_is_followed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_wire, "FOLLOW_S", 0.02)
    row = await bench.owner.fetchrow(
        "select l.id, (select w.id from lab.wire_log w where w.link_id = l.id order by w.id desc limit 1)"
        " from lab.link l where l.name = 'astm'"
    )
    assert row is not None
    said = b""
    async with desk(config.load(bench.folder / "config.toml"), "main", "vera", named=True) as at:
        analyzer = await Analyzer.at(bench.astm)
        await analyzer.talk((b"first" + ENQ + EOT, ACK))
        async with asyncio.timeout(PATIENCE_S), aclosing(link_wire._following(at, *row)) as following:
            async for lines in following:
                mine = [line for line in lines if line.peer == analyzer.name]
                said += b"".join(line.data for line in mine if line.direction == ">")
                if said == b"first" + ENQ + EOT:
                    await analyzer.talk((b"second" + ENQ + EOT, ACK))
                elif said:
                    break
    assert said == b"first" + ENQ + EOT + b"second" + ENQ + EOT


async def test_who_is_disabled_follows_no_further_and_what_was_followed_is_audited(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_wire, "FOLLOW_S", 0.02)
    query = "select l.id, max(w.id::text)::uuid from lab.link l left join lab.wire_log w on w.link_id = l.id"
    row = await bench.owner.fetchrow(query + " where l.name = 'astm' group by l.id")
    assert row is not None
    await bench.owner.execute(
        "insert into lab.app_user (id, organization_id, username, password_hash, roles) select gen_random_uuid(),"
        " u.organization_id, 'kay', password_hash, roles from lab.app_user u join lab.organization o"
        " on o.id = u.organization_id where username = 'vera' and o.name = 'main'"
    )
    async with desk(config.load(bench.folder / "config.toml"), "main", "kay", named=True) as at:
        analyzer = await Analyzer.at(bench.astm)
        await analyzer.talk((b"first" + ENQ + EOT, ACK))
        async with asyncio.timeout(PATIENCE_S), aclosing(link_wire._following(at, *row)) as following:
            await anext(following)
            read = "select count(*) from lab.audit_event where action = 'read_payload' and actor_name = 'kay'"
            assert await bench.owner.fetchval(read) == 1
            await bench.owner.execute("update lab.app_user set disabled_at = now() where username = 'kay'")
            await analyzer.talk((b"second" + ENQ + EOT, ACK))
            with pytest.raises(CommandError, match="has been disabled"):
                await anext(following)


async def test_it_is_for_a_user_and_of_the_users_laboratory_only(bench: Bench) -> None:
    assert (await bench.labora("link", "wire", "astm")).status == 2
    assert (await bench.labora("message", "show", "--wire", "01890000-0000-7000-8000-000000000000")).status == 2
    missing = await bench.labora("link", "wire", "nowhere", "--as", "vera")
    assert (missing.status, missing.out) == (1, "")
    database = await Database.connect(bench.url)
    other = await bench.owner.fetchval(
        "insert into lab.organization (id, name) values (gen_random_uuid(), 'elsewhere') returning id"
    )
    async with database.transaction(other) as connection:
        await insert_user(connection, other, "vera", "", await passwords.digest(PASSWORD), ("technologist",))
    await database.close()
    analyzer = await Analyzer.at(bench.astm)
    await analyzer.talk((ENQ, ACK), *((one, ACK) for one in frames("W8")), (EOT, b""))
    await analyzer.close()
    await bench.shown("W8", "session ended: eot")
    (message_id,) = await bench.message_ids("W8")
    for command in (("message", "show", message_id, "--wire"), ("link", "wire", "astm")):
        refused = await bench.labora(*command, "--as", "vera", "--organization", "elsewhere")
        assert (refused.status, refused.out) == (1, ""), refused.out


# ---- cut transmissions are kept as incomplete, with the reason


async def _cut(bench: Bench, reason: str, control: str) -> list[bytes]:
    """Cut a message for a reason; the frames of it that were acknowledged."""
    h, p, o, _ = frames(control)
    analyzer = await Analyzer.at(bench.astm)
    await analyzer.talk((ENQ, ACK), (h, ACK), (p, ACK))
    if reason == "eot":
        await analyzer.talk((EOT, b""))
    elif reason == "aborted":
        await analyzer.talk((o.replace(b"O|", b"O!"), NAK), (EOT, b""))
    elif reason == "enq":
        await analyzer.talk((ENQ, ACK))
    elif reason == "header":
        await analyzer.talk((build_frame(3, b"H|\\^&|next||Testmaker\r", True), ACK))
    elif reason == "lost":
        analyzer.writer.write(o[:7])
        await analyzer.close()
    return [h, p]


@pytest.mark.parametrize("reason", ["eot", "aborted", "enq", "header", "lost"])
async def test_a_cut_transmission_is_kept_incomplete_with_the_reason(bench: Bench, reason: str) -> None:
    control = f"cut-{reason}"
    parts = await _cut(bench, reason, control)
    printed = await bench.shown(control, f"incomplete: {reason}, {INCOMPLETE[reason]}")
    said = [line.data for line in printed.lines if line.sign == ">"]
    assert [one for one in said if one in parts] == parts
    listed = await bench.labora("message", "list", "--control-id", control, "--json")
    (line,) = json.loads(listed.out)
    assert (line["state"], line["reason"]) == ("incomplete", reason)
    assert f"reason={reason}" in printed.err


def test_every_reason_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    for reason in INCOMPLETE:
        assert f"| `{reason}` |" in text, reason


async def test_a_line_that_falls_silent_is_cut_after_the_standards_30_s(founded_url: str) -> None:
    """LIS01-A2 6.5.2; the link's clock is turned by hand, all else is real."""
    clock = FakeClock()
    async with laboratory(founded_url) as lab:
        supervisor = Supervisor([LinkSpec(lab.context.settings, lab.intake)], clock)
        await supervisor.start()
        analyzer = await Analyzer.at(supervisor.address(lab.context.name))
        await analyzer.talk((ENQ, ACK), (frames("silent")[0], ACK))
        await clock.advance(29.9)
        assert await lab.messages() == [("receiving", None)]
        await clock.advance(0.2)

        async def sealed() -> bool:
            return bool(await lab.owner.fetchval("select state <> 'receiving' from lab.message"))

        await eventually(sealed)
        await supervisor.stop(0.0)
        row = await lab.owner.fetchrow("select state, reason, control_id from lab.message")
    assert row is not None and tuple(row) == ("incomplete", "timeout", "silent")


async def test_a_stop_of_the_daemon_cuts_what_does_not_end_in_time(server: EmbeddedPostgres, bench: Bench) -> None:
    folder = bench.folder / "stopped"
    folder.mkdir()
    url = await _another_database(server)
    chosen = settings(folder, url)
    async with started(replace(chosen, limits=replace(chosen.limits, drain_s=0.2))) as daemon:
        analyzer = await Analyzer.at(daemon.links["astm"])
        await analyzer.talk((ENQ, ACK), (frames("stop")[0], ACK))
    owner = await asyncpg.connect(url)
    row = await owner.fetchrow("select state, reason from lab.message")
    notes = await owner.fetchval("select count(*) from lab.wire_log")
    await owner.close()
    assert row is not None and tuple(row) == ("incomplete", "stop")
    assert notes > 0, "what was heard last is written before the end"
    await analyzer.close()


async def _another_database(server: EmbeddedPostgres) -> str:
    name = f"another_{uuid4().hex}"
    owner = await asyncpg.connect(server.url(OWNER_ROLE))
    await owner.execute(f"create database {name}")
    await owner.close()
    return with_database(server.url(OWNER_ROLE), name, OWNER_ROLE)


async def test_a_flood_fills_no_disk_and_keeps_no_message_out(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times the bound in refused frames; even were all of it to be logged, the bound holds."""
    monkeypatch.setattr("interface.link.recorder.ALLOWANCE_BYTES", 1 << 30)
    monkeypatch.setattr("interface.store.upkeep.PRUNE_PAUSE_S", 0.1)
    url = await _another_database(server)
    chosen = settings(tmp_path, url)
    small = replace(chosen, links=tuple(replace(link, wire_log_mb=1) for link in chosen.links))
    refused = b"\x021" + b"x" * 4000 + b"\r\x03FF\r\n"
    async with started(small) as daemon:
        owner = await asyncpg.connect(url)

        async def flood() -> None:
            analyzer = await Analyzer.at(daemon.links["astm"])
            await analyzer.talk((ENQ, ACK), *((refused * 15, NAK * 15),) * 13)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(flood())
        parts = frames("healthy")
        healthy = await Analyzer.at(daemon.links["astm"])
        await healthy.talk((ENQ, ACK), *((one, ACK) for one in parts), (EOT, b""))

        async def pruned() -> bool:
            size = await owner.fetchval("select sum(bytes) from lab.wire_log")
            assert size is None or size <= 1.25 * (1 << 20)
            return bool(size and size <= 1 << 20)

        await eventually(pruned)
        rows = await owner.fetch("select events from lab.wire_log")
        events = [event for row in rows for event in decode(row["events"])]
        assert sum(event.count for event in events if isinstance(event, Noted) and event.what is What.MISSING) > 0
        assert await owner.fetchval("select state from lab.message") == "complete"
        await owner.close()


async def test_kill_9_costs_no_frame_that_was_acknowledged(state_dir: Path, tmp_path: Path) -> None:
    """The log's last second may be gone; the message is there, incomplete, and its frames are shown."""
    parts = frames("killed")
    async with Process(state_dir, tmp_path) as daemon:
        analyzer = await Analyzer.at(daemon.astm)
        await analyzer.talk((ENQ, ACK), *((one, ACK) for one in parts[:-1]))
        await daemon.end(signal.SIGKILL)
        await daemon.start()
        server = EmbeddedPostgres(state_dir)
        owner = await asyncpg.connect(server.url(OWNER_ROLE))
        row = await owner.fetchrow("select id, state, reason from lab.message")
        assert row is not None and tuple(row)[1:] == ("incomplete", "restart")
        stored = await owner.fetch("select bytes from lab.frame order by id")
        assert [one["bytes"] for one in stored] == parts[:-1]
        await owner.close()
