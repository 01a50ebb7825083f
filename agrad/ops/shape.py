"""Rearranging and picking elements: all linear."""
