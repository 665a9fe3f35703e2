"""Builds and measures everything in one go: `make bench` (QUICK=1 for fewer rounds and a small archive).

    function   cold start (with and without TLS, and on the share of a processor that Lambda leaves it), warm event and peak
               memory of the release `alert`, beside a function on the same runtime that only answers (bare/), and beside
               the job as people deploy it today (peers/handler.py, boto3); instructions and allocations of an event
               (counts.py)
    size       of the functions, for both processors, and what is in them
    core       record bytes to rendered alert, beside a plain parse of the same bytes (core/) and beside Panther's rule on
               its own library (peers/panther.py)
    replay     a made-up archive (archive.py) through `keyguard replay`, zcat, zcat and jq, and a Python/orjson loop

The rounds are interleaved, so that whatever else the machine does hits all alike; the figures are medians with the
quartiles. A time is never asserted. It fails if a peer's count is another or its version isn't the pinned one.
"""

import asyncio
import hashlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import archive  # noqa: E402
import counts  # noqa: E402
from counts import Wrong  # noqa: E402
from local import rig  # noqa: E402

WORK = ROOT / ".local" / "bench"
VENV = WORK / "venv"
ALERT = ROOT / "target" / "release" / "alert"
BINARIES = {"alert": [], "watch": ["--features", "watch"]}
"""The functions, each with what cargo wants to build it."""
ARM64 = "aarch64-unknown-linux-gnu"
KEYGUARD = ROOT / "target" / "release" / "keyguard"
BARE = ROOT / "bench" / "bare"
CORE = ROOT / "bench" / "core"
EVENT = ROOT / "events" / "deletion-scheduled.json"

QUICK = bool(os.environ.get("QUICK"))
STARTS, WARM_EVENTS, WARM_ROUNDS, REPLAYS, MEGABYTES = (4, 30, 1, 1, 60) if QUICK else (25, 200, 5, 5, 400)
SEED = 2026

PINNED = {"jq --version": "jq-1.6", "zcat --version": "zcat (gzip) 1.12"}
"""The peers that come with the system; those in Python are pinned in requirements.txt."""

GROUPS = Path("/sys/fs/cgroup/cpu") if Path("/sys/fs/cgroup/cpu").is_dir() else Path("/sys/fs/cgroup")
"""Linux's control groups for processor time: the first version's, or the second's."""
LIMIT = "cpu.cfs_quota_us" if GROUPS.name == "cpu" else "cpu.max"
PERIOD = 20_000
"""Microseconds in which a held process may run for a fourteenth."""

JQ = f"""[.Records[] | select(.eventSource == "kms.amazonaws.com" and .errorCode == null and .errorMessage == null
  and (.eventName | IN({", ".join(json.dumps(name) for name in archive.HITS)})))] | length"""


def main() -> int:
    try:
        build()
        check_versions()
        function = asyncio.run(measure_function())
        figures = {
            "function": function,
            "core": core(),
            "replay": replay(),
            # What is timed comes before what compiles and counts.
            "counts": counts.per_event(ALERT) if counts.has_valgrind() else "not measured: no valgrind",
            "size": sizes(),
            "crates": crates(),
        }
    except Wrong as wrong:
        print(f"bench: {wrong}", file=sys.stderr)
        return 1
    table = markdown(figures)
    print("\n" + table)
    WORK.mkdir(parents=True, exist_ok=True)
    written = [WORK / "results.json"]
    written[0].write_text(json.dumps(figures, indent=2) + "\n")
    if not QUICK:
        written.append(ROOT / "bench" / "results.md")
        written[1].write_text(table)
    print(f"written to {' and '.join(str(path.relative_to(ROOT)) for path in written)}")
    return 0


