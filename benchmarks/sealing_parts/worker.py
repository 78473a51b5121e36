"""One process of one variant: what each case does, and what is measured. The workers of all environments use it.

    python -m benchmarks.sealing_parts.WORKER VARIANT MODEL_FILE WORK_FOLDER CASE[,CASE...]

The last line of output is JSON: {case: {open_s, total_s, peak_bytes, read_bytes, checksum}} or {case: {error}}. The
order of cases is the caller's; memory stays hot from one to the next, as in `HOT_HEAP`.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.sealing_parts import machine
from benchmarks.sealing_parts.models import ONE_TENSOR
from safetensors.torch import load_file

Tensors = Mapping[str, Any]


class Variant:
    """One way to keep a model on disk. A method that isn't overridden is a case that the variant can't do."""

    def __init__(self, model: Path, work: Path, name: str) -> None:
        """`model`: the plain file. `work`: a folder of its own; the sealed file or folder is `made`, beneath it."""
        self.model = model
        self.work = work
        self.name = name
        self.made = work / f"{model.stem}.{name}"

    def files(self) -> list[Path]:
        """Return all files that a load reads: to be put into the page cache, or evicted from it."""
        if self.made.is_dir():
            return sorted(file for file in self.made.rglob("*") if file.is_file())
        return [self.made]

    def prepare(self) -> None:
        """Do before each timed part what is not timed, e.g. mount."""

    def release(self) -> None:
        """Let go of what the last case opened; not timed."""

    def seal(self, tensors: Tensors) -> None:
        """Write `made` from tensors in memory."""
        raise NotImplementedError

    def owned(self) -> Tensors:
        """Return all tensors, in memory that the caller owns."""
        raise NotImplementedError

    def touch(self) -> Tensors:
        """Return all tensors over the mapped file."""
        raise NotImplementedError

    def existing(self, targets: Tensors) -> None:
        """Fill tensors that exist."""
        for name, tensor in self.owned().items():
            targets[name].copy_(tensor)

    def one(self, name: str) -> Any:
        """Return one tensor, in a file that isn't open yet."""
        raise NotImplementedError


def consume(tensors: Iterable[Any]) -> int:
    """Read every byte; returns the sum of all, as numbers of 64 bits."""
    total = 0
    for tensor in tensors:
        flat = tensor.detach().reshape(-1).view(torch.uint8)
        whole = flat.numel() & ~7
        # A view asks for an offset that divides by 8; a tensor over the same memory doesn't.
        words = flat[:whole] if flat.storage_offset() % 8 == 0 else torch.frombuffer(flat.numpy(), dtype=torch.uint8)
        total += int(words[:whole].view(torch.int64).sum()) + int(flat[whole:].sum())
    return total & (2**64 - 1)


def fsync(made: Path) -> None:
    """Make a file, or a folder's files, durable."""
    for path in (made, *(made.rglob("*") if made.is_dir() else ()), made.parent):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Cases:
    """The cases of one variant in this process."""

    def __init__(self, variant: Variant) -> None:
        """Nothing is read yet."""
        self.variant = variant
        self.size = variant.model.stat().st_size
        self._targets: dict[str, Any] = {}
        self._loaded = False

    def run(self, case: str) -> dict[str, Any]:
        """Run one, and clean up after it."""
        try:
            result: dict[str, Any] = getattr(self, case)()
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way, and the table says how
            result = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        self._clean()
        return result

    def fresh(self) -> dict[str, Any]:
        """Owned tensors in memory that this process never had."""
        machine.warm(self.variant.files())
        machine.touch_guest(self.size + self.size // 4)
        self._loaded = True
        return self._timed(self.variant.owned)

    def hot(self) -> dict[str, Any]:
        """Owned tensors, again: page cache warm, heap touched; a buffer that a variant keeps is there already."""
        machine.warm(self.variant.files())
        if not self._loaded:
            self.fresh()
            self._clean()
        machine.touch_heap(self.size + self.size // 20)
        return self._timed(self.variant.owned)

    def touch(self) -> dict[str, Any]:
        """Tensors over the mapped file."""
        machine.warm(self.variant.files())
        return self._timed(self.variant.touch)

    def existing(self) -> dict[str, Any]:
        """Into tensors that exist, warm."""
        targets = self._make_targets()
        machine.warm(self.variant.files())
        return self._timed(lambda: self._fill(targets))

    def cold(self) -> dict[str, Any]:
        """Into tensors that exist, from the disk."""
        targets = self._make_targets()
        machine.evict(self.variant.files())
        return self._timed(lambda: self._fill(targets))

    def one(self) -> dict[str, Any]:
        """One tensor, warm."""
        machine.warm(self.variant.files())
        return self._timed(lambda: {"": self.variant.one(ONE_TENSOR)})

    def one_cold(self) -> dict[str, Any]:
        """One tensor, from the disk."""
        machine.evict(self.variant.files())
        return self._timed(lambda: {"": self.variant.one(ONE_TENSOR)})

    def seal(self) -> dict[str, Any]:
        """From tensors in memory to a durable file."""
        self._targets = {name: tensor.clone() for name, tensor in load_file(self.variant.model).items()}
        made = self.variant.made
        if made.is_dir():
            shutil.rmtree(made)
        else:
            made.unlink(missing_ok=True)
        os.sync()

        def work() -> Tensors:
            self.variant.seal(self._targets)
            fsync(made)
            return {}

        result = self._timed(work)
        parts = made.rglob("*") if made.is_dir() else (made,)
        result["file_bytes"] = sum(file.stat().st_size for file in parts if file.is_file())
        self._targets = {}
        return result

    def _make_targets(self) -> dict[str, Any]:
        if not self._targets:
            self._targets = {name: torch.zeros_like(tensor) for name, tensor in load_file(self.variant.model).items()}
        for tensor in self._targets.values():
            tensor.zero_()
        machine.touch_heap(self.size + self.size // 20)
        return self._targets

    def _fill(self, targets: dict[str, Any]) -> Tensors:
        self.variant.existing(targets)
        return targets

    def _timed(self, work: Callable[[], Tensors]) -> dict[str, Any]:
        self.variant.prepare()
        gc.collect()
        before, read = machine.reset_peak(), machine.read_from_disk()
        began = time.perf_counter()
        tensors = work()
        opened = time.perf_counter()
        checksum = consume(tensors.values())
        done = time.perf_counter()
        return {
            "open_s": opened - began,
            "total_s": done - began,
            "peak_bytes": machine.peak() - before,
            "read_bytes": machine.read_from_disk() - read,
            "checksum": checksum,
        }

    def _clean(self) -> None:
        gc.collect()
        self.variant.release()
        gc.collect()


def main(variants: Mapping[str, type[Variant]]) -> None:
    """Run what the command line says."""
    name, model, work, cases = sys.argv[1:]
    running = Cases(variants[name](Path(model), Path(work), name))
    print(json.dumps({case: running.run(case) for case in cases.split(",")}))
