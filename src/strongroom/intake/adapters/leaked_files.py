"""A file or folder that turned up somewhere, opened for comparing: regular files, through no link, whatever else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.intake.adapters.delivered_folder import OpenFile
from strongroom.intake.folder import MAX_FILES
from strongroom.intake.marks.leak import LeakedTensor, leaked_tensors
from strongroom.intake.rules import shown

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Leak(NamedTuple):
    """What was found in it."""

    tensors: tuple[LeakedTensor, ...]
    skipped: dict[str, str]
    """Files that hold no tensors that are read: name -> the error's code."""


@contextmanager
def open_leak(path: Path) -> Iterator[Leak]:
    """Open a file, or all files of a folder, and list their tensors. What isn't read as tensors is named, not refused.

    :raises UsageError: more files than a delivery may have.
    :raises OSError: nothing is there, or it can't be read.
    """
    with ExitStack() as opened:
        tensors: list[LeakedTensor] = []
        skipped: dict[str, str] = {}
        for name, place in _files(path):
            with ExitStack() as this:
                try:
                    tensors += leaked_tensors(_open(this, name, place), name)
                    # Those that hold tensors stay open. The others don't use up what a process may have open.
                    opened.push(this.pop_all())
                except StrongroomError as error:
                    skipped[name] = error.reason
        yield Leak(tuple(tensors), skipped)


def _files(path: Path) -> list[tuple[str, Path]]:
    if not path.is_dir():
        # The one link that may be followed is the one that the caller named.
        return [(path.name, path.resolve())]
    found = []
    for folder, _folders, names in os.walk(path, followlinks=False, onerror=_refuse):
        found += [Path(folder, name) for name in names]
        if len(found) > MAX_FILES:
            raise UsageError(f"`{path}` has more than {MAX_FILES} files", remedy="name the file that holds the weights")
    return [(place.relative_to(path).as_posix(), place) for place in sorted(found)]


def _refuse(error: OSError) -> None:
    raise error


def _open(opened: ExitStack, name: str, place: Path) -> OpenFile:
    try:
        fd = os.open(place, _FLAGS)
    except OSError as error:
        raise UsageError(f"{shown(name)} can't be opened", reason="unreadable") from error
    opened.callback(os.close, fd)
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode):
        raise UsageError(f"{shown(name)} isn't a regular file", reason="special-file")
    return OpenFile(name, fd, facts)
