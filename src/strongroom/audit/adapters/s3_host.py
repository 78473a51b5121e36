"""A published log in an S3-compatible store: read from it, and laid down in it under object lock.

Credentials, region and endpoint come from the SDK's own chain (environment, profile, instance role) and are never
passed on, printed or logged.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from strongroom.audit.hosting import (
    HostAddress,
    HostDiffersError,
    HostMovedError,
    HostOverwritesError,
    HostUnlockedError,
    Version,
    headers_of,
)
from strongroom.audit.tiles import MAX_FILE
from strongroom.core.clock import Clock, Instant
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.extras import need

SECONDS: Final = 10.0
ATTEMPTS: Final = 5
"""Tries of one call, by the SDK, with growing pauses between them."""
AT_ONCE: Final = 16
_MODE: Final = "COMPLIANCE"
"""Not GOVERNANCE: that lock opens to whoever has the permission."""
_DAY: Final = 86_400
MOST_DAYS: Final = 36_500
_GONE: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_BUSY: Final = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestLimitExceeded"})
_PRESENT: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_NO_LOCK: Final = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "InvalidRequest"})
_CODE: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_LOOK: Final = "Find out who else writes there: nothing was replaced."


class _PresentError(Exception):
    """The condition of a write doesn't hold."""


class S3Source:
    """Reads a log's files out of a bucket; never trusted. Picklable: each process connects by itself.

    :raises MissingExtraError: boto3 isn't installed.
    """

    def __init__(self, address: HostAddress) -> None:
        self.address = address
        self._calls = _Calls()

    def __reduce__(self) -> tuple[type[S3Source], tuple[HostAddress]]:
        return S3Source, (self.address,)

    def read(self, path: str) -> bytes | None:
        """Return the newest version of a file, or None where there is none.

        :raises MalformedError: ``path`` isn't a path of the log's layout. :raises UnavailableError: no answer.
        """
        headers_of(path)
        return self._calls.get(self.address, path)[0]


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the store keeps each file under COMPLIANCE lock, from when it is laid down; nobody can shorten it."""

    days: int

    def __post_init__(self) -> None:
        if not 1 <= self.days <= MOST_DAYS:
            raise UsageError(f"a lock lasts 1 to {MOST_DAYS} days")

    def until(self, now: Instant, *, parts: int = 1) -> datetime:
        """Return the end of the lock, in whole seconds; with ``parts``, of the first of so many equal parts of it."""
        return datetime.fromtimestamp(now + self.days * _DAY // parts, UTC)


class S3Host:
    """Lays a log down in a bucket. Without ``lock`` whoever may delete there can take the log away.

    :raises MissingExtraError: boto3 isn't installed.
    """

    def __init__(self, address: HostAddress, *, clock: Clock, lock: Retention | None) -> None:
        self.address = address
        self._clock = clock
        self._lock = lock
        self._calls = _Calls()
        self._proven = False

    @property
    def days(self) -> int | None:
        """How long files are locked; None where they aren't."""
        return None if self._lock is None else self._lock.days

    def require_locking(self) -> None:
        """Check that the bucket keeps every version, and can lock them.

        :raises HostUnlockedError: it doesn't. :raises UnavailableError: no answer.
        """
        client, bucket = self._calls.client, {"Bucket": self.address.place}
        with self._calls.asked():
            versioning = client.get_bucket_versioning(**bucket).get("Status")
        if versioning != "Enabled":
            raise _unlocked(f"the bucket `{self.address.place}` keeps no versions")
        try:
            with self._calls.asked(quiet=_NO_LOCK):
                found = client.get_object_lock_configuration(**bucket)["ObjectLockConfiguration"]
        except _PresentError:
            found = {}
        if found.get("ObjectLockEnabled") != "Enabled":
            raise _unlocked(f"the bucket `{self.address.place}` has no object lock")

    def versions(self) -> Iterator[Version]:
        """List every version under the prefix with its lock, newest first for each name: one call for each version."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="host") as threads:
            for page in self._pages():
                yield from threads.map(self._version, page)

    def _pages(self) -> Iterator[list[dict[str, Any]]]:
        pages = self._calls.client.get_paginator("list_object_versions").paginate(
            Bucket=self.address.place, Prefix=self.address.path_of("")
        )
        with self._calls.asked():
            for page in pages:
                yield [*page.get("Versions", ()), *({**one, "Marker": True} for one in page.get("DeleteMarkers", ()))]

    def _version(self, listed: dict[str, Any]) -> Version:
        name = str(listed["Key"]).removeprefix(self.address.path_of(""))
        if "Marker" in listed:
            return Version(name, marker=True, locked_until=None)
        with self._calls.asked():
            found = self._calls.client.head_object(
                Bucket=self.address.place, Key=listed["Key"], VersionId=listed["VersionId"]
            )
        until = found.get("ObjectLockRetainUntilDate")
        locked = until is not None and found.get("ObjectLockMode") == _MODE
        return Version(name, marker=False, locked_until=int(until.timestamp()) if locked else None)

    def read(self, path: str) -> bytes | None:
        """Return what is there, or None."""
        return self._calls.get(self.address, path)[0]

    def place(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Lay files down, several at once; the first alone, to see that the store does what it is asked.

        :raises HostDiffersError: other bytes are there. :raises HostUnlockedError: the lock wasn't taken.
        :raises HostOverwritesError: the store doesn't know conditional writes.
        """
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="host") as threads:
            try:
                for path, data in files:
                    if not self._proven:
                        self._prove(path, data)
                        continue
                    waiting.append(threads.submit(self._place, path, data))
                    if len(waiting) > 2 * AT_ONCE:
                        waiting.popleft().result()
                while waiting:
                    waiting.popleft().result()
            finally:
                threads.shutdown(cancel_futures=True)

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        """Put a new version in the place of ``before``.

        :raises HostMovedError: something else is there.
        """
        there, tag = self._calls.get(self.address, path)
        if there != before:
            raise _moved(path)
        try:
            self._put(path, data, {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag})
        except _PresentError:
            # A try that was answered too late may have succeeded.
            if self.read(path) != data:
                raise _moved(path) from None

    def _place(self, path: str, data: bytes) -> None:
        try:
            self._put(path, data, {"IfNoneMatch": "*"})
        except _PresentError:
            if self.read(path) != data:
                raise HostDiffersError(
                    f"the host holds other bytes under `{path}` than the log",
                    remedy="The name is taken: keep what is there as evidence, and publish under another prefix.",
                ) from None
            # The bytes are public: somebody may have laid them there before, so as to delete them later.
            if self._lock is not None:
                self._require_locked(path, self._lock)

    def _prove(self, path: str, data: bytes) -> None:
        self._place(path, data)
        try:
            # The same bytes again: a store that takes them would take others as well.
            self._put(path, data, {"IfNoneMatch": "*"})
        except _PresentError:
            self._proven = True
        else:
            raise HostOverwritesError(
                "the store replaces files although it is asked not to (`If-None-Match`)",
                remedy="use a store with conditional writes",
            )
        if self._lock is not None:
            self._require_locked(path, self._lock)

    def _require_locked(self, path: str, lock: Retention) -> None:
        with self._calls.asked():
            found = self._calls.client.head_object(Bucket=self.address.place, Key=self.address.path_of(path))
        until = found.get("ObjectLockRetainUntilDate")
        # Half of it: a publication that was interrupted may be gone on with much later.
        if found.get("ObjectLockMode") != _MODE or until is None or until < lock.until(self._clock.now(), parts=2):
            raise HostUnlockedError(
                f"`{path}` is in the store and isn't locked as it must be",
                remedy="Find out who laid it there, or whether the store locks at all; delete it and publish again.",
            )

    def _put(self, path: str, data: bytes, condition: dict[str, str]) -> None:
        headers = headers_of(path)
        locked: dict[str, Any] = {}
        if self._lock is not None:
            until = self._lock.until(self._clock.now())
            locked = {"ObjectLockMode": _MODE, "ObjectLockRetainUntilDate": until}
        with self._calls.asked(quiet=_PRESENT):
            self._calls.client.put_object(
                Bucket=self.address.place,
                Key=self.address.path_of(path),
                Body=data,
                ContentType=headers.content_type,
                CacheControl=headers.cache_control,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=base64.b64encode(hashlib.sha256(data).digest()).decode(),
                **condition,
                **locked,
            )


