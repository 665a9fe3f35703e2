//! What the stack should consist of, by the template of this version, with the stack's own parameters, account and Region.
//!
//! `expected.json` is made of template.yaml and stackset/spoke.yaml by tests/template/expected.py, and a test holds it equal
//! to them: a part that a template gets is checked without a word here. The stack's own template, which CloudFormation
//! keeps, tells what somebody changed past CloudFormation from what another version deployed.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use aws_sdk_cloudformation::Client as CloudFormation;
use aws_sdk_cloudformation::types::TemplateStage;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Observation, Stack, plain, why};
use crate::escape::{inert, name};
use crate::finding::Step;

/// What this version deploys. Its text is part of the program, and a test reads it.
static TEMPLATES: LazyLock<Templates> =
    LazyLock::new(|| serde_json::from_str(include_str!("expected.json")).unwrap_or_default());

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Templates {
    /// The properties that are compared, by type of resource.
    compared: BTreeMap<String, Vec<String>>,
    guard: Template,
    spoke: Template,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Template {
    parameters: BTreeMap<String, Parameter>,
    conditions: BTreeMap<String, Value>,
    resources: BTreeMap<String, Resource>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Parameter {
    default: Value,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Resource {
    r#type: String,
    condition: Option<String>,
    properties: Map<String, Value>,
}

/// A part as the template has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Such as `AWS::Events::Rule`.
    pub(super) kind: String,
    /// The properties that are compared, with references and functions filled in.
    pub(super) properties: Map<String, Value>,
}

/// The parts that the stack should have.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: BTreeMap<String, Part>,
    /// What of the stack isn't as this version deploys it: a part with what is wrong with it.
    differences: Vec<String>,
    /// Why the stack's own template isn't known.
    unreadable: Option<String>,
}

impl Parts {
    /// The parts of this guard, or spoke, by this version's template and by its own.
    pub(super) async fn of(client: &CloudFormation, guard: &Stack) -> Self {
        let answer =
            client.get_template().stack_name(&guard.stack).template_stage(TemplateStage::Processed).send().await;
        match answer {
            // What has no transform is kept as it was written, in YAML as a rule, and is compared with this version alone.
            Ok(answer) => Self::compared(guard, serde_json::from_str(answer.template_body().unwrap_or_default()).ok()),
            Err(error) => {
                Self { unreadable: Some(why("cloudformation:GetTemplate", &error)), ..Self::compared(guard, None) }
            }
        }
    }

    fn compared(guard: &Stack, own: Option<Template>) -> Self {
        let own = own.map(|template| Scope { template: &template, guard }.parts());
        let mut found = Self::default();
        for (logical, part) in (Scope { template: template_of(guard), guard }).parts() {
            let deployed = own.as_ref().and_then(|own| own.get(&logical));
            if !guard.resources.contains_key(&logical) {
                found.differences.push(format!("it lacks {logical} ({})", part.kind));
                continue;
            }
            if let Some(deployed) = deployed
                && let Some(property) = different(&part.properties, &deployed.properties)
            {
                found.differences.push(format!("{logical} has another {property}"));
            }
            // Past CloudFormation only what the stack's own template says can have been changed.
            found.parts.insert(logical, deployed.cloned().unwrap_or(part));
        }
        found
    }

    /// The parts of one type that the stack has: logical and physical id, and what the template says.
    pub(super) fn all<'a>(
        &'a self,
        guard: &'a Stack,
        kind: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Part)> {
        let of_kind = self.parts.iter().filter(move |(_, part)| part.kind == kind);
        of_kind.filter_map(move |(logical, part)| Some((logical.as_str(), guard.id(logical)?, part)))
    }

    /// Whether the stack is what this version deploys.
    pub(super) fn look(&self, guard: &Stack) -> Vec<Observation> {
        let mut looks = Vec::new();
        if let Some(reason) = &self.unreadable {
            looks.push(Observation::unknown("The template that the stack was deployed with", reason));
        }
        // What is being changed has parts of both versions.
        if !self.differences.is_empty() && !guard.status.ends_with("_IN_PROGRESS") {
            let say = format!(
                "The stack {} was deployed by another version than {}, or changed since: {}.",
                guard.stack,
                env!("CARGO_PKG_VERSION"),
                inert(&self.differences.join("; "), 1_000)
            );
            let update = match guard.is_spoke() {
                true => "Update it: roll stackset/org.yaml of this version out again (docs/organization.md).",
                false => "Update it: deploy the template of this version (make deploy).",
            };
            looks.push(Observation::fail(say).advise(update));
        }
        looks
    }
}

