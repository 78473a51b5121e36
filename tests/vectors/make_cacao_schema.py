"""Put OASIS' JSON schemas of CACAO v2.0 into one file: ``python make_cacao_schema.py CHECKOUT > cacao-2.0.json``.

CHECKOUT is github.com/oasis-open/cacao-json-schemas. Kept are all rules; words for people are left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PROVENANCE = {
    "source": "github.com/oasis-open/cacao-json-schemas, commit 7285329",
    "licence": "Apache-2.0, Copyright OASIS Open and contributors",
    "made": "make_cacao_schema.py: all descriptions and titles were left out; nothing else was changed",
}


def rules(value: Any) -> Any:
    """Return a schema without its words for people."""
    if isinstance(value, list):
        return [rules(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: rules(item)
        for name, item in value.items()
        if not (name in {"description", "title"} and isinstance(item, str))
    }


def main() -> None:
    """Print the schemas."""
    files = sorted((Path(sys.argv[1]) / "schemas").rglob("*.json"))
    schemas = [rules(json.loads(path.read_text(encoding="utf-8"))) for path in files]
    sys.stdout.write(json.dumps({"provenance": PROVENANCE, "schemas": schemas}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
