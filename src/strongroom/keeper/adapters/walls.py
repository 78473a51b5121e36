"""The keeper shuts itself in: first before it reads its log, and closer once it serves."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import strongroom
from strongroom.core.errors import UnavailableError
from strongroom.keeper.walls import Reach, files_of, folders_of, reach_of, serving_rules, starting_rules
from strongroom.keys.uri import KeyUri
from strongroom.walls.adapters import landlock, syscalls
from strongroom.walls.bpf import SyscallRule, assemble

_LIBRARIES: Final = ("/usr", "/lib", "/lib64", "/opt")
_SETTINGS: Final = ("/etc", "/run/systemd/resolve")
_CLOUDS: Final = (".aws", ".azure", ".config/gcloud")
_CLOUD_FILES: Final = (
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)
_CLOUD_TOKENS: Final = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
)


def enter(home: Path, providers: Collection[KeyUri], devices: Collection[str]) -> int:
    """Leave this process, for good, only what a starting keeper needs. Call it while it has one thread.

    :param providers: what holds the root key and may be asked again while the keeper runs.
    :param devices: what else it reads and writes, by path.

    Returns Landlock's version; 0: this kernel has none (or a PKCS#11 library needs files that nobody knows).

    :raises UnavailableError: the kernel takes no system call filter.
    """
    reach = reach_of(providers)
    try:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        version = 0 if reach is Reach.LIBRARY else _files(home, providers, devices)
    except OSError as error:
        raise UnavailableError(f"the keeper can't give up its privileges: {error.strerror}") from None
    _filter(starting_rules(reach, pid=os.getpid()))
    return version


def close_behind(providers: Collection[KeyUri]) -> None:
    """Leave only what a serving keeper needs: no new door, no mode to change, no further filter.

    :raises UnavailableError: the kernel takes no system call filter.
    """
    _filter(serving_rules(reach_of(providers), pid=os.getpid()))


def _filter(rules: tuple[SyscallRule, ...]) -> None:
    try:
        syscalls.load_filter(assemble(rules, machine=syscalls.machine()))
    except OSError as error:
        raise UnavailableError(
            f"the kernel takes no system call filter: {error.strerror}",
            remedy="run the keeper on a kernel with CONFIG_SECCOMP_FILTER",
        ) from None


def _files(home: Path, providers: Collection[KeyUri], devices: Collection[str]) -> int:
    reach = reach_of(providers)
    try:
        version = syscalls.landlock_version()
    except OSError:
        return 0
    if version < landlock.LEAST_VERSION:
        return 0
    code = {*_LIBRARIES, sys.prefix, sys.base_prefix, str(Path(strongroom.__file__).parent)}
    grants = [
        *((path, landlock.READ) for path in sorted(code)),
        *((path, landlock.READ_FILE | landlock.WRITE_FILE) for path in (*files_of(providers), *devices)),
        *((path, landlock.READ_FILE) for path in folders_of(providers)),
        ("/proc/self", landlock.READ),
        (str(home / "keeper"), landlock.WRITE),
        (str(home / "run"), landlock.READ | landlock.REMOVE_FILE | landlock.MAKE_SOCK),
        *((path, landlock.READ) for path in (_outward() if reach is Reach.NETWORK else ())),
    ]
    return landlock.restrict(tuple(grants), tcp=landlock.TCP_BIND if reach is Reach.NETWORK else landlock.TCP)


def _outward() -> Iterator[str]:
    # What a key service's own library reads: names, authorities, and whom it speaks for.
    yield from _SETTINGS
    yield from (str(Path.home() / folder) for folder in _CLOUDS)
    yield from (os.environ[name] for name in _CLOUD_FILES if name in os.environ)
    # Renewed every hour or so by putting another file, or another folder behind a link, in its place.
    yield from (str(Path(os.environ[name]).parent) for name in _CLOUD_TOKENS if name in os.environ)
