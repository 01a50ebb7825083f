"""Checks of gradients and average gradients, and Hypothesis strategies to check them with."""
