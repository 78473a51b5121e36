"""A wheel is built the same twice or not at all; what it installed is compared with what was signed, file by file.

A small project of the same name, in a repository of its own, is built by the real tool and installed by the real
installer beside two real libraries. Each test damages a copy of that.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import py_compile
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from strongroom.cli.main import main
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core import envelope
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.ids import PersonId
from strongroom.core.signature import Ed25519Signer
from strongroom.intake.installation.bill import Bill
from strongroom.intake.installation.provenance import Provenance
from strongroom.intake.statements import PAYLOAD_TYPE

CHECKOUT = Path(__file__).resolve().parents[2]
LIBRARIES = ("click", "rfc8785")
PROJECT = """
[build-system]
requires = ["setuptools>=80"]
build-backend = "setuptools.build_meta"
[project]
name = "strongroom"
version = "9.1.2"
[tool.setuptools.packages.find]
where = ["src"]
"""
WRITES_THE_TIME = """
import pathlib, time, setuptools
pathlib.Path("src/strongroom/built.py").write_text(f"AT = {time.time_ns()}\\n")
setuptools.setup()
"""


@dataclass(frozen=True)
class Made:
    folder: Path
    wallet: WalletFolder
    dist: Path
    site: Path

    @property
    def provenance(self) -> Path:
        return self.dist / "strongroom-9.1.2.provenance.json"

    @property
    def bill(self) -> Path:
        return self.dist / "strongroom-9.1.2.cdx.json"

    def in_site(self, site: Path, *more: str) -> Result:
        key = str(self.wallet.identity.require_publishing_key())
        given = ("--provenance", str(self.provenance), "--key", key, "--sbom", str(self.bill))
        return CliRunner().invoke(main, ["doctor", "--self", "--site", str(site), *given, *more])


def git(folder: Path, *words: str) -> None:
    who = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t"}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, env={**os.environ, **who, **alone})


def build(source: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, str(CHECKOUT / "tools/wheel.py"), "--source", str(source), "--out", str(out))
    return subprocess.run([*command, *more], check=False, capture_output=True, text=True)


def repository(folder: Path) -> None:
    pinned = (CHECKOUT / "requirements/runtime.txt").read_text(encoding="utf-8").replace("\\\n", "")
    kept = [line for line in pinned.splitlines() if line.split("==")[0] in LIBRARIES]
    files = {
        "pyproject.toml": PROJECT,
        "requirements/runtime.txt": "\n".join(kept) + "\n",
        "src/strongroom/__init__.py": '"""A package."""\n',
        "src/strongroom/judge.py": "def allowed(name):\n    return name in {'dana', 'eve'}\n",
    }
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "one")


def install(wheel: Path, environment: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    pip = (sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install", "--quiet")
    subprocess.run([*pip, "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    for name in LIBRARIES:
        library = importlib.metadata.distribution(name)
        for file in library.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(library.locate_file(file)), site / file)
    return site


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("built")
    repository(folder / "source")
    WalletFolder.create(folder / "wallet", PersonId("dana"), os.urandom, passphrase=None)
    done = build(folder / "source", folder / "dist", "--wallet", str(folder / "wallet"))
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    site = install(wheel, folder / "environment")
    wallet = WalletFolder(folder / "wallet", passphrase=lambda: pytest.fail("no passphrase was set"))
    return Made(folder, wallet, folder / "dist", site)


@pytest.fixture
def site(made: Made, tmp_path: Path) -> Path:
    return shutil.copytree(made.site, tmp_path / "site-packages", symlinks=True)


def found(result: Result) -> set[tuple[str, str]]:
    return {(one["path"], one["wrong"]) for one in json.loads(result.stdout)["findings"]}


def test_what_nobody_touched_is_as_it_was_built(made: Made, site: Path) -> None:
    result = made.in_site(site, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["as_built"], told["findings"]) == (0, True, [])
    assert (told["libraries"], told["unlisted"]) == (2, [])
    assert told["compiled"] == 2  # the installer's own


@pytest.mark.heavy  # the tool itself builds twice; here the bill and the names, too
def test_the_same_commit_gives_the_same_wheel_and_bill_again(made: Made, tmp_path: Path) -> None:
    again = build(made.folder / "source", tmp_path)
    assert again.returncode == 0, again.stderr
    assert "nobody vouches" in again.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in made.dist.iterdir()} - {made.provenance.name}
    assert all((tmp_path / name).read_bytes() == (made.dist / name).read_bytes() for name in names)


def test_two_builds_that_differ_are_no_wheel_and_the_file_is_named(tmp_path: Path) -> None:
    repository(tmp_path / "source")
    (tmp_path / "source/setup.py").write_text(WRITES_THE_TIME, encoding="utf-8")
    git(tmp_path / "source", "add", "--all")
    git(tmp_path / "source", "commit", "--quiet", "--message", "two")
    done = build(tmp_path / "source", tmp_path / "dist")
    assert done.returncode == 1
    assert "not-reproducible" in done.stderr
    assert "strongroom/built.py" in done.stderr
    assert not (tmp_path / "dist").exists()


def append(site: Path, name: str) -> None:
    with (site / name).open("a", encoding="utf-8") as file:
        file.write("# more\n")


def swap_compiled(site: Path) -> None:
    """Leave the source alone and its date: Python runs the compiled file all the same."""
    judge = site / "strongroom/judge.py"
    other = site.parent / "judge.py"
    other.write_text("def allowed(name):\n    return name in {'dana', 'eva'}\n", encoding="utf-8")
    shutil.copystat(judge, other)
    tag = sys.implementation.cache_tag
    py_compile.compile(str(other), cfile=str(site / f"strongroom/__pycache__/judge.{tag}.pyc"))


def link_outside(site: Path) -> None:
    other = site.parent / "judge.py"
    shutil.move(site / "strongroom/judge.py", other)
    (site / "strongroom/judge.py").symlink_to(other)


def change_with_record(site: Path, package: str = "rfc8785", folder: str = "rfc8785-0.1.4.dist-info") -> None:
    append(site, f"{package}/__init__.py")
    record = site / folder / "RECORD"
    rows = record.read_text(encoding="utf-8").splitlines()
    digest = urlsafe_b64encode(Digest.of((site / package / "__init__.py").read_bytes()).value).rstrip(b"=").decode()
    changed = [
        f"{row.split(',')[0]},sha256={digest}," if row.startswith(f"{package}/__init__.py") else row for row in rows
    ]
    record.write_text("\n".join(changed) + "\n", encoding="utf-8")


def claim_another_machine(site: Path) -> None:
    """Change a library, its RECORD, and for which machines it says it is."""
    change_with_record(site)
    wheel = site / "rfc8785-0.1.4.dist-info/WHEEL"
    wheel.write_text(wheel.read_text().replace("Tag: py3-none-any", "Tag: py3-none-linux_riscv64"))


def bring(site: Path, path: str) -> None:
    """Install a package that brings an empty file, and says so."""
    (site / "extra-1.0.dist-info").mkdir()
    (site / path).parent.mkdir(exist_ok=True)
    (site / path).write_bytes(b"")
    empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    rows = f"{path},{empty},0\nextra-1.0.dist-info/RECORD,,\n"
    (site / "extra-1.0.dist-info/RECORD").write_text(rows)


TAG = sys.implementation.cache_tag
DAMAGE: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "a changed module": (
        lambda site: append(site, "strongroom/__init__.py"),
        {("strongroom/__init__.py", "changed")},
    ),
    "a compiled file of other code": (
        swap_compiled,
        {(f"strongroom/__pycache__/judge.{TAG}.pyc", "compiled-from-something-else")},
    ),
    "a module that is gone": (
        lambda site: (site / "strongroom/judge.py").unlink(),
        {("strongroom/judge.py", "missing")},
    ),
    "a module that is new": (
        lambda site: (site / "strongroom/new.py").write_text(""),
        {("strongroom/new.py", "extra")},
    ),
    "compiled code without a source": (
        lambda site: (site / "strongroom/judge.pyc").write_bytes(b""),
        {("strongroom/judge.pyc", "extra")},
    ),
    "compiled code for another Python": (
        lambda site: (site / "strongroom/__pycache__/judge.cpython-399.pyc").write_bytes(b""),
        {("strongroom/__pycache__/judge.cpython-399.pyc", "extra")},
    ),
    "code that runs whenever Python starts": (
        lambda site: (site / "zz.pth").write_text("import os"),
        {("zz.pth", "extra")},
    ),
    "a library that is shadowed by native code": (
        lambda site: (site / "click/core.abi3.so").write_bytes(b""),
        {("click/core.abi3.so", "extra")},
    ),
    "a changed library": (
        lambda site: append(site, "rfc8785/__init__.py"),
        {("rfc8785/__init__.py", "changed")},
    ),
    "a changed library with a changed RECORD": (
        change_with_record,
        {("rfc8785-0.1.4.dist-info/RECORD", "record-differs")},
    ),
    "a library that is gone": (
        lambda site: (site / "rfc8785-0.1.4.dist-info").rename(site / "elsewhere"),
        {("rfc8785", "missing")},
    ),
    "another version of a library": (
        lambda site: (site / "rfc8785-0.1.4.dist-info").rename(site / "rfc8785-0.1.3.dist-info"),
        {("rfc8785-0.1.3.dist-info", "another-version")},
    ),
    "a changed library that says it is for another machine": (
        claim_another_machine,
        {("rfc8785-0.1.4.dist-info/WHEEL", "another-wheel")},
    ),
    "native code in Strongroom's folder that a package of its own brings": (
        lambda site: bring(site, "strongroom/judge.abi3.so"),
        {("strongroom/judge.abi3.so", "extra")},
    ),
    "a package that Python takes for Strongroom's module": (
        lambda site: bring(site, "strongroom/judge/__init__.py"),
        {("strongroom/judge/__init__.py", "extra")},
    ),
    "a module that Python could take for a library": (
        lambda site: bring(site, "click.py"),
        {("click.py", "extra")},
    ),
    "a second Strongroom": (
        lambda site: shutil.copytree(site / "strongroom-9.1.2.dist-info", site / "strongroom-9.9.9.dist-info"),
        {("strongroom-9.9.9.dist-info", "another-version")},
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_was_damaged_is_named(made: Made, site: Path, what: str) -> None:
    damage, wanted = DAMAGE[what]
    damage(site)
    result = made.in_site(site, "--json")
    assert result.exit_code == 6
    assert wanted <= found(result)


def test_a_link_in_place_of_a_file_is_a_change(made: Made, site: Path) -> None:
    link_outside(site)
    assert ("strongroom/judge.py", "changed") in found(made.in_site(site, "--json"))


def test_who_changes_the_record_too_is_found_by_the_provenance_alone(made: Made, site: Path) -> None:
    change_with_record(site, "strongroom", "strongroom-9.1.2.dist-info")
    assert CliRunner().invoke(main, ["doctor", "--self", "--site", str(site)]).exit_code == 0
    named = found(made.in_site(site, "--json"))
    assert {("strongroom/__init__.py", "changed"), ("strongroom/__init__.py", "record-differs")} <= named


def test_without_a_provenance_the_answer_says_what_it_is_worth(made: Made, site: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", "--self", "--site", str(site)])
    assert result.exit_code == 0
    assert "whoever changed a file could change too" in result.stdout
    append(site, "strongroom/judge.py")
    assert CliRunner().invoke(main, ["doctor", "--self", "--site", str(site)]).exit_code == 6
    assert made.in_site(made.site).exit_code == 0


def test_a_package_that_the_bill_does_not_name_is_told_with_what_it_runs(made: Made, site: Path) -> None:
    folder = site / "extra-1.0.dist-info"
    folder.mkdir()
    (site / "extra.pth").write_bytes(b"")
    empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    (folder / "RECORD").write_text(f"extra.pth,{empty},0\nextra-1.0.dist-info/RECORD,,\n")
    result = made.in_site(site)
    assert result.exit_code == 0
    assert "not in the bill of materials: extra-1.0" in result.stdout
    assert "run whenever Python starts: extra.pth" in result.stdout


@pytest.mark.parametrize("signers", [(), (Ed25519Signer.from_seed(bytes(32)),)], ids=["nobody", "a stranger"])
def test_a_provenance_that_its_signer_did_not_sign_is_refused(
    made: Made, site: Path, tmp_path: Path, signers: tuple[Ed25519Signer, ...]
) -> None:
    payload = Envelope.parse(made.provenance.read_bytes()).payload
    (tmp_path / "forged").write_bytes(envelope.sign(PAYLOAD_TYPE, payload, *signers).to_bytes())
    forged = replace(made, dist=tmp_path)
    (tmp_path / "forged").rename(forged.provenance)
    shutil.copy(made.bill, forged.bill)
    result = forged.in_site(site)
    assert result.exit_code == 6
    assert "bad-signature" in result.stderr


def test_a_changed_provenance_and_another_bill_are_refused(made: Made, site: Path, tmp_path: Path) -> None:
    forged = replace(made, dist=tmp_path)
    signed = Envelope.parse(made.provenance.read_bytes())
    said = Provenance.parse(signed.payload)
    other = replace(said, revision="0" * 40).to_bytes()
    forged.provenance.write_bytes(Envelope(signed.kind, other, signed.signatures).to_bytes())
    shutil.copy(made.bill, forged.bill)
    assert "bad-signature" in forged.in_site(site).stderr
    shutil.copy(made.provenance, forged.provenance)
    bill = Bill.parse(made.bill.read_bytes())
    forged.bill.write_bytes(replace(bill, components=bill.components[:1]).to_bytes())
    assert "other-bill" in forged.in_site(site).stderr


def test_a_checkout_says_that_it_cannot_be_verified() -> None:
    result = CliRunner().invoke(main, ["doctor", "--self", "--site", str(CHECKOUT / "src")])
    assert result.exit_code == 7
    assert "not-installed" in result.stderr


def test_files_to_compare_with_belong_together(made: Made, site: Path) -> None:
    alone = ["doctor", "--self", "--site", str(site)]
    assert CliRunner().invoke(main, [*alone, "--provenance", str(made.provenance)]).exit_code == 2
    assert CliRunner().invoke(main, [*alone, "--sbom", str(made.bill)]).exit_code == 2
    assert CliRunner().invoke(main, ["doctor", "--site", str(site)]).exit_code == 2


def test_a_tool_of_others_verifies_the_provenance(made: Made) -> None:
    dsse = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    data = json.loads(made.provenance.read_bytes())
    known = made.wallet.identity.key
    key = signer.SSlibKey(known.key_id, "ed25519", "ed25519", {"public": known.raw.hex()})
    opened = dsse.Envelope.from_dict(data)
    assert list(opened.verify([key], 1)) == [known.key_id]
    subjects = {one["name"]: one["digest"]["sha256"] for one in json.loads(opened.payload)["subject"]}
    assert subjects == {
        path.name: Digest.of(path.read_bytes()).value.hex() for path in made.dist.iterdir() if path != made.provenance
    }


@pytest.mark.heavy  # compiles and compares all of the project's own files
def test_this_very_project_is_built_the_same_twice_and_verified(made: Made, tmp_path: Path) -> None:
    if not (CHECKOUT / ".git").exists():
        pytest.skip("not a git checkout: there is no commit to build")
    done = build(CHECKOUT, tmp_path / "dist", "--wallet", str(made.wallet.path))
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (provenance,) = (tmp_path / "dist").glob("*.provenance.json")
    site = install(wheel, tmp_path / "environment")
    key = str(made.wallet.identity.require_publishing_key())
    given = ["doctor", "--self", "--site", str(site), "--provenance", str(provenance), "--key", key, "--json"]
    told = json.loads(CliRunner().invoke(main, given).stdout)
    assert (told["as_built"], told["findings"]) == (True, [])
    assert told["files"] > 900
