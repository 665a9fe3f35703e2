"""An organization on the local AWS: a hub, spokes in three accounts and two Regions, every alert at the hub's subscriber.

The hub is deployed with `sam deploy`, the spokes by CloudFormation from stackset/spoke.yaml, as a StackSet would.
"""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from local import aws as local
from local.aws import ACCOUNT, REGION, ROOT, Inbox, LocalAws
from local.build import LOGS

from .conftest import run_watch_function

MANAGEMENT = "123456789012"
MEMBER = "444455556666"
REGIONS = (REGION, "us-east-1")
SPOKE = (ROOT / "stackset/spoke.yaml").read_text()
PLACES = [(account, region) for account in (ACCOUNT, MANAGEMENT, MEMBER) for region in REGIONS]


@dataclass
class Organization:
    """A hub with its spokes."""

    aws: LocalAws
    id: str
    hub: dict[str, str]
    """The outputs of the hub's stack."""

    def spoke(self, account: str, region: str, **parameters: str) -> None:
        """Deploy the spoke, as the StackSet does."""
        hub = dict(pair.split("=", 1) for pair in self.hub["SpokeParameters"].split())
        values = {**hub, "HomeRegion": REGION, **parameters}
        stacks = self.aws.client("cloudformation", region=region, **self.stack_sets(account, region))
        stacks.create_stack(
            StackName="StackSet-kms-key-guard-spoke",
            TemplateBody=SPOKE,
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        stacks.get_waiter("stack_create_complete").wait(
            StackName="StackSet-kms-key-guard-spoke", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )

    def stack_sets(self, account: str, region: str = REGION) -> dict[str, str]:
        """Credentials of the role that StackSets have in every account."""
        return self.aws.person("StackSets", "stacksets-exec-0123456789abcdef", account, region)

    def join(self) -> str:
        """An account that joins the organization, with a trail and no spoke yet."""
        account = stranger(self.aws)
        organizations = self.aws.client("organizations", MANAGEMENT)
        invitation = organizations.invite_account_to_organization(Target={"Id": account, "Type": "ACCOUNT"})
        self.aws.client("organizations", account).accept_handshake(HandshakeId=invitation["Handshake"]["Id"])
        return account

    def key(self, account: str, region: str) -> tuple[Any, str]:
        """A key with an alias and a tag, and the client of the person who has it."""
        kms = self.aws.client("kms", region=region, **self.aws.person("alice", "platform-admin", account, region))
        arn = kms.create_key(Tags=[{"TagKey": "owner", "TagValue": f"team-{account}"}])["KeyMetadata"]["Arn"]
        kms.create_alias(AliasName=f"alias/db-{arn[-8:]}", TargetKeyId=arn)
        return kms, arn

    def inbox(self, topic: str = "AlertsTopicArn", **filter_policy: Any) -> Inbox:
        """A subscriber of the hub's."""
        return self.aws.inbox(self.hub[topic], f"test-{uuid.uuid4()}", topic == "FindingsTopicArn", filter_policy or None)


def stranger(aws: LocalAws) -> str:
    """An account of no organization, with a trail."""
    account = f"{uuid.uuid4().int % 10**12:012}"
    aws.start_trail(account)
    return account


def undelivered(aws: LocalAws, account: str, region: str) -> Inbox:
    sqs = aws.client("sqs", account, region)
    return Inbox(sqs, sqs.get_queue_url(QueueName="kms-key-guard-spoke-undelivered")["QueueUrl"])


@pytest.fixture(scope="module")
def organization(built: None) -> Iterator[Organization]:
    with LocalAws(retry_delay=0.1, log=LOGS / "aws-organization.log", place="organization") as aws:
        for account in (ACCOUNT, MANAGEMENT, MEMBER):
            aws.start_trail(account)
        identity = aws.organization(MANAGEMENT, ACCOUNT, MEMBER)
        organization = Organization(aws, identity, local.deploy(aws, {"OrganizationId": identity}))
        for account, region in PLACES:
            organization.spoke(account, region)
        yield organization


@pytest.mark.parametrize(("account", "region"), PLACES)
def test_a_key_in_any_account_and_region_is_told_of_at_the_hub(
    organization: Organization, account: str, region: str
) -> None:
    kms, arn = organization.key(account, region)
    alerts, findings = organization.inbox(key_arn=[arn]), organization.inbox("FindingsTopicArn", key_arn=[arn])
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    alert, finding = alerts.next(), json.loads(findings.next().body)
    assert alert.attributes["detection"] == "key-deletion-scheduled"
    assert (alert.attributes["account"], alert.attributes["region"]) == (account, region)
    # Beside a new alias's mark there is no room for it; the id is always there.
    assert f"KMS key {arn.split('/')[1][:8]} scheduled for deletion" in alert.subject
    assert f"alias/db-{arn[-8:]}" in alert.body
    assert f"{account} {region}" in alert.subject
    assert f"--region {region} --key-id {arn}" in alert.body
    assert f"https://{region}.console.aws.amazon.com/kms/" in alert.body
    assert f"team-{account}" in alert.body
    assert "PendingDeletion" in alert.body
    assert finding["cloud"]["account"]["uid"] == account
    assert finding["cloud"]["region"] == region
    assert {"name": "owner", "value": f"team-{account}"} in finding["resources"][0]["tags"]
    # Beside the hub both its own rules and the spoke could tell: one does.
    kms.cancel_key_deletion(KeyId=arn)
    assert alerts.next().attributes["detection"] == "key-deletion-cancelled"
    assert alerts.all() == []


def test_a_role_is_assumed_only_in_other_accounts_and_reads_as_the_hubs_function(organization: Organization) -> None:
    kms, arn = organization.key(MEMBER, "us-east-1")
    alerts = organization.inbox(key_arn=[arn])
    kms.disable_key(KeyId=arn)
    alerts.next()
    records = organization.aws.client("cloudtrail", MEMBER, "us-east-1").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "DescribeKey"}]
    )["Events"]
    callers = {json.loads(record["CloudTrailEvent"])["userIdentity"]["arn"] for record in records}
    assert f"arn:aws:sts::{MEMBER}:assumed-role/kms-key-guard-spoke-reader/kms-key-guard" in callers


