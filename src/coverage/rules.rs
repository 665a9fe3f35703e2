//! Do the guard's rules deliver its signals to where they should go?

use aws_sdk_eventbridge::Client as EventBridge;
use aws_sdk_eventbridge::operation::describe_rule::DescribeRuleOutput;
use aws_sdk_eventbridge::types::Target;
use aws_types::SdkConfig;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::expected::{Part, Parts, place_of_difference, restore, shown};
use super::{About, Check, Observation, Stack, plain, why};
use crate::escape::{inert, name};

pub(super) static ENABLED: About =
    About { id: "rules-enabled", what: "The guard's rules exist and are enabled.", kind: "AWS::Events::Rule" };
pub(super) static MATCH: About =
    About { id: "rules-match", what: "The rules' patterns are the template's, whole.", kind: "AWS::Events::Rule" };
pub(super) static TARGETS: About = About {
    id: "rules-target",
    what: "The rules deliver what they match, unchanged, to where the template says.",
    kind: "AWS::Events::Rule",
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

const ON: &str = "ENABLED";
const ON_FOR_READS: &str = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS";

/// What a rule matches: one of these.
const MATCHED_BY: [&str; 2] = ["EventPattern", "ScheduleExpression"];

/// Looks at the rules of the Region of `sdk`.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack, parts: &Parts) -> Vec<Check> {
    checks(&EventBridge::new(sdk), guard, parts).await
}

pub(super) async fn checks(events: &EventBridge, guard: &Stack, parts: &Parts) -> Vec<Check> {
    let rules =
        parts.all(guard, "AWS::Events::Rule").map(|(logical, id, part)| DeployedRule::of(guard, logical, id, part));
    let read = join_all(rules.map(|rule| async move { rule.look(events).await })).await;
    let (mut enabled, mut matching, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (a, b, c) in read {
        enabled.extend(a);
        matching.extend(b);
        targets.extend(c);
    }
    let none = || vec![Observation::unknown("What the rules do", "there are none that can be read")];
    let or_none = |looks: Vec<Observation>| if looks.is_empty() { none() } else { looks };
    vec![
        Check::of(&ENABLED, or_none(enabled)),
        Check::of(&MATCH, or_none(matching)),
        Check::of(&TARGETS, or_none(targets)),
    ]
}

/// A rule's physical id is its name, with its bus before it if that isn't the default one.
pub(super) fn bus_and_name(id: &str) -> (Option<&str>, &str) {
    id.split_once('|').map_or((None, id), |(bus, name)| (Some(bus), name))
}

/// A rule's ARN, by its physical id. A bus is named by its name or ARN.
pub(super) fn arn_of(guard: &Stack, id: &str) -> String {
    let (bus, rule) = bus_and_name(id);
    let path = bus.map_or(String::new(), |bus| format!("{}/", bus.rsplit(['/', ':']).next().unwrap_or(bus)));
    guard.arn("events", &format!("rule/{path}{rule}"))
}

/// A rule of the stack, with what the template says of it.
struct DeployedRule<'a> {
    guard: &'a Stack,
    logical: &'a str,
    bus: Option<&'a str>,
    name: &'a str,
    part: &'a Part,
}

/// Of state, pattern and targets.
type Looks = (Vec<Observation>, Vec<Observation>, Vec<Observation>);

impl<'a> DeployedRule<'a> {
    fn of(guard: &'a Stack, logical: &'a str, id: &'a str, part: &'a Part) -> Self {
        let (bus, name) = bus_and_name(id);
        Self { guard, logical, bus, name, part }
    }

