"""``strongroom``: the verbs, each loaded when it is used; here errors become words and exit codes, once for all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from strongroom import __version__
from strongroom.cli.lazy import LazyGroup
from strongroom.cli.output import refuse, system_error
from strongroom.core.errors import StrongroomError

# Verb -> (module, object, what the list of verbs says of it). The text stands here so that `--help` imports nothing.
VERBS: Final[dict[str, tuple[str, str, str]]] = {
    "adopt": ("documents", "adopt", "Take a signed document into force."),
    "approve": ("approve", "approve", "Show a request and sign an approval of it."),
    "assess": ("assess", "assess", "Say which RAND Security Level the deployment holds."),
    "attack": ("attack", "attack", "Carry out real attacks on a scratch copy."),
    "attestation": ("attestation", "attestation", "Judge evidence, and carry what makers publish for that."),
    "attribute": ("attribute", "attribute", "Tell whose marked copy a leaked file is."),
    "audit": ("audit", "audit", "Read, search and verify the transparency log."),
    "console": ("console", "console", "Serve the pages where people decide, act and look."),
    "copies": ("copies", "copies", "Keep the register of every copy of a model."),
    "custodian": ("custodian", "custodian", "Keep a share of the root key, and give it to a locked keeper."),
    "backup": ("backup", "backup", "Make, show and verify backups of everything but the keys."),
    "decoy": ("decoy", "decoy", "Plant files that nobody has a reason to open."),
    "deny": ("deny", "deny", "Show a request and sign a denial of it."),
    "detection": ("detection", "detection", "Build, check and try rules that find theft."),
    "doctor": ("doctor", "doctor", "Say which protections this host gives."),
    "drill": ("drill", "drill", "Practise a playbook against stand-ins."),
    "egress": ("egress", "egress", "See what may leave a model, and how long its theft takes."),
    "enclave": ("enclave", "enclave", "Enrol a platform, measure an image, run a model."),
    "explain": ("explain", "explain", "Say step by step how a request, grant or release is judged."),
    "export": ("export", "export", "Write a model in clear, under a grant to export."),
    "framework": ("framework", "framework", "Read RAND's levels, measures and attack vectors."),
    "freeze": ("freeze", "freeze", "Stop every release of a model, at once."),
    "grant": ("grant", "grant", "See who holds access, and end it."),
    "incident": ("incident", "incident", "See what happened, and answer it."),
    "init": ("init", "init", "Found a deployment in a new folder."),
    "inspect": ("inspect", "inspect", "Look at a sealed directory without any key."),
    "intake": ("intake", "intake", "Judge what a supplier delivered, before it is opened."),
    "key": ("key", "key", "See and rotate the keys that open models; enrol security keys."),
    "keyring": ("keyring", "keyring", "Say how models are opened that are loaded by path."),
    "login": ("login", "login", "Open a session: the identity provider, then your own key."),
    "logout": ("login", "logout", "Forget the session."),
    "measurements": ("measurements", "measurements", "Draft the reference values."),
    "notify": ("notify", "notify", "Tell receivers what happens, over signed webhooks."),
    "people": ("people", "people", "Make keys and wallets, and draft the roster."),
    "pin-anchor": ("pin_anchor", "pin_anchor", "Have the TPM say how new the keeper's disk must be."),
    "policy": ("policy", "policy", "Draft, try and compare the release policy."),
    "precaution": ("precaution", "precaution", "Take something away for a while, short of a freeze."),
    "recipient": ("recipient", "recipient", "Make identities that open models without a keeper."),
    "request": ("request", "request", "Ask for access to a model, and see what is asked."),
    "reseal": ("reseal", "reseal", "Seal a sealed directory anew, under another data key."),
    "responder": ("responder", "responder", "Guard decoys, and freeze models when one is opened."),
    "restore": ("restore", "restore", "Put a deployment back from a backup."),
    "resume": ("resume", "resume", "Allow releases of a frozen model again."),
    "rewrap": ("rewrap", "rewrap", "Add and remove recipients of a sealed model."),
    "root-key": ("root_key", "root_key", "See which key services hold the root key, and move it."),
    "scan": ("scan", "scan", "Find copies of weights by content, and say which are ours."),
    "seal": ("seal", "seal", "Seal a directory of weights as a model's next version."),
    "sign": ("documents", "sign", "Add a root signature to a document."),
    "status": ("status", "status", "Show what is in force, checked against your wallet."),
    "up": ("up", "up", "Start the deployment: log writer, keeper and broker."),
    "verify": ("verify", "verify", "Check a sealed directory against its publisher's signature."),
}


class Verbs(LazyGroup):
    """The verbs, and the one place where an error becomes words and an exit code."""

    commands_of = VERBS

    def main(self, args: Sequence[str] | None = None, *rest: Any, **named: Any) -> Any:
        """Run; every refusal ends here, as a paragraph (or JSON) and a stable exit code."""
        try:
            return super().main(args, *rest, **named)
        except StrongroomError as error:
            refuse(error, as_json=_wants_json(args))
        except OSError as error:
            refuse(system_error(error), as_json=_wants_json(args))


def _wants_json(args: Sequence[str] | None) -> bool:
    # The command's own options are gone by now; what stands behind `--` belongs to the program that it runs.
    given = list(sys.argv[1:] if args is None else args)
    return "--json" in given[: given.index("--") if "--" in given else None]


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="strongroom")
def main() -> None:
    """Keep AI model weights under RAND's security levels: sealed, released only to attested enclaves, all on record."""


if __name__ == "__main__":
    main()