@pytest.mark.parametrize("region", REGIONS)
def test_owners_of_an_account_get_what_is_theirs(organization: Organization, region: str) -> None:
    owners = organization.inbox(account=[MEMBER])
    theirs, others = organization.key(MEMBER, region), organization.key(MANAGEMENT, region)
    everything = organization.inbox(key_arn=[theirs[1], others[1]])
    for kms, arn in (others, theirs):
        kms.disable_key(KeyId=arn)
    assert {everything.next().attributes["account"] for _ in range(2)} == {MEMBER, MANAGEMENT}
    assert owners.next().attributes["key_arn"] == theirs[1]
    assert owners.all() == []


def test_an_account_without_the_reader_role_is_told_of_without_the_facts(organization: Organization) -> None:
    account = organization.join()
    organization.spoke(account, REGION, HomeRegion="us-east-1")
    kms, arn = organization.key(account, REGION)
    alerts = organization.inbox(key_arn=[arn])
    kms.disable_key(KeyId=arn)
    alert = alerts.next()
    assert alert.attributes["account"] == account
    assert "the role kms-key-guard-spoke-reader isn't there, or doesn't let the guard in" in alert.body
    assert f"enable-key --region {REGION} --key-id {arn}" in alert.body


def test_a_reader_role_that_trusts_another_function_is_told_of_without_the_facts(organization: Organization) -> None:
    account = organization.join()
    organization.spoke(account, REGION, HubRoleName="another")
    kms, arn = organization.key(account, REGION)
    alerts = organization.inbox(key_arn=[arn])
    kms.disable_key(KeyId=arn)
    assert "isn't there, or doesn't let the guard in" in alerts.next().body


def test_an_account_outside_the_organization_is_refused_at_the_bus(organization: Organization) -> None:
    account = stranger(organization.aws)
    organization.spoke(account, REGION)
    kms, arn = organization.key(account, REGION)
    everything = organization.inbox()
    kms.schedule_key_deletion(KeyId=arn)
    letter = undelivered(organization.aws, account, REGION).next()
    assert letter.attributes["ERROR_CODE"] == "NO_PERMISSIONS"
    assert json.loads(letter.body)["detail"]["responseElements"]["keyId"] == arn
    # Another key's alert comes through, so the first would have.
    kms, fence = organization.key(MEMBER, REGION)
    kms.disable_key(KeyId=fence)
    assert everything.next(lambda message: message.attributes["key_arn"] == fence)
    assert arn not in {message.attributes["key_arn"] for message in everything.all()}


def test_an_account_that_left_the_organization_is_heard_no_more(organization: Organization) -> None:
    account = organization.join()
    organization.spoke(account, REGION)
    kms, arn = organization.key(account, REGION)
    alerts = organization.inbox(key_arn=[arn])
    kms.disable_key(KeyId=arn)
    assert alerts.next().attributes["account"] == account
    organization.aws.client("organizations", MANAGEMENT).remove_account_from_organization(AccountId=account)
    kms.enable_key(KeyId=arn)
    assert undelivered(organization.aws, account, REGION).next().attributes["ERROR_CODE"] == "NO_PERMISSIONS"
    assert alerts.all() == []


