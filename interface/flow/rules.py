"""Rule sets: stored, validated, put in force and taken out of it; switched off. API and command line share it.

A revision is put in force by a person, and only with a validation of exactly that text, under the same meaning of
rules, against the same tests; any change of these voids it, also while it is active. Every change is audited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from uuid import UUID

import structlog

from interface.domain.autoverify import (
    Autoverification,
    Scope,
    Shadow,
    Switch,
    catalogue_digest,
    void,
)
from interface.domain.model import LabTest
from interface.domain.permissions import Permission
from interface.domain.review import Refusal, ReviewError
from interface.domain.rule_files import RuleFileError, parse_rule_set
from interface.domain.rule_set import RuleSet
from interface.domain.views import Actor
from interface.flow.actors import may
from interface.store import audit, rules
from interface.store.catalogue import read_tests
from interface.store.db import Connection
from interface.store.rules import ACTIVE, SHADOW, InForce, Revision, SwitchView

log = structlog.get_logger(__name__)

DEFAULT = "default"  # the set that decides unless an analyzer names another
LONGEST_REASON = 500
CACHED = 256  # rule sets a process keeps parsed
DIGESTED = 16  # catalogues, one for each link, whose digest is kept for a rule set


class RuleError(ReviewError):
    """A step with rule sets that is not allowed, in one sentence."""

    slug = "rule"


# ---- for transactions that decide -----------------------------------------------------------------------------------


class RuleSets:
    """What is in force, with each revision parsed once. One per process; revisions never change."""

    def __init__(self) -> None:
        self._parsed: dict[UUID, RuleSet | None] = {}  # None: cannot be read by this program, and was logged
        self._digests: dict[UUID, list[tuple[Mapping[str, LabTest], str]]] = {}

    async def current(
        self, connection: Connection, tests: Mapping[str, LabTest], name: str = DEFAULT
    ) -> Autoverification:
        """What is in force in the caller's deciding transaction, and stays so until it ends: one statement.

        `tests`: the catalogue's, by id; the same mapping is digested once.
        """
        return (await self.by_name(connection, tests, (name,)))[name]

    async def by_name(
        self, connection: Connection, tests: Mapping[str, LabTest], names: Iterable[str]
    ) -> dict[str, Autoverification]:
        """The same for several names, in one statement."""
        found = await rules.in_force(connection)
        await self._load(connection, found)
        return {name: self._of(found, tests, name) for name in names}

    def _of(self, found: Sequence[InForce], tests: Mapping[str, LabTest], name: str) -> Autoverification:
        active = next((one for one in found if one.kind == ACTIVE and one.name == name), None)
        shadows = [(one.id, self._parsed[one.id]) for one in found if one.kind == SHADOW]
        return Autoverification(
            active=self._parsed[active.id] if active else None,
            switches=tuple(Switch(Scope(one.name), one.key) for one in found if one.kind == "off"),
            shadows=tuple(Shadow(id_, rule_set) for id_, rule_set in shadows if rule_set is not None),
            void=self._void(active, tests) if active else "",
            active_id=active.id if active else None,
        )

    async def _load(self, connection: Connection, found: Sequence[InForce]) -> None:
        while missing := [one.id for one in found if one.kind != "off" and one.id not in self._parsed]:
            for row, (body, revision) in (await rules.read_bodies(connection, missing)).items():
                try:
                    self._parsed[row] = parse_rule_set(body, revision)
                except RuleFileError as error:  # written for another version of the program: nothing is released by it
                    log.error("rule set not usable", action="rules.unreadable", rule_set=str(row), faults=str(error))
                    self._parsed[row] = None
        wanted = {one.id for one in found}
        while len(self._parsed) > CACHED and (spare := next((id_ for id_ in self._parsed if id_ not in wanted), None)):
            del self._parsed[spare]
            self._digests.pop(spare, None)

    def _void(self, active: InForce, tests: Mapping[str, LabTest]) -> str:
        rule_set = self._parsed[active.id]
        if rule_set is None:
            return "this version of the program cannot read it"
        seen = self._digests.setdefault(active.id, [])
        digest = next((digest for known, digest in seen if known is tests), None)
        if digest is None:
            digest = catalogue_digest(rule_set, tests.values())
            seen.append((tests, digest))
            del seen[:-DIGESTED]
        return void(active.stamp, active.digest, digest)


@lru_cache(maxsize=1)
def rule_sets() -> RuleSets:
    """Those of this process, for whoever decides in it."""
    return RuleSets()


# ---- revisions ------------------------------------------------------------------------------------------------------


async def import_rules(connection: Connection, actor: Actor, body: str, source: str, reason: str) -> Revision:
    """Store a document as the next revision of the name it says; nothing is put in force.

    Raises RuleFileError with everything that is wrong with the text, RuleError for tests that the laboratory does not
    have, and when the newest revision says the same to the letter.
    """
    _allowed(actor, reason)
    rule_set = parse_rule_set(body)
    known = {test.code: test for test in await read_tests(connection)}
    if problems := problems_of(rule_set, known):
        raise RuleFileError(problems)
    await rules.lock(connection, actor.organization_id)
    newest = await rules.find_revision(connection, rule_set.name)
    if newest is not None and await rules.read_body(connection, newest.id) == body:
        raise RuleError(Refusal.CONFLICT, f"{newest.version} says the same")
    _, number = await rules.add_revision(connection, actor, rule_set.name, body, source, reason)
    made = await _found(connection, rule_set.name, number)
    await _audit(connection, actor, "import", made, reason, source=source)
    return made


def problems_of(rule_set: RuleSet, known: Mapping[str, LabTest]) -> list[str]:
    """What is wrong with a document in this laboratory."""
    named = rule_set.tests() | rule_set.named_beside()
    problems = [f"there is no test {code!r} in use" for code in sorted(named.difference(known))] + rule_set.never_made()
    for rule in rule_set.rules:
        for code in rule.tests:
            if rule.unit is not None and code in known and known[code].unit != rule.unit:
                unit = known[code].unit or "no unit"
                problems.append(f"rule {rule.name}: {code} is reported in {unit}, not in {rule.unit or 'no unit'}")
    return problems


async def load(connection: Connection, name: str, revision: int | None = None) -> tuple[Revision, RuleSet, str]:
    """A stored revision, the newest without a number, with its document. Raises RuleError."""
    found, body = await read(connection, name, revision)
    try:
        return found, parse_rule_set(body, found.revision), body
    except RuleFileError as error:
        text = f"{found.version} was written for another version of this program: {error.problems[0]}"
        raise RuleError(Refusal.CONFLICT, text) from error


async def read(connection: Connection, name: str, revision: int | None = None) -> tuple[Revision, str]:
    """A stored revision and its text, whether this program can read it or not. Raises RuleError."""
    found = await _found(connection, name, revision)
    return found, await rules.read_body(connection, found.id)


async def _found(connection: Connection, name: str, revision: int | None) -> Revision:
    found = await rules.find_revision(connection, name, revision)
    if found is None:
        named = name if revision is None else f"{name}@{revision}"
        raise RuleError(Refusal.NOT_FOUND, f"there is no rule set {named}")
    return found


async def why_void(connection: Connection, found: Iterable[Revision]) -> dict[UUID, str]:
    """Of revisions that are active, why nothing is released by them all the same; without those by which it is."""
    active = {one.name: one.id for one in found if one.mode == ACTIVE}
    tests = {one.id: one for one in await read_tests(connection)}
    now = await RuleSets().by_name(connection, tests, active)
    return {id_: now[name].void for name, id_ in active.items() if now[name].void}


async def unknown_to(connection: Connection, revision: Revision) -> list[str]:
    """The analyzers and types of specimens of which a revision says something, and which there are not (yet): it is no
    fault to write rules first, and one that is mistyped says nothing of any result."""
    try:
        rule_set = parse_rule_set(await rules.read_body(connection, revision.id), revision.revision)
    except RuleFileError:
        return []  # of another version of this program; that it is void is said elsewhere
    analyzers, types = rule_set.speaks_of()
    return [
        *(f"analyzer {one}" for one in sorted(analyzers - await rules.analyzer_names(connection))),
        *(f"specimen type {one}" for one in sorted(types - await rules.specimen_types(connection))),
    ]


async def unknown_in_force(connection: Connection, found: Iterable[Revision]) -> dict[UUID, list[str]]:
    """The same of those that are active; without those that speak of what there is alone."""
    said = {one.id: await unknown_to(connection, one) for one in found if one.mode == ACTIVE}
    return {id_: words for id_, words in said.items() if words}


async def unknown_said(connection: Connection) -> list[str]:
    """The same in a sentence each."""
    found = await rules.read_revisions(connection, "")
    said = await unknown_in_force(connection, found)
    return [says_of_none(one.version, said[one.id]) for one in found if one.id in said]


def says_of_none(version: str, words: Sequence[str]) -> str:
    return f"{version} speaks of {', '.join(words)}, which there is not: what it says of them is said of no result"


# ---- in force -------------------------------------------------------------------------------------------------------


async def activate(connection: Connection, actor: Actor, name: str, revision: int, reason: str) -> Revision:
    """Put a revision in force in place of the one that was. Raises RuleError without a validation of exactly it."""
    _allowed(actor, reason)
    await rules.lock(connection, actor.organization_id)
    found, rule_set, _ = await load(connection, name, revision)
    if found.mode == ACTIVE:
        raise RuleError(Refusal.CONFLICT, f"{found.version} is active already")
    stamp = found.validation.stamp if found.validation else None
    if why := void(stamp, found.digest, catalogue_digest(rule_set, await read_tests(connection))):
        text = f"{found.version} cannot be activated: {why}; `labora rule test {found.version}` validates it"
        raise RuleError(Refusal.CONFLICT, text)
    await rules.end_uses(connection, actor, SHADOW, reason, revision_id=found.id)
    replaced = await rules.end_uses(connection, actor, ACTIVE, reason, name=name)
    await rules.begin_use(connection, actor, found, ACTIVE, reason)
    before = f"{name}@{replaced[0]}" if replaced else ""
    await _audit(connection, actor, "activate", found, reason, replaced=before, digest=found.digest)
    return await _found(connection, name, revision)


async def deactivate(
    connection: Connection, actor: Actor, name: str, reason: str, revision: int | None = None
) -> Revision:
    """Take a name's active revision out of force: nothing of it is checked any more, nothing is released by it.

    `revision`: only if it is this one.
    """
    _allowed(actor, reason)
    await rules.lock(connection, actor.organization_id)
    only = (await _found(connection, name, revision)).id if revision is not None else None
    ended = await rules.end_uses(connection, actor, ACTIVE, reason, name=name, revision_id=only)
    if not ended:
        raise RuleError(
            Refusal.CONFLICT, f"no revision of {name} is active" if only is None else f"{name}@{revision} is not active"
        )
    found = await _found(connection, name, ended[0])
    await _audit(connection, actor, "deactivate", found, reason)
    return found


async def shadow(
    connection: Connection, actor: Actor, name: str, revision: int, reason: str, *, on: bool = True
) -> Revision:
    """Let a revision say what it would do, without doing it; `on` False ends that. It needs no validation."""
    _allowed(actor, reason)
    await rules.lock(connection, actor.organization_id)
    found = await _found(connection, name, revision)
    if on and found.mode:
        raise RuleError(Refusal.CONFLICT, f"{found.version} is {found.mode} already")
    if on:
        await rules.begin_use(connection, actor, found, SHADOW, reason)
    elif not await rules.end_uses(connection, actor, SHADOW, reason, revision_id=found.id):
        raise RuleError(Refusal.CONFLICT, f"{found.version} is not in the shadow")
    await _audit(connection, actor, "shadow_on" if on else "shadow_off", found, reason)
    return await _found(connection, name, revision)


# ---- switches -------------------------------------------------------------------------------------------------------


async def switch_off(connection: Connection, actor: Actor, switch: Switch) -> list[SwitchView]:
    """Nothing more is released without a person within its scope, from the commit on; returns all that is off.

    Whoever may release results may do it. Transactions that decided before may still commit: `store.rules.drained`,
    after that commit, waits for them.
    """
    if not (may(actor, Permission.RULE_WRITE) or may(actor, Permission.RESULT_RELEASE)):
        text = f"only a user with the permission {Permission.RULE_WRITE} or {Permission.RESULT_RELEASE} may do this"
        raise RuleError(Refusal.FORBIDDEN, text)
    _sayable(switch.reason)
    await _known(connection, switch)
    done = await rules.switch_off(connection, actor, switch)
    await _audit_switch(connection, actor, "off", switch, outcome="ok" if done else "already")
    return await rules.read_switches(connection)


async def switch_on(connection: Connection, actor: Actor, switch: Switch) -> list[SwitchView]:
    """End a switch; `switch.reason` says why. Returns what is still off. Raises RuleError when it was not off."""
    _allowed(actor, switch.reason)
    if not await rules.switch_on(connection, actor, switch):
        raise RuleError(Refusal.CONFLICT, f"{_words(switch)} was not switched off")
    await _audit_switch(connection, actor, "on", switch)
    return await rules.read_switches(connection)


async def _known(connection: Connection, switch: Switch) -> None:
    """A switch for what does not exist would be a switch that does nothing, to somebody who relies on it."""
    tables = {
        Scope.TEST: "lab.test where code = $1",
        Scope.ANALYZER: "lab.analyzer where name = $1",
    }
    if (switch.scope is Scope.ORGANIZATION) is bool(switch.key):
        raise RuleError(Refusal.INVALID, "a test or an analyzer is named, the laboratory is not")
    if switch.scope in tables and not await connection.fetch(f"select from {tables[switch.scope]}", switch.key):
        raise RuleError(Refusal.NOT_FOUND, f"there is no {switch.scope.value} {switch.key!r}")


def _words(switch: Switch) -> str:
    return "the laboratory" if switch.scope is Scope.ORGANIZATION else f"{switch.scope.value} {switch.key}"


# ---- what all of them check and write -------------------------------------------------------------------------------


def check_author(actor: Actor) -> None:
    """Raise RuleError unless the actor may write rules."""
    if not may(actor, Permission.RULE_WRITE):
        raise RuleError(Refusal.FORBIDDEN, f"only a user with the permission {Permission.RULE_WRITE} may do this")


def _allowed(actor: Actor, reason: str) -> None:
    check_author(actor)
    _sayable(reason)


def _sayable(reason: str) -> None:
    if not reason.strip():
        raise RuleError(Refusal.INVALID, "say why: it is kept")
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        raise RuleError(Refusal.INVALID, f"the reason is longer than {LONGEST_REASON} characters, or not printable")


async def _audit(
    connection: Connection, actor: Actor, action: str, revision: Revision, reason: str, **detail: str
) -> None:
    told = {"rule_set": revision.version, "reason": reason, **{key: text for key, text in detail.items() if text}}
    await audit.record(connection, actor, action, "rule_set", revision.id, told)


async def _audit_switch(connection: Connection, actor: Actor, action: str, switch: Switch, outcome: str = "ok") -> None:
    told = {"scope": switch.scope.value, "key": switch.key, "reason": switch.reason}
    await audit.record(connection, actor, action, "rule_switch", None, told, outcome)
