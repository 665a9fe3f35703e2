"""The parts of a release that need no compiler: what is packed, that it is the same bytes again, and what is refused."""

import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from samcli.yamlhelper import yaml_parse

from local import release, released
from local.build import ROOT
from local.release import FUNCTIONS, Source
from local.steps import Failed

SOURCE = Source("1.2.3", "0123456789abcdef0123456789abcdef01234567", 1_764_028_800, "rustc 1.95.0")
TEMPLATE = (ROOT / "template.yaml").read_text()


def program(machine: str, more: bytes = b"") -> bytes:
    """The head of a Linux program for a processor."""
    return b"\x7fELF" + bytes(14) + struct.pack("<H", release.MACHINES[machine]) + more


def packed(architecture: str = "x86_64", source: Source = SOURCE) -> release.Files:
    programs = {logical: program(architecture, logical.encode()) for logical in FUNCTIONS}
    return release.summed(release.guard_files(ROOT, source, architecture, programs))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release, unpacked."""
    return unpack(packed(), tmp_path / "release")


def unpack(files: release.Files, folder: Path) -> Path:
    for name, (content, _) in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# ---- What is packed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "other"), [("x86_64", "arm64"), ("arm64", "x86_64")])
def test_the_template_takes_the_architecture_that_it_comes_with_and_has_nothing_to_build(architecture: str, other: str) -> None:
    text = release.released_template(TEMPLATE, "1.2.3", architecture)
    template = yaml_parse(text)
    parameter = template["Parameters"]["Architecture"]
    assert (parameter["Default"], parameter["AllowedValues"]) == (architecture, [architecture])
    assert other in parameter["ConstraintDescription"]
    assert template["Description"].endswith("Version 1.2.3.")
    for logical, code in FUNCTIONS.items():
        function = template["Resources"][logical]
        assert function["Properties"]["CodeUri"] == code
        assert "BuildMethod" not in function["Metadata"] and function["Metadata"]["checkov"]


def test_the_template_keeps_its_comments_and_everything_else() -> None:
    ours, theirs = TEMPLATE.splitlines(), release.released_template(TEMPLATE, "1.2.3", "arm64").splitlines()
    assert [line for line in theirs if line.lstrip().startswith("#")] == [line for line in ours if line.lstrip().startswith("#")]
    assert len(ours) - len(theirs) == 6
    assert len(set(theirs) - set(ours)) <= 5


def test_a_template_that_no_longer_has_what_is_changed_is_refused() -> None:
    with pytest.raises(Failed, match=r"0 times what a release changes: 'AllowedValues"):
        release.released_template(TEMPLATE.replace("AllowedValues: [arm64, x86_64]", "AllowedValues: [arm64]"), "1", "arm64")
    with pytest.raises(Failed, match="has other functions than AlertFunction, WatchFunction"):
        release.released_template(TEMPLATE + "\n      CodeUri: .\n", "1", "arm64")


def test_a_program_for_another_processor_is_not_packed() -> None:
    with pytest.raises(Failed, match="AlertFunction is built for x86_64, not for arm64"):
        release.guard_files(ROOT, SOURCE, "arm64", {logical: program("x86_64") for logical in FUNCTIONS})


def test_the_code_of_a_function_is_one_program_that_may_be_run_and_has_no_date() -> None:
    later = Source("1.2.4", SOURCE.commit, SOURCE.date + 86_400, SOURCE.compiler)
    for name in FUNCTIONS.values():
        code = packed()[name][0]
        assert code == packed(source=later)[name][0]
        (entry,) = zipfile.ZipFile(io.BytesIO(code)).infolist()
        assert (entry.filename, entry.external_attr >> 16, entry.date_time) == ("bootstrap", 0o100755, (1980, 1, 1, 0, 0, 0))


def test_archives_depend_on_files_and_date_alone() -> None:
    files = {"b": (b"two", 0o644), "a": (b"one", 0o755)}
    turned = dict(reversed(files.items()))
    for pack in (release.zipped, release.tarred):
        assert pack(files, SOURCE.date) == pack(turned, SOURCE.date) != pack(files, SOURCE.date + 2)
    with tarfile.open(fileobj=io.BytesIO(release.tarred(files, SOURCE.date))) as archive:
        assert [(m.name, m.mode, m.mtime, m.uid, m.uname) for m in archive] == [
            ("a", 0o755, SOURCE.date, 0, ""), ("b", 0o644, SOURCE.date, 0, "")
        ]  # fmt: skip


def test_every_file_is_in_the_checksums_as_sha256sum_reads_them(folder: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"SHA256SUMS", "samconfig.toml"}
    assert {"template.yaml", "README.md", "LICENSE", "stackset/spoke.yaml", "docs/runbook.md"} <= listed


def test_answers_that_sam_saved_leave_a_release_whole(folder: Path, tmp_path: Path) -> None:
    (folder / "samconfig.toml").write_text((folder / "samconfig.toml").read_text() + 'parameter_overrides = "SweepHour=7"')
    assert released.opened(folder, tmp_path).version == "1.2.3"


def test_an_sbom_does_not_say_where_it_was_made() -> None:
    text = '"path+file:///home/me/guard#0.1.0" "pkg:cargo/kms-key-guard@0.1.0?download_url=file:///home/me/guard"'
    assert "/home/me" not in release.anonymous(text, Path("/home/me/guard"))


def test_licences_are_told_once_each_with_the_crates_that_bring_them(tmp_path: Path) -> None:
    for name, text in (("a", "Do as you like."), ("b", "Do as you like.\r\n"), ("c", None)):
        (tmp_path / name).mkdir()
        if text:
            (tmp_path / name / "LICENSE-MIT").write_text(text)
    said = release.licences((f"{name} 1.0.0", "MIT", tmp_path / name) for name in "cba")
    assert said.count("Do as you like.") == 1 and "Of a 1.0.0, b 1.0.0:" in said
    assert "c 1.0.0: MIT (without a text of its own)" in said


# ---- What a release is of -------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "guard"
    root.mkdir()
    (root / "Cargo.toml").write_text('[package]\nversion = "1.2.3"\n')
    (root / "CHANGELOG.md").write_text("## [Unreleased]\n\n## [1.2.3] - 2026-11-25\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--message", "all")
    return root


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=root, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})


def test_a_release_is_of_the_commit_and_says_so(repository: Path) -> None:
    source = release.here(repository)
    assert source.version == "1.2.3" and len(source.commit) == 40 and source.date > 1_700_000_000
    assert source.said.startswith(f"1.2.3 ({source.commit[:12]} 20")


def test_a_version_that_the_changelog_does_not_have_is_refused(repository: Path) -> None:
    (repository / "Cargo.toml").write_text('version = "1.2.4"\n')
    with pytest.raises(Failed, match=r"version 1\.2\.4, and CHANGELOG\.md no `## \[1\.2\.4\] - DATE`"):
        release.here(repository)


def test_a_tree_with_changes_of_its_own_is_refused(repository: Path) -> None:
    (repository / "new.rs").write_text("")
    with pytest.raises(Failed, match=r"1 files differ from it, such as new\.rs"):
        release.here(repository)


def test_a_folder_that_is_no_clone_is_refused(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    with pytest.raises(Failed, match="A release is of a git commit"):
        release.here(repository)


# ---- What is refused before anything is deployed --------------------------------------------------------------------


def test_a_whole_release_is_opened_from_its_folder_and_from_its_zip(folder: Path, tmp_path: Path) -> None:
    assert released.opened(folder, tmp_path) == released.Released(folder, "1.2.3", SOURCE.commit, "x86_64")
    archive = tmp_path / "dist" / "kms-key-guard-1.2.3-x86_64.zip"
    archive.parent.mkdir()
    archive.write_bytes(release.zipped({f"a-folder/{name}": file for name, file in packed().items()}, SOURCE.date))
    release.sum_up(archive.parent, "1.2.3")
    assert released.opened(archive, tmp_path / "unpacked").folder == tmp_path / "unpacked" / "a-folder"
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(Failed, match=rf"{archive} isn't what was released: its SHA-256 is "):
        released.opened(archive, tmp_path / "unpacked")
    archive.rename(archive.with_name("other.zip"))
    with pytest.raises(Failed, match=r"SHA256SUMS doesn't list other\.zip"):
        released.opened(archive.with_name("other.zip"), tmp_path / "unpacked")


def replaced(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def code_for(architecture: str) -> bytes:
    return packed(architecture)["functions/watch.zip"][0]


def an_older_template(folder: Path) -> None:
    (folder / "template.yaml").write_text(release.released_template(TEMPLATE, "1.1.0", "x86_64"))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file is missing": (lambda folder: (folder / "docs/runbook.md").unlink(), r"docs/runbook\.md is missing in "),
    "a function is missing": (lambda folder: (folder / "functions/alert.zip").unlink(), r"functions/alert\.zip is missing in "),
    "a wrong checksum": (replaced("stackset/scp.json", b"x"), r"stackset/scp\.json isn't what was released: its SHA-256 is [0-9a-f]{64}, and "),
    "another architecture's code": (
        replaced("functions/watch.zip", code_for("arm64")), r"functions/watch\.zip in .* is built for arm64, and the release is for x86_64",
    ),
    "an old template": (an_older_template, r"template\.yaml in .* is of version 1\.1\.0, and the functions are of 1\.2\.3"),
    "the source's template": (replaced("template.yaml", TEMPLATE.encode()), r"template\.yaml in .* is not a release's"),
    "code that is no zip": (replaced("functions/alert.zip", b"x"), r"alert\.zip isn't the code of a function"),
    "no checksums": (lambda folder: (folder / "SHA256SUMS").unlink(), "isn't the folder of an unpacked release: it has no SHA256SUMS"),
    "checksums of elsewhere": (replaced("SHA256SUMS", b"0" * 64 + b"  ../x\n"), "has a line that isn't a checksum and a file"),
    "a description that is none": (replaced("release.json", b"{}"), "doesn't say what release it is"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_a_whole_release_is_refused_in_a_sentence(what: str, folder: Path, tmp_path: Path) -> None:
    spoil, says = REFUSED[what]
    spoil(folder)
    with pytest.raises(Failed, match=says) as refused:
        released.opened(folder, tmp_path / "unpacked")
    assert "\n" not in str(refused.value)


def test_what_is_no_release_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="There is no .*: give a release's zip"):
        released.opened(tmp_path / "dist.zip", tmp_path)
    (tmp_path / "dist.zip").write_bytes(b"<html>")
    with pytest.raises(Failed, match=r"can't be unpacked .*: download it again"):
        released.opened(tmp_path / "dist.zip", tmp_path / "unpacked")


def test_a_release_describes_itself(folder: Path) -> None:
    assert json.loads((folder / "release.json").read_text()) == {
        "version": "1.2.3", "commit": SOURCE.commit, "compiler": "rustc 1.95.0", "architecture": "x86_64", "functions": FUNCTIONS
    }  # fmt: skip