def test_a_record_of_another_account_is_told_of_and_not_looked_up(organization: Organization) -> None:
    _, victim = organization.key(MANAGEMENT, REGION)
    alerts = organization.inbox(key_arn=[victim])
    event = json.loads((ROOT / "events/deletion-scheduled.json").read_text())
    event["detail"]["responseElements"]["keyId"] = victim
    event["detail"]["eventID"] = str(uuid.uuid4())
    organization.aws.inject({name: event[name] for name in ("source", "detail-type", "detail")}, MEMBER, REGION)
    alert = alerts.next()
    assert f"the event comes from account {MEMBER}, and its record is account {ACCOUNT}'s" in alert.body
    assert f"team-{MANAGEMENT}" not in alert.body


def test_what_a_spoke_could_not_forward_reaches_people_and_machines_and_so_does_its_end(organization: Organization) -> None:
    everything = organization.inbox(detection=["guard-blind"])
    alarm = f"arn:aws:cloudwatch:us-east-1:{MEMBER}:alarm:kms-key-guard-spoke-undelivered"
    change = {"source": "aws.cloudwatch", "detail-type": "CloudWatch Alarm State Change", "resources": [alarm]}
    for state, previous, activity, words in [
        ("ALARM", "OK", "Create", "couldn't forward an event"),
        ("OK", "ALARM", "Close", "forwards events again"),
    ]:
        detail = {"alarmName": "kms-key-guard-spoke-undelivered", "state": {"value": state}, "previousState": {"value": previous}}
        organization.aws.inject({**change, "detail": detail}, MEMBER, "us-east-1")
        message = everything.next()
        assert message.attributes["activity"] == activity
        assert message.attributes["finding_uid"] == f"{MEMBER}/us-east-1/spoke"
        assert words in message.subject and f"({MEMBER} us-east-1)" in message.subject


def test_a_heartbeat_takes_the_way_of_an_alert(organization: Organization) -> None:
    logs = organization.aws.client("logs")
    organization.aws.fire_rule("kms-key-guard-spoke-heartbeat", MEMBER, "us-east-1")
    events = logs.filter_log_events(logGroupName="/aws/events/kms-key-guard-heartbeats")["events"]
    heard = [json.loads(event["message"]) for event in events]
    assert [(beat["account"], beat["region"], beat["detail-type"]) for beat in heard] == [
        (MEMBER, "us-east-1", "Scheduled Event")
    ]
    assert heard[0]["resources"] == [f"arn:aws:events:us-east-1:{MEMBER}:rule/kms-key-guard-spoke-heartbeat"]


