"""``strongroom key``: the keys that open models, as the keeper holds them, and people's security keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import click

from strongroom.cli.lazy import LazyGroup


class KeyCommands(LazyGroup):
    """Each verb in a file of its own, loaded when it is used."""

    commands_of: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "carry-out": (
            "key_orders",
            "carry_out_order",
            "Have the keeper carry out an order that enough root holders signed.",
        ),
        "certificate": ("key_destroy", "certificate", "Show what of a destroyed model's keys is gone, and what isn't."),
        "destroy": (
            "key_destroy",
            "destroy",
            "Destroy a model's keys for good, by its quorum, after a wait.",
        ),
        "enrol": ("security_keys", "enrol", "Make keys on two security keys, and an enrolment for two officers."),
        "hand-in": ("security_keys", "hand_in", "Hand in an enrolment that two officers signed."),
        "ls": ("key_ls", "list_keys", "Say how old the keys that open models are, and what is due."),
        "order": ("key_orders", "order", "Write an order to the keeper for the root holders to sign."),
        "package": ("key_package", "package", "Pack keyring and escrow into one file, for safes."),
        "package-show": ("key_package", "show_package", "Verify a key package, and show what is in it."),
        "rotate": ("key_rotate", "rotate", "Give a model a new key-encryption key, while releases go on."),
        "show": ("security_keys", "show_enrolment", "Check an enrolment of security keys."),
        "sign": ("security_keys", "sign", "Sign an enrolment as a vetting officer."),
        "verify-certificate": (
            "key_verify_certificate",
            "verify_destruction",
            "Verify a destruction certificate offline, also against the log.",
        ),
        "sign-order": ("key_orders", "sign_order", "Add your root signature to an order."),
    }


@click.command("key", cls=KeyCommands)
def key() -> None:
    """See and rotate the keys that open models; make and enrol security keys."""
