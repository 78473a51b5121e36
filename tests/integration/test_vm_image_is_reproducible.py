"""An image built twice is the same image, and what is computed here agrees with the programs of the kernel's makers."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from strongroom.cli.main import main as command_line
from strongroom.core.errors import UsageError
from strongroom.enclave.vm import layout
from strongroom.enclave.vm.adapters.build import DEFINITION, INITRAMFS, ROOT, build, read_artefacts, read_image
from strongroom.enclave.vm.archive import Entry, archive
from strongroom.enclave.vm.prediction import check
from strongroom.enclave.vm.verity import BLOCK, hash_tree
from support.vm_lab import recipe, require_tools

pytestmark = pytest.mark.integration
SALT = hashlib.sha256(b"salt").digest()


def code(folder: Path, *, mode: int = 0o644) -> Path:
    made = folder / "code"
    made.mkdir(parents=True)
    (made / "answer.py").write_text("print(42)\n")
    (made / "answer.py").chmod(mode)
    return made


@pytest.mark.heavy
def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    kernel = require_tools(boot=False)
    first = build(recipe(code(tmp_path / "a"), ("answer.py",), kernel), tmp_path / "one")
    # Other folder, other times, another umask's modes.
    second = build(recipe(code(tmp_path / "b", mode=0o600), ("answer.py",), kernel), tmp_path / "two")
    assert first == second
    assert first.digest == second.digest
    for name in (DEFINITION, INITRAMFS, ROOT):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    check(read_image(tmp_path / "one"), read_artefacts(tmp_path / "one"))
    assert first.command == (f"{layout.CODE}/answer.py",)
    with pytest.raises(FileExistsError):
        build(recipe(tmp_path / "a" / "code", ("answer.py",), kernel), tmp_path / "one")
    (tmp_path / "a" / "code" / "answer.py").write_text("print(43)\n")
    third = build(recipe(tmp_path / "a" / "code", ("answer.py",), kernel), tmp_path / "three")
    assert third.root.root_hash != first.root.root_hash
    assert (third.initramfs, third.kernel, third.sandbox) == (first.initramfs, first.kernel, first.sandbox)


def test_a_script_outside_the_code_folder_is_refused(tmp_path: Path) -> None:
    kernel = require_tools(boot=False)
    (tmp_path / "other.py").write_text("")
    for command in ((), ("missing.py",), ("../other.py",)):
        with pytest.raises(UsageError):
            build(recipe(tmp_path, command, kernel), tmp_path / "out")


@pytest.mark.parametrize("blocks", [2, 128, 129, 200, 17000])
def test_the_tree_is_veritysetups(tmp_path: Path, blocks: int) -> None:
    program = shutil.which("veritysetup", path="/usr/sbin:/sbin:/usr/bin")
    if program is None:
        pytest.skip("no veritysetup: apt-get install cryptsetup-bin")
    data = hashlib.shake_256(bytes([blocks % 256])).digest(blocks * BLOCK)
    disk = tmp_path / "disk"
    disk.write_bytes(data)
    options = [f"--salt={SALT.hex()}", "--uuid=00000000-0000-0000-0000-000000000000", f"--hash-offset={len(data)}"]
    told = subprocess.run(
        [program, "format", str(disk), str(disk), *options], capture_output=True, text=True, check=True
    ).stdout
    tree = hash_tree(data, salt=SALT, identifier=bytes(16))
    assert f"Root hash:      \t{tree.root.hex()}" in told
    assert disk.read_bytes() == data + tree.appended


def test_the_archive_is_cpios(tmp_path: Path) -> None:
    program = shutil.which("cpio")
    if program is None:
        pytest.skip("no cpio: apt-get install cpio")
    entries = [
        Entry.file("bin/init", b"#!/bin/sh\n", mode=0o755),
        Entry.folder("bin"),
        Entry.link("sh", "bin/init"),
        Entry.file("a", bytes(range(256)), mode=0o644),
    ]
    made = archive(entries)
    assert made == archive(reversed(entries))
    done = subprocess.run([program, "-id", "--quiet"], input=made, cwd=tmp_path, capture_output=True, check=True)
    assert done.stderr == b""
    assert (tmp_path / "a").read_bytes() == bytes(range(256))
    assert (tmp_path / "bin" / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "sh").readlink() == Path("bin/init")


@pytest.mark.heavy
def test_the_commands_build_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = require_tools(boot=False)
    made = code(tmp_path)
    words = ["enclave", "image", "build", "--image", "answers", "--out", str(tmp_path / "image"), "--code", str(made)]
    words += ["--kernel", str(kernel[0]), "--memory", "768", "--room", "64", "--json", "--", "answer.py", "--once"]
    command_line.main(words, standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    image = read_image(tmp_path / "image")
    assert told["digest"] == str(image.digest)
    assert gzip.decompress((tmp_path / "image" / INITRAMFS).read_bytes())[:6] == b"070701"
    command_line.main(["enclave", "image", "show", str(tmp_path / "image")], standalone_mode=False)
    assert image.root.root_hash in capsys.readouterr().out
    command_line.main(["enclave", "image", "show", str(tmp_path / "image"), "--on", "tdx"], standalone_mode=False)
    assert "tdx-guest" in capsys.readouterr().out
