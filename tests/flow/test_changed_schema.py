"""What is changed in the database under a daemon at work says nothing against the messages that it decides."""

from __future__ import annotations

import pytest

from interface.store.version_rows import OWN
from tests.flow.laboratory import Laboratory, laboratory, message

ATTEMPTS = 5  # more than a message has
REVISION = "update lab.alembic_version set version_num = '{}'"

# What a migration may do, and how it is undone.
CHANGES = {
    "type": ("type lab.own_row rename to other_row", "type lab.other_row rename to own_row"),
    "attributes": ("type lab.own_row add attribute other text", "type lab.own_row drop attribute other"),
    "column": (
        "table lab.result_version rename column raw_value to other",
        "table lab.result_version rename column other to raw_value",
    ),
    "table": ("table lab.result_version rename to other", "table lab.other rename to result_version"),
    "function": (
        "function lab.qc_deciding(uuid[]) rename to other", "function lab.other(uuid[]) rename to qc_deciding",
    ),
}  # fmt: skip
REFUSALS = {
    "constraint": "alter table lab.result_version add check (raw_value <> '6.66')",
    "number": """create function lab.too_large() returns trigger language plpgsql as $$ begin
            raise exception 'a number out of range' using errcode = '22003'; end $$;
        create trigger too_large before insert on lab.result_version for each row
            when (new.raw_value = '6.66') execute function lab.too_large()""",
}


FAULT = """create function lab.faulty() returns trigger language plpgsql as $$ begin
        perform lab.nobody_knows(); end $$;
    create trigger faulty before insert on lab.result_version for each row
        when (new.raw_value = '6.66') execute function lab.faulty()"""


async def _sent(lab: Laboratory, name: str, value: str) -> None:
    await lab.order(name, "WBC", patient_id=name)
    result = f"R|1|^^^WBC|{value}|10*3/uL||N||F||||20260102030000"
    await lab.send(message(f"P|1||{name}", f"O|1|{name}||^^^CBC|R", result, control=name))


@pytest.mark.parametrize(("change", "undo"), CHANGES.values(), ids=CHANGES)
async def test_no_message_is_parked_because_the_schema_is_another_for_a_while(
    founded_url: str, change: str, undo: str
) -> None:
    async with laboratory(founded_url) as lab:
        await _sent(lab, "S1", "7.1")
        known = await lab.owner.fetchval("select version_num from lab.alembic_version")
        await lab.owner.execute(f"begin; alter {change}; {REVISION.format('9999')}; commit")
        for _ in range(ATTEMPTS):
            assert await lab.worker.work() == 1
            assert await lab.messages() == [("complete", None)]
        await lab.owner.execute(f"begin; alter {undo}; {REVISION.format(known)}; commit")
        await lab.settle()
        assert await lab.messages() == [("complete", "released")]
        assert await lab.owner.fetchval("select attempts from lab.message") == 1
        assert [(one.raw_value, one.held) for one in await lab.results()] == [("7.1", ())]


async def test_a_type_that_was_made_anew_is_found_by_a_new_connection(founded_url: str) -> None:
    """What a connection has learnt of the former type, and the statements that it has prepared, are of no use."""
    async with laboratory(founded_url) as lab:
        await _sent(lab, "S1", "7.1")
        await lab.settle()
        await _sent(lab, "S2", "7.2")
        await lab.owner.execute(f"drop type {OWN.name}; create type {OWN.name} as ({OWN.ddl})")
        while await lab.worker.work():
            assert ("complete", "parked") not in await lab.messages()
        assert await lab.messages() == [("complete", "released")] * 2
        assert await lab.owner.fetchval("select max(attempts) from lab.message") == 2


async def test_what_some_messages_need_and_the_known_schema_has_not_keeps_no_other_back(founded_url: str) -> None:
    """A fault of ours in a statement that few need: to wait for another schema would be to wait for ever."""
    async with laboratory(founded_url) as lab:
        await lab.owner.execute(FAULT)
        await _sent(lab, "S1", "6.66")
        await _sent(lab, "S2", "7.2")
        await lab.settle()
        assert await lab.messages() == [("complete", "parked"), ("complete", "released")]


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_what_a_message_says_and_the_database_refuses_counts_against_it_alone(
    database_url: str, refusal: str
) -> None:
    async with laboratory(database_url) as lab:
        await lab.owner.execute(refusal)
        await _sent(lab, "S1", "6.66")
        await _sent(lab, "S2", "7.2")
        await lab.settle()
        assert await lab.messages() == [("complete", "parked"), ("complete", "released")]
        attempts = await lab.owner.fetch("select attempts from lab.message order by id")
        assert [row["attempts"] for row in attempts] == [3, 1]
