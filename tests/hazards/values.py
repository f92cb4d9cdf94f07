"""Hazards of what a result says: values, units, flags, limits, and what other results say against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from tests.hazards.book import BY_CODE, SWITCHED, SWITCHED_STAGE
from tests.hazards.making import (
    Beginning,
    Maker,
    Reading,
    Story,
    begin,
    expect,
    reading_of,
    said,
    tell,
    twin,
)
from tests.hazards.plan import Fate, Part, Send

BESIDE = ("UREA", "CA", "ALT")  # ordinary tests that stand beside a hazard and must be released

Planted = tuple[Reading, Fate, tuple[str, ...], str]  # with the reasons, and what it is in words


def one_of(make: Maker, kind: str, planted: Sequence[Planted], *, beside: Sequence[str] = BESIDE, link: str = "",
           stage: int | None = None, sex: str = "") -> Beginning:  # fmt: skip
    """A message of planted readings among ordinary ones, in any order; and a healthy twin."""
    codes = [reading.test.code for reading, *_ in planted]
    person = make.person(sex)
    b = begin(make, kind, [*codes, *beside], link=link, stage=stage, person=person)
    ordinary = [one for one in b.readings if one.test.code not in codes]
    rows = [*ordinary, *(reading for reading, *_ in planted)]
    make.random.shuffle(rows)
    part = Part(said(person), b.tube.barcode, tuple(one.row() for one in rows))
    send = make.send(b.link, part)
    b.story.sends.append((b.stage, send))
    for one in ordinary:
        expect(b.story, send, part, one, person, planted="ordinary, beside it", hazard=False)
    for reading, fate, reasons, words in planted:
        expect(b.story, send, part, reading, person, fate, *reasons, planted=words)
    b.readings = make.readings(codes, person)
    return b


def held(reading: Reading, words: str, *reasons: str) -> Planted:
    return reading, Fate.HELD, reasons, words


def fine(reading: Reading, words: str) -> Planted:
    return reading, Fate.RELEASED, (), words


def unmapped_code(make: Maker) -> Story:
    code = make.random.choice(("Z-NOPE", "ZK", "z-K", "K2", ""))
    b = begin(make, "unmapped code", BESIDE)
    strange = replace(reading_of("K", "4.1"), test=replace(BY_CODE["K"], code="K"))
    row = replace(strange.row(), code=code)
    part = Part(said(b.person), b.tube.barcode, (*(one.row() for one in b.readings), row))
    send = make.send(b.link, part)
    b.story.sends.append((b.stage, send))
    for one in b.readings:
        expect(b.story, send, part, one, b.person, planted="ordinary, beside it", hazard=False)
    made = expect(b.story, send, part, strange, b.person, Fate.HELD, "unmapped_code", planted=f"sent under {code!r}")
    b.story.expected[-1] = replace(made, key=(part.barcode, code, send.time), test="", reportable=None)
    return b.story


def unknown_unit(make: Maker) -> Story:
    code, value, unit = make.random.choice(
        (("UREA", "5.1", "furlong"), ("CA", "9.4", "mg/dL"), ("K", "4.1", "mEq/L"), ("K", "4.1", "??"),
         ("GLU", "5.0", ""), ("NA", "140", "%"), ("ALT", "20", "g/L"), ("TP", "70", "mmol/L"),
         ("HGB", "14.1", "mmol/L"))
    )  # fmt: skip
    reading = reading_of(code, value, "", sent_unit=unit)
    words = f"{value} in {unit!r}, reported in {BY_CODE[code].unit}"
    beside = [one for one in BESIDE if one != code]
    return one_of(make, "unknown unit", [held(reading, words, "unknown_unit")], beside=beside).story


def converted(make: Maker) -> Story:
    """Another unit of the same quantity: the exact number in the laboratory's, half up, once."""
    kind = make.random.choice(("GLU", "CREA", "TP", "HGB", "WBC"))
    draw = make.random.randrange
    sent, unit, factor = {
        "GLU": (Decimal(draw(52, 400)), "mg/dL", Fraction(10) / Fraction("180.156")),
        "CREA": (Decimal(draw(40, 500)), "umol/L", Fraction("113.12") / 10_000),
        "TP": (Decimal(draw(55, 90)) / 10, "g/dL", Fraction(10)),
        "HGB": (Decimal(draw(75, 190)), "g/L", Fraction(1, 10)),
        "WBC": (Decimal(draw(15, 400)) / 10, "10*3/uL", Fraction(1)),
    }[kind]
    test = BY_CODE[kind]
    person = make.person()
    exact = Fraction(sent) * factor
    shown = half_up(exact, test.decimals or 0)
    digits = f"{sent:.1f}" if kind in ("TP", "WBC") else f"{sent:f}"  # no digit is reported that was not measured
    reading = Reading(test, f"{shown:f}", (flag_of(kind, shown, person.sex),), digits, unit)
    return one_of(
        make, "converted unit", [fine(reading, f"{digits} {unit}")], beside=("CA", "ALT"), sex=person.sex
    ).story  # fmt: skip


