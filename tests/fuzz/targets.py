"""What is fuzzed: a function of bytes for each codec. It eats wire errors; what it raises, the codec may not do.

Findings are replayed without the fuzzer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from interface.domain.model import Protocol
from interface.driver import registry
from interface.driver.capture import CaptureError
from interface.driver.describe import describe
from interface.errors import LinkFrameError, RecordError, SegmentError, UnsupportedMessage
from interface.settings import AckPolicy
from interface.wire import declared, hl7, hl7_ack, hl7_batch, lis02, mllp, trace
from interface.wire.frames import build_frame, parse_frame
from interface.wire.lis01 import DataLink, FrameReceived, Leniency, LinkOptions, State, Station
from interface.wire.transmission import MessageSplitter, assemble
from tests.fuzz import targets_more

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ENQ, ACK = b"\x05", b"\x06"
LENIENCIES = tuple(Leniency)
SMALL_FRAME_BYTES = 512  # so that short inputs reach the limit
MOST_RECORDS, MOST_FIELDS = 12, 16  # that are read of an input
MAX_STEPS = 16  # timers that may have to run out until a line is quiet


def lis01(data: bytes) -> None:
    """The data link: any bytes in any pieces, with timers, refusals and messages of our own between them.

    Whatever came, a line that is left alone becomes quiet and takes a session again (DESIGN §1.7).
    """
    station = Station.INSTRUMENT if data[:1] >= b"\x80" else Station.HOST
    chosen = int.from_bytes(data[1:3], "big")
    leniencies = frozenset(each for at, each in enumerate(LENIENCIES) if chosen >> at & 1)
    concede = data[:1] in (b"\x01", b"\x81")
    options = LinkOptions(leniencies=leniencies, max_frame_bytes=SMALL_FRAME_BYTES, ack_colliding_enq=concede)
    link = DataLink(station, options)
    for piece in data[3:].split(b"\xff"):
        command, rest = piece[:1], piece[1:]
        if command == b"T":
            link.timeout()
        elif command == b"S":
            with suppress(LinkFrameError):
                link.send(rest)
        elif command == b"W":
            link.want_line()
        elif command == b"N":
            link.ready = not link.ready
        elif command == b"X":
            link.lost()
        else:
            link.receive(piece)
        _pump(link, refuse=command == b"R")
    link.lost()
    _pump(link, refuse=False)
    link.ready = True
    for _ in range(MAX_STEPS):
        if link.state is State.NEUTRAL:
            break
        link.timeout()
        _pump(link, refuse=False)
    assert link.state is State.NEUTRAL, link.state
    link.receive(ENQ + build_frame(1, b"H|\\^&\r", True))
    assert _pump(link, refuse=False) == ACK + ACK


def _pump(link: DataLink, refuse: bool) -> bytes:
    while (event := link.next_event()) is not None:
        if isinstance(event, FrameReceived):
            if event.fn is None:  # a record without a frame
                assert event.raw == event.text
            else:
                assert parse_frame(event.raw) == (event.fn, event.text, event.last)
            link.refused() if refuse else link.stored()
    return link.data_to_send()


def lis02_records(data: bytes) -> None:
    """Parse, tree, every leaf: no record is lost on the way, and what is written of a leaf reads back."""
    with suppress(ValueError):
        lis02.unescape(data.decode("utf-8", "strict"))
    lis02.header_control_id(data)
    try:
        message = lis02.parse(data, "gb18030" if len(data) % 2 else "latin-1", literal_escapes=len(data) % 3 == 0)
    except RecordError as error:
        assert error.location
        return
    assert _count(message.tree()) == len(message.records)
    for record in message.records[:MOST_RECORDS]:
        assert record.location
        for number in range(1, min(len(record.fields), MOST_FIELDS) + 2):
            for repeat in range(1, min(len(record.repeats(number)), 2) + 2):
                for at, leaf in enumerate(record.components(number, repeat)[:3], start=1):
                    assert record.component(number, at, repeat) == leaf
            record.read(number)
            record.read(number, 1)


def _count(node: lis02.Node) -> int:
    return 1 + len(node.comments) + len(node.manufacturer) + sum(map(_count, node.children))


def transmission(data: bytes) -> None:
    """Frame texts into messages: every byte is in one piece, but line ends between messages; the pieces assemble."""
    splitter, open_pieces = MessageSplitter(), list[tuple[bytes, int, int]]()
    for text in data.split(b"\x03"):
        for part, last in ((text[: len(text) // 2], False), (text[len(text) // 2 :], True)):
            body = part.translate(None, b"\x02\x03\x04\x05\x17")
            pieces = splitter.fork().feed(body, last)
            assert pieces == splitter.feed(body, last)
            at = 0
            for piece in pieces:
                assert not body[at : piece.start].strip(b"\r\n")
                assert at <= piece.start <= piece.stop
                at = piece.stop
                open_pieces.append((build_frame(1, body, last), piece.start, piece.stop))
                if piece.seals:
                    assemble(open_pieces)
                    open_pieces = []
            assert not body[at:].strip(b"\r\n")
    assert splitter.open == bool(open_pieces)


def mllp_blocks(data: bytes) -> None:
    """The same blocks whole and in pieces; none beyond the limit."""
    limit = 1 + (data[0] if data else 0)
    whole = mllp.Decoder(limit)
    blocks = _blocks([*whole.receive(data[1:]), *whole.eof()])
    for step in (1, 7):
        pieces = mllp.Decoder(limit)
        events = [event for at in range(1, len(data), step) for event in pieces.receive(data[at : at + step])]
        assert _blocks([*events, *pieces.eof()]) == blocks
    assert all(len(block) <= limit for block in blocks)


def _blocks(events: list[mllp.Event]) -> list[bytes]:
    return [event.block for event in events if isinstance(event, mllp.BlockReceived)]


def declared_blocks(data: bytes) -> None:
    """Each kind of declared framing: the same blocks whole and in pieces, none beyond its limit."""
    for grammar in GRAMMARS:
        whole, pieces = declared.Decoder(grammar), declared.Decoder(grammar)
        events = [*whole.receive(data), *whole.eof()]
        parts = [event for at in range(0, len(data), 3) for event in pieces.receive(data[at : at + 3])]
        found = [event for event in events if isinstance(event, declared.BlockReceived)]
        assert [event for event in (*parts, *pieces.eof()) if isinstance(event, declared.BlockReceived)] == found
        assert all(len(block.raw) <= grammar.max_bytes for block in found)
        assert not whole.inside


def hl7_messages(data: bytes) -> None:
    """Check, read every field, take batches apart, acknowledge: refused with a place, or read; so is the answer."""
    error: SegmentError | UnsupportedMessage | None = None
    try:
        message = hl7.check_syntax(data)
    except (SegmentError, UnsupportedMessage) as refused:
        assert refused.location
        error = refused
    else:
        for segment in message.segments[:MOST_RECORDS]:
            assert message.location(segment)
            for number in range(1, min(segment.field_count, MOST_FIELDS) + 2):
                segment.state(number)
                segment.read(number)
                for repeat in range(1, min(len(segment.repeats(number)), 4) + 2):
                    segment.components(number, repeat)
                    segment.value(number, 1, repeat, 2)
    hl7.control_id(data)
    hl7.message_type(data)
    for policy in AckPolicy:
        for outcome in hl7_ack.Outcome:
            hl7_ack.due(data, outcome, policy)
        assert hl7_ack.store_failure(data, policy) not in (hl7_ack.AckCode.AA, hl7_ack.AckCode.CA)
    assert all(part[:3].upper() == b"MSH" for part in hl7_batch.messages(data))
    hl7_batch.envelope(data)
    code = hl7_ack.AckCode.AE if error else hl7_ack.AckCode.AA
    answer = hl7_ack.acknowledge(data, code, control_id="1", now=NOW, error=error)
    msa = hl7.parse(answer).first("MSA")
    assert msa is not None
    assert msa.value(1) == code
    assert not set(answer) & {0x0B, 0x1C}


def traces(data: bytes) -> None:
    """Any bytes are a trace line and back; any text is a trace, or the line is named that makes it none."""
    assert trace.unescape(trace.escape(data)) == data
    try:
        read = trace.parse_trace(data.decode("utf-8", "replace"))
    except LinkFrameError as error:
        assert error.reason == "trace"
        return
    again = trace.parse_trace(trace.format_trace(read))
    assert [step.data for step in again.steps] == [step.data for step in read.steps]


def captures(data: bytes) -> None:
    """`labora decode`: a capture of anything is decoded by the driver it fits and by the generic one, or refused."""
    try:
        captured = registry.read(data)
    except (CaptureError, LinkFrameError):
        return
    for message in captured:
        driver = registry.sniff(message.protocol, message.text)
        generic = registry.GENERIC.get(message.protocol, driver.id)
        for each in {driver.id: driver, generic: registry.load(generic)}.values():
            decoded = registry.decode(each, message.text)
            describe(decoded, message.problems)
            if message.protocol is Protocol.HL7:
                assert len(decoded.specimens) <= message.text.count(b"\r") + message.text.count(b"\n") + 2


_HEX_SUM = declared.Check(
    declared.CheckRule.SUM, declared.Written.HEX, declared.Place.BEFORE_END, skip=1, mark=b"\x1d", pad=b"\r\n"
)
_XOR = declared.Check(declared.CheckRule.XOR, declared.Written.BYTE, declared.Place.AFTER_END, skip=1, covers_end=True)
GRAMMARS = (
    declared.Grammar(start=b"\x02", end=b"\x03", opens=ENQ, ready=ACK, closes=b"\x04", good=ACK, check=_HEX_SUM),
    declared.Grammar(start=b"\x02", end=b"\x03", good=ACK, bad=b"\x15", check=_XOR, max_bytes=64),
    declared.Grammar(start=b"$", end=b"\r", length=declared.Length(1, 2, declared.Number.DECIMAL, plus=4)),
    declared.Grammar(start=b"\xff\x24", end=b"\r\n", size=17),
    declared.Grammar(end=b"\r\n", max_bytes=100),
    declared.Grammar(silence_s=2.0, max_bytes=100),
)

TARGETS: dict[str, Callable[[bytes], None]] = {
    "lis01": lis01,
    "lis02": lis02_records,
    "transmission": transmission,
    "mllp": mllp_blocks,
    "declared": declared_blocks,
    "hl7": hl7_messages,
    "trace": traces,
    "capture": captures,
    "fhir": targets_more.fhir_json,
    "oauth": targets_more.assertions,
    "configuration": targets_more.configuration,
    "mappings": targets_more.mappings,
}
MOST_CPU_S, ORDINARY_BYTES = 0.05, 2048


def timely(target: str, data: bytes) -> None:
    """The target, which may take no longer than it should for an input of an ordinary size: by the processor's time,
    and the best of three, since a table may have to be made the first time."""
    for tries in range(3):
        began = time.thread_time()
        TARGETS[target](data)
        if time.thread_time() - began <= MOST_CPU_S or len(data) > ORDINARY_BYTES:
            return
        assert tries < 2, f"{len(data)} bytes take more than {MOST_CPU_S} s"
