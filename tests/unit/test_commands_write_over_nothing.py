"""What a command makes anew takes no place where something is."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.cli.files import require_new
from strongroom.core.errors import ConflictError


def test_a_place_is_new_only_where_nothing_is(tmp_path: Path) -> None:
    file, folder, link = (tmp_path / name for name in ("file", "folder", "link"))
    file.touch()
    folder.mkdir()
    # What would be written there would lie wherever somebody made the link lead to.
    link.symlink_to(tmp_path / "nowhere")
    for taken in (file, folder, link):
        with pytest.raises(ConflictError, match="is there already"):
            require_new(taken)
    require_new(tmp_path / "nowhere")
