"""Plain safetensors, as its own library loads and saves it: what all others are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.sealing_parts.worker import Tensors, Variant, main
from safetensors import safe_open
from safetensors.torch import load_file, save_file


class Plain(Variant):
    """`load_file` maps the file; who wants to own the memory clones."""

    def files(self) -> list[Path]:
        """Return the model itself: it needs no sealing."""
        return [self.model]

    def seal(self, tensors: Tensors) -> None:
        """Save."""
        save_file(dict(tensors), self.made)

    def owned(self) -> Tensors:
        """Map and copy."""
        return {name: tensor.clone() for name, tensor in load_file(self.model).items()}

    def touch(self) -> Tensors:
        """Map."""
        return load_file(self.model)  # type: ignore[no-any-return]

    def existing(self, targets: Tensors) -> None:
        """Map and copy into what is there."""
        for name, tensor in load_file(self.model).items():
            targets[name].copy_(tensor)

    def one(self, name: str) -> Any:
        """Map and take one."""
        with safe_open(self.model, framework="pt") as file:
            return file.get_tensor(name)


if __name__ == "__main__":
    main({"plain": Plain})
