"""Which test shows which fault of the fault plan: F1 to F19, each in its short form inside `scripts/test`; and
what is counted of those that `scripts/soak F9` runs again and again (`SOAK`).

`python -m tests.fault.plan F3` prints the tests of a fault, for pytest.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from typing import Final

_LOOP, _LIARS = "tests/fault/test_loop.py::", "tests/fault/test_liars.py::"
_MAIN, _WIRED = "tests/e2e/test_main_job.py::", "tests/e2e/test_wire_to_journal.py::"
_JOURNAL, _INTAKE, _RESULTS = (
    "tests/store/test_journal.py::",
    "tests/flow/test_intake.py::",
    "tests/flow/test_results.py::",
)
_SUPERVISOR, _ASTM, _MLLP = (
    "tests/link/test_supervisor.py::",
    "tests/link/test_astm.py::",
    "tests/link/test_mllp_link.py::",
)
_LINE, _TLS, _SUBSCRIBED = (
    "tests/wire/test_datalink_properties.py::",
    "tests/link/test_tls.py::",
    "tests/api/test_subscriptions.py::",
)
_BAD_LINES = "tests/e2e/test_bad_lines.py::"
_TLS_WHOLE = "tests/e2e/test_tls_whole.py::"
_API, _LIMITS = "tests/api/test_hostile.py::", "tests/api/test_limits.py::"

PLAN: Final[dict[str, tuple[str, ...]]] = {
    "F1": (  # the daemon is killed
        _LOOP + "test_processes_of_the_daemon_and_of_its_own_database_are_ended_in_every_way",
        _LIARS + "test_who_acknowledges_before_the_commit_is_found_out",
        _MAIN + "test_what_was_acknowledged_survives_kill_9_and_a_resend_is_not_doubled",
        _MAIN + "test_a_transmission_cut_by_kill_9_is_kept_and_superseded_by_its_resend",
        "tests/e2e/test_two_way.py::test_killed_between_the_commit_and_the_bytes_the_message_goes_out_after_the_start",
        "tests/e2e/test_hospital.py::test_a_daemon_that_is_killed_between_commit_and_reply_answers_the_resend_with_the_same_order",
        "tests/e2e/test_folder_link.py::test_a_kill_between_commit_and_move_loses_and_doubles_nothing",
        "tests/e2e/test_declared_links.py::test_what_a_declared_framing_acknowledged_survives_kill_9_and_is_not_doubled",
        "tests/e2e/test_wire_log.py::test_kill_9_costs_no_frame_that_was_acknowledged",
        "tests/e2e/test_standby.py::test_the_second_takes_over_when_the_first_is_killed_or_frozen",
        "tests/flow/test_worker.py::test_when_the_process_is_killed_again_and_again_only_what_was_alone_at_work_is_parked",
    ),
    "F2": (  # the power is cut
        _LOOP + "test_the_power_is_cut",
        _LIARS + "test_who_commits_without_waiting_for_the_disk_is_found_out",
        "tests/store/test_db.py::test_commits_that_do_not_wait_for_the_disk_are_refused",
        "tests/store/test_embedded.py::test_the_lock_files_of_a_server_that_lost_its_power_stop_nobody",
    ),
    "F3": (  # PostgreSQL ends
        _LOOP + "test_processes_of_the_daemon_and_of_its_own_database_are_ended_in_every_way",
        _LOOP + "test_a_server_that_the_daemon_finds_is_ended_frozen_and_locked",
        _MAIN + "test_while_postgresql_is_stopped_nothing_is_acknowledged_and_the_links_recover_by_themselves",
        _MAIN + "test_a_frame_in_mid_session_is_refused_while_postgresql_is_away_and_taken_afterwards",
        _JOURNAL + "test_a_cut_connection_is_survived_within_the_time_an_append_may_wait",
        "tests/e2e/test_hospital.py::test_while_the_database_is_away_nothing_is_promised_and_afterwards_it_is_done",
        "tests/e2e/test_outages.py::test_a_database_that_is_stopped_and_started",
    ),
    "F4": (  # PostgreSQL does not answer, or one table is locked
        "tests/fault/test_stalls.py::test_while_the_database_or_a_table_stands_still_reads_end_and_nothing_is_lost",
        "tests/store/test_frozen.py::test_a_server_that_stands_still_holds_up_no_read",
        _LOOP + "test_a_server_that_the_daemon_finds_is_ended_frozen_and_locked",
        _JOURNAL + "test_an_append_is_refused_in_time_whatever_the_writer_waits_for",
        _JOURNAL + "test_a_message_that_is_being_decided_holds_up_no_commit",
    ),
    "F5": (  # an orderly end, a reload
        _LOOP + "test_processes_of_the_daemon_and_of_its_own_database_are_ended_in_every_way",
        "tests/e2e/test_reload.py::test_links_are_added_changed_and_removed_beside_connections_that_stay",
        "tests/e2e/test_standby.py::test_an_orderly_stop_hands_over_at_once",
        _SUPERVISOR + "test_a_stop_lets_a_session_end_and_begins_none",
        "tests/e2e/test_api_processes.py::test_processes_are_replaced_under_load_and_nobody_is_refused_reset_or_left_unanswered",
    ),
    "F6": (  # the disk is full
        "tests/e2e/test_outages.py::test_a_disk_that_is_filled_and_freed",
        "tests/link/test_folder.py::test_a_disk_that_is_full_at_the_move_stores_nothing_twice",
        "tests/ops/test_backup.py::test_a_full_disk_leaves_no_half_backup",
        "tests/ops/test_machine_watch.py::test_a_disk_that_fills_up_is_one_alert_and_its_room_another",
    ),
    "F7": (  # the n-th call fails
        "tests/fault/test_nth_call.py::test_whichever_call_fails_and_however_nothing_is_lost_doubled_or_left_by_half",
        _INTAKE + "test_a_frame_repeated_after_a_failed_commit_is_stored_once",
        "tests/flow/test_worker.py::test_what_was_claimed_when_the_database_went_away_is_due_again_at_once_and_not_counted",
    ),
    "F8": (  # bytes one by one, together, cut anywhere
        "tests/wire/test_mllp.py::test_any_bytes_in_any_chunks_give_the_same_events",
        "tests/wire/test_lis01.py::test_any_bytes_in_any_chunks_give_the_same_events",
        "tests/wire/test_declared.py::test_arbitrary_bytes_give_the_same_however_they_are_cut",
        "tests/driver/test_vectors.py::test_a_vector_decodes_as_expected_whole_byte_by_byte_and_split",
        _ASTM + "test_eot_and_enq_in_one_segment",
        _WIRED + "test_bytes_one_at_a_time",
        _WIRED + "test_two_frames_in_one_read",
    ),
    "F9": (  # connections are reset, half open, doubled, slow
        _WIRED + "test_a_line_cut_in_a_frame_keeps_what_was_acknowledged",
        _BAD_LINES + "test_a_line_that_is_far_or_slow_costs_time_and_no_message_is_sent_twice",
        _BAD_LINES + "test_a_line_that_is_reset_wherever_loses_and_doubles_nothing",
        _BAD_LINES + "test_an_acknowledgement_that_is_lost_doubles_nothing",
        _BAD_LINES + "test_a_second_connection_of_an_analyzer_is_served_at_once_beside_one_that_fell_silent",
        _SUPERVISOR + "test_a_peer_that_vanished_is_found_whether_it_owes_us_a_receipt_or_not",
        _SUPERVISOR + "test_a_peer_that_vanished_is_found_within_a_minute",
        _SUPERVISOR + "test_a_peer_without_power_is_found_by_keep_alive",
        _SUPERVISOR + "test_an_analyzer_that_lost_its_power_finds_its_place_free",
        _INTAKE + "test_two_connections_of_one_analyzer_do_not_mix",
        _ASTM + "test_a_slow_frame_may_take_longer_than_the_wait_between_frames",
        _LINE + "test_over_a_bad_line_each_message_arrives_once_or_is_reported",
        "tests/link/test_serial.py::test_bytes_that_trickle",
        "tests/e2e/test_two_way.py::test_work_is_told_without_asking_and_a_broken_line_in_the_middle_of_it_doubles_nothing",
    ),
    "F10": (  # who dribbles, floods, never ends, never reads
        "tests/fault/test_mob.py::test_who_is_served_loses_nothing_beside_a_mob_and_the_daemon_does_not_grow",
        "tests/fault/test_mob.py::test_one_peer_takes_no_more_than_its_links_connections",
        "tests/e2e/test_crowd.py::test_healthy_links_lose_nothing_beside_misbehaving_ones_and_none_is_wedged",
        _MLLP + "test_an_oversize_block_is_dropped_and_the_link_goes_on",
        _MLLP + "test_a_peer_that_reads_no_replies_is_read_from_no_more_and_cut_off",
        _SUPERVISOR + "test_the_connection_limit_holds_and_frees",
        _LINE + "test_memory_is_bounded_whatever_floods_a_link",
        _LIMITS + "test_a_request_that_never_ends_is_ended",
        _LIMITS + "test_connections_have_an_end",
    ),
    "F11": (  # the data link's errors
        _LINE + "test_any_input_in_any_order_raises_nothing_and_wedges_nothing",
        _LINE + "test_over_a_bad_line_each_message_arrives_once_or_is_reported",
        _LINE + "test_contention_of_both_sides_always_resolves",
        "tests/link/test_contention.py::test_in_300_seeded_collisions_nothing_is_lost_doubled_or_stuck_and_the_host_yields",
        "tests/link/test_sending.py::test_six_rejections_of_a_frame_end_the_attempt_and_it_is_due_again",
        _ASTM + "test_thirty_seconds_of_silence_end_the_session",
    ),
    "F12": (  # simulation
        "tests/link/test_contention.py::test_in_300_seeded_collisions_nothing_is_lost_doubled_or_stuck_and_the_host_yields",
        "tests/simulation/test_simulation.py::test_what_was_promised_is_so_whatever_a_seed_brings",
        "tests/simulation/test_simulation.py::test_a_seed_replays_event_by_event_also_in_another_process",
    ),
    "F13": ("tests/fuzz/test_fuzz.py::test_the_seeds_raise_nothing",),
    "F14": (  # poison, unknown codes, wrong charsets, large fields, a control id used again
        "tests/e2e/test_hard_messages.py::test_each_is_answered_and_kept_and_the_queue_behind_it_moves",
        _RESULTS + "test_a_message_that_crashes_its_decoding_is_parked_at_the_third_attempt_and_the_rest_moves_on",
        _RESULTS + "test_what_is_not_certain_is_held_with_its_reason",
        _RESULTS + "test_a_large_message_is_decoded_and_decided_while_the_links_are_served",
        _RESULTS + "test_another_value_under_the_same_key_is_a_new_version_and_the_old_one_is_kept",
        _JOURNAL + "test_a_poisoned_row_refuses_only_its_own_link",
        "tests/wire/test_hl7.py::test_a_charset_that_is_not_what_it_says_is_reported",
    ),
    "F15": (  # the EMR's endpoint is down, slow, wrong
        _SUBSCRIBED + "test_a_dead_endpoint_is_waited_out_in_order_and_then_off_until_resumed",
        _SUBSCRIBED + "test_what_is_refused_becomes_a_letter_and_the_next_is_told",
        _SUBSCRIBED + "test_a_process_killed_between_sending_and_noting_sends_it_again_first",
        _SUBSCRIBED + "test_a_redirect_is_not_followed_and_an_endless_answer_not_read",
        "tests/flow/test_hooks.py::test_an_answer_that_does_not_come_leaves_it_open_whether_it_was_taken",
    ),
    "F16": (  # TLS
        _TLS_WHOLE + "test_only_tls_1_2_and_newer_with_forward_secrecy_is_taken",
        _TLS_WHOLE + "test_a_listener_that_takes_what_is_old_is_found_out",
        _TLS_WHOLE + "test_certificates_that_ended_were_revoked_or_are_anothers_are_refused_and_a_good_one_is_served",
        _TLS_WHOLE + "test_who_stalls_in_a_handshake_or_speaks_plainly_costs_nobody_else",
        _TLS + "test_no_tls_below_1_2",
        "tests/e2e/test_outages.py::test_a_certificate_that_ends",
        _TLS + "test_where_an_authority_is_named_a_peer_must_show_a_certificate_of_it",
        _TLS + "test_a_peer_that_says_nothing_takes_no_place_and_is_cut_off",
        _TLS + "test_handshakes_under_way_are_limited",
        _TLS + "test_a_peer_without_tls_is_refused_and_the_link_goes_on",
        _LIMITS + "test_over_tls_everything_is_https",
    ),
    "F17": (  # the API
        "tests/api/test_openapi.py::test_schemathesis_finds_no_fault_inside_and_no_status_that_is_not_said",
        _API + "test_another_laboratorys_records_answer_like_none_everywhere",
        _API + "test_a_scope_cannot_be_widened",
        _API + "test_bodies_without_measure_are_refused",
        _API + "test_no_subscription_sends_anything_where_nobody_allowed",
        _LIMITS + "test_who_asks_too_often_is_told_when_to_come_again",
    ),
    "F18": (  # clocks
        "tests/e2e/test_outages.py::test_a_clock_that_is_stepped",
        _INTAKE + "test_a_clock_that_goes_back_neither_loses_nor_doubles",
        "tests/ops/test_machine_watch.py::test_a_clock_that_is_stepped_is_one_alert",
        "tests/domain/test_intervals.py::test_an_hour_is_sixty_minutes_when_the_clocks_change",
    ),
    "F19": (  # backup and restore
        "tests/ops/test_backup_restore.py::test_the_drill",
        "tests/ops/test_backup_restore.py::test_a_restore_that_fails_leaves_everything_as_it_was",
        "tests/ops/test_pitr.py::test_a_server_is_brought_back_to_a_moment",
    ),
}  # fmt: skip

COUNTED: Final = "counted"  # the property by which a test says how much of its soak it was


class Unit(Enum):
    """What is counted of the rounds of a fault's tests."""

    TOLD = "what tests have counted"  # by record_property(COUNTED, ...)
    EXAMPLES = "examples that passed"  # of Hypothesis
    SECONDS = "seconds"
    ROUNDS = "rounds"


