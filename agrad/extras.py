"""Packages that only extras install, imported where they are needed."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["installed_file", "optional_import"]


def optional_import(module: str, user: str = "the data sets", extra: str = "demo") -> Any:
    """Import and return an optional module that `user` needs and that `extra` installs.

    Raises:
        ImportError: The module is not installed; the message says what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise _missing(module, user, extra) from error


def installed_file(
    package: str, name: str, user: str = "the data sets", extra: str = "demo"
) -> Path:
    """Return the path of a file of an optional package, without the slow import of the package.

    Raises:
        ImportError: The package is not installed; the message says what to install.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise _missing(package, user, extra)
    return Path(spec.origin).parent / name


def _missing(module: str, user: str, extra: str) -> ImportError:
    package = module.partition(".")[0]
    return ImportError(f'{user} need {package}: pip install "agrad[{extra}]"')
