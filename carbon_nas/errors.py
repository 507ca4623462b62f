"""The error tree. Each class says what its catcher should do.

CarbonNasError
├── ConfigurationError      stop with exit status 78: a person must change something
├── StoreError              stop: going on could lose or double count results
├── InvalidTransition       stop: a defect of ours
├── ExecutorError           requeue the job
├── SearchError             go on without new candidates, try again at the next tick
├── CheckpointError         fall back to the checkpoint before
├── JobError                the job has failed; the next one may go well
└── ProviderError           fall back to the next provider
    ├── Unavailable         try this provider again at the next poll
    │   └── RateLimited     ... but not before `retry_after_seconds`
    ├── NoData              nothing for this zone or time; ask again at the next poll
    ├── BadData             the answer is not credible: never use it
    └── AccessDenied        do not retry before the configuration has changed
"""

from pathlib import Path

EX_CONFIG = 78
"""Exit status of a configuration error (`sysexits.h`); systemd must not restart on it."""

EX_SUSPENDED = 75
"""Exit status of a runner that saved its work and left (`EX_TEMPFAIL` in `sysexits.h`)."""


class CarbonNasError(Exception):
    """Everything this project raises on purpose."""


class ConfigurationError(CarbonNasError):
    """A file, a key or a value that a person must mend. Its text names all three where they exist."""

    def __init__(self, problem: str, *, file: Path | str | None = None, key: str | None = None) -> None:
        self.problem = problem
        self.file = file
        self.key = key
        super().__init__(": ".join(str(part) for part in (file, key, problem) if part is not None))


class StoreError(CarbonNasError):
    """The store cannot be read or written as this version expects."""


class InvalidTransition(CarbonNasError):  # noqa: N818 -- named for what happened, as in h11 and distributed
    """A job was asked to make a step that the table in `states` does not hold."""


class ExecutorError(CarbonNasError):
    """A job could not be started, reached or stopped."""


class SearchError(CarbonNasError):
    """A controller could not propose or observe."""


class CheckpointError(CarbonNasError):
    """A checkpoint is torn, altered or of another job."""


class JobError(CarbonNasError):
    """A job cannot go on: its loss is not finite, its data are missing, its architecture cannot be built."""


class ProviderError(CarbonNasError):
    """A provider has no usable answer."""


class Unavailable(ProviderError):  # noqa: N818 -- the words a caller reads: except Unavailable
    """The provider did not answer, or with a server error."""


class RateLimited(Unavailable):
    """The provider asks to be left alone for a while."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class NoData(ProviderError):  # noqa: N818
    """The provider knows nothing of this zone or time."""


class BadData(ProviderError):  # noqa: N818
    """The answer is null, zero, absurd, of another zone or another unit."""


class AccessDenied(ProviderError):  # noqa: N818
    """The key is missing, wrong, or not good for this request."""
