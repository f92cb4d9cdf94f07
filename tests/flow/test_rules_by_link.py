"""A link whose results another rule set decides, and what is parsed once for whoever decides in a process."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.rule_files import parse_rule_set
from interface.domain.rule_set import RuleSet
from interface.domain.views import ResultView
from interface.flow import rules
from interface.flow.entry import Entry, enter
from interface.flow.replay import replay
from interface.flow.review import release
from interface.flow.review_many import many
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_deciding import by_code

PEDIATRICS = RULES.replace('name = "default"', 'name = "pediatrics"').replace('low = "80"', 'low = "141"')


def name_rules(lab: Laboratory, name: str) -> None:
    settings = replace(lab.context.settings, rules=name)
    lab.contexts[lab.context.link_id] = replace(lab.context, settings=settings)


async def versions(lab: Laboratory) -> dict[str, set[str]]:
    """The rule sets that the explanation of each test's result names."""
    rows = await lab.owner.fetch(
        "select v.test_code, s ->> 'version' as version"
        " from lab.result r join lab.result_version v on v.id = r.version_id"
        " join lab.decision d on d.result_version_id = v.id, json_array_elements(lab.explained(d.steps)::json) s"
        " where s ->> 'step' in ('autoverification', 'calculation')"
    )
    return {
        row["test_code"]: {each["version"] for each in rows if each["test_code"] == row["test_code"]} for row in rows
    }


async def test_a_links_results_are_decided_by_the_rule_set_that_the_link_names(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await put_in_force(lab, PEDIATRICS)
        await lab.order("S1", "NA", "K", "CL", "HCO3", "AGAP")
        name_rules(lab, "pediatrics")
        await lab.send(sent("S1", {"NA": "140", "CL": "102", "HCO3": "24"}))
        await lab.settle()
        found = await by_code(lab)
        assert (found["NA"].status, found["NA"].held[:1]) == (ResultStatus.REGISTERED, (HoldReason.IMPLAUSIBLE,))
        assert found["CL"].status is ResultStatus.FINAL
        # What follows from a person's decision is by the rules that decided before.
        async with lab.database.transaction(lab.organization_id) as connection:
            await release(connection, lab.director, found["NA"].id, "so it is", accept_hold=True)
        assert await versions(lab) == {code: {"pediatrics 1"} for code in ("NA", "CL", "HCO3", "AGAP")}
        name_rules(lab, "geriatrics")  # nobody put such a set in force
        await lab.send(sent("S1", {"K": "4.1"}, control="C2"))
        await lab.settle()
        potassium = (await by_code(lab))["K"]
        assert potassium.status is ResultStatus.PRELIMINARY
        name_rules(lab, "default")
        assert potassium.message_id is not None
        again = await replay(lab.database, lab.director, potassium.message_id, lab.contexts.get, dry_run=False)
        assert again.rule_set == "default 1"


async def test_what_was_decided_by_another_rule_set_is_not_judged_anew(database_url: str) -> None:
    needs = '\n[[rule]]\nname = "with potassium"\ntests = ["NA"]\nrequire = [{ sibling_present = "K" }]\n'
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await put_in_force(lab, PEDIATRICS.replace('low = "141"', 'low = "80"') + needs)
        await lab.order("S1", "NA", "K", "CL")
        name_rules(lab, "pediatrics")
        await lab.send(sent("S1", {"NA": "140"}))
        await lab.settle()
        name_rules(lab, "default")
        await lab.send(sent("S1", {"K": "4.1"}, control="C2"))
        await lab.settle()
        assert (await by_code(lab))["NA"].held == (HoldReason.RULE,)
        name_rules(lab, "pediatrics")
        await lab.send(sent("S1", {"CL": "102"}, control="C3"))
        await lab.settle()
        found = await by_code(lab)
        assert {code: one.status for code, one in found.items()} == {
            "NA": ResultStatus.REGISTERED, "K": ResultStatus.FINAL, "CL": ResultStatus.FINAL,
        }  # fmt: skip


async def test_a_revision_is_parsed_once_for_all_who_decide_in_a_process(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        order = await lab.order("S1", "NA", "K", "CL")
        parsed: list[int] = []

        def counted(body: str, revision: int = 0) -> RuleSet:
            parsed.append(revision)
            return parse_rule_set(body, revision)

        monkeypatch.setattr(rules, "parse_rule_set", counted)
        await lab.send(sent("S1", {"NA": "240"}))
        await lab.settle()
        items = {item.test_code: item.id for item in order.items}
        async with lab.database.transaction(lab.organization_id) as connection:
            await release(connection, lab.director, (await by_code(lab))["NA"].id, "so it is", accept_hold=True)
            await enter(connection, lab.director, [Entry(items["K"], "4.1")])
            await enter(connection, lab.director, [Entry(items["CL"], "102")])
        assert parsed == [1]


async def test_results_that_are_released_together_are_followed_by_the_rules_of_each(database_url: str) -> None:
    """The second, of a link with rules of its own, has nothing to say of what follows from the first."""
    doubted = '[[range]]\ntest = "K"\nkind = "absurd"\nlow = "3.2"\nunit = "mmol/L"\n'
    other = RULES.replace('name = "default"', 'name = "pediatrics"').replace('below = "3.0"', 'below = "1.0"')
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + doubted)
        await put_in_force(lab, other + doubted)
        await lab.order("S1", "K")
        await lab.order("S2", "K", patient_id="P-2")
        await lab.send(sent("S1", {"K": "2.8"}))
        await lab.settle()
        name_rules(lab, "pediatrics")
        await lab.send(sent("S2", {"K": "2.8"}, control="C2", patient="P-2"))
        await lab.settle()
        found = await lab.results()
        assert all(HoldReason.IMPLAUSIBLE in one.held for one in found)
        async with lab.database.transaction(lab.organization_id) as connection:

            async def step(result_id: UUID, version: int | None) -> ResultView:
                return await release(
                    connection, lab.director, result_id, "seen twice", version, accept_hold=True, follow=False
                )

            await many(connection, lab.director, [(one.id, None) for one in found], step, all_or_none=True)
        asked = await lab.owner.fetch(
            "select s.barcode from lab.order_item i join lab.specimen s on s.id = i.specimen_id"
            " join lab.test t on t.id = i.test_id where t.code = 'MG'"
        )
        assert [row["barcode"] for row in asked] == ["S1"]