@dataclass(frozen=True, slots=True)
class Soak:
    """`counted`: in words; `wanted`: as the plan's soak column has it; `only`: not every test of the plan's row, where
    others show the same without anything to count; `more`: long tests beside them."""

    unit: Unit
    counted: str
    wanted: str
    only: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


_FILLED = "tests/e2e/test_outages.py::test_a_disk_that_is_filled_again_and_again"
_MOBBED = "tests/fault/test_mob.py::test_good_analyzers_are_served_as_fast_beside_a_thousand_that_are_not"
_STALLED = "tests/fault/test_stalls.py::test_nobody_waits_long_however_long_it_stands_still"

SOAK: Final[dict[str, Soak]] = {
    "F4": Soak(Unit.TOLD, "freezes and locks of 1 to 60 s", "40", only=(_STALLED,)),
    "F6": Soak(Unit.TOLD, "disks filled and freed under load", "60", only=(_FILLED,)),
    "F7": Soak(Unit.TOLD, "calls that failed", "every call", only=PLAN["F7"][:1]),
    "F8": Soak(Unit.EXAMPLES, "chunkings", "50,000", only=PLAN["F8"][:3]),
    "F9": Soak(Unit.SECONDS, "seconds of rounds", "180"),
    "F10": Soak(Unit.SECONDS, "seconds of rounds", "120", more=(_MOBBED,)),
    "F11": Soak(Unit.EXAMPLES, "examples of line errors", "20,000", only=PLAN["F11"][:3]),
    "F14": Soak(Unit.ROUNDS, "rounds", "none"),
    "F15": Soak(Unit.SECONDS, "seconds of rounds", "60"),
    "F16": Soak(Unit.SECONDS, "seconds of rounds", "60"),
    "F17": Soak(Unit.SECONDS, "seconds of rounds", "180"),
    "F18": Soak(
        Unit.ROUNDS, "rounds", "none", more=("tests/e2e/test_outages.py::test_a_clock_that_is_stepped_twenty_times",)
    ),
    "F19": Soak(Unit.ROUNDS, "backups restored and compared, and failures on the way", "3"),
}  # fmt: skip

if __name__ == "__main__":
    print(*dict.fromkeys(test for fault in sys.argv[1:] or PLAN for test in PLAN[fault]), sep="\n")
