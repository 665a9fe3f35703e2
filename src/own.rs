//! What the alert function knows of its own stack: the names of its parts, and what this version's template says of them.
//!
//! `own.txt` is made of template.yaml by tests/template/expected.py, and a test holds it equal to it: the parts' settings, each
//! as the UUIDv5 of its JSON. So a setting in a call's record is known again without the template, which is for the watch
//! function. The names that CloudFormation makes up (`STACK-LOGICAL_ID-SUFFIX`) are known by their form alone.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::json::{array, text};
use crate::key::Region;

/// A line is a part's setting and the UUID. The text it is made of has the stack's own names as [`OwnStack::neutral`] writes
/// them.
static SETTINGS: &str = include_str!("own.txt");

/// What the names of an organization's spokes begin with, and of the stack that makes them.
const SPOKES: [&str; 2] = ["kms-key-guard-spoke", "kms-key-guard-organization"];

/// The parts whose names CloudFormation makes up, but for the alert function, which knows its own.
const MADE: [&str; 12] = [
    "WatchFunction",
    "SweepSchedule",
    "CoverageSchedule",
    "AlertFunctionRole",
    "WatchFunctionRole",
    "ScheduleRole",
    "RuleDeadLetterQueue",
    "AlertFailureQueue",
    "WatchFailureQueue",
    "ScheduleDeadLetterQueue",
    "SelfCheckQueue",
    "ProofQueue",
];

/// The state of a rule that sees calls that only read as well.
const ON_FOR_READS: &str = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS";
/// When the sweep takes place unless a parameter says otherwise.
const DAILY: &str = "cron(0 6 * * ? *)";

/// The stack that the alert function is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnStack {
    /// The stack's name; empty if it isn't known.
    pub stack: String,
    /// The alert function's name.
    pub function: String,
    /// The ARNs of the topics for people, for machines and for chat channels; the last one is empty without such a topic.
    pub topics: [String; 3],
}

/// How like the template's a setting is; the worse is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// It is the template's.
    Same,
    /// It is, if the names in it are this stack's: they are only known by their form.
    Alike,
    /// It is another.
    Other,
}

impl Likeness {
    /// The same where the names that CloudFormation made up don't matter.
    fn but_for_names(self) -> Self {
        if self == Self::Alike { Self::Same } else { self }
    }
}

/// Where a call was made.
#[derive(Debug, Clone, Copy)]
pub struct Spot<'a> {
    /// Twelve digits.
    pub account: &'a str,
    /// The Region.
    pub region: &'a Region,
}

