"""Where a published log is read: a folder, a web server, or an S3-compatible store."""

from __future__ import annotations

from pathlib import Path

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.hosting import HostAddress, Scheme
from strongroom.audit.tiles import TileSource
from strongroom.core.errors import UsageError


def open_source(where: str) -> TileSource:
    """Return the log at ``where``: a folder's path, or an address as in :meth:`HostAddress.parse`.

    :raises UsageError: no such folder. :raises MalformedError: not an address. :raises MissingExtraError: no boto3.
    """
    if "://" in where:
        return _hosted(HostAddress.parse(where))
    if not Path(where).is_dir():
        raise UsageError(f"there is no folder `{where}`")
    return FolderSource(Path(where))


def _hosted(address: HostAddress) -> TileSource:
    # Imported when used: most logs lie in a folder, and an HTTP client takes a while to import.
    if address.scheme is Scheme.S3:
        from strongroom.audit.adapters.s3_host import S3Source  # noqa: PLC0415

        return S3Source(address)
    from strongroom.audit.adapters.http_source import HttpSource  # noqa: PLC0415

    return HttpSource(address)
