"""A real browser with a virtual security key makes the very signatures that the command line's client makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from simulators.security_key import Maker
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope, Signature, verify
from strongroom.core.ids import PersonId
from strongroom.core.signature import PublicKey, SignatureError
from strongroom.core.webauthn import Assertion, Ceremony, assertion_counter, check_client_data
from strongroom.personnel.attested_chain import KeyNotAttestedError
from strongroom.personnel.authenticators import Authenticator
from strongroom.personnel.enrolment import (
    EnrolledKey,
    Enrolment,
    check_attested,
    credential_key,
    enrolment_challenge,
    model_of,
)
from support.browsers import Page, browser, missing, plug_in, press, text_of
from support.security_keys import AT, GENESIS, Parts, seeded_p256

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")]

RP_ID = "localhost"
DANA = PersonId("dana")
REQUEST = json.dumps({"action": "resume", "model": "atlas", "ticket": "<b>T-1</b> ünïcode"}, sort_keys=True).encode()


@dataclass
class Seat:
    """A browser with a security key that was made in it, and the page."""

    driver: Chrome
    page: Page
    key: PublicKey
    credential: str
    made: EnrolledKey

    def press(self, button: str, payload: bytes = REQUEST) -> dict[str, Any]:
        """Have the page show a request, and press a button."""
        self.page.given = {"payload": to_base64(payload), "rpId": RP_ID, "credentials": [self.credential]}
        return press(self.driver, self.page, button)

    def voice(self, button: str, payload: bytes = REQUEST) -> Envelope:
        """Return the envelope that a press of the button amounts to."""
        answer = self.press(button, payload)
        parts = (from_base64(answer[name]) for name in ("authenticatorData", "clientData", "signature"))
        return Envelope(answer["type"], payload, (Signature(self.key.key_id, Assertion(*parts).to_bytes()),))


@pytest.fixture(scope="module")
def seat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    page = Page()
    try:
        with browser(tmp_path_factory.mktemp("profile")) as driver:
            plug_in(driver)
            page.given = {"genesis": str(GENESIS), "person": DANA, "rpId": RP_ID}
            answer = press(driver, page, "enrol")
            made, client_data = from_base64(answer["attestation"]), from_base64(answer["clientData"])
            key, credential_id = credential_key(made, RP_ID)
            assert to_base64(credential_id) == answer["credential"]
            yield Seat(driver, page, key, answer["credential"], EnrolledKey(
                key=key, attestation=made, client_data=client_data
            ))  # fmt: skip
    finally:
        page.close()


def test_an_approval_made_in_a_browser_verifies(seat: Seat) -> None:
    approval = seat.voice("approve")
    assert verify(approval, APPROVAL_TYPE, [seat.key], threshold=1) == {seat.key.key_id}
    again = seat.voice("approve")
    counters = [assertion_counter(one.signatures[0].value) for one in (approval, again)]
    assert counters[1] > counters[0]


def test_what_is_shown_is_what_is_signed_and_stays_text(seat: Seat) -> None:
    seat.press("approve")
    assert 'ticket: "<b>T-1</b> ünïcode"' in text_of(seat.driver, "shown")
    assert text_of(seat.driver, "digest") == Digest.of(REQUEST).value.hex()


def test_a_denial_made_in_a_browser_is_no_approval(seat: Seat) -> None:
    denial = seat.voice("deny")
    assert verify(denial, DENIAL_TYPE, [seat.key], threshold=1)
    with pytest.raises(SignatureError, match="something else"):
        verify(Envelope(APPROVAL_TYPE, REQUEST, denial.signatures), APPROVAL_TYPE, [seat.key], threshold=1)


def test_a_server_that_swaps_the_request_after_the_press_gains_nothing(seat: Seat) -> None:
    approval = seat.voice("approve")
    other = Envelope(APPROVAL_TYPE, REQUEST.replace(b"atlas", b"other"), approval.signatures)
    with pytest.raises(SignatureError, match="something else"):
        verify(other, APPROVAL_TYPE, [seat.key], threshold=1)


def test_a_key_that_the_browser_does_not_hold_is_not_signed_with(seat: Seat) -> None:
    seat.page.given = {"payload": to_base64(REQUEST), "rpId": RP_ID, "credentials": [to_base64(b"another credential")]}
    assert press(seat.driver, seat.page, "approve") == {"refused": "NotAllowedError"}


def test_a_page_can_not_ask_for_another_relying_party(seat: Seat) -> None:
    seat.page.given = {"payload": to_base64(REQUEST), "rpId": "example.org", "credentials": [seat.credential]}
    assert press(seat.driver, seat.page, "approve") == {"refused": "SecurityError"}


def test_a_key_made_in_a_browser_is_attested_up_to_what_its_maker_leaves_out(seat: Seat) -> None:
    challenge = enrolment_challenge(GENESIS, DANA)
    check_client_data(seat.made.client_data, ceremony=Ceremony.CREATE, rp_id=RP_ID, challenge=challenge)
    other = replace_key(seat.made)
    enrolment = Enrolment(genesis=GENESIS, person=DANA, keys=(seat.made, other), at=AT)
    listed = Authenticator(aaguid=model_of(seat.made.attestation), name="virtual", roots=(Maker().root_certificate,))
    # The packed statement's signature holds; its certificate names no model, so that it proves none.
    with pytest.raises(KeyNotAttestedError) as caught:
        check_attested(enrolment, (listed,))
    assert caught.value.reason == "aaguid-mismatch"
    with pytest.raises(KeyNotAttestedError) as caught:
        check_attested(enrolment, ())
    assert caught.value.reason == "unknown-authenticator"


def replace_key(made: EnrolledKey) -> EnrolledKey:
    """Return an entry for another key, which is never looked at: the first one is refused."""
    key = Parts(seeded_p256(), rp_id=RP_ID).public_key
    return EnrolledKey(key=key, attestation=made.attestation, client_data=made.client_data)


def test_a_key_that_does_not_verify_its_user_signs_nothing(seat: Seat) -> None:
    seat.driver.set_user_verified(verified=False)
    try:
        assert seat.press("approve") == {"refused": "NotAllowedError"}
    finally:
        seat.driver.set_user_verified(verified=True)
