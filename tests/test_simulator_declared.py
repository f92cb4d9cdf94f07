"""The simulator as a device whose framing a driver declares, against the real link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interface.driver import registry
from interface.driver.manifest import Driver
from interface.errors import LaboraError, LinkError
from interface.link.supervisor import LinkSpec, Supervisor
from interface.settings import Address
from interface.simulator import Fault, PlayProtocol, Source, load, parse_source, play
from interface.wire import declared
from tests.link.bench import FakeClock, HastyClock, RecordingIntake, settings

VIDAS, FIXED, HIPRO = (registry.load(name) for name in ("biomerieux_mini_vidas", "generic_fixed", "hipro_crp"))
CSV = registry.load("generic_csv")


def source(driver: Driver, vector: str) -> Source:
    return load(next(one.trace for one in registry.vectors(driver.id) if one.name == vector), grammar=driver.blocks)


class Host:
    """A link for a driver."""

    def __init__(self, driver: Driver) -> None:
        self.intake = RecordingIntake()
        self.supervisor = Supervisor([LinkSpec(settings(), self.intake, driver)])

    @property
    def address(self) -> Address:
        return self.supervisor.address("link-1")


@pytest.fixture
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    made = Host(request.param)
    await made.supervisor.start()
    yield made
    await made.supervisor.stop(0.0)


def texts(played: Source) -> list[bytes]:
    assert played.grammar is not None
    decoder = declared.Decoder(played.grammar)
    events = [event for parts in played.transmissions for part in parts for event in decoder.receive(part)]
    return [event.text for event in events + decoder.silence() if isinstance(event, declared.BlockReceived)]


@pytest.mark.parametrize("host", [VIDAS], indirect=True)
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.CONTENTION])
async def test_every_fault_ends_with_every_block_taken(host: Host, fault: Fault) -> None:
    played = source(VIDAS, "result-2")
    report = await play(played, host.address, fault=fault, clock=HastyClock())
    assert (report.protocol, report.messages, report.acknowledged) == (PlayProtocol.DECLARED, 2, 2)
    assert report.rejections == (fault is Fault.CHECKSUM)
    assert list(dict.fromkeys(host.intake.blocks)) == texts(played)
    assert len(host.intake.blocks) == (4 if fault is Fault.REPEAT else 3 if fault is Fault.CUT else 2)


@pytest.mark.parametrize("host", [HIPRO], indirect=True)
@pytest.mark.parametrize("fault", [Fault.NONE, Fault.NOISE, Fault.REPEAT])
async def test_a_one_way_device_sends_and_goes_on(host: Host, fault: Fault) -> None:
    played = source(HIPRO, "result-1")
    assert (await play(played, host.address, fault=fault)).complete
    while len(host.intake.blocks) < (4 if fault is Fault.REPEAT else 2):
        host.intake.changed.clear()
        await host.intake.changed.wait()
    assert list(dict.fromkeys(host.intake.blocks)) == texts(played)


async def test_a_burst_is_followed_by_silence() -> None:
    clock, made = FakeClock(), Host(CSV)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    clock.sleep = sleep  # type: ignore[method-assign]
    await made.supervisor.start()
    assert (await play(source(CSV, "qc"), made.address, clock=clock)).complete
    assert slept == [4.5]
    await made.supervisor.stop(0.0)


def test_blocks_that_a_host_refused_are_left_out_and_sessions_kept_apart() -> None:
    played = source(VIDAS, "retransmission")
    assert len(played.transmissions) == 1
    assert len(texts(played)) == 1
    twice = parse_source(b"".join((b"\x05", *played.transmissions[0], b"\x04")) * 2, None, VIDAS.blocks)
    assert len(twice.transmissions) == 2


def test_an_altered_value_has_a_checksum_that_fits() -> None:
    for driver, vector, old, new in ((VIDAS, "result-1", b"0.08", b"0.91"), (FIXED, "result", b"5.10", b"6.22")):
        altered = source(driver, vector).altered(old, new)
        assert any(new in text for text in texts(altered))
    with pytest.raises(LaboraError, match="does not contain"):
        source(VIDAS, "result-1").altered(b"nowhere", b"x")


async def test_a_fault_that_the_framing_does_not_have_is_refused() -> None:
    for driver, vector, fault in ((HIPRO, "result-1", Fault.CHECKSUM), (CSV, "qc", Fault.NOISE)):
        with pytest.raises(LinkError, match="this device's framing has no"):
            await play(source(driver, vector), Address("127.0.0.1", 1), fault=fault)


def test_what_holds_no_block_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(b"hello")
    with pytest.raises(LaboraError, match="no block of this driver's framing"):
        load(tmp_path / "x.raw", grammar=VIDAS.blocks)