def half_up(exact: Fraction, decimals: int) -> Decimal:
    """Rounded by whole numbers, half away from zero."""
    scaled = exact * 10**decimals
    whole = (2 * abs(scaled.numerator) + scaled.denominator) // (2 * scaled.denominator)
    return Decimal(whole if scaled >= 0 else -whole).scaleb(-decimals)


def flag_of(code: str, value: Decimal, sex: str) -> str:
    """Where a computed value lies, by the book's limits of grown-ups."""
    limits = BY_CODE[code].limits_of(sex, 15_000)
    assert limits is not None
    if limits.low and value < Decimal(limits.low):
        return "L"
    return "H" if limits.high and value > Decimal(limits.high) else "N"


def rounded(make: Maker) -> Story:
    code, sent, shown, flag = make.random.choice(
        (("K", "4.149", "4.1", "N"), ("K", "5.149", "5.1", "N"), ("K", "5.15", "5.2", "H"), ("K", "3.45", "3.5", "N"),
         ("K", "3.449", "3.4", "L"), ("CREA", "0.905", "0.91", "H"), ("CREA", "0.904", "0.90", "N"),
         ("NA", "145.4", "145", "N"), ("NA", "145.5", "146", "H"), ("K", "6.249", "6.2", "H"),
         ("GLU", "+5.0", "5.0", "N"), ("CRP", ".7", "0.7", "N"), ("GLU", "5.", "5", "N"), ("K", "4.10", "4.1", "N"),
         ("K", " 4.1 ", "4.1", "N"), ("NA", "0140", "140", "N"))
    )  # fmt: skip
    reading = reading_of(code, shown, flag, sent=sent)
    return one_of(make, "rounding", [fine(reading, f"{sent} is reported as {shown}")], sex="female").story


def on_the_limit(make: Maker) -> Story:
    code, value, flag, critical = make.random.choice(
        (("K", "3.5", "N", 0), ("K", "5.1", "N", 0), ("K", "2.8", "L", 0), ("K", "6.2", "H", 0), ("K", "2.7", "LL", 1),
         ("K", "6.3", "HH", 1), ("NA", "120", "L", 0), ("NA", "160", "H", 0), ("NA", "119", "LL", 1),
         ("NA", "161", "HH", 1), ("GLU", "25.0", "H", 0), ("GLU", "25.1", "HH", 1), ("CREA", "0.90", "N", 0),
         ("CREA", "0.91", "H", 0), ("CREA", "7.40", "H", 0), ("CREA", "7.41", "HH", 1))
    )  # fmt: skip
    reading = reading_of(code, value, flag, critical=bool(critical))
    words = f"{value} is {flag}"
    planted = held(reading, words, "rule") if critical else fine(reading, words)
    return one_of(make, "on a limit", [planted], sex="female").story


