"""Errors of agrad: each a `ValueError` or a `TypeError`, and can be caught as such."""

__all__ = [
    "AverageUndefinedError",
    "CaptureError",
    "CorruptDataError",
    "FreedGraphError",
    "NonFiniteError",
]


class FreedGraphError(ValueError):
    """A sweep over a recorded graph whose buffers an earlier sweep has already freed."""


class AverageUndefinedError(TypeError):
    """An average backward pass through an operation without a kind, or an averaged Jacobian."""


class CaptureError(TypeError):
    """A function that cannot be captured, since a replay would not do what the function does."""


class NonFiniteError(ValueError):
    """A NaN or an infinity where training cannot go on with one."""


class CorruptDataError(ValueError):
    """A file whose content is not what its format or its checksum promises."""
