"""Every driver folder's vectors, through the real data link and MLLP decoder, however the bytes arrive (DESIGN §7)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interface.domain.model import Protocol
from interface.driver import registry
from interface.driver.capture import CaptureError, read_capture
from interface.driver.describe import describe
from interface.driver.manifest import Driver, LinkFraming, Tier
from interface.driver.registry import Vector
from interface.wire import declared, hl7, mllp
from interface.wire.datalink_events import Leniency
from interface.wire.hl7_frames import Hl7Splitter
from interface.wire.lis01 import DataLink, FrameReceived, LinkOptions, SessionEnded, Station
from interface.wire.trace import Direction, parse_trace
from interface.wire.transmission import MessageSplitter, assemble
from tests.splits import split_places

DRIVERS = registry.find_all()
VECTORS = [
    pytest.param(driver, vector, id=f"{driver.id}/{vector.name}")
    for driver in DRIVERS
    for vector in registry.vectors(driver.id)
]


class Receiver:
    """What a link makes of bytes: messages, assembled as they will be decoded."""

    def __init__(self, driver: Driver) -> None:
        self.messages: list[bytes] = []
        self._mllp = mllp.Decoder() if driver.link is LinkFraming.MLLP else None
        self._blocks = declared.Decoder(driver.blocks) if driver.blocks else None
        self._hl7 = driver.protocol is Protocol.HL7  # in frames: the next MSH or EOT ends a message
        leniencies = frozenset(Leniency(name) for name in driver.leniencies)
        self._link = DataLink(Station.HOST, LinkOptions(leniencies=leniencies))
        self._begin()

    def _begin(self) -> None:
        self._splitter = Hl7Splitter() if self._hl7 else MessageSplitter()
        self._open: list[tuple[bytes, int, int]] = []

    def _seal(self) -> None:
        self.messages.append(assemble(self._open))
        self._open = []

    def silence(self) -> None:
        """Nothing more comes, which ends a burst."""
        if self._blocks is not None:
            self.messages += (e.text for e in self._blocks.silence() if isinstance(e, declared.BlockReceived))

    def feed(self, data: bytes) -> None:
        if self._blocks is not None:
            self.messages += (e.text for e in self._blocks.receive(data) if isinstance(e, declared.BlockReceived))
            return
        if self._mllp is not None:
            blocks = (e.block for e in self._mllp.receive(data) if isinstance(e, mllp.BlockReceived))
            self.messages += blocks
            return
        self._link.receive(data)
        while (event := self._link.next_event()) is not None:
            if isinstance(event, FrameReceived):
                self._link.stored()
                self._frame(event)
            elif isinstance(event, SessionEnded):
                if self._hl7 and self._open:
                    self._seal()
                assert not self._open, "a vector's messages are complete"
                self._begin()
        self._link.data_to_send()

    def _frame(self, frame: FrameReceived) -> None:
        for piece in self._splitter.feed(frame.text, frame.last):
            if piece.breaks and self._hl7:
                self._seal()
            self._open.append((frame.raw, piece.start, piece.stop))
            if piece.seals:
                self._seal()


def received(driver: Driver, chunks: Iterator[bytes] | list[bytes]) -> list[bytes]:
    receiver = Receiver(driver)
    for chunk in chunks:
        receiver.feed(chunk)
    receiver.silence()
    return receiver.messages


def expected_of(vector: Vector) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(vector.expected.read_text(encoding="utf-8"))
    return loaded


def analyzer_bytes(vector: Vector) -> bytes:
    return parse_trace(vector.trace.read_text(encoding="utf-8")).bytes_of(Direction.ANALYZER)


def without_problems(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message | {"problems": []} for message in messages]


@pytest.mark.parametrize(("driver", "vector"), VECTORS)
def test_a_vector_decodes_as_expected_over_its_link(driver: Driver, vector: Vector) -> None:
    messages = received(driver, [analyzer_bytes(vector)])
    decoded = [describe(registry.decode(driver, message)) for message in messages]
    # A capture also tells of frames and blocks that a link refuses without a word to the decoder.
    assert decoded == [
        expected | {"problems": [p for p in expected["problems"] if not p["location"].startswith(("frame ", "block "))]}
        for expected in expected_of(vector)
    ]


@pytest.mark.parametrize(("driver", "vector"), VECTORS)
def test_a_vector_reads_the_same_byte_by_byte_and_at_every_split(driver: Driver, vector: Vector) -> None:
    data = analyzer_bytes(vector)
    whole = received(driver, [data])
    assert whole
    assert received(driver, [data[at : at + 1] for at in range(len(data))]) == whole
    for place in split_places(data):
        assert received(driver, [data[:place], data[place:]]) == whole, place


@pytest.mark.parametrize(("driver", "vector"), VECTORS)
def test_a_vector_read_as_a_capture_is_what_expected_json_says(driver: Driver, vector: Vector) -> None:
    captured = registry.read(vector.trace.read_bytes(), driver)
    assert [describe(registry.decode(driver, m.text), m.problems) for m in captured] == expected_of(vector)


@pytest.mark.parametrize(("driver", "vector"), VECTORS)
def test_the_host_side_of_a_vector_is_sound(driver: Driver, vector: Vector) -> None:
    """What Labora is shown to answer is itself framed rightly and readable."""
    said = parse_trace(vector.trace.read_text(encoding="utf-8")).bytes_of(Direction.HOST)
    if driver.blocks is not None:
        heard = (driver.blocks.ready, driver.blocks.busy, driver.blocks.good, driver.blocks.bad)
        steps = parse_trace(vector.trace.read_text(encoding="utf-8")).steps
        assert all(step.data in heard for step in steps if step.direction is Direction.HOST)
    elif driver.link is LinkFraming.MLLP:
        replies = received(driver, [said])
        assert all(hl7.check_syntax(reply).first("MSA") for reply in replies)
    elif b"\x02" in said:
        (reply,) = read_capture(said[said.index(b"\x05") :])
        assert not reply.problems


@pytest.mark.parametrize(("driver", "vector"), VECTORS)
def test_a_vector_speaks_of_no_real_person(driver: Driver, vector: Vector) -> None:
    first = vector.trace.read_text(encoding="utf-8").splitlines()[0]
    assert "No real person" in first
    for message in expected_of(vector):
        for patient in message["patients"]:
            assert patient["patient_id"].startswith("TEST-") or patient["patient_id"] == ""


@pytest.mark.parametrize("driver", [d for d in DRIVERS if not d.generic], ids=lambda d: d.id)
def test_a_driver_says_something_that_the_generic_one_cannot(driver: Driver) -> None:
    if driver.protocol is Protocol.DECLARED:
        for vector in registry.vectors(driver.id):
            with pytest.raises(CaptureError):  # without the driver its blocks are no messages at all
                read_capture(vector.trace.read_bytes())
        return
    generic = registry.load(registry.GENERIC[driver.protocol])
    differing = [
        vector.name
        for vector in registry.vectors(driver.id)
        if without_problems(
            [describe(registry.decode(generic, m.text)) for m in read_capture(vector.trace.read_bytes())]
        )
        != without_problems(expected_of(vector))
    ]
    assert differing


@pytest.mark.parametrize("driver", [d for d in DRIVERS if not d.generic], ids=lambda d: d.id)
def test_a_driver_is_recognised_by_its_own_headers_and_names_its_evidence(driver: Driver) -> None:
    for vector in registry.vectors(driver.id):
        for message in registry.read(vector.trace.read_bytes(), driver):
            assert registry.sniff(driver.protocol, message.text).id == driver.id
    assert driver.evidence
    assert driver.tier is not Tier.SITE_VALIDATED, "that is for a site to say"
    names = {vector.name.split("-")[0] for vector in registry.vectors(driver.id)}
    asked = {"result", "qc", "rerun", "query", "retransmission"}
    # What is laid out by the driver itself is one way: no query is asked, and a device says what it can say, no more.
    assert names >= ({"result", "retransmission"} if driver.protocol is Protocol.DECLARED else asked)


def test_a_tampered_value_is_noticed() -> None:
    driver = registry.load("sysmex_xn")
    vector = next(v for v in registry.vectors("sysmex_xn") if v.name == "result-1")
    (message,) = read_capture(vector.trace.read_bytes())
    tampered = message.text.replace(b"|13.9|", b"|13.8|")
    assert tampered != message.text
    assert [describe(registry.decode(driver, tampered))] != expected_of(vector)


def test_controls_are_never_patients() -> None:
    for driver in DRIVERS:
        for vector in registry.vectors(driver.id):
            if vector.name == "qc":
                roles = {s["role"] for message in expected_of(vector) for s in message["specimens"]}
                assert roles == {"qc"}, driver.id


def test_every_folder_is_found_and_a_sites_own_comes_first(tmp_path: Path) -> None:
    packaged = registry.packaged_path()
    assert {driver.id for driver in DRIVERS} == {f.name for f in packaged.iterdir() if (f / "driver.toml").is_file()}
    mine = tmp_path / "sysmex_xn"
    mine.mkdir()
    text = (packaged / "sysmex_xn" / "driver.toml").read_text(encoding="utf-8")
    (mine / "driver.toml").write_text(text.replace('revision = "1"', 'revision = "1-mine"', 1), encoding="utf-8")
    assert registry.load("sysmex_xn", [tmp_path]).revision == "1-mine"
    assert registry.load("sysmex_xn") == replace(registry.load("sysmex_xn"), revision="1")
