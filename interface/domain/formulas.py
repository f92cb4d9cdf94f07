"""The formulas of calculated tests: a closed table, each with its inputs, units, bounds of validity and source. Pure.

Every formula is written in the units it was published in; inputs are converted to them. What a formula was not made for
(another age, an unknown sex, triglycerides above its limit) has no result, with the reason: `NoResult`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType

from interface.domain.exact import EXACT, FINE
from interface.domain.facts import Subject
from interface.domain.model import Sex
from interface.domain.subject import years_of
from interface.domain.units import UNKNOWN_SUBSTANCE, Substance
from interface.errors import LaboraError

D = Decimal
Numbers = Mapping[str, Decimal]
Make = Callable[[Numbers, Subject, Numbers], Decimal]


class NoResult(LaboraError):
    """A calculation that has no result; `text` says why, without patient data."""

    slug = "no_result"

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Input:
    """One input in the unit of the formula. `high`: the formula is not valid above it; `positive`: nor at zero."""

    name: str
    unit: str
    substance: Substance = UNKNOWN_SUBSTANCE
    positive: bool = True
    high: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Formula:
    """`parameters`: the laboratory's own numbers with what they are when a calculation names none; None: it must."""

    name: str
    unit: str
    decimals: int  # of the result, where its test does not say
    inputs: tuple[Input, ...]
    make: Make
    source: str
    parameters: Mapping[str, Decimal | None] = field(default_factory=lambda: MappingProxyType({}))
    age_low_y: int | None = None  # completed years at collection
    sexed: bool = False
    signed: bool = False  # a result below zero is one

    @property
    def of_persons(self) -> bool:
        """Whether it takes more than results: sex or age."""
        return self.sexed or self.age_low_y is not None

    def evaluate(self, inputs: Numbers, subject: Subject, parameters: Numbers) -> Decimal:
        """The exact result, unrounded, of inputs in the formula's units. Raises NoResult."""
        for wanted in self.inputs:
            number = inputs[wanted.name]
            if number < 0 or (wanted.positive and not number):
                raise NoResult(f"{wanted.name} is not above zero")
            if wanted.high is not None and number > wanted.high:
                raise NoResult(f"{wanted.name} is above {wanted.high:f} {wanted.unit}: the formula is not valid")
        if self.sexed and subject.sex not in (Sex.FEMALE, Sex.MALE):
            raise NoResult("the sex is not known")
        if self.age_low_y is not None:
            years = years_of(subject)
            if years is None:
                raise NoResult("the age is not known")
            if years < self.age_low_y:
                raise NoResult(f"the formula is not valid below {self.age_low_y} years")
        result = self.make(inputs, subject, {**self.parameters, **parameters})  # type: ignore[dict-item]
        if result < 0 and not self.signed:
            raise NoResult("the result would be below zero")
        return result


def _add(*numbers: Decimal) -> Decimal:
    total = D(0)
    for number in numbers:
        total = EXACT.add(total, number)
    return total


def _times(*numbers: Decimal) -> Decimal:
    product = D(1)
    for number in numbers:
        product = EXACT.multiply(product, number)
    return product


def _over(number: Decimal, divisor: Decimal) -> Decimal:
    if not divisor:
        raise NoResult("a divisor is zero")
    return EXACT.divide(number, divisor)


def _less(number: Decimal, *others: Decimal) -> Decimal:
    return EXACT.subtract(number, _add(*others))


_power = lru_cache(maxsize=1024)(FINE.power)  # the same ages and creatinines come again and again


def _years(subject: Subject) -> Decimal:
    years = years_of(subject)
    if years is None:
        raise NoResult("the age is not known")
    return D(years)


# ---- kidney ---


def _spline(number: Decimal, knot: Decimal, below: Decimal, above: Decimal) -> Decimal:
    """min(x/k, 1)^below x max(x/k, 1)^above: one of the two powers is 1."""
    ratio = _over(number, knot)
    return _power(ratio, below if ratio < 1 else above)


