"""Whether what is installed is what was built: every file below a folder of packages is somebody's, and as it was.

With a signed provenance and the bill of materials that it names, Strongroom's files are compared with the wheel's, and
the libraries' with the bill. Without them each package is compared with its own RECORD, which whoever changed a file
could have changed as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final, Protocol

from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, TamperedError, UnavailableError
from strongroom.intake.installation.bill import Bill, Component
from strongroom.intake.installation.compiled import is_compiled_from, source_of
from strongroom.intake.installation.provenance import Provenance
from strongroom.intake.installation.record import INSTALLERS_OWN, Record, project_of
from strongroom.intake.rules import shown

OURS: Final = "strongroom"
_IMPORTED: Final = frozenset({"py", "pyc", "so"})
_AT_START: Final = frozenset({"sitecustomize.py", "usercustomize.py"})


class Site(Protocol):
    """A folder of packages. Paths are relative, with `/`."""

    def files(self) -> Mapping[str, Digest | None]:
        """Return every file's digest; None for a link or something else that isn't a plain file."""
        ...

    def read(self, path: str) -> bytes:
        """Return a file's content, or nothing where it is too long or gone."""
        ...


class Wrong(StrEnum):
    """What is wrong with a path, or with a package."""

    CHANGED = "changed"
    MISSING = "missing"
    EXTRA = "extra"
    COMPILED = "compiled-from-something-else"
    RECORD = "record-differs"
    VERSION = "another-version"
    WHEEL = "another-wheel"
    """Of the right version, and for other machines than the bill's, as it says itself: nobody vouches for its files."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that isn't as it was built."""

    path: str
    wrong: Wrong


@dataclass(slots=True)
class Judgement:
    """What was compared, and what nobody vouches for."""

    version: str = ""
    files: int = 0
    """Of Strongroom's own."""
    compiled: int = 0
    libraries: int = 0
    """As the bill says."""
    unlisted: list[str] = field(default_factory=list)
    """Packages that the bill doesn't name."""
    at_start: list[str] = field(default_factory=list)
    """Their files that each Python runs when it starts."""
    findings: list[Finding] = field(default_factory=list)

    def check(self) -> None:
        """Refuse what isn't as it was built.

        :raises TamperedError: something isn't.
        """
        if self.findings:
            first = min(self.findings)
            raise TamperedError(
                f"{len(self.findings)} files or packages aren't as they were built, {shown(first.path)} first",
                reason="installation-differs",
                remedy="install again into a new environment; keep this one to look at",
            )


def judge_site(site: Site, cache_tag: str, signed: Provenance | None, bill: Bill | None) -> Judgement:
    """Compare a folder of packages with what was signed.

    :param cache_tag: how the Python that runs this names its compiled files, as `cpython-311`.
    :param bill: the one whose digest the provenance names.
    :raises UnavailableError: Strongroom isn't installed there from a wheel.
    """
    judging = _Judging(site, cache_tag)
    judging.own(signed)
    listed = {} if bill is None else {one.name: one for one in bill.components}
    for name in sorted(listed):
        judging.library(listed[name])
    judging.others(vouched=bill is not None)
    judging.rest()
    judging.found.findings.sort()
    return judging.found


