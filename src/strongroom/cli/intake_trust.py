"""What the verbs that verify a delivery's signature share: whom the caller trusts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from strongroom.cli.session import read_file
from strongroom.core.errors import UsageError
from strongroom.intake.adapters.trust import MAX_PEM, Trust
from strongroom.intake.statements import MAX_BUNDLE

F = TypeVar("F", bound=Callable[..., Any])
MAX_TRUSTED_ROOT: Final = 16 << 20
_file: Final = click.Path(path_type=Path, dir_okay=False, exists=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A signature, and who may have made it, as files and texts."""

    signature: Path | None
    keys: tuple[Path, ...]
    anchors: tuple[Path, ...]
    signers: tuple[str, ...]
    trusted_root: Path | None
    identity: str | None
    issuer: str | None

    def bundle(self) -> bytes | None:
        """Return the signature's bundle, or None.

        :raises UsageError: somebody is trusted, and no signature is given.
        """
        if self.signature is not None:
            return read_file(self.signature, most=MAX_BUNDLE)
        if self.given:
            raise UsageError("whom to trust without a signature", remedy="give --signature")
        return None

    @property
    def given(self) -> bool:
        """Whether anything is asked."""
        return self != Asked(
            signature=None, keys=(), anchors=(), signers=(), trusted_root=None, identity=None, issuer=None
        )

    def trust(self) -> Trust:
        """Return who is trusted."""
        return Trust(
            keys=tuple(read_file(one, most=MAX_PEM) for one in self.keys),
            anchors=tuple(read_file(one, most=MAX_PEM) for one in self.anchors),
            signers=frozenset(self.signers),
            trusted_root=None if self.trusted_root is None else read_file(self.trusted_root, most=MAX_TRUSTED_ROOT),
            identity=self.identity,
            issuer=self.issuer,
        )


def signature_options(function: F) -> F:
    """Add ``--signature`` and who may have signed; the command passes them on as :class:`Asked`."""
    options = (
        click.option("--signature", type=_file, help="The model's signature: an OpenSSF Model Signing bundle."),
        click.option(
            "--key", "keys", multiple=True, type=_file, help="A public key (PEM) that may have signed. Repeatable."
        ),
        click.option(
            "--anchor", "anchors", multiple=True, type=_file, help="A certificate (PEM) that signers lead to."
        ),
        click.option(
            "--signer", "signers", multiple=True, help="With --anchor: a subject that may have signed, `CN=...`."
        ),
        click.option("--trusted-root", type=_file, help="Sigstore's trusted root, for a keyless signature."),
        click.option("--identity", help="With --trusted-root: who signed, as the certificate says."),
        click.option("--issuer", help="With --trusted-root: the address of who vouches for the identity."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def leave_out_option(function: F) -> F:
    """Add ``--leave-out``; passed as ``leave_out``."""
    return click.option(
        "--leave-out", multiple=True, help="A file or folder that isn't taken in, as `.git`. Repeatable."
    )(function)
