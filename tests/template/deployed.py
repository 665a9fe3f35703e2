"""What CloudFormation would make of a template: the SAM transform, then conditions and intrinsic functions.

A resource that exists only after deployment stands as `<LogicalId>` (Ref) or `<LogicalId.Attribute>` (GetAtt), so that
policies and targets can be compared as plain data.
"""

import json
import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

ROOT = Path(__file__).parents[2]
ACCOUNT = "111122223333"
REGION = "eu-central-1"
NO_VALUE = object()
LONGEST_NAME = {
    "AWS::IAM::Role": 64,
    "AWS::Lambda::Function": 64,
    "AWS::Scheduler::Schedule": 64,
    "AWS::SQS::Queue": 80,
}

# Everything a user can switch on or bring along.
OPTED_IN = {
    "AlertEmail": "kms-alerts@example.com",
    "ChatTopic": "true",
    "AlarmActionArn": f"arn:aws:sns:{REGION}:123456789012:on-call",
    "ProtectedKeys": "1234abcd-12ab-34cd-56ef-1234567890ab",
    "ExpectedPrincipals": f"arn:aws:iam::{ACCOUNT}:role/key-admin",
    "TrustedSources": "198.51.100.0/24,vpc-0a1b2c3d",
    "MinimumSeverity": "Low",
    "ReportDeniedAttempts": "true",
    "ReportLostKeyUse": "true",
    "ReminderDays": "14,2",
    "AcknowledgedKeys": "1234abcd-12ab-34cd-56ef-1234567890ab",
    "SweepHour": "23",
}
TOPICS_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
EXISTING_TOPICS = {
    "ExistingAlertsTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:people",
    "ExistingFindingsTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:machines",
    "ExistingTopicsKmsKeyArn": TOPICS_KEY,
}


# The property that names a resource, where the template may give one.
NAMES = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::Events::EventBus": "Name",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SQS::Queue": "QueueName",
}
# The ARN of a resource by its name, after the partition.
ARNS = {
    "AWS::CloudWatch::Alarm": "cloudwatch:{region}:{account}:alarm:{name}",
    "AWS::Events::EventBus": "events:{region}:{account}:event-bus/{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
    "AWS::Lambda::Function": "lambda:{region}:{account}:function:{name}",
    "AWS::Logs::LogGroup": "logs:{region}:{account}:log-group:{name}:*",
    "AWS::SQS::Queue": "sqs:{region}:{account}:{name}",
    "AWS::Scheduler::Schedule": "scheduler:{region}:{account}:schedule/default/{name}",
}


class Refused(Exception):
    """CloudFormation would not start: an assertion of the template's Rules doesn't hold."""


def source(template="template.yaml"):
    """The template as written, with its short-form functions spelled out."""
    return json.loads(json.dumps(yaml_parse((ROOT / template).read_text())))


# A stack only reads it.
parsed = cache(source)


