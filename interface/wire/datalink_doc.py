"""The page `docs/datalink.md` from the transition table: `python -m interface.wire.datalink_doc > docs/datalink.md`."""

from __future__ import annotations

import sys
from dataclasses import asdict

from interface.wire.datalink_events import ALWAYS, Leniency, LinkOptions
from interface.wire.datalink_table import TABLE, Action, Input, State

STATES = {
    State.NEUTRAL: "nobody has the line",
    State.HOLD_OFF: "nobody has the line, and for a while we do not ask for it",
    State.RECEIVING: "the peer has the line",
    State.STORING: "its frame is being committed; nothing is read and nothing answered",
    State.BARE: "a message without frames comes in",
    State.BARE_STORING: "one of its records is being committed",
    State.ENQUIRING: "we have sent ENQ",
    State.SENDING: "we have sent a frame",
}
INPUTS = {
    Input.ENQ: "ENQ",
    Input.ENQ_NOT_READY: "ENQ while nothing can be stored",
    Input.ENQ_AGAIN: "ENQ in a session, under `repeated_enq`",
    Input.ENQ_CONCEDED: "ENQ that collides with ours, under `ack_colliding_enq`",
    Input.STX: "STX without ENQ, under `missing_enq`",
    Input.RECORD: "an H record without frame, under `bare_records`",
    Input.EOT: "EOT",
    Input.EOT_ABORT: "EOT while the last frame stands refused",
    Input.ACK: "ACK, or EOT that we do not honour as an interrupt",
    Input.ACK_LAST: "ACK or EOT to the last frame",
    Input.NAK: "NAK, or a run of bytes without meaning",
    Input.NAK_LAST: "rejection {max_rejects} of the same frame",
    Input.INTERRUPT: "EOT to a frame that is not the last",
    Input.JUNK: "a run of bytes without meaning",
    Input.FRAME: "a good frame in sequence; without frames, a record",
    Input.REPEAT: "a frame byte-identical to the one accepted last",
    Input.REPEAT_WANTED: "the same, and we want the line",
    Input.BAD_FRAME: "a frame with a fault, or out of sequence",
    Input.CUT_FRAME: "EOT inside a frame",
    Input.STORED: "the commit is done",
    Input.STORED_WANTED: "the commit is done, and we want the line",
    Input.STORED_LAST: "the commit of the L record is done",
    Input.REFUSED: "the commit failed, or nobody knows",
    Input.QUEUED: "there is a message to send",
    Input.TIMEOUT: "the timer has run out",
    Input.LOST: "the connection has ended",
}
ACTIONS = {
    Action.IGNORE: "nothing",
    Action.SKIP: "count it and keep it as evidence",
    Action.ACCEPT: "send ACK; a session begins; {frame_wait_s:g} s",
    Action.DECLINE: "send NAK",
    Action.RESTART: "end the session, send ACK, begin another; {frame_wait_s:g} s",
    Action.BREAK_OFF: "end the session, send NAK",
    Action.ACK_AGAIN: "send ACK; the session goes on; {frame_wait_s:g} s",
    Action.OPEN: "a session begins, nothing is sent; {frame_wait_s:g} s",
    Action.OPEN_BARE: "a session begins, nothing is sent; {frame_wait_s:g} s",
    Action.END: "end the session",
    Action.END_ABORTED: "end the session; the message is not complete",
    Action.END_TIMEOUT: "end the session",
    Action.END_LOST: "end the session; what is queued has failed",
    Action.END_BARE: "end the session",
    Action.END_REFUSED: "end the session, keep the record as evidence",
    Action.HAND_OVER: "hand it over to be committed",
    Action.REPEAT_ACK: "send ACK, store nothing; {frame_wait_s:g} s",
    Action.REPEAT_EOT: "send EOT, store nothing; {frame_wait_s:g} s",
    Action.REJECT: "send NAK; {frame_wait_s:g} s",
    Action.ACK_FRAME: "send ACK; {frame_wait_s:g} s",
    Action.EOT_FRAME: "send EOT, which accepts the frame and asks for the line; {frame_wait_s:g} s",
    Action.NAK_FRAME: "send NAK; {frame_wait_s:g} s",
    Action.KEEP: "send nothing; {frame_wait_s:g} s",
    Action.ENQUIRE: "send ENQ; {reply_wait_s:g} s",
    Action.FIRST_FRAME: "send the first frame; {reply_wait_s:g} s",
    Action.NEXT_FRAME: "send the next frame; {reply_wait_s:g} s",
    Action.RESEND: "send the same frame again; {reply_wait_s:g} s",
    Action.FINISH: "send EOT; the message is delivered",
    Action.ABORT: "send EOT; the message has failed",
    Action.WAIT_BUSY: "hold off {busy_hold_off_s:g} s; the message stays queued",
    Action.WAIT_CONTENTION: "hold off {host_hold_off_s:g} s as host, {instrument_hold_off_s:g} s as instrument; the "
    "message stays queued",
    Action.WAIT_SILENCE: "send EOT, hold off {busy_hold_off_s:g} s; the message stays queued",
    Action.WAIT_NOBODY: "send EOT, unless other bytes came: their sender may be in mid-message, and would take it for"
    " an ACK; hold off {busy_hold_off_s:g} s; the message stays queued",
    Action.YIELD: "send EOT, hold off {interrupt_hold_off_s:g} s; the message stays queued, from its first frame",
    Action.FAIL_ALL: "what is queued has failed",
}
LENIENCIES = {
    Leniency.NO_CHECKSUM: "The digits are wrong or not sent. Nothing tells a damaged frame from a good one any more.",
    Leniency.ZERO_CHECKSUM: "`00` stands for any sum; other wrong digits are refused.",
    Leniency.LOWER_CASE_CHECKSUM: "The digits are right and in lower case.",
    Leniency.MISSING_CRLF: "A frame ends with its checksum; CR, LF, both or nothing may follow.",
    Leniency.FN_UNSEQUENCED: "Frame numbers count anyhow: a frame is taken by its checksum. One byte-identical to the "
    "frame before it is still a repeat. A frame that the sender left out is not seen.",
    Leniency.MISSING_ENQ: "STX outside a session begins one; its frames are answered as always.",
    Leniency.REPEATED_ENQ: "ENQ in a session is acknowledged and changes nothing; without it ENQ ends the session, the "
    "message is incomplete and another session begins. An H record begins a new message either way. Beside "
    "`fn_unsequenced` only before the first frame: later, noise that reads as ENQ could cost a frame unseen.",
    Leniency.BARE_RECORDS: "A line that begins with an H record, outside a session, begins a message without frames. "
    "Each record is committed as it comes; nothing is answered. The L record completes the message, also where silence "
    "({bare_wait_s:g} s), EOT, ENQ or the connection's end stand for its record end; otherwise {frame_wait_s:g} s "
    "of silence leave it incomplete. Its sender can be told nothing, so while nothing can be stored nothing more is "
    "read from it.",
    Leniency.NO_TERMINATOR_RECORD: "EOT completes a message that began with H and whose last frame, ended by ETX, was "
    "acknowledged. It stays incomplete after silence, a lost line, a new ENQ or H, and after an EOT that follows ETB, "
    "a refused or a cut frame, or comes as late as from a sender that never heard our ACK. The receiver interrupt is "
    "off: a sender that honours it ends with EOT as well.",
    Leniency.FN_FROM_ZERO: "The first frame is number 0.",
    Leniency.ODD_FIRST_FN: "The first frame is number 2 to 7.",
    Leniency.CRLF_RECORDS: "CR LF ends a record. The bytes are kept as sent.",
    Leniency.LF_RECORDS: "LF ends a record. The bytes are kept as sent.",
    Leniency.MISSING_FINAL_CR: "ETX ends the record before it.",
}
_HALVES = (
    ("Receiving", (State.NEUTRAL, State.RECEIVING, State.STORING, State.BARE, State.BARE_STORING)),
    ("Sending", (State.NEUTRAL, State.HOLD_OFF, State.ENQUIRING, State.SENDING, State.RECEIVING)),
)
_INTRO = """\
# The LIS01-A2 data link

One table drives receiver and sender ([datalink_table.py](../interface/wire/datalink_table.py)); this page is made from
it with `python -m interface.wire.datalink_doc > docs/datalink.md`, and a test holds the two together.

A frame is answered only once its bytes are committed. ACK accepts it, and so does EOT: a receiver that wants the line
answers each frame with EOT until it has the line. NAK says that it is not stored. The numbers run 1 to 7, then 0. A
frame byte-identical to the one accepted last is a repeat whose ACK was lost: acknowledged again, stored once. The
same number with other bytes, or a gap, is refused. Of ENQs without a frame between them the first is answered: another
ACK would be taken for that of the first frame. What is not in the table cannot happen.

What a link says of itself (answers to queries, downloads) it says in the neutral state only, one message at a time; its
rows are committed before. A link makes one attempt at a message, then it is due again, and what is said next may be
something else: when the hold-off is over, after {max_rejects} rejections of a frame 10 s later; to an analyzer that
answers no ENQ less and less often, to 60 s, and at once when it has spoken. See [two-way](two-way.md).
"""
_LENIENT = """
## Leniencies

What LIS01-A2 and LIS02-A2 do not allow and instruments do. Those that are off are taken only where the driver
(`[framing] leniencies`) or the link (`leniencies` in the [configuration](configuration.md)) names them. Each use is
counted: in the metric `labora_leniencies{link, leniency}`, in `labora link status` and in `/api/links`.

| name | default | what is taken |
| --- | --- | --- |
"""


