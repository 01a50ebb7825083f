"""Captured functions: their recording, and how it runs again."""
