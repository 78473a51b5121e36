"""The playbooks that come with the program."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from strongroom.core.errors import NotFoundError
from strongroom.response.cacao import Playbook, read_playbook


@cache
def shipped_playbooks() -> Mapping[str, Playbook]:
    """Return the shipped playbooks by their ids. They are as whole as the installation is."""
    folder = files("strongroom.response") / "playbooks"
    found = (read_playbook(one.read_bytes()) for one in sorted(folder.iterdir(), key=str) if one.name.endswith(".json"))
    return MappingProxyType({playbook.id: playbook for playbook in found})


def playbook_called(name: str) -> Playbook:
    """Return the shipped playbook of a name, as rules give it: ``insider``.

    :raises NotFoundError: none is called so.
    """
    found = next((one for one in shipped_playbooks().values() if one.name == name), None)
    if found is None:
        names = ", ".join(sorted(one.name for one in shipped_playbooks().values()))
        raise NotFoundError("no such playbook comes with the program", remedy=f"name one of: {names}")
    return found
