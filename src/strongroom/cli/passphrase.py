"""Passphrases come from a prompt or an open descriptor: never from an argument, a file name or the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from strongroom.core.errors import UsageError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.ipc.adapters.process import read_passphrase


@contextmanager
def passphrase_pipe(descriptor: int | None) -> Iterator[int]:
    """Yield a descriptor from which another process can read the passphrase once: the caller's, or one we fill."""
    if descriptor is not None:
        yield descriptor
        os.close(descriptor)
        return
    reading, writing = os.pipe()
    try:
        os.write(writing, click.prompt("Passphrase", hide_input=True, err=True).encode())
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


@contextmanager
def new_passphrase_pipe(descriptor: int | None) -> Iterator[int]:
    """Yield a descriptor as :func:`passphrase_pipe` does; a new passphrase is asked for twice."""
    with passphrase_pipe(descriptor) if descriptor is not None else _asked_twice() as reading:
        yield reading


@contextmanager
def _asked_twice() -> Iterator[int]:
    reading, writing = os.pipe()
    try:
        with new_passphrase(None) as secret:
            os.write(writing, secret.reveal(TOKEN))
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def new_passphrase(descriptor: int | None) -> SecretBytes:
    """Return a new passphrase: read from a descriptor, or asked for twice.

    :raises UsageError: nothing was given.
    """
    if descriptor is not None:
        secret = read_passphrase(descriptor)
    else:
        text = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
        secret = SecretBytes(bytearray(text.encode()))
    if not len(secret):
        raise UsageError("the passphrase is empty")
    return secret
