"""Starts and stops the local AWS, and deploys the guard there: for the demo, `make local` and the tests."""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from samcli.yamlhelper import yaml_parse

from .build import ARCHITECTURE, BUILD, LOGS, ROOT, STATE, environment
from .steps import Failed, end_group, run

ACCOUNT = "111122223333"
REGION = "eu-west-1"
STACK = "kms-key-guard"
CALLS = STATE / "calls"
"""A folder for each place, with what a local AWS wrote down there."""


class LocalAws:
    """A running local AWS; use it in a `with`, which stops it and every process it started.

    With a `place` (of tests/iam) it writes down what the guard's roles call.
    """

    def __init__(
        self, port: int = 0, retry_delay: float = 1.0, log: Path = LOGS / "aws.log", place: str | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        calls = {"LOCAL_AWS_CALLS": str(CALLS / place)} if place else {}
        self.log = log
        scratch = STATE / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(dir=scratch)
        command = [sys.executable, "-m", "local.emulator.host", "--until-stdin-closes"]
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [*command, "--port", str(port), "--retry-delay", str(retry_delay)],
                cwd=ROOT,
                env=environment(HOME=self._scratch.name, TMPDIR=self._scratch.name, **calls),
                # Held open as long as we live: its end is how the host learns of ours, even after kill -9.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        try:
            self.endpoint = self._process.stdout.readline().strip()
            if not self.endpoint:
                self._process.wait(10)
                raise Failed(f"the local AWS did not start:\n{log.read_text(errors='replace')[-4000:]}")
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "LocalAws":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the host and the functions it runs."""
        end_group(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()
        self._scratch.cleanup()

    def client(self, service: str, account: str = ACCOUNT, region: str = REGION, **credentials: str) -> Any:
        """A boto3 client for an account; without credentials it acts as the account's root."""
        keys = credentials or {"aws_access_key_id": account, "aws_secret_access_key": "local"}
        config = Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=60)
        return _boto().client(service, endpoint_url=self.endpoint, region_name=region, config=config, **keys)

    def environment(self, account: str = ACCOUNT, region: str = REGION, role: str = "") -> dict[str, str]:
        """What a program needs in its environment to work against this AWS, as the account's root user or in a role."""
        session = self.person("operator", role, account, region) if role else {}
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": account,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            **{name.upper(): value for name, value in session.items()},
        }

    def start_trail(self, account: str = ACCOUNT, region: str = REGION, log_group: str = "") -> None:
        """Give the account a trail that logs in every Region; without one no API call reaches EventBridge.

        It writes to a new log group too, if that is named.
        """
        trails = self.client("cloudtrail", account, region)
        self.client("s3", account, region).create_bucket(
            Bucket=f"trail-{account}-{region}", CreateBucketConfiguration={"LocationConstraint": region}
        )
        more = {}
        if log_group:
            self.client("logs", account, region).create_log_group(logGroupName=log_group)
            more["CloudWatchLogsLogGroupArn"] = f"arn:aws:logs:{region}:{account}:log-group:{log_group}:*"
            more["CloudWatchLogsRoleArn"] = f"arn:aws:iam::{account}:role/trail"
        bucket = f"trail-{account}-{region}"
        trails.create_trail(Name="management", S3BucketName=bucket, IsMultiRegionTrail=True, **more)
        trails.start_logging(Name="management")

    def organization(self, management: str, *members: str) -> str:
        """Found an organization whose members have accepted, and return its id."""
        organizations = self.client("organizations", management)
        founded = organizations.create_organization(FeatureSet="ALL")["Organization"]
        for account in members:
            invitation = organizations.invite_account_to_organization(Target={"Id": account, "Type": "ACCOUNT"})
            self.client("organizations", account).accept_handshake(HandshakeId=invitation["Handshake"]["Id"])
        return founded["Id"]

    def person(self, name: str, role: str, account: str = ACCOUNT, region: str = REGION) -> dict[str, str]:
        """Credentials of a person who assumed a role."""
        trust = {"Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "sts:AssumeRole", "Effect": "Allow"}
        iam = self.client("iam", account, region)
        try:
            iam.create_role(
                RoleName=role,
                AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
            )
        except iam.exceptions.EntityAlreadyExistsException:
            pass
        session = self.client("sts", account, region).assume_role(
            RoleArn=f"arn:aws:iam::{account}:role/{role}", RoleSessionName=name
        )["Credentials"]
        return {
            "aws_access_key_id": session["AccessKeyId"],
            "aws_secret_access_key": session["SecretAccessKey"],
            "aws_session_token": session["SessionToken"],
        }

    def inject(self, event: dict[str, Any], account: str = ACCOUNT, region: str = REGION) -> None:
        """Let an AWS service send an event (EventBridge envelope), which PutEvents refuses to everyone else."""
        self._at_the_side("events", account=account, region=region, event=event)

    def fire_schedule(self, name: str, account: str = ACCOUNT, region: str = REGION, **more: Any) -> None:
        """Fire a schedule; `time` (seconds since the epoch) is when that is supposed to be."""
        self._at_the_side("schedules", account=account, region=region, name=name, **more)

    def fire_rule(self, name: str, account: str = ACCOUNT, region: str = REGION, **more: Any) -> None:
        """Fire a scheduled rule; `time` (seconds since the epoch) is when that is supposed to be."""
        self._at_the_side("rules", account=account, region=region, name=name, **more)

    def evaluate_alarms(self, account: str = ACCOUNT, region: str = REGION, **more: Any) -> dict[str, str]:
        """Evaluate every alarm, missing data too; `time` (seconds since the epoch) is when that is supposed to be."""
        return self._at_the_side("alarms", account=account, region=region, **more)

    def confirm(self, topic_arn: str, address: str, account: str = ACCOUNT, region: str = REGION) -> None:
        """Confirm the subscription of an e-mail address, as the person does who gets the mail."""
        self._at_the_side("subscriptions", account=account, region=region, topic=topic_arn, endpoint=address)

    def _at_the_side(self, path: str, **request: Any) -> dict[str, Any]:
        body = json.dumps(request).encode()
        with urllib.request.urlopen(f"{self.endpoint}/_local/{path}", body, timeout=30) as answer:
            return json.load(answer)

    def inbox(
        self,
        topic_arn: str,
        name: str,
        raw: bool = False,
        filter_policy: dict[str, Any] | None = None,
        account: str = ACCOUNT,
        region: str = REGION,
    ) -> "Inbox":
        """Subscribe a new queue to a topic."""
        sqs, sns = self.client("sqs", account, region), self.client("sns", account, region)
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = f"arn:aws:sqs:{region}:{account}:{name}"
        allow = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        attributes = {"RawMessageDelivery": str(raw).lower()}
        if filter_policy is not None:
            attributes["FilterPolicy"] = json.dumps(filter_policy)
        sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn, Attributes=attributes)
        return Inbox(sqs, url, raw)


