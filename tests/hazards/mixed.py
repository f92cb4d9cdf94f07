"""Hazards of several things at once: combinations, two links, orders that come late or go, clocks and indices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from tests.hazards.book import SWITCHED_ANALYZER, SWITCHED_STAGE
from tests.hazards.making import (
    DAY,
    Beginning,
    Maker,
    Reading,
    Story,
    another,
    begin,
    expect,
    reading_of,
    said,
    tell,
    twin,
)
from tests.hazards.plan import Cancel, Dispose, Fate, Merge, Order, Part, Said, Unmerge
from tests.hazards.runs import also, soon
from tests.hazards.values import add_gap, fine, held, one_of

CRITICAL = reading_of("K", "6.9", "HH", critical=True)
ABSURD = reading_of("K", "25.0", "HH", critical=True)


def several(make: Maker) -> Story:
    """Two hazards in one result: it is held for both."""
    link = make.link()
    b = begin(make, "several at once", ("K", "CA"), link=link, where="N")
    other = make.person()
    wrong = replace(said(b.person), id=other.id)
    choices: tuple[tuple[str, Reading, Said | None, tuple[str, ...]], ...] = (
        ("critical, and another patient's id", CRITICAL, wrong, ("patient_mismatch", "rule")),
        ("absurd, and another patient's id", ABSURD, wrong, ("implausible", "patient_mismatch", "rule")),
        ("another patient altogether", CRITICAL, said(other), (*another(link), "rule")),
        ("absurd, and the analyzer doubts it", replace(ABSURD, status="W"), None,
         ("implausible", "questionable", "rule")),
        ("in an unknown unit, and the analyzer doubts it", reading_of("K", "4.1", "", sent_unit="furlong", status="W"),
         None, ("questionable", "unknown_unit")),
        ("no result, and another patient's id", reading_of("K", "---", "", type="ST"), wrong,
         ("patient_mismatch", "run_failed")),
    )  # fmt: skip
    words, reading, who, reasons = make.random.choice(choices)
    b.readings = [reading]
    tell(make, b, words, *reasons, who=who)
    twin(make, b)
    unknown = begin(make, b.story.kind, ("K",), stage=b.stage, link=link, where="N")
    unknown.story, unknown.readings = b.story, [CRITICAL]
    tell(make, unknown, "critical, of a specimen that nobody knows", "no_such_specimen", "rule", nobody=True)
    return b.story


def before_its_order(make: Maker) -> Story:
    """The result is there before the order. Sent again it finds it; resent to the byte it is the same message."""
    b = begin(make, "before its order", ("K", "CA"), stage=make.random.randrange(3))
    b.story.setup = [(b.stage + 1, Order(b.tube))]
    to_the_byte = make.random.random() < 0.4
    if to_the_byte:
        send = tell(make, b, "before its order, then resent to the byte", "no_such_specimen", nobody=True)
        b.story.sends.append((b.stage + 1, send))
        b.story.duplicates += 1
    else:
        send = tell(make, b, "before its order, then sent again")
        b.story.sends.append((b.stage + 1, replace(send, control_id=f"{send.control_id}R")))
        b.story.expected = [replace(one, versions=2) for one in b.story.expected]
    return b.story


def cancelled(make: Maker) -> Story:
    b = begin(make, "cancelled order", ("K", "CA", "ALT"), where="N")
    b.story.setup.append((b.stage, Cancel(b.tube.barcode)))
    tell(make, b, "its order was cancelled", "not_ordered")
    twin(make, b)
    return b.story


def without_a_clock(make: Maker) -> Story:
    """An analyzer that sends no time. A change is a change; a barcode used again is another result."""
    b = begin(make, "analyzer without a clock", ("K", "CA"), stage=make.random.randrange(3), where="N")
    b.readings = [reading_of("K", "4.1"), *b.readings[1:]]
    _timeless(make, b, b.readings, "the first to be sent", 0)
    also_changed = make.random.random() < 0.5
    if also_changed:
        change = Part(said(b.person), b.tube.barcode, (reading_of("K", "4.9").row("-"),))
        b.story.sends.append((b.stage + soon(make), make.send(b.link, change)))
        b.story.expected[-2] = replace(
            b.story.expected[-2], pending="4.9", versions=2, hazard=True, planted="4.1, then 4.9 without a time"
        )
        return b.story

    b.story.setup.append((b.stage + 1, Dispose(b.tube.barcode)))
    person = make.person()
    tube = make.tube(person, b.tube.tests, barcode=b.tube.barcode)
    b.story.setup.append((b.stage + 1, Order(tube)))
    second = Beginning(b.story, person, tube, b.link, b.stage, [])
    _timeless(make, second, make.readings(tube.tests, person, "N"), "the second to carry the barcode", 1)
    return b.story


def _timeless(make: Maker, b: Beginning, readings: list[Reading], planted: str, later: int) -> None:
    part = Part(said(b.person), b.tube.barcode, tuple(one.row("-") for one in readings))
    send = make.send(b.link, part)
    b.story.sends.append((b.stage + later, send))
    for one in readings:
        expect(b.story, send, part, one, b.person, planted=planted, time=f"of {b.person.id}")


def unmerged(make: Maker) -> Story:
    """Two records were merged by mistake, and split again: they are two people, whose values are not compared."""
    b = begin(make, "merged by mistake", ("K",), stage=make.random.randrange(3), where="N")
    b.readings = [reading_of("K", "3.6")]
    earlier = replace(b.tube, collected=DAY - timedelta(days=2))
    b.story.setup = [(b.stage, Order(earlier))]
    tell(make, b, "of the first record", hazard=False)
    other = make.person(b.person.sex, b.person.birth)
    tube = make.tube(other, ("K",))
    b.story.setup += [
        (b.stage + 1, Order(tube)), (b.stage + 1, Merge(b.person.id, other.id)), (b.stage + 1, Unmerge(b.person.id))
    ]  # fmt: skip
    second = Beginning(b.story, other, tube, b.link, b.stage, [reading_of("K", "5.0")])
    tell(make, second, "3.6 and 5.0, of two people again", later=1)
    wrong = Part(said(b.person), tube.barcode, (reading_of("K", "5.0").row(),))
    send = make.send(b.link, wrong)
    b.story.sends.append((b.stage + 1, send))
    made = expect(b.story, send, wrong, reading_of("K", "5.0"), other, Fate.HELD, *another(b.link),
                  planted="under the other record again")  # fmt: skip
    b.story.expected[-1] = replace(made, reportable=False)
    return b.story


def two_links(make: Maker) -> Story:
    """Two links finish one specimen at the same moment: the gap is calculated once, whoever comes last."""
    b = begin(make, "two links at once", ("NA", "CL", "HCO3", "AGAP", "CA"), where="N")
    b.story.apart = True
    readings = [one for one in b.readings if one.test.code != "AGAP"]
    for link, some in ((make.link(protocol="lis"), readings[:2]), (make.link(protocol="hl7"), readings[2:])):
        part = Part(said(b.person), b.tube.barcode, tuple(one.row() for one in some))
        send = make.send(link, part)
        b.story.sends.append((b.stage, send))
        for one in some:
            expect(b.story, send, part, one, b.person, planted="at the same moment as another link's")
    add_gap(b.story, send, part, readings, b)
    return b.story


def one_patient_two_tubes(make: Maker) -> Story:
    """Two specimens below one patient of a message."""
    b = begin(make, "two tubes of a patient", ("K", "CA"))
    tube = make.tube(b.person, ("TP", "ALT"))
    b.story.setup.append((b.stage, Order(tube)))
    second = make.readings(tube.tests, b.person)
    parts = (
        Part(said(b.person), b.tube.barcode, tuple(one.row() for one in b.readings)),
        Part(said(b.person), tube.barcode, tuple(one.row() for one in second), again=True),
    )
    send = make.send(b.link, *parts)
    b.story.sends.append((b.stage, send))
    for part, readings in zip(parts, (b.readings, second), strict=True):
        for one in readings:
            expect(b.story, send, part, one, b.person, planted="each on its own tube", hazard=False)
    return b.story


def prefixed(make: Maker) -> Story:
    """A reader that puts its symbol's prefix before the number."""
    b = begin(make, "barcode rules", ("K", "CA"), link="lis-code")
    tell(make, b, "with the reader's prefix", barcode=f"]C1{b.tube.barcode}", hazard=False)
    lost = begin(make, b.story.kind, ("K", "CA"), stage=b.stage, link="lis-code", where="N")
    b.story.setup += lost.story.setup
    lost.story = b.story
    tell(make, lost, "with a prefix of no rule", "no_such_specimen", barcode=f"]D2{lost.tube.barcode}", nobody=True)
    return b.story


