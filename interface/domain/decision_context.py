"""What the decision on an observation is taken in: the message, the laboratory's catalogue, and the specimens it may
speak of; with what is so for many of its observations found once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time
from functools import lru_cache

from interface.domain.book import Book, Limits, book_of, which
from interface.domain.catalogue import Catalogue
from interface.domain.facts import Subject
from interface.domain.matching import NO_POLICY, Finder, Match, Policy
from interface.domain.model import HoldReason, LabTest, ObservedPatient, SpecimenFacts, Step
from interface.domain.record import record
from interface.domain.subject import at_collection, possible_collections

RULES = "decide/7"  # the version of these rules in explanations; raise it with every change of what they say


@dataclass(slots=True)
class _Last:
    """What was found for the result before, of which most is so for the next as well."""

    book: Book | None = None
    specimen: SpecimenFacts | None = None
    specimen_type: str = ""
    people: dict[str, Limits] | None = None
    holds: tuple[HoldReason, ...] = ()
    decoded: Step | None = None
    match: Match | None = None
    matched: Step | None = None


@record
class DecisionContext:
    """What the decision on an observation is taken in. `specimens`: every open specimen with the barcode as sent."""

    catalogue: Catalogue
    driver: str = ""
    driver_revision: str = ""
    specimens: tuple[SpecimenFacts, ...] = ()
    observed_patient: ObservedPatient | None = None
    policy: Policy = NO_POLICY
    incomplete: bool = False  # the transmission was cut before its end
    received_at: datetime | None = None  # when the message came; bounds an unknown collection time
    holds: tuple[HoldReason, ...] = ()  # what stands against the whole message, such as driver_mismatch
    analyzer: str = ""  # its name in this laboratory: intervals may ask for it
    _subjects: dict[tuple[str, str], tuple[Subject, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _people: dict[tuple[str, str], dict[str, Limits]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _finders: dict[str | None, Finder] = field(default_factory=dict, init=False, compare=False, repr=False)
    _last: _Last = field(default_factory=_Last, init=False, compare=False, repr=False)

    def collections(self, specimen: SpecimenFacts | None, specimen_type: str) -> tuple[Subject, ...]:
        """Whose results they are at each instant at which the specimen may have been collected; worked out once."""
        key = (specimen.id if specimen else "", specimen_type)
        found = self._subjects.get(key)
        if found is None:
            times, born = self._times(specimen), self._born(specimen)
            found = self._of(specimen, specimen_type, possible_collections(*times, born))
            if len(found) > 1 and self.book.may_differ_between(found[0], found[-1]):
                found = self._of(specimen, specimen_type, possible_collections(*times, born, hourly=True))
            self._subjects[key] = found
        return found

    def _of(
        self, specimen: SpecimenFacts | None, specimen_type: str, instants: tuple[datetime | None, ...]
    ) -> tuple[Subject, ...]:
        patient, zone = specimen.patient if specimen else None, self.catalogue.zone
        return tuple([at_collection(patient, specimen, specimen_type, at, zone) for at in instants])

    def _times(self, specimen: SpecimenFacts | None) -> tuple[datetime | None, datetime | None]:
        """When the specimen was collected, and when it was here for certain: with a message about it at the latest."""
        if specimen is None:
            return None, self.received_at
        known = [at for at in (specimen.received_at, self.received_at) if at is not None]
        return specimen.collected_at, min(known, default=None)

    def _born(self, specimen: SpecimenFacts | None) -> datetime | None:
        """The first instant at which the patient may have been born, as far as it is known."""
        patient = specimen.patient if specimen else None
        if patient is None or patient.birth_at is not None or patient.birth_date is None:
            return patient.birth_at if patient else None
        return datetime.combine(patient.birth_date, time(), self.catalogue.zone)

    @property
    def book(self) -> Book:
        last = self._last
        if last.book is None:
            last.book = book_of(self.catalogue, self.driver, self.analyzer)
        return last.book

    def find(self, sent: str | None, test_id: str | None) -> Match:
        """The order item that a result of this test on the specimen with this id, as sent, answers."""
        finder = self._finders.get(sent)
        if finder is None:
            finder = Finder(self.specimens, self.observed_patient, self.policy, sent, self.received_at)
            self._finders[sent] = finder
        return finder.find(test_id)

    def limits(self, test: LabTest, method: str, specimen: SpecimenFacts | None, specimen_type: str) -> Limits:
        """The limits of a test, measured by a method ("": not known), for whom the specimen is of."""
        last = self._last
        people = last.people
        if people is None or last.specimen is not specimen or last.specimen_type != specimen_type:
            people = self._alike(specimen, specimen_type)
            last.people, last.specimen, last.specimen_type = people, specimen, specimen_type
        if method and method not in self.book.methods:
            method = ""  # no interval asks for it
        key = which(test, method)
        known = people.get(key)
        if known is None:
            subjects = self.collections(specimen, specimen_type)
            known = people[key] = self.book.limits(test, method, subjects)
        return known

    def _alike(self, specimen: SpecimenFacts | None, specimen_type: str) -> dict[str, Limits]:
        """What is known of the limits of people like whom the specimen is of."""
        key = (specimen.id if specimen else "", specimen_type)
        people = self._people.get(key)
        if people is None:
            people = self._people[key] = self.book.people(self.collections(specimen, specimen_type))
        return people

    def decoded(self, holds: tuple[HoldReason, ...]) -> Step:
        """The line that says what the driver made of a result; most have the same as the one before."""
        last = self._last
        step = last.decoded
        if step is None or (last.holds is not holds and last.holds != holds):
            step = last.decoded = _read_by(self.driver, self.driver_revision, holds)
            last.holds = holds
        return step

    def matched(self, found: Match) -> Step:
        """The line that says what a result answers; most have the same as the one before."""
        last, step = self._last, self._last.matched
        before = last.match
        if (
            step is None
            or before is None
            or before.text is not found.text
            or before.holds is not found.holds
            or before.unsolicited is not found.unsolicited
            or before.window_from is not found.window_from
        ):
            policy = "" if self.specimens else self.policy.unsolicited.value
            step = last.matched = _matched(found.text, bool(found.holds), found.unsolicited, policy, found.window_from)
        last.match = found
        return step


@lru_cache(maxsize=1024)
def _read_by(driver: str, revision: str, holds: tuple[HoldReason, ...]) -> Step:
    """What was sent stands in the columns of the version."""
    text = "held by " + ", ".join(hold.value for hold in holds) if holds else "read by the driver"
    return Step("decode", "hold" if holds else "ok", text, f"{driver} {revision}".strip())


@lru_cache(maxsize=1024)
def _matched(text: str, held: bool, unsolicited: bool, policy: str, window_from: str) -> Step:
    verdict = "hold" if held else "none" if unsolicited else "ok"
    said = {"policy": policy, "window_from": window_from}
    return Step("match", verdict, text, RULES, {name: word for name, word in said.items() if word})
