"""SNS: the messages that AWS refuses and ministack takes, e-mail subscriptions that wait for their confirmation, functions that
fail on a message.

AWS pages: "Publish" and "Subscribe" (API reference), "Message attributes". The 256 KiB limit ministack keeps itself.
"""

import json
import unicodedata
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from ministack.core.responses import request_scope
from ministack.services import lambda_svc, sns
from ministack.services.cloudformation import provisioners

from .pinned import replace, replace_entry, require

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[..., Awaitable[Response]]


CONFIRMED_BY_A_PERSON = ("email", "email-json")


def mend() -> None:
    """Refuse what SNS refuses, let e-mail addresses wait for a person, and repeat what a function fails on."""
    replace(sns, "handle_request", "method path headers body query_params", _handle_request)
    replace(sns, "_subscribe", "params", _subscribe)
    for name in ("_list_subscriptions", "_list_subscriptions_by_topic"):
        replace(sns, name, "params", _list)
    replace(
        sns,
        "_deliver_to_lambda",
        "endpoint envelope topic_arn sub_arn msg_id raw_message message_attributes",
        lambda _: _deliver_to_lambda,
    )
    require(lambda_svc, "_execution_record_for_config _get_func_record_for_ref invoke_async_with_retry")
    require(sns, "_error _refresh_subscription_counts _sub_arn_to_topic _topics")
    handlers = provisioners._RESOURCE_HANDLERS.get("AWS::SNS::Subscription", {})
    replace_entry(handlers, "create", "_RESOURCE_HANDLERS['AWS::SNS::Subscription']", _create_of_stack)


def confirm(account: str, region: str, topic: str, endpoint: str) -> None:
    """Follow the link in the mail: confirm the subscription of an address. KeyError if there is none."""
    with request_scope(account, region):
        for subscription in sns._topics[topic]["subscriptions"]:
            if subscription["endpoint"] == endpoint:
                _set_confirmed(subscription, True)
                sns._refresh_subscription_counts(sns._topics[topic])
                return
    raise KeyError(endpoint)


def _deliver_to_lambda(endpoint: str, envelope: str, topic_arn: str, sub_arn: str, *_: Any) -> None:
    """Invoke the function asynchronously, with its retries and on-failure destination; ministack invokes it once."""
    func, config, _name = lambda_svc._get_func_record_for_ref(endpoint)
    if func and config:
        record = {"EventVersion": "1.0", "EventSubscriptionArn": sub_arn, "EventSource": "aws:sns"}
        event = {"Records": [record | {"Sns": json.loads(envelope)}]}
        lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(func, config), event)


def _subscribe(original: Callable[[dict], Response]) -> Callable[[dict], Response]:
    """ministack takes an address for confirmed."""

    def subscribe(params: dict) -> Response:
        known = set(sns._sub_arn_to_topic)
        response = original(params)
        for arn in set(sns._sub_arn_to_topic) - known:
            if _pends(arn):
                return response[0], response[1], response[2].replace(arn.encode(), b"pending confirmation")
        return response

    return subscribe


def _create_of_stack(original: Callable[..., Any]) -> Callable[..., Any]:
    def create(logical_id: str, props: dict, stack_name: str) -> Any:
        arn, attributes = original(logical_id, props, stack_name)
        _pends(arn)
        return arn, attributes

    return create


def _pends(arn: str) -> bool:
    """Whether the new subscription has to wait for a person, which it does from now on."""
    topic = sns._topics[sns._sub_arn_to_topic[arn]]
    subscription = next(found for found in topic["subscriptions"] if found["arn"] == arn)
    pends = subscription["protocol"] in CONFIRMED_BY_A_PERSON
    if pends:
        _set_confirmed(subscription, False)
        sns._refresh_subscription_counts(topic)
    return pends


def _set_confirmed(subscription: dict[str, Any], confirmed: bool) -> None:
    subscription["confirmed"] = confirmed
    subscription["token"] = None if confirmed else str(uuid.uuid4())
    subscription["attributes"]["PendingConfirmation"] = str(not confirmed).lower()


def _list(original: Callable[[dict], Response]) -> Callable[[dict], Response]:
    """A subscription that isn't confirmed has no ARN in a list."""

    def listed(params: dict) -> Response:
        status, headers, body = original(params)
        for topic in sns._topics.values():
            for subscription in topic["subscriptions"]:
                if not subscription.get("confirmed"):
                    body = body.replace(
                        f"<SubscriptionArn>{subscription['arn']}<".encode(), b"<SubscriptionArn>PendingConfirmation<"
                    )
        return status, headers, body

    return listed


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
