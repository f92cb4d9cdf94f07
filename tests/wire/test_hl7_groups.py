"""Which segments of an HL7 message belong together: by the standard's structures, and whatever order they come in."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.wire.hl7 import Message, parse
from interface.wire.hl7_groups import Group, group, structure
from interface.wire.hl7_structures import BY_SPECIMEN, OTHERS, STRUCTURES, Part


def message(kind: str, segments: str) -> Message:
    """Segments by their ids; `ORC=NW` has a first field."""
    lines = [f"{one.partition('=')[0]}|{one.partition('=')[2]}" for one in segments.split()]
    return parse("\r".join([f"MSH|^~\\&|A||||||{kind}|1|P|2.5.1", *lines]) + "\r")


def shape(at: Group) -> str:
    """The tree on one line, without the message's own name."""
    parts = [f"{one.part}({shape(one)})" if isinstance(one, Group) else one.id for one in at.items]
    return " ".join(parts)


ORDERS = "patient_group(patient(PID) order({}))"


@pytest.mark.parametrize(
    ("kind", "segments", "expected"),
    [
        pytest.param(  # HL7 v2.3.1 7.2.1
            "ORU^R01", "PID PD1 NK1 NTE PV1 PV2 ORC OBR NTE OBX NTE OBX CTI OBR OBX DSC",
            "MSH patient_group(patient(PID PD1 NK1 NTE visit(PV1 PV2))"
            " order(ORC OBR NTE observation(OBX NTE) observation(OBX) CTI) order(OBR observation(OBX))) DSC",
            id="ORU_R01 of 2.3.1",
        ),
        pytest.param(  # HL7 v2.5.1 7.3.1
            "ORU^R01^ORU_R01", "SFT PID PV1 ORC OBR TQ1 TQ2 CTD OBX NTE OBX FT1 CTI SPM OBX OBX SPM PID OBR OBX",
            "MSH SFT patient_group(patient(PID visit(PV1)) order(ORC OBR timing(TQ1 TQ2) CTD observation(OBX NTE)"
            " observation(OBX) FT1 CTI specimen(SPM specimen_observation(OBX) specimen_observation(OBX))"
            " specimen(SPM))) patient_group(patient(PID) order(OBR observation(OBX)))",
            id="ORU_R01 of 2.5.1: OBX behind SPM describe the specimen",
        ),
        pytest.param(
            "ORU^R32^ORU_R30", "PID PD1 OBX PV1 ORC OBR NTE TQ1 OBX NTE",
            "MSH patient_group(patient(PID PD1 patient_observation(OBX) visit(PV1))"
            " order(ORC OBR NTE timing(TQ1) observation(OBX NTE)))",
            id="ORU_R30",
        ),
        pytest.param(  # HL7 v2.5.1 7.3.2
            "OUL^R22^OUL_R22", "NTE PID PV1 SPM OBX SAC INV OBR ORC NTE TQ1 OBX TCD SID NTE OBX CTI SPM SAC OBR OBX",
            "MSH NTE patient_group(patient(PID visit(PV1)) specimen(SPM specimen_observation(OBX) container(SAC INV)"
            " order(OBR ORC NTE timing(TQ1) observation(OBX TCD SID NTE) observation(OBX) CTI))"
            " specimen(SPM container(SAC) order(OBR observation(OBX))))",
            id="OUL_R22",
        ),
        pytest.param(
            "OUL^R22^OUL_R22", "SPM SAC OBR ORC TQ1 OBX OBX TCD INV INV OBX OBX",
            "MSH patient_group(specimen(SPM container(SAC) order(OBR ORC timing(TQ1) observation(OBX)"
            " observation(OBX TCD INV INV) observation(OBX) observation(OBX))))",
            id="OUL_R22 with INV between OBX, and without a patient",
        ),
        pytest.param(
            "OUL^R21^OUL_R21", "PID SAC ORC OBR OBX TCD SAC OBR OBX",
            "MSH patient_group(patient(PID) specimen(container(SAC) order(ORC OBR observation(OBX TCD)) container(SAC)"
            " order(OBR observation(OBX))))",
            id="OUL_R21: a container is its orders'",
        ),
        pytest.param(
            "OUL^R23^OUL_R23", "SPM OBX SAC OBR OBX SAC OBR OBX",
            "MSH patient_group(specimen(SPM specimen_observation(OBX) container(SAC) order(OBR observation(OBX))"
            " container(SAC) order(OBR observation(OBX))))",
            id="OUL_R23",
        ),
        pytest.param(
            "OUL^R24^OUL_R24", "PID OBR ORC SPM SAC INV OBX TCD NTE OBR OBX SPM OBX",
            "MSH patient_group(patient(PID) order(OBR ORC specimen(SPM container(SAC INV)) observation(OBX TCD NTE))"
            " order(OBR observation(OBX) specimen(SPM specimen_observation(OBX))))",
            id="OUL_R24",
        ),
        pytest.param(  # HL7 v2.5.1 4.4.6
            "OML^O21^OML_O21", "PID PV1 ORC=NW TQ1 OBR NTE DG1 OBX SPM SAC OBX ORC=NW OBR FT1 BLG",
            "MSH patient_group(patient(PID visit(PV1)) order(ORC timing(TQ1) OBR NTE DG1 observation(OBX)"
            " specimen(SPM container(SAC specimen_observation(OBX)))) order(ORC OBR FT1 BLG))",
            id="OML_O21",
        ),
        pytest.param(
            "OML^O33^OML_O33", "PID SPM OBX SAC ORC=NW TQ1 OBR TCD ORC=NW OBR SPM SAC ORC=DC",
            "MSH patient_group(patient(PID) specimen(SPM specimen_observation(OBX) container(SAC)"
            " order(ORC timing(TQ1) OBR TCD) order(ORC OBR)) specimen(SPM container(SAC) order(ORC)))",
            id="OML_O33",
        ),
        pytest.param(
            "ORM^O01", "NTE PID PV1 IN1 IN2 GT1 AL1 ORC OBR NTE DG1 OBX NTE ORC OBR",
            "MSH NTE patient_group(patient(PID visit(PV1) insurance(IN1 IN2) GT1 AL1)"
            " order(ORC OBR NTE DG1 observation(OBX NTE)) order(ORC OBR))",
            id="ORM_O01",
        ),
        pytest.param(
            "ORL^O34^ORL_O42", "MSA ERR SPM SAC ORC TQ1 OBR ORC OBR SPM ORC",
            "MSH MSA ERR patient_group(specimen(SPM container(SAC) order(ORC timing(TQ1) OBR) order(ORC OBR))"
            " specimen(SPM order(ORC)))",
            id="ORL_O42",
        ),
        pytest.param(
            "ORL^O34^ORL_O34", "MSA PID SPM ORC", "MSH MSA patient_group(patient(PID) specimen(SPM order(ORC)))"
        ),
        pytest.param("ORR^O02", "MSA NTE PID ORC OBR", f"MSH MSA NTE {ORDERS.format('ORC OBR')}"),
        pytest.param("QBP^Q11^QBP_Q11", "SFT QPD RCP DSC", "MSH SFT QPD RCP DSC"),
        pytest.param("QBP^Z03^QBP_Z03", "QPD RCP", "MSH QPD RCP"),
        pytest.param("RSP^K11^RSP_K11", "MSA QAK QPD RDF RDT RDT", "MSH MSA QAK QPD row_definition(RDF RDT RDT)"),
        pytest.param(
            "RSP^K22^RSP_K22", "MSA QAK QPD PID PD1 QRI PID QRI DSC",
            "MSH MSA QAK QPD patient_group(patient(PID PD1 QRI)) patient_group(patient(PID QRI)) DSC",
        ),
        pytest.param("RSP^K23", "MSA QAK QPD PID", "MSH MSA QAK QPD patient_group(patient(PID))"),
        pytest.param("QRY^Q02", "QRD QRF", "MSH QRD QRF"),
        pytest.param("QCK^Q02", "MSA ERR QAK", "MSH MSA ERR QAK"),
        pytest.param("DSR^Q03", "MSA ERR QAK QRD QRF DSP DSP DSC", "MSH MSA ERR QAK QRD QRF DSP DSP DSC"),
        pytest.param("ACK^R01^ACK", "SFT MSA ERR", "MSH SFT MSA ERR"),
        pytest.param(
            "ADT^A01^ADT_A01", "EVN PID PD1 NK1 PV1 PV2 DB1 OBX AL1 DG1 PR1 ROL GT1 IN1 IN2 ACC PDA",
            "MSH EVN patient_group(patient(PID PD1 NK1 visit(PV1 PV2) DB1 patient_observation(OBX) AL1 DG1"
            " procedure(PR1 ROL) GT1 insurance(IN1 IN2) ACC PDA))",
        ),
        pytest.param(
            "ADT^A40^ADT_A39", "EVN PID PD1 MRG PID MRG PV1",
            "MSH EVN patient_group(patient(PID PD1 MRG)) patient_group(patient(PID MRG visit(PV1)))",
        ),
    ],
)  # fmt: skip
def test_a_message_is_grouped_as_its_structure_says(kind: str, segments: str, expected: str) -> None:
    assert shape(group(message(kind, segments))) == expected