def _ckd_epi_2021(n: Numbers, subject: Subject, _p: Numbers) -> Decimal:
    female = subject.sex is Sex.FEMALE
    spline = _spline(
        n["creatinine"], D("0.7") if female else D("0.9"), D("-0.241") if female else D("-0.302"), D("-1.2")
    )
    sex = D("1.012") if female else D(1)
    return _times(D(142), spline, _power(D("0.9938"), _years(subject)), sex)


def _mdrd(n: Numbers, subject: Subject, _p: Numbers) -> Decimal:
    sex = D("0.742") if subject.sex is Sex.FEMALE else D(1)
    return _times(D(175), _power(n["creatinine"], D("-1.154")), _power(_years(subject), D("-0.203")), sex)


# ---- lipids ---


def _friedewald(n: Numbers, _s: Subject, _p: Numbers) -> Decimal:
    return _less(n["cholesterol"], n["hdl"], _over(n["triglycerides"], D(5)))


def _friedewald_si(n: Numbers, _s: Subject, _p: Numbers) -> Decimal:
    return _less(n["cholesterol"], n["hdl"], _over(n["triglycerides"], D("2.2")))


def _sampson(n: Numbers, _s: Subject, _p: Numbers) -> Decimal:
    cholesterol, hdl, fat = n["cholesterol"], n["hdl"], n["triglycerides"]
    non_hdl = _less(cholesterol, hdl)
    vldl = _less(_add(_over(fat, D("8.56")), _over(_times(fat, non_hdl), D(2140))), _over(_times(fat, fat), D(16100)))
    return _less(_over(cholesterol, D("0.948")), _over(hdl, D("0.971")), vldl, D("9.44"))


# ---- ratios, differences and sums ---


def _difference(first: str, *others: str) -> Make:
    return lambda n, _s, _p: _less(n[first], *(n[name] for name in others))


def _ratio(above: str, below: str, factor: str = "1") -> Make:
    return lambda n, _s, _p: _over(_times(n[above], D(factor)), n[below])


def _sum(*names: str) -> Make:
    return lambda n, _s, _p: _add(*(n[name] for name in names))


def _anion_gap_k(n: Numbers, _s: Subject, _p: Numbers) -> Decimal:
    return _less(_add(n["sodium"], n["potassium"]), n["chloride"], n["bicarbonate"])


def _corrected_calcium(n: Numbers, _s: Subject, p: Numbers) -> Decimal:
    return _add(n["calcium"], _times(p["factor"], _less(p["albumin"], n["albumin"])))


def _osmolality(n: Numbers, _s: Subject, _p: Numbers) -> Decimal:
    glucose, urea = _over(n["glucose"], D(18)), _over(n["urea_nitrogen"], D("2.8"))
    return _add(_times(D(2), n["sodium"]), glucose, urea)


def _osmolality_si(n: Numbers, _s: Subject, _p: Numbers) -> Decimal:
    return _add(_times(D(2), n["sodium"]), n["glucose"], n["urea"])


def _a_g_ratio(n: Numbers, _s: Subject, _p: Numbers) -> Decimal:
    globulin = _less(n["protein"], n["albumin"])
    if globulin <= 0:
        raise NoResult("albumin is not below the total protein")
    return _over(n["albumin"], globulin)


def _inr(n: Numbers, _s: Subject, p: Numbers) -> Decimal:
    return _power(_over(n["time"], p["normal_time"]), p["isi"])


def _average_glucose(n: Numbers, _s: Subject, _p: Numbers) -> Decimal:
    return _less(_times(D("28.7"), n["hba1c"]), D("46.7"))


def _per_creatinine(n: Numbers, _s: Subject, _p: Numbers) -> Decimal:
    return _over(n["substance"], n["creatinine"])


# ---- the table ---

