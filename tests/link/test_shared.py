"""Links that share a port: each message goes to the one its header names, or to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeGuard
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from interface.errors import StoreUnavailable
from interface.link.intake import Receipt
from interface.link.shared import Sender, SharedPort, fits, lis2_sender
from interface.link.supervisor import LinkSpec, LinkState, Supervisor
from interface.link.tcp import TcpStream, connect
from interface.settings import Address, Match, Transport, TransportType
from interface.wire.lis01 import build_frame
from interface.wire.mllp import encode
from interface.wire.wirelog import Came, Left, Noted, decode
from tests.e2e.daemon import free_ports
from tests.link.bench import ACK, ENQ, EOT, NAK, PATIENCE_S, Analyzer, FakeClock, RecordingIntake, settings, settle
from tests.link.speaking import Saying, sending

XN, CA = b"H|\\^&|||XN-10^01^123\r", b"H|\\^&|||CA-600^02\r"
L = b"L|1|N\r"
XN_ONLY, CA_ONLY = Match("^XN-"), Match("^CA-")
Logs = list[MutableMapping[str, Any]]


def is_bytes(part: bytes | str) -> TypeGuard[bytes]:
    return isinstance(part, bytes)


def frames(*texts: bytes) -> list[bytes]:
    return [build_frame(number, text, True) for number, text in enumerate(texts, start=1)]


async def session(analyzer: Analyzer, *texts: bytes) -> None:
    await analyzer.talk((ENQ, ACK), *((frame, ACK) for frame in frames(*texts)), (EOT, b""))


class Log:
    """A wire log that remembers whether it was given anything."""

    def __init__(self) -> None:
        self.pieces = list[bytes]()

    def keep(self, connection_id: UUID, peer: str, began_at: datetime, ended_at: datetime, events: bytes) -> bool:
        self.pieces.append(events)
        return True


class Port:
    """Two links, `xn` and `ca`, on one port."""

    def __init__(
        self, kind: TransportType, xn: Match, ca: Match, organizations: tuple[str, str], intake: type[RecordingIntake]
    ) -> None:
        self.xn, self.ca, self.clock = intake(), intake(), FakeClock()
        self.logs = {"xn": Log(), "ca": Log()}
        transport = Transport(kind, Address("127.0.0.1", free_ports(1)[0]))
        self.specs = [
            LinkSpec(
                replace(settings(kind, id=name, match=match, organization=organization), transport=transport),
                intake,
                wire_log=self.logs[name],
            )
            for name, match, intake, organization in (
                ("xn", xn, self.xn, organizations[0]),
                ("ca", ca, self.ca, organizations[1]),
            )
        ]
        self.supervisor = Supervisor(clock=self.clock)

    async def analyzer(self) -> Analyzer:
        return Analyzer(await connect(self.supervisor.address("xn")))

    @property
    def port(self) -> SharedPort:
        [port] = self.supervisor._links.values()
        assert isinstance(port, SharedPort)
        return port

    def texts(self) -> tuple[list[bytes], list[bytes]]:
        return [frame.text for frame in self.xn.stored], [frame.text for frame in self.ca.stored]


@asynccontextmanager
async def port(
    kind: TransportType = TransportType.TCP_LISTEN, xn: Match = XN_ONLY, ca: Match = CA_ONLY,
    organizations: tuple[str, str] = ("main", "main"), intake: type[RecordingIntake] = RecordingIntake,
) -> AsyncIterator[Port]:  # fmt: skip
    made = Port(kind, xn, ca, organizations, intake)
    await made.supervisor.start(made.specs)
    yield made
    await made.supervisor.stop(0.0)


@pytest.fixture
async def astm() -> AsyncIterator[Port]:
    async with port() as made:
        yield made


@pytest.fixture
async def hl7() -> AsyncIterator[Port]:
    async with port(TransportType.MLLP_LISTEN, Match("^XN$"), Match("^CA$", "^LAB")) as made:
        yield made


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as logs:
        yield logs


async def test_a_session_belongs_to_the_link_its_header_names(astm: Port) -> None:
    one, other = await astm.analyzer(), await astm.analyzer()
    await session(one, XN, L)
    await session(other, CA, L)
    await session(one, CA, L)  # the same connection, another instrument behind it
    await settle()
    assert astm.texts() == ([XN, L], [CA, L] * 2)
    assert (astm.xn.ends, astm.ca.ends) == (["eot"], ["eot"] * 2)
    assert [sent for _, sent in astm.ca.replies] == [True, True]
    status = {status.id: status for status in astm.supervisor.statuses()}
    assert list(status) == ["xn", "ca"]
    assert (status["xn"].frames, status["xn"].messages) == (2, 1)
    assert (status["ca"].frames, status["ca"].messages) == (4, 2)
    assert status["xn"].address == status["ca"].address == str(astm.supervisor.address("ca"))
    await one.stream.close()
    await other.stream.close()


async def test_the_connection_is_shown_at_the_link_whose_session_it_is(astm: Port) -> None:
    analyzer = await astm.analyzer()
    await analyzer.talk((ENQ, ACK), (frames(CA)[0], ACK))
    assert {status.id: status.connections for status in astm.supervisor.statuses()} == {"xn": 0, "ca": 1}
    await analyzer.stream.close()


@pytest.mark.parametrize(
    ("header", "reason"),
    [(b"H|\\^&|||Unheard^of\r", "none"), (b"H|\\^&\r", "none"), (b"R|1|^^^GLU|5\r", "header"), (b"X\r", "header")],
)
async def test_what_no_link_is_for_is_refused_unstored(astm: Port, logs: Logs, header: bytes, reason: str) -> None:
    analyzer = await astm.analyzer()
    frame = frames(header)[0]
    await analyzer.talk((ENQ, ACK), (frame, NAK), (frame, NAK), (EOT, b""))
    await session(analyzer, XN, L)
    assert astm.texts() == ([XN, L], [])
    told = [line for line in logs if line.get("action") == "link.not_attributed"]
    assert [line["reason"] for line in told] == [reason]
    assert "Unheard" not in str(logs)
    assert astm.port.counters.rejected == 2
    await analyzer.stream.close()


async def test_what_two_links_are_for_is_refused_unstored() -> None:
    async with port(xn=Match("XN"), ca=Match("10")) as made:
        analyzer = await made.analyzer()
        await analyzer.talk((ENQ, ACK), (frames(XN)[0], NAK), (EOT, b""))
        assert made.texts() == ([], [])
        await session(analyzer, XN.replace(b"10", b"20"), L)
        await analyzer.stream.close()


async def test_a_frame_must_hold_the_whole_sender(astm: Port) -> None:
    """ASTM has no way to hold an ACK back until the next frame, so what cannot be attributed yet is refused."""
    analyzer = await astm.analyzer()
    await analyzer.talk((ENQ, ACK), (build_frame(1, XN[:12], False), NAK), (EOT, b""))
    assert astm.texts() == ([], [])
    cut = XN.index(b"123") + 3
    whole = XN[:cut] + b"|||more"
    await analyzer.talk((ENQ, ACK), (build_frame(1, whole[: cut + 1], False), ACK))
    await analyzer.talk((build_frame(2, whole[cut + 1 :] + b"\r" + L, True), ACK), (EOT, b""))
    assert b"".join(astm.texts()[0]) == whole + b"\r" + L
    await analyzer.stream.close()


async def test_messages_of_one_session_may_be_of_several_links(astm: Port) -> None:
    analyzer = await astm.analyzer()
    await session(analyzer, XN, L, CA, L)
    await settle()
    assert astm.texts() == ([XN, L], [CA, L])
    await analyzer.talk((ENQ, ACK), (build_frame(1, XN + L + CA + L, True), NAK), (EOT, b""))  # but not of one frame
    await analyzer.talk((ENQ, ACK), (build_frame(1, XN + L + XN + L, True), ACK), (EOT, b""))
    assert astm.texts() == ([XN, L, XN + L + XN + L], [CA, L])
    await analyzer.stream.close()


async def test_a_message_that_another_links_header_cuts_off_is_ended(astm: Port) -> None:
    analyzer = await astm.analyzer()
    await session(analyzer, XN, CA, L)
    await settle()
    assert astm.texts() == ([XN], [CA, L])
    assert (astm.xn.ends, astm.ca.ends) == (["header"], ["eot"])
    await analyzer.stream.close()


async def test_a_refused_frame_is_attributed_again(astm: Port) -> None:
    astm.xn.failures = [StoreUnavailable("down")]
    analyzer = await astm.analyzer()
    one, two = frames(XN, L)
    await analyzer.talk((ENQ, ACK), (one, NAK), (one, ACK), (two, ACK), (EOT, b""))
    assert astm.texts() == ([XN, L], [])
    await analyzer.stream.close()


async def test_the_line_is_taken_while_any_link_of_the_port_can_store(astm: Port) -> None:
    analyzer = await astm.analyzer()
    astm.xn.ready = False
    await session(analyzer, CA, L)
    await settle()
    astm.ca.ready = False
    await analyzer.talk((ENQ, NAK))
    await analyzer.stream.close()


async def test_links_may_be_told_apart_by_the_address_they_send_from() -> None:
    async with port(xn=Match(peer="127.0.0.1/32"), ca=Match(peer="127.0.0.2/32")) as made:
        address = made.supervisor.address("xn")
        reader, writer = await asyncio.open_connection(address.host, address.port, local_addr=("127.0.0.2", 0))
        for said in (ENQ, *frames(XN, L)):
            writer.write(said)
            assert await asyncio.wait_for(reader.read(1), PATIENCE_S) == ACK
        writer.close()
        analyzer = await made.analyzer()
        await session(analyzer, CA, L)
        assert made.texts() == ([CA, L], [XN, L])
        await analyzer.stream.close()


def message(sender: bytes, facility: bytes = b"", number: int = 1) -> bytes:
    return b"MSH|^~\\&|%s|%s|||20260102030405||ORU^R01|%d|P|2.5.1\rPID|1||Secret\r" % (sender, facility, number)


async def test_each_hl7_message_belongs_to_the_link_its_header_names(hl7: Port) -> None:
    analyzer = await hl7.analyzer()
    one, two, three = message(b"XN"), message(b"CA", b"LAB7", 2), message(b"XN", number=3)
    await analyzer.send(encode(one) + encode(two) + encode(three))
    await analyzer.expect(b"".join(encode(b"AA " + block) for block in (one, two, three)))
    assert (hl7.xn.blocks, hl7.ca.blocks) == ([one, three], [two])
    await settle()
    assert ([sent for _, sent in hl7.xn.replies], [sent for _, sent in hl7.ca.replies]) == ([True, True], [True])
    assert {status.id: status.messages for status in hl7.supervisor.statuses()} == {"xn": 2, "ca": 1}
    await analyzer.stream.close()


@pytest.mark.parametrize("block", [message(b"XM"), message(b"CA", b"WARD"), b"PID|1||Secret\r", b"\x00"])
async def test_an_hl7_message_that_no_link_is_for_is_rejected_unstored(hl7: Port, logs: Logs, block: bytes) -> None:
    analyzer = await hl7.analyzer()
    await analyzer.send(encode(block))
    async with asyncio.timeout(PATIENCE_S):
        answer = await analyzer.stream.read()
    assert b"\rMSA|AR|" in answer
    assert b"MSH^1^3" in answer
    assert b"|204^" in answer
    assert (hl7.xn.blocks, hl7.ca.blocks) == ([], [])
    assert "Secret" not in str(logs)
    await analyzer.talk((encode(message(b"XN")), encode(b"AA " + message(b"XN"))))
    await analyzer.stream.close()


async def test_the_wire_log_is_the_links_own(astm: Port) -> None:
    analyzer = await astm.analyzer()
    await analyzer.talk((ENQ, ACK), (frames(CA)[0], ACK))
    await analyzer.stream.close()
    await asyncio.wait_for(astm.ca.ended.wait(), PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        while not astm.logs["ca"].pieces:
            await settle()
    assert astm.logs["xn"].pieces == []


LABORATORIES = ("main", "branch")


def said(log: Log) -> list[bytes | str]:
    """What a log has: bytes that came, `>` and bytes that left, words of the rest."""
    events = [event for piece in log.pieces for event in decode(piece)]
    return [
        event.data if isinstance(event, Came) else b">" + event.data if isinstance(event, Left) else event.what.value
        for event in events
        if isinstance(event, Came | Left | Noted)
    ]


async def over(made: Port, analyzer: Analyzer) -> None:
    """The connection's end, and that of its logs."""
    await analyzer.stream.close()
    async with asyncio.timeout(PATIENCE_S):
        while made.port.sessions:
            await settle()


