"""EventBridge: rules whose target is an event bus, in another account and Region too.

AWS pages: "Sending and receiving events between AWS accounts", "… between AWS Regions", "Permissions for event
buses". ministack delivers to buses of the same account and Region only, and to those without asking anyone.
"""

import json
import logging
from typing import Any

from ministack.core.arn import Arn
from ministack.core.responses import (
    error_response_json,
    get_account_id,
    get_region,
    json_response,
    new_uuid,
    request_scope,
)
from ministack.services import eventbridge
from ministack.services.cloudformation import provisioners

from . import events, iam
from .pinned import replace, replace_entry, require

log = logging.getLogger("local.emulator.buses")

INPUTS = ("Input", "InputPath", "InputTransformer")
"""Not for a bus as a target."""


def mend() -> None:
    """Forward as AWS does, and take bus policies in every form there is."""
    replace(eventbridge, "handle_request", "method path headers body query_params", _handle_request)
    parameters = "spec event rule event_path target_input_payload"
    replace(eventbridge, "_dispatch_to_event_bus", parameters, lambda _: _forward)
    replace(eventbridge, "_validate_target_arn", "target", _validate_target)
    replace(eventbridge, "_put_permission", "data", lambda _: _put_permission)
    replace(eventbridge, "_delete_event_bus", "data", _delete_event_bus)
    require(provisioners, "_eb_rule_bus_name _RESOURCE_HANDLERS")
    require(eventbridge, "_archive_event _event_bus_policies _event_buses _events_log_list _remove_permission")
    handlers = provisioners._RESOURCE_HANDLERS
    buses, rules = handlers.get("AWS::Events::EventBus", {}), handlers.get("AWS::Events::Rule", {})
    replace_entry(buses, "create", "_RESOURCE_HANDLERS['AWS::Events::EventBus']", _create_bus_of_stack)
    replace_entry(buses, "update", "_RESOURCE_HANDLERS['AWS::Events::EventBus']", _update_bus_of_stack)
    replace_entry(rules, "create", "_RESOURCE_HANDLERS['AWS::Events::Rule']", _create_rule_of_stack)
    handlers["AWS::Events::EventBusPolicy"] = {
        "create": _create_policy_of_stack,
        "update": _update_policy_of_stack,
        "delete": _delete_policy_of_stack,
    }


