"""How an option names a public key: its text, or a file that ``strongroom people keygen`` printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from strongroom.cli.session import read_file
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey, SignatureAlgorithm

_MAX_FILE: Final = 4 * MAX_KEY_TEXT
_KEY: Final = re.compile(r"[a-z0-9-]+:")


def public_key(given: str, *algorithms: SignatureAlgorithm) -> PublicKey:
    """Return the key of one of ``algorithms`` that ``given`` is, or that the file ``given`` holds.

    The caller names the algorithms: a file with a person's two keys then serves where either is wanted, and neither is
    taken for the other.

    :raises UsageError: no such file, a key of another algorithm, or not exactly one of these.
    :raises MalformedError: text that isn't a public key.
    """
    if _KEY.match(given):
        found = [PublicKey.parse(given)]
        where = "the key given"
    else:
        # Nothing but a key has a colon after its first word; a file of such a name is still reached by `./`.
        found = _listed(Path(given))
        where = f"`{Path(given).name}`"
    wanted = [key for key in found if key.algorithm in algorithms]
    if len(wanted) != 1:
        forms = " or ".join(f"`{algorithm.value}:<base64>`" for algorithm in algorithms)
        raise UsageError(
            f"{where} must be, or hold, one public key of the form {forms}",
            remedy="give the key's text, or the file into which `strongroom people keygen` printed it",
        )
    return wanted[0]


def public_keys(given: Sequence[str], *algorithms: SignatureAlgorithm) -> tuple[PublicKey, ...]:
    """Return the key that each of ``given`` names; see :func:`public_key`."""
    return tuple(public_key(one, *algorithms) for one in given)


def _listed(path: Path) -> list[PublicKey]:
    try:
        lines = read_file(path, most=_MAX_FILE).decode("ascii").split()
        return [PublicKey.parse(line) for line in lines]
    except (UnicodeDecodeError, MalformedError):
        raise UsageError(f"`{path.name}` must hold public keys, one a line, and nothing else") from None
