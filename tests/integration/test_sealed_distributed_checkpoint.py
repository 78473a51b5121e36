"""torch.distributed.checkpoint over sealed models: many ranks, one model; whole or not there; no pickle unread."""

from __future__ import annotations

import io
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.loaders import Checking, open_sealed, seal_to
from strongroom.loaders.dcp import CheckpointMetadataError, IncompleteCheckpointError, SealedReader, SealedWriter
from strongroom.sealing.adapters.local_store import local_store
from strongroom.sealing.errors import (
    CiphertextMismatchError,
    DestinationBusyError,
    DestinationExistsError,
    IncompleteSealError,
    MissingObjectError,
    OtherManifestError,
    SegmentTamperedError,
    TooManyFilesError,
)
from strongroom.sealing.header import HEADER_LENGTH, SealedHeader
from strongroom.sealing.seal import ObjectSealer, Stream
from support.checkpoint_ranks import BIAS, SECRET_NAME, WEIGHTS, is_whole, start, state
from support.sealed_access import access, publishing

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning"),
]


def saved(root: Path, name: str = "saved.sealed", **options: Any) -> Path:
    dcp.save(state(filled=True), storage_writer=SealedWriter(root / name, publishing(root), **options), no_dist=True)
    return root / name


def loaded(place: Path, root: Path, **changes: Any) -> dict[str, Any]:
    target = state(filled=False)
    dcp.load(target, storage_reader=SealedReader(place, access=access(root, **changes)), no_dist=True)
    return target


def cause(place: Path, root: Path, **changes: Any) -> BaseException:
    """Return what kept a checkpoint from being loaded."""
    with pytest.raises(CheckpointException) as refused:
        loaded(place, root, **changes)
    found: BaseException = refused.value.failures[0][0]
    return found