impl OwnStack {
    /// Whether a part is called so: the name, or the ARN of a topic or of a subscription to it. Which of several stacks whose
    /// names begin alike it belongs to, the EventBridge rules have told apart.
    pub fn has(&self, name: &str) -> bool {
        let begins = |with: &str, next: &[char]| {
            !with.is_empty() && name.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with(next))
        };
        let spoke = name.strip_prefix("StackSet-").unwrap_or(name);
        name == self.function
            || begins(&self.stack, &['-', '.'])
            || self.topics.iter().any(|topic| begins(topic, &[':']))
            || SPOKES.iter().any(|with| spoke.starts_with(with))
    }

    /// The logical id of a part whose name CloudFormation made up, by the name's form.
    fn made(&self, name: &str) -> Option<&'static str> {
        let rest = name.strip_prefix(self.stack.as_str())?.strip_prefix('-')?;
        MADE.into_iter().find(|logical| rest.strip_prefix(logical).is_some_and(|rest| rest.starts_with('-')))
    }

    /// How like the template's a part of this name is once a call has set what its record holds.
    pub fn restored(&self, action: &str, name: &str, request: &Value, spot: Spot<'_>) -> Likeness {
        let given = |field: &str| text(request, field);
        let json = |field: &str| given(field).and_then(|text| read(&text)).unwrap_or_default();
        let but_for = |besides: &[&str]| {
            let given = request.as_object().into_iter().flatten();
            let given = given.filter(|(name, value)| !value.is_null() && !besides.contains(&name.as_str()));
            given.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>()
        };
        // What isn't given is the default, which is on.
        let state = given("state").unwrap_or_else(|| "ENABLED".into());
        let value = given("attributeValue");
        let sets_nothing = || json("attributeValue").as_object().map_or(value.is_none(), Map::is_empty);
        match (action, given("attributeName").as_deref()) {
            ("PutRule", _) => match name.strip_prefix(self.stack.as_str()).and_then(|rest| rest.strip_prefix("-rule."))
            {
                // Uses of a key are reads, which a rule sees only in the longer state.
                Some(rule) if state == ON_FOR_READS || (state == "ENABLED" && !rule.ends_with("lost-key-use")) => {
                    self.likeness(&format!("pattern.{rule}"), &json("eventPattern"), spot)
                }
                _ => Likeness::Other,
            },
            // What can't be delivered may go to another queue; what can be is delivered all the same.
            ("PutTargets", _) => {
                let targets = array(request.get("targets")).map(|target| {
                    let id = text(target, "id").unwrap_or_default();
                    self.likeness(&format!("target.{id}"), target, spot)
                });
                targets.max().unwrap_or(Likeness::Other).but_for_names()
            }
            ("PutFunctionEventInvokeConfig" | "UpdateFunctionEventInvokeConfig", _)
                if given("qualifier").is_none_or(|qualifier| qualifier == "$LATEST") =>
            {
                let settings = but_for(&["functionName", "qualifier"]);
                let function = if name == self.function { "AlertFunction" } else { "WatchFunction" };
                // The first of the two calls takes away what it doesn't give.
                match action.starts_with("Put") && !settings.contains_key("destinationConfig") {
                    true => Likeness::Other,
                    false => self.all_alike(function, &settings, spot).but_for_names(),
                }
            }
            ("SetTopicAttributes", Some("KmsMasterKeyId")) if value.is_none() => Likeness::Same,
            ("SetTopicAttributes", Some("Policy")) => {
                let mut topics =
                    self.topics.iter().zip(["AlertsTopicPolicy", "FindingsTopicPolicy", "ChatTopicPolicy"]);
                let policy = topics.find(|(topic, _)| *topic == name).map(|(_, policy)| policy);
                policy.map_or(Likeness::Other, |policy| self.likeness(policy, &json("attributeValue"), spot))
            }
            ("SetSubscriptionAttributes", Some("FilterPolicy")) if sets_nothing() => Likeness::Same,
            ("SetSubscriptionAttributes", Some("FilterPolicyScope"))
                if value.as_deref() == Some("MessageAttributes") =>
            {
                Likeness::Same
            }
            ("SetQueueAttributes", _) => {
                let settings = request.get("attributes").and_then(Value::as_object);
                self.made(name).zip(settings).map_or(Likeness::Other, |(queue, set)| self.all_alike(queue, set, spot))
            }
            ("PutMetricAlarm", _) => {
                let [alerts, ..] = &self.topics;
                let mut settings = but_for(&["alarmName", "alarmDescription", "tags"]);
                let actions = settings.remove("alarmActions").unwrap_or_default();
                let tells = array(Some(&actions)).any(|action| action.as_str() == Some(alerts.as_str()));
                let acts = settings.remove("actionsEnabled").is_none_or(|acts| acts == true);
                match name.strip_prefix(self.stack.as_str()).and_then(|rest| rest.strip_prefix('.')) {
                    // Whom it tells besides, a parameter of the stack decides.
                    Some(alarm) if acts && tells => {
                        self.likeness(&format!("alarm.{alarm}"), &settings.into(), spot).max(Likeness::Alike)
                    }
                    _ => Likeness::Other,
                }
            }
            ("UpdateSchedule", _) => {
                let mut settings = but_for(&["name", "groupName", "description", "state", "clientToken"]);
                let utc = settings.remove("scheduleExpressionTimezone").is_none_or(|zone| zone == "UTC");
                // At which hour of the day the sweep takes place, a parameter decides.
                if let Some(at) = settings.get_mut("scheduleExpression").filter(|at| at.as_str().is_some_and(is_daily))
                {
                    *at = DAILY.into();
                }
                match self.made(name) {
                    Some(schedule) if utc && state == "ENABLED" => self.likeness(schedule, &settings.into(), spot),
                    _ => Likeness::Other,
                }
            }
            _ => Likeness::Other,
        }
    }

    /// How like the template's setting of this name the value is.
    fn likeness(&self, setting: &str, value: &Value, spot: Spot<'_>) -> Likeness {
        let json = canonical(value);
        let is_wanted = |text: &str| is_wanted(setting, Uuid::new_v5(&Uuid::nil(), text.as_bytes()));
        // Whoever writes the neutral names means others.
        if json.contains("${") || self.stack.is_empty() {
            return Likeness::Other;
        }
        let (neutral, made) = self.neutral(json.clone(), spot);
        match (is_wanted(&json), is_wanted(&neutral)) {
            (true, _) => Likeness::Same,
            (false, true) if made => Likeness::Alike,
            (false, true) => Likeness::Same,
            (false, false) => Likeness::Other,
        }
    }

    /// How like the template's these settings are, all together.
    fn all_alike(&self, part: &str, settings: &Map<String, Value>, spot: Spot<'_>) -> Likeness {
        let each = settings.iter().map(|(name, value)| self.likeness(&format!("{part}.{name}"), value, spot));
        each.max().unwrap_or(Likeness::Other)
    }

    /// The JSON with this stack's names as every stack has them, and whether there are some that CloudFormation made up.
    fn neutral(&self, mut text: String, Spot { account, region }: Spot<'_>) -> (String, bool) {
        let Self { stack, function, topics: [alerts, findings, chat] } = self;
        // One topic's ARN may begin with the other's.
        let mut topics = [(alerts, "${alerts}"), (findings, "${findings}"), (chat, "${chat}")];
        topics.sort_by_key(|(arn, _)| std::cmp::Reverse(arn.len()));
        for (arn, neutral) in topics.into_iter().filter(|(arn, _)| !arn.is_empty()) {
            text = text.replace(arn.as_str(), neutral);
        }
        let mut made = false;
        text = text.replace(function.as_str(), "${stack}-AlertFunction");
        for logical in MADE {
            let begin = format!("{stack}-{logical}-");
            while let Some((before, after)) = text.split_once(&begin) {
                let rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
                text = format!("{before}${{stack}}-{logical}{rest}");
                made = true;
            }
        }
        for (own, neutral) in [
            (format!("arn:{}:", region.partition().name), "arn:${partition}:"),
            (format!(":{region}:"), ":${region}:"),
            (format!(":{account}:"), ":${account}:"),
            (format!("/{account}/"), "/${account}/"),
            (format!("\"{account}\""), "\"${account}\""),
            (format!("{stack}-rule."), "${stack}-rule."),
            (format!("\"{stack}."), "\"${stack}."),
            (format!("{stack}-alert\""), "${stack}-alert\""),
            (format!("{stack}-watch\""), "${stack}-watch\""),
            (format!("{stack}-heartbeats\""), "${stack}-heartbeats\""),
            (format!("\"{stack}\""), "\"${stack}\""),
            (format!("/{stack}/"), "/${stack}/"),
        ] {
            text = text.replace(&own, neutral);
        }
        (text, made)
    }
}