def whole(*texts: bytes) -> list[bytes | str]:
    """What the log says of a session of these frames."""
    acked = [part for frame in frames(*texts) for part in (frame, b">" + ACK)]
    return [ENQ, b">" + ACK, *acked, EOT, "ended"]


async def test_sessions_of_two_laboratories_are_each_in_the_log_of_their_own() -> None:
    async with port(organizations=LABORATORIES) as made:
        analyzer = await made.analyzer()
        for header in (XN, CA, XN, CA):
            await session(analyzer, header, L)
        await over(made, analyzer)
        assert said(made.logs["xn"]) == ["opened", *whole(XN, L), *whole(XN, L), "closed"]
        assert said(made.logs["ca"]) == ["opened", *whole(CA, L), *whole(CA, L), "closed"]


async def test_a_session_of_two_laboratories_is_told_apart_in_their_logs() -> None:
    async with port(organizations=LABORATORIES) as made:
        analyzer = await made.analyzer()
        await session(analyzer, XN, L, CA, L)
        await over(made, analyzer)
        xn, ca = b"".join(filter(is_bytes, said(made.logs["xn"]))), b"".join(filter(is_bytes, said(made.logs["ca"])))
        assert (XN in xn, CA in xn) == (True, False)
        assert (XN in ca, CA in ca) == (False, True)


