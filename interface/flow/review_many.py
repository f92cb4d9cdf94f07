"""One step for many results: an answer for each, and where asked all of them or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from interface.domain.review import InputsWait, ReviewError
from interface.domain.views import Actor, ResultView
from interface.flow import consequences
from interface.store import lab_changes
from interface.store.db import Connection

Step: TypeAlias = Callable[[UUID, int | None], Awaitable[ResultView]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one result of many: its new view, or why nothing did."""

    result_id: UUID
    view: ResultView | None = None
    error: ReviewError | None = None


class NotAll(Exception):
    """One of several results refused, and all or none was asked for: the transaction must be taken back."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = tuple(answers)
        super().__init__("one of the results cannot be decided so")


async def many(
    connection: Connection,
    actor: Actor,
    results: Sequence[tuple[UUID, int | None]],
    step: Step,
    *,
    all_or_none: bool = False,
) -> list[Answer]:
    """Take a step for several results in one transaction, each for itself: (result, version looked at).

    They are locked first, all specimens before all patients before all results, so that two batches never wait for each
    other; what is calculated is decided after what it is calculated from. `step` leaves what follows to this.
    `all_or_none`: raises NotAll, with every answer, where one was refused.
    """
    await lab_changes.lock_results(connection, [result_id for result_id, _ in results])
    found: dict[int, Answer] = {}
    todo = list(range(len(results)))
    while todo:
        for at in todo:
            found[at] = await _answer(connection, *results[at], step)
        wait = [at for at in todo if isinstance(found[at].error, InputsWait)]
        todo = wait if len(wait) < len(todo) else []
    answers = [found[at] for at in range(len(results))]
    if all_or_none and any(answer.error for answer in answers):
        raise NotAll(answers)
    if done := [answer.result_id for answer in answers if answer.view is not None]:
        await consequences.follow(connection, actor, done)
    return answers


async def _answer(connection: Connection, result_id: UUID, version: int | None, step: Step) -> Answer:
    try:
        async with connection.transaction():  # a savepoint: what one half did is not left behind
            return Answer(result_id, await step(result_id, version))
    except ReviewError as error:
        return Answer(result_id, error=error)
