"""The ``azure-kv`` provider: one version of a key of Azure Key Vault or Managed HSM.

RSA-OAEP-256, or AES key wrap (``A256KW``) on a Managed HSM. Neither knows associated data, and whoever may use the key
(for RSA: anybody who has its public half) can wrap a key of their own: the inner encryption binds the purpose, and the
keeper's signing key, which the genesis names, must open under the root.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from strongroom.core.extras import need
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.provider import (
    Capability,
    Closed,
    Finality,
    KeyServiceMismatchError,
    KeyServiceRefusedError,
    KeyServiceUnavailableError,
    no_versions,
)
from strongroom.keys.uri import KeyUri
from strongroom.keys.wrapping import KEY_BYTES, WrapPurpose

SECONDS: Final = 5.0


class AzureKeyService:
    """One version of one key. ``credential`` and ``transport`` default to the library's own.

    :raises MissingExtraError: azure-keyvault-keys or azure-identity isn't installed.
    """

    capabilities = frozenset({Capability.NON_EXPORTABLE, Capability.DESTRUCTION})

    def __init__(self, uri: KeyUri, *, credential: Any = None, transport: Any = None, seconds: float = SECONDS) -> None:
        self._keys = need("azure.keyvault.keys", extra="azure")
        self._crypto = need("azure.keyvault.keys.crypto", extra="azure")
        self._errors = need("azure.core.exceptions", extra="azure")
        self._uri = uri
        self._algorithm = self._crypto.KeyWrapAlgorithm(uri.setting("algorithm") or "RSA-OAEP-256")
        with self._asked():
            self._credential = credential or need("azure.identity", extra="azure").DefaultAzureCredential()
        # Retries are the provider's: the library's own would come on top.
        self._settings: dict[str, Any] = {
            "retry_total": 0,
            "connection_timeout": seconds,
            "read_timeout": seconds,
            **({"transport": transport} if transport is not None else {}),
        }

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:  # noqa: ARG002 - bound by the inner encryption
        """Wrap by the key's version."""
        with self._asked():
            answer = self._client().wrap_key(self._algorithm, bytes(key.reveal(TOKEN)))
        if answer.key_id != self._uri.path or answer.algorithm != self._algorithm:
            raise KeyServiceMismatchError("the service answered for another key than the one that was named")
        return Closed(key=self._uri.path, version=self._uri.part("version"), data=answer.encrypted_key)

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:  # noqa: ARG002 - as above
        """Unwrap in the service."""
        if closed.key != self._uri.path or not closed.data:
            raise KeyServiceMismatchError("the closed key names another key of the service")
        with self._asked(opening=True):
            answer = self._client().unwrap_key(self._algorithm, closed.data)
        if answer.key_id != self._uri.path or len(answer.key) != KEY_BYTES:
            raise KeyServiceMismatchError("the service answered for another key, or with something else than a key")
        return SecretBytes(bytearray(answer.key))

    def destroy(self) -> None:
        """Delete the key with all its versions; the vault keeps it for as long as its soft delete says."""
        client = self._keys.KeyClient(self._uri.part("vault"), self._credential, **self._settings)
        with self._asked():
            client.begin_delete_key(self._uri.part("key"))

    def renew(self) -> None:
        """The vault can disable a version, and deletes whole keys only.

        :raises KeyServiceRefusedError: always.
        """
        raise no_versions()

    def destroy_before(self, _kept: Closed) -> Finality:
        """As :meth:`renew`.

        :raises KeyServiceRefusedError: always.
        """
        raise no_versions()

    def _client(self) -> Any:
        return self._crypto.CryptographyClient(self._uri.path, self._credential, **self._settings)

    @contextmanager
    def _asked(self, *, opening: bool = False) -> Iterator[None]:
        errors = self._errors
        try:
            yield
        except errors.HttpResponseError as error:
            status = error.status_code or 0
            if status == 400 and opening:
                raise KeyServiceMismatchError("the service doesn't open this with this key") from None
            if status == 429 or status >= 500:
                raise KeyServiceUnavailableError(f"the service answered with status {status}") from None
            raise KeyServiceRefusedError(
                "the service refused", remedy="look at the key's state and policy, and at this machine's credentials"
            ) from None
        except errors.AzureError:
            raise KeyServiceUnavailableError("the service can't be reached") from None
        except ValueError:
            # The library unwraps nothing by itself; it refuses a key that isn't of this algorithm.
            raise KeyServiceRefusedError("the service's key isn't one for this algorithm") from None
