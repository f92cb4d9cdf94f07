"""Rule sets over REST: read, store, prove, put in force, switch off. `labora rule` does the same; see docs/rules.md."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import AFTER, Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import not_found, read_query
from interface.domain.agreement import Agreement
from interface.domain.autoverify import Scope, Switch
from interface.domain.permissions import Permission
from interface.domain.rule_cases import WrittenCase, parse_cases
from interface.domain.rule_files import RuleFileError
from interface.errors import ApiError
from interface.flow import recalculation, rule_proof
from interface.flow import rules as flow
from interface.store import rules as store

FORMS = ("toml", "csv")


def _named(request: web.Request) -> tuple[str, int]:
    """The revision that the address names, as `default@3`."""
    name, _, number = request.match_info["id"].partition("@")
    if not (number.isascii() and number.isdigit() and 0 < int(number[:9])):
        raise not_found()
    return name, int(number[:9])


def _revision(one: store.Revision, void: str = "", unknown: Sequence[str] = ()) -> dict[str, object]:
    validation = one.validation
    return {
        "id": one.id, "name": one.name, "revision": one.revision, "version": one.version, "digest": one.digest,
        "mode": one.mode, "since": one.since, "by": one.by, "author": one.author, "created_at": one.created_at,
        "source": one.source, "reason": one.reason, "void": void,
        "unknown": list(unknown),
        "validation": None if validation is None else {
            "at": validation.at, "by": validation.by, "vectors": validation.vectors, "cases": validation.cases,
            "uncovered": validation.uncovered, "engine": validation.stamp.engine,
        },
    }  # fmt: skip


def _switch(one: store.SwitchView) -> dict[str, object]:
    return {
        "scope": one.switch.scope, "key": one.switch.key, "reason": one.switch.reason, "since": one.at, "by": one.by,
    }  # fmt: skip


# ---- read -----------------------------------------------------------------------------------------------------------


async def list_rules(request: web.Request) -> web.StreamResponse:
    """`?name=`: one set's revisions only. The newest first, and what is switched off."""
    name = read_query(request, "api/rules", ("name",)).text("name")
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found, off = await store.read_revisions(connection, name), await store.read_switches(connection)
        void, unknown = await flow.why_void(connection, found), await flow.unknown_in_force(connection, found)
    await note_read(request, "search", "rule_set", None, (), {"query": name})
    rules = [_revision(one, void.get(one.id, ""), unknown.get(one.id, ())) for one in found]
    return json_response({"rules": rules, "off": [_switch(one) for one in off]})


async def get_rules(request: web.Request) -> web.StreamResponse:
    """A revision with its document, `body`, as it was written."""
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found, body = await flow.read(connection, *_named(request))
        void, unknown = await flow.why_void(connection, [found]), await flow.unknown_to(connection, found)
    await note_read(request, "read", "rule_set", found.id)
    return json_response({**_revision(found, void.get(found.id, ""), unknown), "body": body})


async def list_switches(request: web.Request) -> web.StreamResponse:
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        off = await store.read_switches(connection)
    await note_read(request, "search", "rule_switch")
    return json_response({"off": [_switch(one) for one in off]})


async def report(request: web.Request) -> web.StreamResponse:
    """`?since=`: what the revision would have done in the shadow since then, beside what people did."""
    query = read_query(request, "api/rules/report", ("since",))
    since = query.instant("since")
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await rule_proof.compare(connection, *_named(request), since, query.limit)
    await note_read(request, "report", "rule_set", found.revision.id, (), {"query": query.words})
    return json_response(
        {
            "version": found.revision.version, "total": _agreement(found.total),
            "tests": [_agreement(one) for one in found.tests], "would_have_released": found.missed,
        }
    )  # fmt: skip


def _agreement(one: Agreement) -> dict[str, object]:
    return {
        "test": one.test, "both_release": one.both_release, "both_keep": one.both_keep, "only_rules": one.only_rules,
        "only_people": one.only_people, "open": one.open, "agree": one.agree, "kappa": one.kappa,
        "released": one.released,
    }  # fmt: skip


# ---- change ---------------------------------------------------------------------------------------------------------


async def import_rules(request: web.Request) -> web.StreamResponse:
    """`{body, reason, source}`: the document becomes the next revision of its name; nothing is in force by it."""
    body = await read_body(request)
    text, reason, source = body.text("body"), body.text("reason"), body.text("source", "")
    body.done()
    actor = actor_of(request)
    try:
        async with services(request).database.transaction(actor.organization_id) as connection:
            made = await flow.import_rules(connection, actor, text, source, reason)
            unknown = await flow.unknown_to(connection, made)
    except RuleFileError as error:
        raise ApiError(422, "value", "; ".join(error.problems)) from error
    return json_response(_revision(made, "", unknown), 201, {"Location": f"/api/rules/{made.version}"})


