"""The anchor's files in the keeper's folder, and its bytes in a TPM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.adapters.durable import sync_folder
from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.keeper.adapters.files import read_own, replace_own
from strongroom.keeper.anchor import REGISTER_BYTES, AnchorRefusedError, AnchorUri
from strongroom.tpm.adapters import nv
from strongroom.tpm.adapters.transport import DescriptorTransport
from strongroom.tpm.errors import TpmError

SETTING: Final = "pin-anchor.uri"
_SETTLED: Final = "anchored.json"
_NEXT: Final = "anchored.next.json"


class AnchorFolder:
    """The setting, and the anchored sets of pins."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def uri(self) -> AnchorUri | None:
        """Return where the anchor is, if there is one.

        :raises AnchorUriError: the file holds something else.
        """
        data = read_own(self._folder / SETTING)
        return None if data is None else AnchorUri.parse(data.decode("utf-8", errors="replace").strip())

    def choose(self, uri: AnchorUri) -> None:
        """Anchor pins at ``uri`` from the next start on, and begin anew there."""
        self.forget()
        replace_own(self._folder / SETTING, f"{uri}\n".encode())

    def forget(self) -> None:
        """Forget what was anchored: only for who knows that log and pins are whole."""
        for name in (_NEXT, _SETTLED):
            (self._folder / name).unlink(missing_ok=True)
        sync_folder(self._folder)

    def load(self) -> tuple[bytes | None, bytes | None]:
        """Return the set that holds, and the next one, as far as they are there."""
        return read_own(self._folder / _SETTLED), read_own(self._folder / _NEXT)

    def save_next(self, data: bytes) -> None:
        """Make the next one durable."""
        replace_own(self._folder / _NEXT, data)

    def settle(self) -> None:
        """Let the next one be the one that holds."""
        try:
            (self._folder / _NEXT).replace(self._folder / _SETTLED)
            sync_folder(self._folder)
        except OSError as error:
            raise UnavailableError(f"`{_SETTLED}` can't be written: {error.strerror}", reason="keeper-disk") from None


class TpmRegister:
    """The anchor's bytes in a TPM. Connected to for each access: others use the TPM as well."""

    def __init__(self, uri: AnchorUri) -> None:
        self._uri = uri

    def defined(self) -> bool:
        """Tell whether the index is there."""
        with self._tpm() as transport:
            return nv.exists(transport, self._uri.index)

    def define(self, secret: bytes) -> None:
        """Make the index."""
        with self._tpm() as transport:
            nv.define(transport, self._uri.index, size=REGISTER_BYTES, secret=secret)

    def undefine(self) -> None:
        """Remove the index, if it is there."""
        with self._tpm() as transport:
            if nv.exists(transport, self._uri.index):
                nv.undefine(transport, self._uri.index)

    def read(self, secret: bytes) -> bytes | None:
        """Return the bytes, or None before the first write."""
        with self._tpm() as transport:
            return nv.read(transport, self._uri.index, REGISTER_BYTES, secret=secret)

    def write(self, data: bytes, secret: bytes) -> None:
        """Replace the bytes in one step."""
        with self._tpm() as transport:
            nv.write(transport, self._uri.index, data, secret=secret)

    @contextmanager
    def _tpm(self) -> Iterator[DescriptorTransport]:
        connect = DescriptorTransport.unix if self._uri.address.startswith("unix:") else DescriptorTransport.device
        try:
            with connect(Path(self._uri.path)) as transport:
                yield transport
        except (TpmError, MalformedError) as error:
            raise AnchorRefusedError(
                f"the pins' anchor in the TPM can't be used: {error.message}",
                remedy="look at `strongroom doctor`; if the TPM was cleared or replaced: strongroom pin-anchor renew",
            ) from None