/// A parameter's default, as text.
pub(super) fn default_of(parameter: &str) -> String {
    match TEMPLATES.guard.parameters.get(parameter).map(|parameter| &parameter.default) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn template_of(guard: &Stack) -> &'static Template {
    if guard.is_spoke() { &TEMPLATES.spoke } else { &TEMPLATES.guard }
}

/// The first property that isn't the same in both.
pub(super) fn different(wanted: &Map<String, Value>, found: &Map<String, Value>) -> Option<String> {
    let names = wanted.keys().chain(found.keys().filter(|name| !wanted.contains_key(*name)));
    let differ = |name: &&String| match (wanted.get(*name), found.get(*name)) {
        (Some(wanted), Some(found)) => place_of_difference(wanted, found).is_some(),
        _ => true,
    };
    names.clone().find(differ).cloned()
}

/// Where two values differ: a path such as `detail.eventName`, empty if they are two different texts. Numbers and booleans
/// are what CloudFormation makes of their texts, and JSON in a text is compared as JSON.
pub(super) fn place_of_difference(wanted: &Value, found: &Value) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let name = different(wanted, found)?;
            let below = match (wanted.get(&name), found.get(&name)) {
                (Some(wanted), Some(found)) => place_of_difference(wanted, found).unwrap_or_default(),
                _ => String::new(),
            };
            Some(if below.is_empty() { name } else { format!("{name}.{below}") })
        }
        (Value::Array(wanted), Value::Array(found)) => {
            let same = wanted.len() == found.len()
                && wanted.iter().zip(found).all(|(wanted, found)| place_of_difference(wanted, found).is_none());
            (!same).then(String::new)
        }
        (Value::String(wanted), Value::String(found)) if wanted == found => None,
        _ => (scalar(wanted) != scalar(found)).then(String::new),
    }
}

/// A value as CloudFormation compares it: 1, 1.0 and "1" are the same.
fn scalar(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with(['{', '[']) => serde_json::from_str(text).unwrap_or(value.clone()),
        Value::String(text) => match text.parse::<f64>() {
            Ok(number) => Value::from(number),
            Err(_) => value.clone(),
        },
        Value::Number(number) => number.as_f64().map_or(value.clone(), Value::from),
        Value::Bool(yes) => Value::from(yes.to_string()),
        other => other.clone(),
    }
}

/// Puts everything that was changed or deleted past CloudFormation back to what the stack's template says, in a change set
/// that can be read before it is executed. <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html>
pub(super) fn restore(look: Observation, guard: &Stack) -> Observation {
    let look = match guard.is_spoke() {
        true => look.advise(
            "Where stackset/scp.json is attached to this account, detach it meanwhile: it denies what follows.",
        ),
        false => look,
    };
    steps(guard).into_iter().fold(look, |look, Step { what, command }| match command {
        Some(command) => look.mend(&what, command),
        None => look.advise(what),
    })
}

