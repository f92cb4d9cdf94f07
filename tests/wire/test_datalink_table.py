"""The transition table against a copy typed from PROTOCOLS 1.3 and 1.4, not from the code."""

from __future__ import annotations

from pathlib import Path

from interface.wire import datalink_doc
from interface.wire.datalink_events import Leniency
from interface.wire.datalink_table import TABLE, Action, Input, State

# One row per input, one column per state; "." cannot happen; "action>state", or the action alone: stay.
EXPECTED = """
                neutral            hold_off           receiving            storing              enquiring                 sending                bare                  bare_storing
enq             accept>receiving   accept>receiving   restart              .                    wait_contention>hold_off  .                      restart>receiving     .
enq_not_ready   decline            decline            break_off>neutral    .                    wait_contention>hold_off  .                      break_off>neutral     .
enq_again       .                  .                  ack_again            .                    .                         .                      .                     .
enq_conceded    .                  .                  .                    .                    accept>receiving          .                      .                     .
stx             open>receiving     open>receiving     .                    .                    open>receiving            .                      .                     .
record          open_bare>bare     open_bare>bare     .                    .                    open_bare>bare            .                      .                     .
eot             ignore             ignore             end>neutral          .                    wait_busy>hold_off        .                      end>neutral           .
eot_abort       .                  .                  end_aborted>neutral  .                    .                         .                      .                     .
ack             .                  .                  .                    .                    first_frame>sending       next_frame             .                     .
ack_last        .                  .                  .                    .                    .                         finish>neutral         .                     .
nak             .                  .                  .                    .                    wait_busy>hold_off        resend                 .                     .
nak_last        .                  .                  .                    .                    .                         abort>neutral          .                     .
interrupt       .                  .                  .                    .                    .                         yield>hold_off         .                     .
junk            skip               skip               .                    .                    skip                      .                      .                     .
frame           .                  .                  hand_over>storing    .                    .                         .                      hand_over>bare_storing .
repeat          .                  .                  repeat_ack           .                    .                         .                      .                     .
repeat_wanted   .                  .                  repeat_eot           .                    .                         .                      .                     .
bad_frame       .                  .                  reject               .                    .                         .                      .                     .
cut_frame       .                  .                  end_aborted>neutral  .                    .                         .                      .                     .
stored          ignore             ignore             ignore               ack_frame>receiving  ignore                    ignore                 ignore                keep>bare
stored_wanted   .                  .                  .                    eot_frame>receiving  .                         .                      .                     .
stored_last     .                  .                  .                    .                    .                         .                      .                     end_bare>neutral
refused         ignore             ignore             ignore               nak_frame>receiving  ignore                    ignore                 ignore                end_refused>neutral
queued          enquire>enquiring  ignore             ignore               ignore               ignore                    ignore                 ignore                ignore
timeout         ignore             ignore>neutral     end_timeout>neutral  ignore               wait_nobody>hold_off      wait_silence>hold_off  end_timeout>neutral   ignore
lost            ignore             fail_all>neutral   end_lost>neutral     end_lost>neutral     fail_all>neutral          fail_all>neutral       end_lost>neutral      end_lost>neutral
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


def test_the_page_in_the_documentation_is_what_the_table_gives() -> None:
    page = Path(__file__).parents[2] / "docs" / "datalink.md"
    assert page.read_text(encoding="utf-8") == datalink_doc.document()


def test_the_page_has_words_for_everything() -> None:
    assert set(datalink_doc.STATES) == set(State)
    assert set(datalink_doc.INPUTS) == set(Input)
    assert set(datalink_doc.ACTIONS) == set(Action)
    assert set(datalink_doc.LENIENCIES) == set(Leniency)
