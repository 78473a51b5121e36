"""``strongroom root-key``: which key services hold a deployment's root key, and moving it to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

import click

from strongroom.cli.lazy import LazyGroup
from strongroom.cli.output import show
from strongroom.cli.passphrase import new_passphrase
from strongroom.cli.root_parts import needs_passphrase, part_states
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import ExitCode, StrongroomError
from strongroom.core.secret import SecretBytes
from strongroom.ipc.adapters.process import read_passphrase
from strongroom.keeper.adapters.files import load_keyring, replace_keyring
from strongroom.keeper.adapters.move_note import MoveFile
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.reconciling import providers_digest
from strongroom.keeper.vault import Vault
from strongroom.keeper.wiring import load_genesis
from strongroom.keys.adapters.local import Argon2Cost
from strongroom.keys.hierarchy import Tree
from strongroom.keys.provider import WrappingProvider
from strongroom.keys.split_root import move_root, open_root
from strongroom.keys.uri import KeyUri, Service
from strongroom.keys.wiring import key_provider

_HOME: Final = click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The deployment's folder."
)
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class RootKeyCommands(LazyGroup):
    """Both verbs work on the keeper's folder, as its user."""

    commands_of: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "move": ("root_key", "move", "Wrap the root key by other key services, or by newer keys of the same."),
        "show": ("root_key", "show_root", "Which key services hold the root key, and whether each opens its part."),
    }


@click.command("root-key", cls=RootKeyCommands)
def root_key() -> None:
    """See which key services hold the root key, and move it to others."""


@click.command("show")
@_HOME
@_JSON
def show_root(home: Path, *, as_json: bool) -> None:
    """Say which key services hold the root key, and whether each opens its part. Exit code 7: one doesn't."""
    states = part_states(home)
    lines, told = [], []
    for state in states:
        word = "doesn't open" if state.error else "opens" if state.capabilities else "needs its passphrase"
        lines.append(f"{state.provider}\n  {word}{f': {state.error.message}' if state.error else ''}")
        member: dict[str, Json] = {"provider": str(state.provider), "key": state.key, "version": state.version}
        capabilities: list[Json] = [capability.value for capability in sorted(state.capabilities)]
        told.append({**member, "state": word, "capabilities": capabilities})
    parts: list[Json] = [*told]
    show({"parts": parts}, "\n".join(lines), as_json=as_json)
    if any(state.error for state in states):
        raise SystemExit(int(ExitCode.UNAVAILABLE))


@click.command("move")
@_HOME
@click.option("--to", "first", required=True, help="URI of the key service that shall hold the root key.")
@click.option("--second-to", "second", help="URI of the second one, if two hold it.")
@click.option("--passphrase-fd", type=int, help="Read today's passphrase from this open descriptor.")
@click.option("--new-passphrase-fd", type=int, help="Read the new passphrase from this open descriptor.")
@click.option("--kdf-memory", default=256, show_default=True, help="Memory in MiB that Argon2id takes at each unlock.")
def move(
    home: Path,
    first: str,
    second: str | None,
    passphrase_fd: int | None,
    new_passphrase_fd: int | None,
    kdf_memory: int,
) -> None:
    """Wrap the root key by other key services. The root key stays the same, and so do all keys under it.

    The keeper must be stopped; it records the move when it starts again.

    What was stored before still opens by the old key service: erase the backups that hold it, or destroy its key.
    """
    uris = [KeyUri.parse(text) for text in (first, second) if text is not None]
    genesis, keyring = load_genesis(home), load_keyring(home / "keeper")
    cost = Argon2Cost(memory_kib=kdf_memory * 1024)
    with ExitStack() as typed:
        old = typed.enter_context(_typed(passphrase_fd)) if needs_passphrase(home) else None
        new = (
            typed.enter_context(new_passphrase(new_passphrase_fd))
            if any(uri.service is Service.LOCAL for uri in uris)
            else None
        )
        to = [key_provider(uri, passphrase=new, cost=cost) for uri in uris]
        moved_roots, left = _moved(keyring, genesis.digest, lambda uri: key_provider(uri, passphrase=old), to)
        roots = tuple(moved_roots.items())
        # The old ones are replaced only by ones that were seen to open everything under them.
        moved = replace(keyring, roots=tuple((tree, moved_roots.get(tree, stored)) for tree, stored in keyring.roots))
        opened = {
            tree: open_root(genesis.digest, stored, lambda uri: key_provider(uri, passphrase=new))
            for tree, stored in roots
        }
        Vault(genesis.digest, moved, opened).lock()
    # First the note: the keeper throws away one of a move that didn't come about.
    MoveFile(home / "keeper").save(providers_digest(moved))
    replace_keyring(home / "keeper", moved)
    click.echo(f"the root key is held by {' and '.join(str(uri) for uri in uris)}")
    if left is not None:
        click.echo(f"models that are in no escrow stay where they were: {left.message}", err=True)


def _moved(
    keyring: Keyring, genesis: Digest, provider_of: Callable[[KeyUri], WrappingProvider], to: Sequence[WrappingProvider]
) -> tuple[dict[Tree, bytes], StrongroomError | None]:
    """Wrap each tree's root key anew; returns those, and why the one that is in no escrow had to be left, if so."""
    moved = {Tree.ESCROWED: move_root(genesis, keyring.root(Tree.ESCROWED), provider_of, to)}
    for tree, stored in keyring.roots:
        if tree is not Tree.ESCROWED:
            try:
                moved[tree] = move_root(genesis, stored, provider_of, to)
            except StrongroomError as error:
                # After a recovery it is still under the key service that was lost: the others mustn't wait for it.
                return moved, error
    return moved, None


@contextmanager
def _typed(descriptor: int | None) -> Iterator[SecretBytes]:
    if descriptor is not None:
        secret = read_passphrase(descriptor)
    else:
        secret = SecretBytes(bytearray(click.prompt("Passphrase", hide_input=True, err=True).encode()))
    with secret:
        yield secret
