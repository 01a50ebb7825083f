"""The experiments of the papers, and reports on their results."""
