"""CloudWatch Logs: filter patterns for JSON, metric filters that emit, and TestMetricFilter.

ministack takes a JSON pattern for one that matches everything, and its metric filters for a list.
AWS page: "Filter pattern syntax for metric filters", the part on JSON log events.
"""

import fnmatch
import json
import re
import time
from collections.abc import Callable
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import cloudwatch, cloudwatch_logs

from .pinned import replace, require

Matcher = Callable[[Any], bool]

TOKEN = re.compile(
    r"""\s*(?:(?P<sign>&&|\|\||!=|>=|<=|[(){}=<>])|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s(){}=<>!&|"]+))"""
)


class InvalidPattern(ValueError):
    """A filter pattern that CloudWatch Logs refuses."""


def mend() -> None:
    """Match JSON patterns, and let metric filters emit."""
    replace(cloudwatch_logs, "handle_request", "method path headers body query_params", _handle_request)
    replace(cloudwatch_logs, "_compile_filter_pattern", "raw", _compile)
    replace(cloudwatch_logs, "_put_metric_filter", "data", _put_metric_filter)
    replace(cloudwatch_logs, "_put_log_events", "data", _put_log_events)
    require(cloudwatch_logs, "_create_log_stream _log_groups _metric_filters")


def write(group: str, stream: str, message: str) -> bool:
    """Append a line to a log group of the current account and Region; False if there is no such group."""
    if group not in cloudwatch_logs._log_groups:
        return False
    of = {"logGroupName": group, "logStreamName": stream}
    cloudwatch_logs._create_log_stream(of)
    line = {"timestamp": int(time.time() * 1000), "message": message}
    cloudwatch_logs._put_log_events({**of, "logEvents": [line]})
    return True


