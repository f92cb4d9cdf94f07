"""Hazards of time: resends, reruns, changes, corrections, messages out of order or cut, and earlier results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

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
from tests.hazards.plan import Fate, Order, Part, Said, Send, Tube
from tests.hazards.values import add_gap

CHEMISTRY = ("K", "GLU", "UREA", "CA", "ALT")


def part_of(b: Beginning, readings: Sequence[Reading]) -> Part:
    return Part(said(b.person), b.tube.barcode, tuple(one.row() for one in readings))


def also(make: Maker, b: Beginning, readings: Sequence[Reading], *, time: str = "", later: int = 0) -> Send:
    """Another message about the same specimen, of which nothing is expected yet."""
    send = make.send(b.link, part_of(b, readings), time=time)
    b.story.sends.append((b.stage + later, send))
    return send


def soon(make: Maker) -> int:
    """In the same stage, or when what came before has been decided."""
    return make.random.choice((0, 0, 1))


def resent(make: Maker) -> Story:
    """The same message once more: to the byte, or under another control id."""
    b = begin(make, "resend", CHEMISTRY)
    send = tell(make, b, "sent twice", hazard=True)
    if make.random.random() < 0.5:
        b.story.sends.append((b.stage + soon(make), send))
        b.story.duplicates += 1
    else:
        b.story.sends.append((b.stage + soon(make), replace(send, control_id=f"{send.control_id}R")))
    return b.story


def changed_before(make: Maker) -> Story:
    """The same result with another value, while the first is held."""
    b = begin(make, "changed before release", ("K", *CHEMISTRY[2:]), where="N")
    failed = make.random.random() < 0.5
    first = reading_of("K", "---", "", type="ST") if failed else reading_of("K", "6.9", "HH", critical=True)
    second, *others = b.readings
    send = also(make, b, [first, *others])
    again = also(make, b, [second], time=send.time, later=soon(make))
    part = part_of(b, b.readings)
    # Somebody was to be told of what was critical: that it is another value now, a person believes, and no rule.
    words = f"{first.value}, then {second.value} at the same time"
    fate, reasons = (Fate.RELEASED, ()) if failed else (Fate.HELD, ("said_anew",))
    one = expect(b.story, again, part, second, b.person, fate, *reasons, planted=words)
    b.story.expected[-1] = replace(one, versions=2, critical=None if not failed else False)
    for other in others:
        expect(b.story, send, part, other, b.person, planted="ordinary, beside it", hazard=False)
    return b.story


def changed_after(make: Maker) -> Story:
    """The same result with another value, or corrected, when the first is released: a person decides."""
    status = make.random.choice(("F", "C", "C", "F"))
    b = begin(make, "changed after release", ("K", *CHEMISTRY[2:]), where="N")
    b.readings[0] = reading_of("K", "4.1")
    send = tell(make, b, "ordinary, beside it", hazard=False)
    change = reading_of("K", make.random.choice(("4.2", "6.8", "---")), "", status=status, type="ST")
    also(make, b, [change], time=send.time, later=soon(make))
    at = len(b.story.expected) - len(b.readings)
    b.story.expected[at] = replace(
        b.story.expected[at], pending=change.value, versions=2, hazard=True, critical=change.value == "6.8",
        planted=f"4.1, then {change.value} with status {status} at the same time",
    )  # fmt: skip
    return b.story


def corrected_late(make: Maker) -> Story:
    """The correction comes first and what it corrects afterwards."""
    b = begin(make, "out of order", ("K", "CA"), where="N")
    b.readings[0] = reading_of("K", "4.4", status="C")
    send = tell(make, b, "ordinary, beside it", hazard=False)
    old = reading_of("K", "3.9")
    also(make, b, [old], time=send.time, later=soon(make))
    at = len(b.story.expected) - len(b.readings)
    b.story.expected[at] = replace(
        b.story.expected[at], pending="3.9", versions=2, hazard=True, planted="the correction 4.4, then the first 3.9"
    )
    return b.story


def halves_turned(make: Maker) -> Story:
    """The two messages of a specimen come in the wrong order, by two links; together they make the anion gap."""
    b = begin(make, "out of order", ("NA", "CL", "HCO3", "AGAP", "CA"), where="N")
    b.readings = [one for one in b.readings if one.test.code != "AGAP"]
    later, earlier = make.time(), make.time()
    for time, readings, when in ((later, b.readings[2:], 0), (earlier, b.readings[:2], soon(make))):
        send = make.send(b.link if when == 0 else make.link(), part_of(b, readings), time=time)
        b.story.sends.append((b.stage + when, send))
        for one in readings:
            expect(b.story, send, send.parts[0], one, b.person, planted="half of a panel, the later half first")
    add_gap(b.story, send, send.parts[0], b.readings, b)
    return b.story


def preliminary_first(make: Maker) -> Story:
    b = begin(make, "preliminary, then final", ("K", "GLU"), where="N")
    final = b.readings
    same = make.random.random() < 0.5
    values = final if same else [reading_of("K", "4.6"), reading_of("GLU", "5.1")]
    send = also(make, b, [replace(one, status="P") for one in values])
    again = also(make, b, final, time=send.time, later=soon(make))
    for one in final:
        made = expect(b.story, again, part_of(b, final), one, b.person, planted="preliminary, then final")
        b.story.expected[-1] = replace(made, versions=2)
    twin(make, b)
    return b.story


def rerun(make: Maker) -> Story:
    """A second run of the same order item, at another time."""
    kind = make.random.choice(("failed first", "same value", "other value", "critical first", "waits first"))
    b = begin(make, f"rerun: {kind}", ("K",), where="N")
    k = reading_of("K", "4.2")
    first, second = {
        "failed first": (reading_of("K", "---", "", type="ST"), k),
        "same value": (k, k),
        "other value": (k, reading_of("K", "4.9")),
        "critical first": (reading_of("K", "6.9", "HH", critical=True), k),
        "waits first": (reading_of("K", "4.8", status="W"), k),
    }[kind]
    one, other = also(make, b, [first]), also(make, b, [second], later=soon(make))
    fates: dict[str, tuple[tuple[Fate, tuple[str, ...], bool], tuple[Fate, tuple[str, ...], bool]]] = {
        "failed first": ((Fate.HELD, ("run_failed",), False), (Fate.RELEASED, (), True)),
        "same value": ((Fate.RELEASED, (), True), (Fate.WAITS, (), False)),
        "other value": ((Fate.RELEASED, (), True), (Fate.HELD, ("already_reported",), False)),
        "critical first": ((Fate.HELD, ("rule",), False), (Fate.WAITS, (), True)),
        "waits first": ((Fate.HELD, ("questionable",), False), (Fate.WAITS, (), True)),
    }
    for send, reading, (fate, reasons, reportable) in zip((one, other), (first, second), fates[kind], strict=True):
        words = f"{first.value}, then {second.value} at another time: {kind}"
        made = expect(b.story, send, send.parts[0], reading, b.person, fate, *reasons, planted=words)
        b.story.expected[-1] = replace(made, reportable=reportable)
    return b.story


def twice_in_a_message(make: Maker) -> Story:
    """Two runs of a test in one message: without anybody's asking, two values are a question for a person."""
    alike = make.random.random() < 0.5
    b = begin(make, "twice in a message", ("K", "CA"), where="N")
    first, second = reading_of("K", "4.2"), reading_of("K", "4.2" if alike else "4.7")
    times = make.time(), make.time()
    part = Part(said(b.person), b.tube.barcode, (first.row(times[0]), b.readings[1].row(), second.row(times[1])))
    send = make.send(b.link, part)
    b.story.sends.append((b.stage, send))
    expect(b.story, send, part, b.readings[1], b.person, planted="ordinary, beside it", hazard=False)
    fates = ((first, Fate.WAITS, False), (second, Fate.RELEASED if alike else Fate.WAITS, True))
    for (reading, fate, reportable), time in zip(fates, times, strict=True):
        words = f"{first.value} and {second.value} in one message"
        made = expect(b.story, send, part, reading, b.person, fate, planted=words, time=time)
        b.story.expected[-1] = replace(made, reportable=reportable)
    return b.story


