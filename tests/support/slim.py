"""An installation of Strongroom and nothing else, for tests that measure the one they run in.

A launch measures every package beside it. A developer's environment holds torch and more, gigabytes that each launch of
a command that needs none of it would read again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def slim_installation(folder: Path) -> Path:
    """Make a virtual environment of what the package asks for without its extras; returns its ``strongroom``.

    The packages are those installed here, file by file, so that what is measured there is what would be here.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    for name in _closure("strongroom"):
        _lay_down(distribution(name), packages)
    program = folder / "bin" / "strongroom"
    program.write_text(f"#!{folder}/bin/python\nfrom strongroom.cli.main import main\n\nmain()\n")
    program.chmod(0o755)
    return program


def _closure(root: str) -> set[str]:
    """Return the names of a distribution and all that it needs, where they are installed here."""
    found, left = set[str](), [root]
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        try:
            asked = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # asked for on another platform only
        found.add(name)
        # An extra's requirement has `extra ==` in its marker. One too many does no harm, but nothing heavy comes so.
        left += [match[0] for text in asked if "extra ==" not in text and (match := _NAME.match(text))]
    return found


def _lay_down(made: Distribution, packages: Path) -> None:
    for file in made.files or []:
        source = Path(str(made.locate_file(file)))
        if ".." in file.parts or not source.is_file():
            continue  # a program of `bin`, or bytecode that isn't there
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)  # with its time, for which its bytecode was made
