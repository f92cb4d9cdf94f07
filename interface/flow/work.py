"""A decoded message that waits for its decision: its results and controls, each with its natural key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta, tzinfo
from hashlib import blake2b
from zoneinfo import ZoneInfo

from interface.domain.barcodes import barcode_of
from interface.domain.identity import control_keys, natural_key, natural_keys
from interface.domain.model import (
    RELEASED,
    DecodedMessage,
    HoldReason,
    Observed,
    ObservedSpecimen,
    Protocol,
    ResultStatus,
    SpecimenFacts,
    SpecimenRole,
)
from interface.driver.sent_at import rote_of, zone_of
from interface.flow.context import LinkContext
from interface.flow.message import frame_text
from interface.store.results import CurrentResult
from interface.store.stored_messages import StoredMessage
from interface.store.surroundings import Locked


@dataclass(frozen=True, slots=True)
class Work:
    """A message that has been decoded and waits for its decision."""

    message: StoredMessage
    link: LinkContext
    decoded: DecodedMessage
    holds: tuple[HoldReason, ...] = ()  # what stands against the whole message
    # The patient specimens it speaks of; results of one specimen are decided in the order they came.
    barcodes: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _keyed: tuple[tuple[ObservedSpecimen, Observed, bytes], ...] = field(init=False, repr=False, compare=False)
    zone: tzinfo = field(init=False, repr=False, compare=False)  # of its times that name none, or this one:
    by_rote: timedelta | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = {self.barcode(one) for one in self.decoded.specimens if one.specimen_id and is_patient(one)}
        object.__setattr__(self, "barcodes", tuple(sorted(named)))
        analyzer_id, message_id = str(self.link.analyzer_id), str(self.message.id)
        keyed: list[tuple[ObservedSpecimen, Observed, bytes]] = []
        for specimen in self.decoded.specimens:
            if is_patient(specimen):
                keys = natural_keys(analyzer_id, specimen, message="" if specimen.specimen_id else message_id)
                keyed += [(specimen, observed, keys[at]) for at, observed in enumerate(specimen.results)]
        object.__setattr__(self, "_keyed", tuple(keyed))
        zone: tzinfo = ZoneInfo(self.link.settings.timezone)
        rote = None
        if self.message.protocol == Protocol.HL7 and self.message.frames:
            text = frame_text(self.message.frames[0])
            if not self.link.settings.offset_by_rote:
                zone = zone_of(text, zone, self.message.received_at)
            rote = rote_of(text, zone)
        object.__setattr__(self, "zone", zone)
        object.__setattr__(self, "by_rote", rote)

    @property
    def incomplete(self) -> bool:
        return self.message.state == "incomplete"

    def barcode(self, specimen: ObservedSpecimen) -> str:
        """What the specimen's id as sent is in the laboratory, by the rules of the link; "" when none was sent."""
        return barcode_of(specimen.specimen_id or "", self.link.settings.barcode)

    def keys(self) -> list[bytes]:
        """The natural keys of its patient results."""
        return [key for _, _, key in self._keyed]

    def observations(self) -> tuple[tuple[ObservedSpecimen, Observed, bytes], ...]:
        """Its patient results with their natural keys, in the order of the message."""
        return self._keyed

    @property
    def has_controls(self) -> bool:
        return any(specimen.results for specimen in self.decoded.specimens if not is_patient(specimen))

    def controls(self) -> Iterator[tuple[ObservedSpecimen, Observed, bytes]]:
        """Its results on no patient's specimen. Without an instrument time each message is a point of its own; so is
        one that was cut, which makes no point, so that the whole message does."""
        own = str(self.message.id)
        found = (
            (specimen, observed, "" if observed.instrument_time and not self.incomplete else own)
            for specimen in self.decoded.specimens
            if not is_patient(specimen)
            for observed in specimen.results
        )
        return control_keys(str(self.link.analyzer_id), found)


