"""Where a person's client is put together: the wallet's folder, HTTPS, the system's clock and randomness."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.client.adapters.http import HttpTransport, mutual_tls
from strongroom.client.adapters.wallet_folder import AskPassphrase, WalletFolder
from strongroom.client.api import BrokerApi, Transport
from strongroom.client.publish import SealDirectory
from strongroom.client.service import Session
from strongroom.core.clock import Clock, SystemClock
from strongroom.sealing.adapters.directory import seal_directory

Connect = Callable[[WalletFolder], Transport]

seal: SealDirectory = functools.partial(seal_directory, random_bytes=os.urandom)


def connect(wallet: WalletFolder) -> HttpTransport:
    """Connect to the deployment that a wallet is bound to; nothing is sent yet.

    :raises WalletError: it isn't bound, or has no certificate.
    """
    wallet.genesis()
    authority, certificate, key = wallet.tls_files()
    return HttpTransport(wallet.identity.url, mutual_tls(authority=authority, certificate=certificate, key=key))


@contextmanager
def open_session(path: Path, *, passphrase: AskPassphrase, clock: Clock | None = None) -> Iterator[Session]:
    """Open a wallet and a session with its deployment.

    :raises WalletError: the wallet can't be used.
    """
    wallet = WalletFolder(path, passphrase)
    with connect(wallet) as transport:
        yield Session(BrokerApi(transport), wallet, clock or SystemClock())