@pytest.mark.parametrize(
    ("kind", "segments", "expected"),
    [
        ("ORU^R01", "PID OBR SPM OBX OBX", ORDERS.format("OBR specimen(SPM) observation(OBX) observation(OBX)")),
        (
            "ORU^R01", "PID OBR ORC OBX ORC OBR OBX",
            "patient_group(patient(PID) order(OBR ORC observation(OBX)) order(ORC OBR observation(OBX)))",
        ),
        ("ORU^R01", "PID OBR ORC OBR OBX", "patient_group(patient(PID) order(OBR) order(ORC OBR observation(OBX)))"),
        ("ORU^R01", "PID OBR OBX ZZ1 NTE PV1 OBX", ORDERS.format("OBR observation(OBX ZZ1 NTE PV1) observation(OBX)")),
        (
            "ORU^R01", "PID OBR OBX FT1 OBX SPM FT1 SPM OBX",
            ORDERS.format("OBR observation(OBX) FT1 observation(OBX) specimen(SPM) FT1"
                          " specimen(SPM specimen_observation(OBX))"),
        ),
        ("ORU^R01", "PV1 PID OBR OBX", "patient_group(visit(PV1)) " + ORDERS.format("OBR observation(OBX)")),
        ("ORU^R01", "OBX OBR OBX", "patient_group(order(observation(OBX)) order(OBR observation(OBX)))"),
        (
            "ORU^R01", "PID SPM OBR OBX SPM OBR OBX",
            "patient_group(patient(PID) specimen(SPM order(OBR observation(OBX)))"
            " specimen(SPM order(OBR observation(OBX))))",
        ),
        (
            "ORU^R01", "PID OBR OBX DSC PID OBR OBX",
            f"{ORDERS.format('OBR observation(OBX)')} DSC {ORDERS.format('OBR observation(OBX)')}",
        ),
        (
            "OUL^R22", "ORC OBR OBX ORC OBR OBX",
            "patient_group(specimen(order(ORC OBR observation(OBX)) order(ORC OBR observation(OBX))))",
        ),
        (
            "OUL^R22", "OBR OBX SPM OBR OBX",
            "patient_group(specimen(order(OBR observation(OBX))) specimen(SPM order(OBR observation(OBX))))",
        ),
        (
            "OML^O21", "PID SPM ORC OBR SPM ORC OBR",
            "patient_group(patient(PID) specimen(SPM order(ORC OBR)) specimen(SPM order(ORC OBR)))",
        ),
        ("ZZZ^Z99", "PID OBR OBX ZZZ", ORDERS.format("OBR observation(OBX ZZZ)")),
        ("", "OBX", "patient_group(order(observation(OBX)))"),
    ],
)  # fmt: skip
def test_what_stands_elsewhere_ends_nothing_and_takes_no_result_from_its_order(
    kind: str, segments: str, expected: str
) -> None:
    assert shape(group(message(kind, segments))) == f"MSH {expected}"


