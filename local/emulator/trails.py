"""CloudTrail: trails of an organization, as its members see them, trails in CloudFormation, and their log groups.

ministack has trails of one account only. AWS pages: "Creating a trail for an organization", "DescribeTrails",
"GetTrailStatus", "Sending events to CloudWatch Logs".
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import cloudtrail
from ministack.services.cloudformation import provisioners

from . import logs, organizations
from .pinned import replace, replace_entry, require

Response = tuple[int, dict[str, str], bytes]
Action = Callable[[dict[str, Any]], Response]

LOG_GROUP = ("CloudWatchLogsLogGroupArn", "CloudWatchLogsRoleArn")


def mend() -> None:
    """Let organization trails reach the members, and trails come from CloudFormation."""
    replace(cloudtrail, "_visible_trail_items", "include_shadow_trails", _visible_trail_items)
    replace(cloudtrail, "_find_visible_trail", "raw", _find_visible_trail)
    replace(cloudtrail, "_create_trail", "body", _create_trail)
    replace(cloudtrail, "_get_trail_status", "body", _get_trail_status)
    require(cloudtrail, "_DEFAULT_EVENT_SELECTORS _DISPATCH _account_trail_items _err _event_selectors _trail_arn")
    require(cloudtrail, "_delete_trail _put_event_selectors _start_logging _stop_logging _trails _update_trail")
    require(provisioners, "_RESOURCE_HANDLERS _physical_name")
    table = "_DISPATCH of CloudTrail"
    replace_entry(cloudtrail._DISPATCH, "CreateTrail", table, lambda _: cloudtrail._create_trail)
    replace_entry(cloudtrail._DISPATCH, "GetTrailStatus", table, lambda _: cloudtrail._get_trail_status)
    replace_entry(cloudtrail._DISPATCH, "GetEventSelectors", table, _get_event_selectors)
    provisioners._RESOURCE_HANDLERS["AWS::CloudTrail::Trail"] = {
        "create": _create_of_stack,
        "update": _update_of_stack,
        "delete": _delete_of_stack,
    }


def owner(trail: dict[str, Any]) -> str:
    """The account that a trail was created in."""
    return trail["TrailARN"].split(":")[4]


def selectors(home: str, name: str, trail: dict[str, Any]) -> list[dict[str, Any]]:
    """The event selectors of a trail, or those that every trail starts with."""
    defaults = cloudtrail._DEFAULT_EVENT_SELECTORS
    return cloudtrail._event_selectors.get_scoped(owner(trail), home, name, defaults)


def write_to_log_group(home: str, trail: dict[str, Any], record: dict[str, Any]) -> None:
    """Write a record to the trail's log group, if it has one; its role isn't asked."""
    arn = trail.get("CloudWatchLogsLogGroupArn")
    if not arn:
        return
    group = arn.split(":log-group:", 1)[1].removesuffix(":*")
    with request_scope(owner(trail), home):
        logs.write(group, f"{record['recipientAccountId']}_CloudTrail_{record['awsRegion']}", json.dumps(record))


def _visible_trail_items(original: Callable[..., list]) -> Callable[..., list]:
    """The account's own trails, and those of its organization, which are shadows in every account but the owner's."""

    def visible_trail_items(*, include_shadow_trails: bool = True) -> list:
        own = original(include_shadow_trails=include_shadow_trails)
        return [*own, *_of_organization()] if include_shadow_trails else own

    return visible_trail_items


def _of_organization() -> list[tuple[str, str, dict[str, Any]]]:
    account, region = get_account_id(), get_region()
    management = organizations.management_of(account)
    if management in (None, account):
        return []
    return [
        (home, name, trail)
        for home, name, trail in cloudtrail._account_trail_items(management)
        if trail.get("IsOrganizationTrail") and (home == region or trail.get("IsMultiRegionTrail"))
    ]


def _find_visible_trail(original: Callable[[str], Any]) -> Callable[[str], Any]:
    """A member may read its organization's trails by their ARN."""

    def find_visible_trail(raw: str) -> Any:
        for home, name, trail in _of_organization():
            if trail["TrailARN"] == raw:
                return name, home, trail
        return original(raw)

    return find_visible_trail


def _get_event_selectors(original: Action) -> Action:
    """The selectors lie with the owner of the trail."""

    def get_event_selectors(body: dict[str, Any]) -> Response:
        name = body.get("TrailName", "")
        theirs = [owner(trail) for _, _, trail in _of_organization() if trail["TrailARN"] == name]
        with request_scope(theirs[0] if theirs else get_account_id(), get_region()):
            return original(body)

    return get_event_selectors


def _get_trail_status(original: Action) -> Action:
    """By its name, a trail's status is known in its home Region only."""

    def get_trail_status(body: dict[str, Any]) -> Response:
        name = body.get("Name", "")
        if name and not name.startswith("arn:") and name not in cloudtrail._trails:
            return cloudtrail._err("TrailNotFoundException", f"Unknown trail: {name!r}", 404)
        return original(body)

    return get_trail_status


def _create_trail(original: Action) -> Action:
    """Only the management account creates a trail for its organization; a log group is kept from the start."""

    def create_trail(body: dict[str, Any]) -> Response:
        if body.get("IsOrganizationTrail") and organizations.management_of(get_account_id()) != get_account_id():
            message = "Only the management account of an organization can create an organization trail."
            return cloudtrail._err("NotOrganizationMasterAccountException", message)
        response = original(body)
        if response[0] < 400:
            cloudtrail._trails[body["Name"]].update({name: body[name] for name in LOG_GROUP if body.get(name)})
        return response

    return create_trail


def _create_of_stack(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
    name = props.get("TrailName") or provisioners._physical_name(stack_name, logical_id, max_len=128)
    _done(cloudtrail._create_trail(_request(name, props)))
    _set_state(name, props)
    return name, {"Arn": cloudtrail._trail_arn(name)}


def _update_of_stack(physical_id: str, old_props: dict[str, Any], new_props: dict[str, Any], stack_name: str) -> Any:
    _done(cloudtrail._update_trail(_request(physical_id, new_props)))
    _set_state(physical_id, new_props)
    return physical_id, {"Arn": cloudtrail._trail_arn(physical_id)}


def _delete_of_stack(physical_id: str, props: dict[str, Any]) -> None:
    if physical_id in cloudtrail._trails:
        _done(cloudtrail._delete_trail({"Name": physical_id}))


def _request(name: str, props: dict[str, Any]) -> dict[str, Any]:
    flags = ("IsMultiRegionTrail", "IsOrganizationTrail", "IncludeGlobalServiceEvents", "EnableLogFileValidation")
    booleans = {key: str(props[key]).lower() == "true" for key in flags if key in props}
    return {**props, **booleans, "KmsKeyId": props.get("KMSKeyId", ""), "Name": name}


def _set_state(name: str, props: dict[str, Any]) -> None:
    logging = str(props.get("IsLogging", True)).lower() == "true"
    _done((cloudtrail._start_logging if logging else cloudtrail._stop_logging)({"Name": name}))
    chosen = {key: props[key] for key in ("EventSelectors", "AdvancedEventSelectors") if props.get(key)}
    _done(cloudtrail._put_event_selectors({"TrailName": name, **(chosen or {"EventSelectors": [{}]})}))


def _done(response: Response) -> None:
    if response[0] >= 400:
        raise ValueError(f"AWS::CloudTrail::Trail: {response[2].decode()}")