def critical_value(make: Maker) -> Story:
    code = make.random.choice(("NA", "K", "CL", "HCO3", "GLU", "CREA"))
    person = make.person()
    where = "HH" if code == "CREA" else make.random.choice(("LL", "HH"))
    reading = make.reading(code, person, where)
    b = one_of(
        make, "critical value", [held(reading, f"{where}: somebody must be told", "rule")], sex=person.sex
    )  # fmt: skip
    twin(make, b)
    return b.story


def failed_run(make: Maker) -> Story:
    value, status, reason = make.random.choice(
        (("---", "F", "run_failed"), ("----", "F", "run_failed"), ("++++", "F", "run_failed"),
         ("****", "F", "run_failed"),
         ("Error", "F", "run_failed"), ("NaN", "F", "run_failed"), ("No result", "F", "run_failed"),
         ("4.1", "X", "run_failed"), ("", "F", "no_value"), ("  ", "F", "no_value"), ("4.1", "I", "no_value"))
    )  # fmt: skip
    code = make.random.choice(("K", "GLU", "HBSAG", "CULT"))
    kind = "NM" if code in ("K", "GLU") and value == "4.1" else "ST"
    if code in ("HBSAG", "CULT") and value == "4.1":
        value = "Negative"
    reading = replace(reading_of(code, value, "", type=kind, status=status), sent=value)
    words = f"{value!r} with status {status}: there is no result"
    b = one_of(make, "failed run", [held(reading, words, reason)])
    twin(make, b)
    return b.story


def unreadable(make: Maker) -> Story:
    code, value = make.random.choice(
        (("K", "4,1"), ("K", "NEG"), ("K", "1:128"), ("K", "4.1 mmol"), ("NA", "1e2"), ("K", "4.1.2"), ("HBSAG", "5"),
         ("ANA", "128"), ("ANA", "Positive"), ("GLU", "0x5"), ("K", "\u0664"), ("K", "1/2"), ("K", "1 200"),
         ("GLU", "1,200"), ("K", "4.1" + "0" * 40))
    )  # fmt: skip
    link = make.link(protocol="hl7") if not value.isascii() else ""
    reading = reading_of(code, value, "", type="ST")
    return one_of(
        make, "unreadable value", [held(reading, f"{value!r} of {code}", "unreadable_value")], link=link
    ).story


def words(make: Maker) -> Story:
    """Texts, coded values and titres."""
    link = make.link()
    titre = make.random.choice((40, 128, 640))
    ratio = reading_of("ANA", f"1:{titre}", "", type="ST")
    if link.startswith("hl7"):
        ratio = replace(ratio, sent=f"^1^:^{titre}", type="SN")
    text = make.random.choice(("No growth", "E. coli > 100 000/mL", "see comment 5"))
    planted = [
        fine(ratio, f"a titre of 1:{titre}"), fine(reading_of("CULT", text, "", type="ST"), "a text"),
    ]  # fmt: skip
    choice = make.random.randrange(4)
    if choice == 0:
        planted.append(fine(reading_of("HBSAG", "Reactive", "A", type="ST"), "a word of the abnormal ones"))
    elif choice == 1:
        strange = reading_of("HBSAG", "Weakly something", "", type="ST")
        planted.append(held(strange, "a word of no list", "ambiguous_interval"))
    elif choice == 2:
        alarming = reading_of("MALA", "Positive", "AA", type="ST", critical=True, mark="A")
        planted.append(held(alarming, "a word of the critical ones", "rule"))
    else:
        planted.append(
            fine(reading_of("MALA", "  negative ", "N", type="ST"), "a word of the normal ones, in any case")
        )
        planted[-1] = (replace(planted[-1][0], value="negative", sent="  negative "), *planted[-1][1:])
    return one_of(make, "texts and codes", planted, link=link).story


