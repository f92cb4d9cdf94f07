"""When two results are the same result: the natural key of DESIGN §1.2. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from interface.domain.model import Observed, ObservedSpecimen

BEGINNING: Final = 12  # bytes of the specimen's id, by which results are found too (`store.as_sent`)
KEY_LENGTH: Final = BEGINNING + 16


def natural_key(analyzer_id: str, specimen: ObservedSpecimen, observed: Observed, *, message: str = "") -> bytes:
    """Analyzer, specimen as sent, full code path with sub-id, occurrence in the message, instrument time as sent.

    Value and status are not in it: another value under the same key is a new version. `message` is put in where the key
    would otherwise join what may not belong together (no specimen id; a control from an analyzer without a clock).
    Of controls see `control_keys`.
    The keys of a specimen begin as its id does. Laboratories count their specimens, so that what is measured now lies
    together in an index, at its end, however many results there are of before.
    """
    beginning, told = _specimen(analyzer_id, specimen.specimen_id or "")
    return beginning + _digest(told, observed, message)


def natural_keys(analyzer_id: str, specimen: ObservedSpecimen, *, message: str = "") -> list[bytes]:
    """The natural keys of all results of a specimen as sent, in their order."""
    beginning, told = _specimen(analyzer_id, specimen.specimen_id or "")
    begun = blake2b(told, digest_size=16)
    keys: list[bytes] = []
    sent_time, when = "", _when("", message)  # one message, one time for most of its results
    for observed in specimen.results:
        if observed.instrument_time != sent_time:
            sent_time = observed.instrument_time
            when = _when(sent_time, message)
        digest = begun.copy()
        digest.update(_which(observed.code_path or observed.code, observed.sub_id, observed.occurrence) + when)
        keys.append(beginning + digest.digest())
    return keys


def _control_key(analyzer_id: str, specimen: ObservedSpecimen, observed: Observed, message: str) -> bytes:
    _, told = _specimen(analyzer_id, specimen.specimen_id or "")
    return blake2b(told, digest_size=8).digest() + _digest(told, observed, message)


def _digest(told: bytes, observed: Observed, message: str) -> bytes:
    which = _which(observed.code_path or observed.code, observed.sub_id, observed.occurrence)
    return blake2b(told + which + _when(observed.instrument_time, message), digest_size=16).digest()


def control_keys(
    analyzer_id: str, controls: Iterable[tuple[ObservedSpecimen, Observed, str]]
) -> Iterator[tuple[ObservedSpecimen, Observed, bytes]]:
    """The keys of a message's controls; with each its `message`, as for `natural_key`.

    A control has no versions: another value is another measurement, though it be of the same second (two at once, a
    clock that says the minute). So the value as sent, the lot, the level and the module are in the key; and of what is
    the same in all of them the how manyth it is, not where it stands: a resend of some of it, or in another order, is
    the same as before. What is said without a doubt is not what was doubted before.
    """
    seen: Counter[bytes] = Counter()
    for specimen, observed, message in controls:
        said = observed.measured_with
        parts = message, said.module, said.control_lot, said.level, observed.raw_value, observed.unit, *observed.holds
        own = "".join(f"{len(part)}:{part}" for part in parts)
        key = _control_key(analyzer_id, specimen, replace(observed, occurrence=0), own)
        if seen[key]:
            nth = replace(observed, occurrence=seen[key])
            yield specimen, observed, _control_key(analyzer_id, specimen, nth, own)
        else:
            yield specimen, observed, key
        seen[key] += 1


@lru_cache(maxsize=256)
def _specimen(analyzer_id: str, specimen_id: str) -> tuple[bytes, bytes]:
    beginning = specimen_id.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "surrogatepass")
    return beginning[:BEGINNING].ljust(BEGINNING, b"\0"), _told(analyzer_id) + _told(specimen_id)


_WHICH: dict[tuple[str, str, int], bytes] = {}
_MOST_WHICH, _LONG = 4096, 200  # characters; what is longer is not kept


def _which(code_path: str, sub_id: str, occurrence: int) -> bytes:
    """The same in every message."""
    which = code_path, sub_id, occurrence
    known = _WHICH.get(which)
    if known is None:
        known = _told(code_path) + _told(sub_id) + _told(str(occurrence))
        if len(known) > _LONG:
            return known
        if len(_WHICH) >= _MOST_WHICH:
            _WHICH.clear()
        _WHICH[which] = known
    return known


def _when(instrument_time: str, message: str) -> bytes:
    return _told(instrument_time) + _told(message)


_TOLD: dict[str, bytes] = {}
_MOST_TOLD = 4096


def _told(part: str) -> bytes:
    """The part so that it is told from the next. Most are the same in every message, or in every result of one."""
    known = _TOLD.get(part)
    if known is None:
        encoded = part.encode("utf-8", "surrogatepass")
        known = len(encoded).to_bytes(4, "big") + encoded
        if len(known) > _LONG:
            return known
        if len(_TOLD) >= _MOST_TOLD:
            _TOLD.clear()
        _TOLD[part] = known
    return known
