"""Once a key service destroyed the versions before the one in use, what they closed opens nowhere; the rest does.

SoftHSM2 is the real thing; transit and Cloud KMS are our client, or the service's own, against an emulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, LockedError, TamperedError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.hierarchy import root_purpose
from strongroom.keys.provider import (
    Capability,
    Finality,
    HeldKey,
    KeyServiceMismatchError,
    KeyServiceRefusedError,
    WrappingProvider,
)
from support.key_labs import LABS, KeyLab, lab_of

pytestmark = pytest.mark.integration

VERSIONED = ("pkcs11 aes-gcm", "pkcs11 aes-kwp", "transit", "transit, a real server", "gcp-kms")
WHOLE = tuple(kind for kind in LABS if kind not in VERSIONED)
PURPOSE = root_purpose(Digest.of(b"genesis"))
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
REFUSED = (TamperedError, DeniedError, LockedError)


@pytest.fixture(params=VERSIONED)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyLab]:
    with lab_of(request.param, tmp_path) as made:
        yield made


def closed(provider: WrappingProvider, key: bytes) -> HeldKey:
    with SecretBytes(bytearray(key)) as secret:
        return provider.wrap(secret, PURPOSE)


def opened(provider: WrappingProvider, held: HeldKey) -> bytes:
    with provider.unwrap(held, PURPOSE) as key:
        return bytes(key.reveal(TOKEN))


def test_what_older_versions_closed_opens_nowhere_and_the_rest_does(lab: KeyLab) -> None:
    assert lab.sole is not None
    provider = lab.asked(lab.sole).provider
    assert Capability.VERSION_DESTRUCTION in provider.capabilities
    old = closed(provider, OLD)
    provider.renew()
    assert opened(provider, old) == OLD
    new = closed(provider, NEW)
    assert new.closed.version != old.closed.version
    # Twice, as after a crash in between.
    finality = provider.destroy_before(new)
    assert provider.destroy_before(new) is finality
    assert finality in {Finality.DONE, Finality.SCHEDULED}
    assert opened(provider, new) == NEW
    assert opened(provider, closed(provider, NEW)) == NEW
    with pytest.raises(REFUSED):
        opened(provider, old)
    # Nor under the version that is left, whatever is written on it.
    for version in (new.closed.version, "", "v99"):
        with pytest.raises(REFUSED):
            opened(provider, replace(old, closed=replace(old.closed, version=version)))


def test_many_renewals_leave_the_newest_alone(lab: KeyLab) -> None:
    assert lab.sole is not None
    provider = lab.asked(lab.sole).provider
    held = []
    for number in range(3):
        held.append(closed(provider, bytes([number]) * 32))
        provider.renew()
    newest = closed(provider, NEW)
    assert [opened(provider, one) for one in held] == [bytes([number]) * 32 for number in range(3)]
    provider.destroy_before(held[2])
    assert opened(provider, held[2]) == bytes([2]) * 32
    assert opened(provider, newest) == NEW
    for one in held[:2]:
        with pytest.raises(REFUSED):
            opened(provider, one)


def test_nothing_older_than_itself_goes_with_the_first_version(lab: KeyLab) -> None:
    assert lab.sole is not None
    provider = lab.asked(lab.sole).provider
    first = closed(provider, OLD)
    provider.destroy_before(first)
    assert opened(provider, first) == OLD


def test_versions_of_a_key_that_others_may_use_are_left_alone(lab: KeyLab) -> None:
    provider = lab.asked().provider
    assert Capability.VERSION_DESTRUCTION not in provider.capabilities
    held = closed(provider, OLD)
    with pytest.raises(KeyServiceRefusedError, match="no version"):
        provider.renew()
    with pytest.raises(KeyServiceRefusedError, match="no version"):
        provider.destroy_before(held)
    assert opened(provider, held) == OLD


def test_versions_are_destroyed_only_by_who_made_what_is_kept(lab: KeyLab) -> None:
    assert lab.sole is not None
    provider = lab.asked(lab.sole).provider
    old = closed(provider, OLD)
    provider.renew()
    other = closed(lab.asked(lab.another).provider, NEW)
    with pytest.raises(KeyServiceMismatchError):
        provider.destroy_before(other)
    with pytest.raises(REFUSED):
        provider.destroy_before(replace(old, closed=replace(old.closed, key="no-such-key", version="x")))
    assert opened(provider, old) == OLD


@pytest.mark.parametrize("kind", WHOLE)
def test_services_without_versions_of_their_own_say_so(kind: str, tmp_path: Path) -> None:
    with lab_of(kind, tmp_path) as lab:
        provider = lab.asked().provider
        assert Capability.VERSION_DESTRUCTION not in provider.capabilities
        held = closed(provider, OLD)
        with pytest.raises(KeyServiceRefusedError):
            provider.renew()
        with pytest.raises(KeyServiceRefusedError):
            provider.destroy_before(held)
        assert opened(provider, held) == OLD
