"""Augmentations of images: random changes of a batch, each image on its own.

A transform is a function of a batch of images, (N, ..., height, width), and returns such a batch of
the same dtype. Pass one to `Batches` as `transform`, or several as a `Compose`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agrad import random
from agrad.arguments import integer

__all__ = [
    "Compose",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomShift",
    "RandomVerticalFlip",
]

Images = NDArray[Any]


class Compose:
    """Transforms applied one after another.

    Args:
        transforms: The transforms.

    Example:
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad.data import Batches, Compose, RandomHorizontalFlip, RandomShift
        >>> augment = Compose([RandomShift(2), RandomHorizontalFlip()])
        >>> images, labels = np.ones((6, 8, 8), np.float32), np.arange(6)
        >>> batches = Batches(images, labels, batch_size=3, seed=0, transform=augment)
        >>> [x.shape for x, y in batches]
        [(3, 8, 8), (3, 8, 8)]
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, images: Any) -> Any:
        """Return the images after all transforms."""
        for transform in self.transforms:
            images = transform(images)
        return images


class Normalize:
    """Subtract the mean and divide by the standard deviation.

    Args:
        mean: A number, or one for each channel of images (N, channels, height, width).
        std: The standard deviation, likewise; positive.

    Raises:
        ValueError: A standard deviation is not positive, a mean is not finite, or they have more
            than one axis; when called, the images do not have that many channels.
        TypeError: When called, the images do not hold floats.

    Example:
        >>> import numpy as np
        >>> from agrad.data import Normalize
        >>> Normalize(0.5, 0.25)(np.array([[[0.0, 1.0]]]))
        array([[[-2.,  2.]]])
    """

    def __init__(self, mean: ArrayLike, std: ArrayLike) -> None:
        self.mean, self.std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        if not (self.std > 0).all():
            raise ValueError(f"Normalize: std must be positive, got {self.std}")
        if not np.isfinite(self.mean).all():
            raise ValueError(f"Normalize: mean must be finite, got {self.mean}")
        if max(self.mean.ndim, self.std.ndim) > 1:
            raise ValueError(
                "Normalize: mean and std must be numbers or have one for each channel, got shapes "
                f"{self.mean.shape} and {self.std.shape}"
            )

    def __call__(self, images: ArrayLike) -> Images:
        """Return the normalized images."""
        images = _checked("Normalize", images)
        if images.dtype.kind != "f":
            raise TypeError(
                f"Normalize: images must hold floats, got {images.dtype}; convert them first, for "
                'example by images.astype("float32") / 255'
            )
        mean, std = (self._shaped(numbers, images) for numbers in (self.mean, self.std))
        normalized: Images = ((images - mean) / std).astype(images.dtype, copy=False)
        return normalized

    @staticmethod
    def _shaped(numbers: NDArray[Any], images: Images) -> NDArray[Any]:
        if numbers.ndim == 0:
            return numbers.astype(images.dtype)
        if images.ndim < 4 or images.shape[-3] != len(numbers):
            raise ValueError(
                f"Normalize: {len(numbers)} channels do not fit images of shape {images.shape}"
            )
        return numbers.astype(images.dtype)[:, None, None]


class RandomHorizontalFlip:
    """Mirror each image, left to right, with probability p.

    Args:
        p: The probability, in [0, 1].

    Raises:
        ValueError: `p` is out of its range.
    """

    _axis = -1

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p must be in [0, 1], got {p}")
        self.p = p

    def __call__(self, images: ArrayLike) -> Images:
        """Return the images, some of them mirrored."""
        images = _checked(type(self).__name__, images)
        mirrored = random.generator().random(len(images)) < self.p
        out = images.copy()
        out[mirrored] = np.flip(images[mirrored], self._axis)
        return out


class RandomVerticalFlip(RandomHorizontalFlip):
    """Mirror each image, top to bottom, with probability p.

    Args:
        p: The probability, in [0, 1].

    Raises:
        ValueError: `p` is out of its range.
    """

    _axis = -2


