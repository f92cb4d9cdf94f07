"""A diagnosis in words, and as a `[[link]]` to start from. No patient data: the findings have none."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interface.driver.diagnosis import (
    ChecksumVerdict,
    Diagnosis,
    DriverMatch,
    FrameFindings,
    Framing,
    Hl7Findings,
    RecordFindings,
)
from interface.settings import Address, SerialPort
from interface.wire.frames import MAX_TEXT_BYTES

_LABEL_WIDTH = 12
_FEWEST_COLUMNS, _MOST_COLUMNS = 60, 100
_WHAT = {
    Framing.SILENT: "Nothing was heard.",
    Framing.HANDSHAKE: "LIS01-A2 control characters only; no frame yet.",
    Framing.LIS01: "LIS02-A2 records in LIS01-A2 frames (ASTM).",
    Framing.LIS01_HL7: "HL7 v2 segments in LIS01-A2 frames.",
    Framing.LIS01_OTHER: "LIS01-A2 frames whose text is neither LIS02-A2 records nor HL7.",
    Framing.BARE_RECORDS: "LIS02-A2 records without LIS01-A2 frames.",
    Framing.MLLP: "HL7 v2 over MLLP.",
    Framing.BARE_HL7: "HL7 v2 segments without MLLP.",
    Framing.DECLARED: "A vendor's own framing, which a driver declares.",
    Framing.FOREIGN: "Another protocol.",
    Framing.UNKNOWN: "No protocol that Labora knows.",
}
_VERDICTS = {
    ChecksumVerdict.RIGHT: "right",
    ChecksumVerdict.LOWER_CASE: "right, in lower-case digits",
    ChecksumVerdict.ZERO: "00",
    ChecksumVerdict.ABSENT: "not sent",
    ChecksumVerdict.WRONG: "wrong",
}
_UNDERSTOOD = frozenset({Framing.LIS01, Framing.LIS01_HL7, Framing.BARE_RECORDS, Framing.MLLP, Framing.DECLARED})


@dataclass(frozen=True, slots=True)
class Where:
    """How the bytes came: what the snippet's transport is made of. `dialled`: we called the analyzer."""

    endpoint: Address | SerialPort | None = None
    dialled: bool = False


def rows(found: Diagnosis, side: str = "analyzer") -> Iterator[tuple[str, str]]:
    """What is known, as (label, text)."""
    yield "Heard", f"{_bytes(found.byte_count)} from the {side}. {_WHAT[found.framing]}"
    for symptom in found.symptoms:
        yield "Line", symptom.text
    if found.handshake.enq or found.handshake.eot or found.handshake.ack or found.handshake.nak:
        yield "Handshake", _handshake(found)
    if found.frames:
        yield from _frame_rows(found.frames)
    if found.records:
        yield from _record_rows(found.records)
    if found.hl7:
        yield from _hl7_rows(found.hl7)
    if found.text:
        yield "Characters", _characters(found)
    if found.stray_bytes and found.framing not in (Framing.UNKNOWN,):
        yield "Stray", f"{_bytes(found.stray_bytes)} outside any frame or block; a receiver skips them."
    if found.drivers:
        yield "Driver", _drivers(found)
    if found.proof:
        yield "Receiver", _proof(found)
    for note in found.notes:
        yield "Note", note


def _handshake(found: Diagnosis) -> str:
    shown = [(name.upper(), getattr(found.handshake, name)) for name in ("enq", "eot", "ack", "nak")]
    return ", ".join(f"{name} {count}" for name, count in shown if count) + "."


