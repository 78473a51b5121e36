"""The real client over a simulated security key: what it signs verifies, and what goes wrong is said as it is."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from simulators.security_key import EDDSA, SoftwareSecurityKey
from strongroom.client.adapters import security_key as adapter
from strongroom.client.adapters.security_key import (
    EnrolAt,
    SameSecurityKeyError,
    SecurityKeyFailedError,
    SecurityKeyLockedError,
    SecurityKeyMissingError,
    SecurityKeySigner,
    WrongPinError,
    enrol_keys,
    plugged_in,
)
from strongroom.client.wallet import SecurityKeys
from strongroom.core.envelope import payload_type, sign, verify
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import SignatureError
from strongroom.core.webauthn import Flag, assertion_counter
from strongroom.personnel.enrolment import check_attested
from support.security_keys import AT, DANA, GENESIS, RP_ID, Parts, Ports, allowed, pin_of, seeded_p256

KIND = payload_type("approval.v1")


def never() -> SecretBytes:
    raise AssertionError("nobody may be asked for a PIN")


@pytest.fixture
def devices() -> dict[str, SoftwareSecurityKey]:
    return {"first": SoftwareSecurityKey(), "second": SoftwareSecurityKey(pin="an öther one", algorithms=(EDDSA,))}


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch, devices: dict[str, SoftwareSecurityKey]) -> Ports:
    return Ports(monkeypatch, devices)


@pytest.fixture
def keys(ports: Ports) -> SecurityKeys:
    enrolment, made = ports.enrol()
    check_attested(enrolment, allowed(ports.devices["first"].maker))
    return made


def test_either_key_signs_whichever_is_plugged_in(
    keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = devices["first"], devices.pop("second")
    public = [one.key for one in keys.keys]
    signer = SecurityKeySigner(keys, pin_of(first.pin))
    assert signer.public_key == public[0]
    verify(sign(KIND, b"{}", signer), KIND, public, threshold=1)
    assert capsys.readouterr().err.endswith("Touch your security key.\n")
    # The first is lost; its owner plugs in the other one.
    devices.clear()
    devices["second"] = second
    envelope = sign(KIND, b"{}", SecurityKeySigner(keys, pin_of(second.pin)))
    assert verify(envelope, KIND, public, threshold=1) == {public[1].key_id}


def test_the_key_that_was_named_is_the_one_that_signs(
    keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey]
) -> None:
    signer = SecurityKeySigner(keys, pin_of(devices["first"].pin))
    assert signer.public_key == keys.keys[0].key
    del devices["first"]
    with pytest.raises(SecurityKeyMissingError):
        signer.sign(b"message")


def test_no_pin_is_asked_for_before_it_is_needed(keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey]) -> None:
    assert SecurityKeySigner(keys, never).public_key == keys.keys[0].key
    devices.clear()
    with pytest.raises(SecurityKeyMissingError) as caught:
        SecurityKeySigner(keys, never).sign(b"message")
    assert keys.keys[0].key.key_id in caught.value.remedy


def test_a_wrong_pin_says_how_many_tries_are_left_and_eight_lock_the_key(
    keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey]
) -> None:
    device = devices["first"]
    del devices["second"]
    signer = SecurityKeySigner(keys, pin_of("1111"))
    for left in (7, 6):
        with pytest.raises(WrongPinError, match=f"{left} tries are left"):
            signer.sign(b"message")
    with pytest.raises(SecurityKeyLockedError, match="after three wrong ones"):
        signer.sign(b"message")
    # While it is blocked, even the right one costs nothing and gives nothing.
    with pytest.raises(SecurityKeyLockedError):
        SecurityKeySigner(keys, pin_of(device.pin)).sign(b"message")
    assert device.tries == 5
    for _again in range(2):
        device.replug()
        for _wrong in range(3):
            with pytest.raises((WrongPinError, SecurityKeyLockedError)):
                signer.sign(b"message")
    assert device.tries == 0
    device.replug()
    with pytest.raises(SecurityKeyLockedError, match="for good"):
        SecurityKeySigner(keys, pin_of(device.pin)).sign(b"message")


def test_a_right_pin_gives_all_tries_back(keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey]) -> None:
    device = devices["first"]
    with pytest.raises(WrongPinError):
        SecurityKeySigner(keys, pin_of("1111")).sign(b"message")
    SecurityKeySigner(keys, pin_of(device.pin)).sign(b"message")
    assert device.tries == 8


@pytest.mark.parametrize("text", [b"", b"123", b"1" * 64, b"\xff\xfe\xfd\xfc"])
def test_a_pin_that_can_not_be_right_costs_no_try(
    keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey], text: bytes
) -> None:
    with pytest.raises(UsageError):
        SecurityKeySigner(keys, lambda: SecretBytes(bytearray(text))).sign(b"message")
    assert devices["first"].tries == 8


def test_a_pin_is_wiped_after_use_and_never_in_a_message(
    keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey]
) -> None:
    given: list[SecretBytes] = []

    def ask() -> SecretBytes:
        given.append(SecretBytes(bytearray(b"73512")))
        return given[-1]

    with pytest.raises(WrongPinError) as caught:
        SecurityKeySigner(keys, ask).sign(b"message")
    assert "73512" not in caught.value.diagnosis() + repr(SecurityKeySigner(keys, ask))
    with pytest.raises(Exception, match="wiped"):
        len(given[0])
    assert devices["first"].pins_asked == 2, "once to enrol, once here: a wrong PIN isn't tried again"


def test_a_key_that_nobody_touches_signs_nothing(keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey]) -> None:
    devices["first"].touched = False
    with pytest.raises(SecurityKeyFailedError, match="touched"):
        SecurityKeySigner(keys, pin_of(devices["first"].pin)).sign(b"message")


def test_a_key_that_is_taken_out_while_it_signs_is_said(
    keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey]
) -> None:
    device = devices["first"]

    def pull() -> SecretBytes:
        device.plugged = False
        return SecretBytes(bytearray(device.pin.encode()))

    with pytest.raises(SecurityKeyFailedError, match="taken out"):
        SecurityKeySigner(keys, pull).sign(b"message")


@pytest.mark.parametrize("flags", [{"more_flags": Flag.BACKUP_ELIGIBLE}, {"fewer_flags": Flag.USER_VERIFIED}])
def test_what_the_keeper_would_refuse_is_not_handed_on(
    keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey], flags: dict[str, Flag]
) -> None:
    for name, value in flags.items():
        setattr(devices["first"], name, value)
    with pytest.raises(SignatureError):
        SecurityKeySigner(keys, pin_of(devices["first"].pin)).sign(b"message")


def test_the_counter_rises_and_a_copy_is_seen_by_it(
    keys: SecurityKeys, devices: dict[str, SoftwareSecurityKey]
) -> None:
    device = devices["first"]
    signer = SecurityKeySigner(keys, pin_of(device.pin))
    before = assertion_counter(signer.sign(b"one"))
    assert assertion_counter(signer.sign(b"two")) == before + 1
    # Somebody copied the key when it had signed less: its signatures verify, and their counter is one that was seen.
    device.counter = before - 1
    copied = signer.sign(b"three")
    keys.keys[0].key.verify(copied, b"three")
    assert assertion_counter(copied) <= before


def test_the_same_key_twice_is_no_spare(ports: Ports) -> None:
    with pytest.raises(SameSecurityKeyError):
        ports.enrol(("first", "first"))


def test_enrolling_needs_a_key_and_a_relying_party(ports: Ports) -> None:
    with pytest.raises(SecurityKeyMissingError):
        ports.enrol(("first", "third"))
    with pytest.raises(MalformedError):
        ports.enrol(rp_id="org")


def test_a_key_without_a_pin_is_refused(ports: Ports) -> None:
    ports.devices["first"].pin = ""
    with pytest.raises(SecurityKeyFailedError, match="verify its user"):
        ports.enrol()
    assert ports.devices["first"].credentials == {}


def test_a_wallet_s_list_of_keys_round_trips_and_is_strict(keys: SecurityKeys) -> None:
    assert SecurityKeys.parse(keys.to_bytes()) == keys
    with pytest.raises(MalformedError):
        SecurityKeys(keys=(), devices=("hid",))
    with pytest.raises(MalformedError):
        SecurityKeys(keys=keys.keys, devices=())
    with pytest.raises(MalformedError):
        SecurityKeys.parse(keys.to_bytes().replace(b'"v":1', b'"v":2'))
    stranger = type(keys.keys[0])(Parts(seeded_p256(), rp_id="other.example.org").public_key, b"id")
    with pytest.raises(MalformedError):
        SecurityKeys(keys=(*keys.keys, stranger), devices=("hid",))


@pytest.mark.parametrize("address", ["", "usb", "unix:", "tcp:127.0.0.1:1", "HID"])
def test_a_device_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(UsageError), plugged_in((address,)):
        pass


def test_several_devices_at_once_are_not_chosen_from(monkeypatch: pytest.MonkeyPatch) -> None:
    two = (SoftwareSecurityKey(), SoftwareSecurityKey())
    monkeypatch.setattr(adapter, "plugged_in", lambda _addresses: nullcontext(two))
    place = EnrolAt(device="hid", pin=never)
    with pytest.raises(UsageError, match="several"):
        enrol_keys([place], rp_id=RP_ID, genesis=GENESIS, person=DANA, at=AT, ready=lambda _number: None)