def off_scale(make: Maker) -> Story:
    code, value, flags, reasons, critical = make.random.choice(
        (("CRP", "<0.6", ("<", "N"), (), False), ("CRP", "<0.3", ("<", "N"), (), False),
         ("CRP", ">300.0", (">", "H"), (), False), ("CRP", ">400.0", (">", "H"), (), False),
         ("CRP", "<8.0", (), ("ambiguous_interval", "measuring_range"), None),
         ("CRP", ">4.0", (), ("ambiguous_interval", "measuring_range"), None),
         ("CRP", ">250.0", (), ("measuring_range",), False),
         ("K", ">8.0", (), ("implausible", "rule"), True), ("K", "<2.8", (), ("implausible", "rule"), True),
         ("K", "<3.0", (), ("ambiguous_interval", "implausible"), None), ("ALT", "<5", ("<", "N"), (), False),
         ("ALT", ">900", (">", "H"), (), False), ("TSH", "<0.01", ("<", "L"), (), False),
         ("CREA", ">7.40", (), ("rule",), True), ("CREA", ">7.00", (), ("ambiguous_interval",), None))
    )  # fmt: skip
    link = make.link()
    sent, kind = (value, "NM") if not link.startswith("hl7") else (f"{value[0]}^{value[1:]}", "SN")
    reading = replace(reading_of(code, value, "", sent=sent, type=kind), flags=flags, critical=bool(critical))
    planted = (
        held(reading, f"{value} straddles or is beyond", *reasons)
        if reasons
        else fine(reading, f"{value} is one for certain")
    )
    b = one_of(make, "off scale", [planted], beside=("UREA", "CA"), link=link, sex="female")
    if critical is None:
        b.story.expected[-1] = replace(b.story.expected[-1], critical=None)
    return b.story


def measuring_range(make: Maker) -> Story:
    value = make.random.choice(("0.5", "0.0", "300.1", "512.0"))
    reading = reading_of("CRP", value, "")
    b = one_of(make, "measuring range", [held(reading, f"{value}: measured are 0.6 to 300", "measuring_range")])
    edge = make.random.choice((("0.6", "N"), ("300.0", "H")))
    b.readings = [reading_of("CRP", *edge)]
    story = b.story
    other = begin(make, story.kind, ("CRP",), stage=b.stage, link=b.link)
    other.readings = b.readings
    story.setup += other.story.setup
    other.story = story
    tell(make, other, "on the edge of what is measured", hazard=False)
    return story


def diluted(make: Maker) -> Story:
    """What is beyond the range was measured in a dilution: the factor says whether within it. None is no factor."""
    value, factor, flag = make.random.choice(
        (("450.0", "^1^:^5", "H"), ("300.0", "^1^:^5", "H"), ("3.0", "^1^:^5", "N"), ("1500.0", "^1^:^5", "H"),
         ("450.0", "", ""), ("450.0", "half", ""), ("450.0", "^1^:^1", ""), ("2.9", "^1^:^5", ""),
         ("1500.1", "^1^:^5", ""))
    )  # fmt: skip
    reading = reading_of("CRP", value, flag, dilution=factor)
    words = f"{value} with {factor or 'no factor'}: measured are 0.6 to 300"
    planted = fine(reading, words) if flag else held(reading, words, "measuring_range")
    return one_of(make, "diluted", [planted], link=make.link(protocol="hl7")).story


def below_zero(make: Maker) -> Story:
    """Nothing says of these tests how low they can be, and none can be below zero."""
    code, value = make.random.choice((("CREA", "-3.00"), ("UREA", "-0.1"), ("ALT", "-5"), ("CA", "-2.20")))
    critical = code == "CA"  # it has a lower critical limit too
    reading = replace(reading_of(code, value, ""), critical=critical)
    reasons = ("implausible", "rule") if critical else ("implausible",)
    return one_of(make, "below zero", [held(reading, f"{value}: below zero", *reasons)]).story


