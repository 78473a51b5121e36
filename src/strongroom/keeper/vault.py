"""The keys that the unlocked keeper holds: epoch keys and its own signing key. Locking wipes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import LockedError, MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer
from strongroom.keys.hierarchy import data_purpose, epoch_purpose, kek_purpose, record_purpose, signing_purpose
from strongroom.keys.wrapping import RandomBytes, WrappedKey, new_key, unwrap, wrap
from strongroom.release.dossier import WrappedDataKey

DATA_KEY_ID_BYTES: Final = 16
_UNLOCK: Final = "start it again: strongroom up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """What stands in the keeper's own file, wrapped under the root key; ``root`` is what the provider stored."""

    root: bytes
    signing: WrappedKey
    epochs: tuple[tuple[int, WrappedKey], ...]

    @classmethod
    def parse(cls, data: bytes) -> Keyring:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data), "keyring") as fields:
            fields.constant("v", 1)
            root = encode(fields.value("root"))
            with fields.child("signing") as signing:
                signing_key = WrappedKey.read(signing)
            epochs = fields.objects("epochs", _epoch, most=1024)
        return cls(root=root, signing=signing_key, epochs=epochs)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "root": decode(self.root),
                "signing": self.signing.to_json(),
                "epochs": [{"epoch": number, "wrapped": wrapped.to_json()} for number, wrapped in self.epochs],
            }
        )


def _epoch(fields: Fields) -> tuple[int, WrappedKey]:
    number = fields.integer("epoch", least=1)
    with fields.child("wrapped") as wrapped:
        return number, WrappedKey.read(wrapped)


def new_keyring(
    genesis: Digest, root: SecretBytes, stored_root: bytes, signing_seed: SecretBytes, *, random_bytes: RandomBytes
) -> Keyring:
    """Make the first keyring: the signing key and epoch 1, wrapped under a fresh root key."""
    with new_key(random_bytes) as epoch:
        return Keyring(
            root=stored_root,
            signing=wrap(root, signing_seed, signing_purpose(genesis), random_bytes),
            epochs=((1, wrap(root, epoch, epoch_purpose(genesis, 1), random_bytes)),),
        )


class Vault:
    """The opened keyring. The root key itself isn't kept: it is needed to unlock and to rotate, not to release."""

    def __init__(self, genesis: Digest, keyring: Keyring, root: SecretBytes) -> None:
        with unwrap(root, keyring.signing, signing_purpose(genesis)) as seed:
            self._signer: Ed25519Signer | None = Ed25519Signer.from_seed(bytes(seed.reveal(TOKEN)))
        self._genesis = genesis
        self._epochs = {n: unwrap(root, wrapped, epoch_purpose(genesis, n)) for n, wrapped in keyring.epochs}
        if not self._epochs:
            raise MalformedError("the keyring holds no epoch key")

    @property
    def signer(self) -> Ed25519Signer:
        """The keeper's signing key.

        :raises LockedError: the keeper is locked, also when it was locked while an act waited for its record.
        """
        if self._signer is None:
            raise LockedError("the keeper is locked", remedy=_UNLOCK)
        return self._signer

    @property
    def epoch(self) -> int:
        """The newest epoch, under which new keys are wrapped."""
        self._require_open()
        return max(self._epochs)

    def lock(self) -> None:
        """Wipe every epoch key and let go of the signing key: nothing is unwrapped or signed from here on."""
        self._signer = None
        for key in self._epochs.values():
            key.wipe()
        self._epochs.clear()

    def create(
        self, model: ModelId, version: int, random_bytes: RandomBytes, sibling: WrappedDataKey | None
    ) -> tuple[SecretBytes, WrappedDataKey]:
        """Make a data key for a version, under the model's KEK: that of ``sibling``, or a new one.

        :raises WrapError: the sibling's KEK doesn't open for this model.
        :raises LockedError: the keeper is locked.
        """
        epoch = sibling.epoch if sibling else self.epoch
        with self._kek(model, sibling) if sibling else new_key(random_bytes) as kek:
            name = random_bytes(DATA_KEY_ID_BYTES).hex()
            data_key = new_key(random_bytes)
            purpose = data_purpose(self._genesis, model, version, name)
            wrapped = WrappedDataKey(
                data_key=name,
                epoch=epoch,
                kek=sibling.kek
                if sibling
                else wrap(self._epoch_key(epoch), kek, kek_purpose(self._genesis, epoch, model), random_bytes),
                data=wrap(kek, data_key, purpose, random_bytes),
            )
        return data_key, wrapped

    def open(self, model: ModelId, version: int, data_key_id: str, wrapped: WrappedDataKey) -> SecretBytes:
        """Unwrap the data key of a version. ``data_key_id`` is what the log says, not what the row says.

        :raises WrapError: the row holds another key, model, version or epoch.
        :raises LockedError: the keeper is locked.
        """
        with self._kek(model, wrapped) as kek:
            return unwrap(kek, wrapped.data, data_purpose(self._genesis, model, version, data_key_id))

    def new_record_key(self, person: PersonId, random_bytes: RandomBytes) -> tuple[SecretBytes, int, WrappedKey]:
        """Make the key of a person's vetting records; returns it, the epoch that wraps it, and its wrapped form.

        :raises LockedError: the keeper is locked.
        """
        epoch, key = self.epoch, new_key(random_bytes)
        purpose = record_purpose(self._genesis, epoch, person)
        return key, epoch, wrap(self._epoch_key(epoch), key, purpose, random_bytes)

    def open_record_key(self, person: PersonId, epoch: int, wrapped: WrappedKey) -> SecretBytes:
        """Unwrap the key of a person's vetting records.

        :raises WrapError: it is another person's, or was changed.
        :raises LockedError: the keeper is locked.
        """
        return unwrap(self._epoch_key(epoch), wrapped, record_purpose(self._genesis, epoch, person))

    def _kek(self, model: ModelId, wrapped: WrappedDataKey) -> SecretBytes:
        purpose = kek_purpose(self._genesis, wrapped.epoch, model)
        return unwrap(self._epoch_key(wrapped.epoch), wrapped.kek, purpose)

    def _epoch_key(self, epoch: int) -> SecretBytes:
        self._require_open()
        try:
            return self._epochs[epoch]
        except KeyError:
            raise MalformedError(f"the keyring has no key of epoch {epoch}") from None

    def _require_open(self) -> None:
        if not self._epochs:
            raise LockedError("the keeper is locked", remedy=_UNLOCK)
