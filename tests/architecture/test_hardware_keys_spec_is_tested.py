"""Each MUST of docs/spec/hardware-keys.md has a number, and each number tests that exist; its example holds."""

from __future__ import annotations

import base64
import hashlib
import re

from strongroom.core.signature import PublicKey
from strongroom.core.webauthn import Assertion
from support.specs import TESTS, check_kept, check_musts

SPEC = TESTS.parent / "docs" / "spec" / "hardware-keys.md"

SIGNATURES = "property/test_security_key_signatures_bind_everything.py"
ATTESTATION = "unit/test_security_key_attestation_refuses.py"
SIGNER = "unit/test_security_key_signs.py"
PROMISE = "promises/test_no_digest_of_a_server_is_signed.py"
BROWSER = "integration/test_browser_signs_what_it_shows.py"
PARTS = (SIGNATURES, "test_each_part_that_is_not_ours_is_refused")

KEPT_BY: dict[int, list[tuple[str, str]]] = {
    1: [
        (SIGNATURES, "test_a_name_that_is_no_relying_party_is_refused"),
        (SIGNATURES, "test_a_relying_party_as_long_as_names_get_fits_every_limit"),
    ],
    2: [
        (SIGNATURES, "test_a_public_key_has_one_form"),
        (SIGNATURES, "test_a_compressed_point_is_no_second_spelling"),
    ],
    3: [
        (SIGNATURES, "test_what_is_written_is_read_and_nothing_more_or_less"),
        (SIGNATURES, "test_a_signature_value_has_one_form"),
    ],
    4: [PARTS, ("fuzz/test_security_key_parsers.py", "test_any_client_data")],
    5: [PARTS],
    6: [PARTS, (SIGNATURES, "test_any_other_message_is_refused"), (SIGNATURES, "test_an_approval_is_no_denial")],
    7: [
        PARTS,
        (SIGNATURES, "test_pages_of_the_relying_party_may_ask"),
        (SIGNATURES, "test_plain_http_is_for_localhost_itself_alone"),
    ],
    8: [PARTS],
    9: [(SIGNATURES, "test_a_key_of_another_relying_party_is_another_key")],
    10: [(SIGNATURES, "test_only_present_and_verified_and_nothing_else")],
    11: [
        (SIGNATURES, "test_any_flipped_bit_is_refused"),
        (SIGNATURES, "test_a_plain_ed25519_signature_is_none_of_a_security_key_and_the_other_way_round"),
    ],
    12: [(ATTESTATION, "test_an_enrolment_lists_two_to_four_security_keys_of_one_relying_party")],
    13: [(ATTESTATION, "test_an_attestation_serves_nobody_else_and_nowhere_else")],
    14: [(ATTESTATION, "test_flags_of_another_kind_of_key_are_refused")],
    15: [(ATTESTATION, "test_an_attestation_is_for_the_key_beside_it")],
    16: [
        (ATTESTATION, "test_a_model_that_is_not_listed_is_refused"),
        (ATTESTATION, "test_an_allowed_model_has_a_form_and_roots"),
    ],
    17: [
        (ATTESTATION, "test_a_key_that_no_maker_vouches_for_is_refused"),
        (ATTESTATION, "test_another_attestation_form_is_refused"),
        (ATTESTATION, "test_a_changed_attestation_is_refused"),
    ],
    18: [(ATTESTATION, "test_a_root_vouches_only_for_the_model_that_its_certificate_names")],
    19: [
        (ATTESTATION, "test_a_forged_chain_is_refused"),
        (ATTESTATION, "test_the_forger_s_own_root_in_the_chain_changes_nothing"),
        (ATTESTATION, "test_a_device_s_certificate_can_not_certify_another"),
        (ATTESTATION, "test_a_root_of_another_model_vouches_for_nothing_here"),
        (ATTESTATION, "test_certificates_hold_at_the_enrolment_s_time"),
    ],
    20: [
        (PROMISE, "test_only_the_signer_itself_makes_a_challenge"),
        (PROMISE, "test_a_person_s_key_is_reached_through_an_envelope_alone"),
        (BROWSER, "test_a_server_that_swaps_the_request_after_the_press_gains_nothing"),
    ],
    21: [
        (SIGNER, "test_what_the_keeper_would_refuse_is_not_handed_on"),
        (SIGNER, "test_no_pin_is_asked_for_before_it_is_needed"),
    ],
}


def test_each_must_has_a_number_and_each_number_a_must() -> None:
    check_musts(SPEC, "HK")


def test_each_number_is_kept_by_tests_that_exist() -> None:
    check_kept(SPEC, "HK", KEPT_BY)


def test_the_example_verifies() -> None:
    block = SPEC.read_text(encoding="utf-8").partition("## An example")[2].partition("```text\n")[2].partition("```")[0]
    shown = dict(re.findall(r"^(\w[\w ]*?) += (.+)$", block, re.MULTILINE))
    key, message = PublicKey.parse(shown["public key"]), shown["message"].encode()
    assert key.key_id == shown["key id"]
    assert base64.urlsafe_b64encode(hashlib.sha256(message).digest()).rstrip(b"=").decode() == shown["challenge"]
    parts = (
        bytes.fromhex(shown["authenticatorData"]),
        shown["clientDataJSON"].encode(),
        bytes.fromhex(shown["signature"]),
    )
    value = Assertion(*parts).to_bytes()
    key.verify(value, message)
    lengths = [int(length, 16) for length in re.findall(r"\b[0-9a-f]{4}\b", shown["value"])]
    assert lengths == [len(part) for part in parts]