@pytest.mark.parametrize("glued", [False, True])
async def test_what_is_nobodys_is_in_no_laboratorys_log(glued: bool) -> None:
    """Damaged, refused and stray bytes are counted where a session is attributed, and nowhere else."""
    bad = frames(CA)[0].replace(b"CA-600", b"CA-666")
    async with port(organizations=LABORATORIES) as made:
        analyzer = await made.analyzer()
        one, two = frames(XN, L)
        await analyzer.talk((ENQ, ACK), (one, ACK), (bad, NAK), (two, ACK))
        if glued:  # the next session's begin in one piece with this one's end
            await analyzer.talk((EOT + ENQ, ACK), (bad, NAK), (frames(CA)[0], ACK))
        else:
            await analyzer.talk((EOT, b""), (ENQ, ACK), (bad, NAK), (frames(CA)[0], ACK))
        await analyzer.talk((frames(CA, L)[1], ACK), (EOT, b""))
        await analyzer.talk((ENQ, ACK), (frames(b"H|\\^&|||Unheard^of\r")[0], NAK), (EOT, b""), (b"stray", b""))
        await over(made, analyzer)
        logs = [said(made.logs[name]) for name in ("xn", "ca")]
        assert [part for part in logs[0] if is_bytes(part)] == [
            ENQ, b">" + ACK, one, b">" + ACK, b">" + NAK, two, b">" + ACK, EOT,
        ]  # fmt: skip
        assert "refused" in logs[0]
        for log, other in zip(logs, (b"CA-6", b"XN"), strict=True):
            text = b"".join(filter(is_bytes, log))
            assert not any(bytes_ in text for bytes_ in (other, b"CA-666", b"Unheard", b"stray"))
        assert made.ca.stored[0].raw in logs[1]


