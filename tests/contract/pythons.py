"""The interpreters on this machine, old ones too."""

import shutil
from pathlib import Path


def pythons() -> dict[str, str]:
    """Version → interpreter, of all that are on this machine."""
    names = [f"python{version}" for version in ("2.4", "2.5", "2.6", "2.7", "3")]
    found = {name.removeprefix("python"): shutil.which(name) for name in names}
    for path in Path.home().glob(".pyenv/versions/*/bin/python"):
        found[path.parts[-3].rpartition(".")[0]] = str(path)
    return {version: path for version, path in found.items() if path and "shims" not in path}


PYTHONS = pythons()
