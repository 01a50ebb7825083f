"""Errors of agrad. Each is a `ValueError` or a `TypeError` and can be caught as such."""

__all__ = [
    "AnomalyError",
    "AverageUndefinedError",
    "CaptureError",
    "ChoiceChangedError",
    "CorruptDataError",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "ExportError",
    "FolderInUseError",
    "FreedGraphError",
    "HigherDerivativeError",
    "NonFiniteError",
]


class FreedGraphError(ValueError):
    """A sweep runs over a recorded graph whose buffers an earlier sweep has freed."""


class AverageUndefinedError(TypeError):
    """An average backward pass meets an operation without a kind or an averaged Jacobian."""


class HigherDerivativeError(TypeError):
    """A gradient with a graph meets an operation whose backward pass cannot be recorded."""


class CaptureError(TypeError):
    """A function cannot be captured because a replay would not do what the function does."""


class ChoiceChangedError(ValueError):
    """An average backward pass meets a comparison whose outcome changes along the updates."""


class NonFiniteError(ValueError):
    """Training cannot continue because of a NaN or an infinity."""


class AnomalyError(ValueError):
    """An operation inside `detect_anomaly` produced NaN or an infinity."""


class CorruptDataError(ValueError):
    """The content of a file does not match its format or its checksum."""


class FolderInUseError(ValueError):
    """Another run, in this or another process, writes to the folder."""


class ExportError(TypeError):
    """A model uses an operation that a file of another format cannot express."""


class DeviceError(ValueError):
    """A device cannot be used, or arrays are on different devices but must share one."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A GPU is out of memory."""


class DeviceLostError(DeviceError):
    """After a failure, this process can no longer use a GPU or anything in its memory."""
