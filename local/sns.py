"""SNS: the messages that AWS refuses and ministack takes.

AWS pages: "Publish" (API reference), "Message attributes". The 256 KiB limit ministack keeps itself.
"""

import json
import unicodedata
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from ministack.services import sns

from .pinned import replace

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[..., Awaitable[Response]]


def mend() -> None:
    """Refuse what SNS refuses."""
    replace(sns, "handle_request", "method path headers body query_params", _handle_request)


def _handle_request(original: Handler) -> Handler:
    async def handle_request(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> Response:
        form = {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}
        if form.get("Action") == "Publish" and (fault := refusal(form)):
            return sns._error(*fault, 400)
        return await original(method, path, headers, body, query_params)

    return handle_request


def refusal(form: dict[str, str]) -> tuple[str, str] | None:
    """Error code and message for a Publish request that AWS would refuse, None for a good one."""
    if not form.get("Message"):
        return "InvalidParameter", "Invalid parameter: Empty message"
    if "Subject" in form and not _good_subject(form["Subject"]):
        return "InvalidParameter", "Invalid parameter: Subject"
    if form.get("MessageStructure") == "json" and not _has_default(form["Message"]):
        return "InvalidParameter", "Invalid parameter: Message Structure - No default entry in JSON message body"
    return _bad_attribute(form)


def _good_subject(subject: str) -> bool:
    """Fewer than 100 characters, no line breaks, no control characters."""
    return 0 < len(subject) < 100 and not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in subject)


def _has_default(message: str) -> bool:
    try:
        return "default" in json.loads(message)
    except (ValueError, TypeError):
        return False


def _bad_attribute(form: dict[str, str]) -> tuple[str, str] | None:
    for number in range(1, len(form)):
        name = form.get(f"MessageAttributes.entry.{number}.Name")
        if name is None:
            return None
        value = f"MessageAttributes.entry.{number}.Value"
        kind = form.get(f"{value}.DataType", "")
        text = form.get(f"{value}.StringValue") or form.get(f"{value}.BinaryValue")
        if not text:
            return "ParameterValueInvalid", (
                f"The message attribute '{name}' must contain non-empty message attribute value "
                f"for message attribute type '{kind}'."
            )
        if kind.startswith("Number") and not _is_number(text):
            return "ParameterValueInvalid", f"Could not cast message attribute '{name}' value to number."
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
