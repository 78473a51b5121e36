"""From a URI to its provider: each service's own library is imported when its URI is used, and not before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from strongroom.core.errors import LockedError
from strongroom.core.secret import SecretBytes
from strongroom.keys.adapters.aws_kms import AwsKmsService
from strongroom.keys.adapters.azure_kv import AzureKeyService
from strongroom.keys.adapters.gcp_kms import GcpKmsService
from strongroom.keys.adapters.local import Argon2Cost, LocalService
from strongroom.keys.adapters.pkcs11_token import Pkcs11Service
from strongroom.keys.adapters.tpm_pcr import TpmPcrService
from strongroom.keys.adapters.transit import TransitService
from strongroom.keys.provider import KeyService, WrappingProvider
from strongroom.keys.uri import KeyUri, Service
from strongroom.tpm.adapters.transport import DescriptorTransport

_SERVICES: dict[Service, Callable[[KeyUri], KeyService]] = {
    Service.TPM2: lambda uri: TpmPcrService(uri, _tpm),
    Service.PKCS11: Pkcs11Service,
    Service.TRANSIT: TransitService,
    Service.AWS: AwsKmsService,
    Service.GCP: GcpKmsService,
    Service.AZURE: AzureKeyService,
}


def key_provider(
    uri: KeyUri, *, passphrase: SecretBytes | None = None, cost: Argon2Cost | None = None
) -> WrappingProvider:
    """Return the provider that a URI names. ``passphrase`` and ``cost`` are looked at for ``local:`` alone.

    :raises LockedError: ``local:`` without a passphrase.
    :raises MissingExtraError: the service's library isn't installed.
    :raises StrongroomError: the service's library can't be set up.
    """
    if uri.service is Service.LOCAL:
        if passphrase is None:
            raise LockedError("the root key is under a passphrase", remedy="give it with --passphrase-fd")
        service: KeyService = LocalService(passphrase, os.urandom, cost)
    else:
        service = _SERVICES[uri.service](uri)
    return WrappingProvider(uri, service, random_bytes=os.urandom, monotonic=time.monotonic, sleep=time.sleep)


def _tpm(address: str) -> DescriptorTransport:
    scheme, _, path = address.partition(":")
    return DescriptorTransport.unix(Path(path)) if scheme == "unix" else DescriptorTransport.device(Path(path))
