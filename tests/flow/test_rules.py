"""Rule sets over the real database: who may put them in force and when, and what deciding transactions then see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import UUID

import asyncpg
import pytest

from interface.domain.autoverify import Autoverification, Scope, Stamp, Switch, catalogue_digest
from interface.domain.permissions import permissions
from interface.domain.review import Refusal
from interface.domain.rule_bench import run
from interface.domain.rule_files import RuleFileError, parse_rule_set
from interface.domain.rules import ENGINE
from interface.domain.views import Actor, ActorKind
from interface.flow import rules as flow
from interface.flow.rules import RuleError, RuleSets
from interface.store import rules as store
from interface.store.catalogue import read_tests
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.domain.cases import RULE

EVERYTHING = Switch(Scope.ORGANIZATION, reason="alarm")


@dataclass(frozen=True, slots=True)
class Bench:
    """A laboratory with tests, its director and its technologist."""

    database: Database
    organization_id: UUID

    def person(self, role: str) -> Actor:
        granted = permissions([role])
        return Actor(ActorKind.USER, uuid7(), role, self.organization_id, granted, frozenset({role}))

    @property
    def director(self) -> Actor:
        return self.person("laboratory_director")

    async def stamp(self, connection: Connection, revision: store.Revision, **changes: str) -> None:
        rule_set = parse_rule_set(await store.read_body(connection, revision.id))
        stamp = Stamp(revision.digest, ENGINE, catalogue_digest(rule_set, await read_tests(connection)))
        await store.add_validation(connection, self.director, revision.id, replace(stamp, **changes), 1, 0, 0)

    async def active(self, text: str = RULE) -> store.Revision:
        """Import a document, stamp it and put it in force."""
        async with self.database.transaction(self.organization_id) as connection:
            made = await flow.import_rules(connection, self.director, text, "here", "first")
            await self.stamp(connection, made)
            return await flow.activate(connection, self.director, made.name, made.revision, "ready")

    async def now(self, rule_sets: RuleSets | None = None) -> Autoverification:
        async with self.database.transaction(self.organization_id) as connection:
            return await self.read(connection, rule_sets or RuleSets())

    async def read(self, connection: Connection, rule_sets: RuleSets) -> Autoverification:
        tests = {test.id: test for test in await read_tests(connection)}
        return await rule_sets.current(connection, tests)

    async def audited(self) -> list[str]:
        async with self.database.organization(self.organization_id) as connection:
            rows = await connection.fetch("select action, detail from lab.audit_event order by id")
        return [row["action"] for row in rows if "rule_set" in row["detail"] or "scope" in row["detail"]]


@pytest.fixture
async def bench(database: Database, organization: Organization) -> AsyncIterator[Bench]:
    async with database.transaction(organization.id) as connection:
        await connection.executemany(
            "insert into lab.test (id, organization_id, code, name, unit, decimals)"
            " values ($1, $2, $3, $3, 'mmol/L', 1)",
            [(uuid7(), organization.id, code) for code in ("K", "NA")],
        )
    yield Bench(database, organization.id)


async def test_a_validated_revision_is_put_in_force_and_replaced(bench: Bench) -> None:
    assert (await bench.now()).active is None
    first = await bench.active()
    assert (first.version, first.mode, first.by) == ("default@1", "active", "laboratory_director")
    now = await bench.now()
    assert now.active is not None and (now.active.version, now.void) == ("default 1", "")
    second = await bench.active(RULE + "\n# changed\n")
    async with bench.database.organization(bench.organization_id) as connection:
        listed = {one.version: one.mode for one in await store.read_revisions(connection)}
    assert (second.version, listed) == ("default@2", {"default@2": "active", "default@1": ""})
    async with bench.database.transaction(bench.organization_id) as connection:
        await flow.deactivate(connection, bench.director, "default", "not any more")
    assert (await bench.now()).active is None
    assert await bench.audited() == ["import", "activate", "import", "activate", "deactivate"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (None, "it has not been validated"),
        ({"digest": "0"}, "it has not been validated"),  # a validation of another text
        ({"engine": "rules/0"}, "rules mean something else now"),
        ({"catalogue": "0"}, "a test that it names has another unit"),
    ],
)
async def test_without_a_validation_of_exactly_it_a_revision_is_not_put_in_force(
    bench: Bench, changes: dict[str, str] | None, why: str
) -> None:
    async with bench.database.transaction(bench.organization_id) as connection:
        made = await flow.import_rules(connection, bench.director, RULE, "here", "first")
        if changes is not None:
            await bench.stamp(connection, made, **changes)
        with pytest.raises(RuleError, match=why) as raised:
            await flow.activate(connection, bench.director, "default", 1, "ready")
    assert raised.value.refusal is Refusal.CONFLICT
    assert (await bench.now()).active is None


async def test_a_change_of_a_test_voids_the_validation_of_what_is_in_force(bench: Bench) -> None:
    await bench.active()
    rule_sets = RuleSets()
    assert (await bench.now(rule_sets)).void == ""
    async with bench.database.transaction(bench.organization_id) as connection:
        await connection.execute("update lab.test set decimals = 2 where code = 'K'")
    assert "another unit" in (await bench.now(rule_sets)).void


async def test_a_document_that_this_program_cannot_read_releases_nothing_and_stops_nothing(bench: Bench) -> None:
    async with bench.database.transaction(bench.organization_id) as connection:
        revision_id, _ = await store.add_revision(connection, bench.director, "default", "of = 'tomorrow'", "", "")
        found = await store.find_revision(connection, "default")
        assert found is not None and found.id == revision_id
        await store.begin_use(connection, bench.director, found, store.ACTIVE, "")
        with pytest.raises(RuleError, match="written for another version"):
            await flow.load(connection, "default")
        assert (await flow.read(connection, "default"))[1] == "of = 'tomorrow'"
    now = await bench.now()
    assert now.active is None and "cannot read it" in now.void


@pytest.mark.parametrize("role", ["administrator", "technologist", "viewer"])
async def test_only_who_may_write_rules_changes_them(bench: Bench, role: str) -> None:
    await bench.active()
    actor = bench.person(role)
    async with bench.database.transaction(bench.organization_id) as connection:
        for attempt in (
            flow.import_rules(connection, actor, RULE + "#", "", "r"), flow.switch_on(connection, actor, EVERYTHING),
            flow.activate(connection, actor, "default", 1, "r"), flow.shadow(connection, actor, "default", 1, "r"),
            flow.deactivate(connection, actor, "default", "r"),
        ):  # fmt: skip
            with pytest.raises(RuleError) as raised:
                await attempt
            assert raised.value.refusal is Refusal.FORBIDDEN


async def test_a_technologist_may_pull_the_plug_and_an_administrator_may_not(bench: Bench) -> None:
    async with bench.database.transaction(bench.organization_id) as connection:
        with pytest.raises(RuleError):
            await flow.switch_off(connection, bench.person("administrator"), EVERYTHING)
        off = await flow.switch_off(connection, bench.person("technologist"), EVERYTHING)
        again = await flow.switch_off(connection, bench.person("technologist"), EVERYTHING)
    assert off == again and [(one.switch.scope, one.by) for one in off] == [(Scope.ORGANIZATION, "technologist")]
    assert [one.scope for one in (await bench.now()).switches] == [Scope.ORGANIZATION]
    async with bench.database.transaction(bench.organization_id) as connection:
        assert await flow.switch_on(connection, bench.director, EVERYTHING) == []
        with pytest.raises(RuleError, match="was not switched off"):
            await flow.switch_on(connection, bench.director, EVERYTHING)
    assert (await bench.now()).switches == ()
    assert await bench.audited() == ["off", "off", "on"]


@pytest.mark.parametrize(
    "switch",
    [
        Switch(Scope.TEST, "NOSUCH", "r"), Switch(Scope.ANALYZER, "nosuch", "r"), Switch(Scope.TEST, "", "r"),
        Switch(Scope.ORGANIZATION, "K", "r"), Switch(Scope.TEST, "K", " "), Switch(Scope.TEST, "K", "x" * 501),
    ],
)  # fmt: skip
async def test_a_switch_that_would_switch_nothing_is_refused(bench: Bench, switch: Switch) -> None:
    async with bench.database.transaction(bench.organization_id) as connection:
        with pytest.raises(RuleError):
            await flow.switch_off(connection, bench.director, switch)


async def test_what_decided_before_a_switch_is_waited_for_and_what_decides_after_sees_it(bench: Bench) -> None:
    """Once `drained` returns nothing is released any more that had not seen the switch; nobody waits for it."""
    await bench.active()
    rule_sets = RuleSets()
    looked, ended = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        looked.set()
        await ended.wait()

    async with bench.database.transaction(bench.organization_id) as deciding:
        assert (await bench.read(deciding, rule_sets)).switches == ()
        async with bench.database.transaction(bench.organization_id) as connection:
            await flow.switch_off(connection, bench.director, EVERYTHING)
        waiting = asyncio.create_task(_drained(bench, pause))
        await looked.wait()  # it has seen that somebody still decides
        assert len((await bench.now(rule_sets)).switches) == 1  # who decides now is not kept waiting, and sees it
        assert not waiting.done()
    async with bench.database.transaction(bench.organization_id) as later:
        assert len((await bench.read(later, rule_sets)).switches) == 1
        ended.set()
        assert await waiting  # not kept by one that came after


async def _drained(bench: Bench, pause: Callable[[], Awaitable[None]]) -> bool:
    async with bench.database.organization(bench.organization_id) as connection:
        return await store.drained(connection, bench.organization_id, pause)


async def test_what_another_laboratory_decides_is_not_waited_for(
    bench: Bench, other_organization: Organization
) -> None:
    other = Bench(bench.database, other_organization.id)
    async with bench.database.transaction(other.organization_id) as deciding:
        await other.read(deciding, RuleSets())
        async with bench.database.organization(bench.organization_id) as connection:
            assert await store.drained(connection, bench.organization_id)


async def test_a_revision_in_the_shadow_is_read_beside_the_active_one(bench: Bench) -> None:
    await bench.active()
    async with bench.database.transaction(bench.organization_id) as connection:
        await flow.import_rules(connection, bench.director, RULE + "\n# next\n", "", "next")
        shadow = await flow.shadow(connection, bench.director, "default", 2, "to compare")
        with pytest.raises(RuleError, match="is shadow already"):
            await flow.shadow(connection, bench.director, "default", 2, "again")
    now = await bench.now()
    assert [(one.id, one.rule_set.version) for one in now.shadows] == [(shadow.id, "default 2")]
    assert now.active is not None and now.active.version == "default 1"
    async with bench.database.transaction(bench.organization_id) as connection:
        rows = [store.ShadowRow(shadow.id, uuid7(), uuid7(), "K", "hold", ("rule a", "qc fail"))]
        await store.add_shadow(connection, bench.organization_id, [*rows, replace(rows[0], against=())])
        kept = await connection.fetch("select action, against from lab.shadow_verdict order by id")
        await flow.shadow(connection, bench.director, "default", 2, "enough", on=False)
    assert [tuple(row) for row in kept] == [("hold", ["rule a", "qc fail"]), ("hold", [])]
    assert (await bench.now()).shadows == ()


async def test_two_revisions_are_never_active_at_once(bench: Bench) -> None:
    made = await bench.active()
    async with bench.database.transaction(bench.organization_id) as connection:
        with pytest.raises(asyncpg.UniqueViolationError):
            await store.begin_use(connection, bench.director, made, store.ACTIVE, "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (RULE.replace('["K"]', '["KX"]'), "there is no test 'KX' in use"),
        (RULE.replace('"mmol/L"', '"mg/dL"'), "rule potassium: K is reported in mmol/L, not in mg/dL"),
    ],
)
async def test_a_document_is_checked_against_the_laboratorys_tests(bench: Bench, text: str, problem: str) -> None:
    async with bench.database.transaction(bench.organization_id) as connection:
        with pytest.raises(RuleFileError, match=problem):
            await flow.import_rules(connection, bench.director, text, "here", "first")


CALCULATED = """
[[calculation]]
test = "{0}"
formula = "mcv"
inputs = {{ haematocrit = ["K"], erythrocytes = ["NA"] }}
"""
REFLEX = """
[[reflex]]
name = "another"
test = "K"
kind = "reflex"
add = ["{0}"]
flags = ["L"]
reason = "for the test"
"""
ASKED = """
[[rule]]
name = "beside"
tests = ["K"]
require = [{{ not = {{ sibling_present = "{0}" }} }}]
"""


INDEX = """
[[index]]
test = "K"
index = "H"
index_test = "{0}"
limit = "20"
"""


@pytest.mark.parametrize("section", [CALCULATED, REFLEX, ASKED, INDEX])
async def test_nor_is_one_taken_that_makes_adds_or_asks_for_a_test_that_there_is_not(
    bench: Bench, section: str
) -> None:
    """Nothing would ever be calculated or added, and what is asked of a test that has no result is as answered."""
    named = RULE + section.format("OTHER")
    async with bench.database.transaction(bench.organization_id) as connection:
        with pytest.raises(RuleFileError, match="there is no test 'OTHER' in use"):
            await flow.import_rules(connection, bench.director, named, "here", "first")
        assert run(parse_rule_set(named), {}).failures[-1] == "there is no test 'OTHER'"
        await connection.execute(
            "insert into lab.test (id, organization_id, code, name, unit) values ($1, $2, 'OTHER', 'Other', 'fL')",
            uuid7(), bench.organization_id,
        )  # fmt: skip
    await bench.active(named)
    assert (await bench.now()).void == ""
    async with bench.database.transaction(bench.organization_id) as connection:
        await connection.execute("update lab.test set active = false where code = 'OTHER'")
    assert "is not in use any more" in (await bench.now()).void


async def test_nor_one_whose_reflex_adds_what_is_calculated(bench: Bench) -> None:
    """What it is made of is there by then: nothing comes with which it would be calculated, and it waited for ever."""
    text = RULE + CALCULATED.format("OTHER") + REFLEX.format("OTHER")
    said = "reflex another adds OTHER, which is calculated"
    async with bench.database.transaction(bench.organization_id) as connection:
        with pytest.raises(RuleFileError, match=said):
            await flow.import_rules(connection, bench.director, text, "here", "first")
    assert any(one.startswith(said) for one in run(parse_rule_set(text), {}).failures)


async def test_the_same_text_is_not_stored_twice(bench: Bench) -> None:
    async with bench.database.transaction(bench.organization_id) as connection:
        await flow.import_rules(connection, bench.director, RULE, "here", "first")
        with pytest.raises(RuleError, match="default@1 says the same"):
            await flow.import_rules(connection, bench.director, RULE, "here", "again")


async def test_each_laboratory_has_its_own(bench: Bench, other_organization: Organization) -> None:
    await bench.active()
    other = Bench(bench.database, other_organization.id)
    assert (await other.now()) == Autoverification()
