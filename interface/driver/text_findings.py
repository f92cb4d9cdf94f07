"""In which character set bytes beyond ASCII may be. Pure.

Nothing in the bytes names it, so this gives reasons and how good they are. UTF-8 gives itself away; double-byte sets
show by pairs; single-byte sets are told apart by which codes they leave empty and by what stands beside the bytes.
"""

from __future__ import annotations

import re

from interface.driver.diagnosis import CharsetFindings, CharsetGuess

_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_C1 = re.compile(rb"[\x80-\x9f]")
_GB_PAIR = re.compile(rb"(?:[\xa1-\xa9\xb0-\xf7][\xa1-\xfe])+")
_GBK_PAIR = re.compile(rb"(?:[\x81-\xfe][\x40-\x7e\x80-\xfe])+")
_SJIS = re.compile(rb"(?:[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]|[\xa1-\xdf])+")
_SJIS_LEAD = re.compile(rb"[\x81-\x9f\xe0-\xea][\x40-\x7e\x80-\xfc]")
_LONE = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")
_CYRILLIC_WORD = re.compile(rb"[\xc0-\xff\xa8\xb8]{3,}")
_UNITS = re.compile(rb"[\xb5\xb0\xb1\xb2\xb3](?=[a-zA-Z0-9/^|]|$)")  # micro, degree, plus-minus, squared, cubed


def charset_findings(data: bytes, declared: str = "", contradiction: str = "") -> CharsetFindings:
    """What the bytes of assembled messages may be in; `declared`: the codec that they name themselves."""
    high = sum(value >= 0x80 for value in data)
    if not high:
        return CharsetFindings(0, (CharsetGuess("ascii", "certain", "no byte is beyond 7F"),), declared, contradiction)
    guesses = tuple(_guesses(data))
    if declared and not contradiction and _decodes(data, declared):
        fits = CharsetGuess(declared, "certain", "the messages name it and the bytes agree")
        guesses = (fits, *(guess for guess in guesses if guess.codec != declared))
    return CharsetFindings(high, guesses, declared, contradiction)


def _guesses(data: bytes) -> list[CharsetGuess]:
    if _decodes(data, "utf-8"):
        marks = sum(value >= 0xC0 for value in data)
        return [CharsetGuess("utf-8", "certain", f"{marks} multi-byte characters, all well formed")]
    runs = _HIGH_RUN.findall(data)
    lone = len(_LONE.findall(data))
    found: list[CharsetGuess] = []
    paired = all(_GB_PAIR.fullmatch(run) for run in runs) and _decodes(data, "gb18030")
    japanese = _japanese(data)
    words = sum(map(len, _CYRILLIC_WORD.findall(data)))
    common = paired and sum(lead <= 0xD7 for run in runs for lead in run[::2]) >= 0.6 * sum(
        len(run) // 2 for run in runs
    )
    cyrillic = words >= 0.8 * sum(map(len, runs)) and not common
    if common and not lone:
        found.append(CharsetGuess("gb18030", "likely", "all high bytes come in pairs, as common Chinese characters do"))
    if japanese:
        found.append(japanese)
    if cyrillic and _decodes(data, "cp1251"):
        found.append(CharsetGuess("cp1251", "likely", "whole words are of high bytes, as Cyrillic letters are"))
    found += _western(data, lone, len(runs), any(guess.certainty == "likely" for guess in found))
    if not common and _decodes(data, "gb18030") and _GBK_PAIR.search(data):
        found.append(CharsetGuess("gb18030", "possible", "every high byte begins or ends a pair"))
    if _decodes(data, "big5") and not lone and paired:
        found.append(CharsetGuess("big5", "possible", "the pairs are Big5's too"))
    return sorted(found, key=lambda guess: guess.certainty != "likely")


def _japanese(data: bytes) -> CharsetGuess | None:
    """Shift-JIS: leads in 81-9F, which no other set of the field has as letters, with trails that may be ASCII."""
    leads = _SJIS_LEAD.findall(data)
    rest = _SJIS.sub(b"", data)
    if not leads or not _decodes(data, "shift_jis") or any(value >= 0x80 for value in rest):
        return None
    early = sum(lead[0] <= 0x9F for lead in leads)
    if early >= 0.6 * len(leads) and len(leads) > 1:
        return CharsetGuess("shift_jis", "likely", f"{len(leads)} double-byte characters with leads in 81-9F")
    return CharsetGuess("shift_jis", "possible", "every high byte is a half-width kana or begins a pair")


def _western(data: bytes, lone: int, runs: int, other: bool) -> list[CharsetGuess]:
    """Latin-1, or its superset where codes 80-9F are used, which Latin-1 has for control characters."""
    codec, why = "latin-1", "single high bytes among ASCII"
    if _C1.search(data):
        if not _decodes(data, "cp1252"):
            return [CharsetGuess("latin-1", "possible", "every byte is a character of it")]
        codec, why = "cp1252", "codes 80-9F are used, which Latin-1 leaves to control characters"
    units = len(_UNITS.findall(data))
    likely = not other and lone >= 0.7 * runs
    if units and likely:
        why += f"; {units} of them read as µ, °, ±, ² or ³"
    return [CharsetGuess(codec, "likely" if likely else "possible", why)]


def _decodes(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return False
    return True
