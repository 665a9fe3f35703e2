"""KMS: the key states that AWS enforces, GetKeyLastUsage, and what CloudTrail has to know of a call.

AWS pages: "Key states of AWS KMS keys", "GetKeyLastUsage", "Logging AWS KMS API calls with AWS CloudTrail".
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import kms

from .pinned import replace, require

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[..., Awaitable[Response]]

TRACKING_STARTED = time.time()
"""Since when last usage is known: the start of the local AWS, as there can be no older key."""

_PENDING = frozenset(
    "CreateAlias CreateGrant DisableKey DisableKeyRotation EnableKey EnableKeyRotation GetParametersForImport "
    "ImportKeyMaterial ReplicateKey ScheduleKeyDeletion TagResource UntagResource UpdateAlias UpdateKeyDescription".split()
)
REFUSED_IN_STATE = {
    "PendingDeletion": (_PENDING, "is pending deletion."),
    "PendingReplicaDeletion": (_PENDING, "is pending replica deletion."),
    "PendingImport": (frozenset({"DisableKey", "EnableKey", "EnableKeyRotation"}), "is pending import."),
}
"""What AWS answers with KMSInvalidStateException; ministack lets these through. Cryptographic calls it refuses itself."""

CRYPTOGRAPHIC = frozenset(
    "Decrypt DeriveSharedSecret Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext "
    "GenerateDataKeyWithoutPlaintext GenerateMac ReEncrypt Sign Verify VerifyMac".split()
)


@dataclass
class Call:
    """One call as it was answered, with what CloudTrail's record says of the key."""

    action: str
    parameters: dict[str, Any]
    key: dict[str, Any] | None
    """ministack's entry of the key the call is about, if there is such a key."""
    alias_arns: list[str] = field(default_factory=list)
    status: int = 200
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        return self.status < 400


answered: ContextVar[Call | None] = ContextVar("answered", default=None)
"""The call that was answered in this request, for its record."""


def mend() -> None:
    """Put AWS's rules around ministack's KMS."""
    replace(kms, "handle_request", "method path headers body query_params", _handle_request)
    require(kms, "_alias_arn _resolve_key")
    replace(kms, "_list_keys", "data", _paged("Keys", 100, 1000))
    replace(kms, "_list_aliases", "data", _paged("Aliases", 50, 100))
    replace(kms, "_list_resource_tags", "data", _paged("Tags", 50, 50))


def _paged(member: str, default: int, most: int) -> Callable[..., Any]:
    """A list in pages, as long as AWS's; ministack gives all at once, or the first page without a way to the next."""

    def make(original: Callable[[dict], Response]) -> Callable[[dict], Response]:
        def listed(data: dict) -> Response:
            limit, marker = data.get("Limit", default), data.get("Marker", "0")
            if not 1 <= limit <= most:
                return error_response_json("ValidationException", f"Limit must be between 1 and {most}.", 400)
            if not marker.isdecimal():
                return error_response_json("InvalidMarkerException", "Invalid marker.", 400)
            response = original({**data, "Limit": sys.maxsize})
            if response[0] >= 400:
                return response
            everything, start = json.loads(response[2])[member], int(marker)
            answer = {member: everything[start : start + limit], "Truncated": start + limit < len(everything)}
            return json_response(answer | ({"NextMarker": str(start + limit)} if answer["Truncated"] else {}))

        return listed

    return make


def _handle_request(original: Handler) -> Handler:
    async def handle_request(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> Response:
        call = _read(headers, body)
        response = (
            _last_usage(call)
            if call.action == "GetKeyLastUsage"
            else _refusal(call) or await original(method, path, headers, body, query_params)
        )
        response = _complete(call, response)
        answered.set(call)
        return response

    return handle_request


def _read(headers: dict, body: bytes) -> Call:
    action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
    try:
        parameters = json.loads(body or b"{}")
    except ValueError:
        parameters = {}
    if not isinstance(parameters, dict):
        parameters = {}
    alias = parameters.get("AliasName")
    key = kms._resolve_key(parameters.get("KeyId") or parameters.get("TargetKeyId") or alias)
    return Call(action, parameters, key, [kms._alias_arn(alias)] if isinstance(alias, str) else [])


def _refusal(call: Call) -> Response | None:
    """What AWS answers to a call that the key's state doesn't allow."""
    if call.key is None:
        return None
    state, arn = call.key["KeyState"], call.key["Arn"]
    actions, reason = REFUSED_IN_STATE.get(state, (frozenset(), ""))
    if call.action in actions:
        return error_response_json("KMSInvalidStateException", f"{arn} {reason}", 400)
    if call.action == "CancelKeyDeletion" and not state.startswith("Pending"):
        return error_response_json("KMSInvalidStateException", f"{arn} is not pending deletion.", 400)
    return None


def _complete(call: Call, response: Response) -> Response:
    """Note the answer in the call, and add to it what AWS says and ministack doesn't."""
    status, headers, body = response
    call.status, call.answer = status, json.loads(body) if body else {}
    if call.action == "CreateKey" and call.succeeded:
        call.key = kms._resolve_key(call.answer["KeyMetadata"]["KeyId"])
    if call.action != "ScheduleKeyDeletion" or not call.succeeded or call.key is None:
        return response
    call.answer["PendingWindowInDays"] = call.parameters.get("PendingWindowInDays", 30)
    if call.key["KeyState"] == "PendingReplicaDeletion":
        # The waiting period starts when the last replica is gone: until then there is no date.
        call.answer.pop("DeletionDate", None)
        call.key.pop("DeletionDate", None)
    return status, headers, json.dumps(call.answer).encode()


def remember_use(call: Call, event_id: str, request_id: str) -> None:
    """Note a successful cryptographic call for GetKeyLastUsage."""
    if call.key is not None and call.succeeded and call.action in CRYPTOGRAPHIC:
        call.key["_last_usage"] = {
            "Operation": call.action,
            "Timestamp": int(time.time()),
            "CloudTrailEventId": event_id,
            "KmsRequestId": request_id,
        }


def _last_usage(call: Call) -> Response:
    """GetKeyLastUsage, which ministack doesn't have: by key id or key ARN only, of this account only."""
    key_id = str(call.parameters.get("KeyId", ""))
    if ":alias/" in key_id or key_id.startswith("alias/"):
        return error_response_json("InvalidArnException", f"{key_id} is not a key id or key ARN", 400)
    if call.key is None:
        return error_response_json("NotFoundException", f"Key '{key_id}' does not exist", 400)
    answer = {
        "KeyId": call.key["Arn"],
        "TrackingStartDate": int(TRACKING_STARTED),
        "KeyCreationDate": call.key["CreationDate"],
    }
    if used := call.key.get("_last_usage"):
        answer["KeyLastUsage"] = used
    return json_response(answer)
