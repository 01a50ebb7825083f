"""The tables of docs/reliability.md, which the programs that found their figures write."""

import re
from collections.abc import Sequence

from source_tree import ROOT

PAGE = ROOT / "docs" / "reliability.md"


def table_of(page: str, name: str) -> str:
    """Return what stands between the comments that mark the table of that name."""
    (found,) = re.findall(_marked(name), page, flags=re.DOTALL)
    return str(found[1])


def write_table(name: str, rows: Sequence[Sequence[str]]) -> None:
    """Put rows, the head first, in the place of the page's table of that name."""
    text = table_text(rows)
    page, count = re.subn(
        _marked(name), lambda found: found[1] + text + found[3], PAGE.read_text(), flags=re.DOTALL
    )
    assert count == 1, f"{PAGE} has {count} tables of the name {name}"
    PAGE.write_text(page)


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    head, *rest = (f"| {' | '.join(row)} |\n" for row in rows)
    return head + "| --- " * len(rows[0]) + "|\n" + "".join(rest)


def _marked(name: str) -> str:
    return rf"(<!-- table: {name} -->\n)(.*?)(<!-- end of table -->)"
