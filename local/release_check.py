"""`make release-check`: the release is the same bytes when it is built again elsewhere, and it is all one needs.

    python -m local.release_check [--quick] [--once]

Builds it here and in a clone, and compares. Then, on the local AWS, from a folder that holds nothing but the unpacked zip and
with neither cargo, zig nor a C compiler in PATH: `sam deploy --guided`; the AWS CLI alone in a second Region; an update from
the first version; `sam delete`. A call to KMS becomes an alert each time, and the released `keyguard doctor --prove` passes.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import steps
from .aws import ACCOUNT, REGION, STACK, LocalAws, outputs
from .build import ARCHITECTURE, LOGS, ROOT, STATE, environment
from .release import DIST, FUNCTIONS, TOOLS
from .released import Released, opened
from .steps import Failed, detail, run, step

SECOND = "eu-central-1"
THIRD = "us-west-2"
FIRST_VERSION = ROOT / "tests" / "upgrade" / "0.1.0" / "template.yaml"
COMPILERS = ("cargo", "rustc", "zig", "cc", "gcc", "clang")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make release-check", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="of a release that isn't optimized")
    parser.add_argument("--once", action="store_true", help="don't build anything: only install what is in dist/")
    options = parser.parse_args()
    return steps.main(lambda: _check(options.quick, options.once))


def _check(quick: bool, once: bool) -> int:
    dist = STATE / "dist" if quick else DIST
    if not once:
        _built_twice(quick, dist)
    found = sorted(dist.glob(f"kms-key-guard-*-{ARCHITECTURE}.zip"))
    if len(found) != 1:
        raise Failed(f"{dist} has {len(found)} releases for {ARCHITECTURE} and not one: remove what is old, or make release")
    version = found[0].name.removeprefix("kms-key-guard-").removesuffix(f"-{ARCHITECTURE}.zip")
    installs(found[0], dist / f"keyguard-{version}-linux-{ARCHITECTURE}.tar.gz")
    return 0


def _built_twice(quick: bool, dist: Path) -> None:
    again = STATE / "again"
    shutil.rmtree(again, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, again], check=True)
    TOOLS.mkdir(exist_ok=True)
    (again / TOOLS.name).symlink_to(TOOLS)
    how = ["--quick"] if quick else []
    own = {name: value for name, value in environment().items() if name != "CARGO_TARGET_DIR"}
    for root, name in ((ROOT, "here"), (again, "in a clone, from nothing")):
        step(f"building the release {name}")
        run("building", [sys.executable, "-m", "local.release", *how], LOGS / f"release-{root.name}.log", root, own)
    other = again / dist.relative_to(ROOT)
    if wrong := differences(dist, other):
        raise Failed("Two builds of one commit differ: " + "; ".join(wrong))
    step(f"both builds are the same, byte for byte: {len(list(other.iterdir()))} files")


def differences(one: Path, other: Path) -> list[str]:
    """The files that are not in both folders, or not the same."""
    wrong = []
    for name in sorted({path.name for folder in (one, other) for path in folder.iterdir()}):
        found = [folder / name for folder in (one, other)]
        if not all(path.is_file() for path in found):
            wrong.append(f"{name} is in one alone")
        elif found[0].read_bytes() != found[1].read_bytes():
            wrong.append(name)
    return wrong


def installs(archive: Path, command_line: Path) -> None:
    """Everything a user does with the release."""
    with tempfile.TemporaryDirectory(prefix="release-") as scratch, LocalAws() as aws:
        user = User(aws, Path(scratch), opened(archive, Path(scratch) / "unpacked"), command_line)
        aws.start_trail()
        user.guided()
        user.without_sam()
        user.updates()
        user.removes()


class User:
    """Somebody with SAM CLI and the AWS CLI, and no compiler."""

    def __init__(self, aws: LocalAws, scratch: Path, release: Released, command_line: Path) -> None:
        self.aws, self.scratch, self.release = aws, scratch, release
        self._bin = scratch / "bin"
        self._bin.mkdir()
        for name in ("sam", "aws"):
            (self._bin / name).symlink_to(Path(sys.executable).parent / name)
        with tarfile.open(command_line) as packed:
            packed.extractall(scratch, filter="data")
        (self._bin / "keyguard").symlink_to(next(scratch.glob("keyguard-*/keyguard")))
        found = [name for name in COMPILERS if shutil.which(name, path=str(self._bin))]
        assert not found, found

    def _run(self, *command: Any, region: str = REGION, answers: str = "", status: int = 0) -> str:
        env = environment(**self.aws.environment(region=region), SAM_CLI_POLL_DELAY="0.5", HOME=str(self.scratch))
        env["PATH"] = str(self._bin)
        words = [str(word) for word in command]
        done = subprocess.run(words, cwd=self.release.folder, env=env, input=answers, capture_output=True, text=True, timeout=600)
        if done.returncode != status:
            raise Failed(f"`{' '.join(words)}` ends with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout + done.stderr

    def guided(self) -> None:
        step("sam deploy --guided, every answer the default")
        template = (self.release.folder / "template.yaml").read_text()
        asked = len(re.findall(r"^  \w+:$", template.partition("\nParameters:\n")[2].partition("\nRules:\n")[0], re.MULTILINE))
        # Stack and Region; the parameters; whether to ask again before deploying: no.
        self._run("sam", "deploy", "--guided", answers="\n\n" + "\n" * asked + "n\n" + "\n" * 8)
        self._guards(REGION)

    def without_sam(self) -> None:
        step(f"aws cloudformation package and deploy, in {SECOND}")
        self._run("aws", "s3", "mb", "s3://code-of-the-guard", "--region", SECOND, region=SECOND)
        packaged = self.scratch / "packaged.yaml"
        options = ["--s3-bucket", "code-of-the-guard", "--region", SECOND]
        self._run("aws", "cloudformation", "package", "--template-file", "template.yaml", "--output-template-file", packaged, *options, region=SECOND)
        capabilities = ["--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
        self._run("aws", "cloudformation", "deploy", "--template-file", packaged, "--stack-name", STACK, *options, *capabilities, region=SECOND)
        self._guards(SECOND)

    def updates(self) -> None:
        step(f"from 0.1.0 to this version, in {THIRD}")
        old = self.scratch / "0.1.0"
        old.mkdir()
        text = FIRST_VERSION.read_text()
        for logical, file in FUNCTIONS.items():
            head, found, rest = text.partition(f"\n  {logical}:\n")
            text = head + found + rest.replace("      CodeUri: .\n", f"      CodeUri: {self.release.folder / file}\n", 1)
        (old / "template.yaml").write_text(re.sub(r" +BuildMethod: .*\n +BuildProperties:\n +Binary: .*\n", "", text))
        how = ["--stack-name", STACK, "--region", THIRD, "--resolve-s3", "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset"]
        how += ["--parameter-overrides", f"Architecture={self.release.architecture}"]
        self._run("sam", "deploy", "--template-file", old / "template.yaml", *how, region=THIRD)
        before = outputs(self.aws.client("cloudformation", region=THIRD))
        self._alerted(THIRD, before)
        self._run("sam", "deploy", *how, region=THIRD)
        after = outputs(self.aws.client("cloudformation", region=THIRD))
        if not before.items() <= after.items():
            raise Failed(f"The update changed what subscribers were given: {before} became {after}")
        self._guards(THIRD)

    def removes(self) -> None:
        step(f"sam delete, in {SECOND}")
        self._run("sam", "delete", "--stack-name", STACK, "--region", SECOND, "--no-prompts", region=SECOND)
        if left := self._left(SECOND):
            raise Failed(f"sam delete leaves: {left}")
        detail("no function, topic, queue, rule, alarm, schedule or log group is left")
        self._alerted(REGION, outputs(self.aws.client("cloudformation")))

    def _left(self, region: str) -> Mapping[str, list[str]]:
        """What is there of the stack's name."""

        def client(service: str) -> Any:
            return self.aws.client(service, region=region)

        names = {
            "functions": [f["FunctionName"] for f in client("lambda").list_functions()["Functions"]],
            "topics": [t["TopicArn"].rsplit(":", 1)[-1] for t in client("sns").list_topics()["Topics"]],
            "queues": [url.rsplit("/", 1)[-1] for url in client("sqs").list_queues().get("QueueUrls", [])],
            "rules": [rule["Name"] for rule in client("events").list_rules()["Rules"]],
            "alarms": [alarm["AlarmName"] for alarm in client("cloudwatch").describe_alarms()["MetricAlarms"]],
            "schedules": [schedule["Name"] for schedule in client("scheduler").list_schedules()["Schedules"]],
            # The stack's own keep what is in them for some days. The local AWS makes one anew for a function that still logs,
            # which on AWS its role may not.
            "log groups": [g["logGroupName"] for g in client("logs").describe_log_groups()["logGroups"] if "retentionInDays" in g],
        }
        return {what: found for what, all_ in names.items() if (found := [name for name in all_ if STACK in name])}

    def _guards(self, region: str) -> None:
        stack = outputs(self.aws.client("cloudformation", region=region))
        self._alerted(region, stack)
        self._run("keyguard", "doctor", "--prove", "--region", region, "--release", self.release.folder, region=region)
        detail(f"keyguard doctor --prove --release passes in {region}")

    def _alerted(self, region: str, stack: Mapping[str, str]) -> None:
        # A subscriber of each topic, as doctor asks for; they stay.
        self._subscribed = getattr(self, "_subscribed", {})
        if region not in self._subscribed:
            self.aws.inbox(stack["FindingsTopicArn"], "machines", raw=True, region=region)
            self._subscribed[region] = self.aws.inbox(stack["AlertsTopicArn"], "people", region=region)
        kms = self.aws.client("kms", region=region, **self.aws.person("alice", "platform-admin", region=region))
        key = kms.create_key()["KeyMetadata"]["Arn"]
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
        try:
            alert = self._subscribed[region].next(lambda message: message.attributes.get("key_arn") == key)
        except TimeoutError as nothing:
            raise Failed(f"no alert in {region}: {nothing}; see {self.aws.log}") from nothing
        detail(f"{region}: {alert.subject}")


if __name__ == "__main__":
    sys.exit(main())
