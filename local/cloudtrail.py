"""CloudTrail: the record of a KMS call, in CloudTrail's own shape, handed to EventBridge.

ministack records calls too, with the API's parameter names, no response and no error, and tells nobody.
Shapes after "Logging AWS KMS API calls with AWS CloudTrail" and "CloudTrail record contents".
"""

import json
import logging
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ServiceModel, Shape
from ministack.core.responses import get_account_id, get_request_client_ip
from ministack.services import cloudtrail, sts

from . import events, kms
from .pinned import replace

log = logging.getLogger("local.cloudtrail")

READS = ("Decrypt", "Derive", "Describe", "Encrypt", "Generate", "Get", "List", "ReEncrypt", "Sign", "Verify")
"""KMS operations that CloudTrail marks read-only start with one of these; using a key is a read."""

NEVER_RECORDED = frozenset({"GrantToken", "GrantTokens"})
"""Secrets; key material and ciphertext are left out as blobs."""


def mend() -> None:
    """Record KMS calls as CloudTrail does, and deliver them."""
    replace(
        cloudtrail,
        "record_event",
        "service event_name username access_key_id resources region request_id user_agent request_params method",
        _record_event,
    )


def _record_event(original: Callable[..., None]) -> Callable[..., None]:
    def record_event(**seen: Any) -> None:
        call = kms.answered.get()
        if seen["service"] != "kms" or call is None:
            original(**seen)
            return
        try:
            record = kms_record(call, seen["access_key_id"], seen["region"], seen["request_id"], seen["user_agent"])
            kms.remember_use(call, record["eventID"], record["requestID"])
            _keep(record)
            if _a_trail_logs(record):
                events.deliver("aws.kms", "AWS API Call via CloudTrail", record)
        except Exception:
            # ministack ignores errors here, and a lost record must not go unseen.
            log.exception("no record of %s", call.action)
            raise

    return record_event


def kms_record(call: kms.Call, access_key: str, region: str, request_id: str, user_agent: str) -> dict[str, Any]:
    """The CloudTrail record of one KMS call."""
    account = get_account_id()
    read_only = call.action.startswith(READS)
    record = {
        "eventVersion": "1.11",
        "userIdentity": user_identity(access_key),
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "eventSource": "kms.amazonaws.com",
        "eventName": call.action,
        "awsRegion": region,
        "sourceIPAddress": get_request_client_ip(),
        "userAgent": user_agent,
        "requestParameters": _request_parameters(call),
        "responseElements": None if read_only else _response_elements(call),
        "requestID": request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": read_only,
        "resources": _resources(call, account),
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
    }
    if not call.succeeded:
        record["errorCode"] = str(call.answer.get("__type", "")).rsplit("#", 1)[-1]
        record["errorMessage"] = call.answer.get("message") or call.answer.get("Message") or ""
    return record


def user_identity(access_key: str) -> dict[str, Any]:
    """Who called, as STS knows the access key: the account's root, an IAM user, or a role's session."""
    caller = sts._caller_identity({"authorization": f"AWS4-HMAC-SHA256 Credential={access_key}/"})
    account, arn = caller["accountId"], caller["userArn"]
    identity = {"principalId": caller["userId"], "arn": arn, "accountId": account, "accessKeyId": access_key}
    if caller["principalType"] == "AssumedRole":
        role = arn.split("/")[1]
        return {
            "type": "AssumedRole",
            **identity,
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "principalId": str(caller["userId"]).split(":")[0],
                    "arn": f"arn:aws:iam::{account}:role/{role}",
                    "accountId": account,
                    "userName": role,
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


def _request_parameters(call: kms.Call) -> dict[str, Any] | None:
    model = _kms_model()
    if call.action not in model.operation_names:
        return None
    shape = model.operation_model(call.action).input_shape
    return in_cloudtrail_form(call.parameters, shape) or None if shape else None


def _response_elements(call: kms.Call) -> dict[str, Any] | None:
    """The answer to a write; where that is empty, the key's ARN (since December 2022)."""
    if not call.succeeded:
        return None
    shape = _kms_model().operation_model(call.action).output_shape
    elements = in_cloudtrail_form(call.answer, shape) if shape else {}
    return elements or ({"keyId": call.key["Arn"]} if call.key else None)


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
    if shape.type_name == "timestamp" and isinstance(value, int | float):
        return cloudtrail_time(value)
    return value


def cloudtrail_time(seconds: float) -> str:
    """A time in CloudTrail's words: Nov 2, 2021, 11:25:25 PM."""
    at = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{at:%b} {at.day}, {at.year}, {at.hour % 12 or 12}:{at:%M:%S %p}"


@cache
def _kms_model() -> ServiceModel:
    return botocore.session.Session().get_service_model("kms")


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
                {"ResourceType": "AWS::KMS::Key", "ResourceName": resource["ARN"]} for resource in record["resources"]
            ],
            "CloudTrailEvent": json.dumps(record),
        }
    )


def _a_trail_logs(record: dict[str, Any]) -> bool:
    """Whether some trail of the Region logs this event; without one, EventBridge never hears of it."""
    return any(
        trail.get("IsLogging")
        and any(_selects(s, record) for s in _selectors(home, name))
        for home, name, trail in cloudtrail._visible_trail_items()
    )


def _selectors(home: str, name: str) -> list[dict[str, Any]]:
    defaults = cloudtrail._DEFAULT_EVENT_SELECTORS
    return cloudtrail._event_selectors.get_scoped(get_account_id(), home, name, defaults)


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
