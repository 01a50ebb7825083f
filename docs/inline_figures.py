"""A Sphinx extension: pages contain their figures, so that these follow the site's colours.

An SVG shown as an image knows the colour scheme of the system, but not the one that the reader has
chosen on the site.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform

__all__ = ["setup"]


class InlineFigures(SphinxTransform):
    """Replace images from docs/figures by the SVG itself, with its words for screen readers."""

    default_priority = 400

    def apply(self, **options: Any) -> None:
        """Change the document."""
        folder = Path(self.env.doc2path(self.env.docname)).parent
        for image in list(self.document.findall(nodes.image)):
            uri = image["uri"]
            if uri.startswith("figures/") and uri.endswith(".svg"):
                self.env.note_dependency(str(folder / uri))
                svg = (folder / uri).read_text(encoding="utf-8")
                image.replace_self(nodes.raw("", svg, format="html"))


def setup(app: Any) -> None:
    """Let Sphinx call the transform above."""
    app.add_transform(InlineFigures)
