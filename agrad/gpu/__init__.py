"""NVIDIA GPUs: CuPy's devices, deferred reads, CUDA graphs, and training steps recorded as such."""
