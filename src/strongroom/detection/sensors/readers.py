"""The readers by their sensors' names. Each call makes a new one: some remember what belongs together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from strongroom.detection.sensors.auditd import AuditReader
from strongroom.detection.sensors.feeds import feed_reader
from strongroom.detection.sensors.hosts import read_falco, read_osquery, read_tetragon, read_wazuh
from strongroom.detection.sensors.own import read_own
from strongroom.detection.sensors.reading import Reader
from strongroom.detection.sensors.tokens import read_canarytoken

READERS: Final[Mapping[str, Callable[[], Reader]]] = MappingProxyType(
    {
        "auditd": AuditReader,
        "canarytokens": lambda: read_canarytoken,
        "falco": lambda: read_falco,
        "osquery": lambda: read_osquery,
        "strongroom": lambda: read_own,
        "tetragon": lambda: read_tetragon,
        "wazuh": lambda: read_wazuh,
    }
)


def reader_of(kind: str, events: tuple[str, ...]) -> Reader:
    """Return a new reader of a sensor's lines.

    :param events: what a feed may tell; none for a sensor that isn't one.
    """
    return feed_reader(events) if events else READERS[kind]()