async def test_messages_of_two_laboratories_on_one_connection_are_each_in_their_own_log() -> None:
    made_port = port(TransportType.MLLP_LISTEN, Match("^XN$"), Match("^CA$"), organizations=LABORATORIES)
    async with made_port as made:
        analyzer = await made.analyzer()
        blocks = [message((b"XN", b"CA")[number % 2], number=number) for number in range(4)]
        stranger = message(b"Unheard", number=9)
        await analyzer.send(b"".join(map(encode, blocks)))  # all in one piece, and so are the replies
        await analyzer.expect(b"".join(encode(b"AA " + block) for block in blocks))
        await analyzer.send(b"stray" + encode(stranger))
        async with asyncio.timeout(PATIENCE_S):
            assert b"MSA|AR" in await analyzer.stream.read()
        await over(made, analyzer)
        for name, mine in (("xn", blocks[::2]), ("ca", blocks[1::2])):
            log = said(made.logs[name])
            assert b"".join(filter(is_bytes, log)) == b"".join(mine)
            assert (log[0], log[-1]) == ("opened", "closed")


class Naming(RecordingIntake):
    """Names the row of each block, as the journal does, so that its reply is known."""

    async def block(self, block: bytes, peer: str) -> Receipt:
        return (await super().block(block, peer))._replace(frames=(uuid4(),))