def too_large(make: Maker) -> Story:
    """What a program prints for a number that it does not have. Nothing says of these tests how high they can be."""
    value = make.random.choice(("9" * 16, "340282346638528859811704183484516925440", "1" + "0" * 20))
    reading = reading_of(make.random.choice(("TP", "ALT")), value, "H")
    return one_of(make, "too large", [held(reading, f"{value}: nobody measures that", "implausible")]).story


def absurd(make: Maker) -> Story:
    code, value = make.random.choice(
        (("K", "25.0"), ("K", "0.4"), ("GLU", "0.1"), ("GLU", "95.0"), ("NA", "14"), ("NA", "1400"), ("K", "-4.1"))
    )
    reading = replace(reading_of(code, value, ""), critical=True)
    return one_of(make, "absurd value", [held(reading, f"no living patient has {value}", "implausible", "rule")]).story


def haemolysis(make: Maker) -> Story:
    """An index above 100 disturbs potassium, whichever comes first; a failed index is not a good one."""
    index, reasons = make.random.choice(
        (("150", ("interference",)), ("101", ("interference",)), ("100", ()), ("20", ()), ("---", ("interference",)))
    )
    potassium = make.reading("K", make.person(), "N")
    hix = reading_of("HIX", index, "", type="ST" if index == "---" else "NM")
    of_index = (
        held(hix, "the index could not be measured", "run_failed") if index == "---" else fine(hix, "the index itself")
    )
    of_k = (
        held(potassium, f"beside an index of {index}", *reasons)
        if reasons
        else fine(potassium, f"beside an index of {index}")
    )
    return one_of(make, "haemolysis", [of_index, of_k]).story


def inconsistent(make: Maker) -> Story:
    if make.random.random() < 0.5:
        wrong = [reading_of("TBIL", "0.5"), reading_of("DBIL", "0.9", "H")]
        text = "more direct than total bilirubin"
        return one_of(make, "inconsistent", [held(one, text, "inconsistent") for one in wrong]).story
    person = make.person()
    haemoglobin = make.reading("HGB", person, "N")
    gap = make.random.choice((Decimal("3.1"), Decimal("-3.1"), Decimal("9"), Decimal("-12.5")))
    value = 3 * Decimal(haemoglobin.value) + gap
    wrong = [haemoglobin, reading_of("HCT", f"{value:.1f}", "")]
    planted = [
        held(one, f"haematocrit {value:.1f} to haemoglobin {haemoglobin.value}", "inconsistent") for one in wrong
    ]
    linked = [make.reading(code, person, "N") for code in ("WBC", "PLT")]
    planted += [held(one, "of one blood count with what does not agree", "rule") for one in linked]
    b = one_of(make, "inconsistent", planted, sex=person.sex)
    twin(make, b)
    return b.story


def linked(make: Maker) -> Story:
    """Of two tests that belong together one is held."""
    failed = replace(reading_of("GGT", "---", "", type="ST"))
    alp = make.reading("ALP", make.person(), "N")
    order = [held(failed, "the run failed", "run_failed"), held(alp, "GGT, which belongs to it, is held", "rule")]
    make.random.shuffle(order)
    b = one_of(make, "linked tests", order)
    twin(make, b)
    return b.story


def doubted(make: Maker) -> Story:
    """The analyzer itself doubts, or says what nobody knows."""
    field, word, reasons = make.random.choice(
        (("status", "W", ("questionable",)), ("status", "P", ("questionable",)), ("status", "S", ("questionable",)),
         ("status", "q7", ("unknown_status",)), ("mark", "ZZ", ("unknown_flag", "rule")), ("mark", "W", ("rule",)),
         ("mark", "D", ("rule",)))
    )  # fmt: skip
    glucose = make.reading("GLU", make.person(), "N")
    reading = replace(glucose, status=word) if field == "status" else replace(glucose, mark=word)
    b = one_of(make, "analyzer doubts", [held(reading, f"{field} {word}", *reasons)])
    twin(make, b)
    return b.story


