"""The functions, built by `sam build` for this machine's processor: the binaries that ship, and that all tests drive.

    python -m local.build    builds them, or what has changed of them
"""

import fcntl
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from . import steps
from .steps import Failed, run, step

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".local"
BUILD = STATE / "build"
ALERT = BUILD / "AlertFunction" / "bootstrap"
WATCH = BUILD / "WatchFunction" / "bootstrap"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
"""Which of several processes of pytest this is; each has its own logs."""
LOGS = STATE / "log" / WORKER
ARCHITECTURE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(
    platform.machine().lower(), ""
)
"""This machine's, in Lambda's words."""
QUICKLY = {"SAM_BUILD_MODE": "debug", "CARGO_PROFILE_DEV_DEBUG": "false", "CARGO_PROFILE_DEV_STRIP": "true", "CARGO_INCREMENTAL": "0"}
"""Compiled in a third of the time; what ships is optimized, and starts and answers faster."""
TARGETS = {"x86_64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}
"""Lambda's architectures, in Rust's words."""


def main() -> int:
    return steps.main(_prepared)


def _prepared() -> int:
    prepare()
    return 0


def environment(**more: str) -> dict[str, str]:
    """The environment for every program we start: nothing of a real AWS account, no traces in the user's home."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAM_CLI_"))}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(STATE / "sam" / WORKER),
        # As in the Makefile: another path to the linker would make cargo build everything again.
        "CARGO_ZIGBUILD_CACHE_DIR": str(STATE / "cache"),
        "ZIG_GLOBAL_CACHE_DIR": str(STATE / "cache" / "zig"),
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def prepare() -> None:
    """Build the functions, and say so."""
    step("building the functions with sam build (the first time takes minutes: it compiles)")
    build()


def built() -> None:
    """Build, unless that is newer than all it is made of; once, however many processes ask at the same time."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_fresh():
            prepare()


def _is_fresh() -> bool:
    template = BUILD / "template.yaml"  # what sam build writes last
    sources = [ROOT / "Cargo.toml", ROOT / "Cargo.lock", ROOT / "template.yaml", *(ROOT / "src").rglob("*.rs")]
    return template.exists() and template.stat().st_mtime > max(source.stat().st_mtime for source in sources)


def anywhere() -> dict[str, str]:
    """What makes the compiled code the same wherever it is compiled: no path of this machine, which panics would show.

    cargo adds it to the flags that cargo-lambda gives, where RUSTFLAGS would replace those.
    """
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    prefixes = {home: "/cargo", ROOT: "/kms-key-guard", target: "/kms-key-guard/target"}
    return {"CARGO_BUILD_RUSTFLAGS": " ".join(f"--remap-path-prefix={path}={name}" for path, name in prefixes.items())}


def build(folder: Path = BUILD, architecture: str = ARCHITECTURE, **profile: str) -> None:
    """`sam build`, for this machine's processor unless told otherwise, which takes that Rust target.

    `profile` says in cargo's variables how to compile otherwise than what ships.
    """
    if platform.system() != "Linux":
        raise Failed(
            "The functions are run here as Linux binaries, so this needs Linux; "
            f"this is {platform.system()}. A Linux virtual machine or container will do."
        )
    if not architecture:
        raise Failed(f"Lambda knows x86_64 and arm64 processors; this is {platform.machine()}.")
    sam = Path(sys.executable).parent / "sam"
    command = [sam, "build", "--template-file", ROOT / "template.yaml", "--build-dir", folder, "--no-cached"]
    run(
        "building",
        [*command, "--parameter-overrides", f"Architecture={architecture}"],
        LOGS / "build.log",
        ROOT,
        environment(AWS_DEFAULT_REGION="eu-west-1", **profile),
        Compiled(TARGETS[architecture], "debug" if "SAM_BUILD_MODE" in profile else "release").so_far,
    )


class Compiled:
    """How far cargo is, which sam build doesn't show: the crates that are compiled, of all."""

    def __init__(self, built_for: str, profile: str) -> None:
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self._libraries = target / built_for / profile / "deps"
        # Without what runs in the compiler only, which isn't compiled into that folder.
        tree = ["cargo", "tree", "--locked", "--features", "watch", "--edges", "normal,no-proc-macro", "--prefix", "none"]
        said = subprocess.run(tree, cwd=ROOT, capture_output=True, text=True)
        self._all = {line.split(" ")[0].replace("-", "_") for line in said.stdout.splitlines() if line}
        self._began = time.monotonic()
        self._before = self._done()

    def so_far(self) -> str:
        done = self._done()
        compiled = _work(done) - _work(self._before)
        seconds = (time.monotonic() - self._began) * _work(self._all - done) / compiled if compiled else 0
        left = f", about {seconds:.0f} s left" if seconds else ""
        return f"({len(done)} of {len(self._all)} crates compiled{left})" if done < self._all else "(linking)"

    def _done(self) -> set[str]:
        return self._all & {library.name[3:].rpartition("-")[0] for library in self._libraries.glob("lib*.rlib")}


def _work(crates: set[str]) -> int:
    """What it takes to compile them; an AWS client takes as long as some twenty other crates."""
    return sum(20 if crate.startswith("aws_sdk_") else 1 for crate in crates)


if __name__ == "__main__":
    sys.exit(main())
