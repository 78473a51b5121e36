"""Whatever is handed in as a backup is read, or refused as ours."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.targets.backups import BACKUPS
from strongroom.backup.header import MAGIC, PREFIX


@given(st.binary(max_size=300))
@example(b"\0\0")
@example(PREFIX.pack(MAGIC, 1, 1 << 24) + b"[" * 100_000)
def test_any_bytes(data: bytes) -> None:
    for target in BACKUPS.values():
        target(data)


@given(st.binary(max_size=200))
def test_any_header(data: bytes) -> None:
    BACKUPS["backup-header"](PREFIX.pack(MAGIC, 1, len(data)) + data)
