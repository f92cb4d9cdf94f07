"""Every driver folder counts, and its vectors read the same however the bytes arrive (DESIGN §7)."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interface.driver import proof, registry
from interface.driver.capture import read_capture
from interface.driver.describe import describe
from interface.driver.manifest import Driver, Feature, Tier
from interface.driver.receiving import ALL_SPLITS_BYTES, received, split_places
from interface.driver.registry import Vector
from interface.errors import DriverError
from interface.wire.trace import Direction, parse_trace

FEW_SPLITS_BYTES = 128
DRIVERS = registry.find_all()
VECTORS = [
    pytest.param(driver, vector, id=f"{driver.id}/{vector.name}")
    for driver in DRIVERS
    for vector in registry.vectors(driver.id)
]


def expected_of(vector: Vector) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(vector.expected.read_text(encoding="utf-8"))
    return loaded


FIRST = [pytest.param(one, registry.vectors(one.id)[0], id=one.id) for one in DRIVERS]


@pytest.mark.parametrize(("driver", "vector"), FIRST)
def test_a_drivers_first_vector_decodes_as_expected_at_every_split(driver: Driver, vector: Vector) -> None:
    assert list(proof.vector_faults(driver, vector)) == []


@pytest.mark.parametrize(("driver", "vector"), VECTORS)
def test_a_vector_decodes_as_expected_whole_byte_by_byte_and_split(
    driver: Driver, vector: Vector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over its link and as a capture; what the host says in it is sound, and written again from its worklist.

    It is cut around its control characters and at places spread over it; see below for all places.
    """
    monkeypatch.setattr("interface.driver.receiving.ALL_SPLITS_BYTES", FEW_SPLITS_BYTES)
    assert list(proof.vector_faults(driver, vector)) == []


@pytest.mark.long
@pytest.mark.parametrize(("driver", "vector"), VECTORS)
def test_a_vector_decodes_as_expected_at_every_split(driver: Driver, vector: Vector) -> None:
    """With `test_a_driver_counts` it is all that `labora driver test --all` does."""
    assert list(proof.vector_faults(driver, vector)) == []


@pytest.mark.parametrize(("driver", "vector"), VECTORS)
def test_a_vector_speaks_of_no_real_person(driver: Driver, vector: Vector) -> None:
    first = vector.trace.read_text(encoding="utf-8").splitlines()[0]
    assert "No real person" in first
    for message in expected_of(vector):
        for patient in message["patients"]:
            assert patient["patient_id"].startswith("TEST-") or patient["patient_id"] == ""


@pytest.mark.parametrize("driver", [d for d in DRIVERS if not d.generic], ids=lambda d: d.id)
def test_a_driver_counts(driver: Driver) -> None:
    """A named document or capture, evidence per code, the cases, and a vector that fails under the generic driver."""
    assert list(proof.driver_faults(driver, registry.vectors(driver.id))) == []
    assert driver.tier is not Tier.SITE_VALIDATED, "that is for a site to say"


def test_a_tampered_value_is_noticed() -> None:
    driver = registry.load("sysmex_xn")
    vector = next(v for v in registry.vectors("sysmex_xn") if v.name == "result-1")
    (message,) = read_capture(vector.trace.read_bytes())
    tampered = message.text.replace(b"|13.9|", b"|13.8|")
    assert tampered != message.text
    assert [describe(registry.decode(driver, tampered))] != expected_of(vector)


def test_controls_are_never_patients() -> None:
    for driver in DRIVERS:
        for vector in registry.vectors(driver.id):
            if vector.name == "qc":
                roles = {s["role"] for message in expected_of(vector) for s in message["specimens"]}
                assert roles == {"qc"}, driver.id


def test_every_folder_is_found_and_a_sites_own_comes_first(tmp_path: Path) -> None:
    packaged = registry.packaged_path()
    assert {driver.id for driver in DRIVERS} == {f.name for f in packaged.iterdir() if (f / "driver.toml").is_file()}
    mine = tmp_path / "sysmex_xn"
    mine.mkdir()
    text = (packaged / "sysmex_xn" / "driver.toml").read_text(encoding="utf-8")
    (mine / "driver.toml").write_text(text.replace('revision = "1"', 'revision = "1-mine"', 1), encoding="utf-8")
    assert registry.load("sysmex_xn", [tmp_path]).revision == "1-mine"
    assert registry.load("sysmex_xn") == replace(registry.load("sysmex_xn"), revision="1")


# ---- that the proof fails when it should ----------------------------------------------------------------------------


def copied(tmp_path: Path, driver_id: str = "sysmex_xn") -> Path:
    return shutil.copytree(registry.packaged_path() / driver_id, tmp_path / driver_id)


