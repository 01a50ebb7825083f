"""What functions and methods of CuPy take, as of 14.2: compared with CuPy where it is installed."""

import inspect

_LIKE = "a, dtype=None, order='K', subok=None, shape=None"
_AXES = "a, axis=None, out=None, keepdims=False"
_SUMS = "a, axis=None, dtype=None, out=None, keepdims=False"
_MOMENTS = "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False"

SIGNATURES = {
    "all": _AXES,
    "arange": "start, stop=None, step=1, dtype=None",
    "argwhere": "a",
    "array": "obj, dtype=None, copy=True, order='K', subok=False, ndmin=0, *, blocking=False",
    "array_equal": "a1, a2, equal_nan=False",
    "asarray": "a, dtype=None, order=None, *, copy=None, blocking=False",
    "ascontiguousarray": "a, dtype=None",
    "broadcast_arrays": "*args",
    "broadcast_to": "array, shape",
    "clip": "a, a_min, a_max, out=None",
    "concatenate": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "cumprod": "a, axis=None, dtype=None, out=None",
    "einsum": "*operands, **kwargs",
    "empty": "shape, dtype=float, order='C'",
    "empty_like": _LIKE.replace("a,", "prototype,", 1),
    "expand_dims": "a, axis",
    "flatnonzero": "a",
    "full": "shape, fill_value, dtype=None, order='C'",
    "full_like": _LIKE.replace("a,", "a, fill_value,", 1),
    "linalg.norm": "x, ord=None, axis=None, keepdims=False",
    "max": _AXES,
    "may_share_memory": "a, b, max_work=None",
    "mean": _SUMS,
    "min": _AXES,
    "moveaxis": "a, source, destination",
    "ndim": "a",
    "ones": "shape, dtype=float, order='C'",
    "ones_like": _LIKE,
    "pad": "array, pad_width, mode='constant', **kwargs",
    "prod": _SUMS,
    "put_along_axis": "arr, indices, values, axis",
    "ravel": "a, order='C'",
    "reshape": "a, newshape, order='C', *, copy=None",
    "result_type": "*arrays_and_dtypes",
    "shape": "a",
    "split": "ary, indices_or_sections, axis=0",
    "squeeze": "a, axis=None",
    "stack": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "std": _MOMENTS,
    "sum": _SUMS,
    "take_along_axis": "a, indices, axis",
    "take": "a, indices, axis=None, out=None",
    "transpose": "a, axes=None",
    "var": _MOMENTS,
    "where": "condition, x=None, y=None",
    "zeros": "shape, dtype=float, order='C'",
    "zeros_like": _LIKE,
}
METHODS = {
    "all": "axis=None, out=None, keepdims=False",
    "any": "axis=None, out=None, keepdims=False",
    "argmax": "axis=None, out=None, dtype=None, keepdims=False",
    "argmin": "axis=None, out=None, dtype=None, keepdims=False",
    "astype": "dtype, order='K', casting=None, subok=None, copy=True",
    "copy": "order='C'",
    "item": "",
    "max": "axis=None, out=None, keepdims=False",
    "mean": "axis=None, dtype=None, out=None, keepdims=False",
    "min": "axis=None, out=None, keepdims=False",
    "ravel": "order='C'",
    "reshape": "*shape, order='C', copy=None",
    "set": "arr, stream=None",
    "squeeze": "axis=None",
    "sum": "axis=None, dtype=None, out=None, keepdims=False",
    "tobytes": "order='C'",
    "tolist": "",
    "transpose": "*axes",
    "var": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "view": "dtype=None, type=None",
}


def signature(text: str) -> inspect.Signature:
    return inspect.signature(eval(f"lambda {text}: None"))