def _frame_rows(frames: FrameFindings) -> Iterator[tuple[str, str]]:
    sessions = f" in {_count(frames.sessions, 'session')}" if frames.sessions > 1 else ""
    again = f"; {frames.repeated} of them sent again unchanged" if frames.repeated else ""
    cut = f"{frames.cut}, the longest text {_bytes(frames.largest_text_bytes)}"
    ends = "ETX ends all of them" if not frames.etb else f"ETB ends {frames.etb}, ETX {frames.etx}"
    yield "Frames", f"{_count(frames.count, 'frame')}{sessions}{again}: {cut}; {ends}."
    yield "Numbers", f"{frames.numbering}." if frames.numbering else "from 1 on, then 0 after 7, as LIS01-A2 wants it."
    parts = [f"{count} {_VERDICTS[verdict]}" for verdict, count in frames.checksums]
    hint = f": {frames.checksum_hint}" if frames.checksum_hint else ""
    yield "Checksums", f"{', '.join(parts)} (of {frames.count}){hint}."
    odd = [(name, count) for name, count in frames.line_ends if name != "CRLF"]
    if odd:
        yield "Frame ends", f"{_tally(frames.line_ends)} behind the checksum, where LIS01-A2 has CRLF."


def _record_rows(records: RecordFindings) -> Iterator[tuple[str, str]]:
    kinds = " ".join(kind if count == 1 else f"{kind}x{count}" for kind, count in records.types)
    yield "Messages", f"{_count(records.messages, 'message')} of LIS02-A2: {kinds}. {_terminators(records)}"
    escapes = f" Escape sequences used: {', '.join(records.escapes)}." if records.escapes else ""
    yield "Records", f"Delimiters {_listed(records.delimiters)}, ends: {_tally(records.record_ends)}.{escapes}"
    if records.faults:
        yield "Faults", "; ".join(records.faults[:5]) + "."
    version = f", version {_listed(records.versions)}" if records.versions else ""
    yield "Sender", (f"{_listed(records.senders)} (H-5){version}." if records.senders else f"H-5 is empty{version}.")


def _terminators(records: RecordFindings) -> str:
    if records.terminated == records.messages:
        return "Each ends with its terminator record (L)."
    return f"{records.messages - records.terminated} without terminator record (L)."


def _hl7_rows(found: Hl7Findings) -> Iterator[tuple[str, str]]:
    kinds = ", ".join(kind if count == 1 else f"{kind} x{count}" for kind, count in found.types)
    version = f" of version {_listed(found.versions)}" if found.versions else ", MSH-12 is empty"
    batch = f" in {_count(found.batches, 'batch or file envelope')} (FHS, BHS)" if found.batches else ""
    yield "Messages", f"{_count(found.messages, 'message')}{version}{batch}: {kinds}."
    kinds = " ".join(kind if count == 1 else f"{kind}x{count}" for kind, count in found.segments)
    yield "Segments", f"{kinds}. Delimiters {_listed(found.delimiters)}, ends: {_tally(found.segment_ends)}."
    yield "Replies", f"{found.acknowledgement} mode; a stored message is answered with {_listed(found.wants)}."
    for refusal in found.refusals[:5]:
        yield "Refused", f"A message would be answered with {refusal}."
    if found.tolerated:
        yield "Tolerated", f"{_tally(found.tolerated)}; taken, and counted."
    if found.rejected:
        yield "Rejected", f"Blocks not taken: {_tally(found.rejected)}."
    yield "Sender", (f"{_listed(found.senders)} (MSH-3 MSH-4)." if found.senders else "MSH-3 and MSH-4 are empty.")


def _characters(found: Diagnosis) -> str:
    text = found.text
    if text is None or text.ascii_only:
        named = f" (MSH-18 says {_listed(found.hl7.charsets)})" if found.hl7 and found.hl7.charsets else ""
        return f"ASCII only{named}: any encoding setting reads it."
    guesses = "; ".join(f"{one.codec} {one.certainty} ({one.why})" for one in text.guesses)
    against = f" {text.contradiction}." if text.contradiction else ""
    return f"{_count(text.high_bytes, 'byte')} beyond ASCII: {guesses}.{against}"


def _drivers(found: Diagnosis) -> str:
    recognised = [match for match in found.drivers if match.recognised]
    generic = [match for match in found.drivers if match.generic]
    if len(recognised) == 1:
        return f"{_match(recognised[0])}"
    if recognised:
        names = ", ".join(match.driver for match in recognised)
        return f"{names} recognise the header, so none does: choose by the instrument's name."
    if not generic:
        return "no driver reads it."
    return f"none recognises the header. {_match(generic[0])}"


