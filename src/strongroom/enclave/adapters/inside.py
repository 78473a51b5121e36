"""The first instruction inside: close what only starting needed, then run the agent's module or the command's script.

``python -I -m strongroom.enclave.adapters.inside agent MODULE`` or ``... inside command SCRIPT [ARGUMENT...]`` (also
``agent SCRIPT`` and ``command -m MODULE``). It lies in the measured roots, runs before any code of the command, and
narrows for good: no further program can be started, and the process can't be dumped or traced.
"""

from __future__ import annotations

import contextlib
import importlib.util
import runpy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from strongroom.core.errors import UsageError
from strongroom.enclave import allowlist
from strongroom.enclave.adapters import confine
from strongroom.walls.adapters import syscalls

_USAGE: Final = (
    "usage: inside agent MODULE | inside command SCRIPT [ARGUMENT...] | inside command -m MODULE [ARGUMENT...]"
)


class TorchWithoutCompiler:
    """Turns oneDNN off in torch as it is imported: it writes machine code at run time, which is forbidden here.

    Without this a convolution or a bfloat16 product ends in "could not create a primitive"; with it torch takes its
    compiled kernels. One module name is looked for; every other import passes by.
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Answer for ``torch`` only."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_turn_off(module: ModuleType) -> None:
            load(module)
            module.backends.mkldnn.enabled = False

        spec.loader.exec_module = load_and_turn_off  # type: ignore[method-assign]
        return spec


def become_agent(arguments: list[str]) -> None:
    """Run the agent's module."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # starting the interpreter made the process dumpable again
    _run(arguments)


def become_command(arguments: list[str]) -> None:
    """Close the door behind the interpreter, then run the command's script."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    with contextlib.suppress(OSError):  # a kernel without it answers EINVAL: then nothing forbids compilers either
        if syscalls.prctl(syscalls.PR_GET_MDWE):
            sys.meta_path.insert(0, TorchWithoutCompiler())
    confine.install(allowlist.settled_rules(may_exec=False))
    _run(arguments[1:] if arguments[0] == "-m" else arguments)


def _run(arguments: list[str]) -> None:
    sys.argv = arguments
    if not arguments[0].startswith("/"):
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        return
    # As for any script, its own folder is where its imports are looked for first. It is one of the measured roots.
    sys.path.insert(0, str(Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name="__main__")


def main(arguments: list[str]) -> None:
    """Become what the first argument names.

    :raises UsageError: neither an agent nor a command.
    """
    match arguments:
        case ["agent", _, *_]:
            become_agent(arguments[1:])
        case ["command", "-m", _, *_] | ["command", _, *_]:
            become_command(arguments[1:])
        case _:
            raise UsageError(_USAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
