"""The modules of the checkout, under their installed names."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"agrad": ROOT / "agrad", "agrad.kernels": ROOT / "kernels"}


def module_name(package: str, path: Path) -> str:
    """Return the import name of the file at `path`, relative to the folder of `package`."""
    parts = path.with_suffix("").parts
    return ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {
    module_name(package, file.relative_to(folder)): file
    for package, folder in FOLDERS.items()
    for file in sorted(folder.rglob("*.py"))
}