def _match(match: DriverMatch) -> str:
    read = " and ".join(
        part
        for part in (
            _count(match.results, "result") if match.results or not match.queries else "",
            _count(match.queries, "query") if match.queries else "",
        )
        if part
    )
    problems = "without a problem"
    if match.problems:
        more = f" and {len(match.problems) - 3} more" if len(match.problems) > 3 else ""
        problems = f"with problems: {'; '.join(match.problems[:3])}{more}"
    how = "reads" if match.generic else f"recognises the header ({match.title}, {match.tier}) and reads"
    return f"{match.driver} {how} {read} {problems}."


def _proof(found: Diagnosis) -> str:
    proof = found.proof
    if proof is None:
        return ""
    what = _count(proof.judged, "frame" if proof.by_frame else "message")
    supplied = " (ENQ and EOT were supplied: the recording has none)" if proof.handshake_supplied else ""
    if not proof.judged:
        said = "nothing whole was sent, so nothing could be tried"
    elif not proof.proven:
        said = f"it does not take all of this, whatever is allowed: {'; '.join(proof.obstacles)}"
    elif proof.needed:
        asked = proof.needed & found.driver.leniencies if found.driver else frozenset()
        by_driver = f" (the driver asks for {', '.join(sorted(asked))} itself)" if asked else ""
        said = f"takes {what} with {', '.join(sorted(proof.needed))} and with nothing less{by_driver}"
    else:
        said = f"takes {what} as {'it is' if proof.judged == 1 else 'they are'}; no leniency is needed"
    unknown = ". The transmission was broken off: what would follow is not known" if proof.terminator_unknown else ""
    always = f". Taken from everybody, and counted: {', '.join(sorted(proof.always))}" if proof.always else ""
    return f"Tried on the real one: {said}{supplied}{always}{unknown}."


def report(found: Diagnosis, where: Where) -> str:
    """Everything for a person, wrapped to the terminal."""
    width = min(max(shutil.get_terminal_size((_MOST_COLUMNS, 24)).columns, _FEWEST_COLUMNS), _MOST_COLUMNS)
    lines = [_row(label, text, width) for label, text in rows(found)]
    if found.host is not None:
        lines += ["", *(_row(label, text, width) for label, text in rows(found.host, "host"))]
    if advice := to_do(found):
        lines += ["", "To do"]
        lines += [_row(f"  {number}.", text, width, 5) for number, text in enumerate(advice, start=1)]
    if link := snippet(found, where):
        lines += ["", "For config.toml", *(f"  {line}".rstrip() for line in link.splitlines())]
    return "\n".join(lines)


def _row(label: str, text: str, width: int, indent: int = _LABEL_WIDTH) -> str:
    """One label with its text beside it, control characters made visible."""
    clean = "".join(letter if letter.isprintable() else "�" for letter in text)
    return textwrap.fill(
        clean, width, initial_indent=label.ljust(indent), subsequent_indent=" " * indent, break_on_hyphens=False
    )


def to_do(found: Diagnosis) -> list[str]:
    """What a person is to do, one sentence each."""
    advice = [symptom.advice for symptom in found.symptoms]
    if found.framing is Framing.SILENT:
        advice.append("Check that the analyzer is set to send here, and that it has something to send.")
    if found.framing is Framing.HANDSHAKE and found.handshake.enq:
        advice.append(
            "The analyzer waits for an ACK to its ENQ and says nothing without it: listen again with --tap beside the "
            "present host, or with --probe, which lets it go on and refuses every frame."
        )
    if found.framing is Framing.BARE_HL7:
        advice.append("A live link needs MLLP around each message (0B … 1C 0D); in a file there is often none.")
    if found.framing is Framing.LIS01_HL7 and not found.drivers:
        advice.append("HL7 in LIS01-A2 frames needs a driver that says so ([framing] in its driver.toml).")
    if found.framing is Framing.LIS01_OTHER:
        advice.append("Find the manual of this interface: it needs a driver that declares its framing.")
    if hopeless(found):
        advice.append(
            "No setting lets all of this through, so no link is proposed. A file may lack the control characters that "
            "were on the line: hear the line itself with --listen, --dial, --serial or --tap."
        )
    if found.text and found.text.contradiction:
        advice.append("Correct MSH-18 at the analyzer, or set encoding for this link.")
    elif found.text and not found.text.ascii_only and not found.text.best:
        advice.append("Look at a name or unit with its special characters and set encoding so that it reads right.")
    if found.driver and found.driver.generic:
        advice.append(
            f"{found.driver.driver} goes by the standard and this analyzer has no driver: check each code, unit and "
            "specimen id with `labora decode`, or write a driver (CONTRIBUTING.md)."
        )
    if found.proof and ChecksumVerdict.WRONG in dict(found.frames.checksums if found.frames else ()):
        advice.append(
            "Wrong checksums on a serial line are noise or wrong settings: look for the cause before allowing it."
        )
    return advice