def asked_rerun(make: Maker) -> Story:
    """The rules ask for another run, and release that one where they would not ask again; else a person decides."""
    b = begin(make, "rerun by rule", ("CK", "CA"), stage=make.random.randrange(3), where="N")
    b.readings[0] = reading_of("CK", "6100", "H")
    send = tell(make, b, "ordinary, beside it", hazard=False)
    at = len(b.story.expected) - 2
    answered = make.random.random() < 0.7
    b.story.expected[at] = replace(
        b.story.expected[at], fate=Fate.HELD, reasons=frozenset({"rerun"}), flags=None, hazard=True,
        reportable=not answered, planted="above 5000: another run is asked for",
    )  # fmt: skip
    if answered:
        high = make.random.random() < 0.5
        second = reading_of("CK", "6010" if high else "4900", "H")
        again = also(make, b, [second], later=1)  # what came before it was asked for is not it
        made = expect(b.story, again, again.parts[0], second, b.person, planted="the run that was asked for")
        if high:
            b.story.expected[-1] = replace(
                made, fate=Fate.HELD, reasons=frozenset({"rule"}), hazard=True, planted="above 5000 once more",
            )  # fmt: skip
    assert send.time
    return b.story


def unasked_rerun(make: Maker) -> Story:
    """The rules ask for another run, and what comes was measured before the run that it should repeat."""
    b = begin(make, "rerun by rule", ("CK",), stage=make.random.randrange(3), where="N")
    ordinary, old = b.readings, make.time()
    b.readings = [reading_of("CK", "6100", "H")]
    tell(make, b, "above 5000: another run is asked for", "rerun")
    b.story.expected[-1] = replace(b.story.expected[-1], reportable=False)
    late = also(make, b, ordinary, time=old, later=soon(make))
    words = "6100, then a run that was measured before it"
    expect(b.story, late, late.parts[0], ordinary[0], b.person, Fate.WAITS, planted=words)
    return b.story


