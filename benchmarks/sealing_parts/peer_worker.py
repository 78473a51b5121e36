"""The peers' worker. It runs in their environment: of each package only what its variant needs is imported."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from benchmarks.sealing_parts.machine import CHUNK
from benchmarks.sealing_parts.worker import Tensors, Variant, main
from safetensors.torch import load_file, save_file

_KEY: Final = bytes(range(32))
# RFC 8032, section 7.1, test 1: a signing key that everybody has.
_SIGNING: Final = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
_VERIFYING: Final = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
_PIPE_BYTES: Final = 1 << 20
_TYPES: Final = {"BF16": torch.bfloat16, "F32": torch.float32, "I64": torch.int64}


def _jwk(**members: str | bytes) -> dict[str, str]:
    return {k: v if isinstance(v, str) else base64.b64encode(v).decode() for k, v in members.items()}


class CryptoTensors(Variant):
    """AES-256-GCM in chunks of 2 MiB, the header signed; keys given directly."""

    encryption = _jwk(kty="oct", alg="aes256gcm", kid="data", k=_KEY)
    public = _jwk(kty="okp", alg="ed25519", kid="publisher", x=_VERIFYING)

    def __init__(self, model: Path, work: Path, name: str) -> None:
        """Import it."""
        super().__init__(model, work, name)
        self.library = import_module("cryptotensors")
        self.torch = import_module("cryptotensors.torch")

    def seal(self, tensors: Tensors) -> None:
        """Encrypt and sign."""
        signing = self.public | _jwk(d=_SIGNING)
        self.torch.save_file(dict(tensors), self.made, config={"enc_key": self.encryption, "sign_key": signing})

    def owned(self) -> Tensors:
        """Load as its `load_file` does, with the keys given."""
        with self._open() as file:
            return {name: file.get_tensor(name) for name in file.offset_keys()}

    def one(self, name: str) -> Any:
        """Load one."""
        with self._open() as file:
            return file.get_tensor(name)

    def _open(self) -> Any:
        keys = {"enc_key": self.encryption, "sign_key": self.public}
        return self.library.safe_open(self.made, framework="pt", device="cpu", config=keys)


class Tensorizer(Variant):
    """XSalsa20-Poly1305 through libsodium."""

    encrypted = True

    def __init__(self, model: Path, work: Path, name: str) -> None:
        """Import it."""
        super().__init__(model, work, name)
        self.library = import_module("tensorizer")
        self.file: Any = None

    def seal(self, tensors: Tensors) -> None:
        """Encrypt; it does so in the caller's tensors, and decrypts them again."""
        key = self.library.EncryptionParams(key=_KEY) if self.encrypted else None
        writer = self.library.TensorSerializer(self.made, encryption=key)
        writer.write_state_dict(dict(tensors))
        writer.close()

    def owned(self) -> Tensors:
        """Load all."""
        self.file = self._open(lazy=False)
        return {name: self.file[name].detach() for name in self.file}

    def one(self, name: str) -> Any:
        """Load one."""
        self.file = self._open(lazy=True)
        return self.file[name].detach()

    def release(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def _open(self, *, lazy: bool) -> Any:
        key = self.library.DecryptionParams.from_key(_KEY) if self.encrypted else None
        return self.library.TensorDeserializer(self.made, device="cpu", lazy_load=lazy, encryption=key)


class TensorizerPlain(Tensorizer):
    """The same without encryption."""

    encrypted = False


class _Pipe(Variant):
    """A program that writes the plain file into a pipe. Tensors are views of what was read, without another copy."""

    def encrypting(self) -> list[str]:
        raise NotImplementedError

    def decrypting(self) -> list[str]:
        raise NotImplementedError

    def seal(self, tensors: Tensors) -> None:
        """From file to file: these programs know no tensors, and the plain file is there already."""
        del tensors
        subprocess.run(self.encrypting(), check=True)

    def owned(self) -> Tensors:
        """Read all that the program writes."""
        content = torch.empty(self.model.stat().st_size, dtype=torch.uint8)
        view, at = memoryview(content.numpy()), 0
        with subprocess.Popen(self.decrypting(), stdout=subprocess.PIPE, bufsize=0) as program:
            assert program.stdout is not None
            fcntl.fcntl(program.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            while count := os.readv(program.stdout.fileno(), [view[at : at + CHUNK]]):
                at += count
        if program.returncode or at != len(view):
            raise RuntimeError(f"{self.name} returned {program.returncode} after {at} bytes")
        return _views(content, view)


def _views(content: Any, view: memoryview) -> Tensors:
    """Return the tensors of a safetensors file in memory."""
    start = 8 + int.from_bytes(view[:8], "little")
    found = {}
    for name, entry in json.loads(bytes(view[8:start])).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            found[name] = content[start + begin : start + end].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


class Age(_Pipe):
    """X25519, ChaCha20-Poly1305 in chunks of 64 KiB."""

    def __init__(self, model: Path, work: Path, name: str) -> None:
        """Make an identity, once."""
        super().__init__(model, work, name)
        self.identity = work / "age.key"
        if not self.identity.exists():
            subprocess.run(["age-keygen", "-o", self.identity], check=True, capture_output=True)

    def encrypting(self) -> list[str]:
        """`-i` with `-e` encrypts to the identity's own recipient."""
        return ["age", "-e", "-i", str(self.identity), "-o", str(self.made), str(self.model)]

    def decrypting(self) -> list[str]:
        """To the pipe."""
        return ["age", "-d", "-i", str(self.identity), str(self.made)]


class OpenSsl(_Pipe):
    """AES-256 in counter mode: nothing is authenticated, so this is less than the others do."""

    def encrypting(self) -> list[str]:
        """To a file."""
        return [*self._command(), "-e", "-in", str(self.model), "-out", str(self.made)]

    def decrypting(self) -> list[str]:
        """To the pipe."""
        return [*self._command(), "-d", "-in", str(self.made)]

    def _command(self) -> list[str]:
        return ["openssl", "enc", "-aes-256-ctr", "-K", _KEY.hex(), "-iv", bytes(16).hex(), "-bufsize", "1048576"]


class GoCryptFs(Variant):
    """A mount that shows the plain file. Each case mounts anew, so that the kernel has no plaintext of it cached."""

    password = ("-extpass", "echo benchmark")

    def __init__(self, model: Path, work: Path, name: str) -> None:
        """Make the mount's place."""
        super().__init__(model, work, name)
        self.mount = work / "gocryptfs.mount"
        self.mount.mkdir(exist_ok=True)

    def prepare(self) -> None:
        """Mount. What it says is thrown away: it complains where there is no syslog."""
        if not (self.made / "gocryptfs.conf").exists():
            self.made.mkdir()
            self._quietly("gocryptfs", "-init", "-q", "-scryptn", "10", *self.password, str(self.made))
        self._quietly("gocryptfs", "-q", *self.password, str(self.made), str(self.mount))

    def release(self) -> None:
        """Unmount."""
        if self.mount.is_mount():
            self._quietly("fusermount", "-u", str(self.mount))

    def seal(self, tensors: Tensors) -> None:
        """Save into the mount, and make it durable there: its own file is complete only then."""
        target = self.mount / "model.safetensors"
        save_file(dict(tensors), target)
        handle = os.open(target, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

    def owned(self) -> Tensors:
        """Map: the program decrypts into the page cache, which is the only copy."""
        return load_file(self.mount / "model.safetensors")  # type: ignore[no-any-return]

    def _quietly(self, *command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main(
        {
            "cryptotensors": CryptoTensors,
            "tensorizer": Tensorizer,
            "tensorizer-plain": TensorizerPlain,
            "age": Age,
            "openssl": OpenSsl,
            "gocryptfs": GoCryptFs,
        }
    )
