"""What can go wrong, in a few kinds. Every message is one line: what, where, what is allowed."""


class RaybertError(Exception):
    """Ground of every error raybert raises on purpose; the command line prints it as one line."""


class SettingsError(RaybertError):
    """A setting is unknown, of the wrong type or out of range."""


class InputError(RaybertError, ValueError):
    """Data handed in by the user cannot be used: a text, a row, a column, a vector."""


class ArtifactError(RaybertError):
    """An artifact is missing, unfinished, damaged, or belongs to other inputs."""


class ModelError(RaybertError):
    """A model folder cannot be read, or a model cannot do what is asked of it."""


class OverloadedError(RaybertError):
    """A queue is full; the caller may try again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PlatformError(RaybertError):
    """Ray, MLflow or Serve is not reachable, or did not start."""
