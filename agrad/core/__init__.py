"""The engine: Tensors, the graph that they record, and the sweeps back through it."""