class Stack:
    def __init__(
        self,
        parameters=None,
        *,
        partition="aws",
        region=REGION,
        account=ACCOUNT,
        url_suffix="amazonaws.com",
        file="template.yaml",
        name="kms-key-guard",
    ):
        template = parsed(file)
        self.values = {name: str(p.get("Default", "")) for name, p in template["Parameters"].items()}
        self.lists = {name for name, p in template["Parameters"].items() if p["Type"] == "CommaDelimitedList"}
        unknown = set(parameters or {}) - set(self.values)
        assert not unknown, f"{file} has no parameter {unknown}"
        self.values |= parameters or {}
        self.pseudo = {
            "AWS::AccountId": account,
            "AWS::NoValue": NO_VALUE,
            "AWS::Partition": partition,
            "AWS::Region": region,
            "AWS::StackId": f"arn:{partition}:cloudformation:{region}:{account}:stack/{name}/1a2b3c4d-0000-4000-8000-000000000000",
            "AWS::StackName": name,
            "AWS::URLSuffix": url_suffix,
        }
        values = tuple(sorted(self.values.items()))
        self.template = transformed(file, values, region) if "Transform" in template else template
        self._check_rules()
        self.resources = {
            name: {"Type": r["Type"], "Properties": self.resolve(r.get("Properties", {}))}
            for name, r in self.template["Resources"].items()
            if "Condition" not in r or self.condition(r["Condition"])
        }
        self.outputs = {
            name: self.resolve(o["Value"])
            for name, o in self.template.get("Outputs", {}).items()
            if "Condition" not in o or self.condition(o["Condition"])
        }

    def of_type(self, kind):
        """Logical id -> properties of the resources of one type."""
        return {name: r["Properties"] for name, r in self.resources.items() if r["Type"] == kind}

    def properties(self, name):
        return self.resources[name]["Properties"]

    def patterns(self, besides=("StackStatusRule",)):
        """Rule -> its event pattern as the JSON text that EventBridge gets; not of the one that only starts a self-check."""
        rules = self.of_type("AWS::Events::Rule").items()
        patterns = {name: r["EventPattern"] for name, r in rules if "EventPattern" in r and name not in besides}
        texts = {name: p if isinstance(p, str) else json.dumps(p) for name, p in patterns.items()}
        return {name: self.deployed(text) for name, text in texts.items()}

    def physical(self, name, attribute=None):
        """What a reference to a resource could be after deployment, named as CloudFormation names things."""
        resource = self.resources[name]
        kind, properties = resource["Type"], resource["Properties"]
        account, region, partition = (self.pseudo[f"AWS::{of}"] for of in ("AccountId", "Region", "Partition"))
        made = properties.get(NAMES.get(kind)) or self._made(name, kind) + (".fifo" if properties.get("FifoQueue") else "")
        match kind, attribute:
            case "AWS::SNS::Topic", None:
                return f"arn:{partition}:sns:{region}:{account}:{made}"
            case "AWS::SQS::Queue", None:
                return f"https://sqs.{region}.{self.pseudo['AWS::URLSuffix']}/{account}/{made}"
            case "AWS::SQS::Queue", "QueueName":
                return made
            case "AWS::Events::Rule", "Arn":
                bus = f"{self.deployed(properties['EventBusName'])}/" if "EventBusName" in properties else ""
                return f"arn:{partition}:events:{region}:{account}:rule/{bus}{made}"
            case _, "Arn" if kind in ARNS:
                return f"arn:{partition}:" + ARNS[kind].format(region=region, account=account, name=made)
            case _, None:
                return made
        raise NotImplementedError(f"{name}.{attribute}")

    def _made(self, name, kind):
        """Stack's name, logical id and a suffix; the logical id is shortened where the whole would be too long."""
        stack, suffix = self.pseudo["AWS::StackName"], "1A2B3C4D5E6F"
        room = LONGEST_NAME.get(kind, 255) - len(f"{stack}--{suffix}")
        return f"{stack}-{name[:room]}-{suffix}"

    def deployed(self, node):
        """The node with every reference to a resource as it could be after deployment."""
        if isinstance(node, dict):
            return {key: self.deployed(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self.deployed(value) for value in node]
        if isinstance(node, str):
            reference = re.compile(rf"<({'|'.join(self.resources)})(?:\.(\w+))?>")
            return reference.sub(lambda match: self.physical(*match.groups()), node)
        return node

    def condition(self, name):
        return self._truth(self.template["Conditions"][name])

    def _truth(self, node):
        (function, argument), = node.items()
        if function == "Condition":
            return self.condition(argument)
        if function == "Fn::Equals":
            left, right = map(self.resolve, argument)
            return left == right
        if function == "Fn::Not":
            return not self._truth(argument[0])
        if function == "Fn::And":
            return all(map(self._truth, argument))
        if function == "Fn::Or":
            return any(map(self._truth, argument))
        raise NotImplementedError(function)

    def _check_rules(self):
        for rule in self.template.get("Rules", {}).values():
            if self._truth(rule["RuleCondition"]):
                for assertion in rule["Assertions"]:
                    if not self._truth(assertion["Assert"]):
                        raise Refused(assertion["AssertDescription"])

    def resolve(self, node):
        if isinstance(node, list):
            return [value for value in map(self.resolve, node) if value is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, argument), = node.items()
            if function == "Ref":
                return self._ref(argument)
            if function == "Fn::GetAtt":
                return f"<{argument if isinstance(argument, str) else '.'.join(argument)}>"
            if function == "Fn::Sub":
                return self._sub(argument)
            if function == "Fn::If":
                name, yes, no = argument
                return self.resolve(yes if self.condition(name) else no)
            if function == "Fn::Select":
                index, choices = map(self.resolve, argument)
                return choices[int(index)]
            if function == "Fn::Split":
                separator, text = argument
                return self.resolve(text).split(separator)
            if function.startswith("Fn::"):
                raise NotImplementedError(function)
        resolved = {key: self.resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not NO_VALUE}

    def _ref(self, name):
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.lists:
            return self.values[name].split(",")
        if name in self.values:
            return self.values[name]
        assert name in self.template["Resources"], f"!Ref {name} leads nowhere"
        return f"<{name}>"

    def _sub(self, argument):
        text, local = (argument, {}) if isinstance(argument, str) else argument

        def value(match):
            name = match[1]
            if name in local:
                return self.resolve(local[name])
            return f"<{name}>" if "." in name else self._ref(name)

        return re.sub(r"\$\{([^!}]+)\}", value, text)


@cache
def transformed(file, values, region):
    """The template after the SAM transform, which replaces the code folders by what the build uploaded."""
    template = deepcopy(parsed(file))
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://artifacts/code.zip"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=region))
    return translator.translate(sam_template=template, parameter_values=dict(values))


def statements(document):
    """A policy's statements as (effect, actions, resources, principal, condition), in the order written."""
    return [
        (s["Effect"], as_list(s["Action"]), as_list(s.get("Resource", [])), s.get("Principal"), s.get("Condition"))
        for s in document["Statement"]
    ]


def as_list(value):
    return sorted(value) if isinstance(value, list) else [value]


def strings(node):
    """Every text inside a resolved resource, keys included."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from strings(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from strings(value)
