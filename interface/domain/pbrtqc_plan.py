"""Plans of patient-based quality control: what a revision says, as text and back, its goals, what voids it. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from interface.domain.exact import EXACT, measurable
from interface.domain.pbrtqc import ENGINE, Limits, Method, Outlying, Statistic
from interface.domain.pbrtqc_simulation import HORIZON, MOST_HORIZON, Bias, BiasUnit, Found, Simulation

MOST_BLOCK, MOST_GOALS, MOST_EXCLUDED, MOST_RESTART_MIN, DAY_MIN = 2000, 20, 200, 43_200, 1440
LEAST_BLOCK = 2  # one value would be a patient's, not a statistic of patients
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Goal:
    """What the laboratory wants: a bias of this size, up and down, found in time.

    `median`, `p95`: at most so many patients until it is found, of half and of 95 % of the runs; None: any number
    within the plan's horizon. `undetected`: at most this fraction of the runs may not find it at all.
    """

    name: str
    bias: Bias
    median: int | None = None
    p95: int | None = None
    undetected: Decimal = Decimal(0)

    @property
    def biases(self) -> tuple[Bias, Bias]:
        amount = abs(self.bias.amount)
        return Bias(-amount, self.bias.unit), Bias(amount, self.bias.unit)


@dataclass(frozen=True, slots=True)
class Training:
    """The history that limits came from."""

    begin: datetime
    end: datetime
    results: int
    days: int
    rate: Decimal  # wanted: the fraction of days with a false alarm


@dataclass(frozen=True, slots=True)
class Plan:
    """A revision's whole content. `training` None: a person gave the limits.

    `most_false_alarms`: a day, in the validation. `day_begins_min`: minutes after midnight UTC. Results of the excluded
    wards and patient groups are not counted.
    """

    analyzer_id: str
    module: str  # "": all of the analyzer's
    test_id: str
    unit: str
    method: Method
    limits: Limits
    training: Training | None = None
    excluded_wards: tuple[str, ...] = ()
    excluded_groups: tuple[str, ...] = ()
    day_begins_min: int = 0
    goals: tuple[Goal, ...] = ()
    most_false_alarms: Decimal | None = None
    horizon: int = HORIZON  # patients within whom a bias is to be found

    @property
    def biases(self) -> tuple[Bias, ...]:
        """Those that the goals speak of."""
        return tuple(dict.fromkeys(bias for goal in self.goals for bias in goal.biases))

    def counts(self, module: str, unit: str, ward: str, group: str) -> bool:
        """Whether a result of this stream's analyzer and test is counted."""
        return (
            unit == self.unit
            and (not self.module or module == self.module)
            and ward not in self.excluded_wards
            and group not in self.excluded_groups
        )


