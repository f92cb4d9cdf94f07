"""An explanation in the database is what it was before it, and says each thing once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest

from interface.domain.model import Step
from interface.flow import trace
from interface.store.db import Database
from interface.store.explanations import Part, as_sent, in_parts, read_steps, write_steps
from interface.store.ids import uuid7
from tests.conftest import Organization

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


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "a\0\\u0000", "\\\0", '"\0"'])
async def test_what_a_text_says_of_a_nul_is_not_one(database: Database, organization: Organization, text: str) -> None:
    """The six characters that JSON has for it may be sent as they are: `R&u0000` in an ASTM unit is a backslash too."""
    said = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    steps = (RECEIVED, Step("unit", "hold", text, "units 3", {"sent": text}), Step("rule", "ok", "", "", {text: text}))
    kept = (RECEIVED, Step("unit", "hold", said, "units 3", {"sent": said}), Step("rule", "ok", "", "", {said: said}))
    assert read_steps(write_steps(steps)) == kept
    for _ in range(3):  # kept whole, in runs, with holes
        texts, parts = _in_parts(organization.id, [steps])
    async with database.transaction(organization.id) as connection:
        await connection.executemany(
            "insert into lab.explanation (organization_id, id, steps) values ($1, $2, $3)",
            [(organization.id, part.id, part.steps) for part in parts],
        )
        assert read_steps(await connection.fetchval("select lab.explained($1)", texts[0])) == kept


def test_the_columns_of_the_version_say_what_the_analyzer_said() -> None:
    received, decoded = as_sent((RECEIVED, DECODED), VERSION)
    assert received.inputs == {"message": str(MESSAGE), "location": "OBX^3"}
    assert decoded.inputs == {"code": "GLU", "value": '5.6 "', "unit": "mmol/L", "status": "F"}
    assert (decoded.version, decoded.text) == (DECODED.version, DECODED.text)


def test_a_step_that_says_it_itself_is_left_alone() -> None:
    older = Step("decode", "ok", "read by the driver", "xn 1", {"code": "GLUC", "value": "9"})
    assert as_sent((older, Step("flag", "N", "against it")), VERSION) == (older, Step("flag", "N", "against it"))


def _in_parts(organization_id: UUID, explanations: Sequence[tuple[Step, ...]]) -> tuple[list[str], list[Part]]:
    texts, parts = in_parts(organization_id, explanations)
    return [text.decode() for text in texts], parts


DELTA = Step("delta", "ok", "the change is within the limit", "default 1")
RELEASED = Step("autoverification", "ok", "released by the rules", "default 1")


async def test_what_explains_many_results_is_kept_once_and_read_with_each(
    database: Database, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    shared = (RECEIVED, DECODED, Step("interval", "ok", '3.5 - 5.2 "\\', "i 1", {"row": "µ"}))
    all_steps = [(*shared, DELTA, RELEASED), shared, (DELTA, *shared), (DELTA, RELEASED), ()]
    organizations = [uuid7(), uuid7()]
    for place, organization_id in enumerate(organizations):
        await owner.execute("insert into lab.organization (id, name) values ($1, $2)", organization_id, f"o{place}")
        assert _in_parts(organization_id, [shared]) == ([write_steps(shared)], []), "it may never come again"
        texts, parts = _in_parts(organization_id, all_steps)
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


def delta(previous: str, difference: str) -> Step:
    return Step("delta", "ok", 'within "the" limit\1', "default 1", {"previous": previous, 'differ"ence': difference})


async def test_words_that_many_results_share_are_kept_with_holes_for_what_is_their_own(
    database: Database, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    organization_id = uuid7()
    await owner.execute("insert into lab.organization (id, name) values ($1, 'main')", organization_id)
    shared = (RECEIVED, DECODED, Step("interval", "ok", "3.5 - 5.2", "i 1", {"row": "µ\1"}))
    odd = ("a", "-1"), ("b", ""), ('"', "\1\\"), ("", "\0 µ"), ("[0]", '{"a":1}')
    rule = Step("rule", "ok", "passed", "default 1", {"value above 0": "5: true"})
    all_steps = [(*shared, delta(*each), rule, RELEASED) for each in odd]
    other = (*shared, Step("delta", "hold", "more than the limit", "default 1", {"previous": "a"}), rule, RELEASED)
    texts, parts = _in_parts(organization_id, [*all_steps, other])
    assert texts[0] == write_steps(all_steps[0]), "it may never come again"
    assert [len(parts), "hold" in texts[-1]] == [2, True]
    assert all(len(text) < 80 for text in texts[2:-1])
    async with database.organization(organization_id) as connection:
        (lost,) = read_steps(await connection.fetchval("select lab.explained($1)", texts[1]))
        assert (lost.step, lost.verdict) == ("lost", "hold")
        await connection.executemany(
            "insert into lab.explanation (organization_id, id, steps) values ($1, $2, $3)",
            [(organization_id, part.id, part.steps) for part in parts],
        )
        back = [read_steps(await connection.fetchval("select lab.explained($1)", text)) for text in texts]
    assert back == [read_steps(write_steps(steps)) for steps in [*all_steps, other]]


def test_what_is_known_of_steps_that_are_the_same_objects_is_what_their_words_say() -> None:
    """By the objects it is only found sooner: others that say the same come to the same."""
    shared = (RECEIVED, DECODED, Step("map", "ok", "GLU Glucose", "site map 1"))
    rule = Step("rule", "ok", "passed", "default 1", {"value above 0": "5: true"})
    others = [
        Step("rule", "hold", "passed", "default 1", {"value above 0": "5: true"}),
        Step("rule", "ok", "failed", "default 1", {"value above 0": "5: true"}),
        Step("rule", "ok", "passed", "default 2", {"value above 0": "5: true"}),
        Step("rule", "ok", "passed", "default 1", {"value above 1": "5: true"}),
        Step("rule", "ok", "passed", "default 1"),
        Step("again", "ok", "passed", "default 1", {"value above 0": "5: true"}),
        Step("unit", "ok", "passed", "default 1", {"value above 0": "5: true"}),
        Step("rule", "ok", "passed", "default 1", {"value above 0": "6: true"}),
    ]
    all_steps: list[tuple[Step, ...]] = []
    all_steps += [(*shared, one, RELEASED) for each in others for one in (rule, each, each, rule)]
    all_steps += [(*shared, rule), (*shared, rule, RELEASED, RELEASED)] * 2
    names = "previous", "difference", "rule"
    for cut in (1, 2, 1):  # the same names in all, and not of the same steps
        parted = [dict.fromkeys(some, f"{cut}") for some in (names[:cut], names[cut:])]
        all_steps += [(*shared, *[Step("delta", "ok", "within", "default 1", inputs) for inputs in parted])] * 2
    anew = [tuple(Step(one.step, one.verdict, one.text, one.version, dict(one.inputs)) for one in steps)
            for steps in all_steps]  # fmt: skip
    organization_id = uuid7()
    _in_parts(organization_id, anew)
    known, parts = _in_parts(organization_id, all_steps)
    assert _in_parts(organization_id, anew) == (known, parts)
    assert _in_parts(organization_id, all_steps) == (known, parts)
    words = {str(part.id): part.steps for part in parts}
    for text, steps in zip(known, all_steps, strict=True):
        for said in orjson.loads(text):
            if isinstance(said, list):
                text = f"[{words[said[0]]}]"
                for value in said[1:]:
                    text = text.replace("\1", orjson.dumps(value).decode(), 1)
            elif isinstance(said, str):
                text = text.replace(f'"{said}"', words[said])
        assert read_steps(text) == steps


async def test_what_never_comes_again_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    organization_id = uuid7()
    steps = [(RECEIVED, Step("review", "ok", f"because {n}", inputs={"by": "a"})) for n in range(10_000)]
    for at in range(0, len(steps), 1000):
        texts, parts = _in_parts(organization_id, steps[at : at + 1000])
        assert texts == [write_steps(each) for each in steps[at : at + 1000]] and parts == []
    assert len(_in_parts(organization_id, steps[-1:])[1]) <= 1


async def test_a_versions_explanation_is_looked_up_not_joined(owner: asyncpg.Connection[asyncpg.Record]) -> None:
    """The planner does not look into the view for a join: it would read every version there is."""
    await owner.execute("set enable_seqscan = off")
    plan = await owner.fetch("explain (costs off) " + trace._VERSIONS, [uuid7()])
    text = "\n".join(row[0] for row in plan)
    assert re.search(r"using result_version_\d+_pkey on", text) and "using decision_before_pkey on" in text
    for path in Path(trace.__file__).parents[1].rglob("*.py"):
        assert not re.search(r"join\s+lab\.decision\b", path.read_text(), re.I), path