_CREATININE = Substance(D("113.120"))
_CHOLESTEROL, _TRIGLYCERIDES = Substance(D("386.664")), Substance(D("885.453"))
_CALCIUM, _IRON = Substance(D("40.078"), 2), Substance(D("55.845"))
_BILIRUBIN, _UREA = Substance(D("584.673")), Substance(D("60.056"))
_GLUCOSE, _NITROGEN, _ION = Substance(D("180.156")), Substance(D("28.014")), Substance(None, 1)
_CREA = Input("creatinine", "mg/dL", _CREATININE)
_GFR = "mL/min/{1.73_m2}"
_NA, _K = Input("sodium", "mmol/L", _ION), Input("potassium", "mmol/L", _ION)
_CL, _HCO3 = Input("chloride", "mmol/L", _ION), Input("bicarbonate", "mmol/L", _ION)
_TP, _ALB = Input("protein", "g/dL"), Input("albumin", "g/dL")
_HGB, _HCT, _RBC = Input("haemoglobin", "g/dL"), Input("haematocrit", "%"), Input("erythrocytes", "10*6/uL")
_FE = Input("iron", "ug/dL", _IRON, positive=False)


def _lipids(unit: str, highest: str | None) -> tuple[Input, Input, Input]:
    return (
        Input("cholesterol", unit, _CHOLESTEROL),
        Input("hdl", unit, _CHOLESTEROL),
        Input("triglycerides", unit, _TRIGLYCERIDES, high=D(highest) if highest else None),
    )


