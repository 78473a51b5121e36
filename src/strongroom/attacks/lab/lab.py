"""Where attacks happen: a scratch deployment with a machine beside it, or the outside of a running one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.attacks.ending import NotRunError
from strongroom.attacks.lab.machine import Machine
from strongroom.attacks.lab.scratch import Scratch
from strongroom.attacks.layers import Layer

_PASSED_THROUGH: Final = 0o711


@dataclass(frozen=True, slots=True)
class Target:
    """What who stands outside sees of a deployment: its folder's path, and the broker's port on this machine."""

    home: Path
    port: int


class Lab:
    """One lab. A scratch deployment is made when it is first asked for, and its machine too."""

    def __init__(self, folder: Path, *, live: Target | None = None, without: frozenset[Layer] = frozenset()) -> None:
        self._folder = folder
        self._live = live
        self._without = without
        self._scratch: Scratch | None = None
        self._machine: Machine | None = None
        self._copies = 0
        self.enclave_runs = False
        """Whether an honest command was seen to run in a process enclave here."""

    @property
    def target(self) -> Target:
        """The deployment as it is seen from outside."""
        return self._live or Target(self.scratch.home, self.scratch.port)

    @property
    def live(self) -> bool:
        """Whether it is a running deployment, and no scratch copy."""
        return self._live is not None

    @property
    def scratch(self) -> Scratch:
        """The scratch deployment, running and furnished.

        :raises NotRunError: a running deployment is attacked: nobody's keys are at hand there.
        """
        if self._live is not None:
            raise NotRunError("it needs people's keys: it is tried on a scratch copy only")
        if self._scratch is None:
            folder = self.folder("deployment")
            # Others of the machine come as far as its home: what stops them there must be the home's own modes.
            folder.chmod(_PASSED_THROUGH)
            made = Scratch.found(folder, self._without)
            try:
                made.start()
                made.furnish()
            except BaseException:
                made.stop()
                raise
            self._scratch = made
        return self._scratch

    @property
    def weakened(self) -> bool:
        """Whether a layer is turned off."""
        return bool(self._without)

    @property
    def has_scratch(self) -> bool:
        """Whether the scratch deployment was made."""
        return self._scratch is not None

    @property
    def machine(self) -> Machine:
        """The enclave's host.

        :raises NotRunError: no software TPM is installed.
        """
        if self._machine is None:
            self._machine = Machine.made(self.scratch, self.folder("tpm"))
        return self._machine

    def folder(self, name: str) -> Path:
        """Return a new empty folder."""
        self._copies += 1
        made = self._folder / f"{self._copies}-{name}"
        made.mkdir(mode=0o700)
        return made

    def copied(self, folder: Path) -> Path:
        """Return a copy of a folder, to be changed."""
        return Path(shutil.copytree(folder, self.folder("copy") / folder.name))

    def close(self) -> None:
        """Stop whatever runs."""
        try:
            if self._machine is not None:
                self._machine.tpm.stop()
        finally:
            if self._scratch is not None:
                self._scratch.stop()


@contextmanager
def open_lab(*, live: Target | None = None, without: frozenset[Layer] = frozenset()) -> Iterator[Lab]:
    """Make a lab in a temporary folder, and leave nothing of it behind."""
    # Not in a deep folder: a socket's path has about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="strongroom-attacks-") as folder:
        Path(folder).chmod(_PASSED_THROUGH)
        lab = Lab(Path(folder), live=live, without=without)
        try:
            yield lab
        finally:
            lab.close()
