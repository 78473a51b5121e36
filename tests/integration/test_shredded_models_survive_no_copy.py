"""The shred drill: after a model's keys are destroyed, whatever of last week is put back, nothing opens it.

The real log writer and keeper; the root key under a passphrase, in a SoftHSM2 token, and in a transit engine.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from simulators.transit_engine import TransitEngine, TransitKey
from strongroom.audit.adapters.client import BlockingLogClient
from strongroom.cli.main import main
from strongroom.core.errors import ExitCode, StrongroomError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keeper.shredding import Shredded
from strongroom.keys.hierarchy import Tree
from strongroom.keys.provider import Finality
from strongroom.keys.split_root import open_root
from strongroom.keys.wiring import key_provider
from strongroom.release.destruction_parts import (
    Because,
    Medium,
)
from support.deployment import MODEL, PASSPHRASE, ProcessRefusedError
from support.key_labs import PIN, TOKEN_TEXT, private, token_key, token_uri
from support.shred_lab import ShredLab
from support.shredding import OTHER

pytestmark = pytest.mark.integration


@contextmanager
def token(folder: Path) -> Iterator[str]:
    """A key of a SoftHSM2 token that is this deployment's alone."""
    private(folder / "pin", PIN)
    token_key(folder.name)
    yield str(token_uri(folder, folder.name, "&sole=yes"))


@contextmanager
def transit(folder: Path) -> Iterator[str]:
    """A key of a transit engine that is this deployment's alone."""
    file = private(folder / "token", TOKEN_TEXT)
    with TransitEngine(TOKEN_TEXT) as engine:
        engine.keys["root"] = TransitKey()
        yield f"transit:{engine.address}/transit/root?token-file={file}&sole=yes"


SERVICES: dict[str, Callable[[Path], AbstractContextManager[str]]] = {"token": token, "transit": transit}


def old_root(lab: ShredLab, copy: str) -> bytes:
    """Open the root key of a copy of the keeper's folder, with whatever key services are there today."""
    keyring = load_keyring(lab.folder / copy / "keeper")
    with (
        SecretBytes(bytearray(PASSPHRASE)) as passphrase,
        open_root(
            lab.deployment.genesis.digest,
            keyring.root(Tree.ESCROWED),
            lambda uri: key_provider(uri, passphrase=passphrase),
        ) as root,
    ):
        return bytes(root.reveal(TOKEN))


def verified_by_command(lab: ShredLab) -> None:
    """Verify the certificate against the published log, and against one that was cut."""
    with BlockingLogClient(lab.deployment.home / "run" / "log.sock") as client:
        client.flush()
    file, home = lab.folder / "gone.json", lab.deployment.home
    file.write_bytes(lab.signed().to_bytes())
    asked = ["key", "verify-certificate", str(file), "--genesis", str(home / "genesis.json"), "--log"]
    done = CliRunner().invoke(main, [*asked, str(home / "log" / "public")])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("verified by the genesis and against the log")
    empty = lab.folder / "no-log"
    empty.mkdir()
    assert CliRunner().invoke(main, [*asked, str(empty)]).exit_code == ExitCode.NOT_FOUND


@pytest.mark.parametrize("kind", ["token", pytest.param("transit", marks=pytest.mark.heavy)])
def test_a_key_service_that_destroyed_its_old_version_ends_every_older_copy(kind: str, tmp_path: Path) -> None:
    with SERVICES[kind](tmp_path) as service:
        lab = ShredLab.made(tmp_path, service)
        with lab.deployment:
            others = lab.opens(OTHER)
            assert len(lab.opens(MODEL)) == 32
            lab.copy("last-week", "keeper", "log")
            assert len(old_root(lab, "last-week")) == 32
            lab.destroy()
            told = lab.certificate()
            assert [(one.provider, one.finality) for one in told.providers] == [(service, Finality.DONE)]
            assert Medium.PROVIDER not in {copy.medium for copy in told.not_reachable}
            verified_by_command(lab)
            # Last week's database is what this class of tests keeps all along: rows of the first day.
            assert lab.opens(OTHER) == others
            with pytest.raises(StrongroomError, match="destroyed"):
                lab.opens(MODEL)
            lab.stop()
            lab.restart()
            assert lab.opens(OTHER) == others
            lab.stop()
            lab.copy("today", "keeper", "log")
            # Last week's keeper, and then last week's whole disk, which nothing on it can tell from last week.
            for folders in (("keeper",), ("keeper", "log")):
                lab.put_back("last-week", *folders)
                lab.restart(("log",))
                with pytest.raises(ProcessRefusedError, match="key-service"):
                    lab.restart(("keeper",))
                lab.stop()
            with pytest.raises(StrongroomError):
                old_root(lab, "last-week")
            lab.put_back("today", "keeper", "log")
            lab.restart()
            assert lab.opens(OTHER) == others


@pytest.mark.heavy
def test_a_passphrase_can_t_be_forgotten_and_the_certificate_says_so(tmp_path: Path) -> None:
    lab = ShredLab.made(tmp_path)
    with lab.deployment:
        others = lab.opens(OTHER)
        lab.copy("last-week", "keeper")
        lab.destroy()
        told = lab.certificate()
        assert not told.providers
        assert (Medium.PROVIDER, Because.NO_VERSIONS, "local:") in {
            (copy.medium, copy.because, copy.name) for copy in told.not_reachable
        }
        assert lab.opens(OTHER) == others
        lab.stop()
        lab.copy("today", "keeper")
        lab.put_back("last-week", "keeper")
        lab.restart(("log",))
        # This keeper refuses. Who knows the passphrase and has the copy needs no keeper: that is what the list says.
        with pytest.raises(ProcessRefusedError, match="keyring-rolled-back"):
            lab.restart(("keeper",))
        assert len(old_root(lab, "last-week")) == 32
        lab.put_back("today", "keeper")
        lab.restart(("keeper",))
        assert lab.opens(OTHER) == others
        with pytest.raises(StrongroomError, match="destroyed"):
            lab.opens(MODEL)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "places",
    [
        [Shredded.RECORDED.value, Shredded.REMOVED.value, Shredded.EPOCH_GONE.value, Shredded.RENEWED.value],
        ["rotation-held", "rotation-removed", Shredded.ROOT_GONE.value],
        [Shredded.SERVICES_ASKED.value, Shredded.SIGNED.value, Shredded.CERTIFIED.value],
    ],
)
def test_killed_for_real_at_each_step_it_goes_on_at_the_next_start(places: list[str], tmp_path: Path) -> None:
    with transit(tmp_path) as service:
        lab = ShredLab.made(tmp_path, service, keeper_module="simulators.shredding_keeper")
        marker = lab.deployment.home / "keeper" / "crash-at"
        with lab.deployment:
            others = lab.opens(OTHER)
            marker.write_text(places[0])
            lab.destroy()
            for place, following in zip(places, [*places[1:], ""], strict=True):
                if "keeper" in lab.deployment.processes:
                    assert lab.deployment.processes["keeper"].wait(20) == -signal.SIGKILL, place
                    lab.deployment.kill("keeper")
                assert not marker.exists()
                if following:
                    marker.write_text(following)
                # It goes on before it serves anybody: perhaps it dies again before it said that it does.
                with contextlib.suppress(ProcessRefusedError):
                    lab.restart(("keeper",))
            told = lab.certificate()
            assert [one.finality for one in told.providers] == [Finality.DONE]
            assert lab.opens(OTHER) == others
            with pytest.raises(StrongroomError, match="destroyed"):
                lab.opens(MODEL)
