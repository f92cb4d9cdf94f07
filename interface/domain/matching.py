"""Which order item an observation answers: exactly one, or it is held. An analyzer's demographics are only compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from interface.domain.barcodes import CONTROL_LIKE, NO_CONTROLS, ControlNames, control_like
from interface.domain.model import (
    HoldReason,
    ObservedPatient,
    OrderedItem,
    PatientFacts,
    Sex,
    SpecimenFacts,
)
from interface.domain.names import search_words
from interface.domain.record import record
from interface.domain.states import CLOSED_ITEM, DONE_ITEM
from interface.settings import NameMismatch, Unsolicited

_TITLES = frozenset({"mr", "mrs", "ms", "miss", "dr", "prof", "herr", "frau", "mme", "mlle"})


@record
class Match:
    """`unsolicited`: taken without an order by the link's policy; then there is neither specimen nor patient."""

    specimen: SpecimenFacts | None = None
    item: OrderedItem | None = None
    patient: PatientFacts | None = None
    unsolicited: bool = False
    holds: tuple[HoldReason, ...] = ()
    text: str = ""  # for the explanation; without patient data
    window_from: str = ""  # since when the specimen's age is counted, where it was not when it was received: created


@dataclass(frozen=True, slots=True)
class Policy:
    """How a link's results are matched. `control_ids`: patterns of ids that are controls' for certain; `controls`: what
    the laboratory's lots of controls are called."""

    unsolicited: Unsolicited = Unsolicited.HOLD
    window_days: int = 0  # 0: specimens of any age
    control_ids: tuple[str, ...] = ()
    names: NameMismatch = NameMismatch.IGNORE
    controls: ControlNames = NO_CONTROLS


NO_POLICY = Policy()


def match(
    specimens: Sequence[SpecimenFacts],
    test_id: str | None,
    observed_patient: ObservedPatient | None,
    policy: Policy,
    *,
    sent: str | None,
    at: datetime | None = None,
) -> Match:
    """Find the one order item the observation answers.

    `specimens`: all open specimens with the barcode. `test_id` None: the code is unmapped, only the specimen is looked
    for. `sent`: the specimen id as sent, None when there was none: there is nothing to register such a result under.
    `at`: when the message came.
    """
    return Finder(specimens, observed_patient, policy, sent, at).find(test_id)


class Finder:
    """`match` for all results of one specimen: what is so of each of them is looked at once."""

    __slots__ = ("_before", "_holds", "_items", "_specimen", "_whole", "_window_from")

    def __init__(
        self,
        specimens: Sequence[SpecimenFacts],
        observed_patient: ObservedPatient | None,
        policy: Policy,
        sent: str | None,
        at: datetime | None,
    ) -> None:
        self._items: dict[str, tuple[OrderedItem, ...]] = {}  # that are not closed, by test
        self._whole, self._specimen = _whole(specimens, policy, sent, at)
        self._holds: tuple[HoldReason, ...] = ()
        self._before = self._window_from = ""
        if self._specimen is not None:
            since = window_from(self._specimen)
            self._window_from = since if policy.window_days and since == CREATED else ""
            self._compare(observed_patient, self._specimen.patient, policy)
            for item in self._specimen.items:
                if item.status not in CLOSED_ITEM:
                    others = self._items.get(item.test_id)
                    self._items[item.test_id] = (item,) if others is None else (*others, item)

    def _compare(self, observed: ObservedPatient | None, patient: PatientFacts | None, policy: Policy) -> None:
        if differing := differences(observed, patient):
            self._holds = (HoldReason.PATIENT_MISMATCH,)
            self._before = f"the analyzer's patient differs in {', '.join(differing)}; "
        if not same_name(observed, patient):
            if policy.names is NameMismatch.HOLD:
                self._holds = (*self._holds, HoldReason.PATIENT_NAME)
            self._before += f"the analyzer's patient has another name ({policy.names}); "

    def find(self, test_id: str | None) -> Match:
        """The match of a result of this test."""
        if self._whole is not None:
            return self._whole
        specimen = self._specimen
        item, reason, text = _item(self._items.get(test_id, ()) if test_id is not None else None)
        holds = self._holds if reason is None else (*self._holds, reason)
        patient = specimen.patient if specimen else None
        return Match(specimen, item, patient, False, holds, self._before + text, self._window_from)


def _whole(
    specimens: Sequence[SpecimenFacts], policy: Policy, sent: str | None, at: datetime | None
) -> tuple[Match | None, SpecimenFacts | None]:
    """What is said of every result whatever its test, or the one specimen whose items are to be looked at."""
    if sent is not None and (held := _control(sent, policy, known=bool(specimens))) is not None:
        return held, None
    recent = [one for one in specimens if _recent(one, policy.window_days, at)]
    if not recent:
        if specimens:
            since = window_from(max(specimens, key=_known_since))
            text = f"the specimen with this barcode was {since} more than {policy.window_days} days ago"
            return Match(holds=(HoldReason.OUTSIDE_WINDOW,), text=text, window_from=since), None
        if sent and policy.unsolicited is Unsolicited.REGISTER:
            text = "no order for this specimen; taken unsolicited, without a patient"
            return Match(unsolicited=True, text=text), None
        text = "no open specimen with this barcode" if sent else "no specimen id was sent"
        return Match(holds=(HoldReason.NO_SUCH_SPECIMEN,), text=text), None
    if len(recent) > 1:
        text = f"{len(recent)} open specimens carry this barcode"
        return Match(holds=(HoldReason.AMBIGUOUS_SPECIMEN,), text=text), None
    return None, recent[0]


