"""Make the reports of the committed studies again, docs/claims.md, README's figure and its rows.

    python docs/make_claims.py

Everything comes from `results.json` in each of the folders. A claim is taken from the first that
has all its runs. README's rows about iterations are printed.
"""

from pathlib import Path

from agrad.study.figures import save_figure
from agrad.study.report import (
    claims_page,
    readme_figure,
    readme_rows,
    studies_of,
    write_report,
)

DOCS = Path(__file__).parent
FOLDERS = ("../results/studies/full", "../results/studies/quick")


def main() -> None:
    for folder in FOLDERS:
        write_report(DOCS / folder / "results.json")
    studies = studies_of(FOLDERS, DOCS)
    (DOCS / "claims.md").write_text(claims_page(studies), encoding="utf-8")
    save_figure(readme_figure(studies), DOCS / FOLDERS[0] / "losses.png")
    print(readme_rows(studies))


if __name__ == "__main__":
    main()