_ALL = (
    Formula(
        "ckd_epi_2021", _GFR, 0, (_CREA,), _ckd_epi_2021, age_low_y=18, sexed=True,
        source="Inker LA et al., N Engl J Med 2021;385:1737-1749; kidney.org/ckd-epi-creatinine-equation-2021",
    ),
    Formula(
        "mdrd_175", _GFR, 0, (_CREA,), _mdrd, age_low_y=18, sexed=True,
        source="Levey AS et al., Clin Chem 2007;53:766-772: four variables, IDMS-traceable creatinine, without race",
    ),
    Formula(
        "ldl_friedewald", "mg/dL", 0, _lipids("mg/dL", "400"), _friedewald,
        source="Friedewald WT, Levy RI, Fredrickson DS, Clin Chem 1972;18:499-502: triglycerides to 400 mg/dL",
    ),
    Formula(
        "ldl_friedewald_si", "mmol/L", 2, _lipids("mmol/L", "4.5"), _friedewald_si,
        source="Friedewald WT et al., Clin Chem 1972;18:499-502, as used in mmol/L: triglycerides to 4.5 mmol/L",
    ),
    Formula(
        "ldl_sampson", "mg/dL", 0, _lipids("mg/dL", "800"), _sampson,
        source="Sampson M et al., JAMA Cardiol 2020;5:540-548 (NIH equation 2): triglycerides to 800 mg/dL",
    ),
    Formula(
        "non_hdl", "mg/dL", 0, _lipids("mg/dL", None)[:2], _difference("cholesterol", "hdl"),
        source="the difference by definition",
    ),
    Formula(
        "anion_gap", "mmol/L", 0, (_NA, _CL, _HCO3), _difference("sodium", "chloride", "bicarbonate"), signed=True,
        source="Emmett M, Narins RG, Medicine 1977;56:38-54",
    ),
    Formula(
        "anion_gap_k", "mmol/L", 0, (_NA, _K, _CL, _HCO3), _anion_gap_k, signed=True,
        source="Emmett M, Narins RG, Medicine 1977;56:38-54, potassium counted in",
    ),
    Formula(
        "corrected_calcium", "mg/dL", 1, (Input("calcium", "mg/dL", _CALCIUM), _ALB), _corrected_calcium,
        parameters=MappingProxyType({"albumin": D("4.0"), "factor": D("0.8")}),
        source="Payne RB et al., Br Med J 1973;4:643-646, in the customary form Ca + 0.8 (4.0 - albumin)",
    ),
    Formula(
        "corrected_calcium_si", "mmol/L", 2, (Input("calcium", "mmol/L", _CALCIUM), Input("albumin", "g/L")),
        _corrected_calcium, parameters=MappingProxyType({"albumin": D(40), "factor": D("0.02")}),
        source="Payne RB et al., Br Med J 1973;4:643-646, in the customary form Ca + 0.02 (40 - albumin)",
    ),
    Formula(
        "osmolality", "mosm/kg", 0,
        (_NA, Input("glucose", "mg/dL", _GLUCOSE), Input("urea_nitrogen", "mg/dL", _NITROGEN)), _osmolality,
        source="2 Na + glucose/18 + BUN/2.8, the same as the one below in mg/dL",
    ),
    Formula(
        "osmolality_si", "mosm/kg", 0, (_NA, Input("glucose", "mmol/L", _GLUCOSE), Input("urea", "mmol/L", _UREA)),
        _osmolality_si, source="2 Na + glucose + urea, all in mmol/L",
    ),
    Formula(
        "transferrin_saturation", "%", 0, (_FE, Input("tibc", "ug/dL", _IRON)), _ratio("iron", "tibc", "100"),
        source="the share by definition",
    ),
    Formula("tibc", "ug/dL", 0, (_FE, Input("uibc", "ug/dL", _IRON, positive=False)), _sum("iron", "uibc"),
            source="the sum by definition"),
    Formula("inr", "{INR}", 2, (Input("time", "s"),), _inr,
            parameters=MappingProxyType({"isi": None, "normal_time": None}),
            source="WHO Expert Committee on Biological Standardization, TRS 889, 1999, annex 3: (PT / MNPT)^ISI"),
    Formula("per_creatinine", "mg/g{creat}", 1,
            (Input("substance", "mg/L", positive=False), Input("creatinine", "g/L", _CREATININE)), _per_creatinine,
            source="the ratio by definition: albumin or protein of urine per creatinine"),
    Formula("per_creatinine_si", "mg/mmol{creat}", 1,
            (Input("substance", "mg/L", positive=False), Input("creatinine", "mmol/L", _CREATININE)), _per_creatinine,
            source="the ratio by definition: albumin or protein of urine per creatinine"),
    Formula("globulin", "g/dL", 1, (_TP, _ALB), _difference("protein", "albumin"),
            source="the difference by definition"),
    Formula("a_g_ratio", "{ratio}", 2, (_TP, _ALB), _a_g_ratio, source="the ratio by definition"),
    Formula("indirect_bilirubin", "mg/dL", 2,
            (Input("total", "mg/dL", _BILIRUBIN), Input("direct", "mg/dL", _BILIRUBIN, positive=False)),
            _difference("total", "direct"), source="the difference by definition"),
    Formula("bun_creatinine_ratio", "{ratio}", 1, (Input("urea_nitrogen", "mg/dL", _NITROGEN), _CREA),
            _ratio("urea_nitrogen", "creatinine"), source="the ratio by definition"),
    Formula("average_glucose", "mg/dL", 0, (Input("hba1c", "%"),), _average_glucose,
            source="Nathan DM et al., Diabetes Care 2008;31:1473-1478: 28.7 HbA1c - 46.7"),
    Formula("mcv", "fL", 1, (_HCT, _RBC), _ratio("haematocrit", "erythrocytes", "10"),
            source="the index by definition"),
    Formula("mch", "pg", 1, (_HGB, _RBC), _ratio("haemoglobin", "erythrocytes", "10"),
            source="the index by definition"),
    Formula("mchc", "g/dL", 1, (_HGB, _HCT), _ratio("haemoglobin", "haematocrit", "100"),
            source="the index by definition"),
)  # fmt: skip
FORMULAS: Mapping[str, Formula] = MappingProxyType({formula.name: formula for formula in _ALL})
