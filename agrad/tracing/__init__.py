"""Captured functions: recording them, and replaying the recording."""