def _handle_request(original: Any) -> Any:
    """A bus of one's own can be named by its ARN wherever it has a name; ministack knows that of PutEvents only."""

    async def handle_request(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> Any:
        action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
        member = "Name" if action.endswith("EventBus") else "EventBusName"
        own = f"arn:aws:events:{get_region()}:{get_account_id()}:event-bus/"
        data = json.loads(body or b"{}")
        if isinstance(named := data.get(member), str) and named.startswith(own):
            body = json.dumps({**data, member: named.removeprefix(own)}).encode()
        return await original(method, path, headers, body, query_params)

    return handle_request


def _forward(spec: Arn, event: dict, rule: dict, event_path: set, target_input_payload: Any = None) -> None:
    """Put the event on another bus, with its envelope as it came, if everyone who is asked allows it."""
    if event.get("_Forwarded"):
        log.warning("not forwarded to %s: the event came from another bus already", spec)
        return
    if refused := _refusal(spec, event, rule):
        payload = json.dumps(eventbridge._pattern_event_view(event).event_with_detail())
        events.dead_letter(str(spec), payload, *refused)
        return
    with request_scope(spec.account_id, spec.region):
        arrived = {**event, "EventBusName": _bus_name(spec), "_Forwarded": True}
        arrived.pop("_DispatchPath", None)
        eventbridge._events_log_list().append(arrived)
        eventbridge._dispatch_event(arrived)
        eventbridge._archive_event(arrived)


def _refusal(spec: Arn, event: dict, rule: dict) -> tuple[str, str] | None:
    """Error code and message if the rule can't put the event on that bus.

    The role has to allow it whenever there is one, and there has to be one for another account or Region. The bus's
    policy has to allow it for another account; in the same account it can only forbid it.
    """
    foreign = spec.account_id != get_account_id()
    role = events.current_target().get("RoleArn", "")
    if not role and (foreign or spec.region != get_region()):
        return "NO_PERMISSIONS", f"A role is needed to send to {spec}"
    with request_scope(spec.account_id, spec.region):
        eventbridge._ensure_default_bus()
        if _bus_name(spec) not in eventbridge._event_buses:
            return "NO_RESOURCE", f"Event bus {spec} doesn't exist"
        policy = eventbridge._event_bus_policies.get(_bus_name(spec))
        if not role:
            return None
        if reason := iam.role_refuses(role, "events.amazonaws.com", "events:PutEvents", str(spec), rule["Arn"]):
            return "NO_PERMISSIONS", reason
        keys = {"events:source": event.get("Source", ""), "events:detail-type": event.get("DetailType", "")}
        decision = iam.resource_policy_decision(policy, role, "events:PutEvents", str(spec), rule["Arn"], **keys)
    if decision == "Deny" or (foreign and decision != "Allow"):
        return "NO_PERMISSIONS", f"The policy of {spec} doesn't allow {role} to send"
    return None


def _bus_name(spec: Arn) -> str:
    return spec.resource.removeprefix("event-bus/")


def _validate_target(original: Any) -> Any:
    def validate_target(target: dict) -> Any:
        given = [name for name in INPUTS if target.get(name)]
        if ":event-bus/" in target.get("Arn", "") and given:
            message = f"{given[0]} is not supported for target {target['Arn']}."
            return error_response_json("ValidationException", message, 400)
        return original(target)

    return validate_target


def _put_permission(data: dict) -> Any:
    """PutPermission with a whole policy, or with the parts of one statement, which AWS writes out as IAM does."""
    bus = data.get("EventBusName", "default")
    if bus not in eventbridge._event_buses:
        return error_response_json("ResourceNotFoundException", f"Event bus {bus} does not exist.", 400)
    if data.get("Policy"):
        eventbridge._event_bus_policies[bus] = json.loads(data["Policy"])
        return json_response({})
    principal, condition = data.get("Principal", ""), data.get("Condition")
    statement = {
        "Effect": "Allow",
        "Principal": principal if principal == "*" else {"AWS": f"arn:aws:iam::{principal}:root"},
        "Action": data.get("Action", "events:PutEvents"),
        "Resource": f"arn:aws:events:{get_region()}:{get_account_id()}:event-bus/{bus}",
    }
    if condition:
        statement["Condition"] = {condition["Type"]: {condition["Key"]: condition["Value"]}}
    _put_statement(bus, data.get("StatementId") or new_uuid(), statement)
    return json_response({})


def _put_statement(bus: str, statement_id: str, statement: dict) -> None:
    policy = eventbridge._event_bus_policies.get(bus) or {"Version": "2012-10-17", "Statement": []}
    others = [other for other in policy["Statement"] if other.get("Sid") != statement_id]
    policy["Statement"] = [*others, {**statement, "Sid": statement_id}]
    eventbridge._event_bus_policies[bus] = policy


def _delete_event_bus(original: Any) -> Any:
    """A bus takes its policy along; ministack leaves it to the next bus of that name."""

    def delete_event_bus(data: dict) -> Any:
        response = original(data)
        if response[0] < 400:
            eventbridge._event_bus_policies.pop(data.get("Name"), None)
        return response

    return delete_event_bus


def _create_bus_of_stack(original: Any) -> Any:
    """AWS::Events::EventBus with its Policy, which ministack leaves out."""

    def create(logical_id: str, props: dict, stack_name: str) -> Any:
        name, attributes = original(logical_id, props, stack_name)
        _set_policy(name, props)
        return name, attributes

    return create


def _update_bus_of_stack(original: Any) -> Any:
    def update(physical_id: str, old_props: dict, new_props: dict, stack_name: str) -> Any:
        name, attributes = original(physical_id, old_props, new_props, stack_name)
        if old_props.get("Policy") != new_props.get("Policy"):
            eventbridge._event_bus_policies.pop(name, None)
            _set_policy(name, new_props)
        return name, attributes

    return update


def _set_policy(bus: str, props: dict) -> None:
    if policy := props.get("Policy"):
        eventbridge._event_bus_policies[bus] = json.loads(policy) if isinstance(policy, str) else policy


def _create_rule_of_stack(original: Any) -> Any:
    """AWS::Events::Rule goes through PutRule and PutTargets on AWS, which refuse what ministack stores unseen."""

    def create(logical_id: str, props: dict, stack_name: str) -> Any:
        eventbridge._ensure_default_bus()
        bus = provisioners._eb_rule_bus_name(props)
        if bus not in eventbridge._event_buses:
            raise ValueError(f"AWS::Events::Rule: event bus {bus} does not exist")
        for target in props.get("Targets", []):
            if error := eventbridge._validate_target_arn(target):
                raise ValueError(f"AWS::Events::Rule target {target.get('Id')}: {error[2]!r}")
        return original(logical_id, props, stack_name)

    return create


def _create_policy_of_stack(logical_id: str, props: dict, stack_name: str) -> Any:
    """AWS::Events::EventBusPolicy, with a Statement or in its older form."""
    bus, statement_id = props.get("EventBusName", "default"), props["StatementId"]
    eventbridge._ensure_default_bus()
    if bus not in eventbridge._event_buses:
        raise ValueError(f"AWS::Events::EventBusPolicy: event bus {bus} does not exist")
    if statement := props.get("Statement"):
        _put_statement(bus, statement_id, json.loads(statement) if isinstance(statement, str) else statement)
    else:
        _put_permission({**props, "EventBusName": bus})
    return f"{bus}|{statement_id}", {}


def _update_policy_of_stack(physical_id: str, old_props: dict, new_props: dict, stack_name: str) -> Any:
    created, attributes = _create_policy_of_stack("", new_props, stack_name)
    if created != physical_id:
        _delete_policy_of_stack(physical_id, old_props)
    return created, attributes


def _delete_policy_of_stack(physical_id: str, props: dict) -> None:
    bus, _, statement_id = physical_id.partition("|")
    eventbridge._remove_permission({"EventBusName": bus, "StatementId": statement_id})
