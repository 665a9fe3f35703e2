"""What can be counted and comes out the same every time: the size of the binaries that ship, and the instructions and
allocations of `alert`, by valgrind, as it handles the same few events in the rig, with TLS as on AWS and without.

    make counts             compare with baseline.json: a size or a count above it by more than its tolerance fails
    make counts UPDATE=1    write baseline.json

Another compiler makes other instructions: with another than the baseline's, only the sizes are compared. Without valgrind
likewise; it is Debian's package of that name.
"""

import asyncio
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from local import rig  # noqa: E402
from local.build import ALERT, WATCH  # noqa: E402

BASELINE = ROOT / "bench" / "baseline.json"
SHIPPED = {"alert": ALERT, "watch": WATCH}
"""The functions as `sam build` makes them."""

EVENTS = ("deletion-scheduled", "deletion-cancelled", "key-disabled", "key-enabled", "key-deleted")
"""Samples: what the instructions and allocations of a warm event are the mean of."""
ROUNDS = 4

TOLERANCE = {"stripped bytes": 0.03, "instructions": 0.05}
"""How much above the baseline is still no news. A count varies by the addresses, times and hash seeds of a run, and by
the processor, which decides how the C library copies."""


SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Wrong(Exception):
    """Nothing can be counted; the message is for the person at the terminal."""


def size(binary: Path) -> dict[str, int]:
    """Bytes of a stripped binary, and zipped as it is uploaded."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.write(binary, "bootstrap")
    return {"stripped bytes": binary.stat().st_size, "zipped bytes": len(packed.getvalue())}


def compiler() -> str:
    return subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def has_valgrind() -> bool:
    return shutil.which("valgrind") is not None


# ---- instructions and allocations --------------------------------------------------------------------------------


COUNTED = {"callgrind": ["instructions"], "dhat": ["allocated bytes", "allocations"]}
"""What each of valgrind's tools counts."""


def per_event(binary: Path, tools: Sequence[str] = tuple(COUNTED), tls: bool = False) -> dict[str, dict[str, int]]:
    """Instructions, and allocations with their bytes: of the start with the first event, and of a warm event."""

    async def both(tool: str) -> tuple[list[int], list[int]]:
        return await under(tool, binary, 0, tls), await under(tool, binary, ROUNDS, tls)

    found: dict[str, dict[str, int]] = {}
    for tool in tools:
        started, handled = asyncio.run(both(tool))
        for name, first, all_ in zip(COUNTED[tool], started, handled, strict=True):
            warm = (all_ - first) // (ROUNDS * len(EVENTS))
            found[name] = {"start and first event": first, "warm event": warm}
    return found


def certificates(bundle: Path) -> Path:
    """Writes what a function trusts: as much as on any system, and the rig's own authority."""
    if not SYSTEM_CERTIFICATES.exists():
        raise Wrong(f"{SYSTEM_CERTIFICATES} isn't there: apt-get install ca-certificates")
    bundle.write_bytes(SYSTEM_CERTIFICATES.read_bytes() + (rig.TLS / "authority.pem").read_bytes())
    return bundle


async def under(tool: str, binary: Path, rounds: int, tls: bool = False) -> list[int]:
    """What valgrind's tool counts from the start to the end of so many rounds after a first event."""
    samples = [(ROOT / "events" / f"{name}.json").read_bytes() for name in EVENTS]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        program = Path(folder) / "alert"
        program.write_text(f"#!/bin/sh\nexec valgrind --tool={tool} --{tool}-out-file={out} {binary}\n")
        program.chmod(0o755)
        rig.LONGEST_INIT = 60.0
        # Everything takes some fifty times as long.
        trusted = {"SSL_CERT_FILE": str(certificates(Path(folder) / "trusted.pem"))} if tls else {}
        async with rig.rig({}, {}, 60.0, tls, program, ENRICH_TIMEOUT_MS="10000", **trusted) as (function, _, _):
            for event in [samples[0], *samples * rounds]:
                attempt = await function.invoke(event, "00000000-0000-4000-8000-000000000000")
                if attempt.ended != "answered":
                    raise Wrong(f"under {tool} the function {attempt.ended}: {attempt.said}")
            os.kill(function.process.pid, signal.SIGTERM)
            if await function.exit_status(60) is None:
                raise Wrong(f"{tool} doesn't end")
            said = "\n".join(line for _, line in function.log)
        if tool == "callgrind":
            return [int(re.findall(r"^summary: (\d+)", out.read_text(), re.M)[0])]
        total = re.findall(r"Total: +([\d,]+) bytes in ([\d,]+) blocks", said)
        return [int(number.replace(",", "")) for number in total[0]]


