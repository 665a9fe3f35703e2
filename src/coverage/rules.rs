//! Do the guard's rules let its signals through, and can the alert function take them?

use aws_sdk_eventbridge::operation::describe_rule::DescribeRuleOutput;
use aws_sdk_eventbridge::types::Target;
use aws_types::SdkConfig;
use futures_util::future::join_all;
use serde_json::Value;

use super::{About, Check, Observation, Stack, is_missing, plain, why};
use crate::escape::{inert, name};
use crate::policy::{AccessRequest, Answer};

pub(super) static ENABLED: About =
    About { id: "rules-enabled", what: "The guard's rules exist and are enabled.", kind: "AWS::Events::Rule" };
pub(super) static MATCH: About = About {
    id: "rules-match",
    what: "The rules' patterns match the events that they are for.",
    kind: "AWS::Events::Rule",
};
pub(super) static TARGETS: About = About {
    id: "rules-target",
    what: "The rules hand what they match to the alert function, as it is.",
    kind: "AWS::Events::Rule",
};
pub(super) static INVOKES: About = About {
    id: "function-invocable",
    what: "The alert function lets EventBridge invoke it for each rule.",
    kind: "AWS::Lambda::Permission",
};
pub(super) static FUNCTION: About = About {
    id: "function-ready",
    what: "The guard's functions exist and may run, and the alert function publishes to the guard's topics.",
    kind: "AWS::Lambda::Function",
};
pub(super) static KEEPS: About = About {
    id: "failures-kept",
    what: "What the functions fail on is kept in their failure queues.",
    kind: "AWS::Lambda::EventInvokeConfig",
};

/// The calls that put a key at risk or take it out of risk, as the first rule names them.
pub(super) const CALLS: [&str; 13] = [
    "ScheduleKeyDeletion",
    "DisableKey",
    "DeleteImportedKeyMaterial",
    "DisconnectCustomKeyStore",
    "UpdateCustomKeyStore",
    "DeleteCustomKeyStore",
    "PutKeyPolicy",
    "CreateKey",
    "ReplicateKey",
    "ImportKeyMaterial",
    "CancelKeyDeletion",
    "EnableKey",
    "ConnectCustomKeyStore",
];

/// A rule of the template; what the alert function's events become begins with the function's logical id.
struct ExpectedRule {
    logical: &'static str,
    /// The parameter that it is an opt-in of.
    opt_in: Option<&'static str>,
    state: &'static str,
    /// Events that it has to match.
    samples: &'static [&'static str],
}

const ON: &str = "ENABLED";
const ON_FOR_READS: &str = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS";

macro_rules! samples {
    ($($name:literal),* $(,)?) => { &[$(include_str!(concat!("../../events/", $name, ".json"))),*] };
}

static EXPECTED: [ExpectedRule; 12] = [
    ExpectedRule {
        logical: "ApiCallRule",
        opt_in: None,
        state: ON,
        samples: samples![
            "deletion-scheduled",
            "key-disabled",
            "material-deleted",
            "store-disconnected",
            "store-changed",
            "store-deleted",
            "policy-account-dropped",
            "key-created-without-the-account",
            "key-created-with-check-bypassed",
            "key-replicated-without-the-account",
            "cluster-hsm-deleted",
            "material-expiring",
            "deletion-cancelled",
            "key-enabled",
            "store-connected",
            "error-fields-null",
        ],
    },
    ExpectedRule {
        logical: "AlertFunctionServiceEventRule",
        opt_in: None,
        state: ON,
        samples: samples!["key-deleted", "material-expired"],
    },
    ExpectedRule {
        logical: "AlertFunctionKmsEventRule",
        opt_in: None,
        state: ON,
        samples: samples!["key-deleted-native", "material-expired-native"],
    },
    ExpectedRule {
        logical: "DeniedAttemptRule",
        opt_in: Some("ReportDeniedAttempts"),
        state: ON,
        samples: samples!["denied-deletion", "denied-disable"],
    },
    ExpectedRule {
        logical: "LostKeyUseRule",
        opt_in: Some("ReportLostKeyUse"),
        state: ON_FOR_READS,
        samples: samples!["lost-key-disabled", "lost-key-pending-deletion"],
    },
    always("AlertFunctionGuardTestRule", samples!["guard-test"]),
    always(
        "TamperedRulesRule",
        samples!["guard-rule-disabled", "guard-watching-rule-disabled", "guard-rule-targets-removed"],
    ),
    always("TamperedFunctionsRule", samples!["guard-function-throttled", "guard-schedule-deleted"]),
    always("TamperedTopicsRule", samples!["guard-topic-deleted", "guard-subscription-removed"]),
    always("TamperedAlarmsRule", samples!["guard-alarm-silenced", "guard-log-deleted"]),
    always("TamperedStackRule", samples!["guard-stack-deleted", "guard-queue-deleted", "guard-role-emptied"]),
    always("TamperedTrailRule", samples!["guard-trail-stopped"]),
];

