"""What the verbs on copies and searches share: where the register is, whose word counts, and whom alerts go to."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from strongroom.cli.public_keys import public_key
from strongroom.cli.session import open_wallet, session
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.copies import record_missing
from strongroom.client.service import Session
from strongroom.core.canonical import Json
from strongroom.core.errors import ConflictError, DeniedError, NotFoundError, StrongroomError, UnavailableError
from strongroom.core.signature import PublicKey, SignatureAlgorithm
from strongroom.intake.adapters.register_folder import OpenRegister, RegisterFolder
from strongroom.intake.copies.register import RegisterError, Statement

F = TypeVar("F", bound=Callable[..., Any])
SEND_SECONDS: Final = 10.0
_ALGORITHMS: Final = (
    SignatureAlgorithm.ED25519,
    SignatureAlgorithm.WEBAUTHN_ES256,
    SignatureAlgorithm.WEBAUTHN_ED25519,
)
_folder: Final = click.Path(path_type=Path, file_okay=False)


def register_option(function: F) -> F:
    """Add ``--register``; passed as ``register``."""
    return click.option("--register", type=_folder, required=True, help="The folder of the register of copies.")(
        function
    )


def host_option(function: F) -> F:
    """Add ``--host``; passed as ``host``."""
    return click.option(
        "--host", default=lambda: os.uname().nodename, show_default="this machine", help="The host's name."
    )(function)


def tell_option(function: F) -> F:
    """Add ``--tell``; passed as ``socket_path``."""
    return click.option(
        "--tell",
        "socket_path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Also send alerts to the responder's socket for a sensor of kind `strongroom`.",
    )(function)


def registrar_key(text: str) -> PublicKey:
    """Return the registrar's key that an option names."""
    return public_key(text, *_ALGORITHMS)


def own_register(folder: Path, wallet: Path, passphrase_fd: int | None = None) -> tuple[RegisterFolder, WalletFolder]:
    """Return a register whose registrar is the wallet's owner."""
    opened = open_wallet(wallet, passphrase_fd)
    return RegisterFolder(folder, opened.identity.key, opened.genesis().digest), opened


@contextmanager
def writing_register(folder: Path, wallet: Path, passphrase_fd: int | None) -> Iterator[tuple[OpenRegister, Session]]:
    """Hold a register for its registrar, with a session in which what is said in it is recorded."""
    with session(wallet, passphrase_fd) as person:
        place = RegisterFolder(folder, person.wallet.identity.key, person.wallet.genesis().digest)
        with place.writing() as writing:
            yield writing, person


def state(writing: OpenRegister, person: Session, said: Statement) -> None:
    """Say it in the register, then in the log, after whatever the log lacks of what was said before.

    What the log refuses doesn't stay in the register. What it couldn't be asked for does: a crash between the two
    leaves the same, and whoever speaks next hands it in.

    :raises MalformedError: what no statement may say: once in the file, nothing after it could be read any more.
    :raises StrongroomError: the log refused it, or couldn't be asked.
    """
    writing.register.take(Statement.parse(said.to_bytes()))
    writing.append(said.signed_by(person.wallet.signer()))
    try:
        record_missing(person.api, writing.lines)
    except (ConflictError, DeniedError, NotFoundError, RegisterError):
        writing.withdraw()
        raise
    except StrongroomError as error:
        raise UnavailableError(
            f"the register has it, the log doesn't: {error.message}",
            remedy="hand it in later: strongroom copies record",
            reason=error.reason,
        ) from None


def event_lines(events: Sequence[dict[str, Json]]) -> bytes:
    """Return events as lines, one JSON object each."""
    return b"".join(json.dumps(event, sort_keys=True).encode("ascii") + b"\n" for event in events)


def tell(events: Sequence[dict[str, Json]], path: Path) -> None:
    """Send events to the responder.

    :raises UnavailableError: it doesn't listen there, or didn't take them.
    """
    if not events:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.settimeout(SEND_SECONDS)
            made.connect(str(path))
            made.sendall(event_lines(events))
            made.shutdown(socket.SHUT_WR)
            # It closes when it has read all. Where it lets somebody else in only, this fails as reset.
            made.recv(1)
    except OSError as error:
        raise UnavailableError(
            f"the responder didn't take {len(events)} alerts at `{path}`: {error.strerror or type(error).__name__}",
            remedy="start it (strongroom responder), or leave --tell out and hand the lines on yourself",
        ) from None
