"""The README's Python code runs unchanged."""

import re

from source_tree import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_examples() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    session: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), session)
    assert session["loss"].item() < 2.5  # type: ignore[attr-defined]
    assert session["optimizer"].fraction is not None  # type: ignore[attr-defined]


def test_files_exist() -> None:
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
