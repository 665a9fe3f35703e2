"""The dashboard: what it shows exists, and what there is to see is on it."""

import json
import re
import sys

import pytest

from deployed import EXISTING_TOPICS, OPTED_IN, REGION, ROOT, Stack

sys.path.insert(0, str(ROOT / "bench"))

import cost  # noqa: E402

WITH = {"CreateDashboard": "true"}
HUB = {"OrganizationId": "o-a1b2c3d4e5"}
SETTINGS = pytest.mark.parametrize(
    "parameters",
    [{}, OPTED_IN, EXISTING_TOPICS, HUB, OPTED_IN | HUB, {"CloudTrailLogGroupName": "trail"}],
    ids=["default", "opted in", "existing topics", "hub", "hub, opted in", "auditors"],
)

# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
OF_AWS = {
    "AWS/Lambda": {"FunctionName": ({"Invocations", "Errors", "Throttles", "Duration"}, "AWS::Lambda::Function")},
    "AWS/SQS": {"QueueName": ({"ApproximateNumberOfMessagesVisible"}, "AWS::SQS::Queue")},
}
# A Rust test holds these to the code.
OWN = {"KmsKeyGuard": {"Function": (set(cost.METRIC_HOURS), "AWS::Lambda::Function")}}

# Words of the query language, and fields that CloudWatch Logs itself adds.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html
LANGUAGE = set("filter stats sort by as desc ispresent count sum max pct bin 1h".split())


def body(parameters):
    return json.loads(Stack(WITH | parameters).properties("Dashboard")["DashboardBody"])


def widgets(parameters, kind):
    return [widget["properties"] for widget in body(parameters)["widgets"] if widget["type"] == kind]


def metrics(parameters):
    """Namespace, metric, dimension and resource of each line, with what `...` repeats; searches apart."""
    for widget in widgets(parameters, "metric"):
        before = []
        for line in widget["metrics"]:
            if isinstance(line[0], dict):
                continue
            named = [part for part in line if isinstance(part, str)]
            before = before[: 1 - len(named)] + named[1:] if named[0] == "..." else named
            assert len(before) == 4, line
            yield tuple(before)


def searches(parameters):
    lines = [line[0] for widget in widgets(parameters, "metric") for line in widget["metrics"]]
    return [line["expression"] for line in lines if isinstance(line, dict)]


def searched(parameters, metric):
    """Names of the rules whose metric a search on the default bus finds."""
    (search,) = (text for text in searches(parameters) if "EventBusName" not in text and f'MetricName="{metric}"' in text)
    rules = re.fullmatch(rf"SEARCH\('{{AWS/Events,RuleName}} MetricName=\"{metric}\" RuleName=\((.+)\)', 'Sum', 3600\)", search)[1]
    return [re.fullmatch('"(.+)"', rule)[1] for rule in rules.split(" OR ")]


def resource(name):
    """The logical id in what `Stack` writes for a reference."""
    return re.fullmatch(r"<(\w+)(?:\.\w+)?>", name)[1]


def test_there_is_none_unless_asked_for():
    assert Stack().of_type("AWS::CloudWatch::Dashboard") == {}
    assert "DashboardUrl" not in Stack().outputs
    assert list(Stack(WITH).of_type("AWS::CloudWatch::Dashboard")) == ["Dashboard"]


def test_region_is_in_the_name_because_dashboards_of_all_regions_share_theirs():
    assert Stack(WITH).properties("Dashboard")["DashboardName"] == f"kms-key-guard-{REGION}"


@SETTINGS
def test_every_metric_is_written_by_somebody_about_a_resource_of_the_stack(parameters):
    stack, known = Stack(WITH | parameters), OF_AWS | OWN
    shown = list(metrics(parameters))
    assert shown
    for namespace, metric, dimension, name in shown:
        names, kind = known[namespace][dimension]
        assert metric in names, (namespace, metric)
        assert stack.resources[resource(name)]["Type"] == kind, (metric, name)


@SETTINGS
def test_every_metric_of_the_guards_own_is_shown(parameters):
    (namespace,) = OWN
    assert {metric for of, metric, _, _ in metrics(parameters) if of == namespace} == set(cost.METRIC_HOURS)


