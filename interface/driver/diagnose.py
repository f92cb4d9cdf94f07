"""Bytes into a `Diagnosis`: what `labora link doctor` finds, without input or output. Pure.

diagnose(heard)     both directions of a conversation
examine(data)       what one side said
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from interface.domain.model import Protocol
from interface.driver import line_symptoms, registry
from interface.driver.capture import CapturedMessage, CaptureError, read_declared
from interface.driver.diagnosis import (
    Diagnosis,
    DriverMatch,
    Framing,
    Handshake,
    Heard,
    LeniencyProof,
    Symptom,
    SymptomKind,
)
from interface.driver.frame_findings import (
    SeenFrame,
    find_frames,
    frame_findings,
    handshake_of,
    meant,
    record_ends,
    sessions_of,
    text_of,
)
from interface.driver.leniency_proof import SEARCHED_BYTES, all_whole, prove, wanted_of, wanted_of_messages
from interface.driver.manifest import Driver, LinkFraming
from interface.driver.message_findings import (
    bare_ends,
    hl7_charset,
    hl7_findings,
    record_findings,
    split_hl7,
    split_records,
)
from interface.driver.text_findings import charset_findings
from interface.wire import mllp
from interface.wire.frames import ACK, ENQ, EOT, NAK
from interface.wire.trace import Direction, parse_trace

_WHITE = b"\r\n\t \x00"
_BOM = b"\xef\xbb\xbf"
_HL7 = re.compile(rb"(?:^|[\r\n\x0b\x00])(?:MSH|FHS|BHS)[^A-Za-z0-9\s]", re.IGNORECASE)
_RECORD = re.compile(rb"(?:^|[\r\n\x02\x04\x05])[0-7]?[Hh][^A-Za-z0-9\s]{2,}")
_REPLIES = bytes([ACK, NAK, ENQ, EOT])
MAX_EXAMINED_BYTES = 2 * 1024 * 1024  # some ten seconds' work
_TRIED_MESSAGES = 20  # of a long recording, by each driver


def read_heard(data: bytes) -> tuple[Heard, ...]:
    """A file's conversation: a trace has both sides, a raw capture is what the analyzer said."""
    if not data.startswith(b"#"):
        return (Heard(Direction.ANALYZER, data),)
    return tuple(Heard(step.direction, step.data) for step in parse_trace(data.decode("utf-8", "replace")).steps)


def diagnose(heard: Sequence[Heard], *, site: Sequence[Path] = (), whole: bool = False) -> Diagnosis:
    """What both sides of a line said. `whole`: it was heard from the first byte on, nothing was left out.

    `site`: folders with drivers, searched before the packaged ones. Raises DriverError for a driver that cannot be
    used; no bytes make it raise.
    """
    analyzer, host = (b"".join(one.data for one in heard if one.direction is side) for side in Direction)
    found = examine(analyzer, site=site, whole=whole, refused=_all_refused(analyzer, host))
    symptoms, notes = found.symptoms, list(found.notes)
    if host and not host.strip(_REPLIES) and len(host) >= 4 and analyzer.startswith(host):
        symptoms += (
            Symptom(
                SymptomKind.ECHO,
                "What the host sends comes back unchanged.",
                "Look for a loopback plug, a converter that echoes, or transmit and receive joined in the cable.",
            ),
        )
    notes += _rhythm(heard)
    answer = examine(host, site=site, whole=whole) if host else None
    return replace(found, symptoms=symptoms, notes=tuple(notes), host=answer)


def _all_refused(analyzer: bytes, host: bytes) -> bool:
    """The host refused every frame, as a probe does: it acknowledged nothing but ENQs."""
    return NAK in host and host.count(ACK) <= analyzer.count(ENQ)


def _rhythm(heard: Sequence[Heard]) -> list[str]:
    """What the times say: an analyzer that waits in vain."""
    asked = [
        one.at_s for one in heard if one.direction is Direction.ANALYZER and one.data.rstrip(b"\x04") == bytes([ENQ])
    ]
    if len(asked) < 2 or any(one.direction is Direction.HOST for one in heard):
        return []
    gaps = sorted(after - before for before, after in itertools.pairwise(asked))
    return [f"It asks for the line {len(asked)} times, every {gaps[len(gaps) // 2]:.0f} s, and nobody answers."]


