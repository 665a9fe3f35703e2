"""The local AWS forwards events from bus to bus as AWS does, across accounts and Regions."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws import Inbox, LocalAws

HUB_REGION = "eu-west-1"
SPOKE_REGION = "eu-central-1"
BUS = "security"


def account_id() -> str:
    return f"{uuid.uuid4().int % 10**12:012}"


def queue(aws: LocalAws, account: str, region: str, name: str, principal: str = "events.amazonaws.com") -> Inbox:
    sqs = aws.client("sqs", account, region)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    allow = {"Effect": "Allow", "Principal": {"Service": principal}, "Action": "sqs:SendMessage", "Resource": "*"}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [allow]})})
    return Inbox(sqs, url)


@dataclass
class Spoke:
    """An account whose KMS events go to a bus in another account and Region."""

    aws: LocalAws
    id: str
    hub: str
    letters: Inbox
    arrived: Inbox

    @property
    def bus_arn(self) -> str:
        return f"arn:aws:events:{HUB_REGION}:{self.hub}:event-bus/{BUS}"

    def client(self, service: str) -> Any:
        return self.aws.client(service, self.id, SPOKE_REGION)

    def role(self, trusted: str = "events.amazonaws.com", resource: str = "") -> str:
        """A role that may send to the bus, unless asked for another."""
        iam, name = self.client("iam"), f"forward-{uuid.uuid4().hex[:8]}"
        trust = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"]["Arn"]
        allow = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": resource or self.bus_arn}
        iam.put_role_policy(RoleName=name, PolicyName="send", PolicyDocument=json.dumps({"Statement": [allow]}))
        return arn

    def forward(self, role: str, bus: str = "") -> None:
        events = self.client("events")
        events.put_rule(Name="forward", EventPattern='{"source": ["aws.kms"]}')
        letters = f"arn:aws:sqs:{SPOKE_REGION}:{self.id}:letters"
        target = {"Id": "hub", "Arn": bus or self.bus_arn, "DeadLetterConfig": {"Arn": letters}}
        events.put_targets(Rule="forward", Targets=[{**target, "RoleArn": role}])

    def allow(self, principal: Any, condition: dict[str, Any] | None = None) -> None:
        statement = {"Sid": "spokes", "Effect": "Allow", "Principal": principal, "Action": "events:PutEvents"}
        statement |= {"Resource": self.bus_arn, **({"Condition": condition} if condition else {})}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.aws.client("events", self.hub, HUB_REGION).put_permission(EventBusName=BUS, Policy=policy)

    def call(self) -> str:
        return self.client("kms").create_key()["KeyMetadata"]["Arn"]

    def refused(self) -> tuple[str, str]:
        """Error code and message in the dead-letter queue; the bus got nothing."""
        letter = self.letters.next()
        assert json.loads(letter.body)["account"] == self.id
        assert self.arrived.all() == []
        return letter.attributes["ERROR_CODE"], letter.attributes["ERROR_MESSAGE"]


@pytest.fixture
def spoke(bare: LocalAws) -> Spoke:
    hub, spoke = account_id(), account_id()
    bare.start_trail(spoke, SPOKE_REGION)
    events = bare.client("events", hub, HUB_REGION)
    events.create_event_bus(Name=BUS)
    events.put_rule(Name="take", EventBusName=BUS, EventPattern='{"source": ["aws.kms"]}')
    target = {"Id": "queue", "Arn": f"arn:aws:sqs:{HUB_REGION}:{hub}:arrived"}
    events.put_targets(Rule="take", EventBusName=BUS, Targets=[target])
    arrived = queue(bare, hub, HUB_REGION, "arrived")
    return Spoke(bare, spoke, hub, queue(bare, spoke, SPOKE_REGION, "letters"), arrived)


def test_an_event_keeps_its_envelope_across_accounts_and_regions(spoke: Spoke) -> None:
    spoke.allow({"AWS": f"arn:aws:iam::{spoke.id}:root"})
    spoke.forward(spoke.role())
    own = queue(spoke.aws, spoke.id, SPOKE_REGION, "own")
    spoke.client("events").put_rule(Name="own", EventPattern='{"source": ["aws.kms"]}')
    target = {"Id": "queue", "Arn": f"arn:aws:sqs:{SPOKE_REGION}:{spoke.id}:own"}
    spoke.client("events").put_targets(Rule="own", Targets=[target])
    key = spoke.call()
    arrived = json.loads(spoke.arrived.next().body)
    assert (arrived["account"], arrived["region"], arrived["source"]) == (spoke.id, SPOKE_REGION, "aws.kms")
    assert arrived["detail"]["responseElements"]["keyMetadata"]["arn"] == key
    assert arrived == json.loads(own.next().body)
    assert spoke.letters.all() == []


def test_a_bus_open_to_an_organization_hears_its_members_only(spoke: Spoke) -> None:
    organization = spoke.aws.organization(spoke.hub, spoke.id)
    spoke.allow("*", {"StringEquals": {"aws:PrincipalOrgID": organization}})
    spoke.forward(spoke.role())
    spoke.call()
    assert json.loads(spoke.arrived.next().body)["account"] == spoke.id
    spoke.aws.client("organizations", spoke.hub).remove_account_from_organization(AccountId=spoke.id)
    spoke.call()
    assert spoke.refused()[0] == "NO_PERMISSIONS"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda s: (s.allow({"AWS": s.id}), s.forward(f"arn:aws:iam::{s.id}:role/gone")), "doesn't exist"),
        (lambda s: (s.allow({"AWS": s.id}), s.forward(s.role(trusted="lambda.amazonaws.com"))), "doesn't trust"),
        (lambda s: (s.allow({"AWS": s.id}), s.forward(s.role(resource="arn:aws:events:::none"))), "may not"),
        (lambda s: (s.allow({"AWS": "444455556666"}), s.forward(s.role())), "The policy of"),
        (lambda s: s.forward(s.role()), "The policy of"),
    ],
    ids=["no role", "not trusted", "role without the right", "another account allowed", "no bus policy"],
)
def test_what_is_not_allowed_ends_in_the_rules_dead_letter_queue(spoke: Spoke, fault: Any, message: str) -> None:
    fault(spoke)
    spoke.call()
    code, text = spoke.refused()
    assert code == "NO_PERMISSIONS"
    assert message in text


def test_a_bus_that_is_gone_leaves_the_event_in_the_dead_letter_queue(spoke: Spoke) -> None:
    spoke.allow({"AWS": spoke.id})
    spoke.forward(spoke.role())
    spoke.aws.client("events", spoke.hub, HUB_REGION).delete_event_bus(Name=BUS)
    spoke.call()
    assert spoke.refused()[0] == "NO_RESOURCE"


def test_a_target_on_a_bus_needs_a_role_and_takes_the_event_as_it_is(spoke: Spoke) -> None:
    events, role = spoke.client("events"), spoke.role()
    events.put_rule(Name="forward", EventPattern='{"source": ["aws.kms"]}')
    for target in ({"Arn": spoke.bus_arn}, {"Arn": spoke.bus_arn, "RoleArn": role, "Input": "{}"}):
        with pytest.raises(ClientError, match="ValidationException"):
            events.put_targets(Rule="forward", Targets=[{"Id": "hub", **target}])


def test_another_region_of_the_same_account_needs_the_role_only(spoke: Spoke) -> None:
    there = f"arn:aws:events:{HUB_REGION}:{spoke.id}:event-bus/default"
    events = spoke.aws.client("events", spoke.id, HUB_REGION)
    events.put_rule(Name="take", EventPattern=json.dumps({"source": ["aws.kms"], "region": [SPOKE_REGION]}))
    arrived = queue(spoke.aws, spoke.id, HUB_REGION, "arrived")
    target = {"Id": "queue", "Arn": f"arn:aws:sqs:{HUB_REGION}:{spoke.id}:arrived"}
    events.put_targets(Rule="take", Targets=[target])
    spoke.forward(spoke.role(resource=there), there)
    spoke.call()
    assert json.loads(arrived.next().body)["region"] == SPOKE_REGION


def test_there_is_no_third_hop(spoke: Spoke) -> None:
    third = account_id()
    bus = f"arn:aws:events:{HUB_REGION}:{third}:event-bus/default"
    arrived = queue(spoke.aws, third, HUB_REGION, "arrived")
    events = spoke.aws.client("events", third, HUB_REGION)
    events.put_rule(Name="take", EventPattern=json.dumps({"source": [{"prefix": ""}]}))
    events.put_targets(Rule="take", Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:{HUB_REGION}:{third}:arrived"}])
    events.put_permission(StatementId="hub", Principal=spoke.hub, Action="events:PutEvents")
    hub = Spoke(spoke.aws, spoke.hub, third, spoke.letters, arrived)
    hubs_events = spoke.aws.client("events", spoke.hub, HUB_REGION)
    hubs_events.put_rule(Name="on", EventBusName=BUS, EventPattern=json.dumps({"source": [{"prefix": ""}]}))
    target = {"Id": "third", "Arn": bus, "RoleArn": hub.role(resource=bus)}
    hubs_events.put_targets(Rule="on", EventBusName=BUS, Targets=[target])
    spoke.allow({"AWS": spoke.id})
    spoke.forward(spoke.role())
    spoke.call()
    spoke.arrived.next()
    # An event of the hub's own gets through, so it is the hop that kept the other one back.
    hubs_events.put_events(Entries=[{"Source": "own", "DetailType": "t", "Detail": "{}", "EventBusName": BUS}])
    assert json.loads(arrived.next().body)["source"] == "own"
    assert arrived.all() == []


TEMPLATE = {
    "Resources": {
        "Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": "stacked"}},
        "WithPolicy": {
            "Type": "AWS::Events::EventBus",
            "Properties": {
                "Name": "own-policy",
                "Policy": {"Version": "2012-10-17", "Statement": [{"Sid": "own", "Effect": "Deny"}]},
            },
        },
        "Policy": {
            "Type": "AWS::Events::EventBusPolicy",
            "Properties": {
                "EventBusName": {"Ref": "Bus"},
                "StatementId": "organization",
                "Statement": {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "events:PutEvents",
                    "Resource": {"Fn::GetAtt": ["Bus", "Arn"]},
                    "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-example"}},
                },
            },
        },
        "Older": {
            "Type": "AWS::Events::EventBusPolicy",
            "Properties": {
                "EventBusName": {"Ref": "Bus"},
                "StatementId": "account",
                "Action": "events:PutEvents",
                "Principal": "444455556666",
            },
        },
        "Rule": {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "EventBusName": {"Ref": "Bus"},
                "EventPattern": {"source": ["own"]},
                "Targets": [{"Id": "queue", "Arn": {"Fn::Sub": "arn:aws:sqs:${AWS::Region}:${AWS::AccountId}:taken"}}],
            },
        },
    }
}


def wait(stacks: Any, state: str) -> None:
    stacks.get_waiter(state).wait(StackName="buses", WaiterConfig={"Delay": 1, "MaxAttempts": 20})


def deploy(aws: LocalAws, account: str, template: dict[str, Any]) -> Any:
    stacks = aws.client("cloudformation", account, HUB_REGION)
    stacks.create_stack(StackName="buses", TemplateBody=json.dumps(template))
    wait(stacks, "stack_create_complete")
    return stacks


def test_cloudformation_makes_a_bus_with_policy_and_rules(bare: LocalAws) -> None:
    account = account_id()
    taken = queue(bare, account, HUB_REGION, "taken")
    stacks = deploy(bare, account, TEMPLATE)
    events = bare.client("events", account, HUB_REGION)
    policy = json.loads(events.describe_event_bus(Name="stacked")["Policy"])
    principals = {statement["Sid"]: statement["Principal"] for statement in policy["Statement"]}
    assert principals == {"organization": "*", "account": {"AWS": "arn:aws:iam::444455556666:root"}}
    assert json.loads(events.describe_event_bus(Name="own-policy")["Policy"])["Statement"][0]["Sid"] == "own"
    events.put_events(Entries=[{"Source": "own", "DetailType": "t", "Detail": "{}", "EventBusName": "stacked"}])
    assert json.loads(taken.next().body)["source"] == "own"
    stacks.delete_stack(StackName="buses")
    wait(stacks, "stack_delete_complete")
    assert [bus["Name"] for bus in events.list_event_buses()["EventBuses"]] == ["default"]


def test_a_bus_can_be_named_by_its_arn(bare: LocalAws) -> None:
    events = bare.client("events", account_id(), HUB_REGION)
    arn = events.create_event_bus(Name="own")["EventBusArn"]
    events.put_rule(Name="r", EventBusName=arn, EventPattern='{"source": ["own"]}')
    assert [rule["Name"] for rule in events.list_rules(EventBusName="own")["Rules"]] == ["r"]
    assert events.describe_event_bus(Name=arn)["Name"] == "own"


def test_cloudformation_refuses_a_rule_that_forwards_without_a_role(bare: LocalAws) -> None:
    target = {"Id": "hub", "Arn": f"arn:aws:events:{HUB_REGION}:444455556666:event-bus/{BUS}"}
    rule = {"Type": "AWS::Events::Rule", "Properties": {"EventPattern": {"source": ["own"]}, "Targets": [target]}}
    with pytest.raises(Exception, match="terminal failure state"):
        deploy(bare, account_id(), {"Resources": {"Rule": rule}})


def test_an_organization_is_one_for_all_its_members(bare: LocalAws) -> None:
    management, member, stranger = account_id(), account_id(), account_id()
    organization = bare.organization(management, member)
    ask = bare.client("organizations", member)
    assert ask.describe_organization()["Organization"]["Id"] == organization
    with pytest.raises(ClientError, match="AccessDenied"):
        ask.list_accounts()
    master = bare.client("organizations", management)
    service = "member.org.stacksets.cloudformation.amazonaws.com"
    master.register_delegated_administrator(AccountId=member, ServicePrincipal=service)
    assert {account["Id"] for account in ask.list_accounts()["Accounts"]} == {management, member}
    for number in range(20):
        master.create_account(AccountName=f"n{number}", Email=f"n{number}@example.com")
    assert len(ask.list_accounts()["Accounts"]) == 20
    assert sum(len(page["Accounts"]) for page in ask.get_paginator("list_accounts").paginate()) == 22
    with pytest.raises(ClientError, match="AWSOrganizationsNotInUse"):
        bare.client("organizations", stranger).describe_organization()
