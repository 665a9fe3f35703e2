"""Steps with a running clock, and the programs they run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

STARTED = time.monotonic()
NEWS_EVERY = 10.0
"""Seconds between signs of life of a program that takes long."""


class Failed(Exception):
    """A step failed; the message is for the person at the terminal."""


def step(text: str) -> None:
    """Print a line with the time since the start."""
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def detail(text: str) -> None:
    """Print a line that belongs to the step above."""
    print(f"           {text}", flush=True)


def main(work: Callable[[], int]) -> int:
    """Do the work of a program; its exit status, that of a failure or of Ctrl-C too, which are told on stderr."""
    end_on_signals()
    try:
        return work()
    except Failed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started is stopped", file=sys.stderr)
        return 130


def run(
    what: str,
    command: Sequence[str | Path],
    log: Path,
    cwd: Path,
    environment: Mapping[str, str],
    news: Callable[[], str] = lambda: "",
) -> None:
    """Run a program to its end with its output in `log`, telling every now and then that it still runs.

    It gets a process group of its own, which is ended with us, whatever ends us.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while True:
            try:
                status = process.wait(NEWS_EVERY)
                break
            except subprocess.TimeoutExpired:
                step(f"  still {what} {news()}".rstrip())
    finally:
        end_group(process)
    if status != 0:
        last = log.read_text(errors="replace").splitlines()[-40:]
        raise Failed("\n".join([f"{what} failed (status {status}); the end of {log}:", "", *last]))


def end_group(process: subprocess.Popen, patience: float = 5.0) -> None:
    """End a process started in its own session, and every process it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, so that everything started gets stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
