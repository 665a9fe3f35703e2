"""10,000 KMS keys through the watch function as `sam build` made it, on loopback: `python -m local.rig.sweeping`.

    Keys        a KMS that holds many keys and keeps AWS's request quotas
    Account     the rest of AWS: the guard's stack and the function's own log; everything else is denied
    watching    the binary with both, and with an SNS, as Lambda runs it

Prints how long a sweep takes, what it asks of KMS, and what it needs of processor and memory.
"""

import argparse
import asyncio
import json
import re
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ..build import ROOT
from ..build import WATCH as BINARY
from . import ACCOUNT, REGION, Connection, Fault, Function, Request, Server, Service, Sns, response

TIMEOUT = 300.0
"""Seconds, as in the template."""
QUOTAS = {"DescribeKey": 2_000, "ListKeys": 500, "ListAliases": 500, "ListResourceTags": 2_000, "GetKeyLastUsage": 5}
"""Requests a second. <https://docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.html>"""
DAY = 86_400


def arn(number: int) -> str:
    return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{number:08x}-0000-4000-8000-000000000000"


class Keys(Service):
    """A KMS that holds keys 0 to `count`; `states` says which aren't Enabled. Key 0 is AWS's own."""

    def __init__(
        self, count: int, states: Mapping[int, dict[str, Any]] = {}, quotas: Mapping[str, int] = QUOTAS,
        refused: Mapping[int, str] = {}, last_usage: bool = True,
    ) -> None:
        super().__init__({})
        self.count, self.states, self.quotas, self.refused, self.last_usage = count, states, quotas, refused, last_usage
        self.throttled: Counter[str] = Counter()
        self.described: Counter[str] = Counter()
        self._second: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))

    def subject(self, request: Request) -> str:
        return request.headers["x-amz-target"].rpartition(".")[2]

    def good(self, request: Request, connection: Connection) -> bytes:
        operation, asked = self.subject(request), json.loads(request.body)
        if self._is_too_often(operation):
            self.throttled[operation] += 1
            return self._failed("ThrottlingException", "You have exceeded the rate at which you may call KMS.")
        return getattr(self, "_" + operation)(asked)

    def _is_too_often(self, operation: str) -> bool:
        now = int(time.monotonic())
        second, count = self._second[operation]
        count = count + 1 if second == now else 1
        self._second[operation] = (now, count)
        return count > self.quotas[operation]

    def _ListKeys(self, asked: dict[str, Any]) -> bytes:
        first = int(asked.get("Marker", 0))
        last = min(first + asked.get("Limit", 100), self.count)
        keys = [{"KeyId": arn(n).rpartition("/")[2], "KeyArn": arn(n)} for n in range(first, last)]
        return self._answer(Keys=keys, **self._more(last, self.count))

    def _ListAliases(self, asked: dict[str, Any]) -> bytes:
        first = int(asked.get("Marker", 0))
        last = min(first + asked.get("Limit", 50), self.count)
        aliases = [
            {"AliasName": f"alias/key-{n}", "TargetKeyId": arn(n).rpartition("/")[2]} for n in range(first, last)
        ]
        return self._answer(Aliases=aliases, **self._more(last, self.count))

    def _DescribeKey(self, asked: dict[str, Any]) -> bytes:
        key = asked["KeyId"]
        number = int(key.rpartition("/")[2][:8], 16)
        if code := self.refused.get(number):
            return self._failed(code, "No.")
        self.described[key] += 1
        metadata = {"KeyId": key.rpartition("/")[2], "Arn": key, "KeyState": "Enabled", "Origin": "AWS_KMS"}
        metadata["KeyManager"] = "CUSTOMER" if number else "AWS"
        return self._answer(KeyMetadata=metadata | self.states.get(number, {}))

    def _ListResourceTags(self, asked: dict[str, Any]) -> bytes:
        return self._answer(Tags=[{"TagKey": "owner", "TagValue": "team"}], Truncated=False)

    def _GetKeyLastUsage(self, asked: dict[str, Any]) -> bytes:
        if not self.last_usage:
            return self._failed("UnknownOperationException", "")
        usage = {"Operation": "Decrypt", "Timestamp": 1_790_000_000}
        return self._answer(KeyId=asked["KeyId"], KeyLastUsage=usage, TrackingStartDate=1_780_000_000)

    def _more(self, last: int, count: int) -> dict[str, Any]:
        return {"Truncated": True, "NextMarker": str(last)} if last < count else {"Truncated": False}

    def _answer(self, **body: Any) -> bytes:
        return response(200, json.dumps(body).encode(), Content_Type="application/x-amz-json-1.1")

    def _failed(self, code: str, message: str) -> bytes:
        body = json.dumps({"__type": code, "message": message}).encode()
        return response(400, body, Content_Type="application/x-amz-json-1.1")

    def error(self, fault: Fault, message: str) -> bytes:
        return self._failed("KMSInternalException", message)


