"""One rank of a job that saves and loads sealed checkpoints: ``checkpoint_ranks.py RANK WORLD ROOT JOB``.

Writes what it saw to ``ROOT/JOB.RANK.json``. Everything that needs a process group is tried in one job, since starting
one takes seconds; the last thing that :func:`several` does is to kill a rank while it writes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from strongroom.loaders.dcp import SealedReader, SealedWriter
from strongroom.loaders.saving import Publishing
from support.sealed_access import access, publishing

SECRET_NAME = "layer.with.a.secret.name"
WEIGHTS = torch.arange(1000 * 600, dtype=torch.float32).reshape(1000, 600)
BIAS = torch.arange(7.0)
ROOT = "CHECKPOINT_ROOT"


def start(job: str, root: Path, world: int) -> list[dict[str, Any]]:
    """Run a job and return what each rank saw; ``{}`` for a rank that was killed."""
    settings = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        ROOT: str(root),
    }
    command = [sys.executable, "-W", "ignore", __file__]
    ranks = [
        subprocess.Popen([*command, str(rank), str(world), str(root), job], env=os.environ | settings)
        for rank in range(world)
    ]
    try:
        for rank in ranks:
            rank.wait(timeout=120)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    found = [root / f"{job}.{rank}.json" for rank in range(world)]
    return [json.loads(path.read_text()) if path.exists() else {} for path in found]


def state(placement: Any = None, mesh: Any = None, *, filled: bool) -> dict[str, Any]:
    """Return a state of tensors and other things: the trained one, or one to load into."""
    weights, bias = (WEIGHTS.clone(), BIAS.clone()) if filled else (torch.zeros_like(WEIGHTS), torch.zeros_like(BIAS))
    return {
        SECRET_NAME: weights if placement is None else distribute_tensor(weights, mesh, [placement]),
        "bias": bias,
        "step": 7 if filled else 0,
        "optimizer": {"lr": 0.1 if filled else 0.0, "name": "adam" if filled else ""},
    }


def is_whole(loaded: dict[str, Any]) -> bool:
    """Tell whether a state is the trained one."""
    weights = loaded[SECRET_NAME]
    full = weights.full_tensor() if hasattr(weights, "full_tensor") else weights
    return bool(
        torch.equal(full, WEIGHTS)
        and torch.equal(loaded["bias"], BIAS)
        and loaded["step"] == 7
        and loaded["optimizer"] == {"lr": 0.1, "name": "adam"}
    )


def here() -> Publishing:
    """Return how to publish, in whatever process asks: the function that a writer may be given."""
    return publishing(Path(os.environ[ROOT]))


class FailingPlanner(dcp.DefaultSavePlanner):  # type: ignore[misc]  # torch has no types for this
    """Fails, or dies, on one rank when it has written something."""

    def __init__(self, *, dies: bool) -> None:
        super().__init__()
        self._dies, self._asked = dies, 0

    def resolve_data(self, write_item: Any) -> Any:
        self._asked += 1
        if dist.get_rank() == 1:
            if self._dies:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the disk of rank 1 is full")
        return super().resolve_data(write_item)


def failure(save: Any) -> str:
    """Return the class of what a save raised, and of the causes on the ranks."""
    try:
        save()
    except BaseException as error:  # noqa: BLE001 - DCP's and gloo's own too
        causes = getattr(error, "failures", {})
        return " ".join([type(error).__name__, *(type(cause[0]).__name__ for cause in causes.values())])
    return "nothing"


def several(rank: int, root: Path) -> dict[str, Any]:
    """Save on all ranks in every way, load with other placements, and fail."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    mine = publishing(root) if rank == 0 else None
    seen: dict[str, Any] = {}
    trained = state(Shard(0), mesh, filled=True)

    writer = SealedWriter(root / "saved.sealed", mine, thread_count=2)
    dcp.save(trained, storage_writer=writer)
    seen["writer"] = writer.made is not None
    for placement in (Shard(1), Replicate()):
        target = state(placement, mesh, filled=False)
        dcp.load(target, storage_reader=SealedReader(root / "saved.sealed", access=access(root)))
        seen[str(placement)] = is_whole(target)

    seen["again"] = failure(lambda: dcp.save(trained, storage_writer=writer))
    dcp.async_save(trained, storage_writer=writer, checkpoint_id=str(root / "async.sealed")).result()

    failing = SealedWriter(root / "failed.sealed", mine)
    seen["failed"] = failure(lambda: dcp.save(trained, storage_writer=failing, planner=FailingPlanner(dies=False)))
    dist.barrier()
    seen["left"] = sorted(path.name for path in root.iterdir() if "failed" in path.name)
    dist.barrier()
    dcp.save(trained, storage_writer=failing)
    seen["retried"] = (root / "failed.sealed").exists()

    caching = dcp.DefaultSavePlanner(enable_plan_caching=True)
    seen["caching"] = failure(
        lambda: dcp.save(trained, storage_writer=SealedWriter(root / "caching.sealed", mine), planner=caching)
    )
    dist.barrier()
    (root / f"several.{rank}.json").write_text(json.dumps(seen))
    seen["killed"] = failure(
        lambda: dcp.save(
            trained, storage_writer=SealedWriter(root / "killed.sealed", mine), planner=FailingPlanner(dies=True)
        )
    )
    return seen


def process(rank: int, root: Path) -> dict[str, Any]:
    """Save from a process of DCP's own."""
    trained = state(Shard(0), init_device_mesh("cpu", (dist.get_world_size(),)), filled=True)
    kind = AsyncCheckpointerType.PROCESS
    writer = SealedWriter(root / "key.sealed", publishing(root))
    seen = {
        "key": failure(lambda: dcp.async_save(trained, storage_writer=writer, async_checkpointer_type=kind).result())
    }
    writer = SealedWriter(root / "function.sealed", here)
    dcp.async_save(trained, storage_writer=writer, async_checkpointer_type=kind).result()
    return seen | {"rank": rank}


JOBS = {"several": several, "process": process}


def main() -> None:
    rank, world, root, job = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("cpu:gloo", init_method=f"file://{root}/{job}.store", rank=rank, world_size=world)
    seen = JOBS[job](rank, root)
    (root / f"{job}.{rank}.json").write_text(json.dumps(seen))
    if job != "several":  # one of its ranks is dead
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
