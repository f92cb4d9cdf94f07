"""Whatever happens to a laboratory, an EMR that keeps what it has read and asks for what is new has what is there.

Whether it searches by `_lastUpdated`, reads what the feed of changes names, or asks with the ETag that it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from interface.api.fhir.page import find_page
from interface.domain.views import Audience
from interface.flow import review, rules
from interface.flow.feed import Feed
from interface.store import changes
from interface.store.db import Connection
from tests.api.search_oracle import ELEMENTS
from tests.api.test_search_oracle import Asking
from tests.flow.rulebook import sent
from tests.flow.walk import Walk, walking

Resource = dict[str, Any]
Resources = dict[str, Resource]  # by id
# When a version was made, and which report was printed of it, is not what it says.
_BESIDE = ("meta", "issued", "presentedForm")
SEEDS = pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 40))])
STEPS = 60
GIVEN_OUT = ("final", "corrected", "amended", "entered-in-error")


def _says(one: Resource) -> Resource:
    return {name: value for name, value in one.items() if name not in _BESIDE}


async def _all(connection: Connection, asking: Asking, kind: str, since: datetime | None = None) -> Resources:
    """What a search finds on all its pages."""
    search = asking.search(kind, [("_count", "100"), *([("_lastUpdated", f"ge{since.isoformat()}")] if since else [])])
    found = await find_page(connection, search, asking.audience)
    matches = list(found.matches)
    while found.after is not None:
        found = await find_page(connection, search, asking.audience, found.after)
        matches += found.matches
    # As it is sent: what is in a view is made anew for each.
    return {str(one.id): json.loads(json.dumps(one.resource, default=str)) for one in matches}


@dataclass(slots=True)
class Emr:
    """What it has of each type, by each way; and since when."""

    audience: Audience
    polled: dict[str, Resources] = field(default_factory=lambda: {kind: {} for kind in ELEMENTS})
    told: dict[str, Resources] = field(default_factory=lambda: {kind: {} for kind in ELEMENTS})
    since: datetime | None = None
    position: int = 0

    async def look(self, walk: Walk) -> None:
        """Ask for what is new, and compare it with what is there. The case is what has happened last."""
        await Feed(walk.lab.database).look(walk.lab.organization_id)
        async with walk.lab.database.organization(walk.lab.organization_id) as connection:
            now, position = datetime.now(UTC), await changes.last_position(connection)
            asking = Asking(connection, self.audience)
            for kind in ELEMENTS:
                there = await _all(connection, asking, kind)
                case = f"{kind}, after {walk.done[-5:]}"
                self._poll(kind, there, await _all(connection, asking, kind, self.since), case)
                if kind in changes.FOLLOWED:
                    named = await changes.resources(connection, kind, self.position, position, self._kinds)
                    self._be_told(kind, there, {str(one.id) for one in named}, case)
            self.since, self.position = now, position

    @property
    def _kinds(self) -> tuple[str, ...]:
        return changes.PRELIMINARY if self.audience is Audience.EMR_PRELIMINARY else changes.RELEASED

    def _poll(self, kind: str, there: Resources, new: Resources, case: str) -> None:
        had = self.polled[kind]
        for id, one in there.items():
            if id in had and had[id]["meta"].get("versionId") == one["meta"].get("versionId"):
                assert _says(had[id]) == _says(one), f"another content with the same ETag: {case}"
            if id in had:
                self._goes_on(had[id], one, case)
        self.polled[kind] = self._as_had(kind, had | new, there, case)
        assert _content(self.polled[kind]) == _content(there), f"not found by _lastUpdated: {case}"

    def _goes_on(self, had: Resource, one: Resource, case: str) -> None:
        """What was given out is never as if it had not been."""
        assert had["meta"]["lastUpdated"] <= one["meta"]["lastUpdated"], f"older than it was: {case}"
        if one["resourceType"] == "Observation" and had["status"] in GIVEN_OUT:
            assert one["status"] in GIVEN_OUT, f"{had['status']} and then {one['status']}: {case}"
            assert had["status"] != "entered-in-error" or one["status"] == had["status"], f"back again: {case}"

    def _be_told(self, kind: str, there: Resources, named: Iterable[str], case: str) -> None:
        had = self.told[kind] | {id: there[id] for id in named if id in there}
        self.told[kind] = self._as_had(kind, had, there, case)
        assert _content(self.told[kind]) == _content(there), f"not told by the feed: {case}"

    def _as_had(self, kind: str, had: Resources, there: Resources, case: str) -> Resources:
        """Without what is not shown any more: of several runs that are preliminary one is reported, and then another,
        which the report says (docs/changes.md). Nothing else is ever gone."""
        for id, one in had.items():
            if id not in there:
                early = self.audience is Audience.EMR_PRELIMINARY and kind == "Observation"
                assert early and one["status"] == "preliminary", f"gone without a word: {case}"
        return {id: one for id, one in had.items() if id in there}


def _content(resources: Resources) -> Resources:
    return {id: _says(one) for id, one in resources.items()}


async def test_a_rerun_that_is_not_reported_completes_its_request_again(database_url: str) -> None:
    async with walking(database_url, 0) as walk:
        emr, lab = Emr(Audience.EMR), walk.lab
        await lab.order("S1", "NA")
        statuses = []
        for control, value in (("C1", "140"), ("", ""), ("C2", "128")):
            if value:
                await lab.send(sent("S1", {"NA": value}, control=control, at=f"2026010203{control[1]}000", patient=""))
                await lab.settle()
            else:
                [first] = await lab.results(Audience.EMR)
                async with lab.database.transaction(lab.organization_id) as connection:
                    await review.rerun(connection, lab.director, first.id, "doubtful")
            await emr.look(walk)
            statuses += [one["status"] for one in emr.polled["ServiceRequest"].values()]
        assert statuses == ["completed", "active", "completed"]
        assert [one.value for one in await lab.results(Audience.EMR)] == ["140"]


async def test_of_what_was_taken_back_nothing_is_seen_that_it_is_held_for_since(database_url: str) -> None:
    """Its interval was that of the version that is held, which nobody is told of."""
    async with walking(database_url, 0) as walk:
        emr, lab = Emr(Audience.EMR_PRELIMINARY), walk.lab
        await walk.do(lambda at: rules.deactivate(at, lab.director, "default", "doubt"))
        await lab.order("S1", "NA")
        for control, value in (("C1", "128"), ("C2", "")):
            await lab.send(sent("S1", {"NA": value}, control=control, patient=""))
            await lab.settle()
            await emr.look(walk)
            [one] = await lab.results()
            if value:
                await walk.do(lambda at, id=one.id: review.hold(at, lab.director, id, "odd"))  # type: ignore[misc]
                await emr.look(walk)
        assert (one.version, one.value) == (3, "")
        assert [shown["status"] for shown in emr.told["Observation"].values()] == ["registered"]


@SEEDS
@pytest.mark.parametrize("audience", [Audience.EMR, Audience.EMR_PRELIMINARY])
async def test_who_asks_for_what_is_new_has_what_is_there(database_url: str, audience: Audience, seed: int) -> None:
    async with walking(database_url, seed) as walk:
        emr = Emr(audience)
        for _ in range(STEPS):
            await walk.step()
            await emr.look(walk)
        assert emr.polled["Observation"], "the walk gets somewhere"
