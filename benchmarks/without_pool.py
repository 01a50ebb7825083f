"""A plugin for pytest, `-p without_pool`: CuPy allocates each array by itself, without its pool."""

import cupy

cupy.cuda.set_allocator(None)
