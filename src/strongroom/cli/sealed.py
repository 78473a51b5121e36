"""What the verbs on sealed models share: the publisher's key, a recipient's identity, and the manifest checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from strongroom.cli.public_keys import public_key
from strongroom.cli.session import read_file
from strongroom.core.errors import MalformedError
from strongroom.core.signature import PublicKey, SignatureAlgorithm
from strongroom.keys.recipient import parse_public
from strongroom.sealing.adapters.directory import read_envelope
from strongroom.sealing.manifest import ManifestExpectation, VerifiedManifest, read_manifest, verify_manifest

F = TypeVar("F", bound=Callable[..., Any])

MAX_KEY_FILE: Final = 8192


def publisher_option(function: F) -> F:
    """Add ``--publisher``; passed as ``publisher``."""
    return click.option("--publisher", required=True, help="The publisher's public key, or a file that holds it.")(
        function
    )


def identity_option(function: F) -> F:
    """Add ``--identity``; passed as ``identity``."""
    return click.option(
        "--identity",
        required=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="A recipient identity that can open it (strongroom recipient new).",
    )(function)


def read_publisher(text: str) -> PublicKey:
    """Return the publisher's key that an option names."""
    return public_key(text, SignatureAlgorithm.ED25519_ML_DSA_65)


def read_recipient(file: Path) -> bytes:
    """Read a recipient's public key from a file.

    :raises MalformedError: it isn't one.
    """
    try:
        return parse_public(read_file(file, most=MAX_KEY_FILE).decode("ascii", "replace").strip())
    except MalformedError as error:
        raise MalformedError(
            f"`{file}`: {error.message}", remedy="it is what `strongroom recipient new` wrote"
        ) from None


def checked_manifest(directory: Path, publisher: str) -> VerifiedManifest:
    """Read a sealed directory's manifest and check its signature. Which version is current only the log can say."""
    envelope = read_envelope(directory)
    claimed = read_manifest(envelope)
    expect = ManifestExpectation(
        genesis=claimed.genesis, model=claimed.model, version=claimed.version, digest=claimed.digest
    )
    return verify_manifest(envelope, read_publisher(publisher), expect=expect)
