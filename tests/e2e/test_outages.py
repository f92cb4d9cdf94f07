"""What a server lives through, with a whole daemon: its PostgreSQL is stopped and started, its disk is full, its clock
is stepped, its certificate ends. Each is survived, `labora doctor` shows it, and people are told of it once, and once
that it is over."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from interface.ops import doctor, machine
from tests.cluster import new_state_dir
from tests.e2e.daemon import eventually, get
from tests.e2e.outage import FAKETIME, ROSTER, On, Site, site
from tests.e2e.standby import Analyzer
from tests.fault.plan import COUNTED
from tests.ops.receivers import web_server

DATABASE, SHORT = "atabase does not serve", "isk space is short"
ONCE = Counter(entered=1, recovered=1)
FILLS = int(os.environ.get("LABORA_SOAK_CYCLES", "5"))
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: the chain is verified, its dates are not


@pytest.fixture(autouse=True)
def quick_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CONNECT_WAIT_S", 0.2)
    monkeypatch.setattr(machine, "synchronized", lambda: True)


@pytest.fixture(scope="module")
async def lived() -> AsyncIterator[Site]:
    async with _folder() as folder, web_server(folder) as hook, site(folder, hook) as made:
        yield made


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    """Short enough for a socket in it, and gone afterwards: what fills the disk in it is in memory."""
    folder = new_state_dir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def stop_and_start(at: Site, capsys: pytest.CaptureFixture[str], times: int) -> None:
    words, before = DATABASE, at.titles(DATABASE)[0]
    assert at.cluster is not None
    for number in range(before + 1, before + times + 1):
        await asyncio.to_thread(at.cluster.stop)
        await at.told(words, number, number - 1)
        assert "database" in await at.doctor(capsys)
        await at.cluster.start()
        await at.told(words, number, number)


async def test_a_database_that_is_stopped_and_started(lived: Site, capsys: pytest.CaptureFixture[str]) -> None:
    others = await lived.alert_ids()  # a disk that was full ends the server too, for a moment
    async with lived.load():
        await stop_and_start(lived, capsys, 2)
    assert await lived.alerts("database", but=others) == [ONCE] * 2
    assert "database" not in await lived.doctor(capsys)


async def fill_and_free(at: Site, capsys: pytest.CaptureFixture[str], times: int) -> None:
    """Where the journal has no room nothing is acknowledged; where only the daemon's own folder has none, all is."""
    before, _ = at.titles(SHORT)
    for number in range(before + 1, before + times + 1):
        refused = sum(one.refused for one in at.sent)
        filler = await asyncio.to_thread(at.fill)
        if at.on is On.WAL:
            await at.write_ahead()
        await at.told(SHORT, number, number - 1)
        assert str(at.disk) in (await at.doctor(capsys))["disk"]

        async def refuses(refused: int = refused) -> bool:
            return sum(one.refused for one in at.sent) > refused

        await (at.next_acknowledged() if at.on is On.STATE else eventually(refuses))
        assert (await get(at.api, "/health"))[0] == 200 and (await get(at.api, "/ready"))[0] in (200, 503)
        filler.unlink()
        if at.on is not On.STATE:
            await at.serve_again()
        at.resumed_s.append(await at.next_acknowledged())
        await at.told(SHORT, number, number)


async def test_a_disk_that_is_filled_and_freed(lived: Site, capsys: pytest.CaptureFixture[str]) -> None:
    if lived.disk is None:
        pytest.skip("needs root and a loop device: a small file system is mounted")
    async with lived.load():
        await fill_and_free(lived, capsys, 1)
    assert await lived.alerts("disk", str(lived.disk)) == [ONCE]
    assert str(lived.disk) not in (await lived.doctor(capsys)).get("disk", "")


async def step(at: Site, capsys: pytest.CaptureFixture[str], seconds: int) -> None:
    """Away from the true time, and back."""
    words = "clock is wrong"
    before, _ = at.titles(words)
    at.step(seconds)
    await at.told(words, before + 1, before)
    assert "clock" in await at.doctor(capsys)
    for one in at.sent[-2:]:
        taken = len(one.acknowledged)

        async def goes_on(one: Analyzer = one, taken: int = taken) -> bool:
            return len(one.acknowledged) > taken + 1

        await eventually(goes_on)
    await at.nothing_lost()
    at.step(0)
    await at.told(words, before + 1, before + 1)


@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime: apt-get install faketime")
async def test_a_clock_that_is_stepped(lived: Site, capsys: pytest.CaptureFixture[str]) -> None:
    async with lived.load():
        for seconds in (3600, -3600):
            await step(lived, capsys, seconds)
    assert await lived.alerts("clock") == [ONCE] * 2
    assert "clock" not in await lived.doctor(capsys)