class _Judging:
    def __init__(self, site: Site, cache_tag: str) -> None:
        self._site, self._cache_tag = site, cache_tag
        self._files = site.files()
        self._accounted: set[str] = set()
        self._vouched: set[str] = set()
        self.found = Judgement()
        folders = sorted({path.partition("/")[0] for path in self._files if "/" in path})
        self._packages: dict[str, list[tuple[str, str]]] = {}
        for folder in folders:
            project = project_of(folder)
            if project is not None:
                self._packages.setdefault(project[0], []).append((folder, project[1]))

    def own(self, signed: Provenance | None) -> None:
        """Compare Strongroom itself."""
        places = self._packages.pop(OURS, [])
        if not places or f"{OURS}/__init__.py" not in self._files:
            raise UnavailableError(
                "Strongroom isn't installed there from a wheel: a checkout, or an editable install, can't be verified",
                reason="not-installed",
                remedy="install a wheel that `make wheel` made, with `pip install --no-deps`",
            )
        wanted = places[0][0] if signed is None else signed.folder
        for folder, version in places:
            if folder != wanted:
                self._say(folder, Wrong.VERSION)
                continue
            self.found.version = version
            record = self._record(folder)
            files = record if signed is None else signed.installed
            for path in sorted(set(record.files.items()) ^ set(files.files.items())):
                self._say(path[0], Wrong.RECORD)
            self.found.files = len(files.files)
            self._account(folder, files, vouched=True)
        if wanted not in [folder for folder, _version in places]:
            self._say(wanted, Wrong.MISSING)

    def library(self, listed: Component) -> None:
        """Compare one library with the bill."""
        places = self._packages.pop(listed.name, [])
        if not places:
            self._say(listed.name, Wrong.MISSING)
        for folder, version in places:
            record = self._record(folder)
            if version != listed.version or len(places) > 1:
                self._say(folder, Wrong.VERSION)
            elif listed.record is None or self._tags(folder) != listed.tags:
                # A finding: whoever changes a library could write other tags beside it.
                self._say(f"{folder}/WHEEL", Wrong.WHEEL)
            elif not record.digest.matches(listed.record):
                self._say(f"{folder}/RECORD", Wrong.RECORD)
            else:
                self.found.libraries += 1
            self._account(folder, record, vouched=True)

    def others(self, *, vouched: bool) -> None:
        """Compare the rest with what each says of itself."""
        for name in sorted(self._packages):
            for folder, _version in self._packages[name]:
                before, record = set(self._accounted), self._record(folder)
                self._account(folder, record, vouched=False)
                for path in sorted(path for path in record.files if path not in before and self._intrudes(path)):
                    self._say(path, Wrong.EXTRA)
                if vouched:
                    self.found.unlisted.append(folder.removesuffix(".dist-info"))
                    self.found.at_start += sorted(path for path in self._accounted - before if _runs_at_start(path))

    def rest(self) -> None:
        """Find what is nobody's: a file beside the packages runs as readily as one of them."""
        for path in sorted(set(self._files) - self._accounted):
            source = source_of(path, self._cache_tag)
            if source is None or source[0] not in self._accounted or self._files[path] is None:
                self._say(path, Wrong.EXTRA)
            elif source[0] in self._vouched:
                self.found.compiled += 1
                if not is_compiled_from(self._site.read(source[0]), self._site.read(path), level=source[1]):
                    self._say(path, Wrong.COMPILED)

    def _intrudes(self, path: str) -> bool:
        # A package that nobody vouches for names any file as its own. One inside a package that somebody vouches for,
        # or that Python takes for it, runs as its part.
        above = [*_above(path)]
        return any(f"{folder}/__init__.py" in self._vouched for folder in above) or _imported_as(path) in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        modules = {_imported_as(path) for path in self._vouched}
        return frozenset({*modules, *(folder for path in self._vouched for folder in _above(path))} - {""})

    def _account(self, folder: str, record: Record, *, vouched: bool) -> None:
        for path, digest in record.files.items():
            self._accounted.add(path)
            if vouched:
                self._vouched.add(path)
            if path not in self._files:
                self._say(path, Wrong.MISSING)
                continue
            seen = self._files[path]
            if seen is None or not seen.matches(digest):
                self._say(path, Wrong.CHANGED)
        self._accounted.update(path for path in self._installers(folder) if self._files[path] is not None)

    def _installers(self, folder: str) -> Iterator[str]:
        return (f"{folder}/{name}" for name in INSTALLERS_OWN if f"{folder}/{name}" in self._files)

    def _record(self, folder: str) -> Record:
        try:
            if f"{folder}/RECORD" in self._files:
                return Record.parse(self._site.read(f"{folder}/RECORD"))
            self._say(f"{folder}/RECORD", Wrong.MISSING)
        except MalformedError:
            self._say(f"{folder}/RECORD", Wrong.RECORD)
        return Record({})

    def _tags(self, folder: str) -> tuple[str, ...]:
        return wheel_tags(self._site.read(f"{folder}/WHEEL"))

    def _say(self, path: str, wrong: Wrong) -> None:
        self.found.findings.append(Finding(path, wrong))


def wheel_tags(data: bytes) -> tuple[str, ...]:
    """Return for which machines a wheel was built, sorted: the tags in its WHEEL file."""
    lines = data.decode("utf-8", errors="replace").splitlines()
    return tuple(sorted(line.removeprefix("Tag:").strip() for line in lines if line.startswith("Tag:")))


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _imported_as(path: str) -> str:
    """Return what Python would import a file as, with `/`; nothing for one that it wouldn't."""
    folder, _, name = path.rpartition("/")
    module, _, ending = name.partition(".")
    if ending.rpartition(".")[2] not in _IMPORTED or "__pycache__" in path:
        return ""
    return folder if module == "__init__" else f"{folder}/{module}".removeprefix("/")


def _runs_at_start(path: str) -> bool:
    return "/" not in path and (path.endswith(".pth") or path in _AT_START)