def understood(found: Diagnosis) -> bool:
    """Whether a link could be configured from what was heard."""
    return found.framing in _UNDERSTOOD and not hopeless(found)


def hopeless(found: Diagnosis) -> bool:
    """Whether the receiver was tried and does not take what was sent."""
    return found.proof is not None and found.proof.judged > 0 and not found.proof.proven


def snippet(found: Diagnosis, where: Where) -> str:
    """A `[[link]]` for config.toml; "" when what was heard is not enough for one."""
    if found.driver is None or not understood(found):
        return ""
    lines = [
        "[[link]]",
        'id = "analyzer-1"                  # any name',
        'organization = "main"',
        f'driver = "{found.driver.driver}"',
        f"transport = {_transport(found, where)}",
    ]
    if found.text and found.text.best and (not found.text.declared or found.text.contradiction):
        lines.append(f'encoding = "{found.text.best}"')
    if found.frames and found.frames.largest_text_bytes > MAX_TEXT_BYTES:
        lines.append(f"max_frame_bytes = {2 * found.frames.largest_text_bytes}")
    if names := leniencies_to_set(found):
        quoted = ", ".join(f'"{name}"' for name in names)
        lines.append(f"leniencies = [{quoted}]")
    return "\n".join(lines)


def leniencies_to_set(found: Diagnosis) -> list[str]:
    """Those that are proven to be needed and that the driver does not ask for itself."""
    if found.proof is None or not found.proof.proven or found.driver is None:
        return []
    return sorted(found.proof.needed - found.driver.leniencies)


def _transport(found: Diagnosis, where: Where) -> str:
    if isinstance(where.endpoint, SerialPort):
        port = where.endpoint
        form = found.line_format or port.format
        return f'{{ type = "serial", port = "{port.path}", baud = {port.baud}, format = "{form}" }}'
    carrier = "mllp" if found.framing is Framing.MLLP else "tcp"
    address, remark = where.endpoint, ""
    if address is None:
        address, remark = Address("127.0.0.1", 4001), "    # where it will connect to"
    if where.dialled:
        return f'{{ type = "{carrier}-dial", dial = "{address}" }}'
    return f'{{ type = "{carrier}-listen", listen = "{address}" }}{remark}'


def as_json(found: Diagnosis, where: Where) -> dict[str, Any]:
    """The diagnosis as plain data, with the driver to configure, what to do, and the `[[link]]`."""
    plain = _plain(asdict(found))
    assert isinstance(plain, dict)  # noqa: S101  asdict gives one
    return plain | {
        "driver": found.driver.driver if found.driver else None,
        "to_do": to_do(found),
        "link": snippet(found, where) or None,
    }


def _plain(value: object) -> object:
    """Pairs of a name and a count as an object, sets as sorted lists."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(str(inner) for inner in value)
    if isinstance(value, tuple | list):
        if value and all(isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], int) for one in value):
            return {str(name): count for name, count in value}
        return [_plain(inner) for inner in value]
    return value


def _bytes(count: int) -> str:
    return _count(count, "byte")


def _count(count: int, word: str) -> str:
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count} {word if count == 1 else plural}"


def _tally(pairs: Sequence[tuple[str, int]]) -> str:
    return ", ".join(name if len(pairs) == 1 else f"{name} {count}" for name, count in pairs) or "none"


def _listed(things: Sequence[str]) -> str:
    return ", ".join(things[:4]) + (" …" if len(things) > 4 else "")