class RandomCrop:
    """Cut a part of the given size out of each image, after padding it with zeros on all sides.

    Args:
        size: The height and width of the part, or one number for both.
        padding: The number of rows and columns of zeros on each side.

    Raises:
        ValueError: A size is below 1 or the padding negative; when called, the padded images are
            smaller than the part.

    Example:
        >>> import numpy as np
        >>> from agrad.data import RandomCrop
        >>> RandomCrop(28, padding=4)(np.ones((5, 1, 28, 28), np.float32)).shape
        (5, 1, 28, 28)
    """

    def __init__(self, size: int | tuple[int, int], padding: int = 0) -> None:
        sizes = size if isinstance(size, tuple) else (size, size)
        if len(sizes) != 2:
            raise ValueError(f"RandomCrop: size must be a number or (height, width), got {size}")
        self.size = tuple(integer("RandomCrop", "size", length, least=1) for length in sizes)
        self.padding = integer("RandomCrop", "padding", padding, least=0)

    def __call__(self, images: ArrayLike) -> Images:
        """Return a part of each image, (N, ..., *size)."""
        images = _checked("RandomCrop", images)
        padded = _padded(images, self.padding)
        height, width = self.size
        rooms = padded.shape[-2] - height, padded.shape[-1] - width
        if min(rooms) < 0:
            raise ValueError(
                f"RandomCrop: no part of {height}x{width} in images of shape {images.shape} with "
                f"padding={self.padding}"
            )
        tops, lefts = (random.generator().integers(room + 1, size=len(images)) for room in rooms)
        return _cut(padded, tops, lefts, height, width)


class RandomShift:
    """Move each image by up to `shift` rows and columns; zeros fill the gaps.

    Args:
        shift: The largest number of rows and columns.

    Raises:
        ValueError: `shift` is negative.
    """

    def __init__(self, shift: int) -> None:
        self.shift = integer("RandomShift", "shift", shift, least=0)

    def __call__(self, images: ArrayLike) -> Images:
        """Return the shifted images."""
        images = _checked("RandomShift", images)
        tops, lefts = random.generator().integers(2 * self.shift + 1, size=(2, len(images)))
        return _cut(_padded(images, self.shift), tops, lefts, *images.shape[-2:])


class RandomRotation:
    """Rotate each image about its centre by a random angle, with bilinear interpolation.

    Pixels from outside the image are 0.

    Args:
        degrees: The largest angle, in either direction.

    Raises:
        ValueError: `degrees` is negative or infinite.
    """

    def __init__(self, degrees: float) -> None:
        if not degrees >= 0:
            raise ValueError(f"RandomRotation: degrees must not be negative, got {degrees}")
        if math.isinf(degrees):
            raise ValueError(f"RandomRotation: degrees must be finite, got {degrees}")
        self.degrees = degrees

    def __call__(self, images: ArrayLike) -> Images:
        """Return the rotated images."""
        images = _checked("RandomRotation", images)
        angles = np.deg2rad(random.generator().uniform(-self.degrees, self.degrees, len(images)))
        return rotated(images, angles)


def rotated(images: Images, angles: NDArray[Any]) -> Images:
    """Return each image, (N, ..., height, width), rotated counterclockwise by an angle (N,)."""
    height, width = images.shape[-2:]
    flat = images.reshape(len(images), math.prod(images.shape[1:-2]), height, width)
    y, x = np.mgrid[:height, :width] - np.array([height - 1, width - 1])[:, None, None] / 2
    cosine, sine = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    # Rotate the grid backwards: each pixel takes its value from the place that moves to it.
    rows = cosine * y + sine * x + (height - 1) / 2
    columns = cosine * x - sine * y + (width - 1) / 2
    above, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    padded = np.pad(flat, [(0, 0), (0, 0), (1, 2), (1, 2)])
    number = np.arange(len(flat))[:, None, None]
    out = np.zeros((len(flat), height, width, flat.shape[1]), np.float64)
    for i in (0, 1):
        for j in (0, 1):
            share = (1 - np.abs(rows - above - i)) * (1 - np.abs(columns - left - j))
            row = np.clip(above + i, -1, height) + 1
            column = np.clip(left + j, -1, width) + 1
            out += share[..., None] * padded[number, :, row, column]
    kept = np.moveaxis(out, -1, 1)
    if images.dtype.kind in "iu":
        kept = np.rint(kept)
    return kept.astype(images.dtype).reshape(images.shape)


def _checked(owner: str, images: ArrayLike) -> Images:
    images = np.asarray(images)
    if images.ndim < 3:
        raise ValueError(
            f"{owner}: images must be of shape (N, ..., height, width), got {images.shape}"
        )
    return images


def _padded(images: Images, padding: int) -> Images:
    return np.pad(images, [*[(0, 0)] * (images.ndim - 2), (padding, padding), (padding, padding)])


def _cut(
    images: Images, tops: NDArray[Any], lefts: NDArray[Any], height: int, width: int
) -> Images:
    """Return a part of each image whose upper left corner is at (top, left)."""
    flat = images.reshape(len(images), math.prod(images.shape[1:-2]), *images.shape[-2:])
    windows = np.lib.stride_tricks.sliding_window_view(flat, (height, width), axis=(2, 3))
    parts = windows[np.arange(len(flat)), :, tops, lefts]
    return parts.reshape(*images.shape[:-2], height, width)
