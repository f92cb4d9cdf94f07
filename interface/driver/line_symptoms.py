"""What is wrong below the protocol: parity read as data, another speed, another protocol. Pure.

A UART that is set wrongly does not say so: it gives bytes. These tell which of its settings is wrong.
"""

from __future__ import annotations

import itertools
import re

from interface.driver.diagnosis import Symptom, SymptomKind

# Text, record ends, and the characters with which LIS01-A2 and MLLP frame it (and GS, RS: bioMerieux's tags).
_SENSE = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n\x02\x03\x04\x05\x06\x15\x17\x0b\x1c\x1d\x1e")
_CONTROLS = frozenset(b"\x02\x03\x04\x05\x06\x15\x17\x0b\x1c")
_SENSIBLE = 0.95
_CHANGES = tuple(  # of the line's level in a character, start bit (0) and stop bit (1) included
    bin((value << 1 | 0x200) ^ (value << 2 | 0x400) & 0x3FF).count("1") for value in range(256)
)
# Text has 4 to 5 changes of level in a character. Where it is read faster than sent, a character spans fewer bits of
# the sender's (measured on simulated lines: twice as fast 2.5, four times 1.5, six times and more 1).
_FEWER_CHANGES = ((1.15, "six times or more"), (1.9, "about four times"), (3.4, "about twice"))
_EVEN = tuple(bin(value).count("1") % 2 == 0 for value in range(128))
_LEAST_BYTES = 8  # fewer prove nothing about a speed
_FOREIGN: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (
        re.compile(rb"\x16\x03[\x00-\x04]"),
        "a TLS ClientHello: the other end wants an encrypted connection",
        "Set tls for this link, or switch encryption off at the analyzer.",
    ),
    (
        re.compile(rb"(?:GET|POST|PUT|HEAD|OPTIONS|DELETE) [^\r\n]{0,2000} HTTP/"),
        "an HTTP request: a browser, a web service or a port scanner is at the other end",
        "Look up which port the analyzer sends its results to; this is not it.",
    ),
    (
        re.compile(rb"SSH-[12]\.|\xff[\xfb-\xfe][\x00-\x30]"),
        "the greeting of SSH or Telnet, as a serial-to-network converter sends it",
        "Set the converter to raw TCP (often called 'TCP server' or 'socket'), without Telnet or RFC 2217.",
    ),
    (
        re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|[A-Z]{3}\.R\d\d)"),
        "XML, as POCT1-A devices speak it",
        "Labora reads LIS01-A2, LIS02-A2 and HL7 v2; set the device's other output, if it has one.",
    ),
    (
        re.compile(rb"\s*[{\[]\s*[\"{\[]"),
        "JSON",
        "Labora reads LIS01-A2, LIS02-A2 and HL7 v2; set the device's other output, if it has one.",
    ),
)


def sense(data: bytes) -> float:
    """The share of bytes that text and framing are made of, 0 to 1."""
    return sum(map(data.count, _SENSE)) / len(data) if data else 0.0


def foreign_protocol(data: bytes) -> Symptom | None:
    """Another protocol, known from its first bytes."""
    for pattern, text, advice in _FOREIGN:
        if pattern.match(data):
            return Symptom(SymptomKind.FOREIGN_PROTOCOL, f"The line begins with {text}.", advice)
    return None


def parity_as_data(data: bytes) -> Symptom | None:
    """Seven bits and a parity bit, read as eight bits: masking gives text, and the eighth bit follows a rule."""
    high = sum(value >= 0x80 for value in data)
    masked = without_eighth_bit(data)
    if not high or sense(masked) < _SENSIBLE:
        return None
    even = sum((value >= 0x80) != _EVEN[value & 0x7F] for value in data) / len(data)
    share = f"{high} of {len(data)} bytes have their 8th bit set"
    clean = "and without it they are plain text"
    if high == len(data):
        if set(masked) <= _CONTROLS and even in (0.0, 1.0):
            return _parity(even == 1.0, f"{share}, {clean}")
        return Symptom(
            SymptomKind.EIGHTH_BIT_SET,
            f"All {len(data)} bytes have their 8th bit set, {clean}: mark parity, or 7 data bits with 2 stop bits.",
            "Set this port to 7 data bits: format 7N2, as the analyzer most likely has it.",
            "7N2",
        )
    if even >= 0.99 or even <= 0.01:
        name = "even" if even > 0.5 else "odd"
        return _parity(even > 0.5, f"{share}, it is the {name} parity of the other seven, {clean}")
    return None


def _parity(even: bool, text: str) -> Symptom:
    name, line_format = ("even", "7E1") if even else ("odd", "7O1")
    return Symptom(
        SymptomKind.PARITY_AS_DATA,
        f"{text}: the analyzer sends 7 data bits with {name} parity and the port reads 8.",
        f"Set this port to format {line_format} (7 data bits, {name} parity, 1 stop bit).",
        line_format,
    )


def without_eighth_bit(data: bytes) -> bytes:
    """The bytes as seven data bits would give them."""
    return bytes(value & 0x7F for value in data)


def parity_unread(data: bytes) -> Symptom | None:
    """Eight bits and a parity bit, read without parity: where the parity bit is 0 the stop bit seems to be missing, it
    is taken for a start bit, and the idle line behind it for a character of ones."""
    ones = data.count(b"\xff")
    rest = data.replace(b"\xff", b"")
    if not 0.1 <= ones / len(data) <= 0.6 or sense(rest) < _SENSIBLE or len(rest) < _LEAST_BYTES:
        return None
    followed = {value for value, after in itertools.pairwise(data) if after == 0xFF and value != 0xFF}
    alone = {value for value, after in itertools.pairwise(data) if after != 0xFF and value != 0xFF}
    parities = {_EVEN[value] for value in followed if value < 0x80}
    if followed & alone or len(parities) != 1:
        return None
    name, line_format = ("even", "8E1") if parities == {True} else ("odd", "8O1")
    return Symptom(
        SymptomKind.PARITY_UNREAD,
        f"{ones} of {len(data)} bytes are FF, each after a character whose {name} parity bit is 0: the analyzer sends "
        f"8 data bits with {name} parity and the port reads no parity.",
        f"Set this port to format {line_format} (8 data bits, {name} parity, 1 stop bit).",
        line_format,
    )


def garbage(data: bytes) -> Symptom | None:
    """Bytes that no text gives, and what a wrongly set port makes of text."""
    if len(data) < _LEAST_BYTES or sense(data) >= 0.8:
        return None
    nul = data.count(0) / len(data)
    if nul == 1.0:
        return Symptom(
            SymptomKind.BREAK,
            f"Nothing but {len(data)} NULs: the line is held low (break), or read far too fast.",
            "Check the cable (transmit and receive crossed, ground connected), then try a much lower baud rate.",
        )
    changes = sum(_CHANGES[value] for value in data) / len(data)
    for limit, factor in _FEWER_CHANGES:
        if changes <= limit:
            return Symptom(
                SymptomKind.BAUD_TOO_HIGH,
                f"Only {len(set(data))} different bytes in {len(data)}, with {changes:.1f} changes of level in each "
                f"where text has 4 to 5, and no framing: the port reads {factor} as fast as the analyzer sends.",
                "Lower the baud rate of this port accordingly, or use --scan.",
            )
    return Symptom(
        SymptomKind.LINE_MISMATCH,
        f"Only {sense(data):.0%} of {len(data)} bytes are of text, and no reading of the 8th bit makes more of them.",
        "Raise the baud rate of this port or use --scan; if the rate is certain, compare data bits and parity, "
        "and if those agree too the analyzer speaks a binary protocol.",
    )