async def test_a_reply_is_in_the_log_of_the_laboratory_whose_message_it_answers() -> None:
    clients = (Match("^XN$"), Match("^CA$"))
    async with port(TransportType.MLLP_LISTEN, *clients, organizations=LABORATORIES, intake=Naming) as made:
        analyzer = await made.analyzer()
        blocks = [message((b"XN", b"CA")[number % 2], number=number) for number in range(4)]
        await analyzer.send(b"".join(map(encode, blocks)))
        await analyzer.expect(b"".join(encode(b"AA " + block) for block in blocks))
        await over(made, analyzer)
        for name, mine in (("xn", blocks[::2]), ("ca", blocks[1::2])):
            left = [part for part in said(made.logs[name]) if is_bytes(part)]
            assert left == [b">" + encode(b"AA " + block) for block in mine]  # the messages are named


async def test_the_whole_of_a_connection_is_logged_only_while_one_laboratory_has_the_port(astm: Port) -> None:
    analyzer = await astm.analyzer()
    await session(analyzer, XN, L)
    await settle()
    branch = replace(astm.specs[1], settings=replace(astm.specs[1].settings, organization="branch"))
    changes = await astm.supervisor.apply([astm.specs[0], branch], 0.0)
    assert changes.changed == ("ca",)
    await analyzer.expect_end()
    assert said(astm.logs["ca"]) == []
    await analyzer.stream.close()


async def test_links_come_and_go_on_a_port_that_stays(astm: Port) -> None:
    kept, gone, silent = [await astm.analyzer() for _ in range(3)]
    await kept.talk((ENQ, ACK), (frames(XN)[0], ACK))
    await gone.talk((ENQ, ACK), (frames(CA)[0], ACK))
    await silent.talk((ENQ, ACK), (EOT, b""))
    third = LinkSpec(replace(astm.specs[0].settings, id="third", match=Match("^Third")), RecordingIntake())
    changes = await astm.supervisor.apply([astm.specs[0], third], 0.0)
    assert (changes.added, changes.changed, changes.removed) == (("third",), (), ("ca",))
    assert [status.id for status in astm.supervisor.statuses()] == ["xn", "third"]
    await kept.talk((frames(XN, L)[1], ACK), (EOT, b""))
    await gone.talk((frames(CA, L)[1], ACK), (EOT, b""))  # what it had begun it may end
    await gone.expect_end()
    assert astm.texts() == ([XN, L], [CA, L])
    await session(silent, b"H|\\^&|||Third\r", L)
    for analyzer in (kept, gone, silent):
        await analyzer.stream.close()


async def test_a_port_whose_listener_must_differ_is_opened_anew(astm: Port) -> None:
    analyzer = await astm.analyzer()
    await analyzer.talk((ENQ, ACK), (EOT, b""))
    specs = [replace(spec, settings=replace(spec.settings, max_connections=1)) for spec in astm.specs]
    changes = await astm.supervisor.apply(specs, 0.0)
    assert changes.changed == ("xn", "ca")
    await analyzer.expect_end()
    await analyzer.stream.close()
    again = await astm.analyzer()
    await session(again, XN, L)
    await again.stream.close()