def rewritten_by_a_peer(place: Path, root: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Seal other bytes of the same length in a file's place, as whoever has the data key can: every tag is good."""
    entry = access(root)
    with open_sealed(place, access=entry) as model:
        plain, object_id, manifest = model.read(name), model.file(name).object_id, model.manifest
    path = place / "objects" / f"{object_id.hex()}.sealed"
    old = path.read_bytes()
    header = SealedHeader.parse(old[:HEADER_LENGTH], object_name=name)
    new = bytearray(len(old))

    def put(offset: int, data: memoryview) -> None:
        new[offset : offset + len(data)] = data

    changed = change(plain)
    with local_store(place) as store, entry.keys.data_key(manifest, store) as data_key:
        stream = Stream.resumed(header, data_key, ())
        with ObjectSealer(put, stream, random_bytes=os.urandom) as sealer:
            sealer.write(changed.ljust(len(plain), b"\0"))
            sealer.finish()
    path.write_bytes(new)


class Touches:
    """A pickle that makes a file when it is opened."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._mark,))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("ranks")
    access(root)
    return root, start("several", root, 2)


def test_what_two_ranks_saved_is_loaded_by_any_number(several: tuple[Path, list[dict[str, Any]]]) -> None:
    root, ranks = several
    assert [rank["writer"] for rank in ranks] == [True, False]
    # Both ranks, with other placements than it was saved with.
    assert all(rank["S(1)"] and rank["R"] for rank in ranks)
    assert is_whole(loaded(root / "saved.sealed", root))
    assert is_whole(loaded(root / "saved.sealed", root, checking=Checking.WHOLE))


def test_one_rank_loads_it(several: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ranks = several
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        target = state(filled=False)
        dcp.load(target, storage_reader=SealedReader(root / "saved.sealed", access=access(root)))
    finally:
        dist.destroy_process_group()
    assert is_whole(target)


def test_async_save_seals_too(several: tuple[Path, list[dict[str, Any]]]) -> None:
    root, _ranks = several
    assert is_whole(loaded(root / "async.sealed", root))


def test_a_checkpoint_is_not_replaced_unasked(several: tuple[Path, list[dict[str, Any]]]) -> None:
    _root, ranks = several
    assert {rank["again"] for rank in ranks} == {"CheckpointException DestinationExistsError"}


def test_a_failing_rank_publishes_nothing_and_can_try_again(several: tuple[Path, list[dict[str, Any]]]) -> None:
    root, ranks = several
    for rank in ranks:
        assert rank["failed"] == "CheckpointException StorageError"
        # Nothing under the checkpoint's own name; what was built is the coordinator's to clear.
        assert "failed.sealed" not in rank["left"]
        assert rank["retried"]
    assert is_whole(loaded(root / "failed.sealed", root))


def test_a_killed_rank_publishes_nothing(several: tuple[Path, list[dict[str, Any]]]) -> None:
    root, ranks = several
    assert "killed" in ranks[0]
    assert ranks[0]["killed"] != "nothing"
    assert "killed" not in ranks[1]
    assert [path.name for path in root.iterdir() if "killed" in path.name] == []


def test_kept_plans_are_refused(several: tuple[Path, list[dict[str, Any]]]) -> None:
    root, ranks = several
    assert all(rank["caching"].startswith("CheckpointException UsageError") for rank in ranks)
    assert not (root / "caching.sealed").exists()


def test_names_shapes_and_values_do_not_show(several: tuple[Path, list[dict[str, Any]]]) -> None:
    root, _ranks = several
    files = [path for path in (root / "saved.sealed").rglob("*") if path.is_file()]
    # Two ranks: tensors of each, whatever else rank 0 has, metadata, index, manifest, recipients.
    assert len(files) >= 6
    everything = b"".join(path.read_bytes() for path in files) + "".join(map(str, files)).encode()
    for hidden in (
        SECRET_NAME.encode(),
        b"distcp",
        b"adam",
        WEIGHTS[500].numpy().tobytes()[:64],
        BIAS.numpy().tobytes(),
    ):
        assert hidden not in everything


def test_the_data_key_is_in_no_plan(tmp_path: Path) -> None:
    seen: list[tuple[bytes, bytes]] = []

    class Watched(SealedWriter):
        def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
            made = super().prepare_global_plan(plans)
            seen.append((bytes(self._running().data_key.reveal(TOKEN)), pickle.dumps((plans, made))))
            return made

    dcp.save(state(filled=True), storage_writer=Watched(tmp_path / "a.sealed", publishing(tmp_path)), no_dist=True)
    ((key, plans),) = seen
    assert len(key) == 32
    assert key not in plans
    assert key.hex().encode() not in plans


@pytest.fixture
def a_thread_fails() -> Iterator[dcp.DefaultSavePlanner]:
    failed = threading.Event()

    class OneThreadFails(dcp.DefaultSavePlanner):  # type: ignore[misc]  # torch has no types for this
        def resolve_data(self, write_item: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                failed.set()
                raise OSError("a disk is full, and DCP drops this error")
            assert failed.wait(60)
            return super().resolve_data(write_item)

    yield OneThreadFails()
    assert failed.is_set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_fails_unheard_leaves_no_checkpoint(
    tmp_path: Path, a_thread_fails: dcp.DefaultSavePlanner
) -> None:
    writer = SealedWriter(tmp_path / "a.sealed", publishing(tmp_path), thread_count=3)
    with pytest.raises(CheckpointException) as refused:
        dcp.save(state(filled=True), storage_writer=writer, planner=a_thread_fails, no_dist=True)
    assert isinstance(refused.value.failures[0][0], IncompleteCheckpointError)
    assert not (tmp_path / "a.sealed").exists()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["recipient.identity"]


def test_an_unfinished_checkpoint_does_not_open(tmp_path: Path) -> None:
    class Stops(SealedWriter):
        def finish(self, metadata: Any, results: Any) -> None:  # noqa: ARG002 - DCP's names
            os.rename(tmp_path / ".a.sealed.partial", tmp_path / "copied.sealed")  # noqa: PTH104 - as an attacker would
            raise KeyboardInterrupt

    with pytest.raises(CheckpointException):
        dcp.save(state(filled=True), storage_writer=Stops(tmp_path / "a.sealed", publishing(tmp_path)), no_dist=True)
    with pytest.raises(IncompleteSealError):
        open_sealed(tmp_path / "copied.sealed", access=access(tmp_path))


def test_every_file_on_its_own_can_be_asked_for(tmp_path: Path) -> None:
    place = saved(tmp_path, single_file_per_rank=False)
    with open_sealed(place, access=access(tmp_path)) as model:
        assert len(model.files()) == 2 + 3 + 1
    assert is_whole(loaded(place, tmp_path))


def test_a_new_checkpoint_takes_an_old_ones_place_only_when_asked(tmp_path: Path) -> None:
    place = saved(tmp_path)
    with pytest.raises(CheckpointException) as refused:
        saved(tmp_path)
    assert isinstance(refused.value.failures[0][0], DestinationExistsError)
    saved(tmp_path, replace=True)
    assert is_whole(loaded(place, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipient.identity", "saved.sealed"]


def test_a_tampered_shard_is_refused(tmp_path: Path) -> None:
    place = saved(tmp_path)
    largest = max((place / "objects").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[HEADER_LENGTH + 5000] ^= 1
    largest.write_bytes(data)
    assert isinstance(cause(place, tmp_path), SegmentTamperedError)


def test_metadata_forged_by_another_holder_of_the_key_is_not_unpickled(tmp_path: Path) -> None:
    place, mark = saved(tmp_path), tmp_path / "executed"
    rewritten_by_a_peer(place, tmp_path, ".metadata", lambda _plain: pickle.dumps(Touches(mark)))
    with pytest.raises(CiphertextMismatchError):
        SealedReader(place, access=access(tmp_path)).read_metadata()
    assert "not what the publisher signed" in str(cause(place, tmp_path))
    assert not mark.exists()


def test_other_pickles_forged_by_another_holder_of_the_key_are_not_unpickled(tmp_path: Path) -> None:
    place, mark = saved(tmp_path), tmp_path / "executed"
    text = io.BytesIO()
    torch.save(Touches(mark), text)
    rewritten_by_a_peer(place, tmp_path, "__0_0.distcp", lambda _plain: text.getvalue())
    # Whatever the access asks for tensors.
    assert isinstance(cause(place, tmp_path), CiphertextMismatchError)
    assert not mark.exists()


@pytest.mark.parametrize(
    "made",
    [
        lambda mark: pickle.dumps(Touches(mark)),
        lambda mark: pickle.dumps(Metadata({}, planner_data=Touches(mark))),
        lambda mark: pickle.dumps(Metadata({}, storage_data={"x": Touches(mark)}), protocol=0),
        lambda _mark: pickle.dumps({"state_dict_metadata": {}}),
        lambda _mark: pickle.dumps(Metadata({}))[:-1],
        lambda _mark: b"ctorch\nload\n.",
        lambda _mark: b"\x80\x04\x8c\x05torch\x8c\x0enn.Module.half\x93.",
        lambda _mark: b"ctorch.serialization\nload\n.",
        lambda _mark: b"",
    ],
)
def test_published_metadata_that_is_more_than_metadata_is_refused(
    tmp_path: Path, made: Callable[[Path], bytes]
) -> None:
    mark = tmp_path / "executed"
    with seal_to(tmp_path / "a.sealed", publishing(tmp_path)) as output:
        output.write(".metadata", made(mark))
    with pytest.raises(CheckpointMetadataError):
        SealedReader(tmp_path / "a.sealed", access=access(tmp_path)).read_metadata()
    assert not mark.exists()


def test_a_reader_stays_with_the_checkpoint_that_it_planned_for(tmp_path: Path) -> None:
    place = saved(tmp_path)

    class Slow(SealedReader):
        def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
            self.close()
            saved(tmp_path, replace=True)
            return list(plans)

    with pytest.raises(CheckpointException) as refused:
        dcp.load(state(filled=False), storage_reader=Slow(place, access=access(tmp_path)), no_dist=True)
    assert "took this one's place" in str(refused.value)


def test_ranks_do_not_mix_two_checkpoints(tmp_path: Path) -> None:
    plans = []
    for number in (1, 2):
        reader = SealedReader(saved(tmp_path, f"{number}.sealed"), access=access(tmp_path))
        reader.read_metadata()
        plans.append(reader.prepare_local_plan(dcp.LoadPlan([])))
    assert reader.prepare_global_plan(plans[:1]) == plans[:1]
    with pytest.raises(OtherManifestError):
        reader.prepare_global_plan(plans)


def test_what_another_job_put_into_the_folder_is_not_published(tmp_path: Path) -> None:
    class Disturbed(SealedWriter):
        def finish(self, metadata: Any, results: Any) -> None:
            (tmp_path / ".a.sealed.partial" / "objects" / f"{'0' * 32}.sealed").write_bytes(b"late")
            super().finish(metadata, results)

    with pytest.raises(CheckpointException) as refused:
        dcp.save(
            state(filled=True), storage_writer=Disturbed(tmp_path / "a.sealed", publishing(tmp_path)), no_dist=True
        )
    assert isinstance(refused.value.failures[0][0], DestinationBusyError)
    assert [path.name for path in tmp_path.iterdir()] == ["recipient.identity"]


def test_an_object_that_the_coordinator_does_not_see_is_not_published(tmp_path: Path) -> None:
    class Elsewhere(SealedWriter):
        def finish(self, metadata: Any, results: Any) -> None:
            next((tmp_path / ".a.sealed.partial" / "objects").iterdir()).unlink()
            super().finish(metadata, results)

    with pytest.raises(CheckpointException) as refused:
        dcp.save(
            state(filled=True), storage_writer=Elsewhere(tmp_path / "a.sealed", publishing(tmp_path)), no_dist=True
        )
    assert isinstance(refused.value.failures[0][0], MissingObjectError)
    assert [path.name for path in tmp_path.iterdir()] == ["recipient.identity"]


def test_too_many_files_are_refused_before_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.loaders.dcp.MAX_OBJECTS", 2)
    with pytest.raises(CheckpointException) as refused:
        saved(tmp_path)
    assert isinstance(refused.value.failures[0][0], TooManyFilesError)
    assert not (tmp_path / "saved.sealed").exists()


def test_what_cannot_be_published_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointException) as refused:
        dcp.save(state(filled=True), storage_writer=SealedWriter(tmp_path / "a.sealed"), no_dist=True)
    assert isinstance(refused.value.failures[0][0], UsageError)
    nobody = publishing(tmp_path, recipients=[])
    with pytest.raises(CheckpointException):
        dcp.save(state(filled=True), storage_writer=SealedWriter(tmp_path / "a.sealed", nobody), no_dist=True)
    with pytest.raises(UsageError):
        SealedWriter("s3://bucket/a.sealed", publishing(tmp_path))
    with pytest.raises(StrongroomError):
        dcp.save(
            state(filled=True),
            storage_writer=SealedWriter(tmp_path / "a.sealed", publishing(tmp_path)),
            no_dist=True,
            use_collectives=False,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["recipient.identity"]


def test_a_signing_key_is_never_pickled(tmp_path: Path) -> None:
    for unfit in (publishing(tmp_path), None, lambda: publishing(tmp_path)):
        with pytest.raises(UsageError):
            pickle.dumps(SealedWriter(tmp_path / "a.sealed", unfit))
    # What DCP hands to its process is the function's name.
    assert b"by_name" in pickle.dumps(SealedWriter(tmp_path / "a.sealed", by_name))


def by_name() -> Any:
    raise NotImplementedError


@pytest.mark.heavy
def test_async_save_in_a_process_of_its_own_takes_a_function_and_no_key(tmp_path: Path) -> None:
    access(tmp_path)
    ranks = start("process", tmp_path, 2)
    assert {rank["key"] for rank in ranks} == {"UsageError"}
    assert is_whole(loaded(tmp_path / "function.sealed", tmp_path))
    assert not (tmp_path / "key.sealed").exists()
