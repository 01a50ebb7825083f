"""Make the report of the committed study again, docs/claims.md, and README's rows.

    python docs/make_claims.py

Everything comes from results/studies/quick/results.json. README's rows are printed, if the claims
that they are taken from have all their runs.
"""

from pathlib import Path

from agrad.study.report import claims_page, readme_rows, write_report

DOCS = Path(__file__).parent
FOLDER = "../results/studies/quick"


def main() -> None:
    results = DOCS / FOLDER / "results.json"
    write_report(results)
    (DOCS / "claims.md").write_text(claims_page(results, FOLDER), encoding="utf-8")
    try:
        print(readme_rows(results))
    except ValueError as error:
        print(error)


if __name__ == "__main__":
    main()