const fn always(logical: &'static str, samples: &'static [&'static str]) -> ExpectedRule {
    ExpectedRule { logical, opt_in: None, state: ON, samples }
}

/// Looks at the rules and the functions of the Region of `sdk`.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack) -> Vec<Check> {
    checks(&aws_sdk_eventbridge::Client::new(sdk), &aws_sdk_lambda::Client::new(sdk), guard).await
}

async fn checks(events: &aws_sdk_eventbridge::Client, lambda: &aws_sdk_lambda::Client, guard: &Stack) -> Vec<Check> {
    let ((enabled, matching, targets), invokes, (function, keeps)) =
        tokio::join!(rules(events, guard), invocable(lambda, guard), functions(lambda, guard));
    vec![
        Check::of(&ENABLED, enabled),
        Check::of(&MATCH, matching),
        Check::of(&TARGETS, targets),
        Check::of(&INVOKES, invokes),
        Check::of(&FUNCTION, function),
        Check::of(&KEEPS, keeps),
    ]
}

/// The rules of the stack, with what the template says of them.
fn of_guard(guard: &Stack) -> impl Iterator<Item = (&str, &str, Option<&'static ExpectedRule>)> {
    let expected = |logical: &str| EXPECTED.iter().find(|rule| rule.logical == logical);
    guard.all("AWS::Events::Rule").map(move |(logical, id)| (logical, id, expected(logical)))
}

/// A rule's physical id is its name, with its bus before it if that isn't the default one.
fn bus_and_name(id: &str) -> (Option<&str>, &str) {
    id.split_once('|').map_or((None, id), |(bus, name)| (Some(bus), name))
}

async fn rules(
    events: &aws_sdk_eventbridge::Client,
    guard: &Stack,
) -> (Vec<Observation>, Vec<Observation>, Vec<Observation>) {
    let rules: Vec<_> = of_guard(guard).collect();
    let read = join_all(rules.iter().map(|(logical, id, expected)| rule(events, guard, logical, id, *expected))).await;
    let (mut enabled, mut matching, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (a, b, c) in read {
        enabled.extend(a);
        matching.extend(b);
        targets.extend(c);
    }
    for expected in &EXPECTED {
        let wanted = expected.opt_in.is_none_or(|parameter| guard.is_on(parameter));
        if wanted && guard.id(expected.logical).is_none() {
            let lacks = Observation::fail(format!("The stack {} has no rule {}.", guard.stack, expected.logical));
            enabled.push(lacks.advise("Deploy the template of this version again (make deploy)."));
        }
    }
    let none = || vec![Observation::unknown("What the rules do", "there are none that can be read")];
    (enabled, if matching.is_empty() { none() } else { matching }, if targets.is_empty() { none() } else { targets })
}

type Looks = (Vec<Observation>, Vec<Observation>, Vec<Observation>);

async fn rule(
    events: &aws_sdk_eventbridge::Client,
    guard: &Stack,
    logical: &str,
    id: &str,
    expected: Option<&ExpectedRule>,
) -> Looks {
    let (bus, rule_name) = bus_and_name(id);
    let describe = events.describe_rule().name(rule_name).set_event_bus_name(bus.map(str::to_owned)).send();
    let list = events.list_targets_by_rule().rule(rule_name).set_event_bus_name(bus.map(str::to_owned)).send();
    let (described, targets) = tokio::join!(describe, list);
    let described = match described {
        Ok(described) => described,
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
            let gone = Observation::fail(format!("The rule {logical} is gone, so what it matched is no longer seen."));
            let again = "Deploy again; a change of a parameter makes CloudFormation create it anew, else delete the stack and deploy it.";
            return (vec![gone.advise(again)], Vec::new(), Vec::new());
        }
        Err(error) => {
            let reason = why("events:DescribeRule", &error);
            let unknown = |what: &str| vec![Observation::unknown(&format!("{what} the rule {logical}"), &reason)];
            return (unknown("The state of"), unknown("The pattern of"), Vec::new());
        }
    };
    let address = address(guard, bus, rule_name);
    let state = state(&described, logical, expected, &address);
    let matching = match expected {
        Some(expected) => vec![matches(events, guard, &described, expected).await],
        None => Vec::new(),
    };
    let targets = match targets {
        Ok(answer) => target(answer.targets(), guard, logical, expected.is_some(), &address),
        Err(error) => {
            Observation::unknown(&format!("The target of the rule {logical}"), &why("events:ListTargetsByRule", &error))
        }
    };
    (vec![state], matching, vec![targets])
}

