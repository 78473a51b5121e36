"""The console's memory of the log: what can't be kept isn't taken for seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.client.wallet import Seen
from strongroom.console.adapters.console_folder import SEEN, SeenFile
from strongroom.core.errors import UnavailableError


def test_a_disk_that_refuses_is_told_and_nothing_counts_as_seen(tmp_path: Path) -> None:
    memory = SeenFile(tmp_path / "away" / SEEN)
    before, after = memory.seen(), Seen()
    with pytest.raises(UnavailableError, match="can't keep what it saw") as refused:
        memory.remember(after)
    assert SEEN in refused.value.remedy
    assert memory.seen() is before
    (tmp_path / "away").mkdir()
    memory.remember(after)
    assert memory.seen() is after