@dataclass(frozen=True)
class Message:
    """A message as a subscriber got it."""

    subject: str
    body: str
    attributes: dict[str, str]
    arrived: float
    """Seconds since the epoch."""


class Inbox:
    """A queue, read message by message; what was read and not asked for yet is kept."""

    def __init__(self, sqs: Any, url: str, raw: bool = True) -> None:
        self._sqs, self.url, self._raw = sqs, url, raw
        self._unread: list[Message] = []

    def next(self, wanted: Callable[[Message], bool] = lambda _: True, timeout: float = 20.0) -> Message:
        """The first message that is wanted, waiting for it; TimeoutError names what came instead."""
        for message in self._arriving(timeout):
            if wanted(message):
                self._unread.remove(message)
                return message
        seen = [message.subject or message.body[:200] for message in self._unread]
        raise TimeoutError(f"nothing wanted within {timeout:g} s in {self.url.rsplit('/', 1)[-1]}; there is: {seen}")

    def all(self) -> list[Message]:
        """Everything that is there now."""
        self._receive()
        messages, self._unread = self._unread, []
        return messages

    def _arriving(self, timeout: float) -> Iterator[Message]:
        deadline = time.monotonic() + timeout
        given = 0
        while True:
            yield from self._unread[given:]
            given = len(self._unread)
            if time.monotonic() > deadline:
                return
            self._receive(wait=1)

    def _receive(self, wait: int = 0) -> None:
        while found := self._sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages"):
            wait = 0
            for message in found:
                self._unread.append(self._read(message))
                self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def _read(self, message: dict[str, Any]) -> Message:
        arrived = int(message["Attributes"]["SentTimestamp"]) / 1000
        if self._raw:
            attributes = {name: a.get("StringValue", "") for name, a in message.get("MessageAttributes", {}).items()}
            return Message("", message["Body"], attributes, arrived)
        envelope = json.loads(message["Body"])
        attributes = {name: a["Value"] for name, a in envelope.get("MessageAttributes", {}).items()}
        return Message(envelope.get("Subject", ""), envelope["Message"], attributes, arrived)


