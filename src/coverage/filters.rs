//! Which of the guard's messages a subscription's filter policy lets through.
//!
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html>

use std::collections::HashMap;

use serde_json::Value;

use super::Stack;
use crate::catalogue::{CATALOGUE, Kind, Severity};
use crate::policy::glob;

/// A subscription's filter policy.
pub(super) struct Filter {
    policy: Value,
    /// Whether it looks at the message instead of the attributes beside it.
    of_body: bool,
}

/// What a message has under a name.
#[derive(Clone, Copy)]
enum Held<'a> {
    Text(&'a str),
    Number(f64),
    /// Something, that depends on the message.
    Any,
    Nothing,
}

impl Filter {
    /// By the subscription's attributes; None if it takes everything. A policy that isn't JSON is none of SNS's.
    pub(super) fn of(attributes: &HashMap<String, String>) -> Option<Self> {
        let policy: Value = serde_json::from_str(attributes.get("FilterPolicy")?).ok()?;
        if policy.as_object().is_none_or(serde_json::Map::is_empty) {
            return None;
        }
        Some(Self { policy, of_body: attributes.get("FilterPolicyScope").is_some_and(|scope| scope == "MessageBody") })
    }

    /// Whether any alert that is Critical or High comes through; `plain` if the topic's messages are text for people, which
    /// a filter of the message's body never lets through.
    pub(super) fn lets_severe_alerts_through(&self, guard: &Stack, plain: bool) -> bool {
        if self.of_body {
            return !plain;
        }
        let worth_waking = CATALOGUE.iter().filter(|detection| detection.severity > Severity::Informational);
        let mut messages = worth_waking.flat_map(|detection| {
            [Severity::High, Severity::Critical].into_iter().flat_map(move |severity| {
                ["Create", "Update"].into_iter().map(move |activity| (detection.id, severity, activity))
            })
        });
        messages.any(|(detection, severity, activity)| self.lets_through(guard, detection, severity, activity))
    }

    /// Whether the tests of `keyguard doctor --prove` come through.
    pub(super) fn lets_tests_through(&self, guard: &Stack) -> bool {
        let test = Kind::GuardTest.detection();
        !self.of_body && self.lets_through(guard, test.id, test.severity, "Create")
    }

    /// Whether a message with these attributes comes through.
    fn lets_through(&self, guard: &Stack, detection: &str, severity: Severity, activity: &str) -> bool {
        let hub = guard.parameter("OrganizationId").is_some();
        passes(&self.policy, &|name| match name {
            "detection" => Held::Text(detection),
            "severity" => Held::Text(severity.name()),
            "severity_id" => Held::Number(severity.id().into()),
            "activity" => Held::Text(activity),
            "account" if !hub => Held::Text(&guard.account),
            "region" if !hub => Held::Text(guard.region.as_str()),
            "account" | "region" | "event_name" | "key_arn" | "finding_uid" => Held::Any,
            _ => Held::Nothing,
        })
    }

    /// Whether what a CloudWatch alarm sends comes through: JSON without any attribute.
    pub(super) fn lets_alarms_through(&self) -> bool {
        self.of_body || passes(&self.policy, &|_| Held::Nothing)
    }
}

fn passes<'a>(policy: &Value, held: &impl Fn(&str) -> Held<'a>) -> bool {
    let fields = policy.as_object().into_iter().flatten();
    fields.into_iter().all(|(name, conditions)| {
        let mut conditions = conditions.as_array().into_iter().flatten();
        match name.as_str() {
            "$or" => conditions.any(|policy| passes(policy, held)),
            name => conditions.any(|condition| meets(held(name), condition)),
        }
    })
}

/// Whether a value meets one condition; a kind of condition that isn't known here counts as met.
fn meets(held: Held<'_>, condition: &Value) -> bool {
    let operator = condition.as_object().and_then(|fields| fields.iter().next());
    let exists = operator.and_then(|(name, wanted)| wanted.as_bool().filter(|_| name == "exists"));
    match (held, exists) {
        (Held::Any, _) => return true,
        (Held::Nothing, wanted) => return wanted == Some(false),
        (_, Some(wanted)) => return wanted,
        _ => {}
    }
    let Some((operator, wanted)) = operator else { return is(held, condition) };
    let text = match held {
        Held::Text(text) => text,
        _ => "",
    };
    let is_text = matches!(held, Held::Text(_));
    let wanted_text = wanted.as_str().unwrap_or_default();
    match operator.as_str() {
        "anything-but" => match wanted {
            Value::Array(values) => !values.iter().any(|value| is(held, value)),
            Value::Object(_) => !meets(held, wanted),
            value => !is(held, value),
        },
        "prefix" => is_text && text.starts_with(wanted_text),
        "suffix" => is_text && text.ends_with(wanted_text),
        "wildcard" => is_text && glob(wanted_text, text),
        "equals-ignore-case" => is_text && text.eq_ignore_ascii_case(wanted_text),
        "cidr" => false,
        "numeric" => match held {
            Held::Number(number) => within(number, wanted),
            _ => false,
        },
        _ => true,
    }
}

