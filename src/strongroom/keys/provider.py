"""The port of wrapping providers: a key outside this program closes and opens the root, and nothing else.

A service never sees the root key. It closes a random key, made for one wrap, and the root is encrypted under that key
with its purpose as associated data (AES-256-GCM). So a purpose binds equally with services that know associated data
and with those that don't; where they do, they are told it too and refuse by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeVar

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import DeniedError, TamperedError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.secret import SecretBytes
from strongroom.keys.uri import MAX_URI, KeyUri
from strongroom.keys.wrapping import KeyKind, RandomBytes, WrappedKey, WrapPurpose, new_key, unwrap, wrap

MAX_REFERENCE: Final = 512
MAX_CLOSED: Final = 8192
T = TypeVar("T")


class KeyServiceRefusedError(DeniedError):
    """The key service said no: no permission, no such key, a disabled or destroyed one. It isn't asked again."""

    code = "key-service-refused"


class KeyServiceUnavailableError(UnavailableError):
    """The key service can't be reached, is overloaded or broken. It was asked again, a bounded number of times."""

    code = "key-service-unavailable"


class KeyServiceMismatchError(TamperedError):
    """The service doesn't open this with this key and purpose, or answered for another key. Which, can't be told."""

    code = "key-service-mismatch"


def no_versions() -> KeyServiceRefusedError:
    """Return the refusal of a service whose old versions can't be destroyed from here."""
    return KeyServiceRefusedError(
        "no version of this key can be destroyed from here",
        remedy="move the root key to another key (`strongroom root-key move`), then destroy this one at its service",
    )


class Capability(StrEnum):
    """What a provider gives beyond closing and opening."""

    ASSOCIATED_DATA = "associated-data"
    """The service itself refuses another purpose."""
    NON_EXPORTABLE = "non-exportable"
    """The service's key never leaves it."""
    MEASURED_RELEASE = "measured-release"
    """It opens only on a machine that started as it did when the key was closed."""
    DESTRUCTION = "destruction"
    """Its key can be destroyed from here."""
    VERSION_DESTRUCTION = "version-destruction"
    """Versions of its key can be made and destroyed from here, and by its URI the key holds nothing of anybody else."""


class Finality(StrEnum):
    """How final a destruction is."""

    DONE = "done"
    SCHEDULED = "scheduled"
    """The service refuses the versions from now on, and erases them when its own time of waiting is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What a service made of a key: which of its keys did it, in which version, and the bytes."""

    key: str
    version: str
    data: bytes


