"""Each MUST of docs/spec/sealed-weights.md has a number, and each number tests that exist."""

from __future__ import annotations

from support.specs import TESTS, check_kept, check_musts

SPEC = TESTS.parent / "docs" / "spec" / "sealed-weights.md"

HOLES = "promises/test_sealed_holes_of_peers_closed.py"
GOES_ON = "promises/test_seal_goes_on_where_it_was.py"
WHOLE = "promises/test_seal_all_or_nothing.py"
TAMPERED = "property/test_tampering_refused.py"
PARSERS = "fuzz/test_sealing_parsers.py"
DIRECTORY = "unit/test_sealed_directory.py"
MANIFEST = "unit/test_sealing_manifest.py"
LIMITS = "unit/test_sealed_limits.py"
SOURCES = "unit/test_local_sources_agree.py"
HYBRID = "unit/test_hybrid_signature_needs_both_halves.py"
VECTORS = "vectors/test_sealed_vectors.py"

KEPT_BY: dict[int, list[tuple[str, str]]] = {
    1: [(HOLES, "test_a_header_that_chooses_even_if_the_publisher_signed_it")],
    2: [
        (MANIFEST, "test_any_other_member_is_refused"),
        (MANIFEST, "test_a_missing_member_is_refused"),
        (PARSERS, "test_index_with_an_arbitrary_member_is_refused_or_means_exactly_its_bytes"),
        (LIMITS, "test_another_form_of_recipients_is_refused"),
    ],
    3: [(PARSERS, "test_an_index_that_lies_is_refused"), (HOLES, "test_a_manifest_that_names_other_files")],
    4: [(PARSERS, "test_a_name_that_passes_stays_inside"), (PARSERS, "test_names_that_mean_one_file_collide")],
    5: [("unit/test_sealed_canaries.py", "test_a_vector_of_another_direction_length_or_kind_is_refused")],
    6: [(LIMITS, "test_whoever_takes_the_key_from_a_stanza_compares_it_with_the_manifest_and_checks_the_list")],
    7: [
        (HOLES, "test_recipients_stripped_make_nobody_fall_back"),
        (HOLES, "test_recipients_changed_are_noticed_by_all_who_can_open"),
    ],
    8: [(MANIFEST, "test_a_manifest_is_not_talked_down_to_one_algorithm")],
    9: [(HYBRID, "test_anything_less_than_both_halves_is_refused")],
    10: [(DIRECTORY, "test_two_versions_share_no_ciphertext")],
    11: [
        ("property/test_sealed_roundtrip.py", "test_an_object_goes_on_after_its_good_segments"),
        ("property/test_sealed_roundtrip.py", "test_ciphertext_does_not_show_equal_plaintext"),
    ],
    12: [
        (WHOLE, "test_a_source_that_is_not_plain_files_is_refused"),
        (WHOLE, "test_a_source_that_changes_is_refused"),
    ],
    13: [
        (GOES_ON, "test_killed_at_any_moment_the_old_version_is_whole_and_the_next_call_goes_on"),
        (WHOLE, "test_a_destination_that_appears_meanwhile_is_not_touched"),
    ],
    14: [
        (GOES_ON, "test_zeros_that_a_power_cut_left_are_not_believed"),
        (GOES_ON, "test_a_source_that_changed_in_between_is_sealed_as_it_is_now"),
    ],
    15: [
        (MANIFEST, "test_each_mismatch_has_its_own_refusal"),
        (HOLES, "test_rollback_to_an_old_version"),
    ],
    16: [(DIRECTORY, "test_missing_and_extra_objects_are_refused")],
    17: [
        (HOLES, "test_plaintext_in_the_place_of_an_object"),
        (HOLES, "test_plaintext_in_the_place_of_the_directory"),
    ],
    18: [(HOLES, "test_a_header_that_chooses_even_if_the_publisher_signed_it")],
    19: [(HOLES, "test_any_other_length")],
    20: [
        (HOLES, "test_a_shard_of_another_model_under_the_same_key"),
        (HOLES, "test_objects_of_one_and_the_rest_of_another"),
    ],
    21: [(HOLES, "test_any_byte_of_the_header")],
    22: [(DIRECTORY, "test_wrong_key_is_refused"), (TAMPERED, "test_wrong_key_is_told_by_its_commitment")],
    23: [(HOLES, "test_an_object_for_another_key_that_claims_ours")],
    24: [(TAMPERED, "test_reading_the_start_proves_the_length_first")],
    25: [
        (HOLES, "test_segments_reordered_repeated_cut_off_or_added"),
        (HOLES, "test_one_byte_of_any_segment"),
        (HOLES, "test_a_segment_blanked_with_zeros"),
    ],
    26: [
        (TAMPERED, "test_unauthenticated_plaintext_is_wiped_where_it_was_written"),
        (TAMPERED, "test_after_one_bad_segment_nothing_more_is_read"),
    ],
    27: [(HOLES, "test_what_another_holder_of_the_data_key_forged")],
    28: [
        (SOURCES, "test_private_pieces_are_copies"),
        (SOURCES, "test_a_file_that_others_can_write_is_never_mapped"),
    ],
    29: [(HOLES, "test_the_index_of_another_even_if_its_ids_agree")],
    30: [(DIRECTORY, "test_an_absurd_index_is_refused_before_it_is_read")],
    31: [
        (LIMITS, "test_more_objects_than_a_manifest_holds_are_refused"),
        (LIMITS, "test_an_index_that_is_too_long_or_has_too_many_canaries_is_refused"),
        (LIMITS, "test_names_that_are_too_long_or_too_deep_are_refused"),
        (LIMITS, "test_more_segments_than_floe_allows_are_refused"),
        (LIMITS, "test_more_recipients_than_allowed_are_refused"),
    ],
    32: [(VECTORS, "test_each_case_has_its_outcome_by_every_way_in")],
}


def test_each_must_has_a_number_and_each_number_a_must() -> None:
    check_musts(SPEC, "SW")


def test_each_number_is_kept_by_tests_that_exist() -> None:
    check_kept(SPEC, "SW", KEPT_BY)
