"""CloudTrail: the record of a call, in CloudTrail's own shape, handed to EventBridge.

ministack records calls too, with the API's parameter names, no response and no error, and tells nobody.
Shapes after "Logging AWS KMS API calls with AWS CloudTrail" and "CloudTrail record contents".
"""

import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

from botocore.model import Shape
from ministack import app
from ministack.core.responses import get_account_id, get_region, get_request_client_ip, request_scope
from ministack.core.router import extract_access_key_id
from ministack.services import cloudtrail, sts

from . import events, iam, kms, recorder, trails
from .calls import Call, read_answer, read_request
from .pinned import replace, require

log = logging.getLogger("local.emulator.cloudtrail")

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[..., Awaitable[Response]]

READS = tuple(
    "AssumeRole Check Decrypt Derive Describe Encrypt Filter Generate Get List Lookup ReEncrypt Sign Simulate Test "
    "Validate Verify".split()
)
"""Operations that CloudTrail marks read-only start with one of these; using a key is a read."""

NOT_MANAGEMENT = {
    "events": ("PutEvents", "PutPartnerEvents"),
    "lambda": ("Invoke",),
    "logs": ("PutLogEvents", "StartLiveTail"),
    "monitoring": ("PutMetricData", "GetMetricData"),
    "sns": ("Publish",),
    "sqs": ("ChangeMessageVisibility", "DeleteMessage", "ReceiveMessage", "SendMessage"),
}
"""Operations that are data events, which no trail records unless it is told to, start with one of these."""

VERSIONED = {
    **dict.fromkeys(
        (
            "CreateAlias DeleteAlias UpdateAlias CreateEventSourceMapping DeleteEventSourceMapping "
            "UpdateEventSourceMapping CreateFunction DeleteFunction PublishVersion"
        ).split(),
        "20150331",
    ),
    **dict.fromkeys(
        (
            "AddPermission RemovePermission GetPolicy GetFunction GetFunctionConfiguration UpdateFunctionCode "
            "UpdateFunctionConfiguration"
        ).split(),
        "20150331v2",
    ),
    **dict.fromkeys(("PutFunctionConcurrency", "DeleteFunctionConcurrency"), "20171031"),
    **dict.fromkeys(("TagResource", "UntagResource"), "20170331v2"),
    "PublishLayerVersion": "20181031",
}
"""What CloudTrail appends to the names of Lambda's operations ("Logging Lambda API calls using AWS CloudTrail")."""

GLOBAL = frozenset({"iam", "organizations"})
"""Services whose calls are recorded in us-east-1."""

NEVER_RECORDED = frozenset({"Environment", "GrantToken", "GrantTokens", "SecretAccessKey", "SessionToken"})
"""Secrets; key material, ciphertext and code are left out as blobs."""

_recorded: ContextVar[bool] = ContextVar("_recorded", default=False)
"""Whether the call that is being answered is recorded here, or is none to record; ministack leaves it alone then."""

_caller: ContextVar[str] = ContextVar("_caller", default="")
"""The access key of the call that is being answered, or that set off what goes on."""


def mend() -> None:
    """Record calls as CloudTrail does, and deliver them."""
    replace(app, "_dispatch_service_request", "method path headers body query_params request_id", _dispatch)
    require(cloudtrail, "_get_event_queue")
    replace(
        cloudtrail,
        "record_event",
        "service event_name username access_key_id resources region request_id user_agent request_params method",
        _record_event,
    )


def _record_event(original: Callable[..., None]) -> Callable[..., None]:
    def record_event(**seen: Any) -> None:
        if not _recorded.get():
            original(**seen)

    return record_event


