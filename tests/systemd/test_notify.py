"""What the daemon and systemd say to each other, over a real socket: sockets handed over, signs of life, sockets taken
back."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from interface import daemon, systemd
from interface.errors import LinkError, StoreError
from interface.link.supervisor import LinkSpec, Supervisor
from interface.link.tcp import connect
from interface.settings import Address, LinkSettings, Match
from interface.store.db import Database
from interface.store.journal import Append, Journal, MessageRow, new_message_id
from interface.store.journal_line import Line
from interface.systemd import Progress, Sockets, Standstill
from tests.conftest import Organization
from tests.link.bench import ACK, ENQ, PATIENCE_S, Analyzer, RecordingIntake, settings
from tests.systemd.keeper import Keeper, keeper

EVERYWHERE = "0.0.0.0"  # noqa: S104


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    with keeper(tmp_path / "notify") as found:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield found


def listening(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def at(sock: socket.socket) -> Address:
    return Address(*sock.getsockname()[:2])


Life = Callable[[], Sockets]


@pytest.fixture
def life(told: Keeper) -> Iterator[Life]:
    """Begins another life of the process, with the sockets that were kept until now; the former has ended."""
    lives: list[Sockets] = []

    def begin() -> Sockets:
        told.hear()
        for former in lives:
            former.close()
        lives.append(Sockets(told.passed(), keeps=True, wait=told.hear))
        return lives[-1]

    yield begin
    told.hear()
    for each in lives:
        each.close()


# ---- words ----------------------------------------------------------------------------------------------------------


def test_systemd_is_told_and_nobody_where_it_did_not_start_us(told: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    assert systemd.notify("READY=1")
    told.hear()
    assert told.heard == ["READY=1"]
    monkeypatch.setenv("NOTIFY_SOCKET", str(Path(told.channel.getsockname()).with_name("gone")))
    assert not systemd.notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not systemd.notify("READY=1")
    assert not systemd.barrier()


def test_an_abstract_socket_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"labora-{uuid4().hex}"
    with keeper(f"\0{name}") as told:
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert systemd.notify("STOPPING=1")
        told.hear()
        assert told.heard == ["STOPPING=1"]


async def test_a_barrier_waits_until_all_that_was_said_is_heard(told: Keeper) -> None:
    assert not systemd.barrier(0.0)  # nobody has heard it yet
    told.hear()
    systemd.notify("READY=1")
    waiting = asyncio.create_task(asyncio.to_thread(systemd.barrier, PATIENCE_S))
    while not waiting.done():
        told.hear()
        await asyncio.sleep(0)
    assert waiting.result()
    assert told.heard == ["READY=1"]


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}, None),  # meant for who started us
    ],
)
def test_the_watchdogs_wish_is_read(environ: dict[str, str], wanted: float | None) -> None:
    assert systemd.watchdog_s(environ) == wanted


def test_passed_sockets_are_found_by_name_and_hidden_from_children(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as one, listening() as two, open(os.devnull, "rb") as file:
        passed = [one.fileno(), file.fileno(), two.fileno()]
        monkeypatch.setattr(systemd, "FIRST_FD", 700)
        for number, each in enumerate(passed):
            os.dup2(each, 700 + number)
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "api:junk:link-a", "HOME": "/"}
        found = systemd.passed_sockets(environ)
        assert environ == {"HOME": "/"}
        assert [(name, sock.getsockname()) for name, sock in found] == [
            ("api", one.getsockname()),
            ("link-a", two.getsockname()),
        ]
        assert not any(os.get_inheritable(sock.fileno()) for _, sock in found)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(701)  # what is no socket is closed
        for _, sock in found:
            sock.close()


def test_sockets_of_another_process_are_not_taken() -> None:
    assert systemd.passed_sockets({"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "1"}) == []
    assert systemd.passed_sockets({}) == []


# ---- sockets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "asked", "fits"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", EVERYWHERE, False),
        (EVERYWHERE, "127.0.0.1", False),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("127.0.0.1", "localhost", False),  # a name may be several addresses
    ],
)
def test_a_socket_is_taken_where_its_address_is_the_one_asked_for(
    told: Keeper, life: Life, host: str, asked: str, fits: bool
) -> None:
    with listening(host) as sock:
        told.store["link-a"] = socket.socket(fileno=os.dup(sock.fileno()))
        taken = life().take("link-a", Address(asked, at(sock).port))
        assert (taken is not None) is fits
        if taken is not None:
            assert taken.getsockname() == sock.getsockname()
            taken.close()


def test_what_is_no_listening_stream_is_never_taken(told: Keeper) -> None:
    with socket.socket() as bound, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for sock in (bound, datagrams):
            sock.bind(("127.0.0.1", 0))
            assert Sockets([("link-a", sock)]).take("link-a", at(sock)) is None
            assert sock.fileno() == -1  # and its port is free


def test_a_port_that_is_wanted_otherwise_is_free_at_once(told: Keeper, life: Life) -> None:
    """The kernel refuses 127.0.0.1:4001 while anybody holds 0.0.0.0:4001, systemd too."""
    with listening(EVERYWHERE) as sock:
        port = at(sock).port
        told.store["link-a"] = socket.socket(fileno=sock.detach())
    assert life().take("link-a", Address("127.0.0.1", port)) is None
    assert told.store == {}
    listening("127.0.0.1", port).close()


def test_what_nobody_takes_is_closed_and_forgotten(told: Keeper, life: Life) -> None:
    with listening() as sock:
        told.store["link-gone"] = socket.socket(fileno=os.dup(sock.fileno()))
        address = at(sock)
    own = life()
    own.settle()
    told.hear()
    assert told.store == {}
    listening(address.host, address.port).close()  # nobody has it


# ---- links ----------------------------------------------------------------------------------------------------------


async def serving(own: Sockets, *links: LinkSettings) -> tuple[Supervisor, RecordingIntake]:
    intake = RecordingIntake()
    supervisor = Supervisor([LinkSpec(each, intake) for each in links], sockets=own)
    await supervisor.start()
    return supervisor, intake


def with_port(one: LinkSettings, address: Address) -> LinkSettings:
    return replace(one, transport=replace(one.transport, endpoint=address))


async def refused(address: Address) -> bool:
    try:
        await (await connect(address)).close()
    except LinkError:
        return True
    return False


async def test_between_two_lives_nobody_is_refused(told: Keeper, life: Life) -> None:
    own = life()
    first, _ = await serving(own, settings(id="a"))
    address = first.address("a")
    told.hear()
    assert list(told.store) == ["link-a"]
    await first.stop(0.0)
    analyzer = Analyzer(await connect(address))  # nobody is there
    await analyzer.send(ENQ)
    told.hear()
    second, _ = await serving(life(), with_port(settings(id="a"), address))
    await analyzer.expect(ACK)
    await analyzer.stream.close()
    await second.stop(0.0)


async def test_a_renamed_link_keeps_its_port(told: Keeper, life: Life) -> None:
    own = life()
    first, _ = await serving(own, settings(id="a"))
    address = first.address("a")
    await first.stop(0.0)
    told.hear()
    own = life()
    second, _ = await serving(own, with_port(settings(id="b"), address))
    told.hear()
    assert list(told.store) == ["link-b"]
    assert not await refused(address)
    await second.stop(0.0)


async def test_a_shared_ports_socket_is_kept_under_a_name_that_systemd_takes(told: Keeper, life: Life) -> None:
    with listening() as free:
        address = at(free)
    shared = [with_port(settings(id=name, match=Match(sender=name)), address) for name in ("a", "b")]
    own = life()
    supervisor, _ = await serving(own, *shared)
    told.hear()
    assert list(told.store) == [f"link-127.0.0.1-{address.port}"]
    await supervisor.stop(0.0)


async def test_a_link_that_changes_at_a_reload_refuses_nobody_and_one_that_goes_is_gone(
    told: Keeper, life: Life
) -> None:
    own = life()
    supervisor, intake = await serving(own, settings(id="stays"), settings(id="goes"))
    stays, goes = supervisor.address("stays"), supervisor.address("goes")
    changed = with_port(settings(id="stays", max_connections=3), stays)
    changes = await supervisor.apply([LinkSpec(changed, intake)], 0.0)
    assert (changes.changed, changes.removed) == (("stays",), ("goes",))
    told.hear()
    assert list(told.store) == ["link-stays"]
    assert not await refused(stays)
    assert await refused(goes)
    await supervisor.stop(0.0)


async def test_where_nothing_is_kept_a_stopped_link_refuses() -> None:
    supervisor, _ = await serving(Sockets(), settings(id="a"))
    address = supervisor.address("a")
    await supervisor.stop(0.0)
    assert await refused(address)


# ---- signs of life --------------------------------------------------------------------------------------------------


class Works:
    def __init__(self) -> None:
        self.engaged, self.turns = True, 0


def test_only_who_has_work_and_does_none_stands_still() -> None:
    one, idle = Works(), Works()
    idle.engaged = False
    look = Standstill()
    watched: dict[Progress, float] = {one: 60.0, idle: 60.0}
    assert look.look(0.0, watched) == []
    assert look.look(60.0, watched) == []
    assert look.look(60.1, watched) == [one]
    one.turns += 1
    assert look.look(61.0, watched) == []
    assert look.look(200.0, watched) == [one]
    one.engaged = False
    assert look.look(201.0, watched) == []
    one.engaged = True  # it has been idle, not still
    assert look.look(230.0, watched) == []
    assert look.look(300.0, {}) == []


async def test_the_watchdog_is_fed_only_while_nothing_stands_still(
    told: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    still: list[str] = []
    looked = asyncio.Semaphore(0)

    def stuck() -> list[str]:
        looked.release()
        return still

    task = asyncio.create_task(daemon._live(stuck))
    try:
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                await looked.acquire()
            told.hear()
            assert told.heard
            assert set(told.heard) == {"WATCHDOG=1"}
            still.append("journal")
            await looked.acquire()
            await looked.acquire()
            told.hear()
            before = len(told.heard)
            for _ in range(3):
                await looked.acquire()
            told.hear()
            assert len(told.heard) == before
            still.clear()
            for _ in range(2):
                await looked.acquire()
            told.hear()
            assert len(told.heard) > before
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_without_a_watchdog_nothing_is_fed(told: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await daemon._live(list)
    told.hear()
    assert told.heard == []


async def test_a_writer_that_hangs_stands_still_and_one_without_a_database_does_not(
    database: Database, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(database, organization.id, resend_window_s=60.0, commit_wait_s=0.1, wake=lambda: None)
    await journal.start()
    assert not journal.engaged
    fetching, release = asyncio.Event(), asyncio.Event()

    async def hang(line: Line, statement: str, *arguments: object, timeout_s: float) -> list[object]:
        fetching.set()
        await release.wait()
        raise ConnectionRefusedError

    monkeypatch.setattr(Line, "fetch", hang)
    row = MessageRow(new_message_id(), uuid4(), "hl7", "receiving", datetime.now(UTC))
    with pytest.raises(StoreError):
        await journal.append(Append((row,)))
    await fetching.wait()
    look = Standstill()
    assert look.look(0.0, {journal: 60.0}) == []
    assert look.look(61.0, {journal: 60.0}) == [journal]
    release.set()  # from now on it is the database that is away
    before = journal.turns
    await journal.stop()
    assert journal.turns > before
