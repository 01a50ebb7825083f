"""Look at each page of a built site in headless Chromium: widths, colour schemes, formulas.

python tests/tools/browser_check.py docs/_build [--pictures FOLDER] [--page start.html]

Each page is opened at 380 and 1280 pixels, light and dark, without a network. Faults are sideways
scrolling, TeX in place of a formula, a formula cut off in a text, an error of MathJax, and ink too
close in brightness to its paper. `--pictures` keeps screenshots as PNG files. Needs Chromium.
"""

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["VIEWS", "faults"]

WIDTHS, SCHEMES = (380, 1280), ("light", "dark")
VIEWS = [(width, scheme) for width in WIDTHS for scheme in SCHEMES]
HEIGHT = 2400

# A window of Chromium has at least 500 pixels; a frame can have fewer.
FRAME = (
    '<iframe src="{page}" data-scheme="{scheme}" '
    'style="width: {width}px; height: {height}px; border: 0; display: block"></iframe>'
)
SCRIPT = """<!doctype html><meta charset="utf-8"><style>body { margin: 0 }</style>
<script>
const bright = (colour) => {
  const [red, green, blue] = colour.match(/[\\d.]+/g).map(Number);
  return (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
};
async function look(frame) {
  const inner = frame.contentWindow, page = inner.document;
  page.body.dataset.theme = frame.dataset.scheme;
  if (inner.MathJax && inner.MathJax.startup) await inner.MathJax.startup.promise;
  const text = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT, (node) =>
    node.parentElement.closest("script, style, code, pre, mjx-container, title, desc")
      ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
  const raw = [];
  while (text.nextNode()) {
    const found = text.currentNode.data.match(/\\\\[a-zA-Z]{2,}|\\\\[()\\[\\]]|\\$[^$ ][^$]*\\$/);
    if (found) raw.push(found[0]);
  }
  // A wide formula of its own line scrolls by itself, and so does a table; one in a text is cut.
  const cut = [...page.querySelectorAll("mjx-container:not([display])")].filter((formula) =>
    !formula.closest(".table-wrapper") &&
    formula.getBoundingClientRect().right > page.documentElement.clientWidth);
  const style = inner.getComputedStyle(page.body);
  return {
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    raw,
    cut: cut.map((formula) => formula.parentElement.textContent.slice(0, 60).trim()),
    errors: page.querySelectorAll("mjx-merror, [data-mjx-error]").length,
    contrast: Math.abs(bright(style.color) - bright(style.backgroundColor)),
  };
}
addEventListener("load", async () => {
  const report = document.createElement("pre");
  report.hidden = true;
  report.id = "report";
  const found = await Promise.all([...document.querySelectorAll("iframe")].map(look));
  report.textContent = JSON.stringify(found);
  document.body.append(report);
});
</script>
"""


def chromium() -> str:
    """Return the browser's command.

    Raises:
        FileNotFoundError: There is none.
    """
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("browser_check: Chromium is not installed")


def open_page(page: Path, scratch: Path) -> list[dict]:
    """Return what the browser found on a page, for each of the views."""
    result = run_browser(page, VIEWS, scratch, "--dump-dom")
    report = re.search(r'<pre hidden="" id="report">(.*?)</pre>', result, re.DOTALL)
    if report is None:
        raise RuntimeError(f"browser_check: {page} did not load in Chromium")
    found: list[dict] = json.loads(html.unescape(report[1]))
    return found


def run_browser(page: Path, views: list[tuple[int, str]], scratch: Path, action: str) -> str:
    """Open some views of a page in the browser, one below the other; return its output."""
    frames = [
        FRAME.format(page=page.as_uri(), scheme=scheme, width=width, height=HEIGHT)
        for width, scheme in views
    ]
    frame = scratch / "frame.html"
    frame.write_text(SCRIPT + "\n".join(frames), encoding="utf-8")
    size = f"{max(500, *(width for width, _ in views))},{HEIGHT}"
    command = [
        chromium(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--allow-file-access-from-files",
        "--disable-web-security",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={scratch / 'profile'}",
        "--virtual-time-budget=60000",
        f"--window-size={size}",
        action,
        frame.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout


def faults(found: dict) -> list[str]:
    """Return the faults of a page, given what the browser found."""
    wrong = []
    if found["overflow"] > 0:
        wrong.append(f"scrolls sideways by {found['overflow']} pixels")
    if found["raw"]:
        wrong.append(f"shows TeX: {found['raw'][0]}")
    wrong += [f"cuts off a formula in: {text}" for text in found["cut"]]
    if found["errors"]:
        wrong.append(f"has {found['errors']} formulas with errors")
    if found["contrast"] < 0.5:
        wrong.append(f"has ink and paper {found['contrast']:.2f} apart")
    return wrong


def main() -> int:
    """Print the faults of the site that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--pictures", type=Path, help="keep what was seen in this folder")
    parser.add_argument("--page", nargs="*", help="look at these pages alone")
    options = parser.parse_args()
    site = options.site.resolve()
    pages = sorted(path for path in site.rglob("*.html") if "_modules" not in path.parts)
    if options.page:
        pages = [site / name for name in options.page]
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for page in pages:
            name = page.relative_to(site).as_posix()
            for (width, scheme), found in zip(VIEWS, open_page(page, Path(folder)), strict=True):
                for fault in faults(found):
                    wrong.append(f"{name}, {width} pixels, {scheme}: {fault}")
                    print(wrong[-1], flush=True)
                if options.pictures:
                    file = f"{name.replace('/', '-').removesuffix('.html')}-{width}-{scheme}.png"
                    picture = f"--screenshot={(options.pictures / file).resolve()}"
                    run_browser(page, [(width, scheme)], Path(folder), picture)
    print(f"{len(pages)} pages, {len(VIEWS)} views of each, {len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
