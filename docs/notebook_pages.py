"""A Sphinx extension: the notebooks are pages, with the outputs that their files hold."""

import json
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser

__all__ = ["markdown", "setup"]


def markdown(notebook: str) -> str:
    """Return the text of a notebook's file as a page in MyST's Markdown."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(_fenced("python", source))
        alt = cell["metadata"].get("alt", "")
        parts += [_output(output, alt) for output in cell["outputs"]]
    return "\n\n".join(parts)


def _output(output: dict[str, Any], alt: str) -> str:
    if output["output_type"] == "stream":
        return _fenced("text", "".join(output["text"]).rstrip())
    data = output["data"]
    if "image/png" in data:
        image = "".join(data["image/png"].split())
        return _fenced("{raw} html", f'<img src="data:image/png;base64,{image}" alt="{alt}">')
    return _fenced("text", "".join(data["text/plain"]))


def _fenced(language: str, text: str) -> str:
    return f"`````{language}\n{text}\n`````"


class NotebookParser(MystParser):
    """Reads a notebook as the page that it makes."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Fill the document from the text of a notebook's file."""
        super().parse(markdown(inputstring), document)


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx read files whose name ends in .ipynb."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True}
