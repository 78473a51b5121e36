"""Cut what the OCSF export uses out of a compiled schema.

``python make_ocsf_schema.py COMPILED CHECKOUT > ocsf-1.8.0.json``, where CHECKOUT is github.com/ocsf/ocsf-schema at
version 1.8.0 and COMPILED what ``python -m ocsf.compile CHECKOUT`` of ocsf-lib prints. The checkout is needed as well:
a class takes an attribute out of a profile by writing ``"profile": null``, which ocsf-lib doesn't pass on.
Kept are the rules (types, requirements, closed values, profiles, constraints); words for people are left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

CLASSES = (1008, 2004, 3001, 3002, 3004, 3005, 6003, 6005, 6006)
OBJECTS = (
    "actor",
    "ai_model",
    "api",
    "databucket",
    "file",
    "finding_info",
    "managed_entity",
    "metadata",
    "network_endpoint",
    "object",
    "product",
    "request",
    "resource_details",
    "service",
    "user",
)
PROVENANCE = {
    "source": "github.com/ocsf/ocsf-schema, branch v1.8.0, commit 6fa6499a0f8c9f449d342816e90e5f687c224b0a",
    "licence": "Apache-2.0, Copyright OCSF a Series of LF Projects, LLC",
    "made": "ocsf-lib 0.10.4, then make_ocsf_schema.py: other classes, objects and all descriptions were left out",
}


def own_attributes(checkout: Path) -> dict[str, set[str]]:
    """Return, for each class, the attributes that it or a parent has without any profile."""
    files = [json.loads(path.read_text()) for path in sorted((checkout / "events").rglob("*.json"))]
    declared = {one["name"]: one for one in files if "name" in one}

    def own(name: str) -> set[str]:
        one = declared.get(name)
        if one is None:
            return set()
        here = {key for key, told in one.get("attributes", {}).items() if "profile" in told and told["profile"] is None}
        return here | own(one.get("extends", ""))

    return {name: own(name) for name in declared}


def rules(part: dict[str, Any], own: AbstractSet[str] = frozenset()) -> dict[str, Any]:
    """Return the rules of a class or object."""
    return {
        "constraints": part.get("constraints") or {},
        "attributes": {name: attribute(one, ours=name in own) for name, one in sorted(part["attributes"].items())},
    }


def attribute(one: dict[str, Any], *, ours: bool) -> dict[str, Any]:
    """Return the rules of an attribute."""
    kept: dict[str, Any] = {"type": one["object_type"] or one["type"], "requirement": one["requirement"]}
    if one["is_array"]:
        kept["is_array"] = True
    if one["enum"]:
        kept["enum"] = sorted(one["enum"])
    if one["profile"] and not ours:
        kept["profile"] = one["profile"]
    return kept


def main() -> None:
    """Print the cut schema."""
    schema = json.loads(Path(sys.argv[1]).read_text())
    own = own_attributes(Path(sys.argv[2]))
    classes = {one["uid"]: one for one in schema["classes"].values()}
    types = {
        name: {k: one[k] for k in ("type", "regex") if one.get(k)} for name, one in sorted(schema["types"].items())
    }
    cut = {
        "provenance": PROVENANCE,
        "version": schema["version"],
        "classes": {str(uid): rules(classes[uid], own[classes[uid]["name"]]) for uid in CLASSES},
        "objects": {name: rules(schema["objects"][name]) for name in OBJECTS},
        "types": types,
    }
    sys.stdout.write(json.dumps(cut, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