fn steps(guard: &Stack) -> Vec<Step> {
    let place = format!("--region {} --stack-name {}", guard.region, plain(&guard.stack, "STACK"));
    // A change set that was executed keeps its name.
    let set = format!("--change-set-name restore-{}", guard.read.unix_timestamp());
    // A parameter that isn't named gets its default back.
    let previous =
        guard.parameters.keys().map(|name| format!(" ParameterKey={},UsePreviousValue=true", plain(name, "NAME")));
    let previous: String = previous.collect();
    let parameters = if previous.is_empty() { String::new() } else { format!(" --parameters{previous}") };
    let step = |what: &str, command: String| Step { what: what.to_owned(), command: Some(command) };
    vec![
        step(
            "Let CloudFormation put back what was changed or deleted past it:",
            format!(
                "aws cloudformation create-change-set {place} {set} --use-previous-template --deployment-mode REVERT_DRIFT --capabilities CAPABILITY_NAMED_IAM{parameters}"
            ),
        ),
        step("wait for it,", format!("aws cloudformation wait change-set-create-complete {place} {set}")),
        step("read what it would change,", format!("aws cloudformation describe-change-set {place} {set}")),
        step("and execute it:", format!("aws cloudformation execute-change-set {place} {set}")),
    ]
}

/// A template with the stack that it is for.
struct Scope<'a> {
    template: &'a Template,
    guard: &'a Stack,
}

