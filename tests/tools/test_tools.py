"""What is missing on a machine is said in one sentence, before anything is installed or compiled."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from local import tools


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with Rust 1.95.0, a C compiler and 4.1 GB of disk, and a checkout that needs 1.94.1."""
    for program, says in (("cargo", ""), ("cc", ""), ("rustc", "rustc 1.95.0 (0a1b2c3d4 2026-04-14)")):
        put(tmp_path / program, f"echo '{says}'")
    (tmp_path / "Cargo.toml").write_text('[package]\nrust-version = "1.94.1" # what the AWS SDK asks for\n')
    monkeypatch.setenv("PATH", str(tmp_path))
    disk(monkeypatch, 4.1)
    return tmp_path


def put(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def disk(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 1e9))


def test_nothing_is_missing(machine: Path) -> None:
    assert tools.missing(machine) is None


@pytest.mark.parametrize(("program", "says"), [("cargo", "Rust is not installed"), ("cc", "There is no C compiler")])
def test_a_program_that_is_not_there_is_named(machine: Path, program: str, says: str) -> None:
    (machine / program).unlink()
    assert (tools.missing(machine) or "").startswith(says)


@pytest.mark.parametrize("old", ["1.94.0", "1.9.9", "0.99.99"])
def test_too_old_a_rust_is_named_with_what_is_needed(machine: Path, old: str) -> None:
    put(machine / "rustc", f"echo 'rustc {old} (0a1b2c3d4 2020-01-01)'")
    assert tools.missing(machine) == f"Rust 1.94.1 or newer is needed, this is {old}: rustup update stable"


@pytest.mark.parametrize("new", ["1.94.1", "1.100.0", "2.0.0-nightly"])
def test_a_newer_rust_will_do(machine: Path, new: str) -> None:
    put(machine / "rustc", f"echo 'rustc {new} (0a1b2c3d4 2026-04-14)'")
    assert tools.missing(machine) is None


def test_a_rust_that_does_not_start_says_why(machine: Path) -> None:
    put(machine / "rustc", "echo 'error: no override and no default toolchain set' >&2; exit 1")
    assert "no override and no default toolchain set" in (tools.missing(machine) or "")


def test_a_disk_that_is_too_full_is_said_with_what_is_needed(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 3.9)
    assert tools.missing(machine) == (
        f"4 GB of disk are needed for what gets built and installed, {machine} has 3.9 GB free."
    )


def test_what_is_there_already_needs_no_disk(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 0.1)
    for folder in tools.NEEDS:
        (machine / folder).mkdir()
    assert tools.missing(machine) is None


@pytest.mark.parametrize(("length", "refused"), [(40, False), (41, True)])
def test_a_stack_name_that_is_too_long_is_said_before_anything_is_built(machine: Path, length: int, refused: bool) -> None:
    (machine / "samconfig.local.toml").write_text(f'[default.deploy.parameters]\nstack_name = "{"k" * length}"\n')
    said = tools.missing(machine)
    assert (said is not None) == refused
    assert not refused or f"at most 40 characters, {'k' * 41} in samconfig.local.toml has 41" in (said or "")
