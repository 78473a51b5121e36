"""What the verbs of people and enclaves share: whose wallet, its passphrase, and a session with the deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from strongroom.cli import files
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.service import Session
from strongroom.client.wiring import open_session
from strongroom.core.adapters.durable import write_durably
from strongroom.core.errors import UsageError
from strongroom.core.secret import SecretBytes
from strongroom.ipc.adapters.process import read_passphrase

F = TypeVar("F", bound=Callable[..., Any])

json_option = files.json_option
read_file = files.read_file

WALLET_VARIABLE: Final = "STRONGROOM_WALLET"
WALLET_DEFAULT: Final = "~/.config/strongroom"


def as_wallet(function: F) -> F:
    """Add ``--as``, the caller's wallet; passed as ``wallet``. A path is no secret: the environment may name it."""
    return click.option(
        "--as",
        "wallet",
        type=click.Path(path_type=Path, file_okay=False),
        envvar=WALLET_VARIABLE,
        default=lambda: Path(WALLET_DEFAULT).expanduser(),
        show_default=WALLET_DEFAULT,
        help=f"Your wallet (or {WALLET_VARIABLE}).",
    )(function)


def passphrase_option(function: F) -> F:
    """Add ``--passphrase-fd``; passed as ``passphrase_fd``."""
    return click.option(
        "--passphrase-fd", type=int, help="Read the wallet's passphrase, or PIN, from this descriptor, don't ask."
    )(function)


def yes_option(function: F) -> F:
    """Add ``--yes``; passed as ``yes``."""
    return click.option("--yes", is_flag=True, help="Don't ask for confirmation.")(function)


def no_passphrase() -> SecretBytes:
    """Refuse to ask: for verbs that sign nothing.

    :raises UsageError: always.
    """
    raise UsageError("this command signs nothing and asks for no passphrase")


def ask_passphrase(descriptor: int | None) -> Callable[[], SecretBytes]:
    """Return how the wallet's passphrase, or its security key's PIN, is had when needed: a descriptor, or a prompt."""

    def ask() -> SecretBytes:
        if descriptor is not None:
            return read_passphrase(descriptor)
        text = click.prompt("Wallet passphrase, or security key PIN", hide_input=True, err=True)
        return SecretBytes(bytearray(text.encode()))

    return ask


def open_wallet(path: Path, passphrase_fd: int | None = None) -> WalletFolder:
    """Open a wallet without any deployment."""
    return WalletFolder(path, ask_passphrase(passphrase_fd))


@contextmanager
def session(wallet: Path, passphrase_fd: int | None = None) -> Iterator[Session]:
    """Open a session with the deployment that a wallet is bound to."""
    with open_session(wallet, passphrase=ask_passphrase(passphrase_fd)) as opened:
        yield opened


def write_file(path: Path, data: bytes) -> None:
    """Replace a file whole: an interrupted write must not leave half a document to be signed."""
    write_durably(path, data, mode=0o666)
