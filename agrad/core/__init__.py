"""The engine: Tensors, the graph that they record, and the reverse sweeps through it."""
