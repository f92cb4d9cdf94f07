"""Which order item an observation answers: exactly one, or it is held. An analyzer's demographics are only compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interface.domain.model import (
    HoldReason,
    ObservedPatient,
    OrderedItem,
    PatientFacts,
    Sex,
    SpecimenFacts,
)
from interface.domain.states import CLOSED_ITEM, DONE_ITEM
from interface.settings import Unsolicited


@dataclass(frozen=True, slots=True)
class Match:
    """`unsolicited`: taken without an order by the link's policy; then there is neither specimen nor patient."""

    specimen: SpecimenFacts | None = None
    item: OrderedItem | None = None
    patient: PatientFacts | None = None
    unsolicited: bool = False
    holds: tuple[HoldReason, ...] = ()
    text: str = ""  # for the explanation; without patient data


def match(
    specimens: Sequence[SpecimenFacts],
    test_id: str | None,
    observed_patient: ObservedPatient | None,
    policy: Unsolicited,
    *,
    identified: bool = True,
) -> Match:
    """Find the one order item the observation answers.

    `specimens`: all open specimens with the barcode as sent. `test_id` None: the code is unmapped, only the specimen is
    looked for. `identified` False: the analyzer sent no specimen id; there is nothing to register such a result under.
    """
    if not specimens:
        if identified and policy is Unsolicited.REGISTER:
            return Match(unsolicited=True, text="no order for this specimen; taken unsolicited, without a patient")
        text = "no open specimen with this barcode" if identified else "no specimen id was sent"
        return Match(holds=(HoldReason.NO_SUCH_SPECIMEN,), text=text)
    if len(specimens) > 1:
        return Match(holds=(HoldReason.AMBIGUOUS_SPECIMEN,), text=f"{len(specimens)} open specimens carry this barcode")
    specimen = specimens[0]
    differing = differences(observed_patient, specimen.patient)
    holds = (HoldReason.PATIENT_MISMATCH,) if differing else ()
    texts = [f"the analyzer's patient differs in {', '.join(differing)}"] if differing else []
    item, reason, text = _item(specimen, test_id)
    if reason is not None:
        holds = (*holds, reason)
    texts.append(text)
    return Match(specimen, item, specimen.patient, False, holds, "; ".join(texts))


def _item(specimen: SpecimenFacts, test_id: str | None) -> tuple[OrderedItem | None, HoldReason | None, str]:
    if test_id is None:
        return None, None, "specimen found; no test to look for"
    items = [item for item in specimen.items if item.test_id == test_id and item.status not in CLOSED_ITEM]
    waiting = [
        item for item in items if item.status not in DONE_ITEM
    ] or items  # a rerun answers what is already completed
    if not waiting:
        return None, HoldReason.NOT_ORDERED, "the test is not ordered on this specimen"
    if len(waiting) > 1:
        return None, HoldReason.AMBIGUOUS_SPECIMEN, f"{len(waiting)} order items wait for this test on this specimen"
    return waiting[0], None, "one order item"


def differences(observed: ObservedPatient | None, patient: PatientFacts | None) -> tuple[str, ...]:
    """What the analyzer says about the patient against the order: of id, birth date, sex, those both sides know.

    A different name is no contradiction: analyzers cut, transliterate and reorder names.
    """
    if observed is None or patient is None:
        return ()
    found = []
    sent_id = observed.patient_id.strip().casefold()
    if sent_id and patient.identifiers and sent_id not in {known.strip().casefold() for known in patient.identifiers}:
        found.append("id")
    if observed.birth_date and patient.birth_date and observed.birth_date != patient.birth_date:
        found.append("birth date")
    unknown = (None, Sex.UNKNOWN)
    if observed.sex not in unknown and patient.sex not in unknown and observed.sex is not patient.sex:
        found.append("sex")
    return tuple(found)