def said_again(decoded: DecodedMessage) -> DecodedMessage:
    """What a message may say whose bytes came before, from a sender that had taken our reply to them: what has no time,
    of controls the second measurement, of patients a rerun that was told (`Surroundings.reruns`). Nothing else is
    anything new (DESIGN §1.2)."""
    specimens = (
        replace(specimen, results=tuple(one for one in specimen.results if not one.instrument_time))
        for specimen in decoded.specimens
    )
    return replace(decoded, specimens=tuple(one for one in specimens if one.results), queries=(), problems=())


def is_patient(specimen: ObservedSpecimen) -> bool:
    return specimen.role is SpecimenRole.PATIENT


def keys_apart(
    work: Work, specimens: Mapping[str, tuple[SpecimenFacts, ...]], current: Mapping[bytes, CurrentResult]
) -> dict[bytes, bytes]:
    """The natural keys under which there is a result of another specimen, each with the key to take instead.

    A barcode that is used again, on an analyzer that sends no time, has the keys of the tube that carried it before:
    the result of the one is never a version of the other's.
    """
    apart = {}
    for specimen, observed, key in work.observations():
        known = current.get(key)
        found = specimens.get(work.barcode(specimen), ())
        specimen_id = found[0].id if len(found) == 1 else None
        if known is None or (str(known.specimen_id) if known.specimen_id else None) == specimen_id:
            continue
        if known.specimen_id is None and known.status not in RELEASED:
            continue  # what came before its order belongs to the specimen once there is one
        own = f"specimen {specimen_id or 'not known'}"
        apart[key] = natural_key(str(work.link.analyzer_id), specimen, observed, message=own)
    return apart


def keys_after(
    work: Work, apart: Mapping[bytes, bytes], current: Mapping[bytes, CurrentResult]
) -> Iterator[tuple[bytes, bytes, CurrentResult]]:
    """Of the results that were retracted: the key as sent, the key to take instead, and what was retracted.

    Whoever has a released result must go on seeing that it was entered in error: what comes after it is another.
    """
    for specimen, observed, key in work.observations():
        known = current.get(apart.get(key, key))
        if known is not None and known.status is ResultStatus.ENTERED_IN_ERROR:
            own = f"after {known.id}"
            yield key, natural_key(str(work.link.analyzer_id), specimen, observed, message=own), known


@dataclass(frozen=True, slots=True)
class Rerun:
    """The run that a result without a time may be. `before`: the run that it repeats; `told`: the analyzer was told to.

    `open`: nothing has answered it.
    """

    before: CurrentResult
    told: bool
    open: bool


def keys_of_reruns(
    work: Work, apart: Mapping[bytes, bytes], current: Mapping[bytes, CurrentResult], locked: Locked
) -> Iterator[tuple[bytes, bytes, Rerun]]:
    """Of the results of which another run was asked for before the message came: the key as sent, and the run's own.

    An analyzer that sends no time says a rerun under the key of the run before, of which it would be a version, or
    nothing new where the value is the same: the run that was asked for would never come.
    """
    if not locked.led:
        return
    items = {one.id: one.item_id for results in locked.results.values() for one in results}
    came = work.message.received_at
    for specimen, observed, key in work.observations():
        known = current.get(apart.get(key, key)) if not observed.instrument_time else None
        led = [one for one in locked.led.get(items.get(known.id, ""), ()) if one.result_id == known.id] if known else []
        if known is not None and (led := [one for one in led if one.asked_before(came)]):
            own = natural_key(str(work.link.analyzer_id), specimen, observed, message=f"run again after {known.id}")
            rerun = Rerun(known, any(one.told(came) for one in led), any(one.open for one in led))
            yield key, own, rerun


def own_key(*parts: str) -> bytes:
    """The natural key of a result that no analyzer sent: one for each specimen or order item, and test."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return blake2b(b"".join([len(each).to_bytes(4, "big") + each for each in encoded]), digest_size=24).digest()
