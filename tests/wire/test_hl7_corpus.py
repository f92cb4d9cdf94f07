"""Real HL7 messages that nobody here wrote, grouped: nothing lost, as many patients, orders and results as counted."""

from __future__ import annotations

import pytest

from interface.driver.capture import read_capture
from interface.wire.hl7 import parse
from interface.wire.hl7_groups import Group, group
from interface.wire.hl7_structures import Part
from tests.corpus import files, manifest, read

# file: how many orders it has by MANIFEST.tsv though it has no OBR
DISPLAY_LINES = {"hl7/mindray-cl1000i-dsr-q03.hl7": 3}


def trees(file: str) -> list[Group]:
    return [group(parse(message.text)) for message in read_capture(read(file))]


@pytest.mark.parametrize("file", files("hl7"))
def test_every_capture_is_a_tree_whose_leaves_are_its_segments_in_order(file: str) -> None:
    for message in read_capture(read(file)):
        parsed = parse(message.text)
        assert list(map(id, group(parsed).segments())) == list(map(id, parsed.segments))


@pytest.mark.parametrize("file", files("hl7"))
def test_orders_and_results_are_as_many_as_counted_and_each_is_a_group(file: str) -> None:
    listed = manifest()[file]
    orders = results = 0
    for tree in trees(file):
        ids = [segment.id for segment in tree.segments()]
        orders += ids.count("OBR")
        results += ids.count("OBX")
        found = [one for part in Part for one in _all(tree, part)]
        assert sum(1 for one in found if one.part is Part.ORDER and one.first("OBR")) == ids.count("OBR")
        kinds = (Part.OBSERVATION, Part.SPECIMEN_OBSERVATION, Part.PATIENT_OBSERVATION)
        assert sum(1 for one in found if one.part in kinds) == ids.count("OBX")
        assert sum(1 for one in found if one.part is Part.PATIENT and one.first("PID")) == ids.count("PID")
        assert sum(1 for one in found if one.part is Part.SPECIMEN and one.first("SPM")) == ids.count("SPM")
    assert (orders or DISPLAY_LINES.get(file, 0), results) == (listed.orders, listed.results)


def _all(at: Group, part: Part) -> list[Group]:
    """Every group of a kind, at any depth."""
    found = [at] if at.part is part else []
    return found + [one for item in at.items if isinstance(item, Group) for one in _all(item, part)]


def test_a_specimen_centred_run_keeps_each_result_with_its_specimen() -> None:
    (tree,) = trees("hl7/roche-cobas4800-run.hl7")
    specimens = list(tree.find(Part.SPECIMEN))
    assert [sum(1 for _ in one.find(Part.OBSERVATION)) for one in specimens] == [2] * 5
    assert [sum(1 for _ in one.find(Part.CONTAINER)) for one in specimens] == [1] * 5


def test_two_orders_for_one_specimen_are_not_merged() -> None:
    (tree,) = trees("hl7/nhapi-law-oml-o33-two-tests.hl7")
    (specimen,) = tree.find(Part.SPECIMEN)
    assert [[one.id for one in order.segments()] for order in specimen.groups(Part.ORDER)] == [["ORC", "OBR"]] * 2