# ---- what is measured --------------------------------------------------------------------------------------------


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a program; its output."""
    try:
        done = subprocess.run([str(word) for word in command], cwd=cwd, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError as error:
        raise Wrong(f"there is no {command[0]} (make bench needs cargo and Debian's packages gzip, jq and python3-venv)") from error
    if done.returncode:
        raise Wrong(f"{' '.join(map(str, command))} ended with status {done.returncode}")
    return done.stdout


def build() -> None:
    print("building the release binaries (the first time takes minutes)", flush=True)
    for name, how in BINARIES.items():
        run("cargo", "build", "--quiet", "--release", "--locked", "--bin", name, *how)
    run("cargo", "build", "--quiet", "--release", "--locked", "--features", "cli", "--bin", "keyguard")
    run("cargo", "build", "--quiet", "--release", "--locked", "--target-dir", WORK / "bare", cwd=BARE)
    run("cargo", "build", "--quiet", "--release", "--locked", "--target-dir", ROOT / "target", cwd=CORE)
    requirements = ROOT / "bench" / "requirements.txt"
    ready = VENV / "ready"
    if not ready.exists() or ready.stat().st_mtime < requirements.stat().st_mtime:
        run(sys.executable, "-m", "venv", "--clear", VENV)
        pip = [VENV / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, "--no-deps", "--require-hashes", "--requirement", requirements)
        ready.touch()


def check_versions() -> None:
    for command, wanted in PINNED.items():
        found = run(*command.split()).splitlines()[0]
        if found != wanted:
            raise Wrong(f"{command} says {found!r}, the figures are against {wanted!r}: see PINNED in bench/bench.py")
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "bench" / "requirements.txt").read_text(), re.M))
    installed = json.loads(run(VENV / "bin" / "pip", "list", "--format", "json", "--disable-pip-version-check"))
    versions = {re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"] for package in installed}
    for name, wanted in pinned.items():
        if versions.get(name) != wanted:
            raise Wrong(f"{name} is {versions.get(name)}, pinned is {wanted}")
    runtime = re.compile(r'name = "lambda_runtime"\nversion = "(.+)"')
    ours = runtime.findall((ROOT / "Cargo.lock").read_text())
    for peer in (BARE, CORE):
        if (theirs := runtime.findall((peer / "Cargo.lock").read_text())) != ours:
            raise Wrong(f"the guard is on lambda_runtime {ours}, {peer.name} on {theirs}")


# ---- the function ------------------------------------------------------------------------------------------------


def boto3_function() -> Path:
    """The Python function as a program of its own."""
    program = WORK / "boto3-function"
    program.write_text(
        f"#!{VENV}/bin/python\nimport sys\nsys.path[:0] = [{str(ROOT / 'bench' / 'peers')!r}]\n"
        "from awslambdaric.__main__ import main\nmain(['awslambdaric', 'handler.handler'])\n"
    )
    program.chmod(0o755)
    return program


async def measure_function() -> dict[str, Any]:
    functions = {"alert": ALERT, "bare": WORK / "bare" / "release" / "bare", "boto3": boto3_function()}
    messages = {"alert": 2, "bare": 0, "boto3": 1}
    event = EVENT.read_bytes()
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in functions}
    for turn in range(STARTS + 1):
        for name, program in functions.items():
            cold = await cold_start(program, event, messages[name])
            if messages[name]:
                with_tls = await cold_start(program, event, messages[name], tls=True)
                cold |= {f"TLS {measure}": of for measure, of in with_tls.items()}
                with fourteenth() as group:
                    held = await cold_start(program, event, messages[name], tls=True, group=group) if group else {}
                cold |= {f"held TLS {measure}": of for measure, of in held.items()}
            if turn:  # the first one only fills the caches
                samples[name].append(cold)
    for _ in range(WARM_ROUNDS):
        for name, program in functions.items():
            samples[name].append(await warm(program, event) | await cold_work(program, event, tls=messages[name] > 0))
    measures = {key for sample in samples["alert"] for key in sample}
    taken = {name: {key: [one[key] for one in of if key in one] for key in measures} for name, of in samples.items()}
    return {name: {key: spread(of[key]) for key in sorted(measures) if of[key]} for name, of in taken.items()}


@contextmanager
def fourteenth() -> Iterator[Path | None]:
    """A control group to `hold`; None if this user or system can't have one."""
    group = GROUPS / "kms-key-guard-bench"
    try:
        group.mkdir(exist_ok=True)
    except OSError:
        yield None
        return
    try:
        # The second version may keep the limits from a group.
        yield group if (group / LIMIT).exists() else None
    finally:
        group.rmdir()


