"""In which order and company messages are decided. Pure.

Messages that speak of the same specimen are decided in the order they came. A message with controls is a barrier for
its analyzer: all that came before it is decided before it, and all that came after it after it, because what it says
of the analyzer is about them. What is urgent goes first, with whatever must be decided before it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from interface.flow.work import Work
from interface.store.results import Claim

BATCH_MESSAGES = 128  # decided in one transaction: a score of statements, whatever their number


@dataclass(frozen=True, slots=True)
class Job:
    """A message to decide. `lanes`: what must be kept in order, its specimens; `barrier`: it has controls."""

    claim: Claim
    work: Work
    lanes: frozenset[tuple[UUID, str]] = field(init=False, repr=False)
    barrier: bool = field(init=False, repr=False)  # asked for again and again

    def __post_init__(self) -> None:
        organization_id = self.claim.organization_id
        object.__setattr__(self, "lanes", frozenset([(organization_id, barcode) for barcode in self.work.barcodes]))
        object.__setattr__(self, "barrier", self.work.has_controls)

    @property
    def analyzer(self) -> UUID:
        return self.work.link.analyzer_id


@dataclass(slots=True)
class Batch:
    """Messages of one organization that speak of different specimens, or one with controls. `after`: the numbers of the
    batches that must have been decided before."""

    organization_id: UUID
    jobs: list[Job] = field(default_factory=list)
    lanes: set[tuple[UUID, str]] = field(default_factory=set)
    after: set[int] = field(default_factory=set)

    def takes(self, job: Job, most: int) -> bool:
        """Whether the message may be decided with these: another specimen's, and not more than `most` of them."""
        if job.claim.organization_id != self.organization_id or len(self.jobs) >= most:
            return False
        return not job.barrier and not self.jobs[0].barrier and self.lanes.isdisjoint(job.lanes)

    def follows(self, earlier: Batch) -> bool:
        """Whether it must be decided after this one, which was made of messages that came before."""
        if not self.lanes.isdisjoint(earlier.lanes):
            return True
        barrier = self.jobs[0].barrier or earlier.jobs[0].barrier
        return barrier and not {job.analyzer for job in self.jobs}.isdisjoint(job.analyzer for job in earlier.jobs)


def batches(jobs: Sequence[Job], most: int = BATCH_MESSAGES) -> list[Batch]:
    """The messages in batches of `most`, in an order in which they may be decided."""
    made: list[Batch] = []
    last_of_lane: dict[tuple[UUID, str], int] = {}
    since_barrier: dict[UUID, set[int]] = {}  # an analyzer's batches since its last message with controls, and that one
    for job in jobs:
        if not made or not made[-1].takes(job, most):
            made.append(Batch(job.claim.organization_id))
        at, batch = len(made) - 1, made[-1]
        batch.after |= {last_of_lane[lane] for lane in job.lanes if lane in last_of_lane} - {at}
        earlier = since_barrier.setdefault(job.analyzer, set())
        if job.barrier:
            batch.after |= earlier - {at}
            since_barrier[job.analyzer] = {at}
        else:
            batch.after |= {number for number in earlier if made[number].jobs and made[number].jobs[0].barrier} - {at}
            earlier.add(at)
        batch.jobs.append(job)
        batch.lanes |= job.lanes
        last_of_lane.update(dict.fromkeys(job.lanes, at))
    return made


def urgent_first(jobs: Sequence[Job], urgent: Collection[tuple[UUID, str]]) -> list[Job]:
    """The messages with those that speak of an urgent specimen first; each side in the order it came.

    With a message goes what came before it and must be decided before it.
    """
    if not urgent:
        return list(jobs)
    lanes = set(urgent)
    analyzers: set[UUID] = set()  # that have a message among the urgent ones
    barriers: set[UUID] = set()  # and one with controls among them
    chosen: set[int] = set()
    for at in range(len(jobs) - 1, -1, -1):
        job = jobs[at]
        needed = job.barrier and job.analyzer in analyzers
        if needed or job.analyzer in barriers or not lanes.isdisjoint(job.lanes):
            chosen.add(at)
            lanes |= job.lanes
            analyzers.add(job.analyzer)
            if job.barrier:
                barriers.add(job.analyzer)
    return [
        *(job for at, job in enumerate(jobs) if at in chosen),
        *(job for at, job in enumerate(jobs) if at not in chosen),
    ]
