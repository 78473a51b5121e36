"""The gate's rules: each refusal names one, and a verdict lists those that were applied. The codes are stable."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from strongroom.core.errors import TamperedError

_SHOWN: Final = 80


class Rule(StrEnum):
    """Why something is refused. What each one stops is in docs/spec/intake-verdict.md."""

    FORM = "form"
    TOO_LARGE = "too-large"
    UNKNOWN_FORMAT = "unknown-format"
    NAME_AND_CONTENT = "name-and-content"
    ARCHIVE = "archive"
    EXECUTABLE = "executable"
    REMOTE_CODE = "remote-code"
    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    PICKLE_FORM = "pickle-form"
    PICKLE_GLOBAL = "pickle-global"
    PICKLE_CALL = "pickle-call"
    PICKLE_TRAILING = "pickle-trailing"
    ZIP_FORM = "zip-form"
    ZIP_NAME = "zip-name"
    ZIP_NESTED = "zip-nested"
    ZIP_SIZE = "zip-size"
    TORCH_LAYOUT = "torch-layout"
    TORCH_SCRIPT = "torch-script"
    TORCH_STORAGE = "torch-storage"
    NPY_FORM = "npy-form"
    NPY_OBJECT = "npy-object"
    ONNX_FORM = "onnx-form"
    ONNX_EXTERNAL = "onnx-external"
    ONNX_OPERATOR = "onnx-operator"
    LINK = "link"
    SPECIAL_FILE = "special-file"
    UNSAFE_NAME = "unsafe-name"
    NAME_COLLISION = "name-collision"
    CONFUSABLE_NAME = "confusable-name"
    IGNORED_PATH = "ignored-path"
    HIDDEN_FILE = "hidden-file"
    TOO_MANY_FILES = "too-many-files"
    SIGNATURE_FORM = "signature-form"
    SIGNATURE_BAD = "signature-bad"
    SIGNATURE_SIGNER = "signature-signer"
    MISSING_FILE = "missing-file"
    EXTRA_FILE = "extra-file"
    DIGEST_MISMATCH = "digest-mismatch"
    ATTACHMENT_FORM = "attachment-form"
    SCANNER = "scanner"
    REVIEW_DENIED = "review-denied"
    WITHDRAWN = "withdrawn"


class IntakeRefusedError(TamperedError):
    """The gate refused what was delivered; ``rule`` says why, and ``reason`` is its code with ``intake-`` before it."""

    code = "intake-refused"

    def __init__(self, rule: Rule, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy, reason=f"intake-{rule.value}")
        self.rule = rule


def shown(text: str) -> str:
    """Return a hostile name as it may stand in a message: ASCII, short, in backticks."""
    return "`" + ascii(text[:_SHOWN])[1:-1] + "`"
