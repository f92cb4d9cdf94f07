"""When two results are the same result: the natural key of DESIGN §1.2. Pure."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from interface.domain.model import Observed, ObservedSpecimen


def natural_key(analyzer_id: str, specimen: ObservedSpecimen, observed: Observed, *, message: str = "") -> bytes:
    """Analyzer, specimen as sent, full code path with sub-id, occurrence in the message, instrument time as sent.

    Value and status are not in it: another value under the same key is a new version. `message` is put in where the key
    would otherwise join what may not belong together (no specimen id; a control from an analyzer without a clock).
    The keys of a specimen begin alike, so that they lie together in an index however many results there are.
    """
    specimen_key, told = _specimen(analyzer_id, specimen.specimen_id or "")
    return (
        specimen_key
        + blake2b(
            told
            + _told(observed.code_path or observed.code)
            + _told(observed.sub_id)
            + _told(str(observed.occurrence))
            + _told(observed.instrument_time)
            + _told(message),
            digest_size=16,
        ).digest()
    )


@lru_cache(maxsize=256)
def _specimen(analyzer_id: str, specimen_id: str) -> tuple[bytes, bytes]:
    told = _told(analyzer_id) + _told(specimen_id)
    return blake2b(told, digest_size=8).digest(), told


@lru_cache(maxsize=4096)  # most parts are the same in every message, or in every result of one
def _told(part: str) -> bytes:
    """The part so that it is told from the next."""
    encoded = part.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(4, "big") + encoded
