"""docs/spec/collateral-bundle.md says what the code does: kinds, limits, errors, and an example that is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

from strongroom.attestation.bundle.format import MAX_BUNDLE, MAX_DATA, Bundle
from strongroom.attestation.bundle.merge import CollateralRollbackError
from strongroom.attestation.bundle.proof import CollateralUnprovenError
from strongroom.attestation.bundle.reading import MAX_ITEM, read_item
from strongroom.attestation.collateral import MAX_ITEMS, MAX_NAME, CollateralKind
from strongroom.attestation.sev_snp.intermediates import shipped_intermediates
from strongroom.core.errors import MalformedError
from strongroom.core.extras import MissingExtraError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "spec" / "collateral-bundle.md").read_text(encoding="utf-8")


def test_every_kind_is_told_twice() -> None:
    for kind in CollateralKind:
        assert len(re.findall(rf"^\| `{kind}` \|", PAGE, re.MULTILINE)) == (
            1 if kind is CollateralKind.CERTIFICATE else 2
        )


def test_the_limits() -> None:
    mib = 1024 * 1024
    assert f"At most {MAX_ITEMS:,} items, {MAX_ITEM // mib} MiB of data each and {MAX_DATA // mib} MiB together" in PAGE
    assert f"at most {MAX_BUNDLE // mib} MiB" in PAGE
    assert f"1 to {MAX_NAME} characters" in PAGE


def test_the_errors() -> None:
    for error in (MalformedError, CollateralUnprovenError, CollateralRollbackError, MissingExtraError):
        assert re.search(rf"^\| .* \| `{error.code}`", PAGE, re.MULTILINE)


def test_the_example_is_how_a_real_bundle_begins() -> None:
    shown = json.loads(PAGE.partition("```json\n")[2].partition("```")[0])
    items = {
        read.item.name: read for read in (read_item(CollateralKind.CERTIFICATE, d) for d in shipped_intermediates())
    }
    (example,) = shown["items"]
    real = json.loads(Bundle.of([items[example["name"]]]).to_bytes())
    assert real["items"][0]["data"].startswith(example["data"].rstrip("…"))
    assert {**real, "items": [{**real["items"][0], "data": example["data"]}]} == shown
