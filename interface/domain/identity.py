"""When two results are the same result: the natural key of DESIGN §1.2. Pure."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from interface.domain.model import Observed, ObservedSpecimen


def natural_key(analyzer_id: str, specimen: ObservedSpecimen, observed: Observed, *, message: str = "") -> bytes:
    """Analyzer, specimen as sent, full code path with sub-id, occurrence in the message, instrument time as sent.

    Value and status are not in it: another value under the same key is a new version. `message` is put in where the key
    would otherwise join what may not belong together (no specimen id; a control from an analyzer without a clock).
    """
    parts = (
        _part(analyzer_id),
        _part(specimen.specimen_id or ""),
        _part(observed.code_path or observed.code),
        _part(observed.sub_id),
        _part(str(observed.occurrence)),
        _part(observed.instrument_time),
        _part(message),
    )
    return blake2b(b"".join(parts), digest_size=24).digest()


@lru_cache(maxsize=4096)  # most parts are the same in every message, or in every result of one
def _part(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(4, "big") + encoded