class PlanError(ValueError):
    """Everything that is wrong with a plan."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


# ---- what is wrong --------------------------------------------------------------------------------------------------


def check_method(method: Method) -> list[str]:
    """What is wrong with it, a sentence each."""
    ewma = method.statistic is Statistic.EWMA
    wrong = []
    if not (1 if ewma else LEAST_BLOCK) <= method.block <= MOST_BLOCK:
        wrong.append(f"block is from {1 if ewma else LEAST_BLOCK} to {MOST_BLOCK}")
    if ewma is (method.weight is None):
        wrong.append("an ewma has a weight, and nothing else has")
    elif method.weight is not None and not Decimal("0.001") <= method.weight <= Decimal("0.5"):
        wrong.append("weight is from 0.001 to 0.5")
    if method.outlying is not Outlying.KEEP and method.low is None and method.high is None:
        wrong.append(f"to {method.outlying} wants low, high or both")
    if method.outlying is Outlying.KEEP and (method.low is not None or method.high is not None):
        wrong.append("low and high are for truncate and winsorise")
    if method.low is not None and method.high is not None and method.low >= method.high:
        wrong.append("low is below high")
    if method.boxcox is not None and not -3 <= method.boxcox <= 3:
        wrong.append("boxcox is from -3 to 3")
    if method.boxcox is not None and method.outlying is Outlying.WINSORISE and (method.low or Decimal(1)) <= 0:
        wrong.append("with boxcox low is above 0")
    if method.restart_after_min is not None and not 1 <= method.restart_after_min <= MOST_RESTART_MIN:
        wrong.append(f"restart_after_min is from 1 to {MOST_RESTART_MIN}")
    numbers = (method.weight, method.low, method.high, method.boxcox)
    if not all(number is None or number == 0 or measurable(number) for number in numbers):
        wrong.append("a number is larger or smaller than anything is measured")
    return wrong


def check_plan(plan: Plan) -> list[str]:
    """What is wrong with the rest of it, and with its method."""
    wrong = check_method(plan.method)
    said = (plan.limits.low, plan.limits.high, plan.limits.centre, plan.most_false_alarms)
    if not all(number is None or number == 0 or measurable(number) for number in said):
        return [*wrong, "a limit is larger or smaller than anything is measured"]
    if not all(text.isprintable() for text in (plan.module, *plan.excluded_wards, *plan.excluded_groups)):
        wrong.append("module, wards and groups are printable")
    if not plan.limits.low < plan.limits.high:
        wrong.append("the lower limit is below the upper")
    if not plan.limits.low <= plan.limits.centre <= plan.limits.high:
        wrong.append("the centre is between the limits")
    if not plan.method.block <= plan.horizon <= MOST_HORIZON:
        wrong.append(f"horizon is at least the block, and {MOST_HORIZON} at most")
    if not 0 <= plan.day_begins_min < DAY_MIN:
        wrong.append(f"day_begins_min is from 0 to {DAY_MIN - 1}")
    if len(plan.goals) > MOST_GOALS or len({goal.name for goal in plan.goals}) < len(plan.goals):
        wrong.append(f"goals have names of their own, and are {MOST_GOALS} at most")
    if max(len(plan.excluded_wards), len(plan.excluded_groups)) > MOST_EXCLUDED:
        wrong.append(f"{MOST_EXCLUDED} wards and as many groups can be excluded")
    if plan.most_false_alarms is not None and not 0 <= plan.most_false_alarms <= 100:
        wrong.append("most_false_alarms is a number a day, from 0 to 100")
    return wrong + [f"goal {goal.name}: {text}" for goal in plan.goals for text in _check_goal(goal, plan.limits)]


def _check_goal(goal: Goal, limits: Limits) -> list[str]:
    wrong = [] if is_name(goal.name) else ["its name is of a-z 0-9 _ . - and at most 64 long"]
    if not goal.bias.amount or not measurable(goal.bias.amount):
        wrong.append("a bias is not 0")
    if goal.bias.unit is BiasUnit.PERCENT and abs(goal.bias.amount) > 100:
        wrong.append("a bias of more than 100 % is none")
    if goal.bias.unit is BiasUnit.SD and limits.sd is None:
        wrong.append("a bias in SD wants limits from a training period")
    if not 0 <= goal.undetected < 1:
        wrong.append("undetected is a fraction below 1")
    if any(number is not None and number < 1 for number in (goal.median, goal.p95)):
        wrong.append("numbers of patients are 1 or more")
    if goal.median is not None and goal.p95 is not None and goal.median > goal.p95:
        wrong.append("the median is not above the 95th percentile")
    return wrong


# ---- goals ----------------------------------------------------------------------------------------------------------


def unmet(plan: Plan, simulation: Simulation) -> tuple[str, ...]:
    """Which goals a simulation missed, a sentence each. Nothing wanted is nothing met."""
    missed = []
    if not plan.goals:
        missed.append("the plan has no goal")
    if plan.most_false_alarms is None:
        missed.append("the plan does not say how many false alarms a day are too many")
    elif simulation.false.days == 0:
        missed.append("there was no day to count false alarms on")
    elif simulation.false.per_day > plan.most_false_alarms:
        missed.append(f"{_short(simulation.false.per_day)} false alarms a day, {plan.most_false_alarms} at most")
    by_bias = {found.bias: found for found in simulation.found}
    for goal in plan.goals:
        for bias in goal.biases:
            found = by_bias.get(bias)
            missed += [f"goal {goal.name}: {bias}: not simulated"] if found is None else _missed(goal, found)
    return tuple(missed)


def _missed(goal: Goal, found: Found) -> list[str]:
    texts = []
    for wanted, seen, words in ((goal.median, found.median, "median"), (goal.p95, found.p95, "95th percentile")):
        if wanted is not None and (seen is None or seen > wanted):
            texts.append(f"{words} {'not found' if seen is None else seen}, {wanted} patients at most")
    if found.undetected_fraction > goal.undetected:
        texts.append(f"{_short(found.undetected_fraction)} not found, {goal.undetected} at most")
    return [f"goal {goal.name}: {found.bias}: {text}" for text in texts]


def _short(number: Decimal) -> str:
    return f"{EXACT.plus(number).quantize(Decimal('0.001'), context=EXACT).normalize():f}"


# ---- validations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a validation was of."""

    digest: str
    engine: str
    met: bool


def void(stamp: Stamp | None, digest: str, plan_unit: str, test_unit: str) -> str:
    """Why a plan of this digest may not gate; "" when it may. `stamp`: of its newest validation."""
    if plan_unit != test_unit:
        return f"the test is reported in {test_unit or 'no unit'} now, the plan is in {plan_unit or 'no unit'}"
    if stamp is None or stamp.digest != digest:
        return "it has not been validated"
    if stamp.engine != ENGINE:
        return "it was validated by another version of this program"
    return "" if stamp.met else "its validation did not meet the laboratory's goals"


# ---- as text --------------------------------------------------------------------------------------------------------


