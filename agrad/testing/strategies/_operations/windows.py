"""Cases of convolution and pooling, and strategies for their options."""

from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import strategies as st

import agrad.nn.functional as F
from agrad.ops import convolution, pooling, resize, shape
from agrad.testing.strategies._arrays import Shape
from agrad.testing.strategies._operations.case import Case, Cases, Entry
from agrad.testing.strategies._points import REAL, points

__all__ = ["ENTRIES", "convolutions", "lengths", "poolings", "transposed_convolutions"]


@cache
def lengths(axes: int, least: int = 1, most: int = 2) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw options of windows, a number for each axis."""
    return st.tuples(*[st.integers(least, most)] * axes)


batches: st.SearchStrategy[Shape] = st.sampled_from([(), (0,), (1,), (2,), (3,)])
"""Batch axes; none for a single image."""


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[int, list[Shape], dict[str, Any]]:
    """Draw the number of axes, shapes of input, weight and perhaps bias, and options."""
    axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel, dilation = draw(lengths(axes, most=3)), draw(lengths(axes))
    options: dict[str, Any] = {"dilation": dilation, "groups": groups}
    channels, filters = (groups * draw(st.integers(1, 2)) for _ in range(2))
    if draw(st.booleans()):
        options["padding"] = draw(st.sampled_from(["same", "valid"]))
    else:
        options["padding"] = draw(lengths(axes, least=0))
    if options["padding"] != "same":
        options["stride"] = draw(lengths(axes, most=3))
    padding = options["padding"] if isinstance(options["padding"], tuple) else (0,) * axes
    size = [
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), d * (k - 1) + 5))
        for k, d, p in zip(kernel, dilation, padding)
    ]
    shapes = [(*draw(batches), channels, *size), (filters, channels // groups, *kernel)]
    return axes, shapes + [(filters,)] * draw(st.booleans()), options


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> tuple[int, list[Shape], dict[str, Any]]:
    """Draw the number of axes, shapes of input, weight and perhaps bias, and options."""
    axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel = draw(lengths(axes, most=3))
    stride, dilation = draw(lengths(axes, most=3)), draw(lengths(axes))
    channels, filters = (draw(st.integers(1, 2)) for _ in range(2))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    size = draw(lengths(axes, most=4))
    most = [((n - 1) * s + span - 1) // 2 for n, s, span in zip(size, stride, spans)]
    options = {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "padding": tuple(draw(st.integers(0, min(2, n))) for n in most),
        "output_padding": tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation)
        ),
    }
    shapes = [(*draw(batches), groups * channels, *size), (groups * channels, filters, *kernel)]
    return axes, shapes + [(groups * filters,)] * draw(st.booleans()), options


def convolved(drawn: st.SearchStrategy[Any], *functions: Callable[..., Any]) -> Cases:
    """Draw cases of functions, the first for one axis, the next for two, the last for three."""

    @st.composite
    def cases(draw: st.DrawFn) -> Case:
        axes, shapes, options = draw(drawn)
        function = functions[axes - 1]
        inputs = draw(points(*[(shape, REAL) for shape in shapes]))
        return Case(function, inputs, (REAL,) * len(inputs), options, name=function.__name__)

    return cases()


@st.composite
def poolings(draw: st.DrawFn) -> tuple[int, Shape, dict[str, Any]]:
    """Draw the number of axes, the shape of an input, and options that fit it."""
    axes = draw(st.integers(1, 3))
    kernel = draw(lengths(axes, most=3))
    options: dict[str, Any] = {"kernel_size": kernel, "ceil_mode": draw(st.booleans())}
    if draw(st.booleans()):
        options["stride"] = draw(lengths(axes, most=3))
    options["padding"] = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(draw(st.integers(k, k + 4)) for k in kernel)
    images = draw(st.sampled_from([(), (0,), (1,), (2,)]))
    return axes, (*images, draw(st.integers(1, 2)), *size), options


@st.composite
def pooled(draw: st.DrawFn, functions: tuple[Any, ...], shape: Shape, options: Any) -> Case:
    function = functions[len(options.get("kernel_size", options.get("output_size"))) - 1]
    inputs = draw(points((shape, REAL)))
    return Case(function, inputs, (REAL,), options, name=function.__name__)


@st.composite
def max_pooled(draw: st.DrawFn) -> Case:
    axes, drawn, options = draw(poolings())
    if draw(st.booleans()):
        options["dilation"] = draw(lengths(axes))
        drawn = (*drawn[:-axes], *[2 * n for n in drawn[-axes:]])
    return draw(pooled((F.max_pool1d, F.max_pool2d, F.max_pool3d), drawn, options))


@st.composite
def avg_pooled(draw: st.DrawFn) -> Case:
    axes, drawn, options = draw(poolings())
    options["count_include_pad"] = draw(st.booleans())
    if axes > 1 and draw(st.booleans()):
        options["divisor_override"] = draw(st.integers(1, 5))
    return draw(pooled((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), drawn, options))


@st.composite
def adaptively_pooled(draw: st.DrawFn) -> Case:
    axes, drawn, _ = draw(poolings())
    options = {"output_size": draw(lengths(axes, most=4))}
    functions = F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d
    return draw(pooled(functions, drawn, options))


@st.composite
def resampled(draw: st.DrawFn) -> Case:
    axes = draw(st.integers(1, 2))
    linear = draw(st.booleans())
    options: dict[str, Any] = {
        "mode": ("bilinear" if axes == 2 else "linear") if linear else "nearest"
    }
    if draw(st.booleans()):
        options["size"] = draw(lengths(axes, most=5))
    else:
        options["scale_factor"] = draw(st.sampled_from([1.5, 2.0, 1.0]))
    if linear:
        options["align_corners"] = draw(st.booleans())
    drawn = draw(st.integers(0, 2)), draw(st.integers(1, 2)), *draw(lengths(axes, most=4))
    return Case(F.interpolate, draw(points((drawn, REAL))), (REAL,), options)


@st.composite
def padded(draw: st.DrawFn) -> Case:
    drawn = draw(st.integers(0, 2)), draw(st.integers(1, 2)), *draw(lengths(2, least=2, most=4))
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    most = min(drawn[2:]) - 1
    options = {
        "pad": draw(lengths(draw(st.sampled_from([2, 4])), least=0, most=most)),
        "mode": mode,
    }
    return Case(F.pad, draw(points((drawn, REAL))), (REAL,), options)


ENTRIES = {
    "interpolate": Entry(resize.Resize, resampled()),
    "pad of images": Entry(shape.GetItem, padded()),
    "convolution": Entry(
        convolution.Convolution, convolved(convolutions(), F.conv1d, F.conv2d, F.conv3d)
    ),
    "transposed convolution": Entry(
        convolution.TransposedConvolution,
        convolved(
            transposed_convolutions(), F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d
        ),
    ),
    "max_pool": Entry(pooling.MaxPool, max_pooled()),
    "avg_pool": Entry(pooling.AvgPool, avg_pooled()),
    "adaptive_avg_pool": Entry(pooling.AdaptiveAvgPool, adaptively_pooled()),
}
