"""A link that is connected to: a listener, and a task for each connection."""

from __future__ import annotations

import asyncio
import ssl

import structlog

from interface import telemetry
from interface.errors import LinkError
from interface.link.backoff import BackOff
from interface.link.base import Link, LinkSpec, LinkState
from interface.link.clock import Clock
from interface.link.stream import ByteStream
from interface.link.tcp import TcpListener, TcpStream
from interface.link.tls import TlsError, accept, listen_context
from interface.settings import Address, ListenTls
from interface.systemd import Sockets

CHECK_S = 5.0  # how often a listener is looked after
HANDSHAKE_WAIT_S = 10.0  # a peer that is silent for so long in its TLS handshake is cut off
TAKEOVER_S = 10.0  # silence after which a connection may be replaced by another one from the same address
REFUSALS_S = 10.0

log = structlog.get_logger(__name__)


class ListeningLink(Link):
    """A link that is connected to: a listener, and a task for each connection."""

    def __init__(self, spec: LinkSpec, clock: Clock, address: Address, sockets: Sockets | None = None) -> None:
        super().__init__(spec, clock)
        self._tls: ssl.SSLContext | None = None
        self.listener = TcpListener(
            address,
            self.serve,
            allow=self.settings.allow,
            max_connections=self.settings.max_connections,
            secure=self._secure if self.settings.tls else None,
            stale=self._stale,
            refused=self._refused,
            sockets=sockets,
            name=f"link-{self.settings.id}",
        )
        self._refusals = Refusals(clock)
        self._watch: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return str(self.listener.address)

    def refresh(self) -> None:
        if isinstance(self.settings.tls, ListenTls):
            try:
                self._tls = listen_context(self.settings.tls)
            except (OSError, ValueError) as error:
                raise LinkError("its certificate or key cannot be used any more") from error

    async def start(self) -> None:
        self._watch = asyncio.create_task(self._look_after(), name=f"link {self.settings.id}")
        try:
            await self._listen()
        except LinkError as error:
            raise LinkError(f"link {self.settings.id}: {error}") from error

    async def stop(self, drain_s: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.listener.stop()
        await self.end(self.listener.connections, drain_s)

    async def _listen(self) -> None:
        try:
            self.refresh()
            await self.listener.start()
        except LinkError as error:
            self.went_down(str(error))
            raise
        self.went_up()

    async def _look_after(self) -> None:
        """Put a listener that failed back, with back-off; connections that are open are not touched."""
        back_off = BackOff()
        while True:
            await self.clock.sleep(CHECK_S)
            if self.listener.serving:
                back_off.reset()
                continue
            if self.state is LinkState.UP:
                self.went_down("the listener failed")
            try:
                await self._listen()
            except LinkError:
                await self.clock.sleep(back_off.next_s())

    async def _secure(self, stream: TcpStream) -> ByteStream:
        """Raises TlsError."""
        tls = self.settings.tls
        if self._tls is None or not isinstance(tls, ListenTls):
            raise TlsError("handshake", "there is no certificate")
        try:
            async with self.clock.timeout_at(self.clock.now() + HANDSHAKE_WAIT_S):
                return await accept(stream, self._tls, tls.allow)
        except TimeoutError as error:
            raise TlsError("timeout", "the peer does not finish the TLS handshake") from error

    def _stale(self, tasks: list[asyncio.Task[None]]) -> asyncio.Task[None] | None:
        """The one that has been silent longest, with no transmission under way: an analyzer that was switched off or
        lost its network does not hang up, and must not find its own place taken when it is back."""
        silent = [
            (session.heard_at, task)
            for task in tasks
            if (session := self.sessions.get(task)) is not None
            and session.idle
            and self.clock.now() - session.heard_at >= TAKEOVER_S
        ]
        if not silent or not self.settings.takeover:
            return None
        _, task = min(silent, key=lambda one: one[0])
        log.info("connection replaced", link=self.settings.id, action="link.replaced", peer=self.sessions[task].peer)
        return task

    def _refused(self, reason: str, peer: str) -> None:
        self.counters.connections_refused += 1
        telemetry.count_refused(self.settings.id, reason)
        before = self._refusals.note(reason)
        if before is not None:
            log.warning("connection refused", link=self.settings.id, action="link.refused", reason=reason, peer=peer,
                        not_logged_before=before)  # fmt: skip


class Refusals:
    """Who says what of refused connections: one line for each reason in REFUSALS_S, so that no peer fills the log."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, reason: str) -> int | None:
        """How many refusals were not logged since the last that was, or None: this one is not to be logged either."""
        now = self._clock.now()
        if reason in self._said and now - self._said[reason] < REFUSALS_S:
            self._unsaid[reason] = self._unsaid.get(reason, 0) + 1
            return None
        self._said[reason] = now
        return self._unsaid.pop(reason, 0)