def _dispatch(original: Handler) -> Handler:
    """Answer the call, then record it."""

    async def dispatch(
        method: str, path: str, headers: dict, body: bytes, query_params: dict, request_id: str
    ) -> Response:
        try:
            call = read_request(method, path, headers, body, query_params)
        except ValueError:
            call = None
        if call is not None and recorder.FOLDER:
            recorder.note(call, user_identity(extract_access_key_id(headers, query_params)))
        _recorded.set(call is not None)
        if call is None or call.operation.name.startswith(NOT_MANAGEMENT.get(call.service, ("-",))):
            return await original(method, path, headers, body, query_params, request_id)
        access_key = extract_access_key_id(headers, query_params)
        kms.answered.set(None)
        _caller.set(access_key)
        # The call that switches a trail off is the last one that it logs.
        selected = _selected_by(call.service, call.operation.name)
        was_logged = call.service == "cloudtrail" and bool(_logging_trails(selected))
        response = await original(method, path, headers, body, query_params, request_id)
        try:
            read_answer(call, headers, response)
            record = _record(call, access_key, request_id, headers)
            deliver(record, was_logged)
        except Exception:
            # The call is done; its record must not be lost in silence.
            log.exception("no record of %s", call.operation.name)
        return response

    return dispatch


def deliver(record: dict[str, Any], was_logged: bool = False) -> None:
    """Keep the record in the event history, and hand it to EventBridge if a trail logs it."""
    with request_scope(record["recipientAccountId"], record["awsRegion"]):
        _keep(record)
        logged_by = _logging_trails(record)
        for home, trail in logged_by:
            trails.write_to_log_group(home, trail, record)
        if was_logged or logged_by:
            source = f"aws.{record['eventSource'].split('.')[0]}"
            events.deliver(source, "AWS API Call via CloudTrail", record)


def record_by_service(service: str, operation: str, parameters: dict[str, Any], principal: str) -> dict[str, Any]:
    """The record of a call that an AWS service made on behalf of whoever called it."""
    record = _record_head(service, operation, _caller.get(), principal, principal)
    record["userIdentity"]["invokedBy"] = principal
    return {**record, "requestParameters": parameters or None, "responseElements": None, "requestID": str(uuid.uuid4())}


def _selected_by(service: str, operation: str) -> dict[str, Any]:
    """The part of a record that event selectors look at."""
    return {
        "eventSource": f"{service}.amazonaws.com",
        "eventName": operation + (VERSIONED.get(operation, "") if service == "lambda" else ""),
        "readOnly": operation.startswith(READS),
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "eventCategory": "Management",
    }


def _record_head(service: str, operation: str, access_key: str, address: str, user_agent: str) -> dict[str, Any]:
    """A record without what was asked and answered."""
    return {
        "eventVersion": "1.11",
        "userIdentity": user_identity(access_key),
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "awsRegion": "us-east-1" if service in GLOBAL else get_region(),
        "sourceIPAddress": address,
        "userAgent": user_agent,
        "eventID": str(uuid.uuid4()),
        "recipientAccountId": get_account_id(),
        **_selected_by(service, operation),
    }


def _record(call: Call, access_key: str, request_id: str, headers: dict[str, str]) -> dict[str, Any]:
    """The CloudTrail record of one call."""
    agent = headers.get("user-agent", "")
    record = _record_head(call.service, call.operation.name, access_key, get_request_client_ip(), agent)
    record["requestID"] = request_id
    record["requestParameters"] = _request_parameters(call)
    record["responseElements"] = None if record["readOnly"] else _response_elements(call)
    if call.error:
        record["errorCode"], record["errorMessage"] = call.error
    if key_call := kms.answered.get():
        # About the key, which the request may name by id, alias or ARN.
        record["resources"] = _resources(key_call, record["recipientAccountId"])
        if not record["readOnly"] and not call.error and not record["responseElements"] and key_call.key:
            # Where the answer is empty, the key's ARN (since December 2022).
            record["responseElements"] = {"keyId": key_call.key["Arn"]}
        kms.remember_use(key_call, record["eventID"], request_id)
    return record


def user_identity(access_key: str) -> dict[str, Any]:
    """Who called, as STS knows the access key: the account's root, an IAM user, or a role's session."""
    caller = sts._caller_identity({"authorization": f"AWS4-HMAC-SHA256 Credential={access_key}/"})
    account, arn = caller["accountId"], caller["userArn"]
    identity = {"principalId": caller["userId"], "arn": arn, "accountId": account, "accessKeyId": access_key}
    if caller["principalType"] == "AssumedRole":
        role = iam.role_of_session(arn)
        return {
            "type": "AssumedRole",
            **identity,
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "principalId": str(caller["userId"]).split(":")[0],
                    "arn": role,
                    "accountId": account,
                    "userName": role.rsplit("/", 1)[-1],
                },
                "attributes": {
                    "creationDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "mfaAuthenticated": "false",
                },
            },
        }
    if caller["principalType"] == "User":
        return {"type": "IAMUser", **identity, "userName": caller["principalName"]}
    return {"type": "Root", **identity}