def without_control(make: Maker) -> Story:
    """Of its quality control nothing is known; of the other no critical limits, and nobody said none are meant."""
    lactate, ferritin = make.reading("LAC", make.person(), "N"), make.reading("FERR", make.person(), "N")
    planted: list[Planted] = [
        (lactate, Fate.WAITS, (), "nothing is known of its quality control"),
        (ferritin, Fate.WAITS, (), "it has no critical limits and nobody said that none are meant"),
    ]
    return one_of(make, "no control, no limits", planted).story


def switched_off(make: Maker) -> Story:
    """Lipase, released by the rules, but not while it is switched off."""
    stage = make.random.choice((1, 2, 2, 3))
    reading = make.reading(SWITCHED, make.person())
    planted = fine(reading, "before and after")
    if stage == SWITCHED_STAGE:
        planted = (reading, Fate.WAITS, (), "while the test is switched off")
    return one_of(make, "switched off", [planted], stage=stage).story


def controls(make: Maker) -> Story:
    """Quality control among patients, under a patient's barcode too."""
    b = begin(make, "quality control", ("K", "GLU", "CA"))
    barcode = make.random.choice((f"QC-{make.number()}", b.tube.barcode))
    control = Part(
        said(b.person), barcode, (reading_of("K", "6.9", "").row(), reading_of("GLU", "14.0", "").row()), True
    )
    b.story.controls += 2
    ours = Part(said(b.person), b.tube.barcode, tuple(one.row() for one in b.readings))
    sends: list[Send]
    if b.link.startswith("lis") and barcode != b.tube.barcode:
        sends = [make.send(b.link, control, ours)]
    else:
        sends = [make.send(b.link, control), make.send(b.link, ours)]
    b.story.sends += [(b.stage, send) for send in sends]
    for one in b.readings:
        expect(b.story, sends[-1], ours, one, b.person, planted="a patient's, after quality control", hazard=False)
    return b.story


def anion_gap(make: Maker) -> Story:
    """Calculated of three that are released; not at all where one of them is held."""
    b = begin(make, "calculated", ("NA", "CL", "HCO3", "AGAP"), where="N")
    b.readings = [one for one in b.readings if one.test.code != "AGAP"]
    if make.random.random() < 0.4:
        b.readings[1] = reading_of("CL", "---", "", type="ST")
    part = Part(said(b.person), b.tube.barcode, tuple(one.row() for one in b.readings))
    send = make.send(b.link, part)
    b.story.sends.append((b.stage, send))
    for one in b.readings:
        if one.value == "---":
            expect(b.story, send, part, one, b.person, Fate.HELD, "run_failed", planted="no gap is calculated of it")
        else:
            expect(b.story, send, part, one, b.person, planted="of the anion gap", hazard=False)
    if b.readings[1].value != "---":
        add_gap(b.story, send, part, b.readings, b)
    return b.story


def add_gap(story: Story, send: Send, part: Part, readings: Sequence[Reading], b: Beginning) -> None:
    """The anion gap of sodium, chloride and bicarbonate, when the last message of the story so far has come. It is no
    analyzer's: while any of them is switched off it waits."""
    values = {one.test.code: int(one.value) for one in readings if one.test.code in ("NA", "CL", "HCO3")}
    gap = values["NA"] - values["CL"] - values["HCO3"]
    flag = "L" if gap < 8 else "H" if gap > 16 else "N"
    words, fate = f"{values['NA']} - {values['CL']} - {values['HCO3']}", Fate.RELEASED
    if max(stage for stage, _ in story.sends) == SWITCHED_STAGE:
        words, fate = f"{words}, while an analyzer is switched off", Fate.WAITS
    one = expect(story, send, part, reading_of("AGAP", str(gap), flag), b.person, fate, planted=words, hazard=False)
    story.expected[-1] = replace(one, key=(part.barcode, "=AGAP", ""))
