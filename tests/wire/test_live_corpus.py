"""Every capture of an ASTM session, sent by the simulator's sender and taken by the receiver that the links run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from interface.driver.capture import read_capture
from interface.driver.receiving import split_places
from interface.simulator import Source, parse_source
from interface.wire.lis01 import (
    DataLink,
    Delivered,
    FrameReceived,
    FrameRejected,
    FrameRepeated,
    Leniency,
    LeniencyUsed,
    LinkOptions,
    SessionEnded,
    Skipped,
    Station,
    cut,
)
from interface.wire.transmission import MessageSplitter, part_text
from tests import corpus

CAPTURES = corpus.files("astm")
# What the instrument does beside the standard, so what its link must allow.
NEEDS = {
    "astm/horiba-yumizen-h500-qc.astm": frozenset({Leniency.FN_UNSEQUENCED}),
    "astm/siemens-immulite-session.astm": frozenset({Leniency.FN_UNSEQUENCED}),  # 7 is followed by 1
}
_RECORD_END = re.compile(rb"[\r\n]+")


@dataclass
class Host:
    """The receiver of a link, and the messages that its frames make, as the journal assembles them."""

    leniencies: frozenset[Leniency]
    texts: list[bytes] = field(default_factory=list)
    answers: bytes = b""
    faults: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link = DataLink(Station.HOST, LinkOptions(leniencies=self.leniencies))
        self.splitter = MessageSplitter()

    def hear(self, data: bytes) -> bytes:
        """What is answered."""
        self.link.receive(data)
        return self.work()

    def work(self) -> bytes:
        while (event := self.link.next_event()) is not None:
            match event:
                case FrameReceived():
                    self._keep(event)
                    self.link.stored()
                case SessionEnded():
                    self.splitter = MessageSplitter()
                case FrameRejected() | FrameRepeated() | Skipped():
                    self.faults.append(event)
        answer = self.link.data_to_send()
        self.answers += answer
        return answer

    def _keep(self, frame: FrameReceived) -> None:
        for piece in self.splitter.feed(frame.text, frame.last):
            if piece.opens:
                self.texts.append(b"")
            self.texts[-1] += part_text(frame.text, frame.last, piece.start, piece.stop)


def converse(source: Source, leniencies: frozenset[Leniency], *, bytewise: bool) -> tuple[Host, bytes]:
    """The simulator's sender and a link's receiver, until every session is delivered; and what the sender said."""
    host, sender, said = Host(leniencies), DataLink(Station.INSTRUMENT), b""
    for frames in source.transmissions:
        ticket, delivered = sender.send_frames(frames), False
        while not delivered:
            data = sender.data_to_send()
            assert data, "the sender waits and so does the receiver"
            said += data
            answers = [host.hear(bytes([code])) for code in data] if bytewise else [host.hear(data)]
            sender.receive(b"".join(answers))
            while (event := sender.next_event()) is not None:
                delivered = delivered or event == Delivered(ticket)
        end = sender.data_to_send()
        said += end
        assert host.hear(end) == b""
    return host, said


def records(text: bytes) -> list[bytes]:
    return [record for record in _RECORD_END.split(text) if record.strip()]


def expected_texts(file: str) -> list[bytes]:
    return [message.text for message in read_capture(corpus.read(file))]


def check(file: str, texts: list[bytes]) -> None:
    """The texts are what the file's reader gives; of bare records, which the simulator frames, the records."""
    expected = expected_texts(file)
    if b"\x02" in corpus.read(file):
        assert texts == expected
    else:
        assert [*map(records, texts)] == [*map(records, expected)]


@pytest.mark.parametrize("file", CAPTURES)
def test_a_capture_arrives_whole_and_byte_by_byte(file: str) -> None:
    source = parse_source(corpus.read(file))
    for bytewise in (False, True):
        host, _ = converse(source, NEEDS.get(file, frozenset()), bytewise=bytewise)
        check(file, host.texts)
        assert host.faults == []


@pytest.mark.parametrize("file", CAPTURES)
def test_a_capture_arrives_wherever_the_line_cuts_it(file: str) -> None:
    """All that the sender said, in two reads, cut at every place that DESIGN §7 asks for."""
    needs = NEEDS.get(file, frozenset())
    whole, said = converse(parse_source(corpus.read(file)), needs, bytewise=False)
    places = split_places(said)
    assert len(places) > 90
    for place in places:
        host = Host(needs)
        host.hear(said[:place])
        host.hear(said[place:])
        assert (host.texts, host.answers, host.faults) == (whole.texts, whole.answers, []), place


def test_the_h500_is_refused_by_its_numbers_unless_its_driver_says_so() -> None:
    file = "astm/horiba-yumizen-h500-qc.astm"
    frames = parse_source(corpus.read(file)).transmissions[0]
    strict, lenient = Host(frozenset()), Host(NEEDS[file])
    for host in (strict, lenient):
        host.hear(b"\x05")
        for frame in frames:
            host.hear(frame)
    assert b"\x15" in strict.answers
    assert lenient.answers == b"\x06" * (1 + len(frames))


@pytest.mark.parametrize("file", [file for file in CAPTURES if file == "no corpus" or b"\x02" not in corpus.read(file)])
@pytest.mark.parametrize("bytewise", [False, True])
def test_a_capture_without_frames_arrives_as_it_was_sent(file: str, bytewise: bool) -> None:
    """The file's own bytes on the line, records without frames, ended by silence where the L record is not."""
    data = corpus.read(file)
    host = Host(frozenset({Leniency.BARE_RECORDS}))
    for chunk in [bytes([code]) for code in data] if bytewise else [data]:
        host.hear(chunk)
    if host.link.timer is not None:
        host.link.timeout()
        host.work()
    assert [*map(records, host.texts)] == [*map(records, expected_texts(file))]
    assert host.answers == b""
    assert b"".join(host.texts).rstrip(b"\r\n ") == data.rstrip(b"\r\n ")


@pytest.mark.parametrize("file", CAPTURES)
@pytest.mark.parametrize("size", [240, 63_993])
def test_a_captures_text_arrives_in_frames_of_any_size_that_we_send(file: str, size: int) -> None:
    """Our sender's own cuts, records in mid-field, as a host would download it."""
    for text in expected_texts(file):
        sent = text.replace(b"\r\n", b"\r").replace(b"\n", b"\r")
        host = Host(frozenset())
        host.hear(b"\x05")
        for frame in cut(sent, size):
            assert host.hear(frame) == b"\x06"
        host.hear(b"\x04")
        assert [*map(records, host.texts)] == [records(sent)]


def test_what_an_instrument_does_beside_the_standard_is_counted() -> None:
    file = "astm/horiba-yumizen-h500-qc.astm"
    frames = parse_source(corpus.read(file)).transmissions[0]
    link, used = DataLink(Station.HOST, LinkOptions(leniencies=NEEDS[file])), list[Leniency]()
    link.receive(b"\x05" + b"".join(frames))
    while (event := link.next_event()) is not None:
        if isinstance(event, FrameReceived):
            link.stored()
        elif isinstance(event, LeniencyUsed):
            used.append(event.leniency)
    assert used == [Leniency.FN_UNSEQUENCED] * 4  # 5 1 1 1 4
