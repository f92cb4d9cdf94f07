"""Messages are decided in an order in which nothing overtakes what it depends on, and what is urgent comes first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from interface.domain.model import DecodedMessage, Observed, ObservedSpecimen, Protocol, SpecimenRole, Value, ValueKind
from interface.driver import registry
from interface.flow.batches import BATCH_MESSAGES, Batch, Job, batches, urgent_first
from interface.flow.context import LinkContext
from interface.flow.work import Work
from interface.settings import Address, LinkSettings, Transport, TransportType
from interface.store.results import Claim
from interface.store.stored_messages import StoredMessage

HERE = UUID(int=1)
SETTINGS = LinkSettings(
    "bench", "lab", "generic_lis2", Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 0))
)  # fmt: skip
RESULT = Observed("X", Value(ValueKind.TEXT, "x"), "x")


def job(number: int, analyzer: int, barcodes: Sequence[str], controls: bool) -> Job:
    specimens = [ObservedSpecimen(specimen_id=barcode, results=(RESULT,)) for barcode in barcodes]
    if controls:
        specimens.append(ObservedSpecimen(specimen_id="QC1", role=SpecimenRole.QC, results=(RESULT,)))
    link = LinkContext(HERE, UUID(int=analyzer), UUID(int=analyzer), SETTINGS, registry.load("generic_lis2"))
    at = datetime(2026, 11, 26, tzinfo=UTC)
    message = StoredMessage(
        id=UUID(int=number),
        organization_id=HERE,
        link_id=link.link_id,
        protocol="lis2",
        state="complete",
        settled=None,
        control_id=str(number),
        message_type="",
        reason="",
        reply="sent",
        bytes=1,
        attempts=1,
        received_at=at,
        sealed_at=at,
        settled_at=None,
        peer="",
        duplicate_of=None,
    )
    decoded = DecodedMessage(Protocol.LIS2, specimens=tuple(specimens))
    return Job(Claim(message.id, HERE, link.link_id, 1), Work(message, link, decoded))


JOBS = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.lists(st.sampled_from(["A", "B", "C", "D"]), max_size=2, unique=True),
        st.sampled_from([False, False, True]),
    ),
    max_size=40,
).map(lambda drawn: [job(number, *one) for number, one in enumerate(drawn, 1)])


def depends(earlier: Job, later: Job) -> bool:
    if not earlier.lanes.isdisjoint(later.lanes):
        return True
    return earlier.analyzer == later.analyzer and (earlier.barrier or later.barrier)


def all_before(made: Sequence[Batch], number: int) -> set[int]:
    found: set[int] = set()
    todo = [number]
    while todo:
        for before in made[todo.pop()].after - found:
            found.add(before)
            todo.append(before)
    return found


@given(JOBS, st.sampled_from([2, 30, BATCH_MESSAGES]))
def test_whatever_depends_on_an_earlier_message_waits_for_it(jobs: list[Job], most: int) -> None:
    made = batches(jobs, most)
    assert [one.claim.message_id for batch in made for one in batch.jobs] == [one.claim.message_id for one in jobs]
    place = {one.claim.message_id: at for at, batch in enumerate(made) for one in batch.jobs}
    for at, later in enumerate(jobs):
        needed = all_before(made, place[later.claim.message_id])
        assert all(number < place[later.claim.message_id] for number in needed)
        for earlier in jobs[:at]:
            if depends(earlier, later):
                assert place[earlier.claim.message_id] in needed
    assert all(len(batch.jobs) <= most for batch in made)


@given(JOBS, JOBS)
def test_a_batch_follows_one_of_an_earlier_window_where_a_message_of_it_depends_on_one_of_that(
    first: list[Job], second: list[Job]
) -> None:
    for earlier in batches(first):
        for later in batches(second):
            assert later.follows(earlier) is any(depends(a, b) for a in earlier.jobs for b in later.jobs)


@given(JOBS, st.sets(st.sampled_from(["A", "B"])))
def test_what_is_urgent_comes_first_and_nothing_overtakes_what_it_depends_on(jobs: list[Job], stat: set[str]) -> None:
    urgent = {(HERE, barcode) for barcode in stat}
    sorted_ = urgent_first(jobs, urgent)
    assert sorted(map(id, sorted_)) == sorted(map(id, jobs))
    place = {id(one): at for at, one in enumerate(sorted_)}
    for at, later in enumerate(jobs):
        for earlier in jobs[:at]:
            if depends(earlier, later):
                assert place[id(earlier)] < place[id(later)]
    first_routine = next(
        (at for at, one in enumerate(sorted_) if not _reaches(one, sorted_[at:], urgent)), len(sorted_)
    )  # fmt: skip
    assert not any(not one.lanes.isdisjoint(urgent) for one in sorted_[first_routine:])


def _reaches(one: Job, rest: Sequence[Job], urgent: set[tuple[UUID, str]]) -> bool:
    """Whether an urgent message, itself or one that depends on it, is among the rest."""
    reached = [one]
    for other in rest:
        if any(other is each or depends(each, other) for each in reached):
            reached.append(other)
    return any(not each.lanes.isdisjoint(urgent) for each in reached)