/// Region, bus and name for a command.
fn address(guard: &Stack, bus: Option<&str>, rule: &str) -> (String, String) {
    let bus = bus.map_or(String::new(), |bus| format!(" --event-bus-name {}", plain(bus, "BUS")));
    (format!("--region {}{bus}", guard.region), plain(rule, "RULE").to_owned())
}

fn state(
    rule: &DescribeRuleOutput,
    logical: &str,
    expected: Option<&ExpectedRule>,
    address: &(String, String),
) -> Observation {
    let state = rule.state().map_or("unknown", |state| state.as_str());
    let (place, rule_name) = address;
    match expected.map_or(ON, |expected| expected.state) {
        wanted if wanted == state || (wanted == ON && state == ON_FOR_READS) => {
            Observation::pass(format!("{logical} is {state}."))
        }
        ON => Observation::fail(format!("The rule {logical} is {}, so what it matches is not seen.", inert(state, 64)))
            .mend("Enable it:", format!("aws events enable-rule {place} --name {rule_name}")),
        _ => Observation::fail(format!(
            "The rule {logical} is {}: it doesn't see read-only events, which it is for.",
            inert(state, 64)
        ))
        .advise(format!(
            "Put its state back to {ON_FOR_READS} (aws events put-rule {place} --name {rule_name} with its pattern), or deploy again."
        )),
    }
}

/// Asks EventBridge itself whether the rule's pattern, as it is now, matches the samples, put into this account and Region.
async fn matches(
    events: &aws_sdk_eventbridge::Client,
    guard: &Stack,
    rule: &DescribeRuleOutput,
    expected: &ExpectedRule,
) -> Observation {
    let logical = expected.logical;
    let Some(pattern) = rule.event_pattern() else {
        return Observation::fail(format!("The rule {logical} has no event pattern.")).advise("Deploy again.");
    };
    let asked = expected.samples.iter().map(|sample| {
        let event = here(sample, guard);
        async move {
            let test = events.test_event_pattern().event_pattern(pattern).event(event.to_string());
            (what(&event), test.send().await)
        }
    });
    let mut missed = Vec::new();
    for (what, answer) in join_all(asked).await {
        match answer {
            Ok(answer) if answer.result() => {}
            Ok(_) => missed.push(what),
            Err(error) => {
                let reason = why("events:TestEventPattern", &error);
                return Observation::unknown(&format!("What the rule {logical} matches"), &reason);
            }
        }
    }
    if missed.is_empty() {
        return Observation::pass(format!("{logical} matches {} events.", expected.samples.len()));
    }
    missed.dedup();
    Observation::fail(format!("The pattern of the rule {logical} doesn't match {}.", missed.join(", ")))
        .advise("Somebody changed it: put the template's pattern back (put-rule), or deploy a stack anew.")
}

