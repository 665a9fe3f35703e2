"""A change of the guard or its stack starts a self-check on the local AWS, which says what is missing, or that nothing is."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from local import aws as local
from local.aws import Inbox, LocalAws, Message
from local.build import LOGS

from .conftest import Guarded

DUE = 120
"""Seconds: the queue's delay of 30, and what a run takes on a machine that is busy."""


class Changed:
    """A guard that was deployed a moment ago, somebody who hears it, and its parts at hand."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws, self.outputs = aws, local.deploy_directly(aws)
        guarded = Guarded(aws, self.outputs)
        self.people, self.machines = guarded.inbox("AlertsTopicArn"), guarded.inbox("FindingsTopicArn")
        stack = aws.client("cloudformation").list_stack_resources(StackName=local.STACK)
        self.parts = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in stack["StackResourceSummaries"]}

    def runs(self) -> list[dict[str, Any]]:
        """The lines that coverage runs left."""
        lines = self.aws.client("logs").filter_log_events(
            logGroupName=self.outputs["WatchLogGroupName"], filterPattern='{ $.Heartbeat = 1 && $.Look = "coverage" }'
        )
        return [json.loads(event["message"]) for event in lines["events"]]

    def update(self, **changed: str) -> None:
        stacks = self.aws.client("cloudformation", **self.aws.person("alice", "deployer"))
        mine = {"StackName": local.STACK}
        kept = [p["ParameterKey"] for p in stacks.describe_stacks(**mine)["Stacks"][0]["Parameters"]]
        stacks.update_stack(
            **mine,
            UsePreviousTemplate=True,
            Parameters=[
                *({"ParameterKey": key, "UsePreviousValue": True} for key in kept if key not in changed),
                *({"ParameterKey": key, "ParameterValue": value} for key, value in changed.items()),
            ],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        stacks.get_waiter("stack_update_complete").wait(**mine, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


@pytest.fixture
def changed(built: None, request: pytest.FixtureRequest) -> Iterator[Changed]:
    with LocalAws(retry_delay=0.1, log=LOGS / f"aws-{request.node.name}.log", place="single") as aws:
        aws.start_trail()
        yield Changed(aws)


def about(check: str, activity: str) -> Any:
    def wanted(message: Message) -> bool:
        story = message.attributes.get("finding_uid", "")
        return story.endswith(f"/guard/{check}") and message.attributes["activity"] == activity

    return wanted


def told(inbox: Inbox) -> list[tuple[str, str]]:
    """Severity and Subject of what is there, alarms aside."""
    return [(m.attributes["severity"], m.subject) for m in inbox.all() if m.attributes]


def test_a_deployment_ends_with_the_word_that_nothing_is_missing(changed: Changed) -> None:
    changed.update(SweepHour="7")
    verdict = changed.people.next(about("self-check", "Close"), timeout=DUE)
    assert verdict.subject.startswith("[INFO] KMS Key Guard is complete, nothing is missing: self-check"), verdict.subject
    assert "The guard or its stack was changed." in verdict.body
    assert changed.machines.next(about("self-check", "Close")).attributes["severity"] == "Informational"
    rest = told(changed.people)
    assert not [subject for severity, subject in rest if severity in ("High", "Critical")], rest
    # What the run itself does starts no other.
    time.sleep(5)
    (run,) = changed.runs()
    assert run["Failed"] == [] and run["Settings"] == []


def test_tampering_is_followed_by_what_is_missing_even_without_the_alert_function(changed: Changed) -> None:
    changed.aws.client("lambda").update_function_code(
        FunctionName=changed.parts["AlertFunction"], ZipFile=local._zipped(local.BUILD / "WatchFunction" / "bootstrap")
    )
    changed.aws.client("events").disable_rule(Name=changed.parts["ApiCallRule"])
    topic = changed.outputs["AlertsTopicArn"]
    sns = changed.aws.client("sns")
    for subscription in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
        if "ProofQueue" not in subscription["Endpoint"]:
            sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    blind = changed.machines.next(about("rules-enabled", "Create"), timeout=DUE)
    assert blind.attributes["severity"] == "High" and "ApiCallRule is DISABLED" in blind.body
    # The record of Unsubscribe says only an ARN; who is left the check finds out.
    unheard = changed.machines.next(about("alerts-heard", "Create"))
    assert unheard.attributes["severity"] == "High" and "Nobody is subscribed to the alerts topic." in unheard.body
    assert not [m for m in changed.machines.all() if about("self-check", "Close")(m)]
    (run,) = changed.runs()
    assert {"rules-enabled", "alerts-heard"} <= set(run["Failed"])


def test_settings_that_report_less_are_reported_once_and_held_back_by_none(changed: Changed) -> None:
    changed.update(MinimumSeverity="Critical", ExpectedPrincipals="arn:aws:iam::111122223333:role/mallory")
    quieter = changed.people.next(about("settings", "Create"), timeout=DUE)
    assert quieter.subject.startswith("[MEDIUM] KMS Key Guard: set to report less"), quieter.subject
    assert "MinimumSeverity is Critical" in quieter.body and "role/mallory" in quieter.body
    assert changed.people.next(about("self-check", "Close")).attributes["severity"] == "Informational"
    time.sleep(5)
    (run,) = changed.runs()
    assert [setting.split("=")[0] for setting in run["Settings"]] == ["MinimumSeverity", "ExpectedPrincipals"]
    hourly = int(time.time())
    changed.aws.fire_schedule(changed.parts["CoverageSchedule"], time=hourly)
    deadline = time.monotonic() + DUE
    while len(changed.runs()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert [m for m in changed.people.all() if about("settings", "Create")(m)] == []
