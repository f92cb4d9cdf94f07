"""Traces: a conversation on a link as text, one line per write, for driver vectors and the simulator (DESIGN §7).

    # invented, in the shape of ... (provenance; the first line)
    > <ENQ>
    < <ACK>
    > <STX>1H|\\^&<CR><ETX>E5<CR><LF>

`>` is the analyzer, `<` the host. Control characters are written by name, other bytes outside printable ASCII as
`<0xE9>`, a literal `<` that would read as a name as `<LT>`; one blank after the sign and the line's own end are not
data. Characters beyond ASCII stand for their UTF-8 bytes. Blank lines and further `#` lines are comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from interface.errors import LinkFrameError

CONTROL_NAMES: dict[str, int] = {
    "NUL": 0x00, "SOH": 0x01, "STX": 0x02, "ETX": 0x03, "EOT": 0x04, "ENQ": 0x05, "ACK": 0x06, "BEL": 0x07,
    "BS": 0x08, "HT": 0x09, "LF": 0x0A, "VT": 0x0B, "FF": 0x0C, "CR": 0x0D, "SO": 0x0E, "SI": 0x0F,
    "DLE": 0x10, "DC1": 0x11, "DC2": 0x12, "DC3": 0x13, "DC4": 0x14, "NAK": 0x15, "SYN": 0x16, "ETB": 0x17,
    "CAN": 0x18, "EM": 0x19, "SUB": 0x1A, "ESC": 0x1B, "FS": 0x1C, "GS": 0x1D, "RS": 0x1E, "US": 0x1F,
    "LT": 0x3C, "DEL": 0x7F,
}  # fmt: skip
_BYTE_NAMES = {code: name for name, code in CONTROL_NAMES.items() if name != "LT"}
_TOKEN = re.compile(r"<(?:0x([0-9A-Fa-f]{2})|([A-Z][A-Z0-9]{1,2}))>")


class Direction(StrEnum):
    ANALYZER = ">"
    HOST = "<"


@dataclass(frozen=True, slots=True)
class TraceStep:
    """What one side wrote at once."""

    direction: Direction
    data: bytes


@dataclass(frozen=True, slots=True)
class Trace:
    """`provenance`: where the bytes come from, in words; `steps` in the order of the conversation."""

    provenance: str
    steps: tuple[TraceStep, ...]

    def bytes_of(self, direction: Direction) -> bytes:
        """Everything one side wrote."""
        return b"".join(step.data for step in self.steps if step.direction is direction)


def unescape(text: str) -> bytes:
    """The bytes a trace line stands for. Unknown names in angle brackets are literal text."""
    out = bytearray()
    at = 0
    for match in _TOKEN.finditer(text):
        code = int(match[1], 16) if match[1] else CONTROL_NAMES.get(match[2])
        if code is None:
            continue
        out += text[at : match.start()].encode()
        out.append(code)
        at = match.end()
    return bytes(out + text[at:].encode())


def escape(data: bytes) -> str:
    """`data` as a trace line: `unescape(escape(data)) == data`."""
    out: list[str] = []
    for code in data:
        if code in _BYTE_NAMES:
            out.append(f"<{_BYTE_NAMES[code]}>")
        elif code >= 0x80:
            out.append(f"<0x{code:02X}>")
        else:
            out.append(chr(code))
    text = "".join(out)
    if unescape(text) != data:  # the data itself contains something that reads as a name
        text = "".join("<LT>" if part == "<" else part for part in out)
    return text


def parse_trace(text: str) -> Trace:
    """Read a trace; raises LinkFrameError (reason `trace`) naming the line when it is none."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]  # a trace may hold other line breaks as data
    if not lines[0].startswith("#"):
        raise LinkFrameError("trace", "a trace begins with a # line that says where it comes from")
    steps: list[TraceStep] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] not in "<>":
            raise LinkFrameError("trace", f"line {number} of the trace begins with neither '>' nor '<'")
        steps.append(TraceStep(Direction(line[0]), unescape(line[1:].removeprefix(" "))))
    return Trace(lines[0].lstrip("#").strip(), tuple(steps))


def format_trace(trace: Trace) -> str:
    """The inverse of `parse_trace`."""
    lines = [f"# {trace.provenance}", *(f"{step.direction} {escape(step.data)}" for step in trace.steps)]
    return "\n".join(lines) + "\n"
