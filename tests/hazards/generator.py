"""A plan of so many results from a seed: every class of hazards in turn, healthy messages between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tests.hazards import identity, mixed, runs, values
from tests.hazards.book import SWITCHED, SWITCHED_ANALYZER, SWITCHED_STAGE
from tests.hazards.making import STAGES, Maker, Story, begin, healthy
from tests.hazards.plan import Plan, Send, Setup, Stage, Switch

LANES = 6  # messages under way at once
HEALTHY = 0.3  # of all results at least so many are of healthy messages

CLASSES: tuple[Callable[[Maker], Story], ...] = (
    identity.wrong_patient_id, identity.wrong_birth_date, identity.wrong_sex, identity.nothing_said,
    identity.other_name, identity.two_in_one_message, identity.closed_specimen, identity.barcode_used_again,
    identity.outside_window, identity.two_open_specimens, identity.control_like, identity.unknown_specimen,
    identity.not_ordered, identity.merged, identity.aliquot, identity.newborn, identity.unknown_sex,
    values.unmapped_code, values.unknown_unit, values.converted, values.rounded, values.on_the_limit,
    values.critical_value, values.failed_run, values.unreadable, values.words, values.off_scale,
    values.measuring_range, values.diluted, values.below_zero,
    values.too_large, values.absurd, values.haemolysis, values.inconsistent, values.linked, values.doubted,
    values.without_control, values.switched_off, values.controls, values.anion_gap,
    runs.resent, runs.changed_before, runs.changed_after, runs.corrected_late, runs.halves_turned,
    runs.preliminary_first, runs.rerun, runs.twice_in_a_message, runs.asked_rerun, runs.unasked_rerun,
    runs.in_doubt_first, runs.reflex, runs.cut_short, runs.delta, runs.swapped_tubes, runs.swapped_blood_counts,
    mixed.several, mixed.before_its_order, mixed.cancelled, mixed.without_a_clock, mixed.unmerged, mixed.two_links,
    mixed.one_patient_two_tubes, mixed.prefixed, mixed.analyzer_off, mixed.index_needed, mixed.held_inputs,
    mixed.repeated_value, mixed.escaped, mixed.accents, mixed.not_collected, mixed.wrong_clock,
    mixed.other_link, mixed.judged_again,
)  # fmt: skip
PANELS = (
    ("NA", "K", "CL", "HCO3", "GLU", "CREA", "UREA", "CA", "TP", "ALT", "CK", "CRP", "TBIL", "DBIL"),
    ("HGB", "HCT", "WBC", "PLT"),
    ("TSH", "FT4", "ALP", "GGT", "HBSAG", "MALA", "CULT", "ANA"),
)


def plan(seed: int, results: int) -> Plan:
    """So many results, as sent; the same seed makes the same plan."""
    make = Maker(seed)
    stories: list[Story] = []
    sent = of_healthy = 0
    order = list(CLASSES)
    make.random.shuffle(order)
    while True:
        for hazard in order:
            story = hazard(make)
            if sent + story.results > results - len(PANELS[0]):
                missing = results - sent
                while missing:
                    take = min(missing, len(PANELS[0]))
                    stories.append(_ordinary(make, PANELS[0][:take]))
                    missing -= take
                return _planned(seed, make, stories)
            stories.append(story)
            sent += story.results
            while of_healthy < HEALTHY * sent and sent <= results - len(PANELS[0]):
                ordinary = _ordinary(make, make.random.choice(PANELS))
                stories.append(ordinary)
                of_healthy += ordinary.results
                sent += ordinary.results


def _ordinary(make: Maker, codes: Sequence[str]) -> Story:
    b = begin(make, "healthy", codes)
    healthy(b.story, make, b.link, b.stage, b.tube, b.readings, "a healthy message")
    return b.story


def _planned(seed: int, make: Maker, stories: Sequence[Story]) -> Plan:
    """The stories woven into each other: whichever order, each keeps its own."""
    stages = []
    for number in range(STAGES):
        setup = [step for story in stories for at, step in story.setup if at == number]
        lanes: list[list[Send]] = [[] for _ in range(LANES)]
        for lane, queue in enumerate(_dealt(make, stories, number)):
            lanes[lane] = _woven(make, queue)
        stages.append(Stage((*_switches(number), *setup), tuple(map(tuple, lanes))))
    return Plan(
        seed, tuple(stages), tuple(one for story in stories for one in story.expected),
        sum(story.controls for story in stories), sum(story.duplicates for story in stories),
        sum(story.results for story in stories),
    )  # fmt: skip


def _switches(stage: int) -> Iterable[Setup]:
    """Off while the third stage is decided."""
    off = stage == SWITCHED_STAGE
    switches = (Switch(SWITCHED, off), Switch(SWITCHED_ANALYZER, off, analyzer=True))
    return switches if stage in (SWITCHED_STAGE, SWITCHED_STAGE + 1) else ()


def _dealt(make: Maker, stories: Sequence[Story], stage: int) -> list[list[list[Send]]]:
    lanes: list[list[list[Send]]] = [[] for _ in range(LANES)]
    for story in stories:
        sends = [send for at, send in story.sends if at == stage]
        for queue in [[send] for send in sends] if story.apart else [sends] if sends else []:
            make.random.choice(lanes).append(queue)
    return lanes


def _woven(make: Maker, queues: list[list[Send]]) -> list[Send]:
    """One sequence of all, in which each queue keeps its order."""
    order = [number for number, queue in enumerate(queues) for _ in queue]
    make.random.shuffle(order)
    heads = [iter(queue) for queue in queues]
    return [next(heads[number]) for number in order]
