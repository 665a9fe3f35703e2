"""The documents' links lead somewhere, and what they say of files and of a machine is so."""

import re
import subprocess
from pathlib import Path

import pytest

from local import tools

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(ROOT / name / "README.md" for name in ("events", "local"))})
LONGEST_README = 150
UNNAMED = ("__init__", "conftest", "requirements", "Cargo.lock", ".gitignore", "CONTRIBUTING.md", "src/")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(document: Path) -> str:
    """Without code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    targets = re.findall(r"\]\(\s*([^)\s]+)\s*\)", prose(document))
    broken = []
    for target in targets:
        # What begins with ../../ is a page of the repository's host.
        if re.match(r"[a-z]+:|\.\./\.\./", target):
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_readme_is_short_and_names_what_a_machine_needs() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= LONGEST_README
    (rust,) = re.findall(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    disk = " ".join(text.split())
    parts = ", ".join(f"{size} for `{folder}/`" for folder, size in tools.NEEDS.items())
    assert f"Rust {rust} or newer" in disk
    assert f"{sum(tools.NEEDS.values())} GB of disk ({parts})" in disk


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only git knows which files belong to the project")
def test_contributing_names_every_file_beside_the_code() -> None:
    """Those of `src/` are a test in Rust."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| file | what |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([^`]+)`", table))
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    missing = set()
    for path in map(Path, listed.splitlines()):
        # Of these folders every part, of all others the folder.
        part = Path(*path.parts[: 2 if path.parts[0] in {"bench", "local", "tests"} else 1])
        name = part.name if part == path else f"{part.name}/"
        known = {name, str(part), f"{part}/"} & named or any(one.startswith(f"{part}/") for one in named)
        if not known and not name.startswith(UNNAMED):
            missing.add(str(part))
    assert not missing
