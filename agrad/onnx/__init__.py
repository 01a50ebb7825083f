"""Models as ONNX files, which other programs run.

It needs the package onnx, `pip install "agrad[onnx]"`.
"""

try:
    import onnx
except ImportError as error:
    raise ImportError('agrad.onnx: needs onnx 1.18 or later; pip install "agrad[onnx]"') from error

from agrad.onnx.exporting import export

__all__ = ["export"]

del onnx