fn is(held: Held<'_>, value: &Value) -> bool {
    match held {
        Held::Text(text) => value.as_str() == Some(text),
        Held::Number(number) => value.as_f64() == Some(number),
        Held::Any | Held::Nothing => false,
    }
}

/// `[">", 0, "<=", 5]`
fn within(number: f64, range: &Value) -> bool {
    let range = range.as_array().map(Vec::as_slice).unwrap_or_default();
    range.chunks(2).all(|bound| {
        let [operator, limit] = bound else { return false };
        let (Some(operator), Some(limit)) = (operator.as_str(), limit.as_f64()) else { return false };
        match operator {
            "=" => number == limit,
            "<" => number < limit,
            "<=" => number <= limit,
            ">" => number > limit,
            ">=" => number >= limit,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filter(policy: Value, scope: &str) -> Filter {
        let attributes = [("FilterPolicy", policy.to_string()), ("FilterPolicyScope", scope.to_owned())];
        Filter::of(&attributes.map(|(name, value)| (name.to_owned(), value)).into()).unwrap()
    }

    fn severe(policy: Value) -> bool {
        filter(policy, "MessageAttributes").lets_severe_alerts_through(&Stack::example(&[]), true)
    }

    #[test]
    fn filter_that_lets_some_severe_alert_through_is_heard() {
        for policy in [
            json!({"severity": ["Critical"]}),
            json!({"severity": [{"prefix": "H"}, "Low"]}),
            json!({"severity_id": [{"numeric": [">=", 4]}]}),
            json!({"severity": [{"anything-but": ["Informational", "Low"]}]}),
            json!({"severity": [{"anything-but": {"prefix": "Info"}}], "activity": ["Create"]}),
            json!({"detection": [{"wildcard": "key-*"}], "severity_id": [4, 5]}),
            json!({"account": ["111122223333"], "region": [{"equals-ignore-case": "EU-WEST-1"}]}),
            json!({"key_arn": [{"exists": true}]}),
            json!({"team": [{"exists": false}]}),
            json!({"$or": [{"severity": ["Low"]}, {"severity": ["High"]}]}),
            json!({"severity": [{"some-new-operator": 1}]}),
        ] {
            assert!(severe(policy.clone()), "{policy}");
        }
    }

    #[test]
    fn filter_that_lets_nothing_severe_through_is_deaf() {
        for policy in [
            json!({"severity": ["Informational", "Low", "Medium"]}),
            json!({"severity": ["critical"]}),
            json!({"severity_id": [{"numeric": [">", 0, "<", 4]}]}),
            json!({"severity_id": ["5"]}),
            json!({"severity": ["Critical"], "severity_id": [4]}),
            json!({"severity": [{"anything-but": ["High", "Critical"]}]}),
            json!({"detection": ["guard-test"]}),
            json!({"detection": ["key-enabled", "key-deletion-cancelled"]}),
            json!({"activity": ["Close"]}),
            json!({"account": ["444455556666"]}),
            json!({"region": [{"prefix": "us-"}]}),
            json!({"team": ["payments"]}),
            json!({"severity": [{"exists": false}]}),
            json!({"$or": [{"severity": ["Low"]}, {"team": ["payments"]}]}),
            json!({"severity": []}),
        ] {
            assert!(!severe(policy.clone()), "{policy}");
        }
    }

    #[test]
    fn tests_come_through_a_filter_on_them() {
        let tests = |policy: Value| filter(policy, "MessageAttributes").lets_tests_through(&Stack::example(&[]));
        assert!(tests(json!({"detection": ["guard-test"]})));
        assert!(!tests(json!({"detection": ["key-disabled"]})));
        assert!(!tests(json!({"severity": ["Critical"]})));
    }

    #[test]
    fn hub_hears_of_other_accounts_and_regions() {
        let hub = Stack::example(&[("OrganizationId", "o-a1b2c3d4e5")]);
        let theirs = filter(json!({"account": ["444455556666"], "region": ["us-east-1"]}), "MessageAttributes");
        assert!(theirs.lets_severe_alerts_through(&hub, true));
    }

    #[test]
    fn filter_of_the_body_never_lets_text_through() {
        let of_body = filter(json!({"severity_id": [5]}), "MessageBody");
        assert!(!of_body.lets_severe_alerts_through(&Stack::example(&[]), true));
        assert!(of_body.lets_severe_alerts_through(&Stack::example(&[]), false));
    }

    #[test]
    fn alarms_carry_no_attributes() {
        assert!(!filter(json!({"severity": ["Critical"]}), "MessageAttributes").lets_alarms_through());
        assert!(filter(json!({"detection": [{"exists": false}]}), "MessageAttributes").lets_alarms_through());
        assert!(filter(json!({"NewStateValue": ["ALARM"]}), "MessageBody").lets_alarms_through());
    }

    #[test]
    fn no_policy_and_an_empty_one_let_everything_through() {
        assert!(Filter::of(&HashMap::new()).is_none());
        assert!(Filter::of(&[("FilterPolicy".to_owned(), "{}".to_owned())].into()).is_none());
    }
}
