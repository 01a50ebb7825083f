"""The examples in the pages of the documentation, each page one session."""

import doctest
import re

import pytest
from source_tree import ROOT

PAGES = {
    str(page.relative_to(ROOT)): text
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if ">>> " in (text := page.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("name", PAGES)
def test_examples(name: str, doctest_flags: int) -> None:
    # Fences become empty lines, where expected output ends.
    session = re.sub(r"^```.*$", "", PAGES[name], flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(session, {}, name, name, 0)
    assert doctest.DocTestRunner(optionflags=doctest_flags).run(examples).failed == 0
