"""A release as a user has it: its zip, or the folder that was unpacked; checked before anything is deployed from it."""

import hashlib
import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .release import ABOUT, FUNCTIONS, SUMS, machine
from .steps import Failed


@dataclass(frozen=True)
class Released:
    """A release whose files are all there, and are what its checksums say."""

    folder: Path
    version: str
    commit: str
    architecture: str


def opened(given: Path, scratch: Path) -> Released:
    """The release, unpacked into a folder in `scratch` if it is a zip."""
    if given.is_dir():
        return _checked(given)
    if not given.is_file():
        raise Failed(f"There is no {given}: give a release's zip, or the folder it was unpacked into.")
    _as_published(given)
    return _checked(_unpacked(given, scratch))


def _as_published(archive: Path) -> None:
    """Against the checksums that were downloaded with it, if they were."""
    sums = archive.parent / SUMS
    if not sums.is_file():
        return
    said = _sums(sums).get(archive.name)
    if said is None:
        raise Failed(f"{sums} doesn't list {archive.name}: they are of different releases.")
    _same(archive, said, sums)


def _unpacked(archive: Path, scratch: Path) -> Path:
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(scratch)
    except zipfile.BadZipFile as bad:
        raise Failed(f"{archive} can't be unpacked ({bad}): download it again.") from bad
    folders = [path for path in scratch.iterdir() if path.is_dir()]
    if len(folders) != 1:
        raise Failed(f"{archive} isn't a release: it holds {len(folders)} folders and not one.")
    return folders[0]


def _checked(folder: Path) -> Released:
    if not (folder / SUMS).is_file():
        raise Failed(f"{folder} isn't the folder of an unpacked release: it has no {SUMS}.")
    sums = _sums(folder / SUMS)
    for name in sorted({*sums, ABOUT, "template.yaml", *FUNCTIONS.values()}):
        if not (folder / name).is_file():
            raise Failed(f"{name} is missing in {folder}: unpack the release again.")
    about = _about(folder)
    for name in FUNCTIONS.values():
        built_for = machine(_program(folder / name))
        if built_for != about.architecture:
            raise Failed(f"{name} in {folder} is built for {built_for}, and the release is for {about.architecture}: it is another one's.")
    found = re.search(r"\bVersion (\S+)\.$", (folder / "template.yaml").read_text(errors="replace"), re.MULTILINE)
    if not found or found[1] != about.version:
        of = f"of version {found[1]}" if found else "not a release's"
        raise Failed(f"template.yaml in {folder} is {of}, and the functions are of {about.version}: take both from one release.")
    for name, said in sums.items():
        _same(folder / name, said, folder / SUMS)
    return about


def _about(folder: Path) -> Released:
    try:
        about = json.loads((folder / ABOUT).read_text())
        return Released(folder, *(str(about[field]) for field in ("version", "commit", "architecture")))
    except (ValueError, KeyError, TypeError) as unread:
        raise Failed(f"{ABOUT} in {folder} doesn't say what release it is ({unread}): unpack the release again.") from unread


def _program(archive: Path) -> bytes:
    try:
        with zipfile.ZipFile(archive) as packed, packed.open("bootstrap") as program:
            return program.read(64)
    except (zipfile.BadZipFile, KeyError) as bad:
        raise Failed(f"{archive} isn't the code of a function ({bad}): unpack the release again.") from bad


def _sums(path: Path) -> dict[str, str]:
    """File and checksum, as sha256sum writes them."""
    found = {}
    for line in path.read_text(errors="replace").splitlines():
        wanted = re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line)
        if not wanted or ".." in Path(wanted[2]).parts or Path(wanted[2]).is_absolute():
            raise Failed(f"{path} has a line that isn't a checksum and a file: {line[:100]!r}.")
        found[wanted[2]] = wanted[1]
    return found


def _same(path: Path, said: str, sums: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != said:
        raise Failed(f"{path} isn't what was released: its SHA-256 is {digest}, and {sums} has {said}.")
