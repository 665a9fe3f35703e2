"""`make release`: what users install, built from a commit into dist/, the same bytes wherever it is built.

    python -m local.release --architecture x86_64
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import steps
from .build import ARCHITECTURE, LOGS, QUICKLY, ROOT, STATE, TARGETS, anywhere, build, environment
from .steps import Failed, detail, run, step

DIST = ROOT / "dist"
TOOLS = ROOT / ".tools"
SBOM_TOOL = ("cargo-cyclonedx", "0.5.9")
SUMS = "SHA256SUMS"
ABOUT = "release.json"
MACOS = platform.system() == "Darwin"
DARWIN = {"x86_64": "x86_64-apple-darwin", "arm64": "aarch64-apple-darwin"}
FUNCTIONS = {"AlertFunction": "functions/alert.zip", "WatchFunction": "functions/watch.zip"}
"""Logical id in the template, and the file of its code."""
GLIBC = "2.17"
"""Of 2012: what any Linux distribution that still gets updates has at least."""
MACHINES = {"x86_64": 62, "arm64": 183}
"""The processor in the head of an ELF file: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html"""
ANSWERS = "samconfig.toml"
"""Where `sam deploy --guided` saves the answers: the one file that users change."""
DOCUMENTS = ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", ANSWERS, "docs", "stackset", "events/deletion-scheduled.json"]
"""What a release holds as it is."""
LICENCE = re.compile(r"(un)?licen[cs]e|copying|copyright|notice", re.IGNORECASE)

Files = dict[str, tuple[bytes, int]]
"""Of an archive: path, content and permissions."""


@dataclass(frozen=True)
class Source:
    """The commit that a release is of."""

    version: str
    commit: str
    date: int
    """Seconds since the epoch."""
    compiler: str
    """Whoever compiles it again takes the same."""

    @property
    def said(self) -> str:
        """What `keyguard --version` says of it."""
        return f"{self.version} ({self.commit[:12]} {time.strftime('%Y-%m-%d', time.gmtime(self.date))})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("--architecture", choices=sorted(TARGETS), default=ARCHITECTURE, help="default: this machine's")
    parser.add_argument("--quick", action="store_true", help="unoptimized, into .local/dist: to try it, not to ship it")
    options = parser.parse_args()
    return steps.main(lambda: _release(options.architecture, options.quick))


def _release(architecture: str, quick: bool) -> int:
    source = here(ROOT)
    dist = STATE / "dist" if quick else DIST
    for made in release(source, architecture, dist, QUICKLY if quick else {}):
        detail(f"{made.stat().st_size:>10,}  {made.relative_to(ROOT)}")
    return 0


def here(root: Path) -> Source:
    """The commit that is checked out, which has to be all there is, of a version that the changelog has."""
    (version,) = re.findall(r'^version = "([^"]+)"', (root / "Cargo.toml").read_text(), re.MULTILINE)
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", (root / "CHANGELOG.md").read_text(), re.MULTILINE):
        raise Failed(f"Cargo.toml has version {version}, and CHANGELOG.md no `## [{version}] - DATE`: write down what it brings.")
    changed = _git(root, "status", "--porcelain").splitlines()
    if changed:
        raise Failed(
            f"A release is of a commit, and {len(changed)} files differ from it, such as {changed[0][3:]}: "
            "commit or remove them (git status)."
        )
    commit, date = _git(root, "log", "-1", "--format=%H %ct").split()
    compiler = subprocess.run(["rustc", "--version"], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    return Source(version, commit, int(os.environ.get("SOURCE_DATE_EPOCH", date)), compiler)


def _git(root: Path, *words: str) -> str:
    said = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    if said.returncode:
        raise Failed(f"A release is of a git commit, and `git {' '.join(words)}` fails: {said.stderr.strip()}")
    return said.stdout.strip()


def release(source: Source, architecture: str, dist: Path, profile: Mapping[str, str]) -> list[Path]:
    """Builds all that ships for an architecture; returns the files. On macOS that is the command line alone."""
    if " " in str(ROOT):
        raise Failed(f"cargo's flags are split at spaces, so a release can't be built in {ROOT}: clone it into another folder.")
    tool = _sbom_tool()
    built = STATE / "release" / architecture
    dist.mkdir(parents=True, exist_ok=True)
    made = [] if MACOS else _guard(tool, source, architecture, dist, built, profile)
    made += _command_line(tool, source, architecture, dist, built, profile)
    return [*made, sum_up(dist, source.version)]


def _guard(tool: Path, source: Source, architecture: str, dist: Path, built: Path, profile: Mapping[str, str]) -> list[Path]:
    _target(architecture)
    step(f"version {source.version} of {source.commit[:12]} for {architecture}: the functions, by sam build")
    build(built, architecture, **anywhere(), **profile)
    name = f"kms-key-guard-{source.version}-{architecture}"
    sbom = _sbom(tool, source, TARGETS[architecture], "watch")
    files = guard_files(ROOT, source, architecture, {logical: (built / logical / "bootstrap").read_bytes() for logical in FUNCTIONS})
    files["THIRD-PARTY-LICENSES.txt"] = (_licences(sbom, "watch").encode(), 0o644)
    archive = zipped(_under(name, summed(files)), source.date)
    return [_written(dist / f"{name}.zip", archive), _written(dist / f"{name}.cdx.json", _document(sbom))]


def _command_line(tool: Path, source: Source, architecture: str, dist: Path, built: Path, profile: Mapping[str, str]) -> list[Path]:
    step("the command line, with its completions and man pages")
    name = f"keyguard-{source.version}-{'macos' if MACOS else 'linux'}-{architecture}"
    program = _keyguard(source, architecture, built, profile)
    pages = _pages(source, architecture, program, built)
    sbom = _sbom(tool, source, DARWIN[architecture] if MACOS else TARGETS[architecture], "cli")
    files = {
        "keyguard": (program.read_bytes(), 0o755),
        "LICENSE": ((ROOT / "LICENSE").read_bytes(), 0o644),
        "THIRD-PARTY-LICENSES.txt": (_licences(sbom, "cli").encode(), 0o644),
        **{str(page.relative_to(pages)): (page.read_bytes(), 0o644) for page in pages.rglob("*") if page.is_file()},
    }
    archive = tarred(_under(name, files), source.date)
    return [_written(dist / f"{name}.tar.gz", archive), _written(dist / f"{name}.cdx.json", _document(sbom))]


def _target(architecture: str) -> None:
    said = subprocess.run(["rustup", "target", "list", "--installed"], capture_output=True, text=True) if shutil.which("rustup") else None
    if said and TARGETS[architecture] not in said.stdout.split():
        raise Failed(f"Rust can't compile for {architecture} here: rustup target add {TARGETS[architecture]}")


def _sbom_tool() -> Path:
    """Only a release needs it, so only a release installs it."""
    name, version = SBOM_TOOL
    program = TOOLS / "bin" / name
    installed = (TOOLS / ".crates.toml").read_text() if program.exists() else ""
    if f'"{name} {version} ' not in installed:
        step(f"installing {name} {version} into {TOOLS.name}")
        command = ["cargo", "install", "--locked", "--root", TOOLS, f"{name}@={version}"]
        run("installing", command, LOGS / "install-sbom.log", ROOT, environment())
    return program


def _keyguard(source: Source, architecture: str, built: Path, profile: Mapping[str, str]) -> Path:
    which = ["build", "--locked", "--bin", "keyguard", "--features", "cli"]
    which += [] if "SAM_BUILD_MODE" in profile else ["--release"]
    # Without cargo-lambda's own optimizations, which are for Lambda's processors; Cargo.toml has ours.
    linux = ["--disable-optimizations", "--target", f"{TARGETS[architecture]}.{GLIBC}", "--lambda-dir", built]
    command = ["cargo", *which] if MACOS else ["cargo", "lambda", *which, *linux]
    run("building", command, LOGS / "build-keyguard.log", ROOT, environment(KEYGUARD_VERSION=source.said, **anywhere(), **profile))
    folder = ROOT / "target" / ("release" if "--release" in which else "debug")
    return folder / "keyguard" if MACOS else built / "keyguard" / "bootstrap"


def _pages(source: Source, architecture: str, keyguard: Path, built: Path) -> Path:
    """What clap writes of the command line: by what ships, or, for another processor, by the same code built for this one."""
    folder = built / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    command = [keyguard] if architecture == ARCHITECTURE else ["cargo", "run", "--quiet", "--features", "cli", "--bin", "keyguard", "--"]
    run("writing", [*command, "generate", folder], LOGS / "generate.log", ROOT, environment(KEYGUARD_VERSION=source.said))
    return folder


def guard_files(root: Path, source: Source, architecture: str, programs: Mapping[str, bytes]) -> Files:
    """What the guard is deployed from: the template, the functions' code and what users read."""
    files: Files = {}
    for name in DOCUMENTS:
        found = [root / name] if (root / name).is_file() else sorted(p for p in (root / name).rglob("*") if p.is_file())
        files |= {str(path.relative_to(root)): (path.read_bytes(), 0o644) for path in found}
    template = released_template((root / "template.yaml").read_text(), source.version, architecture)
    files["template.yaml"] = (template.encode(), 0o644)
    for logical, name in FUNCTIONS.items():
        if machine(programs[logical]) != architecture:
            raise Failed(f"{logical} is built for {machine(programs[logical])}, not for {architecture}.")
        # The date is not the commit's: code that stays the same keeps its hash, and CloudFormation leaves the function alone.
        files[name] = (zipped({"bootstrap": (programs[logical], 0o755)}, 0), 0o644)
    about = {
        "version": source.version,
        "commit": source.commit,
        "compiler": source.compiler,
        "architecture": architecture,
        "functions": FUNCTIONS,
    }
    files[ABOUT] = (_document(about), 0o644)
    return files


