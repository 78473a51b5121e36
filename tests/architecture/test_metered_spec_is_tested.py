"""Each MUST of docs/spec/metered-channel.md has a number, and each number tests that exist."""

from __future__ import annotations

from support.specs import TESTS, check_kept, check_musts

SPEC = TESTS.parent / "docs" / "spec" / "metered-channel.md"

FRAMES = "unit/test_engine_frames_are_as_written.py"
CANARIES = "unit/test_engine_compares_canaries.py"
COMPARES = "integration/test_engine_compares_before_it_serves.py"
COUNTED = "property/test_gateway_lets_nothing_pass_uncounted.py"
CAREFUL = "unit/test_gateway_is_careful.py"
STOPS = "integration/test_gateway_stops_a_compromised_engine.py"
INSIDE = "property/test_taximeter_lets_out_no_more_than_the_log_vouches_for.py"
PORT = "integration/test_vm_channel_is_metered.py"
REPLAYS = "integration/test_gateway_replays_what_it_serves.py"
EMBEDDINGS = "integration/test_gateway_serves_embeddings.py"

KEPT_BY: dict[int, list[tuple[str, str]]] = {
    1: [(FRAMES, "test_refused_frames"), ("fuzz/test_gateway_parsers.py", "test_frames")],
    2: [(FRAMES, "test_refused_orders"), ("fuzz/test_gateway_parsers.py", "test_orders")],
    3: [
        (CANARIES, "test_a_schedule_says_vectors_whole_and_only_where_one_was_asked_for"),
        (CANARIES, "test_a_schedule_says_what_agreed_only_where_that_was_asked_for"),
    ],
    4: [
        (COMPARES, "test_it_is_compared_before_anything_is_said"),
        (COMPARES, "test_a_model_with_one_tensor_exchanged_serves_nothing"),
    ],
    5: [(CANARIES, "test_a_metered_command_s_end_says_one_of_three_words")],
    6: [(CANARIES, "test_no_canaries_are_none_and_a_model_cannot_bring_its_own")],
    7: [
        (COUNTED, "test_an_engine_says_no_more_than_was_reserved"),
        (CAREFUL, "test_prompts_are_checked_before_anything_is_reserved"),
    ],
    8: [
        (STOPS, "test_whatever_it_stuffs_into_frames"),
        (EMBEDDINGS, "test_a_taken_over_encoder_says_no_more_than_its_numbers"),
        (EMBEDDINGS, "test_halves_of_numbers_do_not_come_in_an_answer_of_tokens"),
    ],
    9: [
        (COUNTED, "test_an_engine_says_no_more_than_was_reserved"),
        (CAREFUL, "test_a_number_is_counted_whole_with_its_first_half"),
    ],
    10: [
        (CAREFUL, "test_numbers_are_given_out_lowest_first_and_only_when_free"),
        (STOPS, "test_an_engine_that_goes_on_after_a_cancel_is_counted_and_ended"),
    ],
    11: [
        (CAREFUL, "test_what_an_answer_may_still_send_may_lie_unread_and_no_more"),
        (STOPS, "test_part_of_a_frame_after_the_answer_is_seen_by_the_count_alone"),
    ],
    12: [(STOPS, "test_whatever_it_stuffs_into_frames")],
    13: [(EMBEDDINGS, "test_without_the_policy_s_leave_none_leaves_and_with_it_no_tokens_do")],
    14: [(CAREFUL, "test_what_others_left_of_a_shared_limit_is_not_told")],
    15: [
        (INSIDE, "test_entries_of_others_help_nobody"),
        (INSIDE, "test_the_first_entry_binds_the_meter_to_its_run"),
    ],
    16: [
        (INSIDE, "test_no_bit_passes_that_was_not_vouched_for"),
        (PORT, "test_an_order_that_the_log_does_not_vouch_for_ends_the_machine"),
    ],
    17: [
        (INSIDE, "test_no_bit_passes_that_was_not_vouched_for"),
        (PORT, "test_what_an_engine_may_not_say_does_not_leave"),
    ],
    18: [
        (INSIDE, "test_how_an_engine_interleaves_answers_tells_nothing"),
        (INSIDE, "test_an_answer_does_not_wait_for_those_that_ended"),
    ],
    19: [
        (INSIDE, "test_entries_of_others_help_nobody"),
        (PORT, "test_what_an_engine_may_not_say_does_not_leave"),
    ],
    20: [(PORT, "test_a_metered_machine_has_no_other_output")],
    21: [(INSIDE, "test_a_machine_that_answers_replays_nothing")],
    22: [
        (REPLAYS, "test_a_client_gets_the_same_bytes_with_and_without_it"),
        (REPLAYS, "test_whatever_a_second_engine_stuffs_into_frames"),
    ],
}


def test_each_must_has_a_number() -> None:
    check_musts(SPEC, "MC")


def test_each_number_is_kept_by_tests() -> None:
    check_kept(SPEC, "MC", KEPT_BY)
