"""The stamp that the bench gives, and the shadow beside the people, over the real database."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from interface.domain.agreement import Agreement
from interface.domain.rule_cases import parse_cases
from interface.flow import rules as flow
from interface.flow.rule_proof import compare, prove
from interface.flow.rules import RuleError
from interface.store import rules as store
from interface.store.db import Connection
from interface.store.ids import uuid7
from tests.domain.cases import RULE
from tests.flow.test_rules import Bench, bench

__all__ = ["bench"]

CASES = """
[[case]]
name = "inside"
test = "K"
expect = "release"
facts = { value = "4.1", sex = "female", qc = "ok", critical_limits = true }
"""


async def test_the_benchs_stamp_lets_exactly_that_revision_be_activated(bench: Bench) -> None:
    async with bench.database.transaction(bench.organization_id) as connection:
        await flow.import_rules(connection, bench.director, RULE, "here", "first")
        looked = await prove(connection, None, "default")
        assert looked.report.passed and not looked.stamped
        with pytest.raises(RuleError, match="has not been validated"):
            await flow.activate(connection, bench.director, "default", 1, "ready")
        proof = await prove(connection, bench.director, "default", 1, parse_cases(CASES, "toml"))
        assert proof.stamped and proof.report.vectors > 10
        active = await flow.activate(connection, bench.director, "default", 1, "ready")
        assert active.validation is not None
        assert (active.validation.cases, active.validation.by) == (1, "laboratory_director")
        await flow.import_rules(connection, bench.director, RULE + "# changed", "here", "second")
        with pytest.raises(RuleError, match="default@2 cannot be activated: it has not been validated"):
            await flow.activate(connection, bench.director, "default", 2, "ready")
    assert await bench.audited() == ["import", "validate", "activate", "import"]


async def test_a_case_that_fails_gives_no_stamp(bench: Bench) -> None:
    async with bench.database.transaction(bench.organization_id) as connection:
        await flow.import_rules(connection, bench.director, RULE, "here", "first")
        cases = parse_cases(CASES.replace("release", "hold"), "toml")
        proof = await prove(connection, bench.director, "default", None, cases)
        assert not proof.stamped and proof.report.failures == ("K: case inside: expected hold, it is release",)
        with pytest.raises(RuleError, match="has not been validated"):
            await flow.activate(connection, bench.director, "default", 1, "ready")
        with pytest.raises(RuleError):
            await prove(connection, bench.person("technologist"), "default")


async def _version(connection: Connection, organization_id: UUID, result_id: UUID, **columns: Any) -> UUID:
    version_id = uuid7()
    row = {"id": version_id, "organization_id": organization_id, "result_id": result_id, "kind": "numeric",
           "status": "preliminary", "value": "4.1", "unit": "mmol/L", "actor_kind": "link"} | columns  # fmt: skip
    places = ", ".join(f"${at}" for at in range(1, len(row) + 1))
    statement = f"insert into lab.result_version ({', '.join(row)}) values ({places})"  # noqa: S608 - our own names
    await connection.execute(statement, *row.values())
    return version_id


HUMAN: list[tuple[str, dict[str, Any] | None]] = [
    ("release", {"status": "final"}),
    ("release", {"status": "final"}),
    ("release", {"status": "final", "value": "4.2"}),  # another value than was judged
    ("release", {"status": "corrected"}),
    ("release", {"status": "cancelled", "held": ["questionable"]}),
    ("release", {"status": "registered", "held": ["rerun"]}),
    ("release", None),
    ("release", {"status": "registered", "held": ["delta"]}),  # a person looked, and decided nothing
    ("hold", {"status": "final"}),
    ("wait", {"status": "cancelled"}),
]


async def test_what_a_revision_would_have_done_stands_beside_what_people_did(bench: Bench) -> None:
    await bench.active()
    async with bench.database.transaction(bench.organization_id) as connection:
        await flow.import_rules(connection, bench.director, RULE + "# next", "here", "second")
        shadow = await flow.shadow(connection, bench.director, "default", 2, "to compare")
        rows: list[store.ShadowRow] = []
        for action, human in HUMAN:
            result_id = uuid7()
            earlier = await _version(connection, bench.organization_id, result_id)
            rows.append(store.ShadowRow(shadow.id, result_id, earlier, "K", "hold"))  # the last one counts
            judged = await _version(connection, bench.organization_id, result_id)
            rows.append(store.ShadowRow(shadow.id, result_id, judged, "K", action, ("rule potassium",)))
            if human is not None:
                await _version(connection, bench.organization_id, result_id, **human, actor_kind="user")
            await _version(connection, bench.organization_id, result_id, status="final", actor_kind="rule_set")
        await store.add_shadow(connection, bench.organization_id, rows)
        found = await compare(connection, "default", 2)
        assert found.total == Agreement("all", 2, 1, 4, 1, 2)
        assert found.tests == (Agreement("K", 2, 1, 4, 1, 2),)
        assert {(one.human, one.action) for one in found.missed} == {("changed", "release"), ("rejected", "release")}
        assert len(found.missed) == 4
        assert (await compare(connection, "default", 1)).total == Agreement("all")