# ---- the check ---------------------------------------------------------------------------------------------------


def count() -> dict[str, Any]:
    """What the baseline holds, as it is now."""
    found: dict[str, Any] = {"rustc": compiler(), "architecture": platform.machine(), "binaries": {}}
    for name, binary in SHIPPED.items():
        if not binary.exists():
            raise Wrong(f"{binary.relative_to(ROOT)} isn't there: make counts builds it")
        found["binaries"][name] = {"stripped bytes": binary.stat().st_size}
    if has_valgrind():
        plain, tls = (per_event(SHIPPED["alert"], ["callgrind"], tls)["instructions"] for tls in (False, True))
        found["instructions"] = plain | {f"{what}, TLS": count for what, count in tls.items()}
    return found


def compare(baseline: dict[str, Any], found: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What is too much, and what else there is to say."""
    too_much, said = [], []

    def one(what: str, before: int, now: int, tolerance: float) -> None:
        change = now / before - 1
        line = f"{what}: {now:,}, {change:+.1%} of {before:,} (tolerance {tolerance:.0%})"
        (too_much if change > tolerance else said).append(line)

    if found["architecture"] != baseline["architecture"]:
        return [], [f"NOT COMPARED: the baseline is of {baseline['architecture']}, this is {found['architecture']}"]
    for name in SHIPPED:
        before, now = (of["binaries"].get(name) for of in (baseline, found))
        if before and now:
            one(f"{name}, stripped bytes", before["stripped bytes"], now["stripped bytes"], TOLERANCE["stripped bytes"])
        else:
            why = "it isn't built" if before else "it has no baseline (make counts UPDATE=1)"
            said.append(f"{name.upper()} NOT COMPARED: {why}")
    if "instructions" not in found:
        said.append("INSTRUCTIONS NOT COMPARED: there is no valgrind (apt-get install valgrind)")
    elif found["rustc"] != baseline["rustc"]:
        said.append(f"INSTRUCTIONS NOT COMPARED: the baseline is of {baseline['rustc']}, this is {found['rustc']}")
    else:
        for what, now in found["instructions"].items():
            one(f"instructions, {what}", baseline["instructions"][what], now, TOLERANCE["instructions"])
    return too_much, said


def main() -> int:
    try:
        found = count()
    except Wrong as wrong:
        print(f"counts: {wrong}", file=sys.stderr)
        return 1
    if os.environ.get("UPDATE"):
        if "instructions" not in found:
            print("counts: a baseline needs valgrind (apt-get install valgrind)", file=sys.stderr)
            return 1
        BASELINE.write_text(json.dumps(found, indent=2) + "\n")
        print(f"wrote {BASELINE.relative_to(ROOT)}")
        return 0
    too_much, said = compare(json.loads(BASELINE.read_text()), found)
    print("\n".join(said))
    for line in too_much:
        print(f"TOO MUCH: {line}", file=sys.stderr)
    if too_much:
        print("If it is worth it, say why in the commit and write a new baseline: make counts UPDATE=1", file=sys.stderr)
    return 1 if too_much else 0


if __name__ == "__main__":
    sys.exit(main())
