"""The places where the guard runs, and every policy there: as the templates make it, or as the docs ask for it.

Four settings (a single account, existing topics under a customer key, the hub of an organization, a spoke) in three
partitions. Hub and spoke belong together, so they are one `Place` with two stacks.
"""

import functools
import json
from collections import ChainMap
from dataclasses import dataclass, field

from deployed import ACCOUNT, EXISTING_TOPICS, OPTED_IN, REGION, ROOT, Stack

ORGANIZATION = "o-a1b2c3d4e5"
MEMBER = "444455556666"
# Owns the organization's trail and StackSet; where there is no organization, a stranger.
OTHER = "123456789012"
# partition -> the Region of the guard, and one more of a spoke
PARTITIONS = {
    "aws": (REGION, "us-east-1"),
    "aws-cn": ("cn-north-1", "cn-northwest-1"),
    "aws-us-gov": ("us-gov-west-1", "us-gov-east-1"),
}
KEY_ID = "0f1e2d3c-0000-4000-8000-000000000001"
# The role of an operator -> the policy files that the runbook gives it.
OPERATORS = {
    "keyguard-doctor": ["doctor"],
    "keyguard-prove": ["doctor-prove"],
    "keyguard-sweep": ["sweep"],
    "keyguard-redrive": ["redrive"],
    # From the guard's account into another.
    "keyguard-operator": ["assume-role"],
}
# What an account that is looked at from another has for it.
AUDIT_ROLE = "security-audit"


def statement_of(permission, function_arn):
    """A Lambda permission as Lambda writes it into the function's policy."""
    condition = {}
    if "SourceArn" in permission:
        condition["ArnLike"] = {"aws:SourceArn": permission["SourceArn"]}
    if "SourceAccount" in permission:
        condition["StringEquals"] = {"aws:SourceAccount": permission["SourceAccount"]}
    principal = permission["Principal"]
    return {
        "Effect": "Allow",
        "Principal": {"Service": principal} if principal.endswith(".amazonaws.com") else {"AWS": principal},
        "Action": permission["Action"],
        "Resource": function_arn,
    } | ({"Condition": condition} if condition else {})


