"""Rules and events, drawn from a seed: of the kind that a vault has, one to three selections each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

EVENTS: Final = tuple(f"vault:thing-{n}:did" for n in range(20))
Event = dict[str, str | int]


def rules(count: int) -> list[str]:
    """Return Sigma documents: an event by name, and a mix of comparisons, prefixes, words and networks."""
    chance, drawn = random.Random(1), []  # noqa: S311 - the same rules each time
    for number in range(count):
        second = chance.choice(
            (
                f"path|contains: [secret{number % 9}, key{number}]",
                f"ip|cidr: 10.{number % 200}.0.0/16",
                "bytes|gte: 2900",
            )
        )
        third = chance.choice(("user|endswith: '7'", "tool: [scp, tar, rsync]", "path|endswith: .floe"))
        joined = chance.choice(("anchor and second", "anchor and second and third", "anchor and (second or third)"))
        drawn.append(
            f"title: rule {number}\nname: r{number}\nlogsource: {{product: strongroom}}\ndetection:\n"
            f"  anchor:\n    event: {EVENTS[number % len(EVENTS)]}\n    user|startswith: u{number % 7}\n"
            f"  second:\n    {second}\n  third:\n    {third}\n  condition: {joined}\nlevel: high\n"
        )
    return drawn


def events(count: int) -> Iterator[Event]:
    """Yield events, of which few match anything."""
    chance = random.Random(2)  # noqa: S311 - the same events each time
    for _number in range(count):
        kind = chance.choice(("secret", "plain", "plain"))
        yield {
            "event": chance.choice(EVENTS),
            "user": f"u{chance.randrange(9)}x{chance.randrange(10)}",
            "bytes": chance.randrange(3000),
            "path": f"/a/{kind}{chance.randrange(40)}{chance.choice(('', '.floe'))}",
            "ip": f"10.{chance.randrange(250)}.1.2",
            "tool": chance.choice(("ls", "cat", "scp", "vi", "python3")),
        }
