"""The data key for recipients who open a sealed model without a keeper: SL1-WST-02.

Whoever makes a stanza decides to release the weights to its recipient for good, with no approval and no record after
that. It is for customers, escrow and embedded hosts; where people must agree each time, the keeper releases.
"""

from __future__ import annotations

from collections.abc import Iterable

from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.secret import SecretBytes
from strongroom.keys.recipient import RecipientIdentity, encrypt_to
from strongroom.sealing.errors import NoStanzaError, WrongDataKeyError
from strongroom.sealing.manifest import Manifest
from strongroom.sealing.prelude import key_commitment
from strongroom.sealing.recipients import Recipients, Stanza, StanzaKind, stanza_context
from strongroom.sealing.write import VersionFacts


def stanzas_for(recipients: Iterable[bytes], facts: VersionFacts, data_key: SecretBytes) -> tuple[Stanza, ...]:
    """Encrypt the data key of a version that is being sealed to each recipient's public key.

    :raises MalformedError: a public key that isn't one.
    """
    context = stanza_context(
        genesis=facts.genesis, model=facts.model, version=facts.version, commitment=key_commitment(data_key)
    )
    return tuple(_stanza(public, data_key, context) for public in recipients)


def open_stanza(recipients: Recipients, identity: RecipientIdentity, manifest: Manifest) -> SecretBytes:
    """Open the data key with one recipient's identity, and check the whole list with it.

    :raises NoStanzaError: none of the stanzas is for this identity.
    :raises DeliveryError: its stanza doesn't open: changed, or of another model or version.
    :raises WrongDataKeyError: what was in it isn't the data key that the manifest commits to.
    :raises RecipientsTamperedError: the list was changed.
    """
    stanza = recipients.for_recipient(identity.digest)
    if stanza is None:
        raise NoStanzaError(
            "the sealed model isn't for this identity", remedy="have its owner add it: strongroom rewrap --add"
        )
    data_key = identity.open(stanza.ciphertext, _context(manifest))
    try:
        if len(data_key) != 32 or key_commitment(data_key) != manifest.commitment:
            raise WrongDataKeyError("the stanza holds another data key than the one that the manifest commits to")
        recipients.verify(data_key)
    except StrongroomError:
        data_key.wipe()
        raise
    return data_key


def rewrapped(
    recipients: Recipients,
    manifest: Manifest,
    data_key: SecretBytes,
    *,
    add: Iterable[bytes],
    remove: frozenset[Digest],
) -> Recipients:
    """Return the list with recipients added (public keys) and removed (their digests). No weights are touched.

    :raises NoStanzaError: one to be removed isn't there.
    :raises MalformedError: none would be left, or too many.
    """
    missing = remove - {stanza.recipient for stanza in recipients.stanzas}
    for one in missing:
        raise NoStanzaError(f"`{one}` isn't a recipient")
    added = {Digest.of(public): public for public in add}
    kept = [stanza for stanza in recipients.stanzas if stanza.recipient not in remove and stanza.recipient not in added]
    made = [_stanza(public, data_key, _context(manifest)) for public in added.values()]
    return Recipients.of((*kept, *made), commitment=manifest.commitment, data_key=data_key)


def _stanza(public: bytes, data_key: SecretBytes, context: bytes) -> Stanza:
    return Stanza(
        kind=StanzaKind.HPKE_MLKEM768_X25519,
        recipient=Digest.of(public),
        ciphertext=encrypt_to(public, data_key, context),
    )


def _context(manifest: Manifest) -> bytes:
    return stanza_context(
        genesis=manifest.genesis, model=manifest.model, version=manifest.version, commitment=manifest.commitment
    )
