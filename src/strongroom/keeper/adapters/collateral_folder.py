"""The keeper's copies of collateral bundles, named by digest, in its own folder."""

from __future__ import annotations

from pathlib import Path

from strongroom.attestation.bundle.format import MAX_BUNDLE
from strongroom.core.digest import Digest
from strongroom.keeper.adapters.files import read_own, replace_own


class CollateralFolder:
    """Bundles, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, digest: Digest) -> bytes | None:
        """Return the bundle with this digest, if it is kept."""
        return read_own(self._place(digest), most=MAX_BUNDLE)

    def save(self, digest: Digest, data: bytes) -> None:
        """Make a bundle durable, beside the one in force."""
        replace_own(self._place(digest), data)

    def keep_only(self, digest: Digest) -> None:
        """Remove every bundle but this one."""
        for path in self._folder.glob("collateral-*.json"):
            if path != self._place(digest):
                path.unlink(missing_ok=True)

    def _place(self, digest: Digest) -> Path:
        return self._folder / f"collateral-{digest.value.hex()}.json"