class _Calls:
    """One client of the SDK, safe for several threads, and what its errors mean here."""

    def __init__(self) -> None:
        session, config = need("boto3.session", extra="aws"), need("botocore.config", extra="aws")
        self._errors = need("botocore.exceptions", extra="aws")
        settings = config.Config(
            connect_timeout=SECONDS,
            read_timeout=SECONDS,
            max_pool_connections=AT_ONCE,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        )
        with self.asked():
            self.client: Any = session.Session().client("s3", config=settings)

    def get(self, address: HostAddress, path: str) -> tuple[bytes | None, str | None]:
        """Return an object's bytes and its tag; None twice where there is none."""
        try:
            with self.asked(quiet=_GONE):
                found = self.client.get_object(Bucket=address.place, Key=address.path_of(path))
                with found["Body"] as body:
                    return body.read(MAX_FILE + 1), found["ETag"]
        except _PresentError:
            return None, None

    @contextmanager
    def asked(self, *, quiet: frozenset[str] = frozenset()) -> Iterator[None]:
        """Turn the SDK's errors into ours, without their texts; codes in ``quiet`` into a private one."""
        errors = self._errors
        try:
            yield
        except errors.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in quiet:
                raise _PresentError from None
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _BUSY or code in _PRESENT or status >= 500 or status == 429:
                raise UnavailableError("the store is overloaded or broken", remedy="try again later") from None
            if code in _GONE:
                # Of what was listed just before: somebody deletes there.
                raise UnavailableError("what the store listed is gone", remedy="try again") from None
            named = f" (`{code}`)" if _CODE.fullmatch(code) else ""
            raise UnavailableError(
                f"the store refused{named}",
                remedy="look at the bucket's name and policy, and at this machine's credentials",
            ) from None
        except (errors.HTTPClientError, errors.ConnectionError):
            raise UnavailableError("the store can't be reached", remedy="try again later") from None
        except errors.BotoCoreError:
            raise UsageError(
                "the store can't be asked from here", remedy="look at this machine's credentials, region and profile"
            ) from None


def _unlocked(message: str) -> HostUnlockedError:
    return HostUnlockedError(
        message, remedy="make a bucket with object lock, or say --unlocked and know that the log can be deleted there"
    )


def _moved(path: str) -> HostMovedError:
    return HostMovedError(f"the host's `{path}` changed while it was being replaced", remedy=_LOOK)