class Account(Server):
    """What else the watch function asks: CloudFormation for the guard's stack, Logs for what its last run left."""

    function: Function

    def __init__(self) -> None:
        super().__init__()
        self.stack = "no such stack"
        """What CloudFormation says: `no such stack`, `there`, or `denied`."""
        self.status = "CREATE_COMPLETE"
        self.log_is_readable = True
        self.forged: dict[str, Any] = {}
        """What the log's events have otherwise than Lambda writes them."""

    async def answer(self, request: Request, connection: Connection) -> None:
        target = request.headers.get("x-amz-target", "")
        if target.endswith(".FilterLogEvents") and self.log_is_readable:
            lines = [line for stream, line in self.function.log if stream == "stdout"]
            events = [_event(line) | self.forged for line in lines]
            await connection.send(response(200, json.dumps({"events": events}).encode()))
        elif b"Action=DescribeStacks" in request.body and self.stack != "denied":
            await connection.send(self._stacks())
        elif b"Action=ListStackResources" in request.body:
            await connection.send(_resources())
        elif b"Action=GetTemplate" in request.body:
            await connection.send(_xml(200, "<GetTemplateResponse><GetTemplateResult><TemplateBody>{}</TemplateBody></GetTemplateResult></GetTemplateResponse>"))
        elif request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            await connection.send(_xml(403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>No.</Message></Error></ErrorResponse>"))
        else:
            await connection.send(response(400, b'{"__type": "AccessDeniedException", "message": "No."}'))

    def _stacks(self) -> bytes:
        if self.stack == "there":
            stack = f"<StackId>arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/guard/1</StackId><StackStatus>{self.status}</StackStatus>"
            return _xml(200, f"<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>guard</StackName>{stack}</member></Stacks></DescribeStacksResult></DescribeStacksResponse>")
        error = "<Code>ValidationError</Code><Message>Stack with id guard does not exist</Message>"
        return _xml(400, f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>")


def _event(line: str) -> dict[str, Any]:
    """A line as CloudWatch Logs has it: in a stream of the function's, and taken a second after the time that it is for."""
    scheduled = re.search(r'"ScheduledTime":"([^"]+)"', line)
    taken = datetime.fromisoformat(scheduled[1]).timestamp() + 1 if scheduled else 0
    stream = "2026/11/22/[$LATEST]0123456789abcdef0123456789abcdef"
    return {"timestamp": 0, "ingestionTime": int(taken * 1000), "logStreamName": stream, "message": line}


def _xml(status: int, body: str) -> bytes:
    return response(status, body.encode(), Content_Type="text/xml")


@asynccontextmanager
async def watching(
    keys: Keys,
    sns: Sns | None = None,
    timeout: float = TIMEOUT,
    account: Account | None = None,
    **environment: str,
) -> AsyncIterator[tuple[Function, Sns, Account]]:
    """The watch function with this KMS."""
    async with keys, (sns or Sns()) as topics, (account or Account()) as account:
        settings = {
            "AWS_ENDPOINT_URL": f"http://{account.address}",
            "AWS_LAMBDA_FUNCTION_NAME": "watch",
            "STACK_NAME": "guard",
            "LOG_GROUP_NAME": "/aws/lambda/watch",
            **environment,
        }
        async with Function(topics, keys, timeout, settings, binary=BINARY) as function:
            account.function = function
            yield function, topics, account


def batch(*bodies: str, sent: float | None = None) -> bytes:
    """What Lambda brings from the self-check queue; sent now, or at a time in seconds since the epoch."""
    attributes = {"SentTimestamp": str(int((time.time() if sent is None else sent) * 1000)), "MessageGroupId": "self-check"}
    records = [
        {"messageId": f"m-{n}", "body": body, "attributes": attributes, "eventSource": "aws:sqs"} for n, body in enumerate(bodies)
    ]
    return json.dumps({"Records": records}).encode()


def stack_event(stack: str = "guard") -> str:
    """The end of an update, as CloudFormation tells EventBridge."""
    stack_id = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{stack}/1"
    detail = {"stack-id": stack_id, "status-details": {"status": "UPDATE_COMPLETE", "status-reason": ""}}
    return json.dumps({"source": "aws.cloudformation", "detail-type": "CloudFormation Stack Status Change", "detail": detail})


def tick(look: str, due: str = "2026-11-22T06:00:00Z") -> bytes:
    """What the schedule sends."""
    return json.dumps({"look": look, "time": due}).encode()


async def _measure(count: int, at_risk: int) -> None:
    lost = {n: {"KeyState": "PendingDeletion", "DeletionDate": 1_795_327_200 + n * 60} for n in range(1, at_risk + 1)}
    keys = Keys(count, lost)
    async with watching(keys) as (function, sns, _):
        delivery = await function.deliver(tick("sweep"))
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{function.process.pid}/status").read_text())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    attempt = delivery.attempts[-1]
    cpu = used.ru_utime + used.ru_stime
    print(f"{count} keys, {at_risk} of them pending deletion: {attempt.ended} after {attempt.seconds:.1f} s")
    for operation, tries in sorted(keys.tries.items()):
        print(f"  {tries:>6} × {operation}, {keys.throttled[operation]} throttled")
    print(f"  {len(sns.messages):>6} messages to SNS")
    print(f"  {cpu:.2f} s of processor, {int(peak[1]) / 1024:.0f} MiB at most" if peak else "")


def _resources() -> bytes:
    """Every part that the template has."""
    parts = json.loads((ROOT / "src/coverage/expected.json").read_text())["Guard"]["Resources"]
    members = "".join(
        f"<member><LogicalResourceId>{name}</LogicalResourceId><PhysicalResourceId>{name}</PhysicalResourceId>"
        f"<ResourceType>{part['Type']}</ResourceType><ResourceStatus>CREATE_COMPLETE</ResourceStatus></member>"
        for name, part in parts.items()
    )
    return _xml(200, f"<ListStackResourcesResponse><ListStackResourcesResult><StackResourceSummaries>{members}</StackResourceSummaries></ListStackResourcesResult></ListStackResourcesResponse>")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.rig.sweeping", description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--at-risk", type=int, default=2_000)
    options = parser.parse_args()
    asyncio.run(_measure(options.keys, options.at_risk))
    return 0


if __name__ == "__main__":
    sys.exit(main())
