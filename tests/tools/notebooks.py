"""Run the notebooks in docs/notebooks, and compare their outputs with the stored ones.

python tests/tools/notebooks.py            # says where they differ
python tests/tools/notebooks.py --write    # stores what they print now
"""

import argparse
import os
import re
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbclient
import nbformat

__all__ = ["FOLDER", "differences", "run"]

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def run(path: Path) -> tuple[Any, Any]:
    """Return a notebook as stored, and after running its cells in a fresh kernel.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raises an error.
    """
    held = nbformat.read(path, as_version=4)
    made = deepcopy(held)
    client = nbclient.NotebookClient(
        made,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    # One thread computes the same everywhere, and no thread spins while it waits.
    client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    made.metadata = held.metadata  # without the version of the kernel's Python
    return held, made


def differences(held: Any, made: Any) -> list[str]:
    """Return how the outputs of a run differ from those that the notebook holds, a line for each.

    Words must be equal, numbers within 2 % plus one unit of their last digit, because processors
    round differently. Pictures are not compared, but must be in the same places.
    """
    wrong = []
    for number, (before, after) in enumerate(zip(held.cells, made.cells)):
        texts = [_text(cell) for cell in (before, after)]
        if not _agree(*texts):
            wrong.append(f"cell {number} holds\n{texts[0]}\nand prints\n{texts[1]}")
    return wrong


def _text(cell: Any) -> str:
    """Return the outputs of a cell as text: what it prints, and the kinds of its pictures."""
    parts = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            parts.append(f"{output.name}: {output.text}")
        else:
            data = output.data
            pictures = sorted(kind for kind in data if kind.startswith("image/"))
            parts.append(" ".join(pictures) if pictures else data["text/plain"])
    return "\n".join(parts)


def _agree(held: str, made: str) -> bool:
    if NUMBER.sub("#", held) != NUMBER.sub("#", made):
        return False
    pairs = zip(NUMBER.findall(held), NUMBER.findall(made))
    return all(abs(float(a) - float(b)) <= 0.02 * abs(float(a)) + _unit(a) for a, b in pairs)


def _unit(number: str) -> float:
    """Return one unit of the last digit of a number."""
    digits, _, exponent = number.partition("e")
    return float(10.0 ** (int(exponent or 0) - len(digits.partition(".")[2])))


def main() -> int:
    """Run all notebooks; compare or store their outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the outputs")
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb; all by default")
    options = parser.parse_args()
    failed = 0
    for path in sorted(FOLDER.glob("*.ipynb")):
        if options.names and path.stem not in options.names:
            continue
        held, made = run(path)
        if options.write:
            nbformat.write(made, path)
        else:
            found = differences(held, made)
            failed += len(found)
            print("\n".join([path.name, *(found or ["prints what it holds"])]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
