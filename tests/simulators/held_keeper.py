"""The real keeper, which stands still while it holds a data key, for as long as ``HOME/keeper/hold`` is there.

It says that it does in ``HOME/keeper/holding``. ``HOME/keeper/secrets`` says where it keeps its keys: ``heap``, as any
program would; ``locked``; or, without the file, the best that the kernel has.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from strongroom.core.secret import SecretBytes, keep_secrets_in
from strongroom.keeper import vault, wiring
from strongroom.keeper.guard.wiring import hide_secrets
from strongroom.keys.wrapping import KeyKind, WrapPurpose, unwrap
from strongroom.walls.adapters.secret_memory import SecretArena, SecretMemoryKind

FOLDER = Path(sys.argv[sys.argv.index("--home") + 1]) / "keeper"


def held(wrapping_key: SecretBytes, wrapped: Any, purpose: WrapPurpose) -> SecretBytes:
    """Unwrap a key; with a data key and its KEK in hand, wait."""
    key = unwrap(wrapping_key, wrapped, purpose)
    if purpose.kind is KeyKind.DATA and (FOLDER / "hold").exists():
        (FOLDER / "holding").touch()
        while (FOLDER / "hold").exists():
            time.sleep(0.02)
        (FOLDER / "holding").unlink()
    return key


def hidden() -> SecretMemoryKind:
    """Keep secrets where the file says."""
    where = FOLDER / "secrets"
    match where.read_text() if where.exists() else "":
        case "heap":
            keep_secrets_in(None)
            return SecretMemoryKind.LOCKED
        case "locked":
            keep_secrets_in(SecretArena(SecretMemoryKind.LOCKED).take)
            return SecretMemoryKind.LOCKED
    return hide_secrets()


if __name__ == "__main__":
    setattr(vault, "unwrap", held)  # noqa: B010 - mypy refuses to see it replaced
    setattr(wiring, "hide_secrets", hidden)  # noqa: B010 - likewise
    wiring.main()