PRIOR = "PID ORC=NW OBR PID PV1 ORC={} OBR OBX"


def test_prior_results_stand_below_the_order_they_come_with() -> None:
    tree = group(message("OML^O21", PRIOR.format("PR") + " OBR OBX ORC=NW OBR"))
    first, second = tree.find(Part.ORDER)
    (prior,) = first.groups(Part.PRIOR_RESULT)
    assert shape(prior) == "PID visit(PV1) order(ORC OBR observation(OBX)) order(OBR observation(OBX))"
    assert shape(second) == "ORC OBR", "an ORC that asks for something is no prior order"


def test_a_second_patient_with_work_of_its_own_is_no_prior_result_of_the_first() -> None:
    tree = group(message("OML^O21", PRIOR.format("NW")))
    assert [shape(one) for one in tree.groups(Part.PATIENT_GROUP)] == [
        "patient(PID) order(ORC OBR)",
        "patient(PID visit(PV1)) order(ORC OBR observation(OBX))",
    ]
    assert not list(tree.find(Part.PRIOR_RESULT))


def test_a_tree_is_asked_for_its_parts() -> None:
    tree = group(message("ORU^R01", "PID OBR OBX=1 NTE=a NTE=b OBX=2"))
    order = next(tree.find(Part.ORDER))
    assert [one.field(1) for at in order.groups(Part.OBSERVATION) for one in at.own("NTE")] == ["a", "b"]
    assert order.first("OBR") is not None
    assert order.first("SPM") is None
    assert (tree.part, tree.by_specimen, group(message("OUL^R22", "SPM")).by_specimen) == (Part.MESSAGE, False, True)


