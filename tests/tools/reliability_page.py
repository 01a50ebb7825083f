"""The generated parts of docs/reliability.md, each made from a file of results."""

import re
from collections.abc import Sequence

from source_tree import ROOT

PAGE = ROOT / "docs" / "reliability.md"


def read_block(name: str) -> str:
    """Return the text between the comments that mark the block of that name."""
    found = re.search(_block(name), PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found, f"{PAGE} has no block {name}"
    return found[2].removeprefix("\n")


def write_block(name: str, text: str) -> None:
    """Replace the text of the block of that name."""
    read_block(name)
    page = PAGE.read_text(encoding="utf-8")
    changed = re.sub(_block(name), lambda m: f"{m[1]}\n{text}{m[3]}", page, flags=re.DOTALL)
    PAGE.write_text(changed, encoding="utf-8")


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the head first, as a table in Markdown."""
    head, *rest = (f"| {' | '.join(row)} |\n" for row in rows)
    return head + "| --- " * len(rows[0]) + "|\n" + "".join(rest)


def _block(name: str) -> str:
    return rf"(<!-- made by tests/tools/{name}\.py -->\n)(.*?)(\n<!-- end -->)"
