"""Check a built site: it works without a network, and its links have targets.

python tests/tools/site_check.py docs/_build
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Page", "faults"]

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src"}
CODE = (".py", ".cpp", ".cu", ".h")


class Page(HTMLParser):
    """The files that a page loads, its links, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses and the name of a tag."""
        found = {name: value for name, value in attrs if value}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        address = found.get(LOADED.get(tag, ""))
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            address = found.get("href")
        if address:
            self.loaded.append(address)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])


def faults(folder: Path) -> list[str]:
    """Return the faults of the pages in a folder, a line for each."""
    pages = {
        path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))
    }
    wrong = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        if name.parts[0] == "_modules":
            continue  # Sphinx's own links between sources and reference miss a few
        for address in page.loaded:
            if urlsplit(address).scheme not in ("", "data") or address.startswith("//"):
                wrong.append(f"{name}: loads {address} from a network")
        for address in (*page.loaded, *page.links):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not target.is_file():
                wrong.append(f"{name}: {address} does not exist")
            elif parts.fragment and target in pages:
                if unquote(parts.fragment) not in pages[target].places:
                    wrong.append(f"{name}: {address} names no place on its page")
            elif target.name.endswith(CODE):
                wrong.append(f"{name}: {address} downloads code")
    return wrong


def main() -> int:
    """Print the faults of the site that is named on the command line."""
    wrong = faults(Path(sys.argv[1]).resolve())
    print("\n".join(wrong) or "the site is whole")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
