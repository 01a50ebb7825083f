"""The notebooks run, reproduce their stored outputs, and link to pages that exist."""

import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from notebooks import FOLDER, differences, run
from source_tree import ROOT

PATHS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_run_prints_what_the_notebook_holds(path: Path) -> None:
    pytest.importorskip("sklearn")
    held, made = run(path)
    assert differences(held, made) == []
    assert not any(
        output.get("name") == "stderr" for cell in held.cells for output in cell.get("outputs", [])
    )


def test_another_output_is_noticed() -> None:
    held = nbformat.read(FOLDER / "limits.ipynb", as_version=4)
    assert differences(held, held) == []
    for old, new in (("0.3804", "0.3704"), ("cuts", "cut"), ("0.0124 to", "-0.0124 to")):
        made = deepcopy(held)
        (output,) = (
            output
            for cell in made.cells
            for output in cell.get("outputs", [])
            if "verify=True" in output.text
        )
        assert old in output.text
        output.text = output.text.replace(old, new)
        assert len(differences(held, made)) == 1


def test_every_notebook_is_in_the_index_and_its_links_lead_somewhere() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for path in PATHS:
        assert f"(notebooks/{path.name})" in index
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        links = re.findall(r"\]\((?!\w+:)([^)#\s]+)[)#\s]", text)
        assert links
        assert [link for link in links if not path.parent.joinpath(link).exists()] == []


def test_files_are_small() -> None:
    assert max(path.stat().st_size for path in PATHS) < 100_000
