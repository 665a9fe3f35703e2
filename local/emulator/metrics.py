"""CloudWatch: metrics in the log lines of functions, queues' metrics, and alarms that know dimensions and missing data.

ministack keeps such lines as text, gives queues no metrics, lets an alarm see every dimension of its metric, and tells
clients that speak the older of CloudWatch's protocols nothing of an alarm's actions, which for it are topics only.
AWS pages: "Embedded metric format specification", "Configuring how CloudWatch alarms treat missing data",
"Available CloudWatch metrics for Amazon SQS".
"""

import json
import logging
import operator
import re
from collections.abc import Callable
from datetime import UTC, datetime
from time import time as now
from typing import Any
from xml.sax.saxutils import escape, unescape

from ministack.core.responses import request_scope
from ministack.services import cloudwatch, lambda_svc, sqs

from .events import service_may
from .pinned import replace, require

log = logging.getLogger("local.emulator.metrics")

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def _with_functions(original: Callable[..., None]) -> Callable[..., None]:
    """AWS: an alarm's action may be a function whose policy lets CloudWatch invoke it. ministack knows topics only."""

    def dispatch(alarm: dict, old_state: str, new_state: str, reason: str) -> None:
        original(alarm, old_state, new_state, reason)
        actions = alarm.get("AlarmActions") or [] if new_state == "ALARM" and alarm.get("ActionsEnabled", True) else []
        source = alarm["AlarmArn"]
        for arn in (action for action in actions if ":lambda:" in action):
            func, config, name = lambda_svc._get_func_record_for_ref(arn)
            service = "lambda.alarms.cloudwatch.amazonaws.com"
            if func and service_may(service, "lambda:InvokeFunction", arn, func.get("policy"), source):
                at = datetime.fromtimestamp(now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
                state = {"value": new_state, "reason": reason, "timestamp": at}
                data = {"alarmName": alarm["AlarmName"], "state": state, "previousState": {"value": old_state}}
                region, account = source.split(":")[3:5]
                event = {"source": "aws.cloudwatch", "alarmArn": source, "accountId": account, "time": at, "region": region}
                record = lambda_svc._execution_record_for_config(func, config)
                lambda_svc.invoke_async_with_retry(record, event | {"alarmData": data})
                log.info("alarm -> function %s", name)
            else:
                log.warning("the alarm %s may not invoke %s", alarm["AlarmName"], arn)

    return dispatch


class _Dimensions(dict):
    """Dimensions that a query names; none are an answer too: the metric that has none."""

    def __bool__(self) -> bool:
        return True


def mend() -> None:
    """Take metrics from log lines and queues, and evaluate alarms as CloudWatch does."""
    parameters = "func request_id log_text error duration_ms log_source"
    replace(lambda_svc, "_emit_lambda_logs", parameters, _emit_lambda_logs)
    replace(cloudwatch, "_dims_from_list", "dimensions", lambda original: lambda given: _Dimensions(original(given)))
    replace(cloudwatch, "_evaluate_alarm", "alarm", lambda _: _evaluate_with_data)
    for name in ("_get_metric_data", "_get_metric_statistics", "_list_metrics"):
        replace(cloudwatch, name, "params cbor_data is_cbor is_json", _with_queues)
    replace(cloudwatch, "_describe_alarms", "params cbor_data is_cbor is_json", _with_actions)
    require(cloudwatch, "_alarms _calc_stats _dims_key _dispatch_alarm_actions _evaluate_all_alarms")
    require(cloudwatch, "_evaluate_parent_alarms _metric_bucket _metrics _record_history _stat_value _store_datum")
    replace(cloudwatch, "_dispatch_alarm_actions", "alarm old_state new_state reason", _with_functions)
    require(sqs, "_queues")


def _emit_lambda_logs(original: Callable[..., None]) -> Callable[..., None]:
    def emit_lambda_logs(
        func: dict, request_id: str, log_text: str, error: bool, duration_ms: int, *, log_source: str | None = None
    ) -> None:
        original(func, request_id, log_text, error, duration_ms, log_source=log_source)
        found = [store_embedded(line) for line in (log_text or "").splitlines()]
        if any(found):
            cloudwatch._evaluate_all_alarms()

    return emit_lambda_logs


def store_embedded(line: str) -> bool:
    """Store the metrics of a log line in embedded metric format; whether it is one."""
    try:
        document = json.loads(line)
        head = document["_aws"]
        directives, at = head["CloudWatchMetrics"], head["Timestamp"] / 1000
    except (ValueError, KeyError, TypeError):
        return False
    try:
        for directive in directives:
            for names in directive.get("Dimensions", [[]]):
                dimensions = {name: str(document[name]) for name in names}
                for metric in directive["Metrics"]:
                    value = document[metric["Name"]]
                    values = [float(v) for v in value] if isinstance(value, list) else [float(value)]
                    unit = metric.get("Unit", "None")
                    cloudwatch._store_datum(
                        directive["Namespace"], metric["Name"], dimensions, at, unit, None, values, None, None
                    )
    except (KeyError, TypeError, ValueError) as error:
        # CloudWatch keeps such a line as a log line, and counts it as an error of parsing.
        log.warning("not embedded metric format (%r): %s", error, line[:500])
    return True


def _with_queues(original: Callable[..., Any]) -> Callable[..., Any]:
    def asked(*arguments: Any, **more: Any) -> Any:
        measure_queues()
        return original(*arguments, **more)

    return asked


def _with_actions(original: Callable[..., Any]) -> Callable[..., Any]:
    def describe_alarms(params: Any, cbor_data: Any, is_cbor: bool, is_json: bool = False) -> Any:
        status, headers, body = original(params, cbor_data, is_cbor, is_json)
        if not (is_cbor or is_json):
            body = re.sub(rb"<member><AlarmName>([^<]*)</AlarmName>", _actions, body)
        return status, headers, body

    return describe_alarms


def _actions(member: re.Match[bytes]) -> bytes:
    """The beginning of an alarm in XML, with what it does when it changes its state."""
    alarm = cloudwatch._alarms.get(unescape(member[1].decode()), {})
    lists = {name: alarm.get(name, []) for name in ("OKActions", "AlarmActions", "InsufficientDataActions")}
    xml = f"<ActionsEnabled>{str(alarm.get('ActionsEnabled', True)).lower()}</ActionsEnabled>"
    for name, arns in lists.items():
        xml += f"<{name}>" + "".join(f"<member>{escape(arn)}</member>" for arn in arns) + f"</{name}>"
    return member[0] + xml.encode()


def measure_queues() -> None:
    """Note how full the account's queues are now; on AWS that happens every minute."""
    at = now()
    for url, queue in list(sqs._queues.items()):
        messages = queue["messages"]
        visible = sum(message["visible_at"] <= at for message in messages)
        oldest = min((message["sent_at"] for message in messages), default=at)
        values = {
            "ApproximateNumberOfMessagesVisible": visible,
            "ApproximateNumberOfMessagesNotVisible": len(messages) - visible,
            "ApproximateAgeOfOldestMessage": int(at - oldest),
        }
        dimensions = {"QueueName": url.rsplit("/", 1)[-1]}
        for name, value in values.items():
            points = cloudwatch._metric_bucket(("AWS/SQS", name, cloudwatch._dims_key(dimensions)))
            points[:] = [point for point in points if point["Timestamp"] // 60 != at // 60]
            points.append({"Timestamp": at, "Value": float(value), "Unit": "Count", "Dimensions": dimensions})


def evaluate_alarms(account: str, region: str, time: float | None = None) -> dict[str, str]:
    """Evaluate every alarm on one metric now, or as it will be at a time if nothing more comes in: name -> state."""
    with request_scope(account, region):
        measure_queues()
        for alarm in cloudwatch._alarms.values():
            if _knows(alarm):
                _evaluate(alarm, time or now())
        return {name: alarm["StateValue"] for name, alarm in cloudwatch._alarms.items()}


def _evaluate_with_data(alarm: dict) -> None:
    """What new data of one's own means to the alarm.

    Missing data counts only when somebody asks, or every alarm would start as one; and so do the metrics of AWS's
    services, which come a minute later than a test looks for what an alarm must not disturb.
    """
    own = not alarm.get("Namespace", "").startswith("AWS/")
    if own and _knows(alarm) and any(value is not None for value in _breaches(alarm, now())):
        _evaluate(alarm, now())


def _knows(alarm: dict) -> bool:
    """Whether it is an alarm on one metric with a plain threshold."""
    return bool(alarm.get("MetricName")) and alarm.get("ComparisonOperator") in COMPARISONS


def _breaches(alarm: dict, at: float) -> list[bool | None]:
    """For each period up to then whether it breaches; None where there is no data."""
    dimensions = {entry["Name"]: entry["Value"] for entry in alarm.get("Dimensions") or []}
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(dimensions))
    points, period = cloudwatch._metrics.get(key) or [], alarm.get("Period", 60)
    breaches: list[bool | None] = []
    for back in range(alarm.get("EvaluationPeriods", 1)):
        end = at - back * period
        within = [point for point in points if end - period < point["Timestamp"] <= end]
        statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
        value = cloudwatch._stat_value(cloudwatch._calc_stats(within), statistic, within) if within else None
        compare = COMPARISONS[alarm["ComparisonOperator"]]
        breaches.append(None if value is None else compare(value, alarm["Threshold"]))
    return breaches


def _evaluate(alarm: dict, at: float) -> None:
    found, missing = _breaches(alarm, at), alarm.get("TreatMissingData") or "missing"
    filled = [missing == "breaching" if value is None and "reaching" in missing else value for value in found]
    known, old = [value for value in filled if value is not None], alarm["StateValue"]
    if sum(known) >= (alarm.get("DatapointsToAlarm") or alarm.get("EvaluationPeriods", 1)):
        new = "ALARM"
    elif known:
        new = "OK"
    else:
        new = old if missing == "ignore" else "INSUFFICIENT_DATA"
    if new == old:
        return
    counts = f"{found.count(True)} breaching, {found.count(False)} not, {found.count(None)} missing"
    reason = f"{new}: of {len(found)} periods {counts}, which are {missing}"
    alarm.update(StateValue=new, StateReason=reason, StateUpdatedTimestamp=int(now()))
    cloudwatch._record_history(alarm["AlarmName"], old, new, reason)
    cloudwatch._dispatch_alarm_actions(alarm, old, new, reason)
    cloudwatch._evaluate_parent_alarms(alarm)
