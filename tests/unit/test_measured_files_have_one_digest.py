from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.attestation.adapters.measure_files import MeasureError, measure_file, measure_trees
from strongroom.attestation.measurement import MeasuredName, command_digest, launch_measurements
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "package" / "deep").mkdir(parents=True)
    (root / "package" / "__init__.py").write_bytes(b"")
    (root / "package" / "deep" / "code.py").write_bytes(b"print(1)\n")
    (root / "tool").write_bytes(b"#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    (root / "link.py").symlink_to("package/deep/code.py")
    return root


def test_a_copy_elsewhere_with_other_times_has_the_same_digest(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    for path in copy.rglob("*.py"):
        if not path.is_symlink():
            os.utime(path, (1, 1))
    assert measure_trees({"tree": copy}) == measure_trees({"tree": tree})


def rewrite(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda copy: (copy / "package/deep/code.py").write_bytes(b"print(2)\n"),
    "name": lambda copy: (copy / "package/__init__.py").rename(copy / "package/_init__.py"),
    "place": lambda copy: (copy / "tool").rename(copy / "package/tool"),
    "not executable": lambda copy: (copy / "tool").chmod(0o644),
    "added": lambda copy: (copy / "sitecustomize.py").write_bytes(b""),
    "removed": lambda copy: (copy / "package/__init__.py").unlink(),
    "empty folder": lambda copy: (copy / "namespace").mkdir(),
    "link to another": lambda copy: rewrite(copy / "link.py", "package/__init__.py"),
    "link to a copy of its file": lambda copy: (
        shutil.copy(copy / "package/deep/code.py", copy / "linked.py") and (copy / "linked.py").rename(copy / "link.py")
    ),
}


def test_every_change_changes_the_digest(tree: Path, tmp_path: Path) -> None:
    digests = {measure_trees({"tree": tree})}
    for name, change in CHANGES.items():
        copy = tmp_path / name
        shutil.copytree(tree, copy, symlinks=True)
        change(copy)
        digests.add(measure_trees({"tree": copy}))
    assert len(digests) == len(CHANGES) + 1


def test_bytecode_folders_are_left_out(tree: Path) -> None:
    before = measure_trees({"tree": tree})
    (tree / "package" / "__pycache__").mkdir()
    (tree / "package" / "__pycache__" / "code.cpython-311.pyc").write_bytes(b"x")
    assert measure_trees({"tree": tree}) == before
    (tree / "package" / "code.pyc").write_bytes(b"x")
    assert measure_trees({"tree": tree}) != before


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "package/../../outside"])
def test_a_link_out_of_the_tree_is_refused(tree: Path, target: str) -> None:
    (tree.parent / "outside").write_bytes(b"")
    (tree / "escape").symlink_to(target)
    with pytest.raises(MeasureError, match="leads out"):
        measure_trees({"tree": tree})


def test_special_files_and_missing_trees_are_refused(tree: Path) -> None:
    with pytest.raises(MeasureError):
        measure_trees({"tree": tree / "tool"})
    with pytest.raises(MeasureError):
        measure_trees({"tree": tree / "absent"})
    with pytest.raises(MeasureError):
        measure_file(tree / "absent")
    with pytest.raises(MeasureError):
        measure_file(tree)
    os.mkfifo(tree / "pipe")
    with pytest.raises(MeasureError, match="isn't a file"):
        measure_trees({"tree": tree})


def test_labels_tell_trees_apart(tree: Path) -> None:
    assert measure_trees({"a": tree}) != measure_trees({"b": tree})
    assert measure_trees({"a": tree, "b": tree / "package"}) == measure_trees({"b": tree / "package", "a": tree})
    with pytest.raises(MeasureError):
        measure_trees({"a/b": tree})


def test_a_file_is_followed_to_its_contents(tree: Path) -> None:
    assert measure_file(tree / "link.py") == Digest.of(b"print(1)\n")


def test_arguments_and_environment_are_both_measured() -> None:
    base = command_digest(["python", "-m", "agent"], {"LANG": "C"})
    assert base == command_digest(("python", "-m", "agent"), {"LANG": "C"})
    others = [
        command_digest(["python", "-m agent"], {"LANG": "C"}),
        command_digest(["python", "-m", "agent"], {"LANG": "C", "PYTHONPATH": "/"}),
        command_digest(["python", "-m", "agent"], {}),
    ]
    assert len({base, *others}) == 4
    with pytest.raises(MalformedError):
        command_digest([], {})


def test_a_launch_lists_its_measurements_in_order() -> None:
    one = Digest.of(b"")
    launch = launch_measurements(interpreter=one, files=one, command=one, sandbox=one, genesis=one)
    assert [item.name for item in launch] == list(MeasuredName)
    assert len({item.extension for item in launch}) == 5