async def test_a_link_with_a_match_of_its_own_takes_nothing_else() -> None:
    intake = RecordingIntake()
    supervisor = Supervisor([LinkSpec(settings(match=Match("^XN-")), intake)])
    await supervisor.start()
    analyzer = Analyzer(await connect(supervisor.address("link-1")))
    await analyzer.talk((ENQ, ACK), (frames(CA)[0], NAK), (EOT, b""))
    await session(analyzer, XN, L)
    assert [frame.text for frame in intake.stored] == [XN, L]
    await analyzer.stream.close()
    await supervisor.stop(0.0)
    assert supervisor.statuses()[0].state is LinkState.STOPPED


@pytest.mark.parametrize(
    ("text", "ended", "sender"),
    [
        (XN, False, "XN-10^01^123"),
        (XN[:-1], True, "XN-10^01^123"),
        (XN[:-1], False, None),
        (XN[:-1] + b"|", False, "XN-10^01^123"),
        (b"H|\\^&\r", False, ""),
        (b"H|\\^&", False, None),
        (b"H", True, None),
        (b"P|1\r", True, None),
        (b"H!\\^&!!!XN!\n", False, "XN"),
        (b"H|\\^&|||" + b"x" * 1000 + b"\r", False, "x" * 256),
    ],
)
def test_the_sender_is_h_5_as_soon_as_it_is_whole(text: bytes, ended: bool, sender: str | None) -> None:
    assert lis2_sender(text, ended) == sender


@pytest.mark.parametrize(
    ("match", "fit"),
    [
        (Match("^XN"), True),
        (Match("XN$"), False),
        (Match("^XN", "LAB"), True),
        (Match("^XN", "WARD"), False),
        (Match(peer="10.1.2.0/24"), True),
        (Match(peer="10.1.3.0/24"), False),
        (Match("^XN", "LAB", "10.0.0.0/8"), True),
    ],
)
def test_all_that_a_match_asks_for_must_be_so(match: Match, fit: bool) -> None:
    for host in ("10.1.2.3", "::ffff:10.1.2.3"):
        assert fits(match, Sender("XN-10", "LAB", host)) is fit
    assert not fits(Match(peer="10.0.0.0/8"), Sender("", "", "unknown"))


async def test_a_link_that_went_says_nothing_more_on_a_port_that_stays() -> None:
    async with port(intake=Saying) as made:
        analyzer = await made.analyzer()
        await session(analyzer, CA, L)  # the connection is ca's; its session is over
        await settle()
        await made.supervisor.apply([made.specs[0]], 0.0)  # SIGHUP: ca is taken out of the configuration
        assert isinstance(made.ca, Saying)
        made.ca.todo.append(sending(1, b"H|\\^&\rO|1|S-1\rL|1|N\r"))
        made.ca.due()
        await settle()
        await settle()
        assert isinstance(analyzer.stream, TcpStream) and bytes(analyzer.stream._unread) == b""
        assert made.ca.closed == 1
        await analyzer.stream.close()


async def test_a_link_of_a_shared_port_says_what_it_has_to_say_over_mllp() -> None:
    """Of a driver whose analyzer takes its work on the connection that it has made (`same_connection`)."""
    async with port(TransportType.MLLP_LISTEN, Match("^XN$"), Match("^CA$"), intake=Saying) as made:
        analyzer = await made.analyzer()
        assert isinstance(made.ca, Saying)
        made.ca.todo.append(sending(1, b"MSH|^~\\&|Labora\r"))
        block = b"MSH|^~\\&|CA||||2026||ORU^R01|1|P|2.5\r"
        await analyzer.talk((encode(block), encode(b"AA " + block) + encode(b"MSH|^~\\&|Labora\r")))
        await made.ca.told_times(1)
        assert made.ca.told_of == [(1, True, "")]
        await analyzer.stream.close()
