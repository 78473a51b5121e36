"""How facts are written for a person: the templates' filters. All return text; markup stands in templates alone."""

from __future__ import annotations

from strongroom.client.render import duration
from strongroom.core.clock import Instant, parse_instant
from strongroom.core.printable import printable

SHORT = 12
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def relative(text: str, now: Instant) -> str:
    """Say how far an instant (RFC 3339) is from now: ``in 3 h 5 min``, ``2 d 4 h ago``."""
    away = parse_instant(text) - now
    if away == 0:
        return "now"
    return f"in {duration(away)}" if away > 0 else f"{duration(-away)} ago"


def moment(text: str) -> str:
    """Write an instant (RFC 3339) as a person reads it: ``2026-11-26 12:00:05 UTC``."""
    parse_instant(text)
    return f"{text[:10]} {text[11:19]} UTC"


def short(digest: str) -> str:
    """Write the beginning of a digest or id; the whole of it stands beside, to be copied."""
    plain = digest.removeprefix("sha256:")
    return plain if len(plain) <= SHORT + 1 else f"{plain[:SHORT]}…"


def shown(value: object) -> str:
    """Write what others wrote: control characters and directions of writing become visible."""
    return printable(str(value))


def size(bits: int) -> str:
    """Write a number of bits as bytes, in the unit that fits: ``1.25 MB``. Powers of 1,000."""
    value, unit = bits / 8, 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}"


def micros(count: int) -> str:
    """Write a number of microseconds in the unit that fits: ``12.5 ms``, ``3.2 s``."""
    if count < 1_000_000:
        return f"{count / 1000:.3g} ms"
    return f"{count / 1_000_000:.3g} s" if count < 60_000_000 else duration(count // 1_000_000)


def words(name: str) -> str:
    """Write a name of ours (``open-in-enclave``) as words."""
    return name.replace("-", " ").replace("_", " ")
