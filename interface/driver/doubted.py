"""What a sender says by HL7's own tables against a specimen or a reagent that it measured with. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from interface.wire.hl7 import Segment
from interface.wire.hl7_values import coded

# HL7 tables 0493 (SPM-24: autolyzed, clotted, contaminated, haemolysed, no sample) and 0383 (INV-2: errors; a warning
# is of the stock). Any reason to reject the specimen (SPM-21) is one to doubt what was found in it.
_DOUBTS: dict[str, tuple[tuple[int, frozenset[str]], ...]] = {
    "SPM": ((21, frozenset()), (24, frozenset({"AUT", "CLOT", "CON", "HEM", "SNR"}))),
    "INV": ((2, frozenset({"CE", "EE", "NE", "OE", "PE", "QE"})),),
}


def doubted(segments: Iterable[Segment]) -> bool:
    """Whether one of the segments says so."""
    return any(_says(segment, number, words) for segment in segments for number, words in _DOUBTS.get(segment.id, ()))


def _says(segment: Segment, number: int, words: frozenset[str]) -> bool:
    if not words:
        return any(said != '""' for said in coded(segment, number))
    return any(one.strip() in words for one in segment.every(number, 1))
