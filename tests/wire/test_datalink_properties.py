"""Whatever happens on a line, in whatever order: nothing is raised, kept for ever, lost or doubled without a word."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.wire.lis01 import (
    DataLink,
    Delivered,
    Event,
    FrameReceived,
    FrameRejected,
    Leniency,
    LinkOptions,
    SendFailed,
    SessionEnded,
    Skipped,
    State,
    Station,
    build_frame,
    cut,
)
from interface.wire.transmission import MessageSplitter, part_text

MANY = settings().max_examples  # of the profile: a soak has more
ENQ, EOT, ACK, NAK = b"\x05", b"\x04", b"\x06", b"\x15"

# ---- anything at any time -------------------------------------------------------------------------------------------

LIMIT = 100
PARTS = [
    ENQ, EOT, ACK, NAK, b"\x02", b"\x03", b"\x17", b"\r", b"\n", b"\r\n", b"~", b"x" * 60, b"H", b"H|", b"L|1|N\r",
    b"H|\\^&\r", b"P|1\n", build_frame(1, b"H|\\^&\r", True), build_frame(2, b"P|1", False),
    build_frame(0, b"L|1", True), build_frame(1, b"H|\\^&\r", True)[:-4], b"\x021H|\x03",
]  # fmt: skip
DEEDS = st.one_of(
    st.sampled_from(PARTS),
    st.binary(max_size=30),
    st.sampled_from(["event", "stored", "refused", "timeout", "lost", "send", "want", "ready", "not ready"]),
)


def do(link: DataLink, deed: bytes | str) -> None:
    deeds: dict[str, Callable[[], object]] = {
        "event": link.next_event,
        "stored": link.stored,
        "refused": link.refused,
        "timeout": link.timeout,
        "lost": link.lost,
        "send": lambda: link.send(b"H|\\^&\rL|1\r"),
        "want": link.want_line,
    }
    if isinstance(deed, bytes):
        link.receive(deed)
    elif deed in deeds:
        deeds[deed]()
    else:
        link.ready = deed == "ready"


@given(
    st.sampled_from(list(Station)),
    st.frozensets(st.sampled_from(list(Leniency))),
    st.booleans(),
    st.lists(DEEDS, max_size=60),
)
@settings(max_examples=max(400, MANY), deadline=None)
def test_any_input_in_any_order_raises_nothing_and_wedges_nothing(
    station: Station, leniencies: frozenset[Leniency], concede: bool, deeds: list[bytes | str]
) -> None:
    """Also what no pump does: answers that nobody asked for, timeouts without a timer, a line lost twice."""
    options = LinkOptions(
        leniencies=leniencies, ack_colliding_enq=concede, max_frame_bytes=LIMIT, frame_text_bytes=4, max_attempts=3
    )
    link = DataLink(station, options)
    for deed in deeds:
        do(link, deed)
        assert all(len(data) <= 4096 for data in evidence(link))
    link.ready = True
    link.lost()
    while link.next_event() is not None:
        link.stored()
    link.data_to_send()
    assert link.state is State.NEUTRAL
    assert link.idle
    link.receive(ENQ)
    assert link.next_event() is not None
    assert link.data_to_send() == ACK


def evidence(link: DataLink) -> list[bytes]:
    """Refused bytes among the events that wait; looked at without taking them."""
    return [event.data for event in link._events if isinstance(event, Skipped | FrameRejected)]


FLOODS = [b"~", b"\x021x", ENQ + b"\x021x", b"H|\\^&\rM|", ENQ, EOT, b"\x02", ENQ + b"\x021~\x03", b"H", b"\n"]


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("leniencies", [frozenset[Leniency](), frozenset(Leniency)], ids=["strict", "lenient"])
def test_memory_is_bounded_whatever_floods_a_link(flood: bytes, leniencies: frozenset[Leniency]) -> None:
    link = DataLink(Station.HOST, LinkOptions(leniencies=leniencies, max_frame_bytes=1000))
    for _ in range(10):
        link.receive(flood * (4096 // len(flood)))
        while (event := link.next_event()) is not None:
            if isinstance(event, FrameReceived):
                link.stored()
        link.data_to_send()
        kept = len(link._in) + len(link._junk) + len(link._frames._frame) + len(link._records._text)
        assert kept <= 4096 + 1000 + 4096


# ---- two ends and a bad line ----------------------------------------------------------------------------------------


@dataclass
class End:
    """One end with its memory: what it has been given as whole messages, and what became of its own."""

    link: DataLink
    splitter: MessageSplitter = field(default_factory=MessageSplitter)
    text: bytearray = field(default_factory=bytearray)
    taken: list[bytes] = field(default_factory=list)  # complete, resends left out as the journal does by their digest
    fate: dict[int, Event] = field(default_factory=dict)
    refusals: deque[bool] = field(default_factory=deque)  # whether a commit fails
    timer: object = None
    deadline: float = 0.0

    def work(self, now: float) -> list[bytes]:
        """Handle every event; what is to be written, a frame or control character each."""
        out = []
        while (event := self.link.next_event()) is not None:
            self._on(event)
            out.append(self.link.data_to_send())
        out.append(self.link.data_to_send())
        if self.link.timer is not self.timer:
            self.timer = self.link.timer
            self.deadline = now + (self.link.timer.seconds if self.link.timer else 0.0)
        return [unit for unit in out if unit]

    def _on(self, event: Event) -> None:
        match event:
            case FrameReceived():
                if self.refusals and self.refusals.popleft():
                    self.link.refused()
                else:
                    self._keep(event)
                    self.link.stored()
            case Delivered(ticket) | SendFailed(ticket):
                assert ticket not in self.fate, "one message, one fate"
                self.fate[ticket] = event
            case SessionEnded():
                self.splitter = MessageSplitter()  # the rest is incomplete

    def _keep(self, frame: FrameReceived) -> None:
        for piece in self.splitter.feed(frame.text, frame.last):
            if piece.opens:
                self.text.clear()
            self.text += part_text(frame.text, frame.last, piece.start, piece.stop)
            if piece.seals and bytes(self.text) not in self.taken:
                self.taken.append(bytes(self.text))


LOSSES = st.sampled_from(["", "", "", "", "", "lose", "garble"])


def play(instrument: End, host: End, losses: list[str], patience_s: float = 5000.0) -> float:
    """Carry units to and fro until both ends are idle. A unit is lost, or garbled so that any receiver sees it.

    A control character that another makes of it would be no loss but a lie, which LIS01-A2 has no means against.
    """
    fates, now = iter(losses), 0.0
    line: deque[tuple[End, bytes]] = deque()

    def carry(source: End, target: End) -> None:
        for unit in source.work(now):
            fate = next(fates, "")
            if fate == "garble":
                line.append((target, unit[:3] + b"~" + unit[4:] if len(unit) > 4 else b"~"))
            elif fate != "lose":
                line.append((target, unit))

    for turn in count():
        assert turn < 20_000, "the two never come to an end"
        carry(instrument, host)
        carry(host, instrument)
        if line:
            end, unit = line.popleft()
            end.link.receive(unit)
            continue
        due = [end for end in (instrument, host) if end.link.timer is not None]
        if not due or (instrument.link.idle and host.link.idle and not host.link.in_session):
            return now
        first = min(due, key=lambda end: end.deadline)
        now = max(now, first.deadline)
        assert now < patience_s, "the two wait for each other"
        first.link.timeout()
    return now


def message(name: str, number: int, records: int) -> bytes:
    body = b"".join(b"R|%d|^^^%s|%d\r" % (at, name.encode(), at) for at in range(records))
    return b"H|\\^&|%s%d\r" % (name.encode(), number) + body + b"L|1|N\r"


def ends(size: int, *, concede: bool = False, honour: bool = True) -> tuple[End, End]:
    options = LinkOptions(frame_text_bytes=size, ack_colliding_enq=concede, honour_interrupt=honour)
    return End(DataLink(Station.INSTRUMENT, options)), End(DataLink(Station.HOST, options))


@given(
    st.integers(1, 3), st.integers(0, 12), st.integers(0, 2), st.integers(5, 60), st.booleans(), st.booleans(),
    st.booleans(), st.lists(LOSSES, max_size=60), st.lists(st.booleans(), max_size=10),
)  # fmt: skip
@settings(max_examples=max(150, MANY), deadline=None)
def test_over_a_bad_line_each_message_arrives_once_or_is_reported(
    uploads: int, records: int, downloads: int, size: int, concede: bool, honour: bool, want: bool,
    losses: list[str], refusals: list[bool],
) -> None:  # fmt: skip
    instrument, host = ends(size, concede=concede, honour=honour)
    host.refusals = deque(refusals)
    up = {instrument.link.send(text): text for text in (message("U", at, records) for at in range(uploads))}
    down = {host.link.send(text): text for text in (message("D", at, 2) for at in range(downloads))}
    if want:
        host.link.want_line()
    play(instrument, host, losses)
    for sender, receiver, sent in ((instrument, host, up), (host, instrument, down)):
        assert set(sender.fate) == set(sent)
        assert len(receiver.taken) == len(set(receiver.taken))
        assert set(receiver.taken) <= set(sent.values())  # no message is complete that was never sent so
        for ticket, text in sent.items():
            assert isinstance(sender.fate[ticket], SendFailed) or text in receiver.taken
        delivered = [text for ticket, text in sent.items() if isinstance(sender.fate[ticket], Delivered)]
        assert [text for text in receiver.taken if text in delivered] == delivered  # and in their order


@given(st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=max(60, MANY), deadline=None)
def test_contention_of_both_sides_always_resolves(
    uploads: int, downloads: int, concede: bool, honour: bool, want: bool
) -> None:
    """Both ask for the line at once, on a good line: everything arrives, within seconds of back-off."""
    instrument, host = ends(20, concede=concede, honour=honour)
    up = [message("U", at, 3) for at in range(uploads)]
    down = [message("D", at, 3) for at in range(downloads)]
    for text in up:
        instrument.link.send(text)
    for text in down:
        host.link.send(text)
    if want:
        host.link.want_line()
    took_s = play(instrument, host, [])
    assert (host.taken, instrument.taken) == (up, down)
    assert all(isinstance(event, Delivered) for end in (instrument, host) for event in end.fate.values())
    assert took_s <= 1.0 + 20.0 * (uploads + downloads)


def test_a_line_that_carries_nothing_is_reported_by_both() -> None:
    instrument, host = ends(20)
    instrument.link.send(message("U", 1, 1))
    host.link.send(message("D", 1, 1))
    play(instrument, host, ["lose"] * 1000)
    assert [type(event) for end in (instrument, host) for event in end.fate.values()] == [SendFailed] * 2
    assert (host.taken, instrument.taken) == ([], [])


def test_a_garbled_ack_makes_the_sender_repeat_and_the_receiver_not_store_twice() -> None:
    """The duplicates that the standard has: our ACK arrives as something else, so the frame comes again."""
    instrument, host = ends(20)
    instrument.link.send(message("U", 1, 4))
    frames = len(cut(message("U", 1, 4), 20))
    # Units alternate: ENQ, ACK, frame, ACK, frame, …; every ACK to a frame is garbled once.
    losses = ["", "", *["", "garble", "", ""] * frames]
    play(instrument, host, losses)
    assert host.taken == [message("U", 1, 4)]
