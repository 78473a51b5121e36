"""A recipient's identity opens what was sealed for it: this model, this version, and only with its own passphrase."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, LockedError, MalformedError, UsageError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.adapters.identity_file import (
    IdentityFileError,
    IdentityMissingError,
    create_identity,
    open_identity,
)
from strongroom.keys.adapters.local import Argon2Cost
from strongroom.keys.recipient import DeliveryError, RecipientIdentity
from strongroom.release.stanzas import open_stanza, rewrapped, stanzas_for
from strongroom.sealing.errors import NoStanzaError, RecipientsTamperedError, WrongDataKeyError
from strongroom.sealing.recipients import Recipients
from strongroom.sealing.write import SealedDirectory, VersionFacts
from support.sealed import CountedRandom, data_key, seal_model, write_model

CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=1024)


def words(text: str) -> SecretBytes:
    return SecretBytes(bytearray(text.encode()))


def identity(seed: bytes) -> RecipientIdentity:
    with SecretBytes(bytearray(CountedRandom(seed)(96))) as secret:
        return RecipientIdentity(secret)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> SealedDirectory:
    root = tmp_path_factory.mktemp("model")
    return seal_model(write_model(root / "m"), root / "m.sealed")


def recipients(sealed: SealedDirectory, *who: RecipientIdentity) -> Recipients:
    manifest = sealed.manifest
    facts = VersionFacts(
        genesis=manifest.genesis,
        model=manifest.model,
        version=manifest.version,
        predecessor=None,
        data_key_id=manifest.data_key_id,
        publisher=manifest.publisher,
    )
    stanzas = stanzas_for([one.public for one in who], facts, data_key())
    return Recipients.of(stanzas, commitment=manifest.commitment, data_key=data_key())


def test_a_stanza_opens_for_its_recipient_and_nobody_else(sealed: SealedDirectory) -> None:
    host, thief = identity(b"host"), identity(b"thief")
    made = recipients(sealed, host)
    assert bytes(open_stanza(made, host, sealed.manifest).reveal(TOKEN)) == bytes(data_key().reveal(TOKEN))
    with pytest.raises(NoStanzaError):
        open_stanza(made, thief, sealed.manifest)
    renamed = replace(made, stanzas=(replace(made.stanzas[0], recipient=thief.digest),))
    with pytest.raises(DeliveryError):
        open_stanza(renamed, thief, sealed.manifest)


def test_a_stanza_of_another_model_version_or_key_opens_nothing(sealed: SealedDirectory) -> None:
    host = identity(b"host")
    made, manifest = recipients(sealed, host), sealed.manifest
    other = replace(manifest, version=2, predecessor=manifest.digest)
    for wrong in (other, replace(manifest, genesis=Digest.of(b"elsewhere")), replace(manifest, commitment=bytes(32))):
        with pytest.raises((DeliveryError, WrongDataKeyError)):
            open_stanza(made, host, wrong)


def test_a_recipient_who_was_taken_off_or_put_on_by_others_shows(sealed: SealedDirectory) -> None:
    host, guest = identity(b"host"), identity(b"guest")
    both = recipients(sealed, host, guest)
    for stanzas in (tuple(one for one in both.stanzas if one.recipient == host.digest), both.stanzas[::-1]):
        with pytest.raises(RecipientsTamperedError):
            open_stanza(replace(both, stanzas=stanzas), host, sealed.manifest)


def test_rewrapping_adds_and_removes_and_never_leaves_nobody(sealed: SealedDirectory) -> None:
    host, guest = identity(b"host"), identity(b"guest")
    alone = recipients(sealed, host)
    added = rewrapped(alone, sealed.manifest, data_key(), add=[guest.public, guest.public], remove=frozenset())
    assert {one.recipient for one in added.stanzas} == {host.digest, guest.digest}
    open_stanza(added, guest, sealed.manifest)
    with pytest.raises(NoStanzaError):
        rewrapped(alone, sealed.manifest, data_key(), add=[], remove=frozenset({guest.digest}))
    with pytest.raises(MalformedError, match="recipients are 1 to"):
        rewrapped(alone, sealed.manifest, data_key(), add=[], remove=frozenset({host.digest}))


def test_a_protected_identity_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    public = create_identity(path, CountedRandom(), passphrase=words("six random words of your own"), cost=CHEAP)
    assert open_identity(path, lambda: words("six random words of your own")).public == public
    with pytest.raises(LockedError):
        open_identity(path, lambda: words("six random words of mine"))
    with pytest.raises(LockedError, match="protected"):
        open_identity(path)
    with pytest.raises(ConflictError):
        create_identity(path, CountedRandom(b"2"), passphrase=None)
    with pytest.raises(UsageError, match="shorter"):
        create_identity(tmp_path / "weak", CountedRandom(), passphrase=words("short"), cost=CHEAP)
    assert not (tmp_path / "weak").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_an_identity_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity"
    create_identity(path, CountedRandom(), passphrase=None)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(mode)
    with pytest.raises(IdentityFileError):
        open_identity(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(IdentityMissingError):
        open_identity(tmp_path / "link")
