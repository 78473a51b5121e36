"""An image of a virtual machine: everything that decides what runs in it, as one value with one digest. Pure.

```json
{"v": 1, "image": "atlas-vm", "firmware": "sha256:...", "kernel": "sha256:...", "initramfs": "sha256:...",
 "initramfs_bytes": 5800000, "root": {"data_bytes": 41234432, "root_hash": "...", "salt": "...", "file": "sha256:..."},
 "command_line": "... strongroom.root={root_hash} strongroom.data={data_bytes}", "memory_mib": 1024, "cpus": 1,
 "interpreter": "sha256:...", "command": ["/srv/code/answer.py"], "environment": "sha256:...", "sandbox": "sha256:..."}
```
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.core import canonical
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ImageId, image_id

MAX_DEFINITION: Final = 64 * 1024
MAX_COMMAND_LINE: Final = 2047
LEAST_MEMORY: Final = 256
MAX_MEMORY: Final = 1 << 21
MAX_CPUS: Final = 512
MAX_COMMAND: Final = 64
COMMAND_LINE: Final = (
    "quiet loglevel=0 panic=-1 rdinit=/init lockdown=confidentiality init_on_alloc=1 init_on_free=1 slab_nomerge "
    "vsyscall=none debugfs=off random.trust_bootloader=off 8250.nr_uarts=0 "
    "strongroom.root={root_hash} strongroom.data={data_bytes}"
)
"""Locked down, no console, freed memory zeroed, a panic ends the machine, and the root, which nothing else names."""
ROOT_WORD: Final = "strongroom.root="
GENESIS_WORD: Final = "strongroom.genesis="
"""A deployment's genesis digest, in hex."""
_PIN: Final = re.compile(GENESIS_WORD + "[0-9a-f]{64}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_PRINTABLE: Final = re.compile(r"[ -~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RootDisk:
    """The root file system and the tree behind it, one read-only disk."""

    data_bytes: int
    """Where the file system ends and the tree begins."""
    root_hash: str
    """Hex; see :mod:`~strongroom.enclave.vm.verity`."""
    salt: str
    file: Digest
    """SHA-256 of the whole disk. The root hash is what is measured; this is for whoever copies the file."""

    @classmethod
    def read(cls, fields: Fields) -> RootDisk:
        """Read the object."""
        return cls(
            data_bytes=fields.integer("data_bytes", least=1),
            root_hash=fields.parsed("root_hash", _hash),
            salt=fields.parsed("salt", _hash),
            file=fields.digest("file"),
        )

    def to_json(self) -> Json:
        """Return the object."""
        return {
            "data_bytes": self.data_bytes,
            "root_hash": self.root_hash,
            "salt": self.salt,
            "file": str(self.file),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class VmImage:
    """One image. Two with the same digest run the same code with the same settings.

    :raises MalformedError: a size out of its range, or a command line that doesn't name the root, or names it twice.
    """

    image: ImageId
    firmware: Digest
    kernel: Digest
    initramfs: Digest
    initramfs_bytes: int
    root: RootDisk
    command_line_template: str
    memory_mib: int
    cpus: int
    interpreter: Digest
    """The guest's Python, as the launcher inside measures it."""
    command: tuple[str, ...]
    """What the agent starts beside the opened weights: a path in the root file system, and arguments."""
    environment: Digest
    """The command and its environment (:func:`~strongroom.attestation.measurement.command_digest`)."""
    sandbox: Digest
    """The process sandbox around agent and command, inside the machine."""

    def __post_init__(self) -> None:
        if not LEAST_MEMORY <= self.memory_mib <= MAX_MEMORY or not 1 <= self.cpus <= MAX_CPUS:
            raise MalformedError(
                f"a virtual machine has {LEAST_MEMORY} to {MAX_MEMORY} MiB of memory and 1 to {MAX_CPUS} processors"
            )
        template = self.command_line_template
        for place in ("strongroom.root={root_hash}", "strongroom.data={data_bytes}"):
            if template.split(" ").count(place) != 1 or template.count(place.partition("=")[0]) != 1:
                raise MalformedError(f"the command line must have `{place}` exactly once")
        pins = template.count(GENESIS_WORD.removesuffix("="))
        if pins > 1 or pins != sum(bool(_PIN.fullmatch(word)) for word in template.split(" ")):
            raise MalformedError("a command line names one deployment at most, in 64 hex digits")
        if not _PRINTABLE.fullmatch(template) or len(self.command_line) > MAX_COMMAND_LINE:
            raise MalformedError(f"a command line has at most {MAX_COMMAND_LINE} printable ASCII characters")

    @property
    def command_line(self) -> str:
        """What the kernel is started with."""
        found = self.command_line_template.replace("{root_hash}", self.root.root_hash)
        return found.replace("{data_bytes}", str(self.root.data_bytes))

    @property
    def deployment(self) -> Digest | None:
        """The genesis of the one deployment whose orders the machine takes; None if it measures whose it took."""
        named = [word for word in self.command_line_template.split(" ") if word.startswith(GENESIS_WORD)]
        return Digest(DigestAlgorithm.SHA256, bytes.fromhex(named[0].removeprefix(GENESIS_WORD))) if named else None

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical bytes."""
        return Digest.of(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        return canonical.encode(
            {
                "v": 1,
                "image": self.image,
                "firmware": str(self.firmware),
                "kernel": str(self.kernel),
                "initramfs": str(self.initramfs),
                "initramfs_bytes": self.initramfs_bytes,
                "root": self.root.to_json(),
                "command_line": self.command_line_template,
                "memory_mib": self.memory_mib,
                "cpus": self.cpus,
                "interpreter": str(self.interpreter),
                "command": [*self.command],
                "environment": str(self.environment),
                "sandbox": str(self.sandbox),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> VmImage:
        """Read canonical bytes.

        :raises MalformedError: another form, or a value out of its range.
        """
        with Fields(canonical.decode(data, max_bytes=MAX_DEFINITION), "image") as fields:
            fields.constant("v", 1)
            with fields.child("root") as root:
                disk = RootDisk.read(root)
            return cls(
                image=fields.parsed("image", image_id),
                firmware=fields.digest("firmware"),
                kernel=fields.digest("kernel"),
                initramfs=fields.digest("initramfs"),
                initramfs_bytes=fields.integer("initramfs_bytes", least=1),
                root=disk,
                command_line_template=fields.text("command_line", max_length=MAX_COMMAND_LINE),
                memory_mib=fields.integer("memory_mib"),
                cpus=fields.integer("cpus"),
                interpreter=fields.digest("interpreter"),
                command=fields.texts("command", most=MAX_COMMAND, max_length=4096),
                environment=fields.digest("environment"),
                sandbox=fields.digest("sandbox"),
            )


def pinned(command_line: str, genesis: Digest) -> str:
    """Return a command line by which the machine takes one deployment's orders only."""
    return f"{command_line} {GENESIS_WORD}{genesis.value.hex()}"


def _hash(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise MalformedError("must be 64 lower-case hex digits")
    return text