def digest_of(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def seed_of(digest: str) -> int:
    """The seed of a plan's validation: nobody can draw until it fits."""
    return int(digest[:16], 16)


def write_plan(plan: Plan) -> str:
    """The plan as JSON, always the same text for the same plan."""
    method, limits, training = plan.method, plan.limits, plan.training
    told = {
        "analyzer_id": plan.analyzer_id, "module": plan.module, "test_id": plan.test_id, "unit": plan.unit,
        "method": {
            "statistic": method.statistic.value, "block": method.block, "weight": _text(method.weight),
            "outlying": method.outlying.value, "low": _text(method.low), "high": _text(method.high),
            "boxcox": _text(method.boxcox), "restart_after_min": method.restart_after_min,
        },
        "limits": {
            "low": _text(limits.low), "high": _text(limits.high), "centre": _text(limits.centre),
            "sd": _text(limits.sd),
        },
        "training": None if training is None else {
            "begin": training.begin.isoformat(), "end": training.end.isoformat(), "results": training.results,
            "days": training.days, "rate": _text(training.rate),
        },
        "excluded_wards": sorted(plan.excluded_wards), "excluded_groups": sorted(plan.excluded_groups),
        "day_begins_min": plan.day_begins_min, "horizon": plan.horizon,
        "most_false_alarms": _text(plan.most_false_alarms),
        "goals": [
            {
                "name": goal.name, "bias": _text(goal.bias.amount), "unit": goal.bias.unit.value, "median": goal.median,
                "p95": goal.p95, "undetected": _text(goal.undetected),
            }
            for goal in plan.goals
        ],
    }  # fmt: skip
    return json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def read_plan(body: str) -> Plan:
    """What `write_plan` wrote. PlanError where another version of the program wrote it in a way that is not known."""
    try:
        told = json.loads(body)
        return _plan(told)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise PlanError(["this version of the program cannot read it"]) from error


def _plan(told: Mapping[str, object]) -> Plan:
    method, limits = _part(told, "method"), _part(told, "limits")
    training = told["training"]
    return Plan(
        str(told["analyzer_id"]), str(told["module"]), str(told["test_id"]), str(told["unit"]),
        Method(
            Statistic(str(method["statistic"])), _whole(method["block"]) or 0, _number(method["weight"]),
            Outlying(str(method["outlying"])), _number(method["low"]), _number(method["high"]),
            _number(method["boxcox"]), _whole(method["restart_after_min"]),
        ),
        Limits(
            Decimal(str(limits["low"])), Decimal(str(limits["high"])), Decimal(str(limits["centre"])),
            _number(limits["sd"]),
        ),
        _training(training) if isinstance(training, Mapping) else None,
        tuple(map(str, _list(told, "excluded_wards"))), tuple(map(str, _list(told, "excluded_groups"))),
        int(str(told["day_begins_min"])), tuple(map(_goal, _list(told, "goals"))), _number(told["most_false_alarms"]),
        int(str(told["horizon"])),
    )  # fmt: skip


def _part(told: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = told[name]
    if not isinstance(part, Mapping):
        raise TypeError(name)
    return part


def _list(told: Mapping[str, object], name: str) -> list[Any]:
    part = told[name]
    if not isinstance(part, list):
        raise TypeError(name)
    return part


def _training(told: Mapping[str, object]) -> Training:
    return Training(
        datetime.fromisoformat(str(told["begin"])), datetime.fromisoformat(str(told["end"])),
        _whole(told["results"]) or 0, _whole(told["days"]) or 0, Decimal(str(told["rate"])),
    )  # fmt: skip


def _goal(told: Mapping[str, object]) -> Goal:
    return Goal(
        str(told["name"]), Bias(Decimal(str(told["bias"])), BiasUnit(str(told["unit"]))), _whole(told["median"]),
        _whole(told["p95"]), Decimal(str(told["undetected"])),
    )  # fmt: skip


def _text(number: Decimal | None) -> str | None:
    return None if number is None else f"{number:f}"


def _number(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _whole(value: object) -> int | None:
    return None if value is None else int(str(value))


# ---- as a person writes it ------------------------------------------------------------------------------------------

_BIAS = re.compile(r"[+-]?(\d{1,20}(?:\.\d{1,20})?)(%|SD)?", re.ASCII)
_UNITS = {"%": BiasUnit.PERCENT, "SD": BiasUnit.SD, None: BiasUnit.ABSOLUTE}


def parse_bias(text: str) -> Bias:
    """`10%`, `-0.5SD`, `+0.4`. ValueError, for the reader."""
    found = _BIAS.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a bias such as 10%, -0.5SD or 0.4")
    amount = Decimal(found[1])
    return Bias(-amount if text.startswith("-") else amount, _UNITS[found[2]])


def _fraction(text: str) -> Decimal:
    if re.fullmatch(r"\d{1,3}(\.\d{1,12})?", text, re.ASCII) is None:
        raise ValueError(text)
    return Decimal(text)


def parse_goal(text: str) -> Goal:
    """`tea 10% median=40 p95=120 undetected=0.05`. ValueError, for the reader."""
    name, _, rest = text.strip().partition(" ")
    bias, *wanted = rest.split() or [""]
    readers: dict[str, Callable[[str], object]] = {"median": int, "p95": int, "undetected": _fraction}
    given: dict[str, object] = {}
    for one in wanted:
        key, _, value = one.partition("=")
        try:
            given[key] = readers[key](value)
        except (KeyError, ValueError, ArithmeticError):
            raise ValueError(f"{one!r} is none of median=N, p95=N, undetected=FRACTION") from None
    return Goal(name, parse_bias(bias), **given)  # type: ignore[arg-type]
