"""Patient-based quality control over REST: plans, simulations, uses, alarms, charts. `labora qc pbrtqc` does the same.

See docs/qc.md. No value of a patient leaves here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from aiohttp import web

from interface.api.bodies import Body, read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import not_found, path_id, read_query
from interface.domain.pbrtqc import Limits, Method, Mode, Outlying, Statistic
from interface.domain.pbrtqc_plan import Goal, parse_bias
from interface.domain.pbrtqc_simulation import HORIZON, RUNS, Bias
from interface.domain.permissions import Permission
from interface.domain.times import earlier
from interface.flow import pbrtqc as flow
from interface.flow import pbrtqc_shown as shown
from interface.flow.qc_sweep import follow
from interface.store import pbrtqc as store

MOST_SEED = 2**64 - 1
MOST_STEPS = (
    5_000_000  # of a simulation beside everything else the server does: some seconds; the command has no such limit
)
CHART_DAYS, CHART_VALUES, MOST_CHART_VALUES = 30, 5000, 50_000
NOWHERE = Bias(Decimal(0), parse_bias("0").unit)


def _named(request: web.Request) -> tuple[str, int]:
    """The revision that the address names, as `hgb@3`."""
    name, _, number = request.match_info["id"].partition("@")
    if not (number.isascii() and number.isdigit() and 0 < int(number[:9])):
        raise not_found()
    return name, int(number[:9])


# ---- read -----------------------------------------------------------------------------------------------------------


async def list_plans(request: web.Request) -> web.StreamResponse:
    """`?name=`: one plan's revisions only. The newest first."""
    name = read_query(request, "api/pbrtqc", ("name",)).text("name")
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await store.read_revisions(connection, name)
    await note_read(request, "search", "pbrtqc_plan", None, (), {"query": name})
    return json_response({"plans": [shown.revision(one) for one in found]})


async def get_plan(request: web.Request) -> web.StreamResponse:
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await flow.find(connection, *_named(request))
    await note_read(request, "read", "pbrtqc_plan", found.id)
    return json_response(shown.whole(found))


async def get_status(request: web.Request) -> web.StreamResponse:
    """Of every plan in use."""
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await flow.status(connection)
    await note_read(request, "search", "pbrtqc_state")
    return json_response({"status": [shown.status(one) for one in found]})


async def list_alarms(request: web.Request) -> web.StreamResponse:
    """`?name=`: of one plan. Alarms and what ended them, the newest first."""
    query = read_query(request, "api/pbrtqc/alarms", ("name",))
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await store.read_events(connection, query.text("name"), query.limit)
    await note_read(request, "search", "pbrtqc_event", None, (), {"query": query.words})
    return json_response({"alarms": [shown.event(one) for one in found]})


async def get_chart(request: web.Request) -> web.StreamResponse:
    """`?from=&to=&values=`: the newest values of results measured then; the last 30 days without."""
    query = read_query(request, "api/pbrtqc/chart", ("from", "to", "values"))
    end = query.instant("to") or datetime.now(UTC)
    begin = query.instant("from") or earlier(end, timedelta(days=CHART_DAYS))
    values = min(query.number("values") or CHART_VALUES, MOST_CHART_VALUES)
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        data = await flow.chart_data(connection, *_named(request), begin, end, values)
    await note_read(request, "read", "pbrtqc_value", data.revision.id, (), {"query": query.words})
    return json_response(shown.chart(data))


# ---- plans ----------------------------------------------------------------------------------------------------------