def _request_parameters(call: Call) -> dict[str, Any] | None:
    shape = call.operation.input_shape
    return in_cloudtrail_form(call.parameters, shape) or None if shape else None


def _response_elements(call: Call) -> dict[str, Any] | None:
    shape = call.operation.output_shape
    return None if call.error or shape is None else in_cloudtrail_form(call.answer, shape) or None


def _resources(call: kms.Call, account: str) -> list[dict[str, str]]:
    keys = [{"accountId": account, "type": "AWS::KMS::Key", "ARN": call.key["Arn"]}] if call.key else []
    return [*({"accountId": account, "ARN": arn} for arn in call.alias_arns), *keys]


def in_cloudtrail_form(value: Any, shape: Shape) -> Any:
    """An API value as CloudTrail writes it: names start in lower case, times are text, secrets are left out.

    The keys of a map, such as an encryption context, are the caller's data and stay.
    """
    if shape.type_name == "structure" and isinstance(value, dict):
        return {
            name[0].lower() + name[1:]: in_cloudtrail_form(value[name], member)
            for name, member in shape.members.items()
            if name in value and member.type_name != "blob" and name not in NEVER_RECORDED
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [in_cloudtrail_form(item, shape.member) for item in value]
    if shape.type_name == "timestamp" and isinstance(value, int | float | datetime):
        return cloudtrail_time(value.timestamp() if isinstance(value, datetime) else value)
    return value


def cloudtrail_time(seconds: float) -> str:
    """A time in CloudTrail's words: Nov 2, 2021, 11:25:25 PM."""
    at = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{at:%b} {at.day}, {at.year}, {at.hour % 12 or 12}:{at:%M:%S %p}"


def _keep(record: dict[str, Any]) -> None:
    """Add the record to the event history, which LookupEvents reads."""
    cloudtrail._get_event_queue().append(
        {
            "EventId": record["eventID"],
            "EventName": record["eventName"],
            "EventSource": record["eventSource"],
            "EventTime": time.time(),
            "Username": record["userIdentity"]["arn"].rsplit("/", 1)[-1],
            "AccessKeyId": record["userIdentity"]["accessKeyId"],
            "ReadOnly": str(record["readOnly"]).lower(),
            "Resources": [
                {"ResourceType": "AWS::KMS::Key", "ResourceName": resource["ARN"]}
                for resource in record.get("resources", [])
            ],
            "CloudTrailEvent": json.dumps(record),
        }
    )


def _logging_trails(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The trails that log this event, with their home Region; without one, EventBridge never hears of it."""
    return [
        (home, trail)
        for home, name, trail in cloudtrail._visible_trail_items()
        if trail.get("IsLogging") and any(_selects(s, record) for s in trails.selectors(home, name, trail))
    ]


def _selects(selector: dict[str, Any], record: dict[str, Any]) -> bool:
    if "FieldSelectors" in selector:
        return all(_field_selects(f, record) for f in selector["FieldSelectors"])
    wanted = {"All": (True, False), "ReadOnly": (True,), "WriteOnly": (False,)}
    return (
        selector.get("IncludeManagementEvents", True)
        and record["readOnly"] in wanted[selector.get("ReadWriteType", "All")]
        and record["eventSource"] not in selector.get("ExcludeManagementEventSources", [])
    )


def _field_selects(condition: dict[str, Any], record: dict[str, Any]) -> bool:
    value = record.get(condition["Field"])
    text = str(value).lower() if isinstance(value, bool) else str(value or "")
    return (
        ("Equals" not in condition or text in condition["Equals"])
        and text not in condition.get("NotEquals", [])
        and ("StartsWith" not in condition or text.startswith(tuple(condition["StartsWith"])))
        and not text.startswith(tuple(condition.get("NotStartsWith", [])))
        and ("EndsWith" not in condition or text.endswith(tuple(condition["EndsWith"])))
        and not text.endswith(tuple(condition.get("NotEndsWith", [])))
    )
