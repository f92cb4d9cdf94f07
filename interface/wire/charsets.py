"""HL7 character sets: from MSH-18 (table 0211) to a Python codec, found on the raw bytes before anything is decoded."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

_BOM = codecs.BOM_UTF8

# HL7 table 0211 and what senders write instead of it. Not UNICODE UTF-16 and -32: a header that can be read so is in
# neither.
_CODECS = {
    "ASCII": "ascii",
    "US-ASCII": "ascii",
    "ISO IR6": "ascii",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "GB 18030-2000": "gb18030",
    "GB18030": "gb18030",
    "GB2312": "gb18030",
    "GBK": "gb18030",
    "BIG-5": "big5",
    "BIG5": "big5",
    "KS X 1001": "euc_kr",
    "CNS 11643-1992": "euc_tw",
    "ISO IR13": "iso2022_jp_ext",
    "ISO IR14": "iso2022_jp",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "WINDOWS-1251": "cp1251",
    "WINDOWS-1252": "cp1252",
} | {f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)}

# Codecs that keep ASCII where it is, so that MSH can be read on the raw bytes.
_FALLBACK = "latin-1"  # cannot fail
# What is not UTF-8 is Windows text before it is Latin-1: the latter has only control characters from 80 to 9F.
_LAST_RESORTS = ("utf-8", "cp1252")
_ESC, _SWITCHING = b"\x1b", "iso2022_jp_ext"


@dataclass(frozen=True, slots=True)
class Decoded:
    """`text` has CR between segments; `encoding` is the codec that did it; `fault` says what was wrong."""

    text: str
    encoding: str
    fault: str = ""


def codec(name: str) -> str | None:
    """The Python codec for a value of MSH-18; None when it is not known."""
    found = _CODECS.get(" ".join(name.upper().split()))
    if found is None and name.upper().startswith("ISO-8859-"):
        found = "iso8859-" + name[9:]
    if found is None:
        return None
    try:
        return codecs.lookup(found).name
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        return None


def decode(block: bytes, encoding: str = "") -> Decoded:
    """Decode one message: MSH-18, then `encoding` (the peer's), then UTF-8, Windows-1252 and latin-1.

    A set named in MSH-18 that does not fit the bytes is a fault that is said, not a reason to lose the message.
    """
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Decoded(_normalise(block.decode("utf-16", "replace")), "utf-16")
    block = block.removeprefix(_BOM)
    named = named_charset(block)
    declared = codec(named) if named else None
    fault = f"the character set {named!r} is not known" if named and declared is None else ""
    # ASCII is what senders of Latin-1 and UTF-8 call themselves; it says nothing against the peer's own setting.
    for candidate in (_SWITCHING if _switches(block) else None, declared, encoding or None, *_LAST_RESORTS):
        if candidate is None:
            continue
        try:
            return Decoded(_normalise(block.decode(candidate)), codecs.lookup(candidate).name, fault)
        except (UnicodeDecodeError, LookupError):
            if candidate in (declared, _SWITCHING):
                fault = f"the bytes are not {named or 'of the named sets'}"
            elif candidate == encoding:
                fault = fault or f"the bytes are not {encoding}"
    return Decoded(_normalise(block.decode(_FALLBACK)), _FALLBACK, fault)


def _switches(block: bytes) -> bool:
    """Whether it switches to a Japanese set that MSH-18 names behind its first (HL7 v2.5.1 2.15.9.18, ISO 2022). In the
    first set the bytes of its characters would be others, and some of them delimiters: K\\ is half of a name."""
    return _ESC in block and any((codec(name) or "").startswith("iso2022") for name in _named_charsets(block)[1:])


def named_charset(block: bytes) -> str:
    """MSH-18, first repetition, as sent; "" when there is none. Never raises."""
    return _named_charsets(block)[0]


def _named_charsets(block: bytes) -> list[str]:
    header = raw_header(block)
    fields = header.split(header[3:4]) if len(header) > 3 else []
    if len(fields) <= 17:
        return [""]
    # HL7 2.9.2: MSH-1 is the separator itself, so piece n of a split is MSH-(n+1).
    repeat = header[5:6] or b"~"
    return [name.decode("ascii", "replace").strip() for name in fields[17].split(repeat)]


def raw_header(block: bytes) -> bytes:
    """The bytes of the MSH segment, or b"" when the block does not start with one."""
    block = block.removeprefix(_BOM).lstrip(b"\r\n\x00 \x0b")
    if block[:3].upper() != b"MSH":
        return b""
    ends = [end for end in (block.find(b"\r"), block.find(b"\n")) if end >= 0]
    return block[: min(ends)] if ends else block


def _normalise(text: str) -> str:
    """LF and CRLF segment ends become CR; a byte order mark goes."""
    if "\n" in text:
        text = text.replace("\r\n", "\r").replace("\n", "\r")
    return text.lstrip("\ufeff\r\x00 \x0b")
