"""The watch function on the local AWS: its schedules fire, and what they find reaches the subscribers."""

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from .conftest import Guarded, run_watch_function


def at(**more: float) -> float:
    return (datetime.now(timezone.utc).replace(microsecond=0) + timedelta(**more)).timestamp()


class Watched:
    """A guard with its schedules at hand."""

    def __init__(self, guarded: Guarded) -> None:
        self.aws, self.outputs = guarded.aws, guarded.outputs
        stack = guarded.aws.client("cloudformation").list_stack_resources(StackName="kms-key-guard")
        self.names = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in stack["StackResourceSummaries"]}
        # Somebody without a filter, who hears the alarms too: they have no message attributes.
        guarded.inbox("AlertsTopicArn")
        self.digests = guarded.inbox("AlertsTopicArn", event_name=["daily-digest"])
        self.alerts = guarded.inbox("AlertsTopicArn", event_name=["key-at-risk", "guard-blind"])
        self.findings = guarded.inbox("FindingsTopicArn", detection=["key-at-risk", "guard-blind"])

    def sweep(self, at: float) -> None:
        self._fire("SweepSchedule", at)

    def coverage(self, at: float) -> None:
        self._fire("CoverageSchedule", at)

    def _fire(self, schedule: str, at: float) -> None:
        run_watch_function(self.aws, self.names[schedule], self.outputs["WatchLogGroupName"], at)


@pytest.fixture
def watched(breakable: Guarded) -> Watched:
    return Watched(breakable)


def finding(message: Any) -> dict[str, Any]:
    return json.loads(message.body)


def test_the_daily_schedule_tells_every_key_in_danger(watched: Watched) -> None:
    kms = watched.aws.client("kms")

    def key(alias: str, **more: Any) -> str:
        arn = kms.create_key(**more)["KeyMetadata"]["Arn"]
        kms.create_alias(AliasName=f"alias/{alias}", TargetKeyId=arn)
        return arn

    key("well")
    disabled, deleted = key("off"), key("payments")
    # It still waits for its first material: nothing can be lost.
    key("imported", Origin="EXTERNAL")
    kms.disable_key(KeyId=disabled)
    kms.schedule_key_deletion(KeyId=deleted, PendingWindowInDays=7)
    # A day before it is over; KMS's own clock isn't moved, so the schedule's is.
    day = at(days=6)
    watched.sweep(day)
    digest = watched.digests.next(timeout=60)
    assert "2 KMS keys at risk, the first is destroyed in " in digest.subject
    rows = digest.body[digest.body.index("KEYS AT RISK") :]
    assert rows.index("alias/payments") < rows.index("alias/off")
    assert "alias/well" not in digest.body and "alias/imported" not in digest.body
    told = {f["resources"][0]["uid"]: f for f in (finding(watched.findings.next()) for _ in range(2))}
    assert set(told) == {disabled, deleted} == {f["finding_info"]["uid"] for f in told.values()}
    reminder = watched.alerts.next(lambda message: message.attributes.get("key_arn") == deleted)
    assert reminder.attributes["severity"] == "Critical"
    assert f"aws kms cancel-key-deletion --region eu-west-1 --key-id {deleted}" in reminder.body
    # The same day again: nothing new to machines but the same uids.
    watched.sweep(day)
    again = [finding(watched.findings.next(timeout=60)) for _ in range(2)]
    assert {f["metadata"]["uid"] for f in again} == {f["metadata"]["uid"] for f in told.values()}


def test_many_keys_at_once_are_one_message_that_lists_them(breakable: Guarded) -> None:
    messages = breakable.inbox("AlertsTopicArn", event_name=["mass-event"])
    kms = breakable.aws.client("kms", **breakable.aws.person("mallory", "platform-admin"))
    keys = [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(12)]
    for key in keys:
        kms.disable_key(KeyId=key)
    message = messages.next(timeout=60)
    assert message.attributes["severity"] == "Critical"
    # The alarm goes off at the tenth key; the message has what the log has by then.
    listed = [key for key in keys if f"key-disabled, {key.rpartition('/')[2]}, {key}" in message.body]
    assert len(listed) >= 10 and f"{len(listed)} KMS keys put at risk" in message.subject
    assert f"{len(listed)}: arn:aws:sts::111122223333:assumed-role/platform-admin/mallory" in message.body
    assert messages.all() == []


def test_a_trail_that_stops_is_told_once_and_so_is_its_start(watched: Watched) -> None:
    trails = watched.aws.client("cloudtrail")

    def about_the_trail(activity: str) -> Any:
        def wanted(message: Any) -> bool:
            ours = message.attributes.get("finding_uid", "").endswith("/guard/trail-logging")
            return ours and message.attributes["activity"] == activity

        return wanted

    # A run is believed only if its line came after its time. The self-check after the call may be heard as well.
    watched.coverage(at(minutes=-3))
    trails.stop_logging(Name="management")
    watched.coverage(at(minutes=-2))
    blind = watched.alerts.next(about_the_trail("Create"), timeout=60)
    assert "aws cloudtrail start-logging" in blind.body
    assert finding(watched.findings.next(about_the_trail("Create")))["activity_name"] == "Create"
    trails.start_logging(Name="management")
    watched.coverage(at(minutes=-1))
    assert finding(watched.findings.next(about_the_trail("Close"), timeout=60))["activity_name"] == "Close"
    assert watched.alerts.next(about_the_trail("Close")).attributes["severity"] == "Informational"


def test_every_run_leaves_a_heartbeat_and_silence_sets_the_alarm_off(watched: Watched) -> None:
    watched.coverage(at(hours=0))
    metric = {"Namespace": "KmsKeyGuard", "MetricName": "Heartbeat"}
    dimensions = [{"Name": "Function", "Value": watched.outputs["WatchFunctionName"]}]
    cloudwatch = watched.aws.client("cloudwatch")
    beats = cloudwatch.get_metric_statistics(
        **metric, Dimensions=dimensions, StartTime=at(hours=-1), EndTime=at(hours=1), Period=3600, Statistics=["Sum"]
    )["Datapoints"]
    assert sum(point["Sum"] for point in beats) >= 1
    alarm = watched.names["WatchSilentAlarm"]
    assert watched.aws.evaluate_alarms(time=at(minutes=30))[alarm] == "OK"
    assert watched.aws.evaluate_alarms(time=at(hours=5))[alarm] == "ALARM"
