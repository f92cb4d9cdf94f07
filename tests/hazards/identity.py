"""Hazards of whose a result is: wrong patients, barcodes, specimens, records of people."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.hazards.making import (
    DAY,
    Beginning,
    Maker,
    Story,
    another,
    begin,
    expect,
    healthy,
    reading_of,
    said,
    tell,
    twin,
)
from tests.hazards.plan import (
    Aliquot,
    Dispose,
    Fate,
    MakeOld,
    Merge,
    Order,
    Part,
    Reject,
    Relabel,
    Said,
    Tube,
)

CHEMISTRY = ("K", "GLU", "UREA", "CA", "ALT")
IONS = ("NA", "K", "CL", "HCO3")


def wrong_patient_id(make: Maker) -> Story:
    b = begin(make, "wrong patient id", CHEMISTRY, where="N")
    other = make.person()
    tell(
        make,
        b,
        f"sent as {other.id}, ordered for {b.person.id}",
        "patient_mismatch",
        who=replace(said(b.person), id=other.id),
    )
    twin(make, b)
    return b.story


def wrong_birth_date(make: Maker) -> Story:
    b = begin(make, "wrong birth date", CHEMISTRY[:3], where="N")
    assert b.person.birth is not None
    other = b.person.birth + timedelta(days=make.random.choice((1, -1, 30, 365)))
    tell(make, b, f"sent as born {other}, ordered for born {b.person.birth}", "patient_mismatch",
         who=replace(said(b.person), birth=f"{other:%Y%m%d}"))  # fmt: skip
    twin(make, b)
    return b.story


def wrong_sex(make: Maker) -> Story:
    b = begin(make, "wrong sex", CHEMISTRY[1:], where="N")
    other = "M" if b.person.sex == "female" else "F"
    tell(
        make,
        b,
        f"sent as {other}, ordered as {b.person.sex}",
        "patient_mismatch",
        who=replace(said(b.person), sex=other),
    )
    twin(make, b)
    return b.story


def nothing_said(make: Maker) -> Story:
    """What an analyzer does not send differs in nothing."""
    b = begin(make, "patient facts left out", CHEMISTRY)
    whole = said(b.person)
    who = make.random.choice(
        (Said(), replace(whole, id=""), replace(whole, birth=""), replace(whole, sex="U"), replace(whole, name=""),
         replace(whole, id=whole.id.lower()))
    )  # fmt: skip
    tell(make, b, f"sent as {who}", who=who, hazard=False)
    return b.story


def other_name(make: Maker) -> Story:
    strict = make.random.random() < 0.7
    b = begin(make, "other name", CHEMISTRY[:3], link=make.link(strict=strict), where="N")
    who = replace(said(b.person), name="Zoltan^Quirin")
    words = f"named {who.name}, ordered for {b.person.family}^{b.person.given}"
    if strict:
        tell(make, b, f"{words}; the link holds other names", "patient_name", who=who)
    else:
        tell(make, b, f"{words}; the link ignores names", who=who, hazard=False)
    near = begin(make, "other name", CHEMISTRY[:2], link=b.link, stage=b.stage)
    shorter = replace(said(near.person), name=f"{near.person.family.upper()}^{near.person.given[:1]}")
    near.story = b.story
    b.story.setup.append((b.stage, Order(near.tube)))
    tell(make, near, f"named {shorter.name}: the same name, cut", who=shorter, hazard=False)
    return b.story


def two_in_one_message(make: Maker) -> Story:
    """Two specimens in one message; half the time each is sent with the other's patient."""
    one = begin(make, "two patients in a message", CHEMISTRY[:3], where="N")
    other = begin(make, "two patients in a message", CHEMISTRY[:3], stage=one.stage, where="N")
    crossed = make.random.random() < 0.5
    first, second = (other.person, one.person) if crossed else (one.person, other.person)
    parts = tuple(
        Part(said(who), b.tube.barcode, tuple(reading.row() for reading in b.readings))
        for b, who in ((one, first), (other, second))
    )
    send = make.send(one.link, *parts)
    one.story.setup += other.story.setup
    one.story.sends.append((one.stage, send))
    for b, part in zip((one, other), parts, strict=True):
        for reading in b.readings:
            if crossed:
                expect(one.story, send, part, reading, b.person, Fate.HELD, *another(one.link),
                       planted=f"sent as {part.said.id}, ordered for {b.person.id}")  # fmt: skip
            else:
                expect(one.story, send, part, reading, b.person, planted="each under its own patient", hazard=False)
    return one.story


def closed_specimen(make: Maker) -> Story:
    b = begin(make, "closed specimen", CHEMISTRY[:3], stage=make.random.randrange(3), where="N")
    if make.random.random() < 0.4:
        tell(make, b, "before it is disposed of", hazard=False)
        b.story.setup.append((b.stage + 1, Dispose(b.tube.barcode)))
        tell(make, b, "after its tube was disposed of", "no_such_specimen", later=1, nobody=True)
    else:
        b.story.setup.append((b.stage + 1, Reject(b.tube.barcode)))
        tell(make, b, "after its tube was rejected", "no_such_specimen", later=1, nobody=True)
    twin(make, b)
    return b.story