def document() -> str:
    """The page."""
    parts = [_told(_INTRO), *(_diagram(title, states) for title, states in _HALVES), *map(_state, State), _LENIENT]
    for name in Leniency:
        parts.append(f"| `{name}` | {'on' if name in ALWAYS else 'off'} | {_told(LENIENCIES[name])} |\n")
    return "".join(parts)


def _diagram(title: str, states: tuple[State, ...]) -> str:
    """Steps between these states that lead from one to another, those that share both ends on one arrow."""
    lines = [f"\n## {title}\n", "```mermaid", "stateDiagram-v2", f"    [*] --> {State.NEUTRAL}"]
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, signal), (_, target) in TABLE.items():
        if state in states and target in states and state is not target:
            arrows.setdefault((state, target), []).append(signal)
    lines += [f"    {state} --> {target} : {', '.join(signals)}" for (state, target), signals in arrows.items()]
    return "\n".join([*lines, "```\n"])


def _state(state: State) -> str:
    lines = [f"\n## `{state}`: {STATES[state]}\n", "| input | when | action | then |", "| --- | --- | --- | --- |"]
    for (source, signal), (action, target) in TABLE.items():
        if source is state:
            then = "" if target is state else f"`{target}`"
            lines.append(f"| `{signal}` | {_told(INPUTS[signal])} | {_told(ACTIONS[action])} | {then} |")
    return "\n".join(lines) + "\n"


def _told(text: str) -> str:
    """With the standard's seconds and counts, which are the options' defaults."""
    return text.format(**asdict(LinkOptions()))


if __name__ == "__main__":
    sys.stdout.write(document())
