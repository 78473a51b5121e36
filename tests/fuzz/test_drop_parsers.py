"""Whatever bytes come out of a workspace, or are said about one: they are read, or refused with one of our errors."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.targets.drops import DROPS
from strongroom.egress.archive import MAGIC as ARCHIVE_MAGIC
from strongroom.release.drop_file import MAGIC as DROP_MAGIC


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"nbformat": 4, "cells": ' + b"[" * 100_000)
def test_any_bytes(data: bytes) -> None:
    for target in DROPS.values():
        for mark in (b"", ARCHIVE_MAGIC, DROP_MAGIC):
            target(mark + data)
