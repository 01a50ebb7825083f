"""Make the report of the committed study again, docs/claims.md, README's figure and its rows.

    python docs/make_claims.py

Everything comes from the study's `results.json`. README's rows about iterations are printed.
"""

from pathlib import Path

from agrad.study.figures import save_figure
from agrad.study.report import claims_page, readme_figure, readme_rows, write_report
from agrad.study.results import Results

DOCS = Path(__file__).parent
FOLDER = "../results/studies/full"


def main() -> None:
    write_report(DOCS / FOLDER / "results.json")
    results = Results.load(DOCS / FOLDER / "results.json")
    (DOCS / "claims.md").write_text(claims_page(results, FOLDER), encoding="utf-8")
    save_figure(readme_figure(results), DOCS / FOLDER / "losses.png")
    print(readme_rows(results))


if __name__ == "__main__":
    main()
