"""The ``aws-kms`` provider: a symmetric key of AWS KMS, named by its ARN; the purpose's digest is encryption context.

Credentials come from the library's own chain. The context is in the account's trail in clear: it names no model, only
a digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from strongroom.core.digest import Digest
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
DESTROY_DAYS: Final = 7
_MISMATCH: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_BUSY: Final = frozenset(
    {
        "DependencyTimeoutException",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "RequestTimeout",
        "ServiceUnavailable",
        "ThrottlingException",
        "InternalFailure",
    }
)


class AwsKmsService:
    """One key. ``seconds`` bounds connecting and reading.

    :raises MissingExtraError: boto3 isn't installed.
    """

    capabilities = frozenset({Capability.ASSOCIATED_DATA, Capability.NON_EXPORTABLE, Capability.DESTRUCTION})

    def __init__(self, uri: KeyUri, *, seconds: float = SECONDS) -> None:
        session = need("boto3.session", extra="aws")
        config = need("botocore.config", extra="aws")
        self._errors = need("botocore.exceptions", extra="aws")
        self._key = uri.path
        # Retries are the provider's: the library's own would come on top.
        settings = config.Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1})
        with self._asked():
            made = session.Session(profile_name=uri.setting("profile"), region_name=uri.part("region"))
            self._client: Any = made.client("kms", endpoint_url=uri.setting("endpoint"), config=settings)

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:
        """Encrypt under the key's newest material."""
        with self._asked():
            answer = self._client.encrypt(
                KeyId=self._key, Plaintext=bytes(key.reveal(TOKEN)), EncryptionContext=_context(purpose)
            )
        self._require_ours(answer)
        return Closed(key=self._key, version="", data=answer["CiphertextBlob"])

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:
        """Decrypt; the service is told the key, so that no other key's ciphertext opens."""
        if closed.key != self._key or not closed.data:
            raise KeyServiceMismatchError("the closed key names another key of the service")
        with self._asked():
            answer = self._client.decrypt(
                KeyId=self._key, CiphertextBlob=closed.data, EncryptionContext=_context(purpose)
            )
        self._require_ours(answer)
        if len(answer["Plaintext"]) != KEY_BYTES:
            raise KeyServiceMismatchError("the service answered with something else than a key")
        return SecretBytes(bytearray(answer["Plaintext"]))

    def destroy(self) -> None:
        """Disable the key by scheduling its deletion in seven days, the shortest that the service allows."""
        with self._asked():
            self._client.schedule_key_deletion(KeyId=self._key, PendingWindowInDays=DESTROY_DAYS)

    def renew(self) -> None:
        """The service keeps every key material that it ever had, until the whole key goes.

        :raises KeyServiceRefusedError: always.
        """
        raise no_versions()

    def destroy_before(self, _kept: Closed) -> Finality:
        """As :meth:`renew`.

        :raises KeyServiceRefusedError: always.
        """
        raise no_versions()

    def _require_ours(self, answer: dict[str, Any]) -> None:
        if answer.get("KeyId") != self._key:
            raise KeyServiceMismatchError("the service answered for another key than the one that was named")

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except self._errors.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _MISMATCH:
                raise KeyServiceMismatchError("the service doesn't open this with this key and purpose") from None
            if code in _BUSY or status >= 500 or status == 429:
                raise KeyServiceUnavailableError("the service is overloaded or broken") from None
            raise KeyServiceRefusedError(
                "the service refused", remedy="look at the key's state and policy, and at this machine's credentials"
            ) from None
        except (self._errors.HTTPClientError, self._errors.ConnectionError):
            raise KeyServiceUnavailableError("the service can't be reached") from None
        except self._errors.BotoCoreError:
            raise KeyServiceRefusedError(
                "the service can't be asked from here", remedy="look at this machine's credentials and profile"
            ) from None


def _context(purpose: WrapPurpose) -> dict[str, str]:
    return {"strongroom": str(Digest.of(purpose.associated_data()))}
