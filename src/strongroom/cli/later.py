"""Commands of a group that are imported when they are used: listing the others loads none of their libraries."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click


class Later(click.Command):
    """Stands for a command in another module, which is imported when it is run or its options are wanted."""

    def __init__(self, name: str, module: str, attribute: str, said: str) -> None:
        super().__init__(name, short_help=said)
        self._place = (module, attribute)

    def load(self) -> click.Command:
        """Import and return the command."""
        module, attribute = self._place
        command = getattr(importlib.import_module(f"strongroom.cli.{module}"), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"strongroom.cli.{module}.{attribute} is no command")
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments as the command does; what is run is the command itself."""
        return self.load().make_context(info_name, args, parent, **extra)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's parameters."""
        return self.load().get_params(ctx)


_MODULE: Final = "people_import"
DIRECTORY: Final = (
    Later("import", _MODULE, "import_people", "Suspend whom a CSV file says has left, is away or on notice."),
    Later("scim-token", _MODULE, "scim_token", "Make a bearer token for an identity provider."),
    Later("unmatched", _MODULE, "unmatched", "List the directory's users who stand for nobody in the roster."),
    Later("erase-record", _MODULE, "erase_record", "Destroy what the directory holds of a person."),
)
"""The verbs of the directory of people, on its host."""
