"""Every key service keeps the same promises: what it wraps opens for one purpose, under its key, and for nothing else.

Each is the real thing where one can be had here (SoftHSM2, swtpm, a passphrase), else the service's own client library,
or our client, against an emulator of this repository or of the moto project.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, LockedError, TamperedError
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.hierarchy import root_part_purpose, root_purpose
from strongroom.keys.provider import (
    Capability,
    HeldKey,
    KeyServiceRefusedError,
    KeyServiceUnavailableError,
    WrappingProvider,
)
from support.key_labs import LABS, PATIENCE, KeyLab, lab_of, silent_port

pytestmark = pytest.mark.integration

PURPOSE = root_purpose(Digest.of(b"genesis"))
OTHERS = [root_purpose(Digest.of(b"another")), root_part_purpose(Digest.of(b"genesis"), 1)]
KEY = bytes(range(100, 132))
REFUSED = (TamperedError, DeniedError, LockedError)


@pytest.fixture(params=LABS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyLab]:
    with lab_of(request.param, tmp_path) as made:
        yield made


def secret() -> SecretBytes:
    return SecretBytes(bytearray(KEY))


def opened(provider: WrappingProvider, held: HeldKey) -> bytes:
    return bytes(provider.unwrap(held, PURPOSE).reveal(TOKEN))


def as_stored(held: HeldKey) -> HeldKey:
    with Fields(decode(encode(held.to_json())), "held") as fields:
        return HeldKey.read(fields)


def test_what_is_wrapped_opens_from_its_stored_form(lab: KeyLab) -> None:
    provider = lab.asked().provider
    held = provider.wrap(secret(), PURPOSE)
    stored = encode(held.to_json())
    assert as_stored(held) == held
    assert opened(provider, as_stored(held)) == KEY
    assert KEY not in stored
    assert KEY.hex().encode() not in stored
    assert KEY not in held.closed.data
    assert lab.asked().provider.capabilities == lab.one[1].capabilities


def test_two_wraps_of_one_key_share_no_bytes(lab: KeyLab) -> None:
    provider = lab.asked().provider
    first, second = provider.wrap(secret(), PURPOSE), provider.wrap(secret(), PURPOSE)
    assert first.closed.data != second.closed.data
    assert first.inner.ciphertext != second.inner.ciphertext
    assert first.inner.nonce != second.inner.nonce


def test_another_purpose_is_refused(lab: KeyLab) -> None:
    asked = lab.asked()
    held = asked.provider.wrap(secret(), PURPOSE)
    for other in OTHERS:
        with pytest.raises(REFUSED):
            asked.provider.unwrap(held, other)
        if Capability.ASSOCIATED_DATA in asked.provider.capabilities:
            # The service refuses by itself, before our own encryption is looked at.
            with pytest.raises(REFUSED):
                asked.counted.open_key(held.closed, other)
    assert asked.pauses == []


def test_another_key_of_the_service_is_refused(lab: KeyLab) -> None:
    one, another = lab.asked(), lab.asked(lab.another)
    held, theirs = one.provider.wrap(secret(), PURPOSE), another.provider.wrap(secret(), PURPOSE)
    if one.uri != another.uri:
        with pytest.raises(TamperedError):
            another.provider.unwrap(held, PURPOSE)
    renamed = replace(held, provider=another.uri)
    with pytest.raises(REFUSED):
        another.provider.unwrap(renamed, PURPOSE)
    with pytest.raises(REFUSED):
        another.provider.unwrap(replace(renamed, closed=replace(held.closed, key=theirs.closed.key)), PURPOSE)
    with pytest.raises(REFUSED):
        one.provider.unwrap(replace(held, closed=replace(theirs.closed, key=held.closed.key)), PURPOSE)
    with pytest.raises(REFUSED):
        one.provider.unwrap(replace(held, inner=theirs.inner), PURPOSE)
    assert one.pauses == another.pauses == []


def test_truncated_or_changed_bytes_are_refused(lab: KeyLab) -> None:
    asked = lab.asked()
    held = asked.provider.wrap(secret(), PURPOSE)
    data = held.closed.data
    spots = sorted({0, 1, 5, len(data) // 3, len(data) // 2, len(data) - 20, len(data) - 1})
    bent = [b"", data[:1], data[: len(data) // 2], data[:-1], data + b"\0"]
    bent += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in spots]
    for changed in bent:
        with pytest.raises(REFUSED):
            asked.provider.unwrap(replace(held, closed=replace(held.closed, data=changed)), PURPOSE)
    inner = held.inner.ciphertext
    turned = inner[:-1] + bytes([inner[-1] ^ 1])
    with pytest.raises(TamperedError):
        asked.provider.unwrap(replace(held, inner=replace(held.inner, ciphertext=turned)), PURPOSE)
    assert asked.pauses == [], "what was changed isn't asked again"
    assert opened(asked.provider, held) == KEY


def test_a_key_moves_to_another_key_or_version(lab: KeyLab) -> None:
    one, another = lab.asked().provider, lab.asked(lab.another).provider
    held = one.wrap(secret(), PURPOSE)
    moved = one.rewrap(held, PURPOSE, another)
    assert opened(another, moved) == KEY
    assert opened(one, held) == KEY
    if lab.newer is not None:
        lab.newer()
        newer = one.rewrap(held, PURPOSE, one)
        assert newer.closed.version != held.closed.version
        assert opened(one, newer) == opened(one, held) == KEY


def test_a_refusal_is_not_asked_again(lab: KeyLab) -> None:
    held = lab.asked().provider.wrap(secret(), PURPOSE)
    if lab.refusing is None:
        pytest.skip("a passphrase has nobody who could refuse")
    refusing = lab.asked(service=lab.refusing())
    with pytest.raises(KeyServiceRefusedError) as caught:
        refusing.provider.unwrap(held, PURPOSE)
    with pytest.raises(KeyServiceRefusedError):
        refusing.provider.wrap(secret(), PURPOSE)
    assert (refusing.counted.asked, refusing.pauses) == (2, [])
    assert "made to fail" not in caught.value.diagnosis(), "a service's free text isn't passed on"
    lab.calm()
    assert opened(lab.asked().provider, held) == KEY


def test_an_absence_is_asked_again_a_bounded_number_of_times(lab: KeyLab) -> None:
    held = lab.asked().provider.wrap(secret(), PURPOSE)
    if lab.absent is None:
        pytest.skip("nothing that could be absent, or a server that isn't ours to stop")
    absent = lab.asked(service=lab.absent())
    with pytest.raises(KeyServiceUnavailableError) as caught:
        absent.provider.unwrap(held, PURPOSE)
    assert absent.counted.asked == PATIENCE.attempts
    assert absent.pauses == [0.5, 1.0]
    assert "made to fail" not in caught.value.diagnosis()
    lab.calm()
    assert opened(lab.asked().provider, held) == KEY


def test_silence_ends_in_time(lab: KeyLab) -> None:
    if lab.silent is None:
        pytest.skip("no network connection to be silent on")
    with silent_port() as port:
        silent = lab.asked(service=lab.silent(port))
        with pytest.raises(KeyServiceUnavailableError):
            silent.provider.wrap(secret(), PURPOSE)
    assert silent.counted.asked == PATIENCE.attempts


def test_after_its_destruction_a_key_opens_nothing(lab: KeyLab) -> None:
    asked = lab.asked()
    held = asked.provider.wrap(secret(), PURPOSE)
    if Capability.DESTRUCTION not in asked.provider.capabilities:
        with pytest.raises(KeyServiceRefusedError):
            asked.provider.destroy()
        return
    asked.provider.destroy()
    with pytest.raises(REFUSED):
        asked.provider.unwrap(held, PURPOSE)
    with pytest.raises(REFUSED):
        asked.provider.wrap(secret(), PURPOSE)
    assert asked.pauses == []


def test_health_is_a_whole_round_trip(lab: KeyLab) -> None:
    healthy = lab.asked()
    healthy.provider.health()
    assert healthy.counted.asked == 2
    if lab.refusing is not None:
        with pytest.raises(KeyServiceRefusedError):
            lab.asked(service=lab.refusing()).provider.health()
        lab.calm()
