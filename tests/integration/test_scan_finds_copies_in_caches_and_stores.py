"""Copies are found where tools put them: the Hugging Face cache, MLflow's folders, a bucket that speaks S3."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli import scan
from support.copies import CopiesLab, opened_lab
from support.planted import safetensors, small_model

pytestmark = pytest.mark.integration
OURS, THEIRS = small_model(1), small_model(2)
RUN = "0123456789abcdef" * 2


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CopiesLab]:
    monkeypatch.setattr(scan, "yield_to_others", lambda: None)
    with opened_lab(tmp_path, monkeypatch) as made:
        made.fingerprint(OURS)
        yield made


def cached(cache: Path, repository: str, data: bytes) -> Path:
    """Lay a file into a Hugging Face cache, as its library does; returns the blob."""
    root = cache / f"models--{repository.replace('/', '--')}"
    blob, snapshot = root / "blobs" / sha256(data).hexdigest(), root / "snapshots" / ("a" * 40)
    for folder in (blob.parent, snapshot, root / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    (snapshot / "model.safetensors").symlink_to(Path("..", "..", "blobs", blob.name))
    (root / "refs" / "main").write_text("a" * 40)
    return blob


def test_a_copy_in_the_hugging_face_cache_is_found_once_and_its_repository_named(lab: CopiesLab) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub isn't installed")
    cache = lab.tree / "hub"
    blob = cached(cache, "acme/atlas-finetune", safetensors(OURS))
    cached(cache, "others/model", safetensors(THEIRS))
    # The layout is the library's own: it reads it without a complaint.
    known = hub.scan_cache_dir(cache)
    assert {one.repo_id for one in known.repos} == {"acme/atlas-finetune", "others/model"}
    assert not known.warnings
    (found,) = lab.scan(lab.tree, code=1)["findings"]
    # The snapshot's name is a link to the blob, and links aren't followed: the bytes are told of once.
    assert found["path"] == str(blob)
    assert (found["model"], found["layout"]) == ("atlas", "Hugging Face cache of acme/atlas-finetune")


@pytest.mark.parametrize(
    ("place", "layout"),
    [
        (f"mlruns/0/{RUN}/artifacts/model/data/model.safetensors", f"MLflow run {RUN}"),
        (f"mlruns/0/models/m-{RUN}/artifacts/data/model.safetensors", f"MLflow model m-{RUN}"),
        ("mlruns/0/artifacts/model.safetensors", ""),
    ],
)
def test_a_copy_that_mlflow_keeps_is_found_and_its_run_named(lab: CopiesLab, place: str, layout: str) -> None:
    path = lab.tree / place
    path.parent.mkdir(parents=True)
    path.write_bytes(safetensors(OURS))
    (found,) = lab.scan(lab.tree, code=1)["findings"]
    assert (found["path"], found["layout"]) == (str(path), layout)


# --- a bucket ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, list[str]]]:
    """Start a store that takes signed requests alone; returns a client, and the ranges that are asked for."""
    boto3: Any = pytest.importorskip("boto3", reason="the extra `aws` isn't installed")
    s3fs: Any = pytest.importorskip("s3fs", reason="the extra `s3` isn't installed")
    pytest.importorskip("moto.moto_server.werkzeug_app", reason="moto and flask aren't installed")
    from simulators.strict_s3 import StrictS3  # noqa: PLC0415 - needs moto

    ranges: list[str] = []

    class SignedS3(StrictS3):
        def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            signed = environ.get("HTTP_AUTHORIZATION", "")
            if not signed.startswith("AWS4-HMAC-SHA256 Credential=searcher/"):
                start("403 Forbidden", [("Content-Length", "0")])
                return [b""]
            if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(".bin"):
                ranges.append(environ.get("HTTP_RANGE", "whole"))
            return super()._serve(environ, start)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with SignedS3() as server:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "searcher",
            "AWS_SECRET_ACCESS_KEY": "not-to-be-shown",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": server.address,
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        # What one process connected to, it goes on with; a search is a process of its own.
        s3fs.S3FileSystem.clear_instance_cache()
        # A session of its own: the shared one keeps whatever credentials it met first.
        client = boto3.session.Session().client("s3")
        client.create_bucket(Bucket="research")
        yield client, ranges
        for account in _backends().values():
            for backend in account.values():
                backend.reset()


def _backends() -> Any:
    from moto.s3.models import s3_backends  # noqa: PLC0415 - an extra

    return s3_backends


def test_a_bucket_is_searched_over_s3s_own_protocol_page_by_page_and_range_by_range(
    lab: CopiesLab, bucket: tuple[Any, list[str]]
) -> None:
    client, ranges = bucket
    large = safetensors(OURS) + bytes(30 << 20)
    # Not the first page of a listing: S3 gives 1,000 names at once.
    (backend,) = (one for account in _backends().values() for one in account.values() if "research" in one.buckets)
    for number in range(1005):
        backend.put_object("research", f"checkpoints/a/{number:04}.txt", b"x")
    client.put_object(Bucket="research", Key="checkpoints/z/stray.bin", Body=safetensors(OURS))
    client.put_object(Bucket="research", Key="checkpoints/z/theirs.bin", Body=large[::-1])
    client.put_object(Bucket="research", Key="elsewhere/stray.bin", Body=safetensors(OURS))
    told = lab.scan("s3://research/checkpoints", code=1)
    assert [one["path"] for one in told["findings"]] == ["s3://research/checkpoints/z/stray.bin"]
    assert told["files"] == 1007
    assert told["unread_files"] == 0
    assert ranges
    assert "whole" not in ranges
    asked = [[int(end) for end in one.removeprefix("bytes=").split("-")] for one in ranges]
    assert sum(end - begin + 1 for begin, end in asked) < len(large) // 2


def test_a_registered_object_is_quiet_and_one_that_cant_be_read_is_named(
    lab: CopiesLab, bucket: tuple[Any, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ranges = bucket
    (lab.tree / "a").mkdir()
    (lab.tree / "a" / "model.bin").write_bytes(safetensors(OURS))
    client.put_object(Bucket="research", Key="a/model.bin", Body=safetensors(OURS))
    lab.add("s3://research/a", "--like", lab.tree / "a")
    (found,) = lab.scan("s3://research", code=1)["findings"]
    assert found["registered"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    refused = lab.run(
        *("scan", "s3://research", "--register", lab.register, "--registrar", lab.registrar),
        *("--identity", lab.identity),
    )
    assert refused.exit_code not in {0, 1}
    assert "not-to-be-shown" not in refused.output