@SETTINGS
def test_signals_of_every_rule_are_shown(parameters):
    def on_the_default_bus(parameters):
        rules = Stack(parameters).of_type("AWS::Events::Rule")
        # What only starts a self-check is no signal.
        return {r["Name"] for name, r in rules.items() if "EventBusName" not in r and name != "StackStatusRule"}

    default_bus = on_the_default_bus(WITH | parameters)
    all_there_are = on_the_default_bus(OPTED_IN | HUB)
    for metric in ("MatchedEvents", "Invocations", "FailedInvocations"):
        found = searched(parameters, metric)
        # What isn't there isn't found.
        assert default_bus <= set(found) == all_there_are
        assert len(found) == len(all_there_are)


@pytest.mark.parametrize("name", ["kms-key-guard", 40 * "x"])
def test_searches_are_within_cloudwatchs_limit(name):
    """1,024 characters, https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/search-expression-syntax.html"""
    dashboard = json.loads(Stack(WITH | HUB, name=name).properties("Dashboard")["DashboardBody"])
    lines = [line[0] for widget in dashboard["widgets"] for line in widget["properties"].get("metrics", [])]
    found = [line["expression"] for line in lines if isinstance(line, dict)]
    assert len(found) == 6
    assert max(map(len, found)) <= 1024


@SETTINGS
def test_hubs_rules_are_searched_by_their_bus(parameters):
    wanted = [
        f"SEARCH('{{AWS/Events,EventBusName,RuleName}} EventBusName=\"kms-key-guard\" MetricName=\"{metric}\"', 'Sum', 3600)"
        for metric in ("MatchedEvents", "Invocations", "FailedInvocations")
    ]
    # Without a hub there is no such bus, and nothing is found.
    assert [search for search in searches(parameters) if "EventBusName" in search] == wanted
    assert {bus["Name"] for bus in Stack(WITH | parameters).of_type("AWS::Events::EventBus").values()} <= {"kms-key-guard"}


@SETTINGS
def test_every_failure_queue_and_alarm_is_shown(parameters):
    stack = Stack(WITH | parameters)
    queues = {resource(name) for namespace, _, _, name in metrics(parameters) if namespace == "AWS/SQS"}
    assert queues == set(stack.of_type("AWS::SQS::Queue")) - {"SelfCheckQueue", "ProofQueue"}
    (alarms,) = widgets(parameters, "alarm")
    assert sorted(alarms["alarms"]) == sorted(f"<{name}.Arn>" for name in stack.of_type("AWS::CloudWatch::Alarm"))


def test_queries_read_fields_that_the_handler_logs():
    # As the handler wrote them in a Rust test: one alert that was published, one that wasn't taken.
    lines = sorted((ROOT / "target/tmp/log").glob("*.json"))
    if not lines:
        pytest.fail("target/tmp/log is empty: cargo test --test it flow")
    fields = [set(json.loads(line.read_text())) for line in lines]
    assert len(fields) == 2
    queries = [widget["query"] for widget in widgets({}, "log")]
    assert queries
    for query in queries:
        log, *commands = query.split(" | ")
        assert log == "SOURCE '<AlertLogGroup>'"
        text = re.sub(r"'[^']*'", "", " | ".join(commands))
        named = set(re.findall(r"\bas (\w+)", text))
        words = {word for word in re.findall(r"\w+", text) if not word.isdigit()} - named - LANGUAGE
        assert words and words <= set.union(*fields), query
        # What is counted of failures too has to be in their line.
        if "unknown" not in words:
            assert words <= set.intersection(*fields), query
    assert re.findall(r"outcome = '(\w+)'", " ".join(queries)) == ["published"]


@SETTINGS
def test_widgets_are_on_the_grid_and_none_covers_another(parameters):
    taken = set()
    for widget in body(parameters)["widgets"]:
        at = {(x, y) for x in range(widget["x"], widget["x"] + widget["width"]) for y in range(widget["y"], widget["y"] + widget["height"])}
        assert max(x for x, _ in at) < 24 and not at & taken, widget["properties"]["title"]
        taken |= at
        assert widget["properties"]["title"]
        assert widget["properties"].get("region", REGION) == REGION


@pytest.mark.parametrize(
    ("partition", "region", "domain"),
    [
        ("aws", "eu-west-1", "aws.amazon.com"),
        ("aws-cn", "cn-north-1", "amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "amazonaws-us-gov.com"),
    ],
)
def test_output_leads_to_the_dashboard(partition, region, domain):
    url = Stack(WITH, partition=partition, region=region).outputs["DashboardUrl"]
    assert url == f"https://{region}.console.{domain}/cloudwatch/home?region={region}#dashboards/dashboard/<Dashboard>"
