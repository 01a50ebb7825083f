"""NVIDIA GPUs: what CuPy gives, what a step puts off while it is recorded, and CUDA graphs."""
