"""The pages of the documentation: their examples, one session per page, their links and lists."""

import doctest
import re

import pytest
from agrad.kernels.cpu import divided_difference, gelu, logistic, piecewise
from source_tree import ROOT

DOCS = ROOT / "docs"
PAGES = {
    str(page.relative_to(DOCS)): page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")
}


@pytest.mark.parametrize("name", [name for name, text in sorted(PAGES.items()) if ">>> " in text])
def test_examples(name: str, doctest_flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    # Fences become empty lines, where expected output ends.
    session = re.sub(r"^```.*$", "", PAGES[name], flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(session, {}, name, name, 0)
    assert doctest.DocTestRunner(optionflags=doctest_flags).run(examples).failed == 0


@pytest.mark.parametrize("name", sorted(PAGES))
def test_linked_files_exist(name: str) -> None:
    links = re.findall(r"\]\((?!\w+:)([^)#\s]+)[)#\s]", PAGES[name])
    assert [link for link in links if not (DOCS / name).parent.joinpath(link).exists()] == []


def test_every_divided_difference_is_in_the_reference() -> None:
    # The page lists them by hand, since Sphinx does not recognize these objects as functions.
    listed = re.findall(r"autofunction:: (\w+)", PAGES["reference/divided_difference.md"])
    families = (name for family in (gelu, logistic, piecewise) for name in family.__all__)
    activations = [name for name in families if name.endswith("_divided_difference")]
    assert sorted(listed) == sorted([*divided_difference.__all__, *activations])


def test_every_theorem_has_links_to_its_code_and_its_tests() -> None:
    """Its section, or that of the next theorem, links to the source and to tests."""
    found = 0
    for name, text in PAGES.items():
        for section in re.split(r"^## ", text, flags=re.MULTILINE):
            theorems = re.findall(r"^\*\*Theorem.*?\*\*", section, re.MULTILINE)
            found += len(theorems)
            for kind in ("Code", "Tests") if theorems else ():
                after = section.rpartition(theorems[-1])[2]
                assert re.search(rf"\*{kind}( of both)?:\*", after), (name, theorems[-1], kind)
    assert found == 7  # Theorems 1 to 6, and the optimizer's


def test_named_tests_exist() -> None:
    named = {name for text in PAGES.values() for name in re.findall(r"`(test_\w+)`", text)}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    defined = {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}
    assert len(named) > 10
    assert named - defined == set()
