"""What goes wrong with a TPM itself."""

from __future__ import annotations

from strongroom.core.errors import UnavailableError


class TpmError(UnavailableError):
    """A TPM refused a command, or its answer makes no sense. The message names the command and the TPM's code."""

    code = "tpm"
