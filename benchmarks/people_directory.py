"""The directory of people: what a SCIM call costs with 2000 records, each encrypted under a key of its own.

``make bench B=people_directory``. In one process, without TLS and HTTP parsing; the keeper's side answers at once.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.people import RISC, Lab, claims, lab, signed

RECORDS = 2000
EQUALS = "userName%20eq%20"


def milliseconds(act: Callable[[int], object], times: int) -> float:
    """Return the median of some calls."""
    took = []
    for number in range(times):
        began = time.perf_counter()
        act(number)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def rows(here: Lab) -> list[tuple[str, float]]:
    """Fill the directory and measure."""
    users: list[str] = []
    created = milliseconds(
        lambda n: users.append(here.user(f"p{n}", active=True, emails=[{"value": f"p{n}@example.org"}])), RECORDS
    )
    tokens = [
        signed(claims(f"{RISC}account-disabled", jti=f"j{n}", sub_id={"format": "email", "email": f"p{n}@example.org"}))
        for n in range(50)
    ]
    return [
        ("create a user", created),
        ("read a user", milliseconds(lambda n: here.scim("GET", f"/Users/{users[n]}"), 200)),
        (
            "find by user name",
            milliseconds(lambda n: here.scim("GET", f"/Users?filter=userName%20eq%20%22p{n}%22"), 200),
        ),
        ("a page of 100", milliseconds(lambda n: here.scim("GET", f"/Users?startIndex={n * 100 + 1}&count=100"), 10)),
        ("a filter that reads all", milliseconds(lambda _n: here.scim("GET", "/Users?filter=title%20pr"), 5)),
        ("deactivate a user", milliseconds(lambda n: here.deactivate(users[n]), 200)),
        ("a security event", milliseconds(lambda n: here.event(tokens[n]), len(tokens))),
    ]


def main() -> None:
    """Measure and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as folder, lab(Path(folder) / "home") as here:
        for name, took in rows(here):
            print(f"{name:26} {took:9.2f} ms")


main()
