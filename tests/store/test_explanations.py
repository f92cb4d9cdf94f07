"""An explanation in the database is what it was before it, and says each thing once."""

from __future__ import annotations

from uuid import UUID

import orjson
import pytest

from interface.domain.model import Step
from interface.store.explanations import as_sent, read_steps, write_steps

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