def machine(program: bytes) -> str:
    """The architecture that a program is built for, in Lambda's words if it has any."""
    if program[:4] != b"\x7fELF" or len(program) < 20:
        return "something that isn't a Linux program"
    (number,) = struct.unpack_from("<H", program, 18)
    return next((name for name, known in MACHINES.items() if known == number), f"processor {number} of the ELF format")


def released_template(template: str, version: str, architecture: str) -> str:
    """The template as it stands, comments and all, with code that is built: nothing is left for `sam build`."""
    other = next(name for name in TARGETS if name != architecture)
    for old, new in (
        ("The stack's name has at most 40 characters.\n", f"The stack's name has at most 40 characters. Version {version}.\n"),
        ("    Default: arm64\n", f"    Default: {architecture}\n"),
        ("    AllowedValues: [arm64, x86_64]\n", f"    AllowedValues: [{architecture}]\n"),
        (
            "    ConstraintDescription: Takes arm64 or x86_64.\n",
            f"    ConstraintDescription: Takes {architecture}, which this release is built for; for {other} take that release's zip.\n",
        ),
        *((_buildable(Path(name).stem), "") for name in FUNCTIONS.values()),
    ):
        template = _edited(template, old, new)
    for logical, name in FUNCTIONS.items():
        head, found, rest = template.partition(f"\n  {logical}:\n")
        template = head + found + rest.replace("      CodeUri: .\n", f"      CodeUri: {name}\n", 1)
    if "CodeUri: .\n" in template or any(f"CodeUri: {name}\n" not in template for name in FUNCTIONS.values()):
        raise Failed(f"template.yaml has other functions than {', '.join(FUNCTIONS)}: local/release.py has to know them.")
    return template