impl Scope<'_> {
    /// The parts whose conditions hold.
    fn parts(&self) -> BTreeMap<String, Part> {
        let wanted = self.template.resources.iter().filter(|(_, resource)| {
            resource
                .condition
                .as_deref()
                .is_none_or(|name| self.template.conditions.get(name).is_some_and(|c| self.holds(c)))
        });
        let parts = wanted.map(|(logical, resource)| {
            let compared = TEMPLATES.compared.get(&resource.r#type).map(Vec::as_slice).unwrap_or_default();
            let properties = resource.properties.iter().filter(|(name, _)| compared.contains(name));
            let properties = properties.filter_map(|(name, value)| Some((name.clone(), self.filled(value)?))).collect();
            (logical.clone(), Part { kind: resource.r#type.clone(), properties })
        });
        parts.collect()
    }

    fn holds(&self, condition: &Value) -> bool {
        let Some((function, argument)) = only(condition) else { return false };
        let many = || argument.as_array().into_iter().flatten();
        match function {
            "Condition" => {
                argument.as_str().and_then(|name| self.template.conditions.get(name)).is_some_and(|c| self.holds(c))
            }
            "Fn::Equals" => {
                let mut sides = many().map(|side| self.text(side));
                sides.next() == sides.next()
            }
            "Fn::Not" => !many().all(|c| self.holds(c)),
            "Fn::And" => many().all(|c| self.holds(c)),
            "Fn::Or" => many().any(|c| self.holds(c)),
            _ => false,
        }
    }

    /// The value with references and functions filled in; None for `AWS::NoValue`.
    fn filled(&self, value: &Value) -> Option<Value> {
        match value {
            Value::Array(values) => Some(values.iter().filter_map(|value| self.filled(value)).collect()),
            Value::Object(fields) => match only(value) {
                Some(("Ref", Value::String(name))) => self.reference(name),
                Some(("Fn::GetAtt", Value::Array(of))) => {
                    let mut of = of.iter().filter_map(Value::as_str);
                    Some(self.attribute(of.next()?, of.next()?).into())
                }
                Some(("Fn::GetAtt", Value::String(of))) => {
                    let (logical, attribute) = of.split_once('.')?;
                    Some(self.attribute(logical, attribute).into())
                }
                Some(("Fn::Sub", of)) => Some(self.substituted(of).into()),
                Some(("Fn::Split", Value::Array(of))) => {
                    let (separator, text) = (self.text(of.first()?), self.text(of.get(1)?));
                    Some(text.split(&*separator).map(Value::from).collect())
                }
                Some(("Fn::Select", Value::Array(of))) => {
                    let index: usize = self.text(of.first()?).parse().ok()?;
                    self.filled(of.get(1)?)?.get(index).cloned()
                }
                Some(("Fn::If", Value::Array(of))) => {
                    let mut of = of.iter();
                    let condition = self.template.conditions.get(of.next()?.as_str()?)?;
                    let (then, otherwise) = (of.next()?, of.next()?);
                    self.filled(if self.holds(condition) { then } else { otherwise })
                }
                _ => {
                    let fields = fields.iter().filter_map(|(name, value)| Some((name.clone(), self.filled(value)?)));
                    Some(Value::Object(fields.collect()))
                }
            },
            scalar => Some(scalar.clone()),
        }
    }

    fn text(&self, value: &Value) -> String {
        match self.filled(value) {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    fn reference(&self, name: &str) -> Option<Value> {
        let guard = self.guard;
        Some(match name {
            "AWS::NoValue" => return None,
            "AWS::AccountId" => guard.account.clone().into(),
            "AWS::Partition" => guard.region.partition().name.into(),
            "AWS::Region" => guard.region.as_str().into(),
            "AWS::StackId" => guard.stack_id.clone().into(),
            "AWS::StackName" => guard.stack.clone().into(),
            _ => match (self.template.parameters.get(name), guard.parameters.get(name)) {
                (Some(_), Some(value)) => value.clone().into(),
                (Some(parameter), None) => parameter.default.clone(),
                (None, _) => guard.id(name).map_or_else(|| format!("<{name}>"), str::to_owned).into(),
            },
        })
    }

    fn attribute(&self, logical: &str, attribute: &str) -> String {
        let guard = self.guard;
        let kind = self.template.resources.get(logical).map(|resource| resource.r#type.as_str());
        let Some(id) = guard.id(logical) else { return format!("<{logical}.{attribute}>") };
        let last = id.rsplit(['/', ':', '|']).next().unwrap_or(id);
        match (kind.unwrap_or_default(), attribute) {
            ("AWS::SQS::Queue", "QueueName") => last.to_owned(),
            ("AWS::SQS::Queue", "Arn") => guard.arn("sqs", last),
            ("AWS::Lambda::Function", "Arn") => guard.arn("lambda", &format!("function:{id}")),
            ("AWS::IAM::Role", "Arn") => {
                format!("arn:{}:iam::{}:role/{id}", guard.region.partition().name, guard.account)
            }
            ("AWS::CloudWatch::Alarm", "Arn") => guard.arn("cloudwatch", &format!("alarm:{id}")),
            ("AWS::Events::EventBus", "Arn") => guard.arn("events", &format!("event-bus/{id}")),
            _ => format!("<{logical}.{attribute}>"),
        }
    }

    /// `${Name}`, `${Name.Attribute}` and what the function names itself.
    fn substituted(&self, of: &Value) -> String {
        let (text, own) = match of {
            Value::Array(of) => (of.first().and_then(Value::as_str), of.get(1).and_then(Value::as_object)),
            text => (text.as_str(), None),
        };
        let mut rest = text.unwrap_or_default();
        let mut filled = String::new();
        while let Some((before, after)) = rest.split_once("${") {
            let Some((named, after)) = after.split_once('}') else { break };
            filled.push_str(before);
            match (own.and_then(|own| own.get(named)), named.split_once('.')) {
                (Some(value), _) => filled.push_str(&self.text(value)),
                (None, Some((logical, attribute))) => filled.push_str(&self.attribute(logical, attribute)),
                (None, None) => filled.push_str(&self.reference(named).map_or(String::new(), |value| match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                })),
            }
            rest = after;
        }
        filled + rest
    }
}

/// The only field of an object, as CloudFormation's functions have.
fn only(value: &Value) -> Option<(&str, &Value)> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    fields.iter().next().map(|(name, value)| (name.as_str(), value))
}

/// A property for a sentence.
pub(super) fn shown(value: Option<&Value>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(Value::String(text)) => name(text, 256),
        Some(other) => name(&other.to_string(), 256),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::coverage::{Check, StackResource};
    use serde_json::json;

    /// A stack with all that the template has, named as CloudFormation names it.
    fn deployed(template: &Template, parameters: &[(&str, &str)]) -> Stack {
        let mut guard = Stack::example(parameters);
        for (logical, resource) in &template.resources {
            let made = format!("kms-key-guard-{logical}-1A2B3C4D5E6F");
            let id = match resource.r#type.as_str() {
                "AWS::SQS::Queue" => {
                    let kind = if logical == "SelfCheckQueue" { ".fifo" } else { "" };
                    format!("https://sqs.eu-west-1.amazonaws.com/111122223333/{made}{kind}")
                }
                "AWS::SNS::Topic" => format!("arn:aws:sns:eu-west-1:111122223333:{made}"),
                _ => made,
            };
            guard.resources.insert(logical.clone(), StackResource { kind: resource.r#type.clone(), id });
        }
        guard
    }

    /// A guard with these parameters.
    pub(in crate::coverage) fn guard(parameters: &[(&str, &str)]) -> Stack {
        deployed(&TEMPLATES.guard, parameters)
    }

    /// Its parts, by this version's template.
    pub(in crate::coverage) fn parts_of(guard: &Stack) -> Parts {
        Parts::compared(guard, None)
    }

    fn parts(template: &Template, parameters: &[(&str, &str)]) -> BTreeMap<String, Part> {
        Scope { template, guard: &deployed(template, parameters) }.parts()
    }

    /// The guard's own template, with one part changed.
    fn other(logical: &str, property: &str, value: Value) -> Template {
        let mut all: Templates = serde_json::from_str(include_str!("expected.json")).unwrap();
        all.guard.resources.get_mut(logical).unwrap().properties.insert(property.into(), value);
        all.guard
    }

    const HUB: [(&str, &str); 5] = [
        ("OrganizationId", "o-a1b2c3d4e5"),
        ("ReportDeniedAttempts", "true"),
        ("ReportLostKeyUse", "true"),
        ("CloudTrailLogGroupName", "trail"),
        ("AlarmActionArn", "arn:aws:sns:eu-west-1:111122223333:on-call"),
    ];
    const SPOKE: [(&str, &str); 6] = [
        ("HubAccountId", "444455556666"),
        ("HubRegion", "eu-central-1"),
        ("HubRoleName", "alert"),
        ("HomeRegion", "eu-west-1"),
        ("ReportDeniedAttempts", "true"),
        ("ReportLostKeyUse", "true"),
    ];

    #[test]
    fn every_reference_and_function_of_the_templates_is_filled_in() {
        let hub = parts(&TEMPLATES.guard, &HUB);
        let spoke = parts(&TEMPLATES.spoke, &SPOKE);
        assert!(hub.len() > 70 && spoke.len() > 10, "{} {}", hub.len(), spoke.len());
        for (logical, part) in hub.iter().chain(&spoke) {
            let text = Value::from(part.properties.clone()).to_string();
            for left in ["Fn::", "\"Ref\"", "<Alert", "<Watch", "<Hub", ".Arn>", "${"] {
                assert!(!text.contains(left), "{logical}: {text}");
            }
            if let Some(Value::String(pattern)) = part.properties.get("EventPattern") {
                assert!(serde_json::from_str::<Value>(pattern).is_ok(), "{logical}: {pattern}");
            }
        }
    }

    #[test]
    fn parameters_decide_which_parts_there_are_and_what_they_say() {
        let single = parts(&TEMPLATES.guard, &[]);
        assert!(!single.contains_key("HubApiCallRule") && !single.contains_key("LostKeyUseRule"));
        let schedule = &single["SweepSchedule"].properties;
        assert_eq!(schedule["ScheduleExpression"], "cron(0 6 * * ? *)");
        assert_eq!(
            schedule["Target"]["Arn"],
            "arn:aws:lambda:eu-west-1:111122223333:function:kms-key-guard-WatchFunction-1A2B3C4D5E6F"
        );
        let later = parts(&TEMPLATES.guard, &[("SweepHour", "23"), ("ExistingAlertsTopicArn", "arn:aws:sns:x")]);
        assert_eq!(later["SweepSchedule"].properties["ScheduleExpression"], "cron(0 23 * * ? *)");
        assert_eq!(later["AlertErrorAlarm"].properties["AlarmActions"], json!(["arn:aws:sns:x"]));
        assert!(parts(&TEMPLATES.spoke, &[("HubAccountId", "111122223333"), ("HubRegion", "eu-west-1")]).len() < 10);
    }

    #[test]
    fn stack_as_this_version_deploys_it_has_no_difference() {
        for parameters in [&[][..], &HUB] {
            let guard = deployed(&TEMPLATES.guard, parameters);
            let same = serde_json::from_str::<Templates>(include_str!("expected.json")).unwrap().guard;
            let parts = Parts::compared(&guard, Some(same));
            assert_eq!(parts.differences, Vec::<String>::new());
            assert!(parts.look(&guard).is_empty());
        }
    }

    #[test]
    fn what_another_version_deployed_is_an_update_and_no_drift() {
        let mut guard = deployed(&TEMPLATES.guard, &[]);
        guard.resources.remove("WatchSilentAlarm");
        let own = other("AlertFunctionKmsEventRule", "EventPattern", json!({"source": ["aws.kms"]}));
        let found = Parts::compared(&guard, Some(own));
        let look = Check::of(&crate::coverage::stack::DEPLOYED, found.look(&guard));
        assert_eq!(look.verdict.name(), "fail");
        let text = look.verdict.text();
        assert!(text.contains("AlertFunctionKmsEventRule has another EventPattern"), "{text}");
        assert!(text.contains("it lacks WatchSilentAlarm (AWS::CloudWatch::Alarm)"), "{text}");
        assert!(look.fix[0].what.contains("make deploy"));
        let rule = &found.parts["AlertFunctionKmsEventRule"];
        assert_eq!(rule.properties["EventPattern"], json!({"source": ["aws.kms"]}));
        guard.status = "UPDATE_IN_PROGRESS".into();
        assert!(found.look(&guard).is_empty());
    }

    #[test]
    fn without_the_stacks_own_template_this_versions_counts() {
        let guard = deployed(&TEMPLATES.guard, &[]);
        let found = Parts {
            unreadable: Some("no permission for cloudformation:GetTemplate".into()),
            ..Parts::compared(&guard, None)
        };
        let look = Check::of(&crate::coverage::stack::DEPLOYED, found.look(&guard));
        assert_eq!(look.verdict.name(), "unknown");
        assert!(look.verdict.text().ends_with("isn't known: no permission for cloudformation:GetTemplate."));
        assert!(found.parts.contains_key("ApiCallRule"));
    }

    #[test]
    fn difference_is_named_by_its_place() {
        let wanted = json!({"detail": {"eventName": ["A", "B"], "eventSource": ["kms"]}});
        let place = |found: Value| place_of_difference(&wanted, &found);
        assert_eq!(place(json!({"detail": {"eventSource": ["kms"], "eventName": ["A", "B"]}})), None);
        assert_eq!(place(json!({"detail": {"eventName": ["A"], "eventSource": ["kms"]}})).unwrap(), "detail.eventName");
        let narrower = json!({"detail": {"eventName": ["A", "B"], "eventSource": ["kms"], "awsRegion": ["x"]}});
        assert_eq!(place(narrower).unwrap(), "detail.awsRegion");
        assert_eq!(place_of_difference(&json!("1"), &json!(1.0)), None);
        assert_eq!(place_of_difference(&json!("true"), &json!(true)), None);
        assert_eq!(place_of_difference(&json!({"a": 1}), &json!("{\"a\":1}")), None);
        assert!(place_of_difference(&json!(1), &json!(100_000)).is_some());
    }

    #[test]
    fn restoring_keeps_every_parameter_and_is_pasted_as_it_is() {
        let guard = Stack::example(&[("AlertEmail", "a@example.com"), ("SweepHour", "6")]);
        let check =
            Check::of(&crate::coverage::stack::DEPLOYED, vec![restore(Observation::fail("It is gone."), &guard)]);
        let commands: Vec<_> = check.fix.iter().filter_map(|step| step.command.as_deref()).collect();
        assert_eq!(commands.len(), 4);
        assert_eq!(
            commands[0],
            "aws cloudformation create-change-set --region eu-west-1 --stack-name kms-key-guard --change-set-name restore-0 --use-previous-template --deployment-mode REVERT_DRIFT --capabilities CAPABILITY_NAMED_IAM --parameters ParameterKey=AlertEmail,UsePreviousValue=true ParameterKey=SweepHour,UsePreviousValue=true"
        );
    }
}
