"""The transition table against a copy typed from PROTOCOLS 1.3 and 1.4, not from the code."""

from __future__ import annotations

from interface.wire.datalink_table import TABLE, Action, Input, State

# One row per input, one column per state; "." cannot happen; "action>state", or the action alone: stay.
EXPECTED = """
                neutral           hold_off           receiving            storing             enquiring                 sending
enq             accept>receiving  accept>receiving   restart              .                   wait_contention>hold_off  .
enq_not_ready   decline           decline            break_off>neutral    .                   wait_contention>hold_off  .
eot             ignore            ignore             end>neutral          .                   wait_busy>hold_off        .
ack             .                 .                  .                    .                   first_frame>sending       next_frame
ack_last        .                 .                  .                    .                   .                         finish>neutral
nak             .                 .                  .                    .                   wait_busy>hold_off        resend
nak_last        .                 .                  .                    .                   .                         abort>neutral
interrupt       .                 .                  .                    .                   .                         yield>hold_off
junk            skip              skip               .                    .                   skip                      .
frame           .                 .                  hand_over>storing    .                   .                         .
repeat          .                 .                  repeat_ack           .                   .                         .
bad_frame       .                 .                  reject               .                   .                         .
cut_frame       .                 .                  end_cut>neutral      .                   .                         .
stored          ignore            ignore             ignore               ack_frame>receiving ignore                    ignore
refused         ignore            ignore             ignore               nak_frame>receiving ignore                    ignore
queued          enquire>enquiring ignore             ignore               ignore              ignore                    ignore
timeout         ignore            ignore>neutral     end_timeout>neutral  ignore              wait_silence>hold_off     wait_silence>hold_off
lost            ignore            fail_all>neutral   end_lost>neutral     end_lost>neutral    fail_all>neutral          fail_all>neutral
"""  # noqa: E501


def test_the_table_is_what_the_standard_says() -> None:
    head, *rows = EXPECTED.strip("\n").splitlines()
    states = [State(word) for word in head.split()]
    assert set(states) == set(State)
    expected = dict[tuple[State, Input], tuple[Action, State]]()
    for row in rows:
        signal, *cells = row.split()
        assert len(cells) == len(states)
        for state, cell in zip(states, cells, strict=True):
            if cell != ".":
                action, _, target = cell.partition(">")
                expected[state, Input(signal)] = Action(action), State(target or state)
    assert {Input(row.split()[0]) for row in rows} == set(Input)
    assert expected == TABLE


def test_no_state_is_a_dead_end() -> None:
    for state in State:
        assert {target for (source, _), (_, target) in TABLE.items() if source is state} - {state}
        assert any(target is state for (source, _), (_, target) in TABLE.items() if source is not state)


def test_every_action_is_used() -> None:
    assert {action for action, _ in TABLE.values()} == set(Action)
