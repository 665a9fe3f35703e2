"""What has to be on this machine, said in a sentence before minutes are spent: `python3 -m local.tools`."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDS = {"target": 3, ".venv": 1}
"""GB that a folder comes to, if it isn't there yet."""

LONGEST_NAME = 40
"""Characters of a stack's name, which each rule's name begins with."""


def missing(root: Path = ROOT) -> str | None:
    """What isn't here, and what to do about it."""
    if not shutil.which("cargo"):
        return "Rust is not installed (no cargo in PATH): see https://www.rust-lang.org/tools/install"
    if not shutil.which("cc"):
        return "There is no C compiler (no cc in PATH): install gcc or clang, for instance Debian's build-essential."
    return _old_rust(root) or _full_disk(root) or long_name(root)


def _old_rust(root: Path) -> str | None:
    (needed,) = re.findall(r'^rust-version = "([\d.]+)"', (root / "Cargo.toml").read_text(), re.MULTILINE)
    command = ["rustc", "--version"]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True)
    found = re.match(r"rustc (\d+\.\d+\.\d+)", said.stdout)
    if not found:
        return f"`{' '.join(command)}` doesn't say its version: {(said.stderr or said.stdout).strip()[:300]}"
    if _numbers(found[1]) < _numbers(needed):
        return f"Rust {needed} or newer is needed, this is {found[1]}: rustup update stable"
    return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _full_disk(root: Path) -> str | None:
    needed = sum(size for name, size in NEEDS.items() if not (root / name).exists())
    free = shutil.disk_usage(root).free / 1e9
    if free < needed:
        return f"{needed} GB of disk are needed for what gets built and installed, {root} has {free:.1f} GB free."
    return None


def long_name(root: Path) -> str | None:
    """That the saved stack's name is too long for the rules that are named for it."""
    saved = root / "samconfig.local.toml"
    for name in re.findall(r'^stack_name *= *"(.*)"', saved.read_text(), re.MULTILINE) if saved.exists() else []:
        if len(name) > LONGEST_NAME:
            return (
                f"A stack's name has at most {LONGEST_NAME} characters, {name} in {saved.name} has {len(name)}: "
                "the rules are named for it."
            )
    return None


if __name__ == "__main__":
    sys.exit(missing())
