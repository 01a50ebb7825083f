"""Errors of agrad: each a `ValueError` or a `TypeError`, and can be caught as such."""

__all__ = [
    "AnomalyError",
    "AverageUndefinedError",
    "CorruptDataError",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "FolderInUseError",
    "FreedGraphError",
    "NonFiniteError",
]


class FreedGraphError(ValueError):
    """A sweep over a recorded graph whose buffers an earlier sweep has already freed."""


class AverageUndefinedError(TypeError):
    """An average backward pass through an operation without a kind, or an averaged Jacobian."""


class NonFiniteError(ValueError):
    """A NaN or an infinity where training cannot go on with one."""


class AnomalyError(ValueError):
    """The first operation inside `detect_anomaly` that gave NaN or an infinity."""


class CorruptDataError(ValueError):
    """A file whose content is not what its format or its checksum promises."""


class FolderInUseError(ValueError):
    """A folder of checkpoints that another run, in this process or another, writes to."""


class DeviceError(ValueError):
    """A device that cannot be used, or arrays on different ones where one is needed."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A GPU without room for an array."""


class DeviceLostError(DeviceError):
    """A GPU that a failure has made useless to this process, with all that its memory holds."""
