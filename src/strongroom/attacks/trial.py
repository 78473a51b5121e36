"""One attack at its work: the honest act first, then each attempt, timed, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from strongroom.attacks.ending import NotRunError, SetupError, code_of
from strongroom.attacks.lab.lab import Lab
from strongroom.attacks.lab.machine import Machine
from strongroom.attacks.lab.scratch import Scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try: the code that it was refused with, or what it gained, and how long that took."""

    what: str
    code: str
    gained: str
    said: str
    micros: int


@dataclass(slots=True)
class Trial:
    """What an attack acts on, and where it reports."""

    lab: Lab
    honest_acts: list[str] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)
    mark: Callable[[], None] = lambda: None
    """Remembers what is there before the first attempt: that is no trace of it."""
    _marked: bool = False

    @property
    def scratch(self) -> Scratch:
        """The deployment that is attacked."""
        return self.lab.scratch

    @property
    def machine(self) -> Machine:
        """The enclave's host beside it."""
        return self.lab.machine

    @contextmanager
    def honest(self, what: str) -> Iterator[None]:
        """Carry out the honest act that goes the same way.

        :raises SetupError: it failed.
        """
        try:
            yield
        except NotRunError:
            raise
        except Exception as error:
            raise SetupError(f"{what}: {type(error).__name__}: {error}") from error
        self.honest_acts.append(what)

    def attempt(self, what: str, act: Callable[[], object], *, micros: int | None = None) -> None:
        """Try. The act returns what it gained, or raises whatever refused it.

        :param micros: how long it took, in microseconds, where ``act`` only tells of what was tried elsewhere.
        :raises SetupError: nothing honest was shown to work before.
        """
        if not self.honest_acts:
            raise SetupError(f"{what}: no honest act was shown to work")
        self.begin()
        began = time.perf_counter_ns()
        try:
            gained = act()
        except Exception as error:  # noqa: BLE001 - whatever ends an attempt is judged by its code
            code, told, said = code_of(error), "", f"{type(error).__name__}: {error}"
        else:
            # What was gained is named, not shown: it may be a secret.
            code, told, said = "", type(gained).__name__, ""
        took = (time.perf_counter_ns() - began) // 1000 if micros is None else micros
        self.attempts.append(Attempt(what=what, code=code, gained=told, said=said, micros=took))

    def begin(self) -> None:
        """Say that the honest acts are over, where the deployment is stopped before the first attempt."""
        if not self._marked:
            self._marked = True
            self.mark()

    def finding(self, signal: str) -> None:
        """Say how the attempts showed themselves by being refused: where who defends is the one that is told."""
        if self.attempts and all(one.code for one in self.attempts):
            self.signals.append(f"finding: {signal}")
