"""Results over REST: lists, queues, history, and every step of reviewing them.

Staff see everything of their organization, held results too; a client that comes here sees what an EMR may see.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from aiohttp import web

from interface.api.bodies import Body, read_body, version_of
from interface.api.context import (
    Handler,
    Need,
    Route,
    actor_of,
    audience_of,
    json_response,
    note_read,
    services,
)
from interface.api.lists import Query, not_found, one, path_id, read_query
from interface.domain.model import HoldReason, Priority, ResultStatus, Step
from interface.domain.permissions import Permission
from interface.domain.review import ReviewStep
from interface.domain.views import Actor, Audience, LookAgain, ResultView
from interface.errors import ApiError
from interface.flow import recalculation, review
from interface.flow.coded_comments import coded_comments
from interface.flow.correction import NewValue
from interface.flow.review_many import Answer, NotAll, many
from interface.flow.review_policy import set_policy
from interface.store import lab
from interface.store import review as queues
from interface.store.db import Connection
from interface.store.lab import Cursor, ResultFilter
from interface.store.look_again import compared_with
from interface.store.review import Policy, Queue, QueueFilter

MOST_AT_ONCE = 500
_PLAIN = ("held", "patient_id", "order_id", "barcode", "test", "status")
_QUEUE = (
    "queue",
    "reason",
    "test",
    "analyzer",
    "ward",
    "priority",
    "older_than_min",
    "patient_id",
    "order_id",
    "barcode",
)

# ---- reads ----------------------------------------------------------------------------------------------------------


async def list_results(request: web.Request) -> web.StreamResponse:
    """Newest change first; with `queue`, what waits for a person: STAT first, then the longest waiting."""
    query = read_query(request, "api/results", tuple(dict.fromkeys((*_PLAIN, *_QUEUE))))
    if query.text("queue"):
        return await _queue(request, query)
    if strange := [name for name in _QUEUE if name not in _PLAIN and query.text(name)]:
        raise ApiError(400, "value", f"{', '.join(strange)} can be asked of a queue only")
    filter = ResultFilter(
        patient_ids=query.id("patient_id"),
        order_ids=query.id("order_id"),
        barcodes=one(query.text("barcode")),
        test_codes=one(query.text("test")),
        statuses=query.choices("status", ResultStatus),
        held_only=query.flag("held"),
        page=query.page,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await lab.find_results(connection, filter, audience_of(request))
    patients = [view.patient_id for view in found[: query.limit]]
    await note_read(request, "search", "result", None, patients, {"query": query.words})
    return query.answer("results", found)


async def _queue(request: web.Request, query: Query) -> web.StreamResponse:
    (queue,) = query.choices("queue", Queue)
    if query.text("held") or query.text("status"):
        raise ApiError(400, "value", "a queue says itself which states it has")
    filter = QueueFilter(
        queue=queue,
        reasons=query.choices("reason", HoldReason),
        test_codes=one(query.text("test")),
        analyzers=one(query.text("analyzer")),
        wards=one(query.text("ward")),
        priorities=query.choices("priority", Priority),
        patient_ids=query.id("patient_id"),
        order_ids=query.id("order_id"),
        barcodes=one(query.text("barcode")),
        older_than_min=query.number("older_than_min"),
        after=query.after.id if query.after else None,
        limit=query.limit + 1,
    )
    if audience_of(request) is not Audience.STAFF:  # nothing waits for an EMR
        return json_response({"results": [], "reasons": {}, "next": None})
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await queues.waiting(connection, filter)
        reasons = await queues.counts(connection, filter)
    shown = found[: query.limit]
    patients = [row.result.patient_id for row in shown]
    await note_read(request, "search", "result", None, patients, {"query": query.words})
    link = (
        query.link("results", Cursor(shown[-1].waiting_since, shown[-1].result.id)) if len(found) > len(shown) else None
    )
    return json_response({"results": [queues.flat(row) for row in shown], "reasons": reasons, "next": link})


async def get_result(request: web.Request) -> web.StreamResponse:
    """The current version; for staff also its earlier versions and the explanation of each."""
    result_id, audience = path_id(request), audience_of(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        view = await lab.get_result(connection, result_id, audience)
        history = await lab.result_history(connection, result_id, audience) if view is not None else []
        known = [version.version_id for version in history] if audience is Audience.STAFF else []
        explained = await lab.explanations(connection, known)
    patients = [view.patient_id] if view is not None else []
    await note_read(request, "read", "result", result_id, patients, {"found": "no" if view is None else "yes"})
    if view is None:
        raise not_found()
    if audience is not Audience.STAFF:
        return json_response({"result": view})
    versions = [{"version": version, "explanation": explained.get(version.version_id, ())} for version in history]
    return json_response({"result": view, "explanation": explained.get(view.version_id, ()), "versions": versions})


async def list_comments(request: web.Request) -> web.StreamResponse:
    """The comments that have a code."""
    return json_response({"comments": coded_comments()})


# ---- one step -------------------------------------------------------------------------------------------------------

Take = Callable[[Connection, Actor, UUID, int | None], Awaitable[ResultView]]


def _read_step(step: ReviewStep, body: Body, *, follow: bool) -> Take:
    """The step that a body describes, `version` apart; what it must have and has not is said when it is taken."""
    comment = body.text("comment", "")
    if step in (ReviewStep.VERIFY, ReviewStep.RELEASE, ReviewStep.ACCEPT_CHANGE):
        decide = {
            ReviewStep.VERIFY: review.verify,
            ReviewStep.RELEASE: review.release,
            ReviewStep.ACCEPT_CHANGE: review.accept_change,
        }[step]
        accept = body.flag("accept_hold")
        return lambda at, actor, id, version: decide(at, actor, id, comment, version, accept, follow=follow)
    if step is ReviewStep.RERUN:
        dilution = body.decimal("dilution")
        return lambda at, actor, id, version: review.rerun(at, actor, id, comment, version, dilution=dilution)
    if step is ReviewStep.COMMENT:
        code = body.text("code", "")
        return lambda at, actor, id, version: review.comment(at, actor, id, comment, version, code=code)
    if step is ReviewStep.CORRECT:
        new, accept = NewValue(body.text("value", ""), body.text("unit", "")), body.flag("accept_hold")
        return lambda at, actor, id, version: review.correct(
            at, actor, id, new, comment, version, accept, follow=follow
        )
    if step is ReviewStep.REJECT_CHANGE:
        return lambda at, actor, id, version: review.reject_change(at, actor, id, comment, version)
    plain = {
        ReviewStep.REJECT: review.reject,
        ReviewStep.HOLD: review.hold,
        ReviewStep.RETRACT: review.retract,
    }[step]
    return lambda at, actor, id, version: plain(at, actor, id, comment, version, follow=follow)


def _handler(step: ReviewStep) -> Handler:
    """`{comment, version, …}`; `version` is what the person looked at: nothing else is released by them."""

    async def take(request: web.Request) -> web.StreamResponse:
        result_id = path_id(request)
        body = await read_body(request, optional=True)
        decide, version = _read_step(step, body, follow=True), version_of(request, body)
        body.done()
        actor = actor_of(request)
        async with services(request).database.transaction(actor.organization_id) as connection:
            view = await decide(connection, actor, result_id, version)
            look = await _look_again(connection, step, [result_id])
        return json_response({"result": view} | look)

    return take


# After these others may have been compared with what it is not, or with the run that it is reported in place of.
_OTHER_THAN_IT_WAS = frozenset(
    {ReviewStep.CORRECT, ReviewStep.ACCEPT_CHANGE, ReviewStep.RETRACT, ReviewStep.RELEASE, ReviewStep.VERIFY}
)


async def _look_again(connection: Connection, step: ReviewStep, done: Iterable[UUID]) -> dict[str, list[LookAgain]]:
    ids = done if step in _OTHER_THAN_IT_WAS else ()
    look = [one for result_id in ids for one in await compared_with(connection, result_id)]
    return {"look_again": look} if look else {}


async def recalculate(request: web.Request) -> web.StreamResponse:
    """`{version}`: calculate a calculated result anew, of what is known now."""
    result_id = path_id(request)
    body = await read_body(request, optional=True)
    version = version_of(request, body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await recalculation.recalculate(connection, actor, result_id, version)
    return json_response({"result": view})


# ---- many -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Batch:
    results: tuple[tuple[UUID, int], ...]
    step: ReviewStep
    decide: Take
    all_or_none: bool


def _read_batch(body: Body) -> _Batch:
    """`{step, results: [{id, version}], all_or_none, …}`, and what the step itself has."""
    step = body.word("step", {step.value.replace("_", "-"): step for step in ReviewStep}) or ReviewStep.RELEASE
    results = []
    for entry in body.objects("results"):
        result_id, version = entry.id("id"), entry.number("version")
        entry.close()
        if result_id is None or version is None:
            raise ApiError(422, "value", "each of results has an id, and the version that was looked at")
        results.append((result_id, version))
    ids = [result_id for result_id, _ in results]
    if not 0 < len(ids) <= MOST_AT_ONCE or len(set(ids)) < len(ids):
        raise ApiError(422, "value", f"results are 1 to {MOST_AT_ONCE}, each once")
    every = body.flag("all_or_none")
    decide = _read_step(step, body, follow=False)
    body.done()
    return _Batch(tuple(results), step, decide, every)


async def batch(request: web.Request) -> web.StreamResponse:
    """One step for many results, each answered for itself; `all_or_none`: 409 and nothing done when one refuses."""
    asked = _read_batch(await read_body(request))
    actor = actor_of(request)
    try:
        async with services(request).database.transaction(actor.organization_id) as connection:
            step = partial(asked.decide, connection, actor)
            answers = await many(connection, actor, asked.results, step, all_or_none=asked.all_or_none)
            done = [answer.result_id for answer in answers if answer.error is None]
            look = await _look_again(connection, asked.step, done)
    except NotAll as refused:
        return json_response(_answers(refused.answers, done=False), 409)
    return json_response(_answers(answers, done=True) | look)


def _answers(answers: list[Answer] | tuple[Answer, ...], *, done: bool) -> dict[str, object]:
    told = []
    for answer in answers:
        error = answer.error and {"code": answer.error.refusal, "detail": str(answer.error)}
        told.append({"id": answer.result_id, "result": answer.view if done else None, "error": error})
    refused = sum(answer.error is not None for answer in answers)
    return {"done": len(answers) - refused if done else 0, "refused": refused, "results": told}


# ---- how it is reviewed ---------------------------------------------------------------------------------------------


async def list_policies(request: web.Request) -> web.StreamResponse:
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await queues.policies(connection)
    await note_read(request, "read", "review_policy")
    return json_response({"policies": found})


async def put_policy(request: web.Request) -> web.StreamResponse:
    """`{test, two_steps, critical_minutes}`; no test: the organization's. What is left out is as above it."""
    body = await read_body(request)
    two_steps = body.flag("two_steps") if body.has("two_steps") else None
    minutes = body.numbers("critical_minutes")
    policy = Policy(body.text("test", ""), two_steps, minutes or None)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        found = await set_policy(connection, actor, policy)
    return json_response({"policies": found})