def faults(tmp_path: Path, driver_id: str = "sysmex_xn") -> list[str]:
    """What the proof finds; cut at few places, which are not the subject here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interface.driver.receiving.ALL_SPLITS_BYTES", FEW_SPLITS_BYTES)
        return _faults(tmp_path, driver_id)


def _faults(tmp_path: Path, driver_id: str) -> list[str]:
    return [f"{one.vector}: {one.difference}" for one in proof.run_vectors(driver_id, [tmp_path]) if not one.passed]


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_copy_of_a_packaged_driver_passes(tmp_path: Path) -> None:
    copied(tmp_path)
    assert faults(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("vectors/qc.expected.json", '"role": "qc"', '"role": "patient"', "qc: [0].specimens[0].role: expected"),
        ("driver.toml", 'H = "H"', "", "-: "),
        ("driver.toml", 'evidence = ["corpus', 'unverified = ["corpus', "evidence"),
        ("driver.toml", "HFLC%", "HFLC", "-: no source is named in [[codes]] for HFLC%"),
        ("driver.toml", "{tests}|||||||N", "{tests}|||||||A", "query-with-orders: the answer differs at character"),
        ("driver.toml", "^\\s*XN-", "^\\s*XT-", "its header is taken for generic_lis2"),
        ("vectors/query-with-orders.work.json", '"WBC",', "", "query-with-orders: the answer differs at character"),
        ("vectors/result-1.expected.json", '"value": "13.9"', '"value": "13.8"', "result-1: [0].specimens[0].results["),
        ("vectors/query-with-orders.trace", "P|1|||TEST-0001", "P|1|||TEST-0002", "what the host says cannot be read"),
    ],
)
def test_a_fault_planted_in_a_driver_is_found_and_located(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    folder = copied(tmp_path)
    edit(folder / file, old, new)
    try:
        found = faults(tmp_path)
    except DriverError as error:
        found = [str(error)]
    if old == 'H = "H"':  # a flag that the table lacks holds, which the public shape does not show
        assert found == []
        return
    assert any(said in one for one in found), found


def test_a_vector_that_is_missing_is_named_unless_the_analyzer_lacks_the_feature(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for file in (folder / "vectors").glob("rerun.*"):
        file.unlink()
    assert faults(tmp_path) == ["-: there is no vector rerun, and the driver does not say that the analyzer lacks it"]
    edit(folder / "driver.toml", 'encoding = "latin-1"', 'encoding = "latin-1"\nlacks = ["rerun"]')
    assert faults(tmp_path) == []
    assert registry.load("sysmex_xn", [tmp_path]).lacks == frozenset({Feature.RERUN})


def test_a_driver_that_says_no_more_than_the_generic_one_does_not_count(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    text = (registry.packaged_path() / "generic_lis2" / "driver.toml").read_text(encoding="utf-8")
    for old, new in (
        ('id = "generic_lis2"', 'id = "sysmex_xn"\nlacks = ["qc", "rerun", "query", "retransmission"]'),
        ("generic = true", "\n[match]\n'H.5.1' = '^\\s*XN-'"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "driver.toml").write_text(text, encoding="utf-8")
    for file in (folder / "vectors").iterdir():
        if not file.name.startswith("result-1"):
            file.unlink()
    generic = registry.load("generic_lis2")
    (message,) = read_capture((folder / "vectors" / "result-1.trace").read_bytes())
    described = [describe(registry.decode(generic, message.text))]
    (folder / "vectors" / "result-1.expected.json").write_text(json.dumps(described), encoding="utf-8")
    assert "-: every vector reads the same under generic_lis2" in faults(tmp_path)


def test_splits_are_everywhere_to_four_kilobytes_and_around_control_characters_above() -> None:
    assert split_places(bytes(ALL_SPLITS_BYTES)) == list(range(1, ALL_SPLITS_BYTES))
    large = b"x" * 9000 + b"\x02" + b"x" * 9000
    places = split_places(large)
    assert {8998, 8999, 9000, 9001, 9002} <= set(places)
    assert 200 <= len(places) <= 210
    assert places == split_places(large)


def test_a_receiver_that_depends_on_how_bytes_arrive_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = registry.load("sysmex_xn")
    vector = next(one for one in registry.vectors("sysmex_xn") if one.name == "result-1")
    data = parse_trace(vector.trace.read_text(encoding="utf-8")).bytes_of(Direction.ANALYZER)

    def torn(driver: Driver, chunks: Any) -> list[bytes]:
        parts = list(chunks)
        return [] if len(parts) == 2 and len(parts[0]) == 77 else received(driver, parts)

    monkeypatch.setattr("interface.driver.proof.received", torn)
    assert proof.cut_differs(driver, data, received(driver, [data])).startswith("cut at byte 77, between ")
