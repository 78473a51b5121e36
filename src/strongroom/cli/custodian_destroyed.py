"""``strongroom custodian destroyed``: say that the share of an old root key is gone."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session, yes_option
from strongroom.core.canonical import Json
from strongroom.core.envelope import sign
from strongroom.release.precautions import PrecautionKind
from strongroom.release.share_statements import SHARE_DESTROYED_TYPE, ShareDestroyed
from strongroom.release.standing_precautions import require_shares_free
from strongroom.release.statements import StatementKind


@click.command("destroyed")
@click.argument("generation", type=click.IntRange(min=1))
@as_wallet
@passphrase_option
@yes_option
@json_option
def destroyed(generation: int, wallet: Path, passphrase_fd: int | None, *, yes: bool, as_json: bool) -> None:
    """Have it recorded that you destroyed your share of GENERATION of the root key: every file and every paper of it.

    Only of a generation that isn't in force any more, and while no hold stands: it opens old key packages. Destruction
    certificates quote it from then on.
    """
    with session(wallet, passphrase_fd) as person:
        trust, who = person.refresh(), person.wallet.identity.person
        require_shares_free(next((one for one in trust.precautions if one.kind is PrecautionKind.HOLD), None))
        if not yes:
            click.confirm(f"Sign as `{who}` that no copy of that share is left?", abort=True, err=True)
        said = ShareDestroyed(genesis=trust.genesis.digest, custodian=who, generation=generation)
        statement = sign(SHARE_DESTROYED_TYPE, said.to_bytes(), person.wallet.signer())
        recorded = person.api.hand_in(StatementKind.SHARE_DESTROYED, statement)
    data: Json = {"custodian": who, "generation": generation, "log_index": recorded.index}
    text = f"the share of {who}, generation {generation}, is signed to be destroyed: log entry {recorded.index}"
    show(data, text, as_json=as_json)