/// What follows a part's logical id in the samples' names.
const SAMPLE_SUFFIX: &str = "-1A2B3C4D5E6F";

/// A sample as it would be in the guard's account and Region, about the guard's own parts.
fn here(sample: &str, guard: &Stack) -> Value {
    let mut text = sample.to_owned();
    let mut put = |from: &str, to: Option<&str>| {
        // Only what can stand in JSON as it is.
        if let Some(to) = to.filter(|to| plain(to, "") == *to || to.starts_with("http")) {
            text = text.replace(from, to);
        }
    };
    let place = ":eu-west-1:111122223333:kms-key-guard-";
    put(&format!("arn:aws:sns{place}AlertsTopic{SAMPLE_SUFFIX}"), guard.alerts_topic());
    put("https://sqs.eu-west-1.amazonaws.com/111122223333/", Some(""));
    put(":stack/kms-key-guard/", Some(&format!(":stack/{}/", guard.stack)));
    put("kms-key-guard-rule.", Some(&format!("{}-rule.", guard.stack)));
    put("/aws/lambda/kms-key-guard-alert", guard.id("AlertLogGroup"));
    for (logical, part) in &guard.resources {
        put(&format!("kms-key-guard-{logical}{SAMPLE_SUFFIX}"), Some(&part.id));
    }
    put("arn:aws:", Some(&format!("arn:{}:", guard.region.partition().name)));
    put("111122223333", Some(&guard.account));
    put("eu-west-1", Some(guard.region.as_str()));
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

fn what(event: &Value) -> String {
    let call = event.pointer("/detail/eventName").or(event.get("detail-type"));
    call.and_then(Value::as_str).unwrap_or("a sample").to_owned()
}

fn target(
    targets: &[Target],
    guard: &Stack,
    logical: &str,
    to_function: bool,
    address: &(String, String),
) -> Observation {
    let (place, rule_name) = address;
    let Some(function) = guard.id("AlertFunction").filter(|_| to_function) else {
        return if targets.is_empty() {
            Observation::fail(format!("The rule {logical} has no target, so what it matches goes nowhere."))
                .advise("Deploy again.")
        } else {
            Observation::pass(format!("{logical} has a target."))
        };
    };
    let arn = guard.arn("lambda", &format!("function:{function}"));
    let queue = guard.id("RuleDeadLetterQueue").map(|url| guard.arn("sqs", last(url)));
    let dead_letters = match &queue {
        Some(queue) => format!(",\"DeadLetterConfig\":{{\"Arn\":\"{queue}\"}}"),
        None => String::new(),
    };
    let put = format!(
        "aws events put-targets {place} --rule {rule_name} --targets '[{{\"Id\":\"alert-function\",\"Arn\":\"{arn}\"{dead_letters},\"RetryPolicy\":{{\"MaximumEventAgeInSeconds\":900,\"MaximumRetryAttempts\":185}}}}]'"
    );
    let put_back = |look: Observation| {
        if guard_names_are_plain(&arn, queue.as_deref()) {
            look.mend("Put the target back:", put.clone())
        } else {
            look
        }
    };
    let Some(target) = targets.iter().find(|target| target.arn() == arn) else {
        let instead = targets.first().map_or("it has none".to_owned(), |other| name(other.arn(), 256));
        return put_back(Observation::fail(format!(
            "The alert function is no target of the rule {logical}: {instead}."
        )));
    };
    if target.input().is_some() || target.input_path().is_some() || target.input_transformer().is_some() {
        return put_back(Observation::fail(format!(
            "The rule {logical} changes the events on their way to the alert function, which then can't read them."
        )));
    }
    if target.dead_letter_config().and_then(|config| config.arn()).is_none() {
        return put_back(Observation::warn(format!(
            "The rule {logical} keeps nothing of what it can't deliver: its target has no dead-letter queue."
        )));
    }
    Observation::pass(format!("{logical} hands on."))
}

fn guard_names_are_plain(arn: &str, queue: Option<&str>) -> bool {
    std::iter::once(arn).chain(queue).all(|text| plain(text, "") == text)
}

/// The last part of a URL or ARN.
fn last(id: &str) -> &str {
    id.rsplit(['/', ':']).next().unwrap_or(id)
}

async fn invocable(lambda: &aws_sdk_lambda::Client, guard: &Stack) -> Vec<Observation> {
    let Some(function) = guard.id("AlertFunction") else { return vec![no_function(guard)] };
    let policy = match lambda.get_policy().function_name(function).send().await {
        Ok(answer) => answer.policy().unwrap_or_default().to_owned(),
        // A function without any permission has no policy.
        Err(error) if is_missing(&error) => r#"{"Statement":[]}"#.to_owned(),
        Err(error) => {
            return vec![Observation::unknown("Who may invoke the alert function", &why("lambda:GetPolicy", &error))];
        }
    };
    let arn = guard.arn("lambda", &format!("function:{function}"));
    let rules = of_guard(guard).filter(|(_, _, expected)| expected.is_some());
    let looks = rules.map(|(logical, id, _)| {
        let (bus, rule_name) = bus_and_name(id);
        let path = bus.map_or(String::new(), |bus| format!("{}/", last(bus)));
        let rule = guard.arn("events", &format!("rule/{path}{rule_name}"));
        let keys = [("aws:sourcearn", rule.as_str()), ("aws:sourceaccount", guard.account.as_str())];
        let request = AccessRequest {
            principal: "events.amazonaws.com",
            action: "lambda:InvokeFunction",
            resource: &arn,
            keys: &keys,
        };
        match request.under(&policy) {
            Answer::Allowed => Observation::pass(format!("{logical} may invoke it.")),
            Answer::Unclear => Observation::unknown(
                &format!("Whether {logical} may invoke the alert function"),
                "its policy holds a condition that can't be judged",
            ),
            Answer::Forbidden | Answer::Silent => Observation::fail(format!(
                "The alert function doesn't let EventBridge invoke it for the rule {logical}."
            ))
            .mend(
                "Let it:",
                format!(
                    "aws lambda add-permission --region {} --function-name {} --statement-id {logical} --action lambda:InvokeFunction --principal events.amazonaws.com --source-arn {}",
                    guard.region,
                    plain(function, "FUNCTION"),
                    plain(&rule, "RULE-ARN"),
                ),
            ),
        }
    });
    looks.collect()
}

fn no_function(guard: &Stack) -> Observation {
    Observation::fail(format!("The stack {} has no alert function.", guard.stack))
        .advise("Deploy the template again (make deploy).")
}

async fn functions(lambda: &aws_sdk_lambda::Client, guard: &Stack) -> (Vec<Observation>, Vec<Observation>) {
    let all: Vec<_> = guard.all("AWS::Lambda::Function").collect();
    if guard.id("AlertFunction").is_none() {
        return (vec![no_function(guard)], vec![Observation::unknown("What is kept", "there is no alert function")]);
    }
    let looks = join_all(all.iter().map(|(logical, id)| async move {
        tokio::join!(ready(lambda, guard, logical, id), keeps(lambda, guard, logical, id))
    }));
    looks.await.into_iter().unzip()
}

async fn ready(lambda: &aws_sdk_lambda::Client, guard: &Stack, logical: &str, id: &str) -> Observation {
    let (region, shown) = (&guard.region, plain(id, "FUNCTION"));
    let (configuration, concurrency) = tokio::join!(
        lambda.get_function_configuration().function_name(id).send(),
        lambda.get_function_concurrency().function_name(id).send()
    );
    let configuration = match configuration {
        Ok(configuration) => configuration,
        Err(error) if is_missing(&error) => {
            return Observation::fail(format!("The function {logical} ({}) is gone.", name(id, 140)))
                .advise("Delete the stack and deploy it anew; CloudFormation doesn't notice that it is gone.");
        }
        Err(error) => {
            let reason = why("lambda:GetFunctionConfiguration", &error);
            return Observation::unknown(&format!("The function {logical}"), &reason);
        }
    };
    match configuration.state().map(|state| state.as_str()) {
        None | Some("Active" | "Inactive" | "Pending") => {}
        Some(state) => {
            let reason = configuration.state_reason().unwrap_or("no reason told");
            let say = format!("The function {logical} is {}: {}.", inert(state, 64), inert(reason, 200));
            return Observation::fail(say).advise("Deploy again.");
        }
    }
    match concurrency {
        Ok(answer) if answer.reserved_concurrent_executions() == Some(0) => {
            return Observation::fail(format!(
                "The function {logical} is throttled to nothing: its reserved concurrency is 0."
            ))
            .mend(
                "Take the limit away:",
                format!("aws lambda delete-function-concurrency --region {region} --function-name {shown}"),
            );
        }
        Ok(_) => {}
        Err(error) => {
            let reason = why("lambda:GetFunctionConcurrency", &error);
            return Observation::unknown(&format!("Whether {logical} is throttled"), &reason);
        }
    }
    let variables = configuration.environment().and_then(|environment| environment.variables());
    for (variable, topic) in
        [("ALERTS_TOPIC_ARN", guard.alerts_topic()), ("FINDINGS_TOPIC_ARN", guard.findings_topic())]
    {
        let set = variables.and_then(|variables| variables.get(variable));
        if let (Some(set), Some(topic)) = (set, topic)
            && set != topic
        {
            return Observation::fail(format!(
                "The function {logical} publishes to {} ({variable}) and not to the stack's {}.",
                name(set, 256),
                name(topic, 256)
            ))
            .advise("Put the variable back (aws lambda update-function-configuration), or deploy again.");
        }
    }
    Observation::pass(format!("{logical} is ready."))
}

/// Scheduled or by event, the functions are invoked asynchronously: what they fail on three times is lost unless it has
/// somewhere to go.
async fn keeps(lambda: &aws_sdk_lambda::Client, guard: &Stack, logical: &str, id: &str) -> Observation {
    // What EventBridge and Scheduler invoke is the function without a version.
    let answer = lambda.get_function_event_invoke_config().function_name(id).qualifier("$LATEST").send().await;
    let destination = match answer {
        Ok(answer) => {
            let failure = answer.destination_config().and_then(|config| config.on_failure());
            failure.and_then(|failure| failure.destination()).map(str::to_owned)
        }
        Err(error) if is_missing(&error) => None,
        Err(error) => {
            let reason = why("lambda:GetFunctionEventInvokeConfig", &error);
            return Observation::unknown(&format!("Where {logical} leaves what it fails on"), &reason);
        }
    };
    let queues: Vec<_> = guard.all("AWS::SQS::Queue").map(|(_, url)| guard.arn("sqs", last(url))).collect();
    match destination {
        Some(destination) if queues.contains(&destination) => {
            Observation::pass(format!("{logical} leaves it in {}.", name(last(&destination), 140)))
        }
        Some(other) => Observation::warn(format!(
            "What {logical} fails on goes to {}, which isn't a queue of the guard's stack, so no alarm tells.",
            name(&other, 256)
        )),
        None => {
            let own = if logical == "AlertFunction" { guard.id("AlertFailureQueue") } else { None };
            let queue = own.map(|url| guard.arn("sqs", last(url)));
            let lost = Observation::fail(format!("What {logical} fails on is lost: it has no on-failure destination."));
            match queue.as_deref().filter(|queue| plain(queue, "") == *queue) {
                Some(queue) => lost.mend(
                    "Keep it in the failure queue:",
                    format!(
                        "aws lambda put-function-event-invoke-config --region {} --function-name {} --qualifier '$LATEST' --maximum-retry-attempts 2 --maximum-event-age-in-seconds 21600 --destination-config '{{\"OnFailure\":{{\"Destination\":\"{queue}\"}}}}'",
                        guard.region,
                        plain(id, "FUNCTION")
                    ),
                ),
                None => lost.advise("Deploy again."),
            }
        }
    }
}
