"""Logs and metrics never carry patient data, whatever is given to them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import structlog

from interface import telemetry
from interface.domain.model import HoldReason, ResultStatus
from interface.errors import StoreUnavailable


@pytest.fixture
def journal() -> Iterator[io.BytesIO]:
    """What was logged; the process's own configuration comes back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.BytesIO()
    telemetry.configure_logs(stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(journal: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.getvalue().splitlines()]


def sample(name: str, **labels: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_line_is_one_json_object_with_its_bound_fields(journal: io.BytesIO) -> None:
    telemetry.logger(link="hema-1").info("sealed", message_id="m1")
    [line] = lines(journal)
    assert (line["event"], line["link"], line["message_id"], line["level"]) == ("sealed", "hema-1", "m1", "info")
    assert line["timestamp"].endswith("Z")


def test_identifiers_are_fingerprints_and_data_is_left_out(journal: io.BytesIO) -> None:
    telemetry.logger().info("held", specimen="26110001", raw_value="7.3", payload="R|1|", frame=b"\x021R|1")
    [line] = lines(journal)
    assert line["specimen"] == telemetry.fingerprint("26110001")
    assert (line["raw_value"], line["payload"], line["frame"]) == ("[redacted]", "[redacted]", "[5 bytes]")
    assert b"26110001" not in journal.getvalue()


def test_a_fingerprint_is_stable_and_tells_identifiers_apart() -> None:
    assert telemetry.fingerprint("26110001") == telemetry.fingerprint("26110001")
    assert telemetry.fingerprint("26110001") != telemetry.fingerprint("26110002")
    assert len(telemetry.fingerprint("")) == 12


def test_an_exception_is_its_type_and_place_never_what_it_quotes(journal: io.BytesIO) -> None:
    try:
        try:
            raise ValueError("PID|1||Doe^Jane")
        except ValueError as error:
            raise StoreUnavailable("the database does not answer") from error
    except StoreUnavailable as error:
        telemetry.logger().error("failed", exc_info=True, cause=error.__cause__)
    [line] = lines(journal)
    assert line["error"] == "StoreUnavailable: the database does not answer from ValueError"
    assert line["cause"] == "ValueError"
    assert line["at"][-1].startswith("test_telemetry.py:")
    assert b"Doe" not in journal.getvalue()


def test_a_librarys_record_is_kept_without_its_arguments(journal: io.BytesIO) -> None:
    logging.getLogger("aiohttp.server").error("Error handling request from %s", "/fhir/Patient?name=Doe")
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task Doe>")
    first, second = lines(journal)
    assert (first["logger"], first["said"]) == ("aiohttp.server", "Error handling request from %s")
    assert second["said"] == "Task exception was never retrieved"
    assert b"Doe" not in journal.getvalue()


def test_a_closed_journal_stops_nothing() -> None:
    stream = io.BytesIO()
    telemetry.configure_logs(stream=stream)
    try:
        stream.close()
        telemetry.logger().error("unheard")
    finally:
        structlog.reset_defaults()
        root = logging.getLogger()
        root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__ != telemetry.__name__]
    assert stream.closed


def test_labels_are_bounded_whatever_a_peer_makes_up() -> None:
    bounded = telemetry._Bounded(2)
    assert [bounded(value) for value in ("a", "b", "c", "a")] == ["a", "b", "other", "a"]
    before = sample("labora_naks_total", link="telemetry-test", reason="other")
    telemetry.count_nak("telemetry-test", "Doe^Jane")
    telemetry.count_nak("telemetry-test", "checksum")
    assert sample("labora_naks_total", link="telemetry-test", reason="other") == before + 1
    assert b"Doe" not in telemetry.metrics_page()[0]


def test_what_is_counted_is_on_the_metrics_page() -> None:
    telemetry.count_frame("telemetry-test", 3)
    telemetry.count_message("telemetry-test", "complete")
    telemetry.count_leniency("telemetry-test", "no_checksum")
    telemetry.count_results([ResultStatus.REGISTERED], [[HoldReason.UNKNOWN_UNIT]])
    telemetry.set_queue_depth(2)
    telemetry.set_connections("telemetry-test", 1)
    telemetry.observe_commit(0.002, 7)
    telemetry.observe_request("GET", "/api/results/{id}", 200, 0.01)
    page, content_type = telemetry.metrics_page()
    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")
    assert b'leniency="no_checksum"' in page
    for name in (b"labora_frames_total", b"labora_queue_messages 2.0", b'route="/api/results/{id}"', b"unknown_unit"):
        assert name in page


@pytest.mark.parametrize("key", ["patient_id", "barcode", "specimen"])
def test_an_absent_identifier_stays_empty(journal: io.BytesIO, key: str) -> None:
    telemetry.logger().info("seen", **{key: ""})
    assert lines(journal)[0][key] == ""


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[dict[str, Any]] = []
        self.repeats = telemetry.Repeats(lambda event: self.told.append(dict(event)), lambda: self.now)

    def say(self, method: str, **event: Any) -> dict[str, Any] | None:
        try:
            return dict(self.repeats(None, method, {"level": method, **event}))
        except structlog.DropEvent:
            return None


def test_what_is_said_again_within_a_minute_is_counted_and_not_repeated() -> None:
    at = Ticks()
    away = {"event": "not stored", "link": "hema-1"}
    assert at.say("warning", **away, attempt=1) == {"level": "warning", **away, "attempt": 1}
    assert [at.say("warning", **away, attempt=number) for number in range(2, 101)] == [None] * 99
    assert at.say("warning", event="not stored", link="chem-1") is not None, "another link's is another"
    assert at.say("warning", **away, message_id="m1") is not None, "another message's is another"
    assert at.say("warning", **away, problems=["link[0]: no driver"]) is not None, "another problem is another"
    assert at.say("warning", **away, problems=["link[1]: no driver"]) is not None
    assert at.say("warning", **away, id=UUID(int=1)) is not None, "and another thing, whatever it is called by"
    assert at.say("warning", **away, id=UUID(int=2)) is not None
    assert at.say("error", **away) is not None
    at.now = 59.9
    assert at.say("warning", **away) is None
    at.now = 60.0
    assert at.say("warning", **away) == {"level": "warning", **away, "repeated": 100}
    assert at.say("warning", **away) is None
    assert at.told == []


def test_what_stops_being_said_is_summed_up_before_the_next_line() -> None:
    at = Ticks()
    for _ in range(5):
        at.say("error", event="not stored", link="hema-1", timestamp=f"{at.now}")
    at.now = 61.0
    assert at.say("info", event="ready") == {"level": "info", "event": "ready"}
    assert at.told == [{"level": "error", "event": "not stored", "link": "hema-1", "repeated": 4}]
    assert at.say("error", event="not stored", link="hema-1") is not None


def test_what_is_no_warning_is_always_said_and_kinds_are_bounded() -> None:
    at = Ticks()
    assert all(at.say("info", event="sealed") is not None for _ in range(9))
    for number in range(2000):
        at.say("warning", event=f"kind {number}")
    assert len(at.repeats._told) <= 258


def test_whoever_reloads_the_configuration_is_answered_each_time() -> None:
    at = Ticks()
    said = [at.say("error", event="nothing was changed", action="daemon.configuration") for _ in range(3)]
    assert None not in said


def test_a_flood_of_one_error_is_two_lines_of_the_journal(journal: io.BytesIO) -> None:
    for number in range(1000):
        telemetry.logger(link="hema-1").warning("not stored", action="journal.append", tried=number)
    telemetry.logger(link="hema-2").warning("not stored", action="journal.append")
    assert [line["link"] for line in lines(journal)] == ["hema-1", "hema-2"]