async def test_a_certificate_that_ends(lived: Site, capsys: pytest.CaptureFixture[str]) -> None:
    words = "ertificate"
    before, over = lived.titles(words)
    trusting = ssl.create_default_context(cafile=lived.authority.file)
    careless = ssl._create_unverified_context()  # noqa: S323  as many analyzers are
    clockless = ssl.create_default_context(cafile=lived.authority.file)
    clockless.verify_flags |= NO_CHECK_TIME  # it connects however late the machine comes to it
    async with lived.load():
        lived.certificate(timedelta(seconds=2))
        await lived.reload()
        connected = lived.analyzer(lived.tls, tls=clockless)
        await connected.send()
        await lived.told(words, before + 1, over)

        async def ended() -> bool:
            return "expired" in (await lived.doctor(capsys))["certificate"]

        await eventually(ended)
        await lived.reload()  # for whatever: it keeps no link from going on
        await connected.send()
        assert len({address for _, address, _ in connected.acknowledged}) == 1 and connected.refused == 0
        await lived.analyzer(lived.tls, tls=careless).send()
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await asyncio.open_connection(lived.tls.host, lived.tls.port, ssl=trusting)
        lived.certificate()
        await lived.reload()
        await lived.analyzer(lived.tls, tls=trusting).send()
        await lived.told(words, before + 1, over + 1)
    assert await lived.alerts("certificate") == [ONCE] * (before + 1)
    assert "certificate" not in await lived.doctor(capsys)


async def test_a_roster_that_is_changed_counts_from_the_next_reload_on(lived: Site) -> None:
    """Another is on shift; one with a fault changes nothing."""
    words = "ertificate"
    before, over = lived.titles(words)
    lived.roster.write_text(ROSTER.replace('to = "anna"', 'to = "berta"'))
    await lived.reload()
    lived.roster.write_text(ROSTER.replace("[[shift]]", "[[shaft]]"))
    await lived.reload()
    lived.certificate(timedelta(days=5))
    await lived.told(words, before + 1, over)
    lived.roster.write_text(ROSTER)
    await lived.reload()
    lived.certificate()
    await lived.told(words, before + 1, over + 1)
    told = [json.loads(one.body) for one in lived.hook.got[-2:]]
    assert [(one["to"], words in one["title"]) for one in told] == [("berta", True)] * 2, (
        "who was told, that it is over"
    )


# ---- the long forms -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def another(**options: Any) -> AsyncIterator[Site]:
    async with _folder() as folder, web_server(folder) as hook, site(folder, hook, **options) as made:
        assert made.disk is not None, "needs root and a loop device"
        assert FAKETIME is not None, "needs libfaketime: apt-get install faketime"
        yield made


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_database_that_is_stopped_twenty_times(capsys: pytest.CaptureFixture[str]) -> None:
    async with another() as at:
        async with at.load():
            await stop_and_start(at, capsys, 20)
        assert await at.alerts("database") == [ONCE] * 20
        say(capsys, f"PostgreSQL stopped and started 20 times: {at.counted()}")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("on", On)
async def test_a_disk_that_is_filled_again_and_again(
    on: On, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    async with another(on=on) as at:
        async with at.load():
            await fill_and_free(at, capsys, FILLS)
        assert await at.alerts("disk", str(at.disk)) == [ONCE] * FILLS
        assert max(at.resumed_s) <= 5.0  # PERFORMANCE.md F6
        record_property(COUNTED, FILLS)
        took = f"then {max(at.resumed_s):.2f} s to an ACK at most"
        say(capsys, f"disk of {on.value} filled and freed {FILLS} times: {at.counted()}; {took}")


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_clock_that_is_stepped_twenty_times(capsys: pytest.CaptureFixture[str]) -> None:
    """With the API in processes of its own, whose clock is stepped too."""
    async with another(workers=2) as at:
        async with at.load():
            for seconds in (3600, -3600) * 10:
                await step(at, capsys, seconds)
        assert await at.alerts("clock") == [ONCE] * 20
        say(capsys, f"clock stepped by an hour and back 20 times: {at.counted()}")


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_daemon_with_its_own_server_lives_through_a_full_disk_and_kills_without_anybody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with another(on=On.OWN_SERVER) as at:
        async with at.load():
            await fill_and_free(at, capsys, 3)
        assert await at.alerts("disk", str(at.disk)) == [ONCE] * 3
        say(capsys, f"disk of its own server filled and freed 3 times: {at.counted()}")
        async with at.load():
            for number in range(20):
                pid = (at.state_dir / "pg" / "data" / "postmaster.pid").read_text().split()[0]
                os.kill(int(pid), (signal.SIGKILL, signal.SIGINT, signal.SIGQUIT)[number % 3])
                for _ in range(3):
                    await at.next_acknowledged()
        # Whether anybody is told hangs on how long it was away; who is told that it is, is told that it is over.
        assert all(told in (ONCE, Counter()) for told in await at.alerts("database"))
        say(capsys, f"its own server ended 20 times: {at.counted()}")


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\n{text}")