def test_a_spoke_that_is_removed_leaves_nothing_behind(organization: Organization) -> None:
    account = organization.join()
    organization.spoke(account, REGION)
    stacks = organization.aws.client("cloudformation", account)
    stacks.delete_stack(StackName="StackSet-kms-key-guard-spoke")
    stacks.get_waiter("stack_delete_complete").wait(
        StackName="StackSet-kms-key-guard-spoke", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    assert organization.aws.client("events", account).list_rules(NamePrefix="kms-key-guard")["Rules"] == []
    queues = organization.aws.client("sqs", account).list_queues(QueueNamePrefix="kms-key-guard")
    assert queues.get("QueueUrls", []) == []
    roles = organization.aws.client("iam", account).list_roles()["Roles"]
    assert [role["RoleName"] for role in roles if role["RoleName"].startswith("kms-key-guard")] == []
    alarms = organization.aws.client("cloudwatch", account).describe_alarms(AlarmNamePrefix="kms-key-guard")
    assert alarms["MetricAlarms"] == []


def test_the_rollout_takes_the_spoke_of_this_checkout_along(organization: Organization, tmp_path: Path) -> None:
    """`sam deploy` packages the same way; the local AWS has no StackSets to go on from there."""
    storage = organization.aws.client("s3")
    storage.create_bucket(Bucket="rollout", CreateBucketConfiguration={"LocationConstraint": REGION})
    packaged = tmp_path / "org.yaml"
    command = ["sam", "package", "--template-file", ROOT / "stackset/org.yaml", "--s3-bucket", "rollout"]
    environment = local.environment(**organization.aws.environment())
    subprocess.run([*command, "--output-template-file", packaged], env=environment, check=True, capture_output=True)
    address = yaml_parse(packaged.read_text())["Resources"]["Spokes"]["Properties"]["TemplateURL"]
    (uploaded,) = storage.list_objects_v2(Bucket="rollout")["Contents"]
    assert address.endswith(f"/rollout/{uploaded['Key']}")
    assert storage.get_object(Bucket="rollout", Key=uploaded["Key"])["Body"].read() == SPOKE.encode()


def test_whoever_switches_a_spoke_off_is_told_of_at_the_hub(organization: Organization) -> None:
    account = organization.join()
    organization.spoke(account, REGION)
    alerts = organization.inbox(detection=["guard-tampered"], account=[account])
    person = organization.aws.person("mallory", "admin", account)
    events = organization.aws.client("events", region=REGION, **person)
    events.disable_rule(Name="kms-key-guard-spoke-api-call")
    alert = alerts.next()
    assert (alert.attributes["region"], alert.attributes["event_name"]) == (REGION, "DisableRule")
    assert "kms-key-guard-spoke-api-call" in alert.body and "mallory" in alert.body
    # What StackSets do with every rollout is no tampering.
    stack_sets = organization.aws.client("events", region=REGION, **organization.stack_sets(account))
    stack_sets.disable_rule(Name="kms-key-guard-spoke-service-event")
    events.disable_rule(Name="kms-key-guard-spoke-kms-event")
    assert "kms-key-guard-spoke-kms-event" in alerts.next().body
    assert alerts.all() == []


def doctor(organization: Organization, account: str, region: str) -> dict[str, dict[str, Any]]:
    """The checks of an operator's doctor in an account."""
    command = [ROOT / "target/debug/keyguard", "doctor", "--format", "json", "--region", region]
    env = local.environment(**organization.aws.environment(account, region, "keyguard-doctor"))
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert run.stdout, run.stderr
    (found,) = json.loads(run.stdout)["regions"]
    return {check["id"]: check for check in found["checks"]}


@pytest.mark.usefixtures("keyguard")
def test_operators_doctor_checks_the_hubs_own_rules(organization: Organization) -> None:
    checks = doctor(organization, ACCOUNT, REGION)
    for check in ("guard-deployed", "rules-enabled", "rules-match", "rules-target", "function-invocable", "schedules-live"):
        assert checks[check]["verdict"] == "pass", checks[check]
    events = organization.aws.client("events")
    rule = events.describe_rule(Name="kms-key-guard-rule.hub-kms-event", EventBusName="kms-key-guard")
    narrowed = json.loads(rule["EventPattern"]) | {"account": [ACCOUNT]}
    put = {"Name": rule["Name"], "EventBusName": "kms-key-guard", "State": "ENABLED"}
    events.put_rule(**put, EventPattern=json.dumps(narrowed))
    found = doctor(organization, ACCOUNT, REGION)["rules-match"]
    events.put_rule(**put, EventPattern=rule["EventPattern"])
    assert found["verdict"] == "fail"
    assert "The pattern of the rule HubKmsEventRule isn't the template's: it differs in account." in found["text"]


@pytest.mark.usefixtures("keyguard")
def test_operators_doctor_checks_the_spoke_of_an_account(organization: Organization) -> None:
    account = organization.join()
    organization.spoke(account, REGION)
    checks = doctor(organization, account, REGION)
    assert {id for id, check in checks.items() if check["verdict"] != "pass"} == set(), checks
    assert "guard-deployed" in checks and "alerts-heard" not in checks
    person = organization.aws.person("mallory", "admin", account)
    events = organization.aws.client("events", region=REGION, **person)
    rule = "kms-key-guard-spoke-api-call"
    pattern = json.loads(events.describe_rule(Name=rule)["EventPattern"])
    pattern["detail"]["$or"][0]["eventName"].remove("PutKeyPolicy")
    events.put_rule(Name=rule, EventPattern=json.dumps(pattern), State="ENABLED")
    events.remove_targets(Rule="kms-key-guard-spoke-heartbeat", Ids=["hub"])
    events.delete_rule(Name="kms-key-guard-spoke-service-event")
    organization.aws.client("cloudwatch", account).delete_alarms(AlarmNames=["kms-key-guard-spoke-undelivered"])
    checks = doctor(organization, account, REGION)
    failed = {id: check["text"] for id, check in checks.items() if check["verdict"] != "pass"}
    assert failed.keys() == {"rules-enabled", "rules-match", "rules-target", "alarms-live"}, failed
    assert "The rule ServiceEventRule is gone" in failed["rules-enabled"]
    assert "The pattern of the rule ApiCallRule isn't the template's: it differs in detail.$or." in failed["rules-match"]
    assert "is no target of the rule HeartbeatRule: it has none." in failed["rules-target"]
    assert "The alarm UndeliveredAlarm is gone." in failed["alarms-live"]


def test_the_hubs_watch_function_runs(organization: Organization) -> None:
    stack = organization.aws.client("cloudformation").list_stack_resources(StackName="kms-key-guard")
    names = {part["LogicalResourceId"]: part["PhysicalResourceId"] for part in stack["StackResourceSummaries"]}
    at = int(time.time()) // 60 * 60
    left = run_watch_function(organization.aws, names["SweepSchedule"], organization.hub["WatchLogGroupName"], at)
    assert "Failed" in left, left