    async fn look(&self, events: &EventBridge) -> Looks {
        let bus = || self.bus.map(str::to_owned);
        let describe = events.describe_rule().name(self.name).set_event_bus_name(bus()).send();
        let list = events.list_targets_by_rule().rule(self.name).set_event_bus_name(bus()).send();
        let (described, targets) = tokio::join!(describe, list);
        let logical = self.logical;
        let described = match described {
            Ok(described) => described,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                let gone =
                    Observation::fail(format!("The rule {logical} is gone, so what it matched is no longer seen."))
                        .of_several(
                            logical,
                            "{count} rules are gone, so what they matched is no longer seen: {names}.",
                        );
                return (vec![restore(gone, self.guard)], Vec::new(), Vec::new());
            }
            Err(error) => {
                let reason = why("events:DescribeRule", &error);
                let unknown = |what: &str| {
                    let several = format!("The {what}s of {{count}} rules aren't known: {reason}. They are {{names}}.");
                    let look = Observation::unknown(&format!("The {what} of the rule {logical}"), &reason);
                    vec![look.of_several(logical, several)]
                };
                return (unknown("state"), unknown("pattern"), Vec::new());
            }
        };
        let targets = match targets {
            Ok(answer) => self.targets(answer.targets()),
            Err(error) => {
                let reason = why("events:ListTargetsByRule", &error);
                let several = format!("The targets of {{count}} rules aren't known: {reason}. They are {{names}}.");
                let look = Observation::unknown(&format!("The target of the rule {logical}"), &reason);
                vec![look.of_several(logical, several)]
            }
        };
        (vec![self.state(&described)], vec![self.matches(&described)], targets)
    }

    /// Region and bus for a command.
    fn place(&self) -> String {
        let bus = self.bus.map_or(String::new(), |bus| format!(" --event-bus-name {}", plain(bus, "BUS")));
        format!("--region {}{bus}", self.guard.region)
    }

    fn state(&self, rule: &DescribeRuleOutput) -> Observation {
        let Self { logical, .. } = self;
        let state = rule.state().map_or("unknown", |state| state.as_str());
        let wanted = self.part.properties.get("State").and_then(Value::as_str).unwrap_or(ON);
        if wanted == state || (wanted == ON && state == ON_FOR_READS) {
            return Observation::pass(format!("The rule {logical} is {state}."))
                .of_several(logical, format!("{{count}} rules are {state}: {{names}}."));
        }
        let state = inert(state, 64);
        if wanted == ON {
            let enable = format!("aws events enable-rule {} --name {}", self.place(), plain(self.name, "RULE"));
            Observation::fail(format!("The rule {logical} is {state}, so what it matches is not seen."))
                .of_several(logical, format!("{{count}} rules are {state}, so what they match is not seen: {{names}}."))
                .mend("Enable it:", enable)
        } else {
            let say = format!("The rule {logical} is {state}: it doesn't see read-only events, which it is for.");
            restore(Observation::fail(say), self.guard)
        }
    }

    /// Whether the rule matches what the template says, compared as a whole: a pattern that lets less through, or more, is
    /// another one.
    fn matches(&self, rule: &DescribeRuleOutput) -> Observation {
        let logical = self.logical;
        let json = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let found = [rule.event_pattern().map(json), rule.schedule_expression().map(Value::from)];
        for (property, found) in MATCHED_BY.iter().zip(found) {
            let wanted = self.part.properties.get(*property).map(|wanted| match wanted {
                Value::String(text) => json(text),
                other => other.clone(),
            });
            if wanted == found {
                continue;
            }
            let place =
                wanted.as_ref().zip(found.as_ref()).and_then(|(wanted, found)| place_of_difference(wanted, found));
            let place = place.filter(|place| !place.is_empty()).map_or(String::new(), |place| format!(" in {place}"));
            let what = if *property == "EventPattern" { "pattern" } else { "schedule" };
            let say = match &found {
                None => format!("The rule {logical} has no {what}."),
                Some(_) => {
                    format!("The {what} of the rule {logical} isn't the template's: it differs{}.", inert(&place, 200))
                }
            };
            return restore(Observation::fail(say), self.guard);
        }
        Observation::pass(format!("The rule {logical} has the template's pattern."))
            .of_several(logical, "{count} rules have the template's patterns.")
    }

    fn targets(&self, found: &[Target]) -> Vec<Observation> {
        let wanted = self.part.properties.get("Targets").and_then(Value::as_array).into_iter().flatten();
        wanted.filter_map(Value::as_object).map(|wanted| self.target(wanted, found)).collect()
    }

    fn target(&self, wanted: &Map<String, Value>, found: &[Target]) -> Observation {
        let Self { guard, logical, .. } = self;
        let put_back = |look: Observation| {
            let target = Value::Object(wanted.clone()).to_string();
            // What a shell takes as it is between quotation marks.
            if target.contains('\'') || target.contains('\\') || target.contains('<') {
                return restore(look, guard);
            }
            let rule = plain(self.name, "RULE");
            look.mend(
                "Put the target back:",
                format!("aws events put-targets {} --rule {rule} --targets '[{target}]'", self.place()),
            )
        };
        let arn = wanted.get("Arn").and_then(Value::as_str).unwrap_or_default();
        let is_function = arn.split(':').nth(2) == Some("lambda");
        let what = if is_function { "alert function".to_owned() } else { name(arn, 256) };
        let Some(target) = found.iter().find(|target| target.arn() == arn) else {
            let instead = found.first().map_or("it has none".to_owned(), |other| name(other.arn(), 256));
            let the = if is_function { "The " } else { "" };
            let look = Observation::fail(format!("{the}{what} is no target of the rule {logical}: {instead}."));
            return put_back(
                look.of_several(logical, format!("{the}{what} is no target of {{count}} rules: {{names}}.")),
            );
        };
        let target = as_template(target);
        let same = |property: &str| match (wanted.get(property), target.get(property)) {
            (None, None) => true,
            (Some(wanted), Some(found)) => place_of_difference(wanted, found).is_none(),
            _ => false,
        };
        if !(same("Input") && same("InputPath") && same("InputTransformer")) {
            return put_back(Observation::fail(format!(
                "The rule {logical} changes the events on their way to the {what}, which then can't read them."
            )));
        }
        if !same("SqsParameters") {
            return put_back(Observation::fail(format!(
                "The rule {logical} sends to {what} in another message group, or in none."
            )));
        }
        if !same("RoleArn") {
            let (wanted, found) = (shown(wanted.get("RoleArn")), shown(target.get("RoleArn")));
            return put_back(Observation::fail(format!(
                "The rule {logical} delivers under the role {found} and not under {wanted}."
            )));
        }
        if !same("DeadLetterConfig") {
            return put_back(Observation::warn(match target.get("DeadLetterConfig") {
                None => format!(
                    "The rule {logical} keeps nothing of what it can't deliver: its target has no dead-letter queue."
                ),
                Some(other) => {
                    format!(
                        "What the rule {logical} can't deliver goes to {}, where no alarm looks.",
                        shown(Some(other))
                    )
                }
            }));
        }
        // A queue's or a bus's name says enough, and fits a terminal.
        let to =
            if is_function { format!("the {what}") } else { what.rsplit(':').next().unwrap_or_default().to_owned() };
        Observation::pass(format!("The rule {logical} delivers to {to}."))
            .of_several(logical, format!("{{count}} rules deliver to {to}."))
    }
}

/// A target as a template has it, as far as it is compared.
fn as_template(target: &Target) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("Input", target.input().map(Value::from));
    put("InputPath", target.input_path().map(Value::from));
    put(
        "InputTransformer",
        target.input_transformer().map(|input| {
            let paths = input.input_paths_map().into_iter().flatten();
            let paths: Map<String, Value> = paths.map(|(name, path)| (name.clone(), path.clone().into())).collect();
            json!({"InputPathsMap": paths, "InputTemplate": input.input_template()})
        }),
    );
    put("SqsParameters", target.sqs_parameters().map(|queue| json!({"MessageGroupId": queue.message_group_id()})));
    put("RoleArn", target.role_arn().map(Value::from));
    put("DeadLetterConfig", target.dead_letter_config().and_then(|config| config.arn()).map(|arn| json!({"Arn": arn})));
    fields
}