def examine(data: bytes, *, site: Sequence[Path] = (), whole: bool = False, refused: bool = False) -> Diagnosis:
    """What one side said. `refused`: it was answered with NAK throughout, so it could not go on."""
    if not data:
        return Diagnosis(Framing.SILENT, 0)
    foreign = line_symptoms.foreign_protocol(data)
    if foreign:
        return Diagnosis(Framing.FOREIGN, len(data), (foreign,))
    length, data = len(data), data[:MAX_EXAMINED_BYTES]
    symptoms: tuple[Symptom, ...] = ()
    parity = line_symptoms.parity_as_data(data) or line_symptoms.parity_unread(data)
    examined = len(data)
    if parity:  # what follows is about the bytes as a port with the right setting would give them
        symptoms = (parity,)
        unread = parity.kind is SymptomKind.PARITY_UNREAD
        data = data.replace(b"\xff", b"") if unread else line_symptoms.without_eighth_bit(data)
    side = _Side(data, site, whole, refused)
    found = side.examine()
    if found.framing is Framing.UNKNOWN and (junk := line_symptoms.garbage(data)):
        symptoms = (*symptoms, junk)
    notes = found.notes
    if length > examined:
        notes += (f"Only the first {MAX_EXAMINED_BYTES} bytes were looked at.",)
    return replace(found, byte_count=length, symptoms=symptoms, notes=notes)