/// Whether a schedule is due once a day, at a whole hour.
fn is_daily(expression: &str) -> bool {
    let hour = expression.strip_prefix("cron(0 ").and_then(|rest| rest.strip_suffix(" * * ? *)"));
    hour.and_then(|hour| hour.parse::<u8>().ok()).is_some_and(|hour| hour < 24)
}

/// Whether the template has the setting so, with or without a topic for chat channels.
fn is_wanted(setting: &str, is: Uuid) -> bool {
    let mut lines = SETTINGS.lines().filter_map(|line| line.split_once(' '));
    lines.any(|(name, wanted)| name == setting && wanted.parse() == Ok(is))
}

/// Reads JSON that a record holds as text; none in which a field comes twice, of which AWS may take the other.
fn read(text: &str) -> Option<Value> {
    let dense = |text: &str| text.chars().filter(|c| !c.is_ascii_whitespace()).count();
    serde_json::from_str(text).ok().filter(|value: &Value| dense(&value.to_string()) == dense(text))
}

/// The value as JSON in which equal values are equal texts: fields sorted, numbers without a fraction whole, and null fields
/// left out, as records have them for what wasn't given.
fn canonical(value: &Value) -> String {
    fn plain(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let given = fields.iter().filter(|(_, value)| !value.is_null());
                given.map(|(name, value)| (name.clone(), plain(value))).collect::<Map<_, _>>().into()
            }
            Value::Array(values) => values.iter().map(plain).collect(),
            Value::Number(number) => {
                let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
                whole.map_or_else(|| value.clone(), |number| Value::from(number as i64))
            }
            other => other.clone(),
        }
    }
    let mut value = plain(value);
    value.sort_all_objects();
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALERTS: &str = "arn:aws:sns:eu-west-1:111122223333:kms-key-guard-AlertsTopic-1A2B3C4D5E6F";
    const TARGET: &str = r#"{"id":"alert-function","arn":"arn:aws:lambda:eu-west-1:111122223333:function:kms-key-guard-AlertFunction-1A2B3C4D5E6F","deadLetterConfig":{"arn":"arn:aws:sqs:eu-west-1:111122223333:kms-key-guard-RuleDeadLetterQueue-1A2B3C4D5E6F"},"retryPolicy":{"maximumEventAgeInSeconds":900,"maximumRetryAttempts":185}}"#;
    const TEST_RULE: &str = r#"{"detail-type": ["KMS Key Guard Test"], "source": ["kms-key-guard"]}"#;

    fn own() -> OwnStack {
        OwnStack {
            stack: "kms-key-guard".into(),
            function: "kms-key-guard-AlertFunction-1A2B3C4D5E6F".into(),
            topics: ["AlertsTopic", "FindingsTopic", "ChatTopicNotifications"]
                .map(|topic| format!("arn:aws:sns:eu-west-1:111122223333:kms-key-guard-{topic}-1A2B3C4D5E6F")),
        }
    }

    fn restored(action: &str, name: &str, request: &Value) -> Likeness {
        let region = "eu-west-1".parse().unwrap();
        own().restored(action, name, request, Spot { account: "111122223333", region: &region })
    }

    /// The same with a field added or changed.
    fn with(value: &Value, field: &str, to: Value) -> Value {
        let mut changed = value.clone();
        changed[field] = to;
        changed
    }

    #[test]
    fn own_names_are_known_and_others_are_not() {
        for name in [
            "kms-key-guard",
            "kms-key-guard-rule.api-call",
            "kms-key-guard.AlertErrorAlarm",
            "kms-key-guard-AlertFunction-1A2B3C4D5E6F",
            ALERTS,
            &format!("{ALERTS}:c3019def-3714-403e-ba29-eb14079d5c69"),
            "kms-key-guard-spoke-undelivered",
            "StackSet-kms-key-guard-spoke-11112222",
            "kms-key-guard-organization",
        ] {
            assert!(own().has(name), "{name}");
        }
        for name in [
            "",
            "other",
            "kms-key-guards",
            "my-kms-key-guard",
            "arn:aws:sns:eu-west-1:111122223333:other",
            "kms-key-guard/x",
        ] {
            assert!(!own().has(name), "{name}");
        }
        let unnamed = OwnStack { stack: String::new(), ..own() };
        assert!(!unnamed.has("-rule.api-call") && !unnamed.has(""));
    }

    #[test]
    fn targets_are_put_back_by_the_templates_alone() {
        let put = |targets: Value| {
            restored("PutTargets", "kms-key-guard-rule.api-call", &json!({"rule": "r", "targets": targets}))
        };
        let target: Value = serde_json::from_str(TARGET).unwrap();
        assert_eq!(put(json!([target])), Likeness::Same);
        assert_eq!(put(json!([with(&target, "input", Value::Null)])), Likeness::Same);
        // The rules about tampering start a self-check as well.
        let self_check = json!({
            "id": "self-check", "sqsParameters": {"messageGroupId": "self-check"},
            "arn": "arn:aws:sqs:eu-west-1:111122223333:kms-key-guard-SelfCheckQueue-1A2B3C4D5E6F.fifo",
        });
        assert_eq!(put(json!([target, self_check])), Likeness::Same);
        assert_eq!(
            put(json!([with(&self_check, "arn", "arn:aws:sqs:eu-west-1:111122223333:x.fifo".into())])),
            Likeness::Other
        );
        for other in [
            json!([]),
            Value::Null,
            json!([target, {"id": "x", "arn": "arn:aws:lambda:eu-west-1:111122223333:function:x"}]),
            json!([with(&target, "input", "{}".into())]),
            json!([with(&target, "inputTransformer", json!({"inputTemplate": "{}"}))]),
            json!([with(&target, "arn", "arn:aws:lambda:eu-west-1:111122223333:function:nothing".into())]),
            json!([with(
                &target,
                "arn",
                "arn:aws:lambda:eu-west-1:111122223333:function:kms-key-guard-AlertFunction-666666666666".into()
            )]),
            json!([with(
                &target,
                "arn",
                "arn:aws:lambda:eu-west-1:444455556666:function:kms-key-guard-AlertFunction-1A2B3C4D5E6F".into()
            )]),
            json!([with(
                &target,
                "arn",
                "arn:${partition}:lambda:${region}:${account}:function:${stack}-AlertFunction".into()
            )]),
            json!([with(&target, "deadLetterConfig", Value::Null)]),
            json!([with(&target, "deadLetterConfig", json!({"arn": "arn:aws:sqs:eu-west-1:111122223333:other"}))]),
            json!([with(&target, "retryPolicy", json!({"maximumEventAgeInSeconds": 60, "maximumRetryAttempts": 0}))]),
        ] {
            assert_eq!(put(other.clone()), Likeness::Other, "{other}");
        }
    }

    #[test]
    fn rule_is_put_back_by_its_own_pattern_alone_and_on() {
        let put = |rule: &str, request: Value| restored("PutRule", &format!("kms-key-guard-rule.{rule}"), &request);
        assert_eq!(put("guard-test", json!({"eventPattern": TEST_RULE})), Likeness::Same);
        assert_eq!(put("guard-test", json!({"eventPattern": TEST_RULE, "state": "ENABLED"})), Likeness::Same);
        for (rule, request) in [
            ("guard-test", json!({"eventPattern": TEST_RULE, "state": "DISABLED"})),
            ("guard-test", json!({"eventPattern": r#"{"source": ["kms-key-guard"]}"#})),
            (
                "guard-test",
                json!({"eventPattern": r#"{"detail-type": ["KMS Key Guard Test"], "source": ["x"], "source": ["kms-key-guard"]}"#}),
            ),
            ("guard-test", json!({"eventPattern": TEST_RULE.get(1..)})),
            ("guard-test", json!({"scheduleExpression": "rate(1 day)"})),
            ("guard-test", Value::Null),
            ("kms-event", json!({"eventPattern": TEST_RULE})),
            ("unknown", json!({"eventPattern": TEST_RULE})),
        ] {
            assert_eq!(put(rule, request.clone()), Likeness::Other, "{rule} {request}");
        }
        assert_eq!(restored("PutRule", "other", &json!({"eventPattern": TEST_RULE})), Likeness::Other);
    }

    #[test]
    fn failures_go_to_the_queue_of_the_function_again() {
        let alert = "kms-key-guard-AlertFunction-1A2B3C4D5E6F";
        let to =
            |queue: &str| json!({"onFailure": {"destination": format!("arn:aws:sqs:eu-west-1:111122223333:{queue}")}});
        let queue = to("kms-key-guard-AlertFailureQueue-1A2B3C4D5E6F");
        let whole = json!({"functionName": alert, "qualifier": "$LATEST", "maximumRetryAttempts": 2, "maximumEventAgeInSeconds": 21600, "destinationConfig": queue});
        assert_eq!(restored("PutFunctionEventInvokeConfig", alert, &whole), Likeness::Same);
        let part = json!({"functionName": alert, "maximumRetryAttempts": 2});
        assert_eq!(restored("UpdateFunctionEventInvokeConfig", alert, &part), Likeness::Same);
        for (action, request) in [
            // Without a destination the call takes it away.
            ("PutFunctionEventInvokeConfig", part),
            ("PutFunctionEventInvokeConfig", with(&whole, "maximumRetryAttempts", 0.into())),
            ("PutFunctionEventInvokeConfig", with(&whole, "maximumEventAgeInSeconds", 60.into())),
            ("PutFunctionEventInvokeConfig", with(&whole, "destinationConfig", to("other"))),
            (
                "PutFunctionEventInvokeConfig",
                with(&whole, "destinationConfig", to("kms-key-guard-WatchFailureQueue-1A2B3C4D5E6F")),
            ),
            ("PutFunctionEventInvokeConfig", with(&whole, "qualifier", "live".into())),
            ("UpdateFunctionEventInvokeConfig", Value::Null),
            ("UpdateFunctionEventInvokeConfig", json!({"functionName": alert})),
        ] {
            assert_eq!(restored(action, alert, &request), Likeness::Other, "{action} {request}");
        }
    }

    #[test]
    fn attributes_are_put_back_by_what_the_template_has() {
        let queue = "kms-key-guard-AlertFailureQueue-1A2B3C4D5E6F";
        let attribute = |name: &str, value: &str| json!({"attributeName": name, "attributeValue": value});
        let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
        for (action, name, request, expected) in [
            ("SetTopicAttributes", ALERTS, attribute("KmsMasterKeyId", ""), Likeness::Same),
            ("SetTopicAttributes", ALERTS, json!({"attributeName": "KmsMasterKeyId"}), Likeness::Same),
            ("SetTopicAttributes", ALERTS, attribute("KmsMasterKeyId", "alias/theirs"), Likeness::Other),
            ("SetTopicAttributes", ALERTS, attribute("Policy", policy), Likeness::Other),
            ("SetTopicAttributes", ALERTS, json!({}), Likeness::Other),
            ("SetSubscriptionAttributes", ALERTS, attribute("FilterPolicy", "{}"), Likeness::Same),
            ("SetSubscriptionAttributes", ALERTS, attribute("FilterPolicy", ""), Likeness::Same),
            (
                "SetSubscriptionAttributes",
                ALERTS,
                attribute("FilterPolicy", "{\"severity\":[\"Low\"]}"),
                Likeness::Other,
            ),
            ("SetSubscriptionAttributes", ALERTS, attribute("FilterPolicy", "{"), Likeness::Other),
            ("SetSubscriptionAttributes", ALERTS, attribute("FilterPolicyScope", "MessageAttributes"), Likeness::Same),
            ("SetSubscriptionAttributes", ALERTS, attribute("FilterPolicyScope", "MessageBody"), Likeness::Other),
            ("SetQueueAttributes", queue, json!({"attributes": {"MessageRetentionPeriod": "1209600"}}), Likeness::Same),
            ("SetQueueAttributes", queue, json!({"attributes": {"MessageRetentionPeriod": "60"}}), Likeness::Other),
            (
                "SetQueueAttributes",
                queue,
                json!({"attributes": {"SqsManagedSseEnabled": "true", "Policy": ""}}),
                Likeness::Other,
            ),
            ("SetQueueAttributes", queue, json!({"attributes": {}}), Likeness::Other),
            (
                "SetQueueAttributes",
                "other",
                json!({"attributes": {"MessageRetentionPeriod": "1209600"}}),
                Likeness::Other,
            ),
            ("DisableRule", "kms-key-guard-rule.api-call", json!({}), Likeness::Other),
        ] {
            assert_eq!(restored(action, name, &request), expected, "{action} {request}");
        }
    }

    #[test]
    fn alarm_and_schedule_are_alike_as_far_as_the_record_tells() {
        let alarm = json!({
            "alarmName": "kms-key-guard.AlertErrorAlarm", "namespace": "AWS/Lambda", "metricName": "Errors", "statistic": "Sum",
            "dimensions": [{"name": "FunctionName", "value": "kms-key-guard-AlertFunction-1A2B3C4D5E6F"}], "period": 60,
            "evaluationPeriods": 1, "threshold": 1.0, "comparisonOperator": "GreaterThanOrEqualToThreshold",
            "treatMissingData": "notBreaching", "actionsEnabled": true, "alarmActions": [ALERTS],
        });
        let put = |request: &Value| restored("PutMetricAlarm", "kms-key-guard.AlertErrorAlarm", request);
        assert_eq!(put(&alarm), Likeness::Alike);
        for (field, value) in [
            ("threshold", json!(1e6)),
            ("actionsEnabled", json!(false)),
            ("alarmActions", json!([])),
            ("alarmActions", json!(["arn:aws:sns:eu-west-1:111122223333:other"])),
            ("datapointsToAlarm", json!(9)),
            ("treatMissingData", Value::Null),
        ] {
            assert_eq!(put(&with(&alarm, field, value.clone())), Likeness::Other, "{field} {value}");
        }
        let arn = |service: &str, region: &str, resource: &str| {
            format!("arn:aws:{service}:{region}:111122223333:{resource}-1A2B3C4D5E6F")
        };
        let schedule = json!({
            "name": "kms-key-guard-SweepSchedule-1A2B3C4D5E6F", "state": "ENABLED", "scheduleExpression": "cron(0 23 * * ? *)",
            "scheduleExpressionTimezone": "UTC", "flexibleTimeWindow": {"mode": "OFF"}, "target": {
                "arn": arn("lambda", "eu-west-1", "function:kms-key-guard-WatchFunction"),
                "roleArn": arn("iam", "", "role/kms-key-guard-ScheduleRole"),
                "deadLetterConfig": {"arn": arn("sqs", "eu-west-1", "kms-key-guard-ScheduleDeadLetterQueue")},
                "retryPolicy": {"maximumEventAgeInSeconds": 3600, "maximumRetryAttempts": 185},
                "input": r#"{"look": "sweep", "time": "<aws.scheduler.scheduled-time>"}"#,
            },
        });
        let update = |request: &Value| restored("UpdateSchedule", "kms-key-guard-SweepSchedule-1A2B3C4D5E6F", request);
        assert_eq!(update(&schedule), Likeness::Alike);
        for (field, value) in [
            ("state", json!("DISABLED")),
            ("scheduleExpression", json!("rate(365 days)")),
            ("scheduleExpression", json!("cron(0 24 * * ? *)")),
            ("scheduleExpressionTimezone", json!("Pacific/Kiritimati")),
            ("endDate", json!("2026-11-21T00:00:00Z")),
            ("target", Value::Null),
        ] {
            assert_eq!(update(&with(&schedule, field, value.clone())), Likeness::Other, "{field} {value}");
        }
    }
}
