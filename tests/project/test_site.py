"""The check of a built site, on small sites with one fault each."""

from pathlib import Path

import pytest
from site_check import faults

GOOD = {
    "index.html": "<script src='_static/a.js'></script><link rel='next' href='b/c.html'>"
    "<a href='b/c.html#here'>c</a><a href='#x'>x</a><p id='x'></p><a href='https://b.org'>b</a>",
    "b/c.html": "<h1 id='here'>c</h1><img src='data:image/png;base64,AA'>"
    "<a href='../index.html'>i</a>",
    "_static/a.js": "",
}


def site(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_a_whole_site_has_no_faults(tmp_path: Path) -> None:
    assert faults(site(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("<script src='https://example.org/m.js'></script>", "from a network"),
        ("<link rel='stylesheet' href='//example.org/s.css'>", "from a network"),
        ("<img src='missing.svg'>", "missing.svg does not exist"),
        ("<a href='missing.html'>x</a>", "missing.html does not exist"),
        ("<a href='b/c.html#there'>x</a>", "names no place"),
        ("<a href='code.py'>x</a>", "downloads code"),
    ],
)
def test_faults_are_found(page: str, fault: str, tmp_path: Path) -> None:
    (found,) = faults(site(tmp_path, {**GOOD, "d.html": page, "code.py": ""}))
    assert found.startswith("d.html: ")
    assert fault in found
