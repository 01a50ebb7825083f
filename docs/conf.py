"""Settings of Sphinx: `sphinx-build --fail-on-warning docs OUT` makes the pages."""

import importlib.metadata
import re
from typing import Any

project = "agrad"
author = "agrad developers"
copyright = author
release = importlib.metadata.version("agrad")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"agrad {release}"
html_show_copyright = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
# In docstrings `name` is code, and a link where the name is known.
default_role = "py:obj"


def _escape_bars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep |x| an absolute value: in reStructuredText it would be a substitution."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = re.sub(r"\|", r"\\|", line)


def _resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Find what is documented where users import it and referred to where it is defined."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    last = "." + node["reftarget"].rpartition(".")[2]
    found = [name for name in domain.objects if name.endswith(last)]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


def setup(app: Any) -> None:
    """Connect the two helpers above."""
    app.connect("autodoc-process-docstring", _escape_bars)
    app.connect("missing-reference", _resolve)
