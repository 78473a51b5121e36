"""What sealing refuses: one class and one stable code for each cause, with the object and segment that it is about.

Objects are named by their opaque names: a file's real name is itself sealed, and an error may end up in a log.
"""

from __future__ import annotations

from strongroom.core.errors import (
    ConflictError,
    ExitCode,
    MalformedError,
    NotFoundError,
    StrongroomError,
    TamperedError,
    UnavailableError,
    UsageError,
)

RESTORE = "restore the sealed directory from a good copy; these bytes can't be trusted"


class SealedObjectError(TamperedError):
    """A sealed object isn't what was sealed. ``object_name`` says which, ``segment`` where (None: not in a segment)."""

    code = "sealed-object"

    def __init__(self, message: str, *, object_name: str = "", segment: int | None = None, remedy: str = "") -> None:
        where = f"`{object_name}`: " if object_name else ""
        super().__init__(where + message, remedy=remedy or RESTORE)
        self.object_name = object_name
        self.segment = segment


class NotSealedError(SealedObjectError):
    """Bytes without our magic stand where a sealed object must be. They are never read as plaintext."""

    code = "not-sealed"


class SealedFormatError(SealedObjectError):
    """A version, suite, flag or length that this reader doesn't allow, or padding that isn't zero."""

    code = "sealed-format"


class SuiteRefusedError(SealedFormatError):
    """A cipher suite that isn't on this reader's list: unknown, retired, or an attempt to downgrade."""

    code = "suite-refused"


class OtherModelObjectError(SealedObjectError):
    """The object was sealed for another model version."""

    code = "object-of-other-model"


class OtherObjectError(SealedObjectError):
    """The object is another one of the same model version."""

    code = "other-object"


class HeaderMismatchError(SealedObjectError):
    """The object's header isn't the one that the manifest names."""

    code = "sealed-header-mismatch"


class HeaderTamperedError(SealedObjectError):
    """The header isn't authentic under the data key that it names."""

    code = "sealed-header-tampered"


class WrongDataKeyError(SealedObjectError):
    """The data key isn't the one that the object was sealed with."""

    code = "wrong-data-key"


class TruncatedError(SealedObjectError):
    """The object is shorter than what was sealed."""

    code = "sealed-truncated"


class ExtendedError(SealedObjectError):
    """The object is longer than what was sealed."""

    code = "sealed-extended"


class SegmentTamperedError(SealedObjectError):
    """A segment isn't authentic: it was altered, or comes from another object."""

    code = "segment-tampered"


class SegmentReorderedError(SealedObjectError):
    """A segment of this object stands where another one belongs."""

    code = "segment-reordered"


class SegmentDuplicatedError(SealedObjectError):
    """A segment of this object stands in two places."""

    code = "segment-duplicated"


class CiphertextMismatchError(SealedObjectError):
    """The ciphertext's tree root isn't the one that the publisher signed, though every tag may be good."""

    code = "ciphertext-mismatch"


class MissingObjectError(SealedObjectError):
    """The manifest names an object that isn't there."""

    code = "object-missing"


class UnexpectedObjectError(SealedObjectError):
    """Something lies in the sealed directory that the manifest doesn't name."""

    code = "object-unexpected"


class SealedIndexError(MalformedError):
    """The index, once opened, doesn't have the form of its specification or doesn't fit the manifest."""

    code = "sealed-index"


class WrongSignerError(TamperedError):
    """The manifest carries no signature by the publisher who was expected."""

    code = "manifest-wrong-signer"


class OtherDeploymentError(TamperedError):
    """The manifest belongs to another deployment."""

    code = "manifest-of-other-deployment"


class OtherModelError(TamperedError):
    """The manifest describes another model."""

    code = "manifest-of-other-model"


class OlderVersionError(TamperedError):
    """The manifest describes an older version of the model: a rollback."""

    code = "manifest-rollback"


class NewerVersionError(TamperedError):
    """The manifest describes a newer version than the one that was asked for."""

    code = "manifest-newer"


class OtherManifestError(TamperedError):
    """A second manifest for the same model and version."""

    code = "manifest-digest"


class RecipientsTamperedError(TamperedError):
    """The list of recipients was changed by somebody who doesn't have the data key."""

    code = "recipients-tampered"


class NoStanzaError(NotFoundError):
    """None of the stanzas is for the recipient key that was given."""

    code = "no-stanza"


class CanaryMismatchError(TamperedError):
    """The opened model doesn't answer as it did when it was sealed."""

    code = "canary-mismatch"


class UnsafeNameError(StrongroomError):
    """A file name that can't be restored safely everywhere: it would escape, hide, or mean two things."""

    code = "unsafe-name"
    exit_code = ExitCode.USAGE
    http_status = 400


class NameCollisionError(UnsafeNameError):
    """Two names are the same file on a file system that ignores case or composition."""

    code = "name-collision"


class SymlinkError(UsageError):
    """A symbolic link; following one would read a file that nobody named."""

    code = "symlink-refused"


class SpecialFileError(UsageError):
    """A device, socket, pipe or other thing that isn't a regular file."""

    code = "special-file-refused"


class TooManyFilesError(UsageError):
    """More files than one manifest holds."""

    code = "too-many-files"


class SourceChangedError(ConflictError):
    """A file changed while it was being sealed."""

    code = "source-changed"


class DestinationExistsError(ConflictError):
    """The sealed directory is already there."""

    code = "destination-exists"


class UnfinishedFileError(ConflictError):
    """A model was to be finished with a file that failed or is still open. Nothing was published."""

    code = "unfinished-file"


class DestinationBusyError(ConflictError):
    """Another process is sealing to the same place."""

    code = "destination-busy"


class NoSpaceError(UnavailableError):
    """The file system is full, or a quota or size limit was reached. Nothing was published."""

    code = "no-space"


class StorageError(UnavailableError):
    """The file system refused an operation. Nothing was published."""

    code = "storage"


class IncompleteSealError(NotFoundError):
    """A directory without a manifest: an interrupted seal, or not a sealed directory."""

    code = "incomplete-seal"


class NoSuchFileError(NotFoundError):
    """The sealed model has no file of that name."""

    code = "no-such-file"


class NothingToSealError(UsageError):
    """A directory without a file."""

    code = "nothing-to-seal"


class NotHybridError(TamperedError):
    """The publisher's key isn't hybrid: a signature that one broken algorithm would undo is no manifest's."""

    code = "manifest-not-hybrid"