@dataclass(slots=True)
class _Side:
    """One side's bytes, with what is wanted of them."""

    data: bytes
    site: Sequence[Path]
    whole: bool
    refused: bool
    notes: tuple[str, ...] = ()

    def examine(self) -> Diagnosis:
        found = self._examine()
        if self.refused and found.frames:
            self.notes = ("Every frame was refused: the analyzer was told to keep its message.",)
        elif found.framing not in (Framing.UNKNOWN, Framing.LIS01_OTHER):
            self.notes = ()
        return replace(found, notes=self.notes)

    def _examine(self) -> Diagnosis:
        body = self.data.removeprefix(_BOM).lstrip(_WHITE)
        if declared := self._declared():
            return declared
        frames = find_frames(self.data)
        if frames and b"\x0bMSH" not in self.data:
            return self._framed(frames)
        if b"\x0b" in body and _HL7.search(body):
            return self._mllp()
        if _HL7.search(body):
            return self._bare_hl7(body)
        if _RECORD.search(body):
            return self._bare_records(body)
        handshake = handshake_of(self.data, ())
        if handshake != Handshake() and not self.data.strip(_REPLIES + _WHITE):
            return Diagnosis(Framing.HANDSHAKE, len(self.data), handshake=handshake)
        return Diagnosis(Framing.UNKNOWN, len(self.data), handshake=handshake, stray_bytes=len(self.data))

    def _declared(self) -> Diagnosis | None:
        """A vendor's own framing: its blocks are good, but for a few, and of the driver that declares it."""
        fitting: list[tuple[Driver, tuple[CapturedMessage, ...]]] = []
        notes: list[str] = []
        for driver in registry.find_all(self.site):
            if driver.blocks is None or driver.generic:  # a template fits many a line, and recognises none
                continue
            try:
                messages = read_declared(self.data, driver.blocks, driver.protocol)
            except CaptureError:
                continue
            summed = driver.blocks.check is not None  # without a checksum many a line is a block
            refused = sum(len(message.problems) for message in messages)
            if refused > (len(messages) if summed else 0):
                continue
            if all(registry.recognises(driver, message.text) for message in messages):
                fitting.append((driver, messages))
            elif summed:
                notes.append(f"The blocks are framed and summed as {driver.id} has it, but it does not know the text.")
        if not fitting:
            self.notes = tuple(notes)
            return None
        matches = tuple(_match(driver, [message.text for message in messages]) for driver, messages in fitting)
        text = b"".join(message.text for message in fitting[0][1])
        return Diagnosis(Framing.DECLARED, len(self.data), text=charset_findings(text), drivers=matches)

    def _framed(self, frames: Sequence[SeenFrame]) -> Diagnosis:
        sessions = sessions_of(self.data, frames)
        joined = sessions_of(self.data, frames, frozenset({EOT}))
        if not all_whole(sessions) and all_whole(joined):
            sessions = joined  # its ENQs begin nothing new
        texts = [text_of(meant(session)) for session in sessions]
        text = b"".join(texts)
        handshake = handshake_of(self.data, frames)
        stray = sum(len(part.strip(_REPLIES + b"\r\n")) for part in _between(self.data, frames))
        base = Diagnosis(
            Framing.LIS01_OTHER, len(self.data), handshake=handshake, frames=frame_findings(sessions), stray_bytes=stray
        )
        if _HL7.match(text):
            messages = split_hl7(text)
            return replace(
                base, framing=Framing.LIS01_HL7, hl7=hl7_findings(messages, text), text=hl7_charset(messages),
                drivers=self._drivers(LinkFraming.LIS01, Protocol.HL7, messages),
                proof=self._proof(sessions, handshake, by_frame=True),
            )  # fmt: skip
        if not _RECORD.match(text):
            proof = self._proof(sessions, handshake, by_frame=True)
            return replace(base, text=charset_findings(text), proof=proof)
        messages = split_records(texts)
        return replace(
            base,
            framing=Framing.LIS01,
            records=record_findings(messages, record_ends(sessions)),
            text=charset_findings(text),
            drivers=self._drivers(LinkFraming.LIS01, Protocol.LIS2, messages),
            proof=self._proof(sessions, handshake, by_frame=self.refused),
        )

    def _proof(self, sessions: Sequence[Sequence[SeenFrame]], handshake: Handshake, *, by_frame: bool) -> LeniencyProof:
        cut_off = not self.data.rstrip(_WHITE).endswith(bytes([EOT])) and handshake.enq > 0
        wanted = wanted_of(sessions, by_frame=by_frame, cut_off=cut_off)
        supplied = not self.whole and not handshake.enq and not handshake.eot
        sample = None
        if (count := _first_sessions(sessions)) and len(self.data) > SEARCHED_BYTES:
            first = wanted_of(sessions[:count], by_frame=by_frame, cut_off=False)
            sample = self.data[: sessions[count][0].start], first
        return prove(self.data, wanted, sample, supply_handshake=supplied, broken_off=self.refused or cut_off)

    def _mllp(self) -> Diagnosis:
        decoder = mllp.Decoder(max(len(self.data), 1))
        events = [*decoder.receive(self.data), *decoder.eof()]
        blocks = [event.block for event in events if isinstance(event, mllp.BlockReceived)]
        messages = [message for block in blocks for message in split_hl7(block)]
        rejected = [event.reason for event in events if isinstance(event, mllp.BlockRejected)]
        tolerated = [str(one) for event in events if isinstance(event, mllp.BlockReceived) for one in event.tolerated]
        tolerated += [event.reason for event in events if isinstance(event, mllp.Skipped)]
        skipped = sum(len(event.data.strip(_WHITE)) for event in events if isinstance(event, mllp.Skipped))
        if not messages:  # a block has begun and not ended
            messages = split_hl7(self.data[self.data.find(b"\x0b") + 1 :])
        return Diagnosis(
            Framing.MLLP, len(self.data), hl7=hl7_findings(messages, b"".join(blocks), tolerated, rejected),
            text=hl7_charset(messages), drivers=self._drivers(LinkFraming.MLLP, Protocol.HL7, messages),
            stray_bytes=skipped,
        )  # fmt: skip

    def _bare_hl7(self, body: bytes) -> Diagnosis:
        messages = split_hl7(body)
        return Diagnosis(
            Framing.BARE_HL7, len(self.data), hl7=hl7_findings(messages, body), text=hl7_charset(messages),
            drivers=self._drivers(LinkFraming.MLLP, Protocol.HL7, messages),
        )  # fmt: skip

    def _bare_records(self, body: bytes) -> Diagnosis:
        handshake = handshake_of(self.data, ())
        texts = [part for part in re.split(rb"[\x04\x05]", body) if part.strip(_WHITE)]
        messages = split_records(texts)
        wanted = wanted_of_messages(messages)
        sample = None
        if len(self.data) > SEARCHED_BYTES:
            few = messages[: max(SEARCHED_BYTES * len(messages) // len(self.data), 1)]
            sample = b"".join(few), wanted_of_messages(few)
        return Diagnosis(
            Framing.BARE_RECORDS, len(self.data), handshake=handshake,
            records=record_findings(messages, bare_ends(texts)), text=charset_findings(b"".join(messages)),
            drivers=self._drivers(LinkFraming.LIS01, Protocol.LIS2, messages), proof=prove(self.data, wanted, sample),
        )  # fmt: skip

    def _drivers(self, link: LinkFraming, protocol: Protocol, messages: Sequence[bytes]) -> tuple[DriverMatch, ...]:
        """Those that recognise a header, and the generic one, each tried on the messages."""
        tried = messages[:_TRIED_MESSAGES]
        found = []
        for driver in registry.find_all(self.site):
            if driver.protocol is protocol and driver.link is link:
                fits = [message for message in tried if registry.recognises(driver, message)]
                if fits:
                    found.append(_match(driver, fits))
        return tuple(sorted(found, key=lambda match: match.generic))


def _match(driver: Driver, messages: Sequence[bytes]) -> DriverMatch:
    """A driver that recognises these messages, and what it reads in them."""
    decoded = [registry.decode(driver, message) for message in messages]
    problems = [f"{problem.location}: {problem.text}" for one in decoded for problem in one.problems]
    return DriverMatch(
        driver.id,
        driver.title,
        str(driver.tier),
        generic=driver.generic,
        recognised=not driver.generic,
        messages=len(messages),
        results=sum(len(specimen.results) for one in decoded for specimen in one.specimens),
        queries=sum(len(one.queries) for one in decoded),
        problems=tuple(dict.fromkeys(problems)),
        leniencies=driver.leniencies,
    )


def _first_sessions(sessions: Sequence[Sequence[SeenFrame]]) -> int:
    """How many of the first sessions are enough to search leniencies with; 0: it takes all of them."""
    count = sum(session[-1].stop <= SEARCHED_BYTES for session in sessions)
    return count if count < len(sessions) else 0


def _between(data: bytes, frames: Sequence[SeenFrame]) -> list[bytes]:
    edges = [0, *(edge for frame in frames for edge in (frame.start, frame.stop)), len(data)]
    return [data[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
