"""Rules that look at the other results of the specimen see what the checks made of them, in the same message too."""

from __future__ import annotations

import pytest

from interface.domain.autoverify import Autoverification, Scope, Switch
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.rule_files import parse_rule_set
from interface.flow import cases
from tests.flow import test_cases
from tests.flow.test_cases import decided

CODES = ("NA", "K")
HEAD = 'name = "default"\nautoverification = "on"\n' + "".join(
    f'[[delta]]\ntest = "{code}"\nkind = "percent"\nlimit = "10"\nwindow_d = 9\n'
    f'[[exempt]]\ntest = "{code}"\nqc = true\ncritical = "none"\nreason = "r"\n'
    for code in CODES
)
RELEASE = '[[rule]]\nname = "all"\ntests = ["NA", "K"]\nrequire = [{ critical = false }]\n'
LINKED = '[[linked]]\nname = "ions"\ntests = ["NA", "K"]\n'
BESIDE = '[[rule]]\nname = "beside"\ntests = ["K"]\nrequire = [{ not = { sibling_held = "NA" } }]\n'
FINAL, WAITS, HELD = ResultStatus.FINAL, ResultStatus.PRELIMINARY, ResultStatus.REGISTERED
SAME, CHANGED = {"NA": ("140", "141"), "K": ("4.0", "4.1")}, {"NA": ("140", "160"), "K": ("4.0", "4.1")}


@pytest.mark.parametrize(
    ("text", "values", "switches", "expected"),
    [
        (RELEASE, SAME, (), (FINAL, FINAL)),
        (RELEASE, CHANGED, (), (HELD, FINAL)),
        (RELEASE + LINKED, SAME, (), (FINAL, FINAL)),
        (RELEASE + LINKED, CHANGED, (), (HELD, HELD)),
        (RELEASE + LINKED, SAME, (Switch(Scope.TEST, "NA"),), (WAITS, WAITS)),
        (RELEASE + LINKED, CHANGED, (Switch(Scope.TEST, "NA"),), (HELD, HELD)),
        (RELEASE + BESIDE, SAME, (), (FINAL, FINAL)),
        (RELEASE + BESIDE, CHANGED, (), (HELD, HELD)),
    ],
)
def test_one_that_is_held_keeps_the_others_back(
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    values: dict[str, tuple[str, str]],
    switches: tuple[Switch, ...],
    expected: tuple[ResultStatus, ResultStatus],
) -> None:
    now = Autoverification(parse_rule_set(HEAD + text, 1), switches)
    monkeypatch.setattr(test_cases, "Rules", lambda _: cases.Rules(now))
    found = decided(values)
    assert tuple(found[code].status for code in CODES) == expected
    if expected == (HELD, HELD):
        assert (found["NA"].holds, found["K"].holds) == ((HoldReason.DELTA,), (HoldReason.RULE,))
