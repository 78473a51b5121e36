"""What the console refuses by itself. Everything else is the deployment's refusal, shown as it came."""

from __future__ import annotations

from strongroom.core.errors import DeniedError, MalformedError, NotFoundError, UnavailableError


class ForeignFormError(DeniedError):
    """The form wasn't sent by a page of this console to the person who is signed in."""

    code = "foreign-form"


class SignInFailedError(DeniedError):
    """The sign-in isn't open any more, or its answer isn't one of this person's keys."""

    code = "sign-in-failed"


class NotByConsoleError(DeniedError):
    """From SL4 on, what is signed is shown by the signer's own machine: on the command line."""

    code = "not-by-console"

    @classmethod
    def of(cls, about: object) -> NotByConsoleError:
        """Say it of a model, or of what an act is about."""
        return cls(
            f"what is signed about `{about}` is shown by your own machine, not by a server",
            remedy="use the command that stands beside",
        )


class FormError(MalformedError):
    """A form has another shape than its page's."""

    code = "form-malformed"


class NoPageError(NotFoundError):
    """Nothing is at that address."""

    code = "no-page"


class TooManyVisitsError(UnavailableError):
    """This session, or this address, asks more often than people do."""

    code = "too-many-visits"
    http_status = 429


class NotShownError(DeniedError):
    """What a page would show is for others: nothing of it is on the answer."""

    code = "not-shown"
