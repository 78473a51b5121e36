"""Opening, watching, shutting and closing a gate, in the only order that leaves no moment without rules.

1. the record says what may be let through       2. a namespace without links       3. rules that drop everything
4. the gate's rules, read back and compared      5. the link to the world           6. the link to the enclave
7. a probe: a packet that must be dropped is dropped, one that may pass is counted
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core import canonical
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import reading
from strongroom.enclave.gate.adapters import links, probe, tools
from strongroom.enclave.gate.adapters.record_file import RecordFile
from strongroom.enclave.gate.adapters.shutter import Shutter
from strongroom.enclave.gate.errors import GateTamperedError
from strongroom.enclave.gate.record import not_back
from strongroom.enclave.gate.rules import Reading, open_rules, raise_limits, read_back, read_shut, shut_rules
from strongroom.enclave.gate.settings import GateSettings

MAX_SETTINGS: Final = 65536
WATCH_SECONDS: Final = 1.0


def read_settings(data: bytes) -> GateSettings:
    """Read a file of settings.

    :raises MalformedError: another form.
    """
    with reading(canonical.parse(data, max_bytes=MAX_SETTINGS), "gate") as fields:
        return GateSettings.read(fields)


class Gate:
    """One gate, on this machine. Root's rights are needed."""

    def __init__(self, settings: GateSettings, folder: Path) -> None:
        self.settings = settings
        self._file = RecordFile(folder, settings)

    def open(self) -> Reading:
        """Open the gate; returns its counters after the probe.

        :raises GateFrozenError: it was shut before. :raises GateSpentError: its bytes are used up.
        :raises GateTakenError: it is open, or another process has it.
        :raises GateTamperedError: the kernel's rules, or the probe, aren't as they should be; nothing is linked then.
        :raises GateUnavailableError: the kernel or a tool can't.
        """
        with self._file.held():
            self._file.require_open()
            record, quotas = self._file.read().opened(self.settings)
            links.make_namespace(self.settings)
            try:
                self._shut()
                self._file.write(record)
                tools.load(self.settings.namespace, open_rules(self.settings, quotas))
                self.read()
                links.connect_world(self.settings)
                links.connect_enclave(self.settings)
                counters = self._probed()
                # Somebody who froze the gate meanwhile shut rules that were replaced since; the mark stands.
                self._file.require_open()
            except BaseException:
                # Half a gate lets nothing through, and isn't left standing.
                links.remove(self.settings)
                raise
            return counters

    def read(self) -> Reading:
        """Return the counters of an open gate.

        :raises GateTamperedError: the kernel's rules aren't this gate's.
        """
        return read_back(tools.listing(self.settings.namespace), self.settings)

    def watch(self, told: Callable[[Reading], None], *, seconds: float | None = None) -> None:
        """Compare, and give the kernel further blocks, until ``seconds`` have passed; for ever without.

        Without a watch a gate stays open until its block is used up.

        :raises GateTamperedError: the rules or counters aren't what they should be; the gate was shut before.
        :raises GateTakenError: another process watches.
        """
        ends = None if seconds is None else time.monotonic() + seconds
        with self._file.held(), self._shut_on_tampering():
            before = self.read()
            while ends is None or time.monotonic() < ends:
                now = self.read()
                not_back(before, now)
                self._ahead(now)
                told(now)
                before = now
                time.sleep(WATCH_SECONDS)

    def freeze(self, cause: str) -> None:
        """Drop everything at once, and remember why. Neither a restart nor another settings file opens it again."""
        try:
            self._shut()
        finally:
            self._file.shut(cause)

    def mark(self, cause: str) -> None:
        """Remember, durably, that the gate is shut and why: what :meth:`freeze` does after it dropped everything."""
        self._file.shut(cause)

    def close(self) -> None:
        """Take the gate away, links first. What its block had left is lost with it.

        :raises GateTakenError: another process has it.
        """
        with self._file.held():
            links.remove(self.settings)

    def _ahead(self, now: Reading) -> None:
        further = self._file.read().ahead(self.settings, now)
        if further is not None:
            record, quotas = further
            self._file.write(record)
            tools.load(self.settings.namespace, raise_limits(quotas))

    def _shut(self) -> None:
        tools.load(self.settings.namespace, shut_rules())
        read_shut(tools.listing(self.settings.namespace))

    def _probed(self) -> Reading:
        before = self.read()
        probe.send_refused(self.settings)
        between = self.read()
        probe.send_allowed(self.settings)
        after = self.read()
        if between.refused <= before.refused or between.passed != before.passed or between.out != before.out:
            raise GateTamperedError("a packet that must be dropped wasn't counted as dropped")
        if after.passed <= between.passed or after.out <= between.out:
            raise GateTamperedError("a packet that may pass wasn't counted")
        return after

    @contextmanager
    def _shut_on_tampering(self) -> Iterator[None]:
        try:
            yield
        except StrongroomError as error:
            if isinstance(error, GateTamperedError):
                self.freeze(error.code)
            raise


class Switch:
    """Shuts an open gate in about a millisecond, from a process that holds it ready. Root's rights are needed.

    :raises GateUnavailableError: the gate isn't open, or libnftables isn't there.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._shutter = Shutter(gate.settings.namespace)
        self._rules = canonical.encode(shut_rules())

    def begin(self) -> Future[None]:
        """Begin to drop everything, and to see that the kernel does. What remembers it is :meth:`Gate.mark`.

        The future raises GateUnavailableError where the kernel refused, GateTamperedError where it lists other rules.
        """
        return self._shutter.begin(self._rules, read_shut)

    def close(self) -> None:
        """Let go of the gate, as it is."""
        self._shutter.close()