def analyzer_off(make: Maker) -> Story:
    """An analyzer that is switched off for a while, and what another one measures meanwhile."""
    stage = make.random.choice((1, 2, 2, 3))
    b = begin(make, "analyzer switched off", ("K", "CA"), stage=stage, link=SWITCHED_ANALYZER)
    if stage == SWITCHED_STAGE:
        tell(make, b, "while its analyzer is switched off", fate=Fate.WAITS)
    else:
        tell(make, b, "before and after", hazard=False)
    b.link = make.link()
    twin(make, b, "on another analyzer")
    return b.story


def index_needed(make: Maker) -> Story:
    """Lactate dehydrogenase needs an index of its own tube: none, a doubted one or another patient's is none."""
    kind = make.random.choice(("low", "high", "none", "doubted", "another patient's"))
    b = begin(make, f"index needed: {kind}", ("LD", "HIX", "CA"), where="N")
    enzyme = next(one for one in b.readings if one.test.code == "LD")
    ordinary = [one for one in b.readings if one.test.code == "CA"]
    index = reading_of("HIX", "150" if kind == "high" else "20", "")
    if kind == "none":
        b.readings = [*ordinary]
    elif kind == "doubted":
        b.readings = [replace(index, status="W")]
        tell(make, b, "the analyzer doubts the index", "questionable")
        b.readings = ordinary
    elif kind == "another patient's":
        b.readings = [index]
        tell(make, b, "under another patient", *another(b.link), who=said(make.person()))
        b.readings = ordinary
    else:
        b.readings = [index, *ordinary]
    tell(make, b, "ordinary, beside it", hazard=False)
    b.readings = [enzyme]
    if kind == "low":
        tell(make, b, "with an index of 20", hazard=False, later=soon(make))
    else:
        tell(make, b, f"with an index that is {kind}", "interference", later=soon(make))
    return b.story