def barcode_used_again(make: Maker) -> Story:
    """The tube that carried the barcode before is gone; what comes now is the new one's."""
    b = begin(make, "barcode used again", CHEMISTRY[:4], stage=make.random.randrange(3))
    tell(make, b, "the first to carry the barcode", hazard=False)
    b.story.setup.append((b.stage + 1, Dispose(b.tube.barcode)))
    person = make.person()
    tube = make.tube(person, b.tube.tests, barcode=b.tube.barcode)
    b.story.setup.append((b.stage + 1, Order(tube)))
    readings = make.readings(tube.tests, person)
    healthy(b.story, make, b.link, b.stage + 1, tube, readings, "the second to carry the barcode")
    wrong = Part(said(b.person), tube.barcode, (readings[0].row(),))
    send = make.send(b.link, wrong)
    b.story.sends.append((b.stage + 1, send))
    one = expect(b.story, send, wrong, readings[0], person, Fate.HELD, *another(b.link),
                 planted="under the barcode's former patient")  # fmt: skip
    b.story.expected[-1] = replace(one, reportable=False)
    return b.story


def outside_window(make: Maker) -> Story:
    b = begin(make, "outside the window", CHEMISTRY[:3], where="N")
    b.story.setup.append((b.stage, MakeOld(b.tube.barcode)))
    tell(make, b, "of a specimen received before the window of the link", "outside_window", nobody=True)
    twin(make, b)
    return b.story


def two_open_specimens(make: Maker) -> Story:
    b = begin(make, "two open specimens", CHEMISTRY[:3], where="N")
    other = make.tube(make.person(), b.tube.tests)
    b.story.setup += [(b.stage, Order(other)), (b.stage, Relabel(other.barcode, b.tube.barcode))]
    who = make.random.choice((said(b.person), Said()))
    tell(make, b, "two open specimens carry the barcode", "ambiguous_specimen", who=who, nobody=True)
    twin(make, b)
    return b.story


def control_like(make: Maker) -> Story:
    b = begin(make, "control-like id", CHEMISTRY[:2], where="N")
    b.story.setup.clear()
    number = make.number()
    barcode = make.random.choice((f"QC-{number}", f"CTRL {number}", f"Control{number}", f"CAL{number}"))
    tell(
        make,
        b,
        "an id like a control's, which no specimen has",
        "control_like_id",
        barcode=barcode,
        who=Said(),
        nobody=True,
    )
    patterned = make.tube(make.person(), b.tube.tests, barcode=f"77{number}")
    b.story.setup.append((b.stage, Order(patterned)))
    mine = replace_beginning(b, patterned)
    tell(make, mine, "a specimen's id, which by the link's patterns is a control's", "control_like_id", nobody=True)
    ours = make.tube(make.person(), b.tube.tests, barcode=f"CALLA{number}")
    b.story.setup.append((b.stage, Order(ours)))
    healthy(
        b.story,
        make,
        b.link,
        b.stage,
        ours,
        make.readings(ours.tests, ours.person),
        "a specimen's own id that looks like a control's",
    )
    return b.story


def replace_beginning(b: Beginning, tube: Tube) -> Beginning:
    """The same story, link and stage about another tube."""
    return Beginning(b.story, tube.person, tube, b.link, b.stage, b.readings)


def unknown_specimen(make: Maker) -> Story:
    b = begin(make, "unknown specimen", CHEMISTRY[:3], where="N")
    if make.random.random() < 0.3:
        b.story.setup.clear()
        b.link = "lis-open"
        tell(make, b, "no order; the link takes that, without a patient", fate=Fate.WAITS, nobody=True)
    else:
        barcode = make.random.choice((f"{b.tube.barcode}0", b.tube.barcode.lower(), b.tube.barcode[:-1], ""))
        tell(
            make,
            b,
            f"sent as {barcode!r}, ordered as {b.tube.barcode}",
            "no_such_specimen",
            barcode=barcode,
            nobody=True,
        )
    return b.story


def not_ordered(make: Maker) -> Story:
    b = begin(make, "not ordered", (*CHEMISTRY, "CK"), where="N")
    missing = make.random.choice(b.readings)
    b.story.setup.clear()
    tube = make.tube(b.person, [code for code in b.tube.tests if code != missing.test.code])
    b.tube = tube
    b.story.setup.append((b.stage, Order(tube)))
    tell(make, b, "ordered, beside one that was not", hazard=False)
    b.story.expected = [
        replace(one, fate=Fate.HELD, reasons=frozenset({"not_ordered"}), hazard=True, planted="not ordered")
        if one.test == missing.test.code else one
        for one in b.story.expected
    ]  # fmt: skip
    return b.story


