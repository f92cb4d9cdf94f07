"""Everything is told to who asks for everything: nobody does who names a patient, or one id and then nothing."""

from __future__ import annotations

import pytest

from interface.domain.model import Query
from interface.driver import registry


def asked(driver: str, text: str) -> Query:
    (query,) = registry.decode(registry.load(driver), text.encode()).queries
    return query


@pytest.mark.parametrize(
    ("said", "ids", "everything", "patient"),
    [
        ("", (), True, ""),
        ("^^", (), True, ""),
        ("ALL", (), True, ""),
        ("^ALL", (), True, ""),
        ("P-1^^", (), False, "P-1"),
        ("^S-1^", ("S-1",), False, ""),
        ("^S-1@^", ("S-1",), False, ""),
    ],
)
def test_by_a_genexpert_in_lis2(said: str, ids: tuple[str, ...], everything: bool, patient: str) -> None:
    query = asked(
        "cepheid_genexpert",
        f"H|@^\\|C1||    ^GeneXpert^6.5|||||LIS||P|1394-97|20260105\rQ|1|{said}||||||||||O\rL|1|N\r",
    )
    assert (query.specimen_ids, query.all, query.patient_id) == (ids, everything, patient)


@pytest.mark.parametrize(
    ("said", "ids", "everything", "patient"),
    [
        ("ALL", (), True, ""),
        ("|ALL", (), True, ""),
        ("P-1|S-1", ("S-1",), False, "P-1"),
        ("|S-1~", ("S-1",), False, ""),
        ("P-1|", (), False, "P-1"),
        ("|", (), False, ""),
    ],
)
def test_by_a_genexpert_in_hl7(said: str, ids: tuple[str, ...], everything: bool, patient: str) -> None:
    text = f"MSH|^~\\&|^GeneXpert||LIS||20260105||QBP^Z03|C1|P|2.5\rQPD|Z03^HOST QUERY|T1|{said}\rRCP|I\r"
    query = asked("cepheid_genexpert_hl7", text)
    assert (query.specimen_ids, query.all, query.patient_id) == (ids, everything, patient)