async def write_plan(request: web.Request) -> web.StreamResponse:
    """The next revision of `name`. `limits`, or `training` from which they are established; see docs/qc.md."""
    body = await read_body(request)
    reason = body.text("reason")
    draft = _draft(body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        made = await flow.write(connection, actor, draft, reason)
    return json_response(shown.whole(made), 201, {"Location": f"/api/pbrtqc/{made.version}"})


def _draft(body: Body) -> flow.Draft:
    body.required("method")
    method, limits, training = body.part("method"), body.part("limits"), body.part("training")
    horizon, begins = body.number("horizon"), body.number("day_begins_min")
    return flow.Draft(
        body.text("name"), body.text("analyzer"), body.text("test"),
        _method(method) if method is not None else Method(Statistic.MEAN, 0), body.text("module", ""),
        _limits(limits) if limits is not None else None,
        *(_training(training) if training is not None else (None, None, None)),
        body.texts("excluded_wards"), body.texts("excluded_groups"), begins or 0,
        tuple(_goal(one) for one in body.objects("goals")), body.decimal("most_false_alarms"),
        HORIZON if horizon is None else horizon,
    )  # fmt: skip


def _method(body: Body) -> Method:
    body.required("block")
    made = Method(
        body.choice("statistic", Statistic, Statistic.MEAN), body.number("block") or 0, body.decimal("weight"),
        body.choice("outlying", Outlying, Outlying.KEEP), body.decimal("low"), body.decimal("high"),
        body.decimal("boxcox"), body.number("restart_after_min"),
    )  # fmt: skip
    body.close()
    return made


def _limits(body: Body) -> Limits:
    for name in ("low", "centre", "high"):
        body.required(name)
    low, centre, high = (body.decimal(name) or Decimal(0) for name in ("low", "centre", "high"))
    body.close()
    return Limits(low, high, centre)


def _training(body: Body) -> tuple[datetime | None, datetime | None, Decimal | None]:
    found = body.instant("from"), body.instant("to"), body.decimal("rate")
    body.close()
    return found


def _goal(body: Body) -> Goal:
    made = Goal(
        body.text("name"), _bias(body, "bias"), body.number("median"), body.number("p95"),
        body.decimal("undetected") or Decimal(0),
    )  # fmt: skip
    body.close()
    return made


def _bias(body: Body, name: str) -> Bias:
    try:
        return parse_bias(body.text(name))
    except ValueError:
        body.problems.append(f"{name} is not a bias such as 10%, -0.5SD or 0.4")
        return NOWHERE


# ---- simulations ----------------------------------------------------------------------------------------------------


async def simulate(request: web.Request) -> web.StreamResponse:
    """`{from, to, biases, seed, runs}`: nothing is kept. Without biases those of the goals, without seed the plan's."""
    body = await read_body(request)
    begin, end, runs = _period(body)
    seed = body.number("seed", MOST_SEED)
    try:
        biases = [parse_bias(text) for text in body.texts("biases")]
    except ValueError:
        biases = []
        body.problems.append("biases holds something that is not a bias such as 10%, -0.5SD or 0.4")
    body.done()
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        done = await flow.run(
            connection, *_named(request), begin, end, biases, seed=seed, runs=runs, most_steps=MOST_STEPS
        )
    await note_read(request, "simulate", "pbrtqc_plan", done.revision.id)
    return json_response(shown.simulated(done))


async def validate(request: web.Request) -> web.StreamResponse:
    """`{from, to, runs}`: the plan's goals, its own seed; the outcome is kept, met or not."""
    body = await read_body(request)
    begin, end, runs = _period(body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        done = await flow.validate(connection, actor, *_named(request), begin, end, runs=runs, most_steps=MOST_STEPS)
    return json_response(shown.simulated(done))


def _period(body: Body) -> tuple[datetime, datetime, int]:
    for name in ("from", "to"):
        body.required(name)
    begin, end, runs = body.instant("from"), body.instant("to"), body.number("runs")
    return begin or flow.EPOCH, end or flow.EPOCH, RUNS if runs is None else runs


# ---- uses and alarms ------------------------------------------------------------------------------------------------


async def activate(request: web.Request) -> web.StreamResponse:
    """`{mode, reason}`: watch, warn or hold. To warn or hold wants a validation of exactly this revision."""
    body = await read_body(request)
    body.required("mode")
    mode, reason = body.choice("mode", Mode, Mode.WATCH), body.text("reason")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        made = await flow.activate(connection, actor, *_named(request), mode, reason)
    return json_response(shown.revision(made))


async def _reason(request: web.Request) -> str:
    body = await read_body(request)
    reason = body.text("reason")
    body.done()
    return reason


async def deactivate(request: web.Request) -> web.StreamResponse:
    """`{reason}`. Refused while an alarm of it gates, and where another revision follows."""
    reason, actor = await _reason(request), actor_of(request)
    name, revision = _named(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        return json_response(shown.revision(await flow.deactivate(connection, actor, name, reason, revision)))


async def close(request: web.Request) -> web.StreamResponse:
    """`{reason}`: what was found and done. Ends the alarm, and what it gates."""
    reason, actor, alarm_id = await _reason(request), actor_of(request), path_id(request)
    database = services(request).database
    async with database.transaction(actor.organization_id) as connection:
        event = await flow.close(connection, actor, alarm_id, reason)
    await follow(database, actor.organization_id)
    return json_response(shown.event(event))


_READ, _WRITE, _MANAGE = Need(Permission.QC_READ), Need(Permission.QC_WRITE), Need(Permission.QC_MANAGE)
_ONE = "/api/pbrtqc/{id}"  # name@revision
ROUTES = (
    Route("GET", "/api/pbrtqc", list_plans, _READ, gives={"plans": [dict[str, object]]}),
    Route("POST", "/api/pbrtqc", write_plan, _MANAGE, gives=dict[str, object], status=201),
    Route("GET", "/api/pbrtqc/status", get_status, _READ, gives={"status": [dict[str, object]]}),
    Route("GET", "/api/pbrtqc/alarms", list_alarms, _READ, gives={"alarms": [dict[str, object]]}),
    Route("POST", "/api/pbrtqc/alarms/{id}/close", close, _WRITE, gives=dict[str, object]),
    Route("GET", _ONE, get_plan, _READ, gives=dict[str, object]),
    Route("GET", f"{_ONE}/chart-data", get_chart, _READ, gives=dict[str, object]),
    Route("POST", f"{_ONE}/simulate", simulate, _MANAGE, gives=dict[str, object]),
    Route("POST", f"{_ONE}/validate", validate, _MANAGE, gives=dict[str, object]),
    Route("POST", f"{_ONE}/activate", activate, _MANAGE, gives=dict[str, object]),
    Route("POST", f"{_ONE}/deactivate", deactivate, _MANAGE, gives=dict[str, object]),
)
