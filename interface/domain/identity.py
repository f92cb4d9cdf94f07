"""When two results are the same result: the natural key of DESIGN §1.2. Pure."""

from __future__ import annotations

from hashlib import blake2b

from interface.domain.model import Observed, ObservedSpecimen


def natural_key(analyzer_id: str, specimen: ObservedSpecimen, observed: Observed, *, message: str = "") -> bytes:
    """Analyzer, specimen as sent, full code path with sub-id, occurrence in the message, instrument time as sent.

    Value and status are not in it: another value under the same key is a new version. `message` is put in where the key
    would otherwise join what may not belong together (no specimen id; a control from an analyzer without a clock).
    """
    parts = (
        analyzer_id,
        specimen.specimen_id or "",
        observed.code_path or observed.code,
        observed.sub_id,
        str(observed.occurrence),
        observed.instrument_time,
        message,
    )
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return blake2b(b"".join([len(each).to_bytes(4, "big") + each for each in encoded]), digest_size=24).digest()
