"""Settings of Sphinx: `sphinx-build --fail-on-warning docs OUT` makes the pages."""

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sphinx.util.typing import stringify_annotation

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "agrad"
author = "agrad developers"
release = importlib.metadata.version("agrad")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "inline_figures",
    "notebook_pages",
    "source_pages",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

# MathJax in one file that needs neither fonts nor a network; the rest of the package stays out.
MATHJAX = importlib.util.find_spec("sphinx-mathjax-offline")
if MATHJAX is None or MATHJAX.origin is None:
    raise ModuleNotFoundError('the docs need sphinx-mathjax-offline: pip install -e ".[docs]"')
html_static_path = ["_static", str(Path(MATHJAX.origin).parent / "static/mathjax/tex-svg.js")]
mathjax_path = "tex-svg.js"
html_css_files = ["agrad.css"]

html_theme = "furo"
html_title = f"agrad {release}"
html_show_copyright = False

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
# In a docstring `name` is code, and a link where it names something documented.
default_role = "py:obj"

# Sphinx spells aliases out: this is what it makes of them, and what they are called.
ALIASES = {
    stringify_annotation(alias, "smart"): name
    for alias, name in (
        (ArrayLike, "ArrayLike"),
        (DTypeLike, "DTypeLike"),
        (NDArray[Any], "ndarray"),
        (np.ndarray[Any, np.dtype[Any]], "ndarray"),
    )
}


def name_aliases(app: Any, what: str, name: str, obj: Any, options: Any, *signature: Any) -> Any:
    """Put the aliases back into the arguments and the type of the result."""
    named = list(signature)
    for spelled_out, alias in ALIASES.items():
        named = [part and part.replace(spelled_out, alias) for part in named]
    return tuple(named)


def escape_prose(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Take |x| and *args in docstrings for what they are, and not for reStructuredText."""
    if name == "agrad":  # its page has a text of its own
        lines.clear()
    example = False
    for i, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and line.strip() != "")
        if not example:
            lines[i] = re.sub(r"\||\*(?=\w)(?!\w[^*]*\*)", r"\\\g<0>", line)


def resolve(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Find what is documented where users import it, and referred to where it is defined."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    ending = "." + node["reftarget"].rpartition(".")[2]
    found = [name for name in domain.objects if name.endswith(ending)]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, text)


def setup(app: Any) -> None:
    """Let Sphinx call the functions above."""
    app.connect("autodoc-process-signature", name_aliases)
    app.connect("autodoc-process-docstring", escape_prose)
    app.connect("missing-reference", resolve)
