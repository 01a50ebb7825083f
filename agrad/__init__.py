"""Tensors with automatic differentiation, and average gradients along an update."""