def _control(sent: str, policy: Policy, *, known: bool) -> Match | None:
    """An id that is a control's by the link's patterns; by the common names of controls, where no specimen has it."""
    if control_like(sent, policy.control_ids):
        return Match(holds=(HoldReason.CONTROL_LIKE_ID,), text="by the link's patterns this is a control's id")
    if policy.controls.hold(sent, known=known):
        return Match(holds=(HoldReason.CONTROL_LIKE_ID,), text="a lot of a control is called so")
    if not known and control_like(sent, CONTROL_LIKE):
        return Match(holds=(HoldReason.CONTROL_LIKE_ID,), text="no specimen has this id, which looks like a control's")
    return None


RECEIVED, CREATED = "received", "created"
_EVER = datetime.min.replace(tzinfo=UTC)


def window_from(specimen: SpecimenFacts) -> str:
    """What the window counts from: when the specimen was received, or else made, with its order; the later of them."""
    received = specimen.received_at
    return RECEIVED if received is not None and received >= (specimen.created_at or received) else CREATED


def _known_since(specimen: SpecimenFacts) -> datetime:
    return max((one for one in (specimen.received_at, specimen.created_at) if one is not None), default=_EVER)


def _recent(specimen: SpecimenFacts, window_days: int, at: datetime | None) -> bool:
    """Whether the specimen was received, or ordered, within the window. What nobody knows the age of is not old."""
    since = _known_since(specimen)
    return not window_days or at is None or since is _EVER or at - since <= timedelta(days=window_days)


# Between two clocks of which one has kept winter time, and for a collection that was noted when it was over.
CLOCKS_APART = timedelta(hours=2)


def before(specimen: SpecimenFacts, measured: datetime, received_at: datetime, others: Iterable[SpecimenFacts]) -> str:
    """Why a result cannot be of the specimen that carries its barcode now; "" where it can.

    An analyzer that was away sends what it kept, and a message that is decided anew is an old one: both may be of a
    tube that carried the barcode before. `measured`: by the instrument's clock where that is believed; `others`: those
    that carry the barcode and can be measured no more.
    """
    if specimen.collected_at is not None and (text := before_collected(specimen.collected_at, measured)):
        return text
    made = specimen.created_at
    if made is not None and (received_at < made or measured + CLOCKS_APART < made):
        if any(one.created_at is not None and one.created_at < min(received_at, made) for one in others):
            return "it was measured before the specimen was made, while another carried the barcode"
    return ""


def before_collected(collected_at: datetime, measured: datetime) -> str:
    """The same of what is said of the collection alone."""
    return "it was measured before the specimen was collected" if measured + CLOCKS_APART < collected_at else ""


def _item(items: tuple[OrderedItem, ...] | None) -> tuple[OrderedItem | None, HoldReason | None, str]:
    """Of the items of the test that are not closed; None: there is no test to look for."""
    if items is None:
        return None, None, "specimen found; no test to look for"
    if len(items) == 1:  # done or not: a rerun answers what is already completed
        return items[0], None, "one order item"
    waiting = tuple([item for item in items if item.status not in DONE_ITEM]) or items
    if not waiting:
        return None, HoldReason.NOT_ORDERED, "the test is not ordered on this specimen"
    if len(waiting) > 1:
        return None, HoldReason.AMBIGUOUS_SPECIMEN, f"{len(waiting)} order items wait for this test on this specimen"
    return waiting[0], None, "one order item"


def differences(observed: ObservedPatient | None, patient: PatientFacts | None) -> tuple[str, ...]:
    """What the analyzer says about the patient against the order: of id, birth date, sex, those both sides know."""
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


def same_name(observed: ObservedPatient | None, patient: PatientFacts | None) -> bool:
    """Whether the two names can be one: analyzers cut, transliterate and reorder names, and leave parts of them out.

    Compared without case, accents, order and punctuation, a word with its beginning. One side's words must all be among
    the other's. What either does not know is no difference.
    """
    if observed is None or patient is None:
        return True
    return _one_name(observed.name, f"{patient.family} {patient.given}")


@lru_cache(maxsize=4096)
def _one_name(sent: str, known: str) -> bool:
    ours, theirs = _spelled(known), _spelled(sent)
    if not ours or not theirs:
        return True
    return _all_among(theirs, ours) or _all_among(ours, theirs)


def _spelled(name: str) -> tuple[tuple[str, ...], ...]:
    """The words of a name, each in its spellings; titles left out."""
    words = search_words(name.replace("^", " ").replace(",", " "))
    return tuple(word for word in words if not _TITLES.issuperset(word))


def _all_among(some: tuple[tuple[str, ...], ...], all_: tuple[tuple[str, ...], ...]) -> bool:
    """Whether each word of the one has a word of its own in the other."""
    left = list(all_)
    for word in sorted(some, key=lambda each: -len(each[0])):
        found = next((one for one in left if _one_word(word, one)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _one_word(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """The same word, or the beginning of it: names are cut, and given names are initials."""
    return any(a.startswith(b) or b.startswith(a) for a in one for b in other)
