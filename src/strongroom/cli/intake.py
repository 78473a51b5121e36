"""``strongroom intake``: judge what a supplier delivered, take it in, and seal what was let in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import click

from strongroom.cli.lazy import LazyGroup


class IntakeCommands(LazyGroup):
    """The commands of the intake gate."""

    commands_of: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "check": ("intake_check", "check", "Judge a folder where it lies; keep nothing."),
        "convert": ("intake_convert", "convert", "Turn checkpoints of a delivery into safetensors."),
        "discard": ("intake_seal", "discard", "Give a delivery up: destroy its key."),
        "ls": ("intake_show", "list_deliveries", "List deliveries, and where each stands."),
        "receive": ("intake_receive", "receive", "Take a folder in: encrypted, then checked."),
        "review": ("intake_review", "review", "Say yes or no to a delivery."),
        "seal": ("intake_seal", "seal", "Seal a reviewed delivery as the model's next version."),
        "show": ("intake_show", "show_delivery", "Show a delivery: records, files, verdict."),
        "verify": ("intake_show", "verify", "Check a verdict's signature, and what it says."),
    }


@click.group("intake", cls=IntakeCommands)
def intake() -> None:
    """Judge what a supplier delivered, before anything opens it; take it in, and seal what people let in."""
