"""From a URI to its provider: each service's own library is imported when its URI is used, and not before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from strongroom.core.digest import Digest
from strongroom.core.errors import LockedError
from strongroom.core.secret import SecretBytes
from strongroom.keys.adapters.aws_kms import AwsKmsService
from strongroom.keys.adapters.azure_kv import AzureKeyService
from strongroom.keys.adapters.gcp_kms import GcpKmsService
from strongroom.keys.adapters.local import Argon2Cost, KeptKey, LocalService
from strongroom.keys.adapters.pkcs11_token import Pkcs11Service
from strongroom.keys.adapters.tpm_pcr import TpmPcrService
from strongroom.keys.adapters.transit import TransitService
from strongroom.keys.hierarchy import Tree
from strongroom.keys.provider import KeyService, WrappingProvider
from strongroom.keys.split_root import make_root, open_root, read_root
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
    uri: KeyUri,
    *,
    passphrase: SecretBytes | None = None,
    cost: Argon2Cost | None = None,
    kept: KeptKey | None = None,
) -> WrappingProvider:
    """Return the provider that a URI names. ``passphrase``, ``cost`` and ``kept`` are looked at for ``local:`` alone.

    :raises LockedError: ``local:`` without a passphrase.
    :raises MissingExtraError: the service's library isn't installed.
    :raises StrongroomError: the service's library can't be set up.
    """
    if uri.service is Service.LOCAL:
        if passphrase is None:
            raise LockedError("the root key is under a passphrase", remedy="give it with --passphrase-fd")
        service: KeyService = LocalService(passphrase, os.urandom, cost, kept)
    else:
        service = _SERVICES[uri.service](uri)
    return WrappingProvider(uri, service, random_bytes=os.urandom, monotonic=time.monotonic, sleep=time.sleep)


class RootProviders:
    """The providers of a deployment's root keys. They stay at hand, so that other root keys can be put under them.

    The passphrase of ``local:`` isn't kept, but what Argon2id made of it: :meth:`wipe` forgets that.
    """

    def __init__(self, genesis: Digest, passphrase: SecretBytes | None, second: KeyUri | None = None) -> None:
        """Hold nothing yet.

        :param second: the key service for the second part of a root key that is made where the one before had one part.
        :raises StrongroomError: the second service isn't there.
        """
        self._genesis = genesis
        self._second = second
        self._passphrase = passphrase
        self._kept = KeptKey()
        self._opened: dict[KeyUri, WrappingProvider] = {}
        self._of: dict[Tree, tuple[WrappingProvider, ...]] = {}
        if second is not None:
            self._provider(second).health()

    def open(self, tree: Tree, stored: bytes) -> SecretBytes:
        """Open a tree's root key by the providers that are named in what was stored of it.

        :raises LockedError: a provider is a passphrase, and there is none, or it is wrong.
        :raises StrongroomError: a provider refused or isn't there, or what was stored was changed.
        """
        root = open_root(self._genesis, stored, self._provider)
        self._of[tree] = tuple(self._provider(part.provider) for part in read_root(stored))
        return root

    def make(self, tree: Tree) -> tuple[SecretBytes, bytes]:
        """Make another root key for a tree, under the same providers, and see that they open it.

        A tree that has none yet gets those of the escrowed one.

        :raises LockedError: none opened a root key.
        :raises StrongroomError: a provider refused or isn't there.
        """
        providers = self._of.get(tree, self._of.get(Tree.ESCROWED))
        if providers is None:
            raise LockedError(f"no key service of the {tree.value} tree is at hand", reason="no-provider")
        if self._second is not None and len(providers) == 1 and providers[0].uri != self._second:
            providers = (*providers, self._provider(self._second))
        root, stored = make_root(self._genesis, providers, os.urandom)
        # Who may encrypt may perhaps not decrypt: that is found out before anything stands under the new key.
        open_root(self._genesis, stored, self._provider).wipe()
        self._of[tree] = providers
        return root, stored

    def services(self) -> tuple[WrappingProvider, ...]:
        """Return the providers of every opened tree, each once."""
        return tuple(dict.fromkeys(provider for providers in self._of.values() for provider in providers))

    def wipe(self) -> None:
        """Forget whatever opens a root key without asking a key service."""
        self._kept.wipe()
        self._of.clear()

    def _provider(self, uri: KeyUri) -> WrappingProvider:
        if uri not in self._opened:
            self._opened[uri] = key_provider(uri, passphrase=self._passphrase, kept=self._kept)
        return self._opened[uri]


def _tpm(address: str) -> DescriptorTransport:
    scheme, _, path = address.partition(":")
    return DescriptorTransport.unix(Path(path)) if scheme == "unix" else DescriptorTransport.device(Path(path))