def in_doubt_first(make: Maker) -> Story:
    """A value that may be another person's, or was cut, and then one under the tube alone: a person decides."""
    cut = make.random.random() < 0.5
    b = begin(make, "in doubt first", ("K",), where="N", link=make.link(strict=False, protocol="lis"))
    b.readings = [reading_of("K", "5.9", "H")]
    if cut:
        first = replace(make.send(b.link, part_of(b, b.readings)), cut=True)
        b.story.sends.append((b.stage, first))
        part, reason = first.parts[0], "incomplete_transmission"
        expect(b.story, first, part, b.readings[0], b.person, Fate.HELD, reason, planted="cut, not resent")
    else:
        stranger = make.person()
        tell(make, b, "another patient's", *another(b.link), who=said(stranger))
    b.story.expected[-1] = replace(b.story.expected[-1], reportable=False)
    second = make.send(b.link, Part(Said(), b.tube.barcode, (reading_of("K", "4.1").row(),)))
    b.story.sends.append((b.stage + soon(make), second))
    words = f"{'cut' if cut else 'of another patient'}: 5.9, then 4.1"
    expect(b.story, second, second.parts[0], reading_of("K", "4.1"), b.person, Fate.WAITS, planted=words)
    return b.story


def reflex(make: Maker) -> Story:
    """Thyroxine is measured because thyrotropin is high; without that it is not ordered."""
    high = make.random.random() < 0.5
    b = begin(make, "reflex", ("TSH",), stage=make.random.randrange(3), where="N")
    b.readings = [reading_of("TSH", "12.00" if high else "9.90", "H")]
    tell(make, b, "high thyrotropin", hazard=False)
    b.readings = [make.reading("FT4", b.person, "N")]
    if high:
        tell(make, b, "added by the rules", later=1)
    else:
        tell(make, b, "thyrotropin was not high enough to add it", "not_ordered", later=1)
    return b.story


def cut_short(make: Maker) -> Story:
    """The cable is pulled before the end; half the time the analyzer sends all of it again."""
    b = begin(make, "cut transmission", CHEMISTRY, link=make.link(protocol="lis"), where="N")
    whole = make.send(b.link, part_of(b, b.readings))
    begun = Part(said(b.person), b.tube.barcode, part_of(b, b.readings[:3]).rows)
    cut = replace(whole, parts=(begun,), cut=True)
    b.story.sends.append((b.stage, cut))
    again = make.random.random() < 0.5
    if again:
        b.story.sends.append((b.stage + soon(make), whole))
    for at, one in enumerate(b.readings if again else b.readings[:3]):
        if again:
            made = expect(b.story, whole, begun, one, b.person, planted="cut, then sent whole")
            b.story.expected[-1] = replace(made, versions=2 if at < 3 else 1)
        else:
            expect(b.story, cut, begun, one, b.person, Fate.HELD, "incomplete_transmission", planted="cut, not resent")
    return b.story


