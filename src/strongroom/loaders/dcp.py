"""torch.distributed.checkpoint over sealed models: several ranks write one model, any number of ranks read it.

    dcp.save(state, storage_writer=SealedWriter("run/step-100.sealed", publishing))
    dcp.load(state, storage_reader=SealedReader("run/step-100.sealed"))

The coordinator makes the data key, and a folder beside the destination where every rank puts its own objects. Names,
sizes and digests of what a rank sealed go back to the coordinator with the results of its writes. When all have
answered, it seals ``.metadata`` and the index, signs the manifest, and gives the folder its name. Until then there is
no manifest, so that nothing that is unfinished opens; after a failure on any rank there never is one.

How the data key reaches the ranks: each makes an ephemeral recipient key, whose public half goes to the coordinator
with the rank's plan; the data key comes back with the plan that the coordinator hands out, encrypted to that rank.
Plans are pickled, sent through the process group, kept by planners and logged, so that a key in clear has no place in
them. A key that the launcher gave to all ranks would have to lie in a file, an argument or the environment before that.
Who can change the process group's messages isn't stopped by this, nor by anything: its pickles run as code on each
rank. Who only reads them learns no key. Each rank could read the others' objects: ranks of one job trust each other.

Needs a file system that all ranks share. Pickles are opened only after the publisher's signed digest over the whole
file was checked: ``.metadata`` by an unpickler that knows DCP's own classes alone, and objects that aren't tensors,
which DCP's planner opens itself, from files that hold nothing else. Tensors are read by ranges.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import UsageError
from strongroom.core.extras import need
from strongroom.core.secret import SecretBytes
from strongroom.keys.recipient import RecipientKey, encrypt_to
from strongroom.loaders.access import Access
from strongroom.loaders.checkpoint_files import (
    Hello,
    IncompleteCheckpointError,
    OpenedFiles,
    Order,
    Save,
    SealingFiles,
    View,
    Written,
    check_alone,
    check_there,
)
from strongroom.loaders.checkpoint_metadata import CheckpointMetadataError, unpickled
from strongroom.loaders.saving import Publishing
from strongroom.release.stanzas import stanzas_for
from strongroom.sealing.adapters.engine import local_engine
from strongroom.sealing.adapters.files import folder, storage
from strongroom.sealing.adapters.publish import LocalTarget, partial_of
from strongroom.sealing.errors import OtherManifestError, TooManyFilesError
from strongroom.sealing.manifest import MAX_OBJECTS
from strongroom.sealing.write import FILE_MODE, ModelWriter, SealedDirectory, VersionFacts

__all__ = ["CheckpointMetadataError", "IncompleteCheckpointError", "SealedReader", "SealedWriter"]

_dcp: Any = need("torch.distributed.checkpoint.filesystem", extra="torch")
_metadata: Any = need("torch.distributed.checkpoint.metadata", extra="torch")
_planner: Any = need("torch.distributed.checkpoint.planner", extra="torch")
_torch: Any = need("torch", extra="torch")

_CONTEXT: Final = b"strongroom checkpoint data key v1\0"
_METADATA: Final = ".metadata"


class SealedWriter(_dcp.FileSystemWriter):  # type: ignore[misc]  # torch has no types for this
    """A storage writer that seals: for ``dcp.save`` and ``dcp.async_save``, on each rank with the same ``place``.

    ``publishing`` is needed on the coordinator only; other ranks may pass None, and then hold no signing key. It may be
    a function that returns it, asked once for each save: the next version, for example. For ``async_save`` in a process
    of its own, all ranks must give one that can be imported by its name; a signing key is never pickled.

    One save at a time: a new one gives up another that still runs. What a failed one left is removed with the next,
    with :meth:`close`, or when this object goes.

    :raises UsageError: a place that isn't a path.
    """

    def __init__(
        self,
        place: str | os.PathLike[str],
        publishing: Publishing | Callable[[], Publishing] | None = None,
        *,
        replace: bool = False,
        single_file_per_rank: bool = True,
        thread_count: int = 1,
        cache_staged_state_dict: bool = False,
    ) -> None:
        super().__init__(
            _checked(place),
            single_file_per_rank=single_file_per_rank,
            # Each object is made durable when it is finished.
            sync_files=False,
            thread_count=thread_count,
            cache_staged_state_dict=cache_staged_state_dict,
            overwrite=replace,
        )
        self.fs = SealingFiles()
        self.path = self.fs.init_path(place)
        self.made: SealedDirectory | None = None
        """Manifest and envelope of the last save; on the coordinator."""
        self._publishing = publishing
        self._recipient: RecipientKey | None = None
        self._coordinates = False
        self._save: Save | None = None
        self._ending: weakref.finalize[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # All ranks alike, or those that could would wait for the one that couldn't.
        if "<" in getattr(self._publishing, "__qualname__", "<none>"):
            raise UsageError(
                "a signing key isn't handed to another process",
                remedy="use AsyncCheckpointerType.THREAD, or pass on all ranks a function of a module that returns the "
                "Publishing there",
                reason="checkpoint-in-process",
            )
        return self.__dict__ | {"_save": None, "_ending": None, "_recipient": None}

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin anew, for a new place if one is given; gives up a save that isn't finished."""
        self.close()
        super().reset(_checked(checkpoint_id) if checkpoint_id else None)

    def close(self) -> None:
        """Give up a save that isn't finished: wipe its key and remove what it wrote."""
        self._recipient = None
        if self._ending is not None:
            self._ending()
        self._save = self._ending = None

    def set_up_storage_writer(self, is_coordinator: bool, *_args: Any, **kwargs: Any) -> None:  # noqa: FBT001 - DCP's signature
        """Take this rank's role.

        :raises UsageError: ``use_collectives=False``: nobody would know when all have written.
        """
        if not kwargs.get("use_collectives", True):
            raise UsageError("a sealed checkpoint is published by one rank, so it needs `use_collectives=True`")
        # DCP tells nobody that a save failed on another rank: that one is given up here.
        self.close()
        super().set_up_storage_writer(is_coordinator, **kwargs)
        self._coordinates = is_coordinator

    def prepare_local_plan(self, plan: Any) -> Any:
        """Ask for the data key with this rank's plan; the coordinator begins the building folder.

        :raises StrongroomError: the place is taken, or can't be written.
        """
        if not plan.usable:
            raise _caching()
        if self._coordinates:
            self._begin()
        self._recipient = RecipientKey()
        return dataclasses.replace(plan, storage_data=Hello(self._recipient.public))

    def _begin(self) -> None:
        publishing = self._publishing() if callable(self._publishing) else self._publishing
        if publishing is None:
            raise UsageError("this rank coordinates the checkpoint, so it needs a `publishing`")
        self._save = Save(_absolute(self.path), publishing, replace=self.overwrite)
        self._ending = weakref.finalize(self, self._save.close)

    def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
        """Hand out the data key, to each rank encrypted to it.

        :raises TooManyFilesError: more files than a manifest holds.
        :raises UsageError: the planner lost what the ranks sent.
        """
        save = self._running()
        count = 1 + sum(len(self._files(plan.items)) for plan in plans)
        if count > MAX_OBJECTS:
            raise TooManyFilesError(
                f"{count} files; one sealed checkpoint holds at most {MAX_OBJECTS}",
                remedy="write with `single_file_per_rank=True` and fewer threads",
            )
        save.planned = [{item.index for item in plan.items} for plan in plans]
        return [self._order(save, number, plan) for number, plan in enumerate(plans)]

    def _order(self, save: Save, number: int, plan: Any) -> Any:
        hello = plan.storage_data
        if not isinstance(hello, Hello):
            raise _caching()
        delivery = encrypt_to(hello.public, save.data_key, _context(save.facts))
        return dataclasses.replace(plan, storage_data=Order(f"__{number}_", save.facts, delivery))

    def _files(self, items: Sequence[Any]) -> list[list[Any]]:
        """Share items out to files: those that are pickles apart, so that they can be checked whole at little cost."""
        if not self.single_file_per_rank:
            return [[item] for item in items]
        pickles = [item for item in items if item.type == _planner.WriteItemType.BYTE_IO]
        tensors = [item for item in items if item.type != _planner.WriteItemType.BYTE_IO]
        spread = _dcp._split_by_size_and_type(self.thread_count, tensors)  # noqa: SLF001 - else it would be copied here
        return [bucket for bucket in (pickles, *spread) if bucket]

    def write_data(self, plan: Any, planner: Any) -> Any:
        """Seal this rank's items.

        :raises IncompleteCheckpointError: not all of them were written.
        :raises StrongroomError: the key didn't come, or the storage refused.
        """
        order, recipient, self._recipient = plan.storage_data, self._recipient, None
        try:
            if not isinstance(order, Order) or recipient is None or getattr(planner, "_enable_plan_caching", False):
                raise _caching()
            with recipient.open(order.delivery, _context(order.facts)) as data_key:
                results = self._sealed(plan, planner, order, data_key)
            # A thread of DCP's that failed leaves nothing but fewer results.
            if {one.index for one in results} != {item.index for item in plan.items}:
                raise IncompleteCheckpointError("not all that this rank planned was written", remedy="look at its log")
        except BaseException:
            self.close()
            raise
        done: Any = _torch.futures.Future()
        done.set_result(Written(results, self.fs.taken()))
        return done

    def _sealed(self, plan: Any, planner: Any, order: Order, data_key: SecretBytes) -> list[Any]:
        place = _absolute(self.path)
        work: queue.Queue[Any] = queue.Queue()
        for number, items in enumerate(self._files(plan.items)):
            name = f"{order.prefix}{number}{_dcp.DEFAULT_SUFFIX}"
            work.put((self.fs.concat_path(self.path, name), name, items))
        with ExitStack() as held:
            with storage("opening the folder that the coordinator made (all ranks must share it)", place):
                fd = held.enter_context(folder(partial_of(place)))
            held.enter_context(self.fs.sealing_to(LocalTarget(place, fd, replace=False), order.facts, data_key))
            found: list[Any] = self._write_data(planner, work).value()
        return found

    def finish(self, metadata: Any, results: list[Any]) -> None:
        """Seal ``.metadata`` and publish, on the coordinator, when all ranks have written.

        :raises IncompleteCheckpointError: something that was planned isn't there.
        :raises StrongroomError: what the storage refused.
        """
        save = self._running()
        try:
            with save.turn:
                self.made = self._publish(save, metadata, results)
                save.done = True
        finally:
            self.close()

    def _publish(self, save: Save, metadata: Any, results: list[Written]) -> SealedDirectory:
        written = [{one.index for one in rank.results} for rank in results]
        if written != save.planned:
            raise IncompleteCheckpointError("not all that was planned was written", remedy="save again")
        with self.fs.sealing_to(save.target, save.facts, save.data_key):
            super().finish(metadata, [rank.results for rank in results])
        parts = [part for rank in results for part in rank.parts] + self.fs.taken()
        with local_engine() as engine:
            writer = ModelWriter(
                save.target, save.facts, data_key=save.data_key, random_bytes=os.urandom, engine=engine
            )
            for part in parts:
                check_there(save.target, writer, part)
                writer.add(part.name, FILE_MODE, part.sealed, part.plain_size)
            check_alone(save.target, parts)
            return writer.finish(
                save.publishing.signer,
                canaries=save.publishing.canaries,
                stanzas=stanzas_for(save.publishing.recipients, save.facts, save.data_key),
            )

    def _running(self) -> Save:
        if self._save is None:
            raise UsageError("no save is running on this rank: it was given up")
        return self._save

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Tell whether this is a path."""
        return "://" not in os.fspath(checkpoint_id)


class SealedReader(_dcp.FileSystemReader):  # type: ignore[misc]  # torch has no types for this
    """A storage reader of sealed checkpoints, for ``dcp.load`` on any number of ranks, or without a process group.

    ``place`` may be an address (fsspec). Without ``access``, the keyring in force says how to open it. What DCP calls
    ``CheckpointException`` has this module's errors in ``failures``; what keeps ``.metadata`` from being read, DCP
    turns into an AssertionError with our message.
    """

    def __init__(self, place: str | os.PathLike[str], *, access: Access | None = None) -> None:
        super().__init__(os.fspath(place))
        self.fs = OpenedFiles(access)
        self.path = self.fs.init_path(place)
        self._manifest: Any = None
        weakref.finalize(self, self.fs.close)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin anew, with another checkpoint if one is given."""
        self.close()
        self._manifest = None
        super().reset(checkpoint_id)

    def close(self) -> None:
        """Let go of the storage, and wipe the data key. Reading again opens it again."""
        self.fs.close()

    def read_metadata(self) -> Any:
        """Open the checkpoint and return its metadata, authenticated whole before it is unpickled.

        :raises CheckpointMetadataError: it isn't DCP's.
        :raises StrongroomError: as :func:`~strongroom.loaders.open_sealed`.
        """
        # Without the parameters of the class above: DCP would look for another metadata file after a refusal.
        self.close()
        model = self.fs.open(self.path)
        self._manifest = model.manifest
        metadata = unpickled(model.read(_METADATA))
        if metadata.storage_meta is None:
            metadata.storage_meta = _metadata.StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata

    def prepare_local_plan(self, plan: Any) -> Any:
        """Say with this rank's plan which checkpoint it is for."""
        return dataclasses.replace(plan, storage_data=str(self._manifest.digest) if self._manifest else None)

    def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
        """Refuse to put a state together from two checkpoints.

        :raises OtherManifestError: the ranks see different ones at the place.
        """
        if len({plan.storage_data for plan in plans}) > 1:
            raise OtherManifestError("the ranks found different checkpoints there", remedy="load again")
        return plans

    def read_data(self, plan: Any, planner: Any) -> Any:
        """Read what the plan asks for.

        :raises OtherManifestError: another checkpoint took this one's place meanwhile.
        :raises StrongroomError: it isn't what was sealed.
        """
        model = self.fs.open(self.path)
        try:
            if self._manifest is not None and not model.manifest.digest.matches(self._manifest.digest):
                raise OtherManifestError("another checkpoint took this one's place while it was read")
            pickles = [item for item in plan.items if item.type == _planner.LoadItemType.BYTE_IO]
            tensors = [item for item in plan.items if item.type != _planner.LoadItemType.BYTE_IO]
            # The planner unpickles these with all that pickle can do: the publisher must have signed each byte.
            self.fs.whole = True
            super().read_data(dataclasses.replace(plan, items=pickles), planner)
            self.fs.whole = False
            return super().read_data(dataclasses.replace(plan, items=tensors), planner)
        finally:
            self.fs.whole = False
            self.close()

    def _slice_file(self, file: Callable[[int, int], memoryview], sinfo: Any) -> View:
        return View(file(sinfo.offset, sinfo.length))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:  # noqa: ARG003 - DCP's signature
        """Accept every place: opening tells."""
        return True


def _context(facts: VersionFacts) -> bytes:
    return _CONTEXT + f"{facts.genesis}\0{facts.model}\0{facts.version}".encode()


def _checked(place: str | os.PathLike[str]) -> str | os.PathLike[str]:
    if "://" in os.fspath(place):
        raise UsageError(
            "ranks seal a checkpoint on a file system that they share, and not in an object store",
            remedy="save to a path, and copy the sealed checkpoint afterwards: its objects as they are, manifest last",
        )
    return place


def _absolute(place: str) -> Path:
    return Path(os.path.abspath(place))  # noqa: PTH100 - no links followed


def _caching() -> UsageError:
    return UsageError(
        "the planner keeps plans from one save to the next, and with them the key of an earlier one",
        remedy="use a planner without plan caching, and one that leaves `storage_data` alone",
        reason="checkpoint-plan-caching",
    )
