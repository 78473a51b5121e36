"""A folder that a command makes appears whole, or not at all: half a deployment must not look like one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.core.adapters.durable import sync_folder


@contextmanager
def whole_or_none(place: Path, doing: str) -> Iterator[Path]:
    """Make a private folder beside ``place``, for the body to fill; without an error it takes its name at the end.

    What a killed command left there is cleared away. ``doing`` tells in the folder's name what makes it.

    :raises OSError: the disk refused, or ``place`` is there by now and holds something.
    """
    staging = place.with_name(f".{place.name}.{doing}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700, parents=True)
    try:
        yield staging
        staging.rename(place)
        # The name is as durable as what it stands for.
        sync_folder(place.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
