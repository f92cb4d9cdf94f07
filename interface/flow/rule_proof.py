"""What proves a rule set: the bench, whose stamp a revision needs, and the shadow beside the people."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from interface.domain.agreement import Agreement
from interface.domain.autoverify import Stamp, catalogue_digest
from interface.domain.model import LabTest
from interface.domain.rule_bench import Report, run
from interface.domain.rule_cases import WrittenCase
from interface.domain.rules import ENGINE
from interface.domain.views import Actor
from interface.flow.rules import check_author, load, read
from interface.store import audit, rules, shadow
from interface.store.catalogue import read_tests
from interface.store.db import Connection
from interface.store.rules import Revision
from interface.store.shadow import Disagreement


@dataclass(frozen=True, slots=True)
class Proof:
    """A stored revision on the bench. `stamped`: its validation was kept, so that it may be activated."""

    revision: Revision
    report: Report
    stamped: bool


async def prove(
    connection: Connection,
    actor: Actor | None,
    name: str,
    revision: int | None = None,
    cases: Sequence[WrittenCase] = (),
) -> Proof:
    """Run the bench over a stored revision, the newest without a number. Without failures, and for an actor, it is
    stamped. Raises RuleError."""
    if actor is not None:
        check_author(actor)
    found, rule_set, _ = await load(connection, name, revision)
    tests = await read_tests(connection)
    report = await asyncio.to_thread(run, rule_set, by_code(tests), cases)
    if actor is None or not report.passed:
        return Proof(found, report, False)
    stamp = Stamp(found.digest, ENGINE, catalogue_digest(rule_set, tests))
    await rules.add_validation(
        connection, actor, found.id, stamp, report.vectors, report.cases, len(report.uncovered)
    )  # fmt: skip
    told = {
        "rule_set": found.version, "digest": found.digest, "engine": ENGINE, "vectors": str(report.vectors),
        "cases": str(report.cases), "uncovered": str(len(report.uncovered)),
    }  # fmt: skip
    await audit.record(connection, actor, "validate", "rule_set", found.id, told)
    return Proof(found, report, True)


def by_code(tests: Sequence[LabTest]) -> dict[str, LabTest]:
    return {test.code: test for test in tests}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A revision's verdicts beside the people's. `missed`: what it would have released and a person did not."""

    revision: Revision
    total: Agreement
    tests: tuple[Agreement, ...]
    missed: tuple[Disagreement, ...]


async def compare(
    connection: Connection, name: str, revision: int | None = None, since: datetime | None = None, limit: int = 100
) -> Comparison:
    """Of what a revision said in the shadow, `since` then. Raises RuleError."""
    found, _ = await read(connection, name, revision)
    by_test: defaultdict[str, Agreement] = defaultdict(Agreement)
    total = Agreement("all")
    for one in await shadow.tally(connection, found.id, since):
        counted = Agreement.of(one.test, one.action == "release", one.human, one.results)
        by_test[one.test] = replace(by_test[one.test] + counted, test=one.test)
        total += counted
    missed = await shadow.disagreements(connection, found.id, since, limit)
    return Comparison(found, total, tuple(by_test[test] for test in sorted(by_test)), tuple(missed))
