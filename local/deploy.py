"""`make deploy`: the guard into your AWS account. It asks for the settings once; further Regions get the same.

    python -m local.deploy [--region REGION] [--profile PROFILE] [--guided] [--use RELEASE]
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from . import steps, tools
from .build import ROOT, STATE
from .release import FUNCTIONS, machine
from .released import opened
from .steps import Failed, step

SAVED = ROOT / "samconfig.local.toml"
BUILT = ROOT / ".aws-sam" / "build"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make deploy", description=__doc__)
    parser.add_argument("--region", help="default: the one of the last time")
    parser.add_argument("--profile", help="of your AWS configuration")
    parser.add_argument("--guided", action="store_true", help="ask for the settings again")
    parser.add_argument("--architecture", help="default: as the last time")
    parser.add_argument("--use", type=Path, help="a release's zip or folder (default: what sam build left)")
    options = parser.parse_args()
    return steps.main(lambda: _deploy(options))


def _deploy(options: argparse.Namespace) -> int:
    if wrong := tools.long_name(ROOT):
        raise Failed(wrong)
    if not SAVED.exists():
        shutil.copy(ROOT / "samconfig.toml", SAVED)
    saved = settings(SAVED)
    folder, built_for, what = _what(options.use)
    same_architecture(built_for, what, options.architecture, saved.get("parameters", {}).get("Architecture"))
    command = sam(saved, folder / "template.yaml", built_for, options)
    status = subprocess.run(command, env={**os.environ, "SAM_CLI_TELEMETRY": "0"}).returncode
    if status == 0:
        print(_next(options, settings(SAVED), folder))
    return status


def _what(release: Path | None) -> tuple[Path, str, str]:
    """The folder to deploy from, the architecture it is built for, and what it is."""
    if release:
        found = opened(release, STATE / "deploy-release")
        step(f"version {found.version} (commit {found.commit}), as released: nothing is compiled")
        return found.folder, found.architecture, str(release)
    machines = set()
    for logical in FUNCTIONS:
        program = BUILT / logical / "bootstrap"
        if not program.is_file():
            raise Failed(f"{program} is missing: make build")
        with program.open("rb") as start:
            machines.add(machine(start.read(64)))
    if len(machines) != 1:
        raise Failed(f"The functions in {BUILT} are built for {' and '.join(sorted(machines))}: make build builds both alike.")
    return BUILT, machines.pop(), str(BUILT)


def same_architecture(built_for: str, what: str, asked: str | None, saved: str | None) -> None:
    """Lambda takes code for another processor without a word, and the function then can't start."""
    for wanted, by in ((asked, "ARCHITECTURE"), (not asked and saved, SAVED.name)):
        if wanted and wanted != built_for:
            raise Failed(f"{by} says {wanted}, and {what} is built for {built_for}: give ARCHITECTURE={built_for}, or what is built for {wanted}.")


def settings(path: Path) -> dict[str, Any]:
    """What the last guided deployment saved; `parameters` are the template's."""
    try:
        default = tomllib.loads(path.read_text()).get("default", {})
    except tomllib.TOMLDecodeError as wrong:
        raise Failed(f"{path.name} can't be read ({wrong}): mend it, or delete it to be asked again.") from wrong
    found = {**default.get("global", {}).get("parameters", {}), **default.get("deploy", {}).get("parameters", {})}
    said = found.get("parameter_overrides", [])
    words = shlex.split(said) if isinstance(said, str) else [str(word) for word in said]
    parameters = {}
    for name, equals, value in (word.partition("=") for word in words):
        if not equals:
            raise Failed(f"{path.name} has a parameter that isn't NAME=VALUE: {name!r}")
        # SAM writes the values of a list in quotes.
        parameters[name] = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return {**found, "parameters": parameters}


def sam(saved: dict[str, Any], template: Path, architecture: str, options: argparse.Namespace) -> list[str]:
    """The command: it asks only if there are no answers yet, or on demand."""
    parameters = {**saved["parameters"], "Architecture": architecture}
    command = ["sam", "deploy", "--template-file", str(template), "--config-file", str(SAVED)]
    command += ["--guided"] if options.guided or not saved["parameters"] else ["--no-confirm-changeset"]
    for option, value in (("--region", options.region), ("--profile", options.profile)):
        command += [option, value] if value else []
    return [*command, "--parameter-overrides", *(f'{name}="{_quoted(value)}"' for name, value in parameters.items())]


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _next(options: argparse.Namespace, saved: dict[str, Any], folder: Path) -> str:
    keyguard = "keyguard" if options.use else "target/release/keyguard"
    words = [keyguard, "doctor", "--prove", "--stack-name", str(saved.get("stack_name", "kms-key-guard"))]
    for option, value in (("--region", options.region or saved.get("region")), ("--profile", options.profile or saved.get("profile"))):
        words += [option, str(value)] if value else []
    words += ["--release", str(folder)] if options.use else []
    build = "" if options.use else "\n  cargo build --release --bin keyguard --features cli"
    return (
        "\nAnswer the confirmation mail, if you gave an address. Then see that alerts arrive (this sends a test, marked TEST):"
        f"{build}\n  {shlex.join(words)}"
    )


if __name__ == "__main__":
    sys.exit(main())
