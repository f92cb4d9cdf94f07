"""Switches and shadows on live traffic: real messages, the real worker, and a person who decides."""

from __future__ import annotations

from interface.domain.agreement import Agreement
from interface.domain.autoverify import Scope, Switch
from interface.domain.model import ResultStatus
from interface.flow import rules as flow
from interface.flow.review import release
from interface.flow.rule_proof import compare
from tests.flow.laboratory import laboratory
from tests.flow.rulebook import RULES, put_in_force, sent


async def test_a_switch_works_on_the_next_message_and_a_shadow_is_compared_with_people(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        for barcode in ("S1", "S2", "S3"):
            await lab.order(barcode, "NA", "K", patient_id=barcode)
        await lab.send(sent("S1", {"NA": "140", "K": "4.1"}, patient="S1"))
        await lab.settle()
        async with lab.database.transaction(lab.organization_id) as connection:
            await flow.switch_off(connection, lab.director, Switch(Scope.TEST, "K", "alarm"))
            strict = RULES.replace("{ critical = false }", "{ critical = false }, { instrument_flags = { only = [] } }")
            await flow.import_rules(connection, lab.director, strict, "here", "stricter")
            await flow.shadow(connection, lab.director, "default", 2, "to compare")
        await lab.send(sent("S2", {"NA": "141", "K": "4.2"}, control="C2", patient="S2"))
        await lab.settle()
        found = {(one.barcode, one.test_code): one for one in await lab.results()}
        assert {key: one.status for key, one in found.items()} == {
            ("S1", "NA"): ResultStatus.FINAL, ("S1", "K"): ResultStatus.FINAL,
            ("S2", "NA"): ResultStatus.FINAL, ("S2", "K"): ResultStatus.PRELIMINARY,
        }  # fmt: skip
        async with lab.database.transaction(lab.organization_id) as connection:
            told = await connection.fetchval(
                "select lab.explained(steps)::json from lab.decision where result_version_id = $1",
                found["S2", "K"].version_id,
            )
            assert told[-1]["text"] == "waits for a person: switched off for the test K"
            await release(connection, lab.director, found["S2", "K"].id)
            compared = await compare(connection, "default", 2)
        # The shadow would have kept what the analyzer flags N; of sodium, released by the rules, no person has decided.
        assert compared.tests == (Agreement("K", only_people=1), Agreement("NA", open=1))
        async with lab.database.transaction(lab.organization_id) as connection:
            await flow.switch_on(connection, lab.director, Switch(Scope.TEST, "K", "found"))
        await lab.send(sent("S3", {"NA": "141", "K": "4.2"}, control="C3", patient="S3"))
        await lab.settle()
        assert {one.status for one in await lab.results() if one.barcode == "S3"} == {ResultStatus.FINAL}