class KeyService(Protocol):
    """One key of one service.

    :raises KeyServiceRefusedError: (every method) the service said no.
    :raises KeyServiceUnavailableError: (every method) it gave no answer.
    """

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this service gives."""
        ...

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:
        """Encrypt 32 bytes.

        :raises KeyServiceMismatchError: the service answered for another key.
        """
        ...

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:
        """Decrypt what :meth:`close_key` gave.

        :raises KeyServiceMismatchError: another key or purpose, or changed bytes.
        """
        ...

    def destroy(self) -> None:
        """Destroy the service's key: what it closed can't be opened again.

        :raises KeyServiceRefusedError: this service has nothing that can be destroyed from here.
        """
        ...

    def renew(self) -> None:
        """Make a new version of the key: it closes from now on, and older ones still open what they closed.

        :raises KeyServiceRefusedError: this service has no versions, or the URI doesn't say that the key is sole.
        """
        ...

    def destroy_before(self, kept: Closed) -> Finality:
        """Destroy every version older than the one that closed ``kept``. Done again, it does no harm.

        :raises KeyServiceRefusedError: as :meth:`renew`; or the service says that an older version is still there.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """A key that a provider wrapped. Not secret. ``provider`` names no secret either."""

    provider: KeyUri
    closed: Closed
    inner: WrappedKey

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "provider": str(self.provider),
            "key": self.closed.key,
            "version": self.closed.version,
            "closed": to_base64(self.closed.data),
            "inner": self.inner.to_json(),
        }

    @classmethod
    def read(cls, fields: Fields) -> HeldKey:
        """Read the JSON form.

        :raises MalformedError: a member is missing, unknown or too long.
        :raises KeyUriError: the provider's URI isn't one.
        """
        provider = KeyUri.parse(fields.text("provider", max_length=MAX_URI))
        closed = Closed(
            key=fields.text("key", max_length=MAX_REFERENCE),
            version=fields.text("version", max_length=MAX_REFERENCE),
            data=fields.binary("closed", max_length=MAX_CLOSED),
        )
        with fields.child("inner") as inner:
            return cls(provider=provider, closed=closed, inner=WrappedKey.read(inner))


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an unavailable service is asked again: attempts, the first pause, and all of it, in seconds."""

    attempts: int = 4
    first_pause: float = 0.25
    deadline: float = 20.0


class WrappingProvider:
    """A key service, asked with patience. ``monotonic`` and ``sleep`` are the process's clock."""

    def __init__(
        self,
        uri: KeyUri,
        service: KeyService,
        *,
        random_bytes: RandomBytes,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        patience: Patience | None = None,
    ) -> None:
        self.uri = uri
        self._service = service
        self._random_bytes = random_bytes
        self._monotonic = monotonic
        self._sleep = sleep
        self._patience = patience or Patience()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the service gives."""
        return self._service.capabilities

    def wrap(self, key: SecretBytes, purpose: WrapPurpose) -> HeldKey:
        """Wrap a 32-byte key for ``purpose``.

        :raises KeyServiceRefusedError: the service said no.
        :raises KeyServiceUnavailableError: it gave no answer in time.
        :raises KeyServiceMismatchError: it answered for another key.
        """
        with new_key(self._random_bytes) as once:
            closed = self._patiently(lambda: self._service.close_key(once, purpose))
            return HeldKey(provider=self.uri, closed=closed, inner=wrap(once, key, purpose, self._random_bytes))

    def unwrap(self, held: HeldKey, purpose: WrapPurpose) -> SecretBytes:
        """Open what :meth:`wrap` gave.

        :raises KeyServiceRefusedError: the service said no.
        :raises KeyServiceUnavailableError: it gave no answer in time.
        :raises TamperedError: another provider, key or purpose, or changed bytes.
        """
        if held.provider != self.uri:
            raise KeyServiceMismatchError("the key was wrapped by another provider than the one that is asked")
        with self._patiently(lambda: self._service.open_key(held.closed, purpose)) as once:
            return unwrap(once, held.inner, purpose)

    def rewrap(self, held: HeldKey, purpose: WrapPurpose, to: WrappingProvider) -> HeldKey:
        """Open a key and wrap it by ``to``: another provider, or this one with its key's newest version.

        :raises StrongroomError: what :meth:`unwrap` and :meth:`wrap` raise.
        """
        with self.unwrap(held, purpose) as key:
            return to.wrap(key, purpose)

    def destroy(self) -> None:
        """Destroy the service's key. What it wrapped is lost, unless another provider wraps it too.

        :raises KeyServiceRefusedError: the service said no, or has nothing to destroy.
        :raises KeyServiceUnavailableError: it gave no answer in time.
        """
        self._patiently(self._service.destroy)

    def renew(self) -> None:
        """Make a new version of the service's key, for everything that is wrapped from now on.

        :raises KeyServiceRefusedError: the service said no, or has no versions that are this deployment's alone.
        :raises KeyServiceUnavailableError: it gave no answer in time.
        """
        self._patiently(self._service.renew)

    def destroy_before(self, kept: HeldKey) -> Finality:
        """Destroy every version of the service's key older than the one that wrapped ``kept``.

        :raises KeyServiceRefusedError: as :meth:`renew`.
        :raises KeyServiceUnavailableError: it gave no answer in time.
        :raises KeyServiceMismatchError: ``kept`` was wrapped by another provider.
        """
        if kept.provider != self.uri:
            raise KeyServiceMismatchError("the key was wrapped by another provider than the one that is asked")
        return self._patiently(lambda: self._service.destroy_before(kept.closed))

    def health(self) -> None:
        """Wrap and open a key that is thrown away: whether the service answers and lets this process do both.

        :raises StrongroomError: what :meth:`unwrap` and :meth:`wrap` raise.
        """
        probe = WrapPurpose(
            genesis=Digest.of(self._random_bytes(32)), kind=KeyKind.ROOT, name="health", parent="provider"
        )
        with new_key(self._random_bytes) as key:
            self.unwrap(self.wrap(key, probe), probe).wipe()

    def _patiently(self, act: Callable[[], T]) -> T:
        # Only what gave no answer is asked again: a second wrong PIN or a second denial can lock or alarm.
        until = self._monotonic() + self._patience.deadline
        pause = self._patience.first_pause
        for _ in range(self._patience.attempts - 1):
            try:
                return act()
            except KeyServiceUnavailableError:
                if self._monotonic() + pause > until:
                    raise
            self._sleep(pause)
            pause *= 2
        return act()
