"""The laboratory of the hazards: its tests, their limits and the rules in force, as data. All of it is made up.

A value is planted by choosing a zone first (normal, high, critical) and then a number in it, so that its flag is known
without asking the code under test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

OFFSCALE_CRP = ("0.6", "300")  # what the analyzer can measure, mg/L
SWITCHED, SWITCHED_ANALYZER = "LIPA", "lis-off"  # are switched off in the middle of the run
SWITCHED_STAGE = 2  # when


@dataclass(frozen=True, slots=True)
class Limits:
    """Reference and critical limits of some patients; a value on a limit is within it. "" is open."""

    low: str = ""
    high: str = ""
    critical_low: str = ""
    critical_high: str = ""
    sex: str = ""  # "" is any
    age_low_d: int = 0
    age_high_d: int | None = None
    normal: tuple[str, ...] = ()
    abnormal: tuple[str, ...] = ()
    critical: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Analyte:
    """One test. `lowest`, `highest`: no patient of these plans is beyond. `no_critical`: declared so in the rules."""

    code: str
    unit: str = ""
    decimals: int | None = None
    limits: tuple[Limits, ...] = ()
    kind: str = "numeric"
    lowest: str = "0"
    highest: str = ""
    no_critical: bool = False
    no_qc: bool = True  # exempt from quality control, of which nothing is known in these runs
    molar_mass: str = ""  # g/mol

    @property
    def sent(self) -> str:
        """The code that analyzers send."""
        return f"Z-{self.code}"

    @property
    def step(self) -> Decimal:
        return Decimal(1).scaleb(-(self.decimals or 0))

    def limits_of(self, sex: str, age_d: int | None) -> Limits | None:
        """The row that is this patient's; None where what it depends on is not known. At most one row is anybody's."""
        for row in self.limits:
            if row.sex and row.sex != sex:
                continue
            if (row.age_low_d, row.age_high_d) != (0, None) and (
                age_d is None or age_d < row.age_low_d or (row.age_high_d is not None and age_d >= row.age_high_d)
            ):
                continue
            return row
        return None


def zone(test: Analyte, limits: Limits, name: str) -> tuple[Decimal, Decimal] | None:
    """From where to where values of a zone (`N`, `L`, `H`, `LL`, `HH`) lie; None where the test has no such zone."""
    step = test.step
    low, high = _number(limits.low), _number(limits.high)
    critical_low, critical_high = _number(limits.critical_low), _number(limits.critical_high)
    highest, lowest = _number(test.highest), Decimal(test.lowest)
    top = high if high is not None else highest
    if name == "N" and top is not None:
        return max(low if low is not None else lowest, lowest), top
    if name == "H" and high is not None:
        end = critical_high if critical_high is not None else highest
        return None if end is None or end <= high else (high + step, end)
    if name == "L" and low is not None:
        begin = critical_low if critical_low is not None else lowest
        return None if begin >= low else (begin, low - step)
    if name == "HH" and critical_high is not None and highest is not None and highest > critical_high:
        return critical_high + step, highest
    if name == "LL" and critical_low is not None and lowest < critical_low:
        return lowest, critical_low - step
    return None


def _number(text: str) -> Decimal | None:
    return Decimal(text) if text else None


_NEWBORN, _OLDER = (0, 28), (28,)  # days

ANALYTES = (
    Analyte("NA", "mmol/L", 0, (Limits("136", "145", "120", "160"),), lowest="105", highest="175"),
    Analyte("K", "mmol/L", 1, (Limits("3.5", "5.1", "2.8", "6.2"),), lowest="2.0", highest="8.0"),
    Analyte("CL", "mmol/L", 0, (Limits("98", "107", "80", "120"),), lowest="75", highest="125"),
    Analyte("HCO3", "mmol/L", 0, (Limits("22", "29", "10", "40"),), lowest="6", highest="45"),
    Analyte("AGAP", "mmol/L", 0, (Limits("8", "16"),), no_critical=True, highest="60"),
    Analyte(
        "GLU", "mmol/L", 1, (Limits("3.9", "5.6", "2.5", "25.0"),), lowest="1.2", highest="40.0", molar_mass="180.156"
    ),
    Analyte(
        "CREA", "mg/dL", 2,
        (Limits("0.50", "0.90", "", "7.40", "female"), Limits("0.70", "1.20", "", "7.40", "male")),
        lowest="0.30", highest="15.00", molar_mass="113.12",
    ),
    Analyte("UREA", "mmol/L", 1, (Limits("2.5", "7.5", "", "40.0"),), lowest="1.0", highest="60.0"),
    Analyte("CA", "mmol/L", 2, (Limits("2.15", "2.55", "1.65", "3.25"),), lowest="1.20", highest="4.00"),
    Analyte("TP", "g/L", 0, (Limits("64", "83"),), no_critical=True, lowest="30", highest="120"),
    Analyte("ALT", "U/L", 0, (Limits("", "45"),), no_critical=True, lowest="5", highest="900"),
    Analyte("CK", "U/L", 0, (Limits("20", "200"),), no_critical=True, lowest="10", highest="4000"),
    Analyte("CRP", "mg/L", 1, (Limits("0.0", "5.0"),), no_critical=True, lowest="0.7", highest="290.0"),
    Analyte(
        "TBIL", "mg/dL", 1,
        (Limits("1.0", "12.0", "", "18.0", "", *_NEWBORN), Limits("0.4", "1.2", "", "15.0", "", *_OLDER)),
        lowest="0.3", highest="30.0",
    ),
    Analyte("DBIL", "mg/dL", 1, (Limits("0.0", "0.3"),), no_critical=True, highest="10.0"),
    Analyte(
        "HGB", "g/dL", 1,
        (
            Limits("14.5", "22.5", "9.5", "24.0", "", *_NEWBORN),
            Limits("12.0", "15.5", "7.0", "20.0", "female", *_OLDER),
            Limits("13.5", "17.5", "7.0", "20.0", "male", *_OLDER),
        ),
        lowest="3.0", highest="26.0",
    ),
    Analyte("HCT", "%", 1, (Limits("36.0", "52.0"),), no_critical=True, lowest="8.0", highest="80.0"),
    Analyte("WBC", "10*9/L", 1, (Limits("4.0", "10.0", "1.0", "50.0"),), lowest="0.2", highest="120.0"),
    Analyte("PLT", "10*9/L", 0, (Limits("150", "400", "20", "1000"),), lowest="5", highest="1500"),
    Analyte("TSH", "m[IU]/L", 2, (Limits("0.40", "4.00"),), no_critical=True, lowest="0.01", highest="9.90"),
    Analyte("FT4", "pmol/L", 1, (Limits("9.0", "19.0"),), no_critical=True, lowest="2.0", highest="60.0"),
    Analyte("LIPA", "U/L", 0, (Limits("10", "60"),), no_critical=True, lowest="5", highest="800"),
    Analyte("ALP", "U/L", 0, (Limits("40", "130"),), no_critical=True, lowest="10", highest="900"),
    Analyte("GGT", "U/L", 0, (Limits("", "60"),), no_critical=True, lowest="5", highest="900"),
    Analyte("LAC", "mmol/L", 1, (Limits("0.5", "2.2", "", "4.0"),), lowest="0.3", highest="15.0", no_qc=False),
    Analyte("FERR", "ug/L", 0, (Limits("15", "150"),), lowest="2", highest="900"),  # critical limits: none, undeclared
    Analyte("LD", "U/L", 0, (Limits("135", "225"),), no_critical=True, lowest="60", highest="900"),
    Analyte("HIX", "mg/dL", 0, no_critical=True),
    Analyte("HBSAG", kind="coded", limits=(Limits(normal=("Negative",), abnormal=("Reactive",)),), no_critical=True),
    Analyte("MALA", kind="coded", limits=(Limits(normal=("Negative",), critical=("Positive",)),), no_critical=True),
    Analyte("CULT", kind="text", no_critical=True),
    Analyte("ANA", kind="ratio", no_critical=True),
)  # fmt: skip
BY_CODE = {one.code: one for one in ANALYTES}

ABSURD = {"K": ("1.0", "12.0"), "NA": ("80", "220"), "GLU": ("0.3", "80.0"), "HGB": ("1.0", "30.0")}
DELTAS = {"K": "1.0", "NA": "8", "HGB": "2.0", "CREA": "0.40", "UREA": "10.0"}  # absolute, within a week
HAEMOLYSIS = "100"  # an index above it disturbs potassium
RERUN_ABOVE, REFLEX_ABOVE = "5000", "10.00"  # CK, TSH


def rules() -> str:
    """The rule set in force."""
    return "\n".join(_rules()) + "\n"


def _rules() -> Iterator[str]:
    yield 'name = "default"\nautoverification = "on"\n'
    for code, limit in DELTAS.items():
        yield (
            f'[[delta]]\ntest = "{code}"\nkind = "absolute"\nlimit = "{limit}"\nunit = "{BY_CODE[code].unit}"\n'
            "window_d = 7\n"
        )
    yield f'[[index]]\ntest = "K"\nindex = "H"\nindex_test = "HIX"\nlimit = "{HAEMOLYSIS}"\nunit = "mg/dL"\n'
    yield (
        f'[[index]]\ntest = "LD"\nindex = "H"\nindex_test = "HIX"\nlimit = "{HAEMOLYSIS}"\nunit = "mg/dL"\n'
        "required = true\n"
    )
    for code, (low, high) in ABSURD.items():
        yield f'[[range]]\ntest = "{code}"\nkind = "absurd"\nlow = "{low}"\nhigh = "{high}"\n'
    low, high = OFFSCALE_CRP
    yield (
        f'[[range]]\ntest = "CRP"\nkind = "measuring"\nlow = "{low}"\nhigh = "{high}"\n'
        "report_below = true\nreport_above = true\n"
    )
    yield (
        '[[consistency]]\nname = "three times haemoglobin"\nsum = { HCT = "1", HGB = "-3" }\nlow = "-3"\nhigh = "3"\n'
        'text = "haematocrit and haemoglobin do not agree"\n'
    )
    yield (
        '[[consistency]]\nname = "a part of the whole"\nsum = { TBIL = "1", DBIL = "-1" }\nlow = "0"\n'
        'text = "more direct than total bilirubin"\n'
    )
    yield (
        '[[calculation]]\ntest = "AGAP"\nformula = "anion_gap"\n'
        'inputs = { sodium = ["NA"], chloride = ["CL"], bicarbonate = ["HCO3"] }\n'
    )
    yield (
        f'[[reflex]]\nname = "thyroxine"\ntest = "TSH"\nkind = "reflex"\nadd = ["FT4"]\nabove = "{REFLEX_ABOVE}"\n'
        'unit = "m[IU]/L"\nreason = "raised thyrotropin"\n'
    )
    yield (
        f'[[reflex]]\nname = "again"\ntest = "CK"\nkind = "rerun"\nabove = "{RERUN_ABOVE}"\nunit = "U/L"\n'
        'reason = "far above what is usual"\n'
    )
    names = ", ".join(f'"{one.code}"' for one in ANALYTES)
    yield (
        f'[[rule]]\nname = "as it should be"\ntests = [{names}]\nrequire = [\n  {{ critical = false }},\n'
        '  { instrument_flags = { only = ["N", "L", "H", "A", "<", ">"] } },\n]\n'
    )
    yield '[[linked]]\nname = "cholestasis"\ntests = ["ALP", "GGT"]\n'
    yield '[[linked]]\nname = "blood count"\ntests = ["HGB", "HCT", "WBC", "PLT"]\n'
    for one in ANALYTES:
        said = [f"qc = {str(one.no_qc).lower()}"] * one.no_qc + ['critical = "none"'] * one.no_critical
        if said:
            yield f'[[exempt]]\ntest = "{one.code}"\n' + "\n".join(said) + '\nreason = "made up for the hazards"\n'