def held_inputs(make: Maker) -> Story:
    """Sodium under another patient: no gap is calculated of it. Sent again under the right one, it is."""
    b = begin(make, "held inputs", ("NA", "CL", "HCO3", "AGAP"), where="N")
    sodium, *others = (one for one in b.readings if one.test.code != "AGAP")
    wrong = Part(said(make.person()), b.tube.barcode, (sodium.row(),))
    first = make.send(b.link, wrong)
    b.story.sends.append((b.stage, first))
    b.readings = others
    tell(make, b, "ordinary, beside it", hazard=False)
    if make.random.random() < 0.5:
        right = replace(first, control_id=f"{first.control_id}R", parts=(replace(wrong, said=said(b.person)),))
        b.story.sends.append((b.stage + soon(make), right))
        made = expect(
            b.story, first, wrong, sodium, b.person, planted="under another patient, then under the right one"
        )
        b.story.expected[-1] = replace(made, versions=2)
        add_gap(b.story, first, wrong, [sodium, *others], b)
    else:
        expect(b.story, first, wrong, sodium, b.person, Fate.HELD, *another(b.link), planted="under another patient")
    return b.story


def repeated_value(make: Maker) -> Story:
    """Two values in one field are no value."""
    link = make.link()
    separator = "~" if link.startswith("hl7") else make.random.choice(("\\", "^"))
    value = f"4.1{separator}4.9"
    reading = reading_of("K", value, "", type="ST")
    return one_of(
        make, "two values in a field", [held(reading, f"{value} in one field", "unreadable_value")], link=link
    ).story


def escaped(make: Maker) -> Story:
    """A delimiter in a text is sent escaped, and is reported as what it stands for."""
    link = make.link()
    sent = r"Staph \T\ Strep" if link.startswith("hl7") else "Staph &E& Strep"
    reading = reading_of("CULT", "Staph & Strep", "", sent=sent, type="ST")
    return one_of(make, "escaped text", [fine(reading, f"sent as {sent}")], link=link).story


def accents(make: Maker) -> Story:
    """Names with accents are the same in any spelling; a link that holds other names takes them."""
    spelled: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("M\u00fcller", lambda name: name.replace("\u00fc", "ue").upper()),
        ("M\u00fcller", lambda name: name.replace("\u00fc", "u")),
        ("Garc\u00eda", lambda name: name.replace("\u00ed", "i").upper()),
        ("O'Neil", lambda name: name.replace("'", "")),
    )  # fmt: skip
    family, change = make.random.choice(spelled)
    person = make.person()
    person = replace(person, family=f"{family}-{person.family}")
    b = begin(make, "spelling of a name", ("K", "CA"), link=make.link(strict=True), person=person)
    name = f"{change(person.family)}^{person.given}"
    tell(make, b, f"{person.family} sent as {name}", who=replace(said(person), name=name), hazard=False)
    return b.story