# ---- earlier results of the same person ----------------------------------------------------------------------------

_CHANGES = {  # test: before, what is too much, what is allowed; with the flags of either
    "K": ("3.6", ("4.9", "N"), ("4.6", "N")),
    "NA": ("136", ("145", "N"), ("144", "N")),
    "UREA": ("3.0", ("20.0", "H"), ("13.0", "H")),
    "HGB": ("13.5", ("15.6", "N"), ("15.5", "N")),
}


def _twice(make: Maker, kind: str, codes: Sequence[str], days: int, late: bool = False) -> tuple[Beginning, Tube]:
    """A person with two tubes, the first of which was collected some days before the second."""
    b = begin(make, kind, codes, stage=make.random.randrange(3), person=make.person("male"))
    first = replace(b.tube, collected=DAY - timedelta(days=days))
    b.story.setup = [(b.stage, Order(first))]
    b.tube = first
    second = make.tube(b.person, codes)
    b.story.setup.append((b.stage, Order(second)))
    if late:
        b.tube, second = second, first
    return b, second


def delta(make: Maker) -> Story:
    """Too much of a change, or just not; outside the window; and with the later specimen first."""
    code = make.random.choice(tuple(_CHANGES))
    before, much, allowed = _CHANGES[code]
    kind = make.random.choice(("too much", "too much", "just not", "long ago", "later first"))
    b, second = _twice(make, f"delta: {kind}", (code, "ALT"), 9 if kind == "long ago" else 2, kind == "later first")
    after, flag = allowed if kind == "just not" else much
    old, new = reading_of(code, before), reading_of(code, after, flag)
    b.readings = [new if kind == "later first" else old, make.reading("ALT", b.person)]
    tell(make, b, "the first to come", hazard=False)
    b.tube = second
    now = old if kind == "later first" else new
    words = f"{before} to {after}, {kind}"
    if kind in ("too much", "later first"):
        b.readings = [now]
        tell(make, b, words, "delta", later=1)
        change = () if kind == "later first" else ("U",)  # the flag of a change is the later one's
        b.story.expected[-1] = replace(b.story.expected[-1], flags=(*now.flags, *change))
        b.readings = [make.reading("ALT", b.person)]
        tell(make, b, "not compared", hazard=False, later=1)
    else:
        b.readings = [now, make.reading("ALT", b.person)]
        tell(make, b, words, hazard=False, later=1)
    return b.story


def swapped_tubes(make: Maker) -> Story:
    """Two people's tubes are swapped: by the label each is the other's, and nothing in the message says so."""
    codes = ("NA", "K", "UREA")
    one, one_now = _twice(make, "swapped tubes", codes, 2)
    other, other_now = _twice(make, "swapped tubes", codes, 2)
    one.readings = [reading_of("NA", "136"), reading_of("K", "3.6"), reading_of("UREA", "3.0")]
    other.readings = [reading_of("NA", "146", "H"), reading_of("K", "4.9"), reading_of("UREA", "20.0", "H")]
    stage = other.stage = one.stage
    one.story.setup = [(stage, step) for _, step in (*one.story.setup, *other.story.setup)]
    other.story = one.story
    for b in (one, other):
        tell(make, b, "each person's own", hazard=False)
    one.tube, other.tube = one_now, other_now
    one.readings, other.readings = other.readings, one.readings
    for b in (one, other):
        words = "the other person's, by a swapped tube"
        who = make.random.choice((said(b.person), Said()))
        tell(make, b, words, "delta", who=who, later=1)
    return one.story


def swapped_blood_counts(make: Maker) -> Story:
    """Of a blood count only haemoglobin is compared; what is linked with it is held with it."""
    codes = ("HGB", "WBC", "PLT")
    b, second = _twice(make, "swapped tubes", codes, 2)
    b.readings = [reading_of("HGB", "13.5"), *make.readings(codes[1:], b.person, "N")]
    tell(make, b, "the person's own", hazard=False)
    b.tube = second
    strange = [reading_of("HGB", "17.0"), *make.readings(codes[1:], b.person, "N")]
    part = part_of(b, strange)
    send = make.send(b.link, part)
    b.story.sends.append((b.stage + 1, send))
    for one in strange:
        reason = "delta" if one.test.code == "HGB" else "rule"
        expect(b.story, send, part, one, b.person, Fate.HELD, reason, planted="another person's, by a swapped tube")
    return b.story