_P = Permission
_ANSWER = {"id": UUID, "result": ResultView | None, "error": dict[str, str] | None}
# a queue's entries have more about why they wait
_LISTED = {"results": list[ResultView] | list[dict[str, object]], "next": str | None, "reasons?": dict[str, int]}
_ANSWERS = {"done": int, "refused": int, "results": [_ANSWER]}
ROUTES = (
    Route(
        "GET",
        "/api/results",
        list_results,
        Need(_P.RESULT_READ, "Observation", "s"),
        gives=_LISTED,
    ),
    Route("GET", "/api/results/comments", list_comments, Need(_P.RESULT_READ), gives={"comments": dict[str, str]}),
    Route(
        "POST",
        "/api/results/batch",
        batch,
        Need(_P.RESULT_RELEASE),
        gives=_ANSWERS | {"look_again?": list[LookAgain]},
        also={409: _ANSWERS},
    ),
    Route("GET", "/api/review/policies", list_policies, Need(_P.RESULT_READ), gives={"policies": [Policy]}),
    Route("PUT", "/api/review/policies", put_policy, Need(_P.RULE_WRITE), gives={"policies": [Policy]}),
    Route(
        "GET",
        "/api/results/{id}",
        get_result,
        Need(_P.RESULT_READ, "Observation", "r"),
        gives={"result": ResultView, "explanation?": [Step], "versions?": [dict[str, object]]},
    ),
    *(
        Route(
            "POST",
            f"/api/results/{{id}}/{step.value.replace('_', '-')}",
            _handler(step),
            Need(_P.RESULT_RELEASE),
            gives={"result": ResultView, "look_again?": list[LookAgain]},
        )
        for step in ReviewStep
    ),
    Route(
        "POST",
        "/api/results/{id}/recalculate",
        recalculate,
        Need(_P.RESULT_RELEASE),
        gives={"result": ResultView},
    ),
)