def document(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


@dataclass(repr=False)
class Place:
    """Accounts with what is deployed there."""

    name: str
    partition: str
    stacks: list
    # ARN of a role -> its policies by name.
    identities: dict = field(default_factory=dict)
    # ARN of a resource, or its beginning -> the policy on it.
    resources: dict = field(default_factory=dict)
    # Account -> the service control policies above it.
    scps: dict = field(default_factory=dict)

    def __repr__(self):
        return f"{self.name} {self.partition}"

    @property
    def region(self):
        return PARTITIONS[self.partition][0]

    def here(self, node):
        """The same of this partition and Region; policies and calls are written down for aws."""
        text = json.dumps(node).replace("arn:aws:", f"arn:{self.partition}:")
        for ours, theirs in zip(PARTITIONS["aws"], PARTITIONS[self.partition], strict=True):
            text = text.replace(ours, theirs)
        return json.loads(text)

    def __post_init__(self):
        for stack in self.stacks:
            for owner, kind, arn, policy in policies(stack):
                if kind == "identity":
                    self.identities.setdefault(arn, {})[f"{owner} {arn}"] = policy
                else:
                    assert arn not in self.resources, f"{owner}: {arn} has a policy already"
                    self.resources[arn] = policy
        for role, files in OPERATORS.items():
            arn = self.here(f"arn:aws:iam::{ACCOUNT}:role/{role}")
            self.identities[arn] = {name: self.here(_file(f"docs/policies/{name}.json")) for name in files}
        for account in (ACCOUNT, MEMBER, OTHER):
            # What KMS gives a new key: the account decides by IAM.
            root = {"AWS": f"arn:{self.partition}:iam::{account}:root"}
            for region in PARTITIONS[self.partition]:
                keys = f"arn:{self.partition}:kms:{region}:{account}:key/"
                self.resources[keys] = document({"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"})
        audit = self.here(f"arn:aws:iam::{MEMBER}:role/{AUDIT_ROLE}")
        self.resources[audit] = self.here(_file("docs/policies/role-trust.json"))

    def policy_on(self, resource):
        """The name of the policy on the resource, if it has one."""
        if resource in self.resources:
            return resource
        return next((start for start in self.resources if start[-1] in ":*/" and resource.startswith(start.rstrip("*"))), None)

    def documents(self):
        """Every policy by the name that `request` gives it."""
        return dict(ChainMap(*self.identities.values())) | self.resources | dict(ChainMap(*self.scps.values()))

    def in_organization(self, account):
        return account in (ACCOUNT, MEMBER) and any(stack.values.get("OrganizationId") for stack in self.stacks)

    def request(self, principal, action, resource, *, account=None, context=None, identity=None):
        """What the engine is asked, with the context that AWS puts into every request."""
        parts = resource.split(":")
        caller = principal.split(":")[4] if isinstance(principal, str) and principal.startswith("arn:") else None
        account = account or (parts[4] if len(parts) > 4 and parts[4] else caller or ACCOUNT)
        told = {"aws:SecureTransport": "true", "aws:ResourceAccount": account, "aws:RequestedRegion": self.region}
        if caller:
            role = role_of(principal)
            told |= {"aws:PrincipalArn": role, "aws:PrincipalAccount": caller, "aws:PrincipalType": "AssumedRole"}
            identity = list(self.identities.get(role, {})) if identity is None else identity
            if self.in_organization(caller):
                told["aws:PrincipalOrgID"] = ORGANIZATION
        if self.in_organization(account):
            told["aws:ResourceOrgID"] = ORGANIZATION
        return {
            "principal": principal,
            "action": action,
            "resource": resource,
            "account": account,
            "context": told | (context or {}),
            "identity": identity or [],
            "resource_policy": self.policy_on(resource),
            "scp": list(self.scps.get(caller, {})),
        }


def instead(request, name, other):
    """The request with another policy in the place of one."""
    identity = [other if policy == name else policy for policy in request["identity"]]
    on = request["resource_policy"]
    return request | {"identity": identity, "resource_policy": other if on == name else on}


def role_of(principal):
    """The role's ARN of a session of it."""
    parts = principal.split(":")
    if parts[2] == "sts" and parts[5].startswith("assumed-role/"):
        return f"{parts[0]}:{parts[1]}:iam::{parts[4]}:role/{parts[5].split('/')[1]}"
    return principal


def policies(stack):
    """(logical id, kind, ARN that it is about, document) of every policy in a stack."""
    permissions = {}
    for name, resource in stack.resources.items():
        kind, properties = resource["Type"], stack.deployed(resource["Properties"])
        match kind:
            case "AWS::IAM::Role":
                assert not properties.keys() & {"ManagedPolicyArns", "PermissionsBoundary"}, f"{name}: not read here"
                arn = stack.physical(name, "Arn")
                yield name, "trust", arn, properties["AssumeRolePolicyDocument"]
                for policy in properties.get("Policies", []):
                    yield name, "identity", arn, policy["PolicyDocument"]
            case "AWS::SNS::TopicPolicy":
                for arn in properties["Topics"]:
                    yield name, "resource", arn, properties["PolicyDocument"]
            case "AWS::SQS::QueuePolicy":
                queues = {stack.physical(queue): stack.physical(queue, "Arn") for queue in stack.of_type("AWS::SQS::Queue")}
                for url in properties["Queues"]:
                    yield name, "resource", queues[url], properties["PolicyDocument"]
            case "AWS::Events::EventBusPolicy":
                buses = {stack.physical(bus): stack.physical(bus, "Arn") for bus in stack.of_type("AWS::Events::EventBus")}
                yield name, "resource", buses[properties["EventBusName"]], document(properties["Statement"])
            case "AWS::Logs::ResourcePolicy":
                # It is the account's, for whatever log groups it names.
                policy = json.loads(properties["PolicyDocument"])
                (arn,) = {statement["Resource"] for statement in policy["Statement"]}
                yield name, "resource", arn, policy
            case "AWS::Lambda::Permission":
                functions = {stack.physical(f): stack.physical(f, "Arn") for f in stack.of_type("AWS::Lambda::Function")}
                arn = functions[properties["FunctionName"]]
                permissions.setdefault(arn, []).append(statement_of(properties, arn))
            case _:
                assert '"Effect"' not in json.dumps(properties), f"{name}: a {kind} has a policy that isn't read here"
    for arn, statements in permissions.items():
        yield "permissions", "resource", arn, document(*statements)


def _file(path):
    return json.loads((ROOT / path).read_text())


def _of(partition, parameters):
    """Parameters that hold ARNs of aws and its Region, for another partition."""
    region = PARTITIONS[partition][0]
    return {name: value.replace("arn:aws:", f"arn:{partition}:").replace(REGION, region) for name, value in parameters.items()}


def _stack(partition, parameters, **more):
    region = more.pop("region", PARTITIONS[partition][0])
    suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    return Stack(_of(partition, parameters), partition=partition, region=region, url_suffix=suffix, **more)


@functools.cache
def single(partition):
    return Place("single", partition, [_stack(partition, OPTED_IN)])


@functools.cache
def existing_topics(partition):
    """Topics and their key have the policies that ExistingAlertsTopicArn and the others ask for."""
    place = Place("existing topics", partition, [_stack(partition, OPTED_IN | EXISTING_TOPICS)])
    topics = _of(partition, EXISTING_TOPICS)
    account = {"AWS": f"arn:{partition}:iam::{ACCOUNT}:root"}
    cloudwatch = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Condition": {
            "StringEquals": {"aws:SourceAccount": ACCOUNT},
            "ArnLike": {"aws:SourceArn": f"arn:{partition}:cloudwatch:{place.region}:{ACCOUNT}:alarm:*"},
        },
    }
    for topic in (topics["ExistingAlertsTopicArn"], topics["ExistingFindingsTopicArn"]):
        place.resources[topic] = document(
            {"Effect": "Allow", "Principal": account, "Action": "sns:Publish", "Resource": topic},
            cloudwatch | {"Action": "sns:Publish", "Resource": topic},
        )
    place.resources[topics["ExistingTopicsKmsKeyArn"]] = document(
        {"Effect": "Allow", "Principal": account, "Action": "kms:*", "Resource": "*"},
        cloudwatch | {"Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*"},
    )
    return place


@functools.cache
def organization(partition):
    """A hub and a member account's spoke in its two Regions, with the SCP above it."""
    home, elsewhere = PARTITIONS[partition]
    hub = _stack(partition, OPTED_IN | {"OrganizationId": ORGANIZATION})
    given = dict(pair.split("=", 1) for pair in hub.deployed(hub.outputs["SpokeParameters"]).split())
    spokes = [
        _stack(partition, given | {"HomeRegion": home}, region=region, account=MEMBER, file="stackset/spoke.yaml")
        for region in (home, elsewhere)
    ]
    rollout = _stack(
        partition,
        given | {"OrganizationalUnitIds": "r-ab12", "Regions": f"{home},{elsewhere}"},
        file="stackset/org.yaml",
        name="kms-key-guard-organization",
    )
    place = Place("organization", partition, [hub, *spokes, rollout])
    place.scps[MEMBER] = {"stackset/scp.json": _file("stackset/scp.json")}
    return place


def places():
    return [setting(partition) for setting in (single, existing_topics, organization) for partition in PARTITIONS]
