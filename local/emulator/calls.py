"""What a client asked of a service and what it got, read with botocore's models, whatever the protocol."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote

import botocore.session
import cbor2
from botocore import parsers
from botocore.model import OperationModel, ServiceModel, Shape

MODELS = {
    "cloudformation": "cloudformation",
    "cloudtrail": "cloudtrail",
    "events": "events",
    "iam": "iam",
    "kms": "kms",
    "lambda": "lambda",
    "logs": "logs",
    "monitoring": "cloudwatch",
    "organizations": "organizations",
    "scheduler": "scheduler",
    "sns": "sns",
    "sqs": "sqs",
    "sts": "sts",
}
"""The services whose calls are read, by the name they have in a signature and in CloudTrail, and botocore's name."""


@dataclass
class Call:
    """One call of an API operation and its answer, both with the names of the API."""

    service: str
    """As in a signature: events, monitoring."""
    operation: OperationModel
    parameters: dict[str, Any]
    status: int = 200
    answer: dict[str, Any] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    """Code and message."""


def read_request(
    method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]
) -> Call | None:
    """The call in a signed request, or None if it is for another service or can't be read."""
    scope = re.search(r"Credential=[^/]+/\d{8}/[^/]+/([^/]+)/", headers.get("authorization", ""))
    if scope is None or scope[1] not in MODELS:
        return None
    service = scope[1]
    model = service_model(service)
    kind = _protocol(headers, model)
    if kind == "rest-json":
        operation, found = _match_path(model, method, path)
        parameters = _rest_parameters(operation, found, headers, body, query) if operation else {}
    elif kind == "query":
        form = {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}
        form |= {name: value[0] if isinstance(value, list) else value for name, value in query.items()}
        operation = _operation(model, form.get("Action", ""))
        shape = operation.input_shape if operation else None
        parameters = _from_form(form, "", shape) if shape else {}
    else:
        name = headers.get("x-amz-target", "").rsplit(".", 1)[-1] or path.rsplit("/", 1)[-1]
        operation = _operation(model, name)
        parameters = _from_cbor(body) if kind == "smithy-rpc-v2-cbor" else json.loads(body or b"{}")
    if operation is None or not isinstance(parameters, dict):
        return None
    return Call(service, operation, parameters)


def read_answer(call: Call, headers: Mapping[str, str], response: tuple[int, Mapping[str, str], Any]) -> None:
    """Note the answer in the call."""
    call.status, answer_headers, body = response
    kind = _protocol(headers, service_model(call.service))
    lower = {name.lower(): value for name, value in answer_headers.items()}
    parsed = parsers.create_parser(kind).parse(
        {"status_code": call.status, "headers": lower, "body": body if isinstance(body, bytes) else b""},
        call.operation.output_shape,
    )
    parsed.pop("ResponseMetadata", None)
    if call.status >= 400:
        error = parsed.get("Error", {})
        call.error = str(error.get("Code", "")), str(error.get("Message", ""))
    else:
        call.answer = parsed


@cache
def service_model(service: str) -> ServiceModel:
    """botocore's model of a service in MODELS."""
    return botocore.session.Session().get_service_model(MODELS[service])


def _protocol(headers: Mapping[str, str], model: ServiceModel) -> str:
    if "smithy-protocol" in headers:
        return headers["smithy-protocol"].replace("rpc-v2-cbor", "smithy-rpc-v2-cbor")
    if "x-amz-target" in headers:
        return "json"
    return "rest-json" if model.protocol == "rest-json" else "query"


def _operation(model: ServiceModel, name: str) -> OperationModel | None:
    return model.operation_model(name) if name in model.operation_names else None


def _match_path(model: ServiceModel, method: str, path: str) -> tuple[OperationModel | None, dict[str, str]]:
    for pattern, wanted, name in _paths(model.service_name):
        if wanted == method and (match := pattern.fullmatch(path.rstrip("/") or "/")):
            found = {member: unquote(value) for member, value in match.groupdict().items()}
            return model.operation_model(name), found
    return None, {}


@cache
def _paths(model_name: str) -> list[tuple[re.Pattern[str], str, str]]:
    """The operations of a REST API as patterns, those with more fixed text first."""
    model = botocore.session.Session().get_service_model(model_name)
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        uri = http["requestUri"].split("?")[0].rstrip("/") or "/"
        parts = re.split(r"\{(\w+)(\+?)\}", uri)
        pattern = re.escape(parts[0])
        for member, greedy, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            pattern += f"(?P<{member}>{'.+' if greedy else '[^/]+'}){re.escape(text)}"
        found.append((len("".join(parts[0::3])), re.compile(pattern), http["method"], name))
    return [entry[1:] for entry in sorted(found, key=lambda entry: -entry[0])]


def _rest_parameters(
    operation: OperationModel, path: dict[str, str], headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]
) -> dict[str, Any]:
    shape = operation.input_shape
    if shape is None:
        return {}
    sent = json.loads(body or b"{}") if not shape.serialization.get("payload") else {}
    parameters = {}
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        place = member.serialization.get("location", "body")
        if place == "uri" and wire in path:
            parameters[name] = path[wire]
        elif place == "querystring" and wire in query:
            value = query[wire]
            parameters[name] = value if member.type_name == "list" or not isinstance(value, list) else value[0]
        elif place == "header" and wire.lower() in headers:
            parameters[name] = headers[wire.lower()]
        elif place == "body" and wire in sent:
            parameters[name] = sent[wire]
    return parameters


def _from_form(form: dict[str, str], prefix: str, shape: Shape) -> Any:
    """A value of the query protocol: Topic.Name=…, Tags.member.1.Key=…."""
    if shape.type_name == "structure":
        found = {}
        for name, member in shape.members.items():
            wire = f"{prefix}.{_wire_name(name, member)}".lstrip(".")
            if any(given == wire or given.startswith(f"{wire}.") for given in form):
                found[name] = _from_form(form, wire, member)
        return found
    if shape.type_name in ("list", "map"):
        flat = shape.serialization.get("flattened")
        inner = "entry" if shape.type_name == "map" else shape.member.serialization.get("name", "member")
        base = prefix if flat else f"{prefix}.{inner}"
        numbers = sorted({int(m[1]) for given in form if (m := re.match(rf"{re.escape(base)}\.(\d+)(?:\.|$)", given))})
        if shape.type_name == "list":
            return [_from_form(form, f"{base}.{number}", shape.member) for number in numbers]
        key, value = shape.key.serialization.get("name", "key"), shape.value.serialization.get("name", "value")
        return {
            form.get(f"{base}.{number}.{key}", ""): _from_form(form, f"{base}.{number}.{value}", shape.value)
            for number in numbers
        }
    text = form.get(prefix, "")
    if shape.type_name == "boolean":
        return text == "true"
    if shape.type_name in ("integer", "long"):
        return int(text)
    if shape.type_name == "blob":
        return base64.b64decode(text)
    return text


def _wire_name(name: str, member: Shape) -> str:
    if member.type_name == "list" and member.serialization.get("flattened"):
        return member.member.serialization.get("name", member.serialization.get("name", name))
    return member.serialization.get("name", name)


def _from_cbor(body: bytes) -> Any:
    # botocore's own parser knows no indefinite lengths, which other SDKs send.
    return cbor2.loads(body) if body else {}
