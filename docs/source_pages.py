"""A Sphinx extension: links from the pages to files of code open them highlighted.

Without it, a link such as `[...](../agrad/ops/operation.py)` downloads the file. A link whose title
is a piece of code, `[...](../agrad/ops/operation.py "class Smooth")`, leads to the first line that
contains it.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

__all__ = ["setup"]

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "source/"  # of the pages with the code, in the site
LANGUAGES = {".py": "python", ".cpp": "cpp", ".h": "cpp", ".cu": "cpp"}


class LinkToPage(SphinxTransform):
    """Replace downloads of code by links to its page."""

    default_priority = 500

    def apply(self, **options: Any) -> None:
        """Change the document, and note in the environment which files it links to."""
        folder = Path(self.env.doc2path(self.env.docname)).parent
        for link in list(self.document.findall(download_reference)):
            file = folder.joinpath(link["reftarget"]).resolve()
            if file.suffix not in LANGUAGES or not file.is_relative_to(ROOT):
                continue
            name = file.relative_to(ROOT).as_posix()
            linked_files(self.env).setdefault(name, set()).add(self.env.docname)
            up = "../" * self.env.docname.count("/")
            code = link.get("reftitle")
            place = self._place(file, code, link) if code else ""
            page = nodes.reference("", "", *link.children, refuri=f"{up}{FOLDER}{name}.html{place}")
            link.replace_self(page)

    def _place(self, file: Path, code: str, link: nodes.Element) -> str:
        """Return where on the page of a file the first line with some code is."""
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if code in line:
                return f"#line-{number}"
        logger.warning("%s has no line with %r", file.name, code, location=link)
        return ""


def linked_files(env: Any) -> dict[str, set[str]]:
    """Return the linked files, relative to the repository, each with the documents that link it."""
    if not hasattr(env, "agrad_linked_files"):
        env.agrad_linked_files = {}
    return env.agrad_linked_files  # type: ignore[no-any-return]


def forget(app: Any, env: Any, docname: str) -> None:
    """Forget the links of a document that is read again or gone."""
    for documents in linked_files(env).values():
        documents.discard(docname)


def pages(app: Any) -> Any:
    """Yield a page for each file that some document links to."""
    for name, documents in sorted(linked_files(app.env).items()):
        if not documents:
            continue
        code = (ROOT / name).read_text(encoding="utf-8")
        highlighted = app.builder.highlighter.highlight_block(
            code, LANGUAGES[Path(name).suffix], linenos="inline", lineanchors="line"
        )
        back = " · ".join(
            f'<a href="{app.builder.get_relative_uri(FOLDER + name, document)}">'
            f"{app.env.titles[document].astext()}</a>"
            for document in sorted(documents)
        )
        body = f"<h1>{name}</h1>\n<p>Linked from {back}</p>\n{highlighted}"
        yield FOLDER + name, {"title": name, "body": body}, "page.html"


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx call the functions above."""
    app.add_transform(LinkToPage)
    app.connect("env-purge-doc", forget)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": False}