IDS = (
    "PID PD1 NTE NK1 PV1 PV2 ORC OBR OBX SPM SAC INV TCD SID TQ1 TQ2 DG1 FT1 CTI DSC MSA ERR QPD QAK QRD DSP MRG EVN "
    "ZZZ ORC=NW ORC=PR MSH IN1 PR1 AL1 GT1"
).split()
KINDS = sorted({*STRUCTURES, "ORU^R01", "OUL^R22", "OML^O21", "ZZZ^Z01", ""})


@given(st.sampled_from(KINDS), st.lists(st.sampled_from(IDS), max_size=40))
def test_no_segment_is_lost_or_doubled_or_moved_whatever_comes(kind: str, segments: list[str]) -> None:
    read = message(kind, " ".join(segments))
    tree = group(read)
    assert list(map(id, tree.segments())) == list(map(id, read.segments))


RESULTS = ("ORU^R01", "ORU^R30", "OUL^R21", "OUL^R22", "OUL^R24", "OML^O21", "OML^O33", "ORM^O01", "ZZZ^Z01")
OF_RESULTS = (Part.OBSERVATION, Part.SPECIMEN_OBSERVATION, Part.PATIENT_OBSERVATION)


@given(st.sampled_from(RESULTS), st.lists(st.sampled_from(IDS), max_size=40))
def test_every_result_has_a_group_of_its_own_and_no_group_two_patients_orders_or_specimens(
    kind: str, segments: list[str]
) -> None:
    def check(at: Group) -> None:
        own = [item.id for item in at.items if not isinstance(item, Group)]
        assert own.count("OBX") == (at.part in OF_RESULTS)
        assert all(own.count(name) <= 1 for name in ("PID", "OBR", "SPM"))
        assert sum(1 for _ in at.groups(Part.PATIENT)) <= 1
        for item in at.items:
            if isinstance(item, Group):
                check(item)

    check(group(message(kind, " ".join(segments))))


@given(st.binary(max_size=200))
def test_any_bytes_that_can_be_read_can_be_grouped(data: bytes) -> None:
    read = parse(b"MSH|^~\\&|A||||||ORU^R01|1\r" + data)
    assert list(map(id, group(read).segments())) == list(map(id, read.segments))


def test_the_short_way_for_results_finds_what_the_search_finds() -> None:
    plain = group(message("ORU^R01", "PID OBR OBX OBX OBX SPM OBX OBX"))
    commented = group(message("ORU^R01", "PID OBR OBX NTE OBX NTE OBX NTE SPM OBX NTE OBX NTE"))
    assert shape(plain) == shape(commented).replace(" NTE", "")


LONG_KINDS = ("ORU^R01", "OUL^R22", "OML^O21", "OML^O33")
REPEATED = ("OBX", "OBR OBX", "ORC OBR", "PID", "PID ORC", "SPM", "SAC", "NTE", "ZZZ", "TQ1 ORC")


@pytest.mark.parametrize(
    ("kind", "segments"),
    [
        pytest.param(kind, segments, marks=() if at % len(LONG_KINDS) == number else pytest.mark.long)
        for number, kind in enumerate(LONG_KINDS)
        for at, segments in enumerate(REPEATED)
    ],
)
def test_a_long_message_takes_no_longer_than_its_length(kind: str, segments: str) -> None:
    read = message(kind, f"PID ORC=NW OBR {' '.join([segments] * (20_000 // len(segments.split())))}")
    began = process_time()
    tree = group(read)
    assert process_time() - began < 10.0
    assert sum(1 for _ in tree.segments()) == len(read.segments)


def test_every_structure_can_be_reached() -> None:
    assert set(BY_SPECIMEN) <= {*STRUCTURES.values(), OTHERS}
    assert structure(message("ZZZ^Z01", "OBR")) is OTHERS
    assert structure(message("oul^r22", "")) is STRUCTURES["OUL"]
