"""The local AWS that the end-to-end tests share, with the guard deployed to it once."""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest

from local import aws as local
from local.aws import Inbox, LocalAws
from local.build import LOGS, ROOT


@dataclass
class Guarded:
    """A local AWS with the guard deployed."""

    aws: LocalAws
    outputs: dict[str, str]

    def key(self, **tags: str) -> "Key":
        """A new key, and subscribers that get what concerns it."""
        kms = self.aws.client("kms", **self.aws.person("alice", "platform-admin"))
        arn = kms.create_key(Tags=[{"TagKey": n, "TagValue": v} for n, v in tags.items()])["KeyMetadata"]["Arn"]
        return Key(self, kms, arn, self.inbox("AlertsTopicArn", key_arn=[arn]), self.inbox("FindingsTopicArn", key_arn=[arn]))

    def inbox(self, topic: str, **filter_policy: Any) -> Inbox:
        """A subscriber of its own: to the alerts with SNS's envelope, to the findings raw."""
        raw = topic == "FindingsTopicArn"
        return self.aws.inbox(self.outputs[topic], f"test-{uuid.uuid4()}", raw, filter_policy or None)


@dataclass
class Key:
    """A key with the alerts and findings about it."""

    guarded: Guarded
    kms: Any
    arn: str
    alerts: Inbox
    findings: Inbox

    def silence(self) -> None:
        """Show that nothing so far has raised an alert: something that does comes through first."""
        self.kms.tag_resource(KeyId=self.arn, Tags=[{"TagKey": "fence", "TagValue": "1"}])
        self.kms.disable_key(KeyId=self.arn)
        first = self.alerts.next()
        assert first.attributes["event_name"] == "DisableKey", first.subject
        assert not self.alerts.all()


def run_watch_function(aws: LocalAws, schedule: str, log_group: str, at: float) -> dict[str, Any]:
    """Fire a schedule and wait until its run has left its line in the log, which is after everything else; the line."""
    aws.fire_schedule(schedule, time=at)
    logs = aws.client("logs")
    scheduled = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for _ in range(240):
        lines = [event["message"] for event in logs.filter_log_events(logGroupName=log_group).get("events", [])]
        left = next((line for line in lines if f'"ScheduledTime":"{scheduled}"' in line), None)
        if left:
            return json.loads(left)
        time.sleep(0.25)
    raise TimeoutError(f"{schedule} did not end its run of {scheduled}: {lines[-5:]}")


@pytest.fixture(scope="session")
def keyguard() -> None:
    """The command line in target/debug, as `cargo test` builds it: by `cargo build` the AWS clients would be compiled anew."""
    subprocess.run(["cargo", "test", "--quiet", "--all-features", "--no-run"], cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def guarded(built: None) -> Iterator[Guarded]:
    """The guard, deployed once for every test that leaves it as it is."""
    with local.guarded(retry_delay=0.1, place="single") as (aws, outputs):
        yield Guarded(aws, outputs)


@pytest.fixture
def breakable(built: None) -> Iterator[Guarded]:
    """The guard on a second, empty local AWS, for a test that breaks it."""
    with LocalAws(retry_delay=0.1, log=LOGS / "aws-breakable.log", place="single") as aws:
        aws.start_trail()
        yield Guarded(aws, local.deploy_directly(aws))
