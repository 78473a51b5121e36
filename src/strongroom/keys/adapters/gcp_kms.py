"""The ``gcp-kms`` provider: a symmetric key of Cloud KMS, with the purpose as additional authenticated data.

Checksums (CRC32C) go both ways, as the service's integrity guide asks: a bit that flips outside the cipher is seen.
Credentials come from the library's own chain.
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
_POLYNOMIAL: Final = 0x82F63B78


class GcpKmsService:
    """One key. ``seconds`` bounds each call.

    :raises MissingExtraError: google-cloud-kms isn't installed.
    """

    def __init__(self, uri: KeyUri, *, seconds: float = SECONDS) -> None:
        kms = need("google.cloud.kms", extra="gcp")
        self._errors = need("google.api_core.exceptions", extra="gcp")
        self._auth_errors = need("google.auth.exceptions", extra="gcp")
        self._key = uri.path
        self._sole = uri.sole
        # Retries are the provider's: the library's own would come on top.
        self._call = {"retry": None, "timeout": seconds}
        endpoint = uri.setting("endpoint")
        with self._asked():
            self._client: Any = kms.KeyManagementServiceClient(transport=_nearby(endpoint) if endpoint else None)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Versions are destroyed only of a key that is this deployment's alone."""
        always = {Capability.ASSOCIATED_DATA, Capability.NON_EXPORTABLE, Capability.DESTRUCTION}
        return frozenset({*always, Capability.VERSION_DESTRUCTION} if self._sole else always)

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:
        """Encrypt under the key's primary version."""
        plain, context = bytes(key.reveal(TOKEN)), purpose.associated_data()
        request = {
            "name": self._key,
            "plaintext": plain,
            "plaintext_crc32c": crc32c(plain),
            "additional_authenticated_data": context,
            "additional_authenticated_data_crc32c": crc32c(context),
        }
        with self._asked():
            answer = self._client.encrypt(request=request, **self._call)
        if not (answer.verified_plaintext_crc32c and answer.verified_additional_authenticated_data_crc32c):
            raise KeyServiceMismatchError("the service saw other bytes than were sent")
        _, found, version = answer.name.rpartition(f"{self._key}/cryptoKeyVersions/")
        if not found or not version.isdecimal() or crc32c(answer.ciphertext) != answer.ciphertext_crc32c:
            raise KeyServiceMismatchError("the service answered for another key, or its answer was changed on its way")
        return Closed(key=self._key, version=version, data=answer.ciphertext)

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:
        """Decrypt; the service finds the version by itself."""
        if closed.key != self._key or not closed.data:
            raise KeyServiceMismatchError("the closed key names another key of the service")
        context = purpose.associated_data()
        request = {
            "name": self._key,
            "ciphertext": closed.data,
            "ciphertext_crc32c": crc32c(closed.data),
            "additional_authenticated_data": context,
            "additional_authenticated_data_crc32c": crc32c(context),
        }
        with self._asked():
            answer = self._client.decrypt(request=request, **self._call)
        if len(answer.plaintext) != KEY_BYTES or crc32c(answer.plaintext) != answer.plaintext_crc32c:
            raise KeyServiceMismatchError("the service's answer was changed on its way, or isn't a key")
        return SecretBytes(bytearray(answer.plaintext))

    def destroy(self) -> None:
        """Schedule the destruction of every version that isn't destroyed yet, after the time that the key has set."""
        with self._asked():
            for version in self._client.list_crypto_key_versions(request={"parent": self._key}, **self._call):
                if version.state.name in {"ENABLED", "DISABLED"}:
                    self._client.destroy_crypto_key_version(request={"name": version.name}, **self._call)

    def renew(self) -> None:
        """Make a version and the primary one: it closes. The service may take a while until everywhere it does."""
        if not self._sole:
            raise no_versions()
        with self._asked():
            made = self._client.create_crypto_key_version(
                request={"parent": self._key, "crypto_key_version": {}}, **self._call
            )
            number = self._number(made.name)
            self._client.update_crypto_key_primary_version(
                request={"name": self._key, "crypto_key_version_id": str(number)}, **self._call
            )

    def destroy_before(self, kept: Closed) -> Finality:
        """Schedule the destruction of every older version; the service refuses them at once."""
        if not self._sole:
            raise no_versions()
        if kept.key != self._key or not kept.version.isdecimal():
            raise KeyServiceMismatchError("the closed key names another key of the service")
        with self._asked():
            for version in self._client.list_crypto_key_versions(request={"parent": self._key}, **self._call):
                older = self._number(version.name) < int(kept.version)
                if older and version.state.name in {"ENABLED", "DISABLED"}:
                    self._client.destroy_crypto_key_version(request={"name": version.name}, **self._call)
        return Finality.SCHEDULED

    def _number(self, name: str) -> int:
        _, found, number = name.rpartition(f"{self._key}/cryptoKeyVersions/")
        if not found or not number.isdecimal():
            raise KeyServiceMismatchError("the service answered for another key")
        return int(number)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        errors = self._errors
        try:
            yield
        except errors.InvalidArgument:
            raise KeyServiceMismatchError("the service doesn't open this with this key and purpose") from None
        except (errors.ServerError, errors.ResourceExhausted, errors.RetryError, errors.Aborted, errors.Unknown):
            raise KeyServiceUnavailableError("the service can't be reached, is overloaded or broken") from None
        except self._auth_errors.TransportError:
            raise KeyServiceUnavailableError("the service that gives credentials can't be reached") from None
        except (errors.GoogleAPICallError, self._auth_errors.GoogleAuthError):
            raise KeyServiceRefusedError(
                "the service refused", remedy="look at the key's state and policy, and at this machine's credentials"
            ) from None


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli, RFC 3720 B.4) of a few bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _nearby(endpoint: str) -> Any:
    # The URI's form lets this be this machine only: an emulator, without credentials.
    grpc = need("grpc", extra="gcp")
    transports = need("google.cloud.kms_v1.services.key_management_service.transports", extra="gcp")
    return transports.KeyManagementServiceGrpcTransport(channel=grpc.insecure_channel(endpoint.removeprefix("http://")))
