"""An explanation in the database is what it was before it, and says each thing once."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import orjson
import pytest

from interface.domain.model import Step
from interface.store.db import Database
from interface.store.explanations import as_sent, in_parts, read_steps, write_steps
from interface.store.ids import uuid7

MESSAGE = UUID("018f0000-0000-7000-8000-000000000001")
VERSION = {
    "message_id": MESSAGE, "location": "OBX^3", "code": "GLU", "raw_value": '5.6 "', "raw_unit": "mmol/L",
    "raw_flags": "", "raw_status": "F",
}  # fmt: skip
RECEIVED, DECODED = Step("receive", "ok", "complete message"), Step("decode", "ok", "read by the driver", "xn 2")


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (RECEIVED,),
        (RECEIVED, DECODED, Step("rule", "hold", 'quoted "and" \\ µ\n', "default 3", {"value from 1": "5.6: true"})),
    ],
)
def test_what_is_written_is_read_however_often(steps: tuple[Step, ...]) -> None:
    assert read_steps(write_steps(steps)) == steps
    assert read_steps(write_steps(steps)) == steps


def test_what_is_empty_is_not_written_and_a_nul_cannot_be() -> None:
    assert orjson.loads(write_steps([RECEIVED])) == [{"step": "receive", "verdict": "ok", "text": "complete message"}]
    (step,) = read_steps(write_steps([Step("rule", "ok", "a\0b", inputs={"text": "c\0"})]))
    assert (step.text, step.inputs) == ("a\N{REPLACEMENT CHARACTER}b", {"text": "c\N{REPLACEMENT CHARACTER}"})


def test_the_columns_of_the_version_say_what_the_analyzer_said() -> None:
    received, decoded = as_sent((RECEIVED, DECODED), VERSION)
    assert received.inputs == {"message": str(MESSAGE), "location": "OBX^3"}
    assert decoded.inputs == {"code": "GLU", "value": '5.6 "', "unit": "mmol/L", "status": "F"}
    assert (decoded.version, decoded.text) == (DECODED.version, DECODED.text)


def test_a_step_that_says_it_itself_is_left_alone() -> None:
    older = Step("decode", "ok", "read by the driver", "xn 1", {"code": "GLUC", "value": "9"})
    assert as_sent((older, Step("flag", "N", "against it")), VERSION) == (older, Step("flag", "N", "against it"))


DELTA = Step("delta", "ok", "the change is within the limit", "default 1", {"difference": "0.1"})
RELEASED = Step("autoverification", "ok", "released by the rules", "default 1")


async def test_what_explains_many_results_is_kept_once_and_read_with_each(
    database: Database, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    shared = (RECEIVED, DECODED, Step("interval", "ok", '3.5 - 5.2 "\\', "i 1", {"row": "µ"}))
    all_steps = [(*shared, DELTA, RELEASED), shared, (DELTA, *shared), (DELTA, RELEASED), ()]
    organizations = [uuid7(), uuid7()]
    for place, organization_id in enumerate(organizations):
        await owner.execute("insert into lab.organization (id, name) values ($1, $2)", organization_id, f"o{place}")
        assert in_parts(organization_id, [shared]) == ([write_steps(shared)], []), "it may never come again"
        texts, parts = in_parts(organization_id, all_steps)
        assert [part.steps for part in parts] == [write_steps(shared)[1:-1]]
        assert [str(parts[0].id) in text for text in texts] == [True, True, True, False, False]
        assert all(DECODED.text not in text for text in texts)
        async with database.organization(organization_id) as connection:
            lost = await connection.fetchval("select lab.explained($1)", texts[1])
            assert [step.step for step in read_steps(lost)] == ["lost"]  # what others keep is not seen
            await connection.execute(
                "insert into lab.explanation (organization_id, id, steps) values ($1, $2, $3)",
                organization_id, parts[0].id, parts[0].steps,
            )  # fmt: skip
            back = [await connection.fetchval("select lab.explained($1)", text) for text in texts]
        assert [read_steps(text) for text in back] == all_steps
