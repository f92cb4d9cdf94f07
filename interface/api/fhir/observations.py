"""Observations that a statement found, as JSON of parts that are found again by the very bytes that the database sent:
most of a result is what others of its test, visit and specimen are too, and nothing of that is read twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from interface.domain.views import Audience, ObservationRow
from interface.render import fhir
from interface.render.fhir import Json
from interface.store.search.cover import (
    IDS,
    SAID,
    TEST,
    VISIT,
    read_observation,
    read_said,
    read_test,
    read_visit,
)
from interface.store.search.engine import Row

# Parts of each sort; bytes of what was sent of one, and of all: what is made of them is about as long again.
_MOST_KEPT, _LARGEST_KEPT, _MOST_BYTES = 10_000, 4_000, 4 << 20

_Part = TypeVar("_Part")


class _Visit(NamedTuple):
    patient_id: UUID | None
    updated: str
    json: str


class _Test(NamedTuple):
    what: str
    rest: str


class _Parts(dict[bytes, _Part], Generic[_Part]):
    """Parts by what was sent of them. Bounded in number and size."""

    def __init__(self, make: Callable[[bytes], _Part]) -> None:
        super().__init__()
        self._make = make
        self._bytes = 0

    def __missing__(self, sent: bytes) -> _Part:
        part = self._make(sent)
        if len(sent) <= _LARGEST_KEPT:
            if len(self) >= _MOST_KEPT or self._bytes >= _MOST_BYTES:
                self.clear()
                self._bytes = 0
            self[sent] = part
            self._bytes += len(sent)
        return part


class Rendering:
    """What is remembered for one audience."""

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self.visits, self.tests, self.said = _Parts(self._visit), _Parts(self._test), _Parts(self._said)

    @staticmethod
    def _visit(sent: bytes) -> _Visit:
        visit = read_visit(sent)
        return _Visit(visit.patient_id, visit.updated, fhir.observation_visit(*visit))

    def _test(self, sent: bytes) -> _Test:
        test = read_test(sent, self.audience)
        return _Test(fhir.observation_what(*test[:4]), fhir.observation_rest(*test[4:]))

    def _said(self, sent: bytes) -> str:
        return fhir.observation_said(*read_said(sent, self.audience))


rendering = cache(Rendering)


class ShownResult(NamedTuple):
    """One Observation of a page (`types.AnyShown`): as JSON at once where nobody needs the elements."""

    covered: Row
    visit: _Visit
    known: Rendering

    @classmethod
    def of(cls, covered: Row, audience: Audience) -> ShownResult:
        known = rendering(audience)
        return cls(covered, known.visits[covered[VISIT]], known)

    @property
    def id(self) -> UUID:
        found: UUID = self.covered[0]
        return found

    @property
    def name(self) -> str:
        """The id as a text."""
        found: str = self.covered[IDS][:36]
        return found

    @property
    def patient_id(self) -> UUID | None:
        return self.visit.patient_id

    @property
    def updated_at(self) -> datetime:
        return datetime.fromisoformat(self.visit.updated)

    @property
    def version(self) -> str:
        """meta.versionId."""
        found: str = self.covered[IDS][36:72]
        return found

    @property
    def row(self) -> ObservationRow:
        return read_observation(self.covered, self.known.audience)

    @property
    def resource(self) -> Json:
        return fhir.observation_of(self.row)

    @property
    def json(self) -> bytes:
        covered, visit, known = self
        test = known.tests[covered[TEST]]
        parts = test.what, visit.json, known.said[covered[SAID]], test.rest
        return fhir.observation_together(covered[IDS], visit.updated, *parts)
