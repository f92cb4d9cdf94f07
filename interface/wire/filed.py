"""What a file holds for the journal: HL7 messages, or LIS2 frames and records as the data link would take them. Pure.

A file is taken whole or not at all, so everything is looked at before the first byte is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from interface.errors import LinkFrameError
from interface.wire import hl7_batch, lis01, mllp

_SLICE_BYTES = 4096
_BOM = b"\xef\xbb\xbf"
_BLANK = b"\r\n\t \x00"
# A file has no other end to ask, and may hold records without frames; the rest is the link's own.
_FILED = frozenset({lis01.Leniency.BARE_RECORDS, lis01.Leniency.MISSING_ENQ})

Step = lis01.FrameReceived | lis01.SessionEnded


@dataclass(frozen=True, slots=True)
class FiledMessages:
    """The HL7 messages of a file, as sent. `envelope`: of its batch; `fault`: what contradicts its counts."""

    messages: tuple[bytes, ...]
    envelope: bytes = b""
    fault: str = ""


def lis2_steps(data: bytes, options: lis01.LinkOptions) -> tuple[Step, ...]:
    """Frames in order, and where their sessions end. Raises LinkFrameError with one sentence.

    By the data link's own rules: checksums, frame numbers, a repeated frame once.
    """
    core = lis01.DataLink(lis01.Station.HOST, replace(options, leniencies=options.leniencies | _FILED))
    body = data.removeprefix(_BOM).lstrip(_BLANK)
    steps: list[Step] = []
    for at in range(0, len(body), _SLICE_BYTES):
        core.receive(body[at : at + _SLICE_BYTES])
        _drain(core, steps)
    if core.timer is not None and core.timer.seconds == core.options.bare_wait_s:
        core.timeout()  # an L record without frame whose end the file leaves out
        _drain(core, steps)
    core.lost()
    _drain(core, steps)
    if not any(isinstance(step, lis01.FrameReceived) for step in steps):
        raise LinkFrameError("empty", "it holds neither frames nor an H record")
    return tuple(steps)


def _drain(core: lis01.DataLink, steps: list[Step]) -> None:
    while (event := core.next_event()) is not None:
        core.data_to_send()
        match event:
            case lis01.FrameReceived():
                steps.append(event)
                core.stored()
            case lis01.SessionEnded():
                steps.append(event)
            case lis01.FrameRejected(reason, _):
                raise LinkFrameError(reason, f"frame {_number(steps) + 1} cannot be accepted: {reason}")
            case lis01.Skipped():
                raise LinkFrameError("skipped", f"after frame {_number(steps)} there are bytes that are no record")
            case _:
                pass


def _number(steps: list[Step]) -> int:
    return sum(isinstance(step, lis01.FrameReceived) for step in steps)


def hl7_messages(data: bytes, max_message_bytes: int) -> FiledMessages:
    """Messages in MLLP blocks, in a batch, or one after the other. Raises LinkFrameError with one sentence."""
    blocks = _blocks(data, max_message_bytes) if data.lstrip(_BLANK)[:1] == b"\x0b" else (data,)
    messages: list[bytes] = []
    faults: list[str] = []
    envelopes = b""
    for block in blocks:
        body = block.removeprefix(_BOM).lstrip(_BLANK)
        batch = hl7_batch.is_batch(body)
        if not batch and body[:3].upper() != b"MSH":
            raise _no_messages(body)
        messages += hl7_batch.messages(body)
        if batch:
            envelope = hl7_batch.envelope(body)
            envelopes += envelope.data
            faults += [envelope.fault] if envelope.fault else []
    if not messages:
        raise LinkFrameError("empty", "it holds no message")
    if any(len(message) > max_message_bytes for message in messages):
        raise LinkFrameError("oversize", f"it holds a message of more than {max_message_bytes} bytes")
    return FiledMessages(tuple(messages), envelopes[: hl7_batch.EVIDENCE_BYTES], "; ".join(faults[:3]))


def _no_messages(body: bytes) -> LinkFrameError:
    if body[:3].upper() not in (b"FHS", b"BHS"):
        return LinkFrameError("no_header", "it does not begin with MSH, FHS or BHS")
    if next(hl7_batch.messages(body), None) is None:
        return LinkFrameError("empty", "it holds no message")
    return LinkFrameError("oversize", f"its batch has more than {hl7_batch.MOST_LINES} headers and trailers")


def _blocks(data: bytes, max_message_bytes: int) -> tuple[bytes, ...]:
    decoder = mllp.Decoder(max(len(data), max_message_bytes))
    blocks: list[bytes] = []
    for event in (*decoder.receive(data), *decoder.eof()):
        match event:
            case mllp.BlockReceived(block, _):
                blocks.append(block)
            case mllp.BlockRejected(reason, _):
                raise LinkFrameError(reason, f"block {len(blocks) + 1} cannot be accepted: {reason}")
            case mllp.Skipped():
                raise LinkFrameError("skipped", f"after block {len(blocks)} there are bytes outside any block")
            case _:
                pass
    return tuple(blocks)