async def prove(request: web.Request) -> web.StreamResponse:
    """`{cases, form, stamp}`: a file of cases, toml or csv. `stamp`: keep the validation in the caller's name."""
    body = await read_body(request, optional=True)
    cases, form, stamp = body.text("cases", ""), body.text("form", FORMS[0]), body.flag("stamp")
    body.done()
    actor = actor_of(request)
    written = _cases(cases, form)
    async with services(request).database.transaction(actor.organization_id) as connection:
        proof = await rule_proof.prove(connection, actor if stamp else None, *_named(request), written)
    if not proof.stamped:
        await note_read(request, "test", "rule_set", proof.revision.id)
    found = proof.report
    return json_response(
        {
            "version": proof.revision.version, "passed": found.passed, "stamped": proof.stamped,
            "vectors": found.vectors, "cases": found.cases, "branches": found.branches, "uncovered": found.uncovered,
            "failures": found.failures, "rows": found.rows,
        }
    )  # fmt: skip


def _cases(text: str, form: str) -> tuple[WrittenCase, ...]:
    if form not in FORMS:
        raise ApiError(422, "value", f"form is one of {', '.join(FORMS)}")
    try:
        return parse_cases(text, form) if text else ()
    except RuleFileError as error:
        raise ApiError(422, "value", "; ".join(error.problems)) from error


async def _reason(request: web.Request) -> str:
    body = await read_body(request)
    reason = body.text("reason")
    body.done()
    return reason


async def activate(request: web.Request) -> web.StreamResponse:
    """`{reason}`. Refused without a validation of exactly this revision."""
    reason, actor = await _reason(request), actor_of(request)
    database, named = services(request).database, _named(request)
    async with database.transaction(actor.organization_id) as connection:
        made = await flow.activate(connection, actor, *named, reason)
    request[AFTER] = lambda: recalculation.put_in_force(database, actor, made.name)
    return json_response(_revision(made))


async def deactivate(request: web.Request) -> web.StreamResponse:
    """`{reason}`. Refused where another revision is the active one."""
    reason, actor = await _reason(request), actor_of(request)
    name, revision = _named(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        return json_response(_revision(await flow.deactivate(connection, actor, name, reason, revision)))


async def shadow(request: web.Request) -> web.StreamResponse:
    """`{reason, stop}`."""
    body = await read_body(request)
    reason, stop = body.text("reason"), body.flag("stop")
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        made = await flow.shadow(connection, actor, *_named(request), reason, on=not stop)
    return json_response(_revision(made))


async def switch_off(request: web.Request) -> web.StreamResponse:
    """`{scope, key, reason}`. `drained`: nothing that was decided before is still on its way."""
    switch, actor = await _asked(request), actor_of(request)
    database = services(request).database

    async def thrown() -> list[store.SwitchView]:
        async with database.transaction(actor.organization_id) as connection:
            return await flow.switch_off(connection, actor, switch)

    # In a task of its own, whose transaction is no part of that of an Idempotency-Key: it counts from now on, not from
    # the answer on; thrown again it changes nothing.
    off = await asyncio.create_task(thrown())
    async with database.organization(actor.organization_id) as connection:
        drained = await store.drained(connection, actor.organization_id)
    return json_response({"off": [_switch(one) for one in off], "drained": drained})


async def switch_on(request: web.Request) -> web.StreamResponse:
    """`{scope, key, reason}`."""
    switch, actor = await _asked(request), actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        off = await flow.switch_on(connection, actor, switch)
    return json_response({"off": [_switch(one) for one in off]})


async def _asked(request: web.Request) -> Switch:
    body = await read_body(request)
    switch = Switch(body.choice("scope", Scope, Scope.ORGANIZATION), body.text("key", ""), body.text("reason"))
    body.done()
    return switch


_READ, _WRITE = Need(Permission.RULE_READ), Need(Permission.RULE_WRITE)
_ONE = "/api/rules/{id}"  # name@revision
# `flow.rules` says that also who may release results may switch off: every one of them may read rules.
ROUTES = (
    Route("GET", "/api/rules", list_rules, _READ, gives={"rules": [dict[str, object]], "off": [dict[str, object]]}),
    Route("POST", "/api/rules", import_rules, _WRITE, gives=dict[str, object], status=201),
    Route("GET", "/api/rules/switches", list_switches, _READ, gives={"off": [dict[str, object]]}),
    Route("POST", "/api/rules/off", switch_off, _READ, gives={"off": [dict[str, object]], "drained": bool}),
    Route("POST", "/api/rules/on", switch_on, _WRITE, gives={"off": [dict[str, object]]}),
    Route("GET", _ONE, get_rules, _READ, gives=dict[str, object]),
    Route("POST", f"{_ONE}/test", prove, _READ, gives=dict[str, object]),
    Route("POST", f"{_ONE}/activate", activate, _WRITE, gives=dict[str, object]),
    Route("POST", f"{_ONE}/deactivate", deactivate, _WRITE, gives=dict[str, object]),
    Route("POST", f"{_ONE}/shadow", shadow, _WRITE, gives=dict[str, object]),
    Route("GET", f"{_ONE}/report", report, _READ, gives=dict[str, object]),
)
