"""A recipient, a publisher and their two halves of a sealed model for tests of loaders: how to seal it, how to open it.

Both keep the recipient's identity under ``root``, which is made at the first call.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from strongroom.core.ids import PersonId
from strongroom.keys.adapters.identity_file import create_identity, open_identity
from strongroom.loaders.access import Access, Identity
from strongroom.loaders.saving import Publishing, own_domain
from support.sealed import MODEL, SIGNER

_NAME = "recipient.identity"


def recipient(root: Path) -> bytes:
    """Return the public key of the one recipient under ``root``."""
    path = root / _NAME
    if path.exists():
        return open_identity(path).public
    root.mkdir(parents=True, exist_ok=True)
    return create_identity(path, os.urandom, passphrase=None)


def publishing(root: Path, **changes: Any) -> Publishing:
    """Return how the test model is sealed for the recipient under ``root``."""
    facts: dict[str, Any] = {"model": MODEL, "publisher": PersonId("dana"), "signer": SIGNER}
    return Publishing(**(facts | {"recipients": [recipient(root)]} | changes))


def access(root: Path, **changes: Any) -> Access:
    """Return how the recipient under ``root`` opens it."""
    recipient(root)
    facts: dict[str, Any] = {
        "keys": Identity(root / _NAME),
        "publisher": SIGNER.public_key,
        "genesis": own_domain(SIGNER.public_key),
        "model": MODEL,
    }
    return Access(**(facts | changes))
