"""The folder in which a test looks for data sets."""

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that does not exist yet, named by AGRAD_DATA."""
    root = tmp_path / "data"
    monkeypatch.setenv("AGRAD_DATA", str(root))
    return root