def not_collected(make: Maker) -> Story:
    """Nobody wrote down when it was collected: a grown-up's interval is the same whenever it was."""
    b = begin(make, "collection not known", ("K", "CA", "TBIL"))
    b.story.setup = [(b.stage, Order(replace(b.tube, collected=None)))]
    tell(make, b, "a grown-up's, collected nobody knows when", hazard=False)
    return b.story


def wrong_clock(make: Maker) -> Story:
    """The instrument's clock was never set, or stands years from now: it dates nothing, and keeps nothing back."""
    b = begin(make, "implausible clock", ("K", "CA", "TBIL"))
    collected = make.random.random() < 0.3
    if not collected:
        b.story.setup = [(b.stage, Order(replace(b.tube, collected=None)))]
    time = f"{make.random.choice((1970, 1999, 2040, 2099))}0101000000"
    part = Part(said(b.person), b.tube.barcode, tuple(one.row() for one in b.readings))
    send = make.send(b.link, part, time=time)
    b.story.sends.append((b.stage, send))
    for one in b.readings:
        known = "when the order says" if collected else "nobody knows when"
        words = f"measured in {time[:4]} by its clock, collected {known}"
        made = expect(b.story, send, part, one, b.person, planted=words)
        b.story.expected[-1] = replace(made, dated="collection" if collected else "receipt")
    return b.story


def other_link(make: Maker) -> Story:
    """The same test of a specimen on another analyzer is another run."""
    alike = make.random.random() < 0.5
    b = begin(make, "run on another analyzer", ("GLU",), link="lis-1")
    b.readings = [reading_of("GLU", "4.8")]
    tell(make, b, "the first run", hazard=False)
    b.link = "hl7-1"
    second = reading_of("GLU", "4.8" if alike else "5.4")
    send = also(make, b, [second], later=1)
    fate, reasons = (Fate.WAITS, ()) if alike else (Fate.HELD, ("already_reported",))
    made = expect(
        b.story, send, send.parts[0], second, b.person, fate, *reasons, planted="4.8 was released, from another"
    )
    b.story.expected[-1] = replace(made, reportable=False)
    return b.story


def judged_again(make: Maker) -> Story:
    """What waits for something beside it is released when that comes, and not by anything else that comes."""
    kind = make.random.choice(
        ("index comes", "high index comes", "another patient's comes", "rerun comes", "others come")
    )
    b = begin(make, f"judged again: {kind}", ("LD", "HIX", "ALP", "GGT", "GLU", "CA"), where="N")
    ready = {one.test.code: one for one in b.readings}
    glucose = reading_of("GLU", "30.0", "HH", critical=True)
    comes: list[Reading] = [ready["CA"]]
    if kind in ("rerun comes", "others come"):
        failed = reading_of("GGT", "---", "", type="ST")
        first = [(failed, "run_failed"), (ready["ALP"], "rule"), (glucose, "rule")]
        if kind == "rerun comes":
            comes.append(ready["GGT"])
    else:
        first = [(ready["LD"], "interference"), (glucose, "rule")]
        comes.append(reading_of("HIX", "150" if kind == "high index comes" else "20", ""))
    part = Part(said(b.person), b.tube.barcode, tuple(one.row() for one, _ in first))
    send = make.send(b.link, part)
    b.story.sends.append((b.stage, send))
    for one, reason in first:
        freed = (kind, one.test.code) in (("index comes", "LD"), ("rerun comes", "ALP"))
        fate, reasons = (Fate.RELEASED, ()) if freed else (Fate.HELD, (reason,))
        made = expect(b.story, send, part, one, b.person, fate, *reasons, planted=f"waits: {kind}")
        spare = kind == "rerun comes" and one.test.code == "GGT"
        b.story.expected[-1] = replace(made, versions=2 if freed else 1, reportable=not spare)
    b.readings = comes
    if kind == "another patient's comes":
        b.readings = comes[1:]
        tell(make, b, "under another patient", *another(b.link), who=said(make.person()), later=soon(make))
    else:
        tell(make, b, "comes later", hazard=False, later=soon(make))
    return b.story
