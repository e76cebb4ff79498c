"""Every error a user can meet: its code, its retry class and its HTTP status, in one tree.

A class's `code`, its name in snake case, is what the API, the CLI and the record show. `retry` decides what the
protocol does with a page that failed so; see `RetryClass`.
"""

from ocrfleet.error_classes import CallerError, EscalateError, FleetError, NeverError, TransientError
from ocrfleet.error_classes import RetryClass as RetryClass


class EmptyFile(NeverError):
    """The file has no bytes, or the document has no pages."""


class CorruptFile(NeverError):
    """The file is damaged and cannot be decoded."""


class UnsupportedMediaType(NeverError):
    """The content is of a type that is not accepted."""

    status = 415


class ImageTooSmall(NeverError):
    """The image has too few pixels to hold text."""


class DecompressionBomb(NeverError):
    """The file would decompress to far more than it should."""


class TooManyPixels(NeverError):
    """The page has more pixels than the limit."""


class RenderTimeout(NeverError):
    """The page could not be rendered within its time."""


class PoisonPage(NeverError):
    """The page ended two workers that ran nothing else."""


class InputNotFound(CallerError):
    """The object does not exist."""

    status = 404


class InputAccessDenied(CallerError):
    """The store refuses access to the object."""


class InputChanged(CallerError):
    """The object is not the one that was submitted."""


class EncryptedPdf(CallerError):
    """The PDF needs a password."""


class TooManyPages(CallerError):
    """The document has more pages than the limit."""


class EncryptedArchive(CallerError):
    """A member of the archive is encrypted."""


class TooManyEntries(CallerError):
    """The archive has more entries than the limit."""


class OutputExists(CallerError):
    """The object's result is in the output bucket already."""

    status = 409


class UploadIncomplete(CallerError):
    """The bytes of the upload are not there, or not as many as were declared."""

    status = 409


class FileTooLarge(CallerError):
    """The object has more bytes than the limit."""

    status = 413


class ValidationFailed(CallerError):
    """The request does not fit its schema."""


class ManifestInvalid(CallerError):
    """A line of the manifest cannot be read."""


class UnknownTask(CallerError):
    """No engine of this fleet can do the task."""


class PromptTooLong(CallerError):
    """The prompt has more characters than the limit."""


class StorageUnavailable(TransientError):
    """The object store does not answer."""

    free = True


class EngineCrashed(TransientError):
    """The engine process ended under the page."""

    free = True
    alone = False
    """The process held this page and no other: it counts as a loss, and so the page as a suspect."""


class WorkerLost(TransientError):
    """The worker stopped its heartbeat while it held the page."""

    free = True


class RateLimited(TransientError):
    """Too many requests."""

    status = 429
    free = True


class NoCapacity(TransientError):
    """No worker can take the page now."""

    free = True


class ModelLoading(TransientError):
    """The model is still being loaded."""

    free = True


class StartFailed(TransientError):
    """A server or service of this machine did not start."""


class EngineUnfit(TransientError):
    """The engine failed its self-test, or stands on versions known to be bad; it reads no page."""

    free = True


class Internal(TransientError):
    """Our own fault; it is in the log under the request id."""

    status = 500
    tries = 2


class EngineOom(EscalateError):
    """The engine had no memory for the page."""


class InferenceTimeout(EscalateError):
    """The engine did not finish the page within its time."""

    status = 504
    tries = 2


class RepetitionLoop(EscalateError):
    """The model repeated itself without end."""


class OutputTruncated(EscalateError):
    """The output reached the token limit."""


class OutputInvalid(EscalateError):
    """The output does not fit the schema asked for."""


class EmptyOutput(EscalateError):
    """The model gave no text for a page that is not blank."""

    tries = 2


class Canceled(CallerError):
    """The job was canceled."""

    status = 409


class DeadlineExceeded(CallerError):
    """The deadline passed before the page was done."""

    status = 504


class IdempotencyMismatch(CallerError):
    """The Idempotency-Key was used with another request."""


class IdempotencyInFlight(TransientError):
    """A request with this Idempotency-Key is still running."""

    status = 409


class AnswerNotKept(CallerError):
    """The request was carried out before, and its answer had a secret that is shown once."""

    status = 409


class PreconditionFailed(CallerError):
    """What was to be changed is no longer what the caller has seen."""

    status = 412


class JobStateConflict(CallerError):
    """The job is in a state that does not allow this."""

    status = 409


class StateInUse(CallerError):
    """Another process owns the state folder."""

    status = 409


class Unauthenticated(CallerError):
    """The request has no valid API key."""

    status = 401


class Forbidden(CallerError):
    """The API key has not the scope this needs."""

    status = 403


class NotFound(CallerError):
    """There is nothing under this id."""

    status = 404


_GROUPS = (NeverError, CallerError, TransientError, EscalateError)
BY_CODE: dict[str, type[FleetError]] = {
    leaf.code: leaf for group in _GROUPS for leaf in group.__subclasses__()
}