def _buildable(binary: str) -> str:
    return f"      BuildMethod: rust-cargolambda\n      BuildProperties:\n        Binary: {binary}\n"


def _edited(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise Failed(f"template.yaml has {text.count(old)} times what a release changes: {old.strip()!r}. See local/release.py.")
    return text.replace(old, new)


def summed(files: Files) -> Files:
    """The files with their checksums as one more."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, (content, _) in sorted(files.items()) if name != ANSWERS}
    lines = [f"{digest}  {name}\n" for name, digest in digests.items()]
    return {**files, SUMS: ("".join(lines).encode(), 0o644)}


def sum_up(dist: Path, version: str) -> Path:
    """The checksums of all files of a version, whichever architecture was built last."""
    files = {path.name: (path.read_bytes(), 0) for path in dist.iterdir() if f"-{version}-" in path.name}
    return _written(dist / SUMS, summed(files)[SUMS][0])


def _under(folder: str, files: Files) -> Files:
    return {f"{folder}/{name}": file for name, file in files.items()}


def zipped(files: Files, date: int) -> bytes:
    """A zip that depends on nothing but the files and the date."""
    packed = io.BytesIO()
    # The format knows no time before 1980.
    when = max(time.gmtime(date)[:6], (1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(packed, "w") as archive:
        for name, (content, mode) in sorted(files.items()):
            entry = zipfile.ZipInfo(name, when)
            entry.create_system, entry.external_attr = 3, (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".zip") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content, compresslevel=9)
    return packed.getvalue()


def tarred(files: Files, date: int) -> bytes:
    """A tar.gz that depends on nothing but the files and the date."""
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, packed, mtime=0) as compressed, tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, date
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _sbom(tool: Path, source: Source, target: str, features: str) -> dict[str, Any]:
    """The crates that are compiled into an artifact."""
    name = f"sbom-{target}-{features}"
    options = ["--format", "json", "--spec-version", "1.5", "--no-build-deps", "--no-default-features", "--features", features, "--target", target]
    command = [tool, "cyclonedx", "--manifest-path", ROOT / "Cargo.toml", "--override-filename", name, *options]
    # It writes beside Cargo.toml and nowhere else.
    written = ROOT / f"{name}.json"
    try:
        run("listing", command, LOGS / f"{name}.log", ROOT, environment(SOURCE_DATE_EPOCH=str(source.date)))
        return json.loads(anonymous(written.read_text()))
    finally:
        written.unlink(missing_ok=True)


def anonymous(text: str, root: Path = ROOT) -> str:
    """Without the folder it was made in."""
    return text.replace(f"path+file://{root}", "path+file:///kms-key-guard").replace(f"file://{root}", "file:///kms-key-guard")


def _licences(sbom: Mapping[str, Any], features: str) -> str:
    options = ["--locked", "--no-default-features", "--features", features, "--format-version", "1"]
    said = subprocess.run(["cargo", "metadata", *options], cwd=ROOT, capture_output=True, text=True)
    if said.returncode:
        raise Failed(f"cargo metadata fails: {said.stderr.strip()[-2000:]}")
    folders = {(p["name"], p["version"]): (Path(p["manifest_path"]).parent, p["license"]) for p in json.loads(said.stdout)["packages"]}
    crates = [(part["name"], part["version"]) for part in sbom["components"]]
    return licences((f"{name} {version}", *reversed(folders[name, version])) for name, version in crates)


def licences(crates: Iterable[tuple[str, str | None, Path]]) -> str:
    """The licences of crates (name and version, licence, folder): each text once, with the crates that bring it."""
    table, texts = [], defaultdict(list)
    for crate, licence, folder in sorted(crates):
        found = sorted(path for path in folder.iterdir() if path.is_file() and LICENCE.match(path.name))
        table.append(f"{crate}: {licence or 'see its text'}{'' if found else ' (without a text of its own)'}")
        for path in found:
            texts[path.read_text(errors="replace").replace("\r\n", "\n").strip()].append(crate)
    blocks = [f"{'=' * 100}\nOf {', '.join(dict.fromkeys(bringing))}:\n\n{text}\n" for text, bringing in texts.items()]
    return "Compiled into this program:\n\n" + "\n".join(table) + "\n\n" + "\n".join(blocks)


def _document(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


if __name__ == "__main__":
    sys.exit(main())
