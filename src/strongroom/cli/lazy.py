"""Groups of commands, each of which is imported when it is used: the list of them imports nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import ClassVar

import click


class LazyGroup(click.Group):
    """A group of this package's commands; a subclass lists them."""

    commands_of: ClassVar[Mapping[str, tuple[str, str, str]]] = {}
    """Command -> (module of ``strongroom.cli``, object in it, what the list says of it)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        del ctx
        return sorted(self.commands_of)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None."""
        del ctx
        if cmd_name not in self.commands_of:
            return None
        module, name, _said = self.commands_of[cmd_name]
        command = getattr(importlib.import_module(f"strongroom.cli.{module}"), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"strongroom.cli.{module}.{name} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands_of[name][2]) for name in self.list_commands(ctx)])
