"""A virtual environment with what a list of requirements names: `python3 -m local.install FOLDER LIST`.

The lists are complete and hashed, so nothing is left for pip to resolve.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from . import steps
from .build import LOGS, ROOT
from .steps import run, step


def main() -> int:
    folder, requirements = (Path(argument) for argument in sys.argv[1:])
    return steps.main(lambda: install(folder, requirements))


def install(folder: Path, requirements: Path) -> int:
    total = len(re.findall(r"^[^\s#]+==", requirements.read_text(), re.MULTILINE))
    log = LOGS / f"install-{folder.name.lstrip('.')}.log"

    def fetched() -> str:
        text = log.read_text(errors="replace")
        count = len(re.findall(r"^Collecting ", text, re.MULTILINE))
        return f"({total} packages fetched, unpacking)" if "\nInstalling " in text else f"({count} of {total} packages fetched)"

    step(f"installing {requirements} into {folder}: {total} packages")
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    # Python compiles what it imports, which is little of it.
    pip = [folder / "bin" / "pip", "install", "--no-deps", "--require-hashes", "--no-compile", "--disable-pip-version-check"]
    run("installing", [*pip, "--requirement", requirements], log, ROOT, os.environ, fetched)
    (folder / "ready").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
