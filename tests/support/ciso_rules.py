"""What CISO Assistant 1.0.4 asks of a library that is uploaded and loaded; written from its importer's behaviour.

It refuses what breaks one of these, or a field of its database does. The importer itself is a Django application with
a database, and isn't run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

MAX_BYTES: Final = 10 * 1024 * 1024
URN: Final = re.compile(r"urn:[\w-]+:[\w-]+:[\w-]+(:[\w-]+)?:[0-9A-Za-z\[\]()\-._:]+", re.ASCII)
INTEGER: Final = 2**31
LENGTHS: Final = {
    "urn": 255,
    "parent_urn": 255,
    "ref_id": 100,
    "name": 200,
    "provider": 200,
    "packager": 100,
    "copyright": 4096,
    "locale": 100,
}
OBJECTS: Final = frozenset(
    {
        "ttp_catalogs",
        "tactics",
        "techniques",
        "threats",
        "reference_controls",
        "metric_definitions",
        "risk_matrix",
        "risk_matrices",
        "framework",
        "frameworks",
        "requirement_mapping_set",
        "requirement_mapping_sets",
        "preset",
        "workflows",
    }
)


def broken(data: bytes) -> Iterator[str]:
    """Yield every rule that a library file breaks."""
    if len(data) > MAX_BYTES:
        yield "larger than 10 MB"
    library = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    if not isinstance(library, dict):
        yield "no mapping"
        return
    if missing := {"urn", "name", "version", "objects", "ref_id", "locale"} - library.keys():
        yield f"without {sorted(missing)}"
        return
    yield from _fields(library, "library")
    if isinstance(library["version"], bool) or not 0 <= int(library["version"]) < INTEGER:
        yield "its version isn't a whole number of 31 bits"
    objects = library["objects"]
    if not objects or not objects.keys() <= OBJECTS:
        yield "no objects, or unknown ones"
    yield from _framework(objects.get("framework", {}))


def _fields(value: dict[str, Any], what: str) -> Iterator[str]:
    for name, most in LENGTHS.items():
        text = value.get(name)
        if text is not None and (not isinstance(text, str) or len(text) > most):
            yield f"{what}: `{name}` isn't a text of at most {most} characters"
    if not URN.fullmatch(str(value.get("urn", "")).lower()):
        yield f"{what}: its URN isn't one"


def _framework(framework: dict[str, Any]) -> Iterator[str]:
    if missing := {"ref_id", "urn"} - framework.keys():
        yield f"framework: without {sorted(missing)}"
        return
    yield from _fields(framework, "framework")
    nodes = framework.get("requirement_nodes", [])
    if not nodes:
        yield "framework: empty"
    least, most = framework.get("min_score", 0), framework.get("max_score", 100)
    if not 0 <= least < most:
        yield "framework: its scores are no range"
    known: set[str] = set()
    groups = {one["ref_id"] for one in framework.get("implementation_groups_definition", [])}
    for node in nodes:
        yield from _fields(node, "node")
        urn = str(node.get("urn", "")).lower()
        if urn in known:
            yield f"node: `{urn}` comes twice"
        if not isinstance(node.get("assessable"), bool):
            yield f"node: `{urn}` doesn't say whether it is assessable"
        # Listed in order: a tree is drawn from what came before.
        if (parent := node.get("parent_urn")) is not None and parent.lower() not in known:
            yield f"node: the parent of `{urn}` isn't listed before it"
        if not groups.issuperset(node.get("implementation_groups", ())):
            yield f"node: `{urn}` is in a group that isn't defined"
        known.add(urn)
