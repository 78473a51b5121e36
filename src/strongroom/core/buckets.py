"""Token buckets in memory: how often somebody may do something. A flood tires approvers and fills the log. Pure."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import UnavailableError

MAX_BUCKETS: Final = 4096


class TooManyEntriesError(UnavailableError):
    """This would bring more into the log than one person or enclave may; nothing was decided or recorded."""

    code = "too-many-entries"
    http_status = 429


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls a second in the long run, and at once."""

    per_second: float = 50.0
    burst: int = 200


class Buckets:
    """One bucket for each name. Bounded: the one unused longest is forgotten first."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Take a token; returns 0, or how many seconds there is none. ``now`` is monotonic, in seconds."""
        level, seen = self._levels.get(name, (float(self._rate.burst), now))
        level = min(float(self._rate.burst), level + max(0.0, now - seen) * self._rate.per_second)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate.per_second
        self._levels[name] = (level if wait else level - 1, now)
        self._levels.move_to_end(name)
        while len(self._levels) > MAX_BUCKETS:
            self._levels.popitem(last=False)
        return wait


def share_of(address: str) -> str:
    """Return what an IP address is counted by: of IPv6 the /64, because whoever has one address has them all."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    # A socket for both families tells a caller of IPv4 like this: all of them would lie in one /64.
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
