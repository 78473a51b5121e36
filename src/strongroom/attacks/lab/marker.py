"""What says that a deployment is a scratch copy: its own root holders, in a statement that no real ones ever sign.

A name can be given to anything. This can't: the statement stands over the digest of the genesis, and the root keys that
the genesis lists must have signed it, as many as it wants. The lab's exist for minutes; a real quorum never signs one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from strongroom.core.envelope import Envelope, payload_type, sign, verify
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.signature import Signer

SCRATCH_TYPE: Final = payload_type("scratch-copy.v1")
_NAME: Final = "scratch-copy.json"


def mark_scratch(home: Path, genesis: Genesis, roots: Iterable[Signer]) -> None:
    """Have the root holders of a deployment say that it is a scratch copy."""
    (home / _NAME).write_bytes(sign(SCRATCH_TYPE, str(genesis.digest).encode(), *roots).to_bytes())


def need_scratch(home: Path) -> None:
    """Refuse whatever isn't a scratch copy.

    :raises UsageError: the root quorum of the deployment at ``home`` never said that it is one.
    """
    refused = UsageError("layers and clocks are changed in scratch copies only")
    try:
        genesis = Genesis.parse((home / "genesis.json").read_bytes())
        said = Envelope.parse((home / _NAME).read_bytes())
        verify(said, SCRATCH_TYPE, genesis.root_keys, threshold=genesis.root_threshold)
    except (OSError, StrongroomError) as error:
        raise refused from error
    if said.payload != str(genesis.digest).encode():
        raise refused