def hold(group: Path) -> None:
    """Let the group's processes share a fourteenth of a processor from now on: what Lambda gives a function of 128 MB from
    its first event on. <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>
    """
    if LIMIT == "cpu.max":
        (group / LIMIT).write_text(f"{PERIOD // 14} {PERIOD}")
    else:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / LIMIT).write_text(str(PERIOD // 14))


async def cold_start(
    program: Path, event: bytes, messages: int, tls: bool = False, group: Path | None = None
) -> dict[str, float]:
    """Milliseconds from the start of the process until it asks for its first event, handles it, and all topics have it.
    With a control group, that is held from the moment that the process asks.
    """
    trusted = {"SSL_CERT_FILE": str(certificates()), "AWS_CA_BUNDLE": str(certificates())} if tls else {}
    async with rig.rig({}, {}, 30.0, tls, program, AWS_DEFAULT_REGION=rig.REGION, **trusted) as (function, sns, _):
        started = time.monotonic()
        await function.start()
        if group:
            # Moving a process takes the kernel some milliseconds, so it is moved before it is held.
            (group / "cgroup.procs").write_text(str(function.process.pid))
            await function.asked.wait()
            hold(group)
        attempt = await function.invoke(event, "00000000-0000-4000-8000-000000000000")
        said(attempt, program)
        if len(sns.messages) != messages:
            raise Wrong(f"{program.name} published {len(sns.messages)} messages, expected {messages}")
        ready = attempt.began - started
        accepted = max((message.at for message in sns.messages), default=attempt.began + attempt.seconds) - started
        return {
            "ready ms": ready * 1e3,
            "first event ms": attempt.seconds * 1e3,
            "cold ms": accepted * 1e3,
        }


async def cold_work(program: Path, event: bytes, tls: bool) -> dict[str, float]:
    """Milliseconds of processor time until it asks for its first event, and for that event."""
    trusted = {"SSL_CERT_FILE": str(certificates()), "AWS_CA_BUNDLE": str(certificates())} if tls else {}
    async with rig.rig({}, {}, 30.0, tls, program, AWS_DEFAULT_REGION=rig.REGION, **trusted) as (function, _, _):
        await function.start()
        await function.asked.wait()
        ready = processor_time(function.process.pid)
        said(await function.invoke(event, "00000000-0000-4000-8000-000000000000"), program)
        first = processor_time(function.process.pid) - ready
    return {"ready CPU ms": ready * 1e3, "first event CPU ms": first * 1e3}


async def warm(program: Path, event: bytes) -> dict[str, float]:
    """A handled event, by the clock of the rig (which serves every request itself) and by the process's own time."""
    async with rig.rig({}, {}, 30.0, binary=program, AWS_DEFAULT_REGION=rig.REGION) as (function, _, _):
        for _ in range(10):
            said(await function.invoke(event, "warm"), program)
        process, seconds = function.process.pid, []
        before = processor_time(process)
        for _ in range(WARM_EVENTS):
            attempt = await function.invoke(event, "warm")
            said(attempt, program)
            seconds.append(attempt.seconds)
        used = (processor_time(process) - before) / WARM_EVENTS
        status = Path(f"/proc/{process}/status").read_text()
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024
        return {"warm ms": statistics.median(seconds) * 1e3, "warm CPU ms": used * 1e3, "peak MiB": peak}


def said(attempt: rig.Attempt, program: Path) -> None:
    if attempt.ended != "answered":
        raise Wrong(f"{program.name} {attempt.ended}: {attempt.said}")


def processor_time(process: int) -> float:
    """Seconds on a processor, of all its threads."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def certificates() -> Path:
    bundle = WORK / "certificates.pem"
    return bundle if bundle.exists() else counts.certificates(bundle)


# ---- size --------------------------------------------------------------------------------------------------------


def sizes() -> dict[str, Any]:
    """The functions for both processors: built here, or the reason why not."""
    found: dict[str, Any] = {}
    for name, how in BINARIES.items():
        found[name] = {platform.machine(): counts.size(ROOT / "target" / "release" / name)}
        if platform.machine() == "x86_64":
            found[name]["arm64"] = arm64(name, how)
    return found


def arm64(name: str, how: list[str]) -> Any:
    """As `sam build` makes it, with cargo-lambda and zig."""
    lambda_ = ROOT / ".venv" / "bin" / "cargo-lambda"
    library = subprocess.run(["rustc", "--print", "target-libdir", "--target", ARM64], stdout=subprocess.PIPE, text=True)
    if not Path(library.stdout.strip()).exists():
        return f"not built here: there is no Rust target {ARM64} (rustup target add {ARM64})"
    if not lambda_.exists():
        return "not built here: there is no cargo-lambda (make build installs it)"
    print(f"building {name} for arm64", flush=True)
    os.environ["PATH"] = f"{lambda_.parent}:{os.environ['PATH']}"
    run(lambda_, "lambda", "build", "--quiet", "--release", "--locked", "--arm64", "--bin", name, *how, "--lambda-dir", WORK / "arm64")
    return counts.size(WORK / "arm64" / name / "bootstrap")


def crates() -> list[dict[str, Any]]:
    """The ten crates with the most code in `alert`, by the symbols of the same build before it is stripped. Generic code
    counts for the crate that wrote it."""
    with_symbols, stripped = WORK / "alert-with-symbols", WORK / "alert-with-symbols-of"
    digest = hashlib.sha256(ALERT.read_bytes()).hexdigest()
    if not stripped.exists() or stripped.read_text() != digest:
        print("building alert with symbols", flush=True)
        cargo = ("--quiet", "--release", "--locked", "--bin", "alert")
        run("cargo", "rustc", *cargo, "--", "-C", "strip=none")
        shutil.copy(ALERT, with_symbols)
        run("cargo", "build", *cargo)
        stripped.write_text(hashlib.sha256(ALERT.read_bytes()).hexdigest())
    found: Counter[str] = Counter()
    for line in run("nm", "--print-size", "--demangle", with_symbols).splitlines():
        match line.split(None, 3):
            case [_, size, "t" | "T" | "w" | "W", name]:
                crate = re.match(r"(?:<|&|\(|\[|\*const |\*mut |mut |dyn )*([a-z_][a-z0-9_]*)(?:\[\w+\])?::", name)
                found[crate[1] if crate else "C, assembler and the rest"] += int(size, 16)
    return [{"crate": crate, "KB": size / 1e3, "share": size / found.total()} for crate, size in found.most_common(10)]


def core() -> dict[str, Any]:
    print("core: record bytes to rendered alert", flush=True)
    ours = json.loads(run(ROOT / "target" / "release" / "core-bench"))
    panther = json.loads(run(VENV / "bin" / "python", ROOT / "bench" / "peers" / "panther.py", EVENT, "0.2"))
    return ours | {"panther_alerts_per_second": panther["alerts_per_second"]}


# ---- replay ------------------------------------------------------------------------------------------------------


def replay() -> dict[str, Any]:
    print(f"replay: an archive of {MEGABYTES} MB", flush=True)
    folder = WORK / f"archive-{MEGABYTES}-{SEED}"
    made = archive.write(folder, MEGABYTES, SEED)
    files = [str(path) for path in made.files]
    peers: dict[str, tuple[list[Sequence[str | Path]], int]] = {
        "keyguard": ([[KEYGUARD, "replay", "--format", "ocsf", folder]], made.hits),
        "zcat": ([["zcat", *files]], made.plain),
        "zcat, jq": ([["zcat", *files], ["jq", JQ]], made.hits),
        "Python, orjson": ([[VENV / "bin" / "python", ROOT / "bench" / "peers" / "replay.py", *files]], made.hits),
    }
    count = {
        "keyguard": lambda out: out.count(b"\n"),
        "zcat": int,
        "zcat, jq": lambda out: sum(map(int, out.split())),
        "Python, orjson": int,
    }
    peers["zcat"][0].append(["wc", "-c"])
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(REPLAYS):
        for name, (pipeline, expected) in peers.items():
            took, output = piped(pipeline)
            if (got := count[name](output)) != expected:
                raise Wrong(f"{name} counts {got}, expected {expected}")
            seconds[name].append(took)
    return {
        "archive": {"MB": made.plain / 1e6, "packed MB": made.packed / 1e6, "records": made.records, "hits": made.hits,
                    "files": len(files), "seed": SEED},
        "seconds": {name: spread(taken) for name, taken in seconds.items()},
        "GB/s": {name: made.plain / 1e9 / statistics.median(taken) for name, taken in seconds.items()},
        "keyguard peak MiB": peak_memory(peers["keyguard"][0][0]),
    }  # fmt: skip


def peak_memory(command: Sequence[str | Path]) -> float:
    """MiB, in a run of its own; looked at so often that only the very end is missed."""
    peak = 0
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for found in re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text()):
                peak = max(peak, int(found))
            time.sleep(0.002)
    return peak / 1024


def piped(pipeline: Sequence[Sequence[str | Path]]) -> tuple[float, bytes]:
    """Seconds and output of programs in a pipe."""
    started = time.monotonic()
    processes: list[subprocess.Popen[bytes]] = []
    for command in pipeline:
        stdin = processes[-1].stdout if processes else subprocess.DEVNULL
        words = [str(word) for word in command]
        processes.append(
            subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        if len(processes) > 1 and (pipe := processes[-2].stdout):
            pipe.close()
    output = pipe.read() if (pipe := processes[-1].stdout) else b""
    processes[-1].wait()
    took = time.monotonic() - started
    for process, command in zip(processes, pipeline, strict=True):
        if process.wait():
            raise Wrong(f"{command[0]} ended with status {process.returncode}")
    return took, output


# ---- what is said ------------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": median, "low": low, "high": high}


def markdown(figures: dict[str, Any]) -> str:
    function, replayed, core_ = figures["function"], figures["replay"], figures["core"]

    def value(name: str, key: str) -> str:
        of = function[name][key]
        digits = 2 if of["median"] < 10 else 1
        return f"{of['median']:.{digits}f} ({of['low']:.{digits}f} to {of['high']:.{digits}f})"

    def median(name: str, key: str) -> float:
        return function[name][key]["median"]

    rows = [
        [key, *(value(name, key) for name in ("alert", "bare", "boto3")),
         f"{median('alert', key) / median('bare', key):.1f} ×", f"{median('boto3', key) / median('alert', key):.1f} ×"]
        for key in ("cold ms", "ready ms", "first event ms", "warm ms", "warm CPU ms", "peak MiB")
    ]  # fmt: skip
    rows[3:3] = [
        [f"{key}, with TLS", value("alert", f"TLS {key}"), "", value("boto3", f"TLS {key}"), "",
         f"{median('boto3', f'TLS {key}') / median('alert', f'TLS {key}'):.1f} ×"]
        for key in ("cold ms", "ready ms", "first event ms")
    ]  # fmt: skip
    if "held TLS cold ms" in function["alert"]:
        times = median("alert", "held TLS cold ms") / median("alert", "TLS cold ms")
        held = f"Held to a fourteenth of a processor from then on, as Lambda does, the guard takes {times:.2f} × as long."
        rows[6:6] = [
            [f"{key}, with TLS, held", value("alert", f"held TLS {key}"), "", value("boto3", f"held TLS {key}"), "",
             f"{median('boto3', f'held TLS {key}') / median('alert', f'held TLS {key}'):.1f} ×"]
            for key in ("cold ms", "first event ms")
        ]  # fmt: skip
    else:
        held = "Held to a fourteenth of a processor: not measured, which needs root and control groups."
    at = len(rows) - 3
    rows[at:at] = [
        [f"{key}, with TLS", value("alert", key), f"{value('bare', key)} without", value("boto3", key), "",
         f"{median('boto3', key) / median('alert', key):.1f} ×"]
        for key in ("ready CPU ms", "first event CPU ms")
    ]  # fmt: skip
    above = median("alert", "warm CPU ms") - median("bare", "warm CPU ms")
    replays = [
        [name, f"{of['median']:.2f} ({of['low']:.2f} to {of['high']:.2f})", f"{replayed['GB/s'][name]:.2f}",
         f"{of['median'] / replayed['seconds']['keyguard']['median']:.1f} ×"]
        for name, of in replayed["seconds"].items()
    ]  # fmt: skip
    size = [
        [name, architecture, *(f"{of[key] / 1e6:.2f}" for key in ("stripped bytes", "zipped bytes"))]
        if isinstance(of, dict) else [name, architecture, of, ""]
        for name, built in figures["size"].items() for architecture, of in built.items()
    ]  # fmt: skip
    largest = [[of["crate"], f"{of['KB']:.0f}", f"{of['share']:.1%}"] for of in figures["crates"]]
    counted = figures["counts"]
    if isinstance(counted, dict):
        columns = ("start and first event", "warm event")
        rows_counted = [[what, *(f"{of[column]:,}" for column in columns)] for what, of in counted.items()]
        counted = "\n".join(grid(["", *columns], rows_counted))
    of = replayed["archive"]
    return "\n".join(
        [
            "# Measured",
            "",
            f"By `{'QUICK=1 ' if QUICK else ''}make bench` on {os.cpu_count()} processors ({processor()}), in one run, "
            "rounds interleaved; medians, with the quartiles in brackets.",
            "",
            "## The function",
            "",
            "Cold: from the start of the process until all topics have taken the alert, over loopback; with TLS, "
            "every connection's handshake on both sides and the reading of the system's certificates are in it. The bare "
            "function only answers; boto3 publishes once and asks KMS nothing, the guard publishes twice and asks five "
            f"things. Ready: it asks for its first event. {held}",
            "",
            *grid(["", "alert", "bare", "boto3", "alert / bare", "boto3 / alert"], rows),
            "",
            f"A warm event takes {above:.2f} ms of processor time more than in the bare function. The clock's figure "
            "holds the rig's own time too: one Python process answers all seven requests.",
            "",
            f"By valgrind, where sha256 has no instructions of its own (a warm event is the mean of {len(counts.EVENTS)} "
            "kinds):",
            "",
            counted,
            "",
            "## Size",
            "",
            *grid(["", "", "stripped MB", "zipped MB"], size),
            "",
            "The ten crates with the most code in `alert`, generic code with the crate that wrote it:",
            "",
            *grid(["crate", "KB", "of all code"], largest),
            "",
            "## The core",
            "",
            *grid(
                ["on one processor", "a second", "plain parse is faster"],
                [[what, f"{core_[key]:,.0f}", f"{core_['parses_per_second'] / core_[key]:.1f} ×"] for what, key in (
                    ("plain parse of the record (serde_json)", "parses_per_second"),
                    ("Panther's rule: condition, key, seven fields", "panther_alerts_per_second"),
                    ("the guard: detection, severity, text and OCSF document", "alerts_per_second"),
                )],
            ),
            "",
            "## Replay",
            "",
            f"{of['MB']:.0f} MB of CloudTrail ({of['packed MB']:.0f} MB packed, {of['files']} files, {of['records']:,} "
            f"records, {of['hits']} hits, seed {of['seed']}); all counted the same. Peak memory of keyguard: "
            f"{replayed['keyguard peak MiB']:.0f} MiB.",
            "",
            *grid(["", "seconds", "GB/s", "keyguard is faster"], replays),
            "",
        ]
    )


def grid(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def processor() -> str:
    names = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
