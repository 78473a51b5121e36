"""Reference values as root holders make them: proposed, shown, signed, adopted, and images revoked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulators.attester import APPRAISAL, vendor_root
from strongroom.attestation.measurement import launch_measurements
from strongroom.attestation.reference_values import ReferenceImage
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId
from support.place import Place

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with Place.opened(tmp_path, monkeypatch, SystemClock()) as made:
        yield made


def image_file(place: Place, name: str) -> str:
    """Write an image's entry as `strongroom enclave measure` does; each name runs another command."""
    measured = launch_measurements(
        interpreter=Digest.of(b"interpreter"),
        files=Digest.of(b"files"),
        command=Digest.of(name.encode()),
        sandbox=Digest.of(b"sandbox"),
        genesis=place.deployment.genesis.digest,
    )
    path = place.folder / f"{name}.json"
    path.write_text(json.dumps(ReferenceImage.launched(ImageId(name), measured).to_json(), indent=2))
    return str(path)


def sign_and_adopt(place: Place, file: str) -> None:
    for holder in ("root-0", "root-1"):
        place.json("measurements", "sign", file, "--yes", by=holder)
    place.json("adopt", "reference-values", file, by="root-0")


def shown(place: Place) -> dict[str, Any]:
    values = place.json("measurements", "show", by="root-0")
    assert isinstance(values, dict)
    return values


def test_an_image_is_proposed_signed_by_two_and_comes_into_force(place: Place) -> None:
    out, root = str(place.folder / "values.json"), place.folder / "root.der"
    root.write_bytes(vendor_root())
    custody = place.folder / "custody.txt"
    custody.write_text("who looks after the machine")
    platform = place.deployment.platforms[0]
    name = json.loads(platform.payload)["platform"]
    proposed = place.json(
        *("measurements", "propose", "--out", out, "--image", image_file(place, "second")),
        *("--anchor", "tpm", "measured-host", str(root), "--custody", name, str(custody), "30"),
        by="root-0",
    )
    assert (proposed["epoch"], proposed["images"]) == (2, ["embedder", "second"])
    text = place.run("measurements", "sign", out, by="root-0", text="n\n").output
    for part in (
        "image second",
        "believes tpm",
        "in custody until",
        "takes tpm2",
        f"appraisal policy {APPRAISAL.digest}",
    ):
        assert part in text
    sign_and_adopt(place, out)
    values = shown(place)
    assert (values["epoch"], len(values["anchors"]), values["custody"][0]["platform"]) == (2, 1, name)
    assert values["custody"][0]["record"] == str(Digest.of(custody.read_bytes()))


def test_one_newly_signed_set_revokes_an_image(place: Place) -> None:
    out = str(place.folder / "values.json")
    place.seal()
    assert place.json("measurements", "revoke", "embedder", "--out", out, by="root-0")["epoch"] == 2
    sign_and_adopt(place, out)
    assert [(one["image"], one["revoked"]) for one in shown(place)["images"]] == [("embedder", True)]
    refused = place.json(
        *("request", "create", "--model", "minilm", "--image", "embedder", "--purpose", "evaluate", "--ticket", "T-7"),
        by="dana",
        code=8,
    )
    assert "don't list the image `embedder`" in refused["message"]


def test_what_can_not_come_into_force_is_not_written(place: Place) -> None:
    out = place.folder / "values.json"
    junk = place.folder / "junk.json"
    junk.write_text("{}")
    for arguments in (
        ("revoke", "nothing"),
        ("propose", "--image", str(junk)),
        ("propose", "--appraisal", str(junk)),
        ("propose", "--first"),
        ("propose", "--anchor", "tpm", "vm-simulated", str(junk)),
        ("propose", "--custody", "tpm-00", str(junk), "3"),
        ("propose", "--previous", str(junk)),
    ):
        result = place.run("measurements", *arguments, "--out", str(out), by="root-0")
        assert result.exit_code in {2, 6}, (arguments, result.output)
        assert "Traceback" not in result.output
        assert not out.exists()


def test_values_can_be_drafted_and_looked_at_without_the_deployment(place: Place) -> None:
    first, second = place.folder / "first.json", str(place.folder / "second.json")
    rules = place.folder / "appraisal.json"
    rules.write_text(json.dumps(APPRAISAL.to_json(), indent=2))
    place.json(
        *("measurements", "propose", "--first", "--out", str(first), "--appraisal", str(rules)),
        *("--image", image_file(place, "third")),
        by="root-0",
    )
    place.deployment.calls.clear()
    place.json("measurements", "sign", str(first), "--yes", by="root-1")
    place.json("measurements", "revoke", "third", "--previous", str(first), "--out", second, by="root-0")
    assert "image third REVOKED" in place.run("measurements", "show", second, by="root-0").output
    assert place.deployment.calls == []