def _handle_request(original: Any) -> Any:
    async def handle_request(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> Any:
        if headers.get("x-amz-target", "").endswith(".TestMetricFilter"):
            return _test_metric_filter(json.loads(body or b"{}"))
        return await original(method, path, headers, body, query_params)

    return handle_request


def _test_metric_filter(data: dict[str, Any]) -> Any:
    try:
        matches = cloudwatch_logs._compile_filter_pattern(data.get("filterPattern", ""))
    except InvalidPattern as error:
        return error_response_json("InvalidParameterException", f"Invalid metric filter pattern: {error}", 400)
    found = [
        {"eventNumber": number, "eventMessage": message, "extractedValues": {}}
        for number, message in enumerate(data.get("logEventMessages", []), 1)
        if matches(message)
    ]
    return json_response({"matches": found})


def _put_metric_filter(original: Any) -> Any:
    def put_metric_filter(data: dict[str, Any]) -> Any:
        try:
            cloudwatch_logs._compile_filter_pattern(data.get("filterPattern", ""))
        except InvalidPattern as error:
            return error_response_json("InvalidParameterException", f"Invalid metric filter pattern: {error}", 400)
        return original(data)

    return put_metric_filter


def _put_log_events(original: Any) -> Any:
    """Let the group's metric filters see the lines once they are stored."""

    def put_log_events(data: dict[str, Any]) -> Any:
        response = original(data)
        filters = [f for (group, _), f in cloudwatch_logs._metric_filters.items() if group == data["logGroupName"]]
        emitted = response[0] < 400 and [_emit(f, event) for f in filters for event in data.get("logEvents", [])]
        if emitted and any(emitted):
            cloudwatch._evaluate_all_alarms()
        return response

    return put_log_events


def _emit(metric_filter: dict[str, Any], event: dict[str, Any]) -> bool:
    """A metric with a fixed value, as every auditor's filter has it; values and dimensions from fields aren't read."""
    if not cloudwatch_logs._compile_filter_pattern(metric_filter["filterPattern"])(event["message"]):
        return False
    for to in metric_filter["metricTransformations"]:
        if not to["metricValue"].startswith("$"):
            value, at = float(to["metricValue"]), event["timestamp"] / 1000
            unit = to.get("unit", "None")
            cloudwatch._store_datum(to["metricNamespace"], to["metricName"], {}, at, unit, value, None, None, None)
    return True


def _compile(original: Callable[[str], Matcher]) -> Callable[[str], Matcher]:
    def compile_filter_pattern(raw: str) -> Matcher:
        if not raw.strip().startswith("{"):
            return original(raw)
        matches = json_pattern(raw)

        def line_matches(message: str) -> bool:
            try:
                return matches(json.loads(message))
            except ValueError:
                return False

        return line_matches

    return compile_filter_pattern


def json_pattern(text: str) -> Matcher:
    """A pattern such as { ($.a = x) && (($.b != "y*") || ($.c NOT EXISTS)) } as a function of a JSON document."""
    tokens = _tokens(text)
    _take(tokens, "{")
    matcher = _any_of(tokens)
    _take(tokens, "}")
    if tokens:
        raise InvalidPattern(f"{tokens[0][1]} after the end")
    return matcher


def _tokens(text: str) -> list[tuple[str, str]]:
    """Kind (sign, quoted, word) and text of each token."""
    found, at = [], 0
    while text[at:].strip():
        token = TOKEN.match(text, at)
        if token is None:
            raise InvalidPattern(f"can't read {text[at:].strip()[:20]}")
        kind = token.lastgroup or ""
        found.append((kind, token[kind]))
        at = token.end()
    return found


def _take(tokens: list[tuple[str, str]], wanted: str = "") -> tuple[str, str]:
    if not tokens or (wanted and tokens[0] != ("sign", wanted)):
        found = tokens[0][1] if tokens else "the end"
        raise InvalidPattern(f"{found} instead of {wanted or 'a term'}")
    return tokens.pop(0)


def _any_of(tokens: list[tuple[str, str]]) -> Matcher:
    terms = [_all_of(tokens)]
    while tokens and tokens[0] == ("sign", "||"):
        _take(tokens)
        terms.append(_all_of(tokens))
    return lambda document: any(term(document) for term in terms)


def _all_of(tokens: list[tuple[str, str]]) -> Matcher:
    terms = [_term(tokens)]
    while tokens and tokens[0] == ("sign", "&&"):
        _take(tokens)
        terms.append(_term(tokens))
    return lambda document: all(term(document) for term in terms)


def _term(tokens: list[tuple[str, str]]) -> Matcher:
    if tokens and tokens[0] == ("sign", "("):
        _take(tokens)
        matcher = _any_of(tokens)
        _take(tokens, ")")
        return matcher
    kind, selector = _take(tokens)
    if kind != "word" or not selector.startswith("$."):
        raise InvalidPattern(f"{selector} is no selector")
    path, (kind, sign) = selector[2:], _take(tokens)
    if kind == "word":
        return _by_word(tokens, path, sign)
    value_kind, value = _take(tokens)
    if value_kind == "sign":
        raise InvalidPattern(f"{value} instead of a value")
    if sign in ("=", "!="):
        return lambda document: _equals(_select(document, path), value_kind, value) == (sign == "=") and (
            sign == "=" or _select(document, path) is not _ABSENT
        )
    compare = {">": float.__gt__, ">=": float.__ge__, "<": float.__lt__, "<=": float.__le__}.get(sign)
    if compare is None or not _is_number(value):
        raise InvalidPattern(f"{sign} {value}")
    return lambda document: (
        isinstance(found := _select(document, path), int | float) and compare(float(found), float(value))
    )


def _by_word(tokens: list[tuple[str, str]], path: str, word: str) -> Matcher:
    second = _take(tokens)[1].upper()
    match word.upper(), second:
        case "NOT", "EXISTS":
            return lambda document: _select(document, path) is _ABSENT
        case "IS", "NULL":
            return lambda document: _select(document, path) is None
        case "IS", "TRUE":
            return lambda document: _select(document, path) is True
        case "IS", "FALSE":
            return lambda document: _select(document, path) is False
    raise InvalidPattern(f"{word} {second}")


_ABSENT = object()


def _select(document: Any, path: str) -> Any:
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if index and isinstance(document, list) and int(index) < len(document):
            document = document[int(index)]
        elif name and isinstance(document, dict) and name in document:
            document = document[name]
        else:
            return _ABSENT
    return document


def _equals(found: Any, kind: str, value: str) -> bool:
    if isinstance(found, bool):
        return value == str(found).lower()
    if isinstance(found, int | float):
        return kind == "word" and _is_number(value) and float(value) == found
    if not isinstance(found, str):
        return False
    text = value.replace('\\"', '"')
    return fnmatch.fnmatchcase(found, re.sub(r"([\[?])", r"[\1]", text)) if "*" in text else found == text


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
