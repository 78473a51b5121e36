"""What an NVIDIA manifest (RIM) says on its cover, read without the XML libraries that checking its signature needs.

Nothing here is believed: the name only says where in a bundle the manifest stands. A manifest states no id of its own;
a driver's follows from the product and version that it states, others are named by whoever fetched them, and must end
in the version that they state.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

# Its dangers come out of a document type, and that is refused before any entity is declared.
from xml.parsers import expat

from strongroom.attestation.chain import MAX_DEPTH
from strongroom.attestation.nvidia.manifest import MAX_MANIFEST
from strongroom.core.errors import MalformedError

MAX_ELEMENTS: Final = 4096
_SWID: Final = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_DSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
_ID: Final = re.compile(r"NV_[A-Z0-9]+(?:_[A-Za-z0-9.-]+){2,8}")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,63}")
_PRODUCT: Final = re.compile(r"[A-Z0-9]{2,16}")
_HOPPER: Final = "GH100"
_DRIVER: Final = re.compile(r"[0-9]{3,4}(?:\.[0-9]{1,4}){1,3}")
_IN_A_FILE_NAME: Final = re.compile(r"NV_(?:GPU|SWITCH|CPU)_[A-Za-z0-9_.-]*[A-Za-z0-9]")
_PROJECT_IN_A_FILE_NAME: Final = re.compile(r"[0-9]{4}_[0-9]{4}_[0-9]{3}_[0-9A-F]{10}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestHeading:
    """The cover of a manifest."""

    product: str
    """The architecture's chip: ``GH100``."""
    version: str
    """The driver's, VBIOS's or BIOS's version: ``96.00.5E.00.01``."""
    revision: int
    """SWID's ``tagVersion``: which issue of this manifest it is."""
    chain: tuple[bytes, ...]
    """The certificates that it brings, in DER: the one that is said to have signed it, then those above."""

    @property
    def signer(self) -> bytes:
        """The certificate that is said to have signed it."""
        return self.chain[0]

    @classmethod
    def read(cls, data: bytes) -> ManifestHeading:
        """Read a manifest's cover.

        :raises MalformedError: too long, not well-formed, with a document type, or without one of these.
        """
        if len(data) > MAX_MANIFEST:
            raise MalformedError(f"a reference manifest has {len(data)} bytes; at most {MAX_MANIFEST} are read")
        cover = _Cover()
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = cover.start
        parser.EndElementHandler = cover.end
        parser.CharacterDataHandler = cover.text
        parser.StartDoctypeDeclHandler = _no_doctype
        try:
            parser.Parse(data, True)  # noqa: FBT003 - expat takes this argument by position alone
        except (expat.ExpatError, UnicodeError, ValueError, LookupError):
            raise MalformedError("a reference manifest isn't well-formed XML") from None
        return cover.heading()


class _Cover:
    """Listens to the parser."""

    def __init__(self) -> None:
        self._elements = 0
        self._root: dict[str, str] = {}
        self._metas: list[dict[str, str]] = []
        self._certificates: list[list[str]] = []
        self._in_certificate = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise MalformedError(f"a reference manifest has more than {MAX_ELEMENTS} elements")
        if self._elements == 1:
            if name != f"{_SWID} SoftwareIdentity":
                raise MalformedError("a reference manifest is a SWID tag (ISO/IEC 19770-2)")
            self._root = attributes
        elif name == f"{_SWID} Meta":
            self._metas.append(attributes)
        elif name == f"{_DSIG} X509Certificate":
            self._certificates.append([])
            self._in_certificate = True

    def end(self, _name: str) -> None:
        self._in_certificate = False

    def text(self, text: str) -> None:
        if self._in_certificate:
            self._certificates[-1].append(text)

    def heading(self) -> ManifestHeading:
        product, revision = self._root.get("name", ""), self._root.get("tagVersion", "0")
        version = self._metas[0].get("colloquialVersion", "") if len(self._metas) == 1 else ""
        if not _PRODUCT.fullmatch(product) or not _VERSION.fullmatch(version):
            raise MalformedError("a reference manifest states one product and one version")
        if not revision.isascii() or not revision.isdecimal() or len(revision) > 9:
            raise MalformedError("a reference manifest's `tagVersion` isn't a number")
        try:
            chain = tuple(
                base64.b64decode("".join("".join(text).split()), validate=True) for text in self._certificates
            )
        except (binascii.Error, ValueError):
            chain = ()
        if not 1 <= len(chain) <= MAX_DEPTH or not all(chain):
            raise MalformedError(f"a reference manifest brings 1 to {MAX_DEPTH} certificates in base64")
        return ManifestHeading(product=product, version=version, revision=int(revision), chain=chain)


def manifest_id(heading: ManifestHeading, name: str) -> str:
    """Return a manifest's RIM id: the one that follows from its cover, or ``name`` where none does and it fits.

    :raises MalformedError: it needs a name, or has another version than the name ends in.
    """
    if not name:
        if not _DRIVER.fullmatch(heading.version):
            raise MalformedError(
                "the manifest of a VBIOS or a switch doesn't state its own id",
                remedy="give its file the RIM id as name, `NV_GPU_VBIOS_....swidtag`, or fetch it by its id",
            )
        component = "NV_GPU_DRIVER" if heading.product == _HOPPER else "NV_GPU_CC_DRIVER"
        return f"{component}_{heading.product}_{heading.version}"
    if not _ID.fullmatch(name) or len(name) > 128:
        raise MalformedError("a RIM id is `NV_`, a component, a product and a version, joined by `_`")
    if _bare(name.rpartition("_")[2]) != _bare(heading.version):
        raise MalformedError("a reference manifest is of another version than its RIM id says")
    if "_DRIVER_" in name and name.split("_")[-2] != heading.product:
        raise MalformedError("a reference manifest is of another product than its RIM id says")
    return name


def id_in_file_name(name: str) -> str:
    """Return the RIM id that a file's name holds, in full or as NVIDIA's tools shorten a VBIOS's; empty without one."""
    stem = name.rpartition("/")[2].removesuffix(".swidtag").removesuffix(".xml")
    found = _IN_A_FILE_NAME.search(stem)
    if found:
        return found[0]
    project = _PROJECT_IN_A_FILE_NAME.search(stem)
    return f"NV_GPU_VBIOS_{project[0]}" if project else ""


def _bare(version: str) -> str:
    return version.replace(".", "").casefold()


def _no_doctype(*_declared: object) -> None:
    raise MalformedError("a reference manifest has no document type and no entities")