def merged(make: Maker) -> Story:
    """What one record has is the other's previous result; either record's id is the person's."""
    one = begin(make, "merged patient", ("K", "ALT"), stage=make.random.randrange(3), where="N")
    one.readings[0] = reading_of("K", "3.6", "N")
    tell(make, one, "before the merge, under the first record", hazard=False)
    survivor = replace(make.person(one.person.sex, one.person.birth), family=one.person.family, given=one.person.given)
    tube = make.tube(survivor, ("K", "ALT"))
    one.story.setup += [(one.stage, Order(make.tube(survivor, ("TP",)))), (one.stage + 1, Order(tube))]
    one.story.setup.append((one.stage + 1, Merge(one.person.id, survivor.id)))
    _moved(one.story, one.tube, 3)
    jumps = make.random.random() < 0.6
    readings = [reading_of("K", "4.9" if jumps else "4.1", "N"), make.reading("ALT", survivor, "N")]
    part = Part(said(make.random.choice((one.person, survivor))), tube.barcode, tuple(r.row() for r in readings))
    send = make.send(one.link, part)
    one.story.sends.append((one.stage + 1, send))
    words = f"under {part.said.id}, of the record that survived"
    for reading in readings:
        if jumps and reading.test.code == "K":
            expect(
                one.story, send, part, reading, survivor, Fate.HELD, "delta", planted=f"3.6 to 4.9 in 3 days, {words}"
            )
        else:
            expect(one.story, send, part, reading, survivor, planted=words, hazard=False)
    both = (one.person.id, survivor.id)
    one.story.expected = [replace(each, patients=both) for each in one.story.expected]
    return one.story


def _moved(story: Story, tube: Tube, days: int) -> None:
    """The tube was collected some days earlier."""
    earlier = replace(tube, collected=DAY - timedelta(days=days))
    story.setup = [(stage, Order(earlier) if step == Order(tube) else step) for stage, step in story.setup]


def aliquot(make: Maker) -> Story:
    b = begin(make, "aliquot", ("GLU", "UREA", "CA", "ALT"))
    child = make.barcode()
    moved = make.random.choice(((), ("CA", "ALT")))
    b.story.setup.append((b.stage, Aliquot(b.tube.barcode, child, moved)))
    whole = b.readings
    b.readings = whole[:2]
    tell(make, b, "on the tube that was divided", hazard=False)
    b.readings = whole[2:]
    where = "its own" if moved else "the first tube's"
    tell(make, b, f"on the aliquot {child}, which answers {where} order", barcode=child, hazard=False)
    b.readings = [make.reading("TP", b.person, "N")]
    tell(make, b, "on the aliquot, not ordered on any of them", "not_ordered", barcode=child)
    return b.story


def newborn(make: Maker) -> Story:
    """The same bilirubin of a newborn, of a grown-up, and of somebody whose birth date nobody knows."""
    story, stage, link = Story("age and interval"), make.random.randrange(4), make.link()
    born = make.person(born=DAY.date() - timedelta(days=make.random.choice((0, 5, 27))))
    oldest = make.person(born=DAY.date() - timedelta(days=28))
    grown, ageless = make.person(), replace(make.person(), birth=None)
    value = f"{make.random.randrange(20, 110)}"
    value = f"{value[:-1]}.{value[-1]}"
    for person, flags, fate, words in (
        (born, ("N",), Fate.RELEASED, "a newborn's interval to 12.0"),
        (oldest, ("H",), Fate.RELEASED, "28 days old: a grown-up's interval to 1.2"),
        (grown, ("H",), Fate.RELEASED, "a grown-up's interval to 1.2"),
        (ageless, (), Fate.HELD, "of unknown age: no interval, and not known which critical limits"),
    ):
        tube = make.tube(person, ("TBIL",))
        story.setup.append((stage, Order(tube)))
        reading = reading_of("TBIL", value, "")
        part = Part(said(person), tube.barcode, (reading.row(),))
        send = make.send(link, part)
        story.sends.append((stage, send))
        one = expect(story, send, part, reading, person, fate, planted=words, hazard=fate is not Fate.RELEASED)
        story.expected[-1] = replace(one, flags=flags, reasons=frozenset(["rule"] if fate is Fate.HELD else ()))
    return story


def unknown_sex(make: Maker) -> Story:
    b = begin(make, "unknown sex", ("CREA", "K", "GLU"), person=replace(make.person(), sex="unknown"))
    tell(make, b, "its interval does not ask for the sex", hazard=False)
    b.story.expected = [
        replace(one, fate=Fate.HELD, reasons=frozenset({"rule"}), flags=(), hazard=True,
                planted="of unknown sex: no interval, and not known which critical limits")
        if one.test == "CREA" else one
        for one in b.story.expected
    ]  # fmt: skip
    known = begin(make, "unknown sex", ("CREA",), stage=b.stage, link=b.link)
    known.story.kind = b.story.kind
    b.story.setup += known.story.setup
    known.story = b.story
    tell(make, known, f"a {known.person.sex} interval", hazard=False)
    return b.story