def deploy(
    aws: LocalAws,
    parameters: Mapping[str, str] | None = None,
    account: str = ACCOUNT,
    region: str = REGION,
    built: Path = BUILD,
) -> dict[str, str]:
    """`sam deploy` of what `sam build` left in a folder; returns the stack's outputs."""
    values = {"Architecture": ARCHITECTURE, **(parameters or {})}
    command = [Path(sys.executable).parent / "sam", "deploy", "--template-file", built / "template.yaml"]
    options = f"--stack-name {STACK} --region {region} --resolve-s3 --capabilities CAPABILITY_IAM"
    quiet = "--no-confirm-changeset --no-progressbar --no-fail-on-empty-changeset"
    overrides = [f"{name}={value}" for name, value in values.items()]
    run(
        "deploying",
        [*command, *options.split(), *quiet.split(), "--parameter-overrides", *overrides],
        LOGS / f"deploy-{account}-{region}.log",
        ROOT,
        # What AWS pauses between two looks at a stack's events, half a second here.
        environment(**aws.environment(account, region), SAM_CLI_POLL_DELAY="0.5"),
    )
    return outputs(aws.client("cloudformation", account, region))


def deploy_directly(aws: LocalAws) -> dict[str, str]:
    """What `deploy` comes to, by CloudFormation's and S3's own calls: for tests that need one more guard."""
    cloudformation, s3, bucket = aws.client("cloudformation"), aws.client("s3"), "deployed-directly"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    template = yaml_parse((BUILD / "template.yaml").read_text())
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            s3.put_object(Bucket=bucket, Key=name, Body=_zipped(BUILD / name / "bootstrap"))
            resource["Properties"]["CodeUri"] = f"s3://{bucket}/{name}"
    s3.put_object(Bucket=bucket, Key="template", Body=json.dumps(template).encode())
    cloudformation.create_stack(
        StackName=STACK,
        TemplateURL=f"{aws.endpoint}/{bucket}/template",
        Parameters=[{"ParameterKey": "Architecture", "ParameterValue": ARCHITECTURE}],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return outputs(cloudformation)


@cache
def _zipped(program: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(program, program.name)
    return packed.getvalue()


def outputs(cloudformation: Any) -> dict[str, str]:
    """The outputs of the guard's stack."""
    stack = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


@contextmanager
def guarded(port: int = 0, retry_delay: float = 1.0, place: str | None = None) -> Iterator[tuple[LocalAws, dict[str, str]]]:
    """A local AWS whose account has a trail and the guard, and the stack's outputs; build first."""
    with LocalAws(port, retry_delay, place=place) as aws:
        aws.start_trail()
        yield aws, deploy(aws)


@cache
def _boto() -> Any:
    """The boto3 session, which knows no configuration but what it is given."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    return boto3.Session()
