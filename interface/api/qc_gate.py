"""The gate of quality control over REST: where streams stand, actions, look-back, plans. For the laboratory only."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from interface.api.bodies import read_body, version_of
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import path_id, read_query
from interface.domain.facts import QcState
from interface.domain.permissions import Permission
from interface.domain.qc import QcMode, QcRule
from interface.domain.qc_state import DEFAULT_PLAN, Meanwhile, Plan
from interface.flow import qc_gate, qc_lookback, qc_plans
from interface.flow.qc_lookback import Decision, LookbackView
from interface.flow.qc_sweep import follow
from interface.store import qc_gate as rows
from interface.store.qc_lookback import Lookback


async def status(request: web.Request) -> web.StreamResponse:
    """`?due=true`: only where a control or an action is wanted now, or within `due_minutes`."""
    query = read_query(request, "api/qc-results/status", ("due", "due_minutes", "analyzer", "test"))
    minutes, analyzer, test = query.number("due_minutes"), query.text("analyzer"), query.text("test")
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await qc_plans.status(
            connection, due_minutes=minutes or qc_plans.DUE_MINUTES, only_due=query.flag("due")
        )  # fmt: skip
    await note_read(request, "search", "qc_stream", None, (), {"query": query.words})
    return json_response(
        {"streams": [one for one in found if analyzer in ("", one.analyzer) and test in ("", one.test)]}
    )


# ---- actions ---------------------------------------------------------------------------------------------------------


async def list_actions(request: web.Request) -> web.StreamResponse:
    """The newest `limit`, of an analyzer and test where they are named."""
    query = read_query(request, "api/qc-actions", ("analyzer", "test"))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await rows.actions(connection, query.text("analyzer"), query.text("test"), query.limit)
    await note_read(request, "search", "qc_action", None, (), {"query": query.words})
    return json_response({"actions": found})


async def act(request: web.Request) -> web.StreamResponse:
    """`{analyzer, test, module, kind, text, meanwhile, point}`; `meanwhile` of a corrective one about a failure: what
    was measured then `stands`, or is to be done `again`."""
    body = await read_body(request)
    analyzer, test, module = body.text("analyzer"), body.text("test"), body.text("module", "")
    kind, text, point_id = body.text("kind", qc_gate.CORRECTIVE), body.text("text"), body.id("point")
    meanwhile = body.choice("meanwhile", Meanwhile, Meanwhile.AGAIN) if body.has("meanwhile") else None
    body.done()
    actor, database = actor_of(request), services(request).database
    async with database.transaction(actor.organization_id) as connection:
        stream = await qc_plans.stream_of(connection, analyzer, test, module)
        action_id, state = await qc_gate.act(
            connection, actor, stream, kind, text, meanwhile=meanwhile, point_id=point_id
        )  # fmt: skip
    await follow(database, actor.organization_id)
    return json_response({"id": action_id, "state": state}, 201)


# ---- look-back -------------------------------------------------------------------------------------------------------


async def list_lookbacks(request: web.Request) -> web.StreamResponse:
    """`?closed=true`: those that are closed as well."""
    query = read_query(request, "api/qc-lookbacks", ("closed",))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await qc_lookback.lookbacks(connection, closed=query.flag("closed"), limit=query.limit)
    await note_read(request, "search", "qc_lookback", None, (), {"query": query.words})
    return json_response({"lookbacks": found})


async def get_lookback(request: web.Request) -> web.StreamResponse:
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await qc_lookback.view(connection, path_id(request))
    patients = [item.patient_id for item in found.items]
    await note_read(request, "read", "qc_lookback", found.lookback.id, patients)
    return json_response(found)


async def decide(request: web.Request) -> web.StreamResponse:
    """`{decision, reason, results, version}`; without `results` all that wait, in the `version` that was looked at."""
    lookback_id = path_id(request)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        await qc_lookback.view(connection, lookback_id)  # of another laboratory's list nothing is said
    body = await read_body(request)
    body.required("decision")
    decision, reason = body.choice("decision", Decision, Decision.STANDS), body.text("reason")
    results = body.ids("results")
    version = body.number("version") if results else version_of(request, body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        done = await qc_lookback.decide(connection, actor, lookback_id, decision, reason, results, version)
    return json_response(done)


# ---- plans -----------------------------------------------------------------------------------------------------------


async def list_plans(request: web.Request) -> web.StreamResponse:
    """Those that are set, the most general first, and what holds without one."""
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await rows.plans(connection)
    await note_read(request, "search", "qc_plan")
    return json_response({"plans": found, "default": DEFAULT_PLAN})


async def set_plan(request: web.Request) -> web.StreamResponse:
    """A plan, whole; without `analyzer` of every one, without `test` the same. `interval_minutes` null: no limit."""
    body = await read_body(request)
    endless, interval = body.null("interval_minutes"), body.number("interval_minutes")
    levels, run_minutes = body.number("levels"), body.number("run_minutes")
    plan = Plan(
        body.text("analyzer", ""),
        body.text("test", ""),
        body.choice("mode", QcMode, DEFAULT_PLAN.mode),
        body.choices("rules", QcRule),
        DEFAULT_PLAN.levels if levels is None else levels,
        DEFAULT_PLAN.run_minutes if run_minutes is None else run_minutes,
        None if endless else DEFAULT_PLAN.interval_minutes if interval is None else interval,
        body.flag("before_first"),
        body.text("timezone", DEFAULT_PLAN.timezone),
        body.flag("loose_r4s"),
        body.decimal("allowable_error"),
    )
    body.done()
    actor, database = actor_of(request), services(request).database
    async with database.transaction(actor.organization_id) as connection:
        found = await qc_plans.set_plan(connection, actor, plan)
    await follow(database, actor.organization_id)
    return json_response({"plans": found})


async def end_plan(request: web.Request) -> web.StreamResponse:
    """`{analyzer, test}`: the next more general plan holds from now on."""
    body = await read_body(request)
    analyzer, test = body.text("analyzer", ""), body.text("test", "")
    body.done()
    actor, database = actor_of(request), services(request).database
    async with database.transaction(actor.organization_id) as connection:
        found = await qc_plans.end_plan(connection, actor, analyzer, test)
    await follow(database, actor.organization_id)
    return json_response({"plans": found})


_P = Permission
ROUTES = (
    Route("GET", "/api/qc-results/status", status, Need(_P.QC_READ), gives={"streams": [qc_plans.StreamStatus]}),
    Route("GET", "/api/qc-actions", list_actions, Need(_P.QC_READ), gives={"actions": [rows.ActionView]}),
    Route("POST", "/api/qc-actions", act, Need(_P.QC_WRITE), gives={"id": UUID, "state": QcState}, status=201),
    Route("GET", "/api/qc-lookbacks", list_lookbacks, Need(_P.QC_READ), gives={"lookbacks": [Lookback]}),
    Route("GET", "/api/qc-lookbacks/{id}", get_lookback, Need(_P.RESULT_READ), gives=LookbackView),
    Route("POST", "/api/qc-lookbacks/{id}/decide", decide, Need(_P.RESULT_RELEASE), gives=LookbackView),
    Route("GET", "/api/qc-plans", list_plans, Need(_P.QC_READ), gives={"plans": [rows.PlanView], "default": Plan}),
    Route("PUT", "/api/qc-plans", set_plan, Need(_P.QC_MANAGE), gives={"plans": [rows.PlanView]}),
    Route("POST", "/api/qc-plans/end", end_plan, Need(_P.QC_MANAGE), gives={"plans": [rows.PlanView]}),
)
