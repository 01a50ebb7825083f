"""Rearranging, joining and picking elements."""

__all__: list[str] = []
