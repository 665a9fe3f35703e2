//! Calls that switch off a part of the guard, or what it sees by.
//!
//! The template's rules let through what names a part of the guard, and every call on a trail; here the call is looked at
//! again. What can't change anything for the guard is silence, and what sets a part to what the template says puts it back;
//! a record that doesn't tell is taken for the worst.

use serde_json::Value;

use crate::escape::{inert, name};
use crate::event::Record;
use crate::finding::Step;
use crate::json::{array, text, truth};
use crate::key::{Region, is_account_id};
use crate::own::{Likeness, OwnStack, Spot};
use crate::trail_selectors::{Management, Selectors};

/// What a call did to the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tampering {
    /// What kind of thing it was done to, in CloudFormation's words.
    pub kind: &'static str,
    /// Which one; `unknown` if the record holds no name that can be trusted.
    pub part: String,
    /// What happened to it, for the Subject.
    pub happened: String,
    /// What the part is afterwards.
    pub effect: Effect,
    /// Sentences; caller-chosen parts are already inert.
    pub particulars: Vec<String>,
    /// The way back, in order.
    pub remedy: Vec<Step>,
}

/// What a call leaves of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is off, or not what it was.
    Harm,
    /// Whether it still does its work the record alone doesn't tell.
    Unclear,
    /// It is what the template says.
    PutBack,
}

/// The kinds of parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GuardPart {
    Rule,
    Function,
    Topic,
    Subscription,
    Queue,
    Alarm,
    Schedule,
    Role,
    LogGroup,
    Stack,
    EventBus,
    StackSet,
    Trail,
}

impl GuardPart {
    fn kind(self) -> &'static str {
        match self {
            Self::Rule => "AWS::Events::Rule",
            Self::Function => "AWS::Lambda::Function",
            Self::Topic => "AWS::SNS::Topic",
            Self::Subscription => "AWS::SNS::Subscription",
            Self::Queue => "AWS::SQS::Queue",
            Self::Alarm => "AWS::CloudWatch::Alarm",
            Self::Schedule => "AWS::Scheduler::Schedule",
            Self::Role => "AWS::IAM::Role",
            Self::LogGroup => "AWS::Logs::LogGroup",
            Self::Stack => "AWS::CloudFormation::Stack",
            Self::EventBus => "AWS::Events::EventBus",
            Self::StackSet => "AWS::CloudFormation::StackSet",
            Self::Trail => "AWS::CloudTrail::Trail",
        }
    }

    /// What happened to one that is again what the template says.
    fn put_back(self) -> &'static str {
        match self {
            Self::Rule => "rule put back",
            Self::Function => "function's handling of failures put back",
            Self::Topic => "topic put back",
            Self::Subscription => "subscription's filter taken off",
            Self::Queue => "queue put back",
            _ => "part put back",
        }
    }
}

/// What a call that succeeded did to the guard, by its `requestParameters`; None if nothing. Without the stack that the guard
/// is, nothing is known to be put back, and any name is taken for the guard's.
pub fn judge(record: &Record, request: &Value, own: Option<&OwnStack>) -> Option<Tampering> {
    let call = Call { action: action(&record.event_name), request };
    let (.., part, field, happened) = *call.row(record.event_source.strip_suffix(".amazonaws.com")?)?;
    let is_own = |given: &str| own.is_none_or(|own| part == GuardPart::Trail || own.has(called(part, given)));
    let given = call.name_of(part, field, is_own);
    let mut particulars = Vec::new();
    let trusted = given.as_deref().filter(|given| is_word(given));
    match (&given, trusted) {
        (Some(given), None) => particulars
            .push(format!("The record names it {}, which isn't a name that can be trusted.", name(given, 256))),
        (Some(_), Some(other)) if !is_own(other) => {
            particulars.push("That is no name of this guard's stack, so no command is given for it.".to_owned())
        }
        (Some(_), _) => {}
        (None, _) if !request.is_object() => {
            particulars.push("The record doesn't hold what the call asked for, nor which one it was about.".to_owned());
        }
        (None, _) => particulars.push("The record doesn't say which one.".to_owned()),
    }
    let region = record.region.as_deref().and_then(|region| region.parse::<Region>().ok());
    let place = region.as_ref().zip(record.recipient_account.as_deref().filter(|account| is_account_id(account)));
    let effect = match (own, place, trusted) {
        (_, _, Some(_)) if call.action == "Unsubscribe" => Effect::Unclear,
        (Some(own), Some((region, account)), Some(given)) if is_own(given) => {
            match own.restored(call.action, called(part, given), request, Spot { account, region }) {
                Likeness::Same => Effect::PutBack,
                Likeness::Alike => Effect::Unclear,
                Likeness::Other => Effect::Harm,
            }
        }
        _ => Effect::Harm,
    };
    particulars.extend(call.details());
    match effect {
        Effect::Harm => {}
        Effect::Unclear if call.action == "Unsubscribe" => particulars.push(
            "The record holds the subscription's ARN and not whose it was: keyguard doctor and the self-check tell whether severe alerts still reach somebody.".to_owned(),
        ),
        Effect::Unclear => particulars.push(
            "That is what the template says, as far as the record tells; keyguard doctor and the self-check compare the rest.".to_owned(),
        ),
        Effect::PutBack => particulars.push("That is what the guard's template says.".to_owned()),
    }
    let command_for = trusted.filter(|given| is_own(given));
    Some(Tampering {
        kind: part.kind(),
        part: trusted.map_or("unknown", |given| short(part, given)).to_owned(),
        happened: if effect == Effect::PutBack { part.put_back() } else { happened }.to_owned(),
        effect,
        particulars,
        remedy: remedy(part, call.action, command_for, effect, region.as_ref()),
    })
}

/// The API's name of an operation: Lambda's carry the API's version, as in `UpdateFunctionCode20150331v2`.
/// <https://docs.aws.amazon.com/lambda/latest/dg/logging-using-cloudtrail.html>
fn action(event_name: &str) -> &str {
    event_name.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default()
}

/// When a call counts, by its parameters; one that the record doesn't hold may be anything.
#[derive(Clone, Copy)]
enum When {
    Any,
    /// The field is this text.
    Has(&'static str, &'static str),
    /// The field is this truth value, and the record says so.
    Is(&'static str, bool),
    /// The field isn't this truth value, or the record doesn't say so.
    IsNot(&'static str, bool),
    /// `attributeName` is this one.
    Sets(&'static str),
    /// The trail's new selectors don't log the deletion of keys.
    LeavesKmsOut,
    /// The trail's new selectors aren't in the record.
    HoldsNoSelectors,
}

/// A call that switches a part off: service, operation, when it counts, the part, the field with its name, and what
/// happened to it.
type WatchedCall = (&'static str, &'static str, When, GuardPart, &'static str, &'static str);

/// The calls, read beside docs/detections.md, which a test compares with it; the first row that fits counts.
#[rustfmt::skip]
static CALLS: [WatchedCall; 56] = [
    ("events", "DisableRule", When::Any, GuardPart::Rule, "name", "rule disabled"),
    ("events", "DeleteRule", When::Any, GuardPart::Rule, "name", "rule deleted"),
    ("events", "PutRule", When::Has("state", "DISABLED"), GuardPart::Rule, "name", "rule disabled"),
    ("events", "PutRule", When::Any, GuardPart::Rule, "name", "rule changed"),
    ("events", "RemoveTargets", When::Any, GuardPart::Rule, "rule", "rule's targets removed"),
    ("events", "PutTargets", When::Any, GuardPart::Rule, "rule", "rule's targets changed"),
    ("lambda", "DeleteFunction", When::Any, GuardPart::Function, "functionName", "function deleted"),
    ("lambda", "PutFunctionConcurrency", When::Any, GuardPart::Function, "functionName", "function throttled"),
    ("lambda", "UpdateFunctionCode", When::IsNot("dryRun", true), GuardPart::Function, "functionName", "function's code replaced"),
    ("lambda", "UpdateFunctionConfiguration", When::Any, GuardPart::Function, "functionName", "function's settings changed"),
    ("lambda", "RemovePermission", When::Any, GuardPart::Function, "functionName", "function's permission removed"),
    ("lambda", "PutFunctionEventInvokeConfig", When::Any, GuardPart::Function, "functionName", "function's handling of failures changed"),
    ("lambda", "UpdateFunctionEventInvokeConfig", When::Any, GuardPart::Function, "functionName", "function's handling of failures changed"),
    ("lambda", "DeleteFunctionEventInvokeConfig", When::Any, GuardPart::Function, "functionName", "function's handling of failures changed"),
    ("sns", "DeleteTopic", When::Any, GuardPart::Topic, "topicArn", "topic deleted"),
    ("sns", "RemovePermission", When::Any, GuardPart::Topic, "topicArn", "topic's policy changed"),
    ("sns", "SetTopicAttributes", When::Sets("Policy"), GuardPart::Topic, "topicArn", "topic's policy changed"),
    ("sns", "SetTopicAttributes", When::Sets("KmsMasterKeyId"), GuardPart::Topic, "topicArn", "topic's encryption changed"),
    ("sns", "Unsubscribe", When::Any, GuardPart::Subscription, "subscriptionArn", "subscription removed"),
    ("sns", "SetSubscriptionAttributes", When::Sets("FilterPolicy"), GuardPart::Subscription, "subscriptionArn", "subscription filtered"),
    ("sns", "SetSubscriptionAttributes", When::Sets("FilterPolicyScope"), GuardPart::Subscription, "subscriptionArn", "subscription filtered"),
    ("sqs", "DeleteQueue", When::Any, GuardPart::Queue, "queueUrl", "queue deleted"),
    ("sqs", "PurgeQueue", When::Any, GuardPart::Queue, "queueUrl", "queue emptied"),
    ("sqs", "SetQueueAttributes", When::Any, GuardPart::Queue, "queueUrl", "queue's settings changed"),
    ("sqs", "RemovePermission", When::Any, GuardPart::Queue, "queueUrl", "queue's policy changed"),
    ("monitoring", "DeleteAlarms", When::Any, GuardPart::Alarm, "alarmNames", "alarm deleted"),
    ("monitoring", "DisableAlarmActions", When::Any, GuardPart::Alarm, "alarmNames", "alarm silenced"),
    ("monitoring", "PutMetricAlarm", When::Any, GuardPart::Alarm, "alarmName", "alarm changed"),
    ("monitoring", "PutCompositeAlarm", When::Any, GuardPart::Alarm, "alarmName", "alarm replaced"),
    ("monitoring", "PutLogAlarm", When::Any, GuardPart::Alarm, "alarmName", "alarm replaced"),
    ("monitoring", "PutAlarmMuteRule", When::Any, GuardPart::Alarm, "alarmNames", "alarm muted"),
    ("scheduler", "DeleteSchedule", When::Any, GuardPart::Schedule, "name", "schedule deleted"),
    ("scheduler", "UpdateSchedule", When::Has("state", "DISABLED"), GuardPart::Schedule, "name", "schedule disabled"),
    ("scheduler", "UpdateSchedule", When::Any, GuardPart::Schedule, "name", "schedule changed"),
    ("iam", "DeleteRole", When::Any, GuardPart::Role, "roleName", "role deleted"),
    ("iam", "UpdateAssumeRolePolicy", When::Any, GuardPart::Role, "roleName", "role's trust changed"),
    ("iam", "AttachRolePolicy", When::Any, GuardPart::Role, "roleName", "role's permissions changed"),
    ("iam", "DetachRolePolicy", When::Any, GuardPart::Role, "roleName", "role's permissions changed"),
    ("iam", "PutRolePolicy", When::Any, GuardPart::Role, "roleName", "role's permissions changed"),
    ("iam", "DeleteRolePolicy", When::Any, GuardPart::Role, "roleName", "role's permissions changed"),
    ("iam", "PutRolePermissionsBoundary", When::Any, GuardPart::Role, "roleName", "role's permissions changed"),
    ("logs", "DeleteLogGroup", When::Any, GuardPart::LogGroup, "logGroupName", "log deleted"),
    ("cloudformation", "DeleteStack", When::Any, GuardPart::Stack, "stackName", "stack deleted"),
    ("events", "DeleteEventBus", When::Any, GuardPart::EventBus, "name", "event bus deleted"),
    ("events", "UpdateEventBus", When::Any, GuardPart::EventBus, "name", "event bus changed"),
    ("events", "PutPermission", When::Any, GuardPart::EventBus, "eventBusName", "event bus's policy changed"),
    ("events", "RemovePermission", When::Any, GuardPart::EventBus, "eventBusName", "event bus's policy changed"),
    ("cloudformation", "DeleteStackSet", When::Any, GuardPart::StackSet, "stackSetName", "StackSet deleted"),
    ("cloudformation", "DeleteStackInstances", When::Any, GuardPart::StackSet, "stackSetName", "spokes removed"),
    ("cloudformation", "UpdateStackSet", When::Any, GuardPart::StackSet, "stackSetName", "StackSet changed"),
    ("cloudtrail", "StopLogging", When::Any, GuardPart::Trail, "name", "trail stopped"),
    ("cloudtrail", "DeleteTrail", When::Any, GuardPart::Trail, "name", "trail deleted"),
    ("cloudtrail", "PutEventSelectors", When::LeavesKmsOut, GuardPart::Trail, "trailName", "trail no longer records KMS"),
    ("cloudtrail", "PutEventSelectors", When::HoldsNoSelectors, GuardPart::Trail, "trailName", "trail may no longer record KMS"),
    ("cloudtrail", "UpdateTrail", When::Is("isMultiRegionTrail", false), GuardPart::Trail, "name", "trail covers less"),
    ("cloudtrail", "UpdateTrail", When::Is("isOrganizationTrail", false), GuardPart::Trail, "name", "trail covers less"),
];

/// Service and operation of every call that can switch a part off, in the table's order.
pub fn calls() -> impl Iterator<Item = (&'static str, &'static str)> {
    CALLS.iter().map(|(service, action, ..)| (*service, *action))
}

/// Whether a call can switch off a trail, or any part.
pub fn is_watched(event_source: &str, event_name: &str, every_part: bool) -> bool {
    let Some(of) = event_source.strip_suffix(".amazonaws.com") else { return false };
    (every_part || of == "cloudtrail") && {
        let called = action(event_name);
        calls().any(|(service, action)| service == of && action == called)
    }
}

/// The parts that a call names: as it does, and by their own names. For whoever has to tell a guard's parts from others;
/// EventBridge's rules have done that for the functions.
pub fn names(record: &Record, request: &Value) -> Vec<String> {
    let call = Call { action: action(&record.event_name), request };
    let row = record.event_source.strip_suffix(".amazonaws.com").and_then(|service| call.row(service));
    let Some((.., part, field, _)) = row else { return Vec::new() };
    let given = if *part == GuardPart::Alarm { call.texts(field) } else { call.text(field).into_iter().collect() };
    let own = given.iter().map(|given| short(*part, given).to_owned());
    own.chain(call.name_of(*part, field, |_| true)).chain(given.iter().cloned()).collect()
}

/// A call by its operation and its parameters.
struct Call<'a> {
    action: &'a str,
    request: &'a Value,
}

impl Call<'_> {
    fn text(&self, field: &str) -> Option<String> {
        text(self.request, field)
    }

    /// The row of the table that this call of a service is; None if it switches nothing off.
    fn row(&self, service: &str) -> Option<&'static WatchedCall> {
        let mut rows = CALLS.iter().filter(|(of, action, ..)| *of == service && *action == self.action);
        rows.find(|(_, _, when, ..)| self.counts(*when))
    }

    fn counts(&self, when: When) -> bool {
        match when {
            When::Any => true,
            When::Has(field, value) => self.text(field).as_deref() == Some(value),
            When::Is(field, value) => truth(self.request, field) == Some(value),
            When::IsNot(field, value) => truth(self.request, field) != Some(value),
            When::Sets(attribute) => self.text("attributeName").is_none_or(|set| set == attribute),
            When::LeavesKmsOut => {
                Selectors::of_request(self.request).is_some_and(|selectors| !selectors.log(Management::KEY_DELETION))
            }
            When::HoldsNoSelectors => Selectors::of_request(self.request).is_none(),
        }
    }

    /// The part's name as the record has it, out of an ARN or a URL; of a list the first that is the guard's.
    fn name_of(&self, part: GuardPart, field: &str, is_own: impl Fn(&str) -> bool) -> Option<String> {
        match part {
            GuardPart::Alarm if field == "alarmNames" => {
                let alarms = self.alarms();
                alarms.iter().find(|alarm| is_own(alarm)).or(alarms.first()).cloned()
            }
            GuardPart::Queue => Some(self.text(field)?.rsplit('/').next()?.to_owned()),
            GuardPart::Function => Some(function_name(&self.text(field)?).to_owned()),
            _ => self.text(field),
        }
    }

    /// What the call set or named, in sentences.
    fn details(&self) -> Vec<String> {
        let set =
            |what: &str, field: &str| Some(format!("{what}: {}.", self.text(field).map(|text| inert(&text, 300))?));
        let sentence = match self.action {
            "PutFunctionConcurrency" => {
                crate::json::number(self.request, "reservedConcurrentExecutions").map(|most| match most {
                    0 => "From now on it can't run at all.".to_owned(),
                    most => format!("From now on at most {most} of it run at a time."),
                })
            }
            "PutRule" => set("Its pattern is now", "eventPattern"),
            "SetTopicAttributes" | "SetSubscriptionAttributes" => set("Its new value", "attributeValue"),
            "RemoveTargets" => list("Removed", &self.texts("ids")),
            "PutTargets" => {
                let targets = array(self.request.get("targets")).filter_map(|target| text(target, "arn"));
                list("It now sends to", &targets.collect::<Vec<_>>())
            }
            "DeleteAlarms" | "DisableAlarmActions" | "PutAlarmMuteRule" => list("The call named", &self.alarms()),
            "DeleteStackInstances" => list("In these Regions", &self.texts("regions")),
            "SetQueueAttributes" => {
                let attributes = self.request.get("attributes").and_then(Value::as_object);
                list(
                    "The call set",
                    &attributes.into_iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
                )
            }
            "DetachRolePolicy" | "AttachRolePolicy" => set("The policy", "policyArn"),
            "DeleteRolePolicy" | "PutRolePolicy" => set("The policy", "policyName"),
            "StopLogging" | "DeleteTrail" | "PutEventSelectors" | "UpdateTrail" => Some(
                "Another trail may still cover this account and Region: keyguard doctor shows whether one does."
                    .to_owned(),
            ),
            "PurgeQueue" => Some("What was in it is gone: events whose alerts never went out.".to_owned()),
            _ => None,
        };
        sentence.into_iter().collect()
    }

    fn texts(&self, field: &str) -> Vec<String> {
        texts(self.request.get(field))
    }

    /// The alarms that a call on several names.
    fn alarms(&self) -> Vec<String> {
        let muted = self.request.get("muteTargets").and_then(|targets| targets.get("alarmNames"));
        texts(muted.or_else(|| self.request.get("alarmNames")))
    }
}

fn texts(list: Option<&Value>) -> Vec<String> {
    array(list).filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// The first of the names, each inert.
fn list(what: &str, names: &[String]) -> Option<String> {
    /// How many are shown.
    const MOST: usize = 10;
    let shown: Vec<_> = names.iter().take(MOST).map(|text| name(text, 256)).collect();
    let more = if names.len() > MOST { format!(" and {} more", names.len() - MOST) } else { String::new() };
    (!shown.is_empty()).then(|| format!("{what}: {}{more}.", shown.join(", ")))
}

/// Whether the text can stand in a command as it is: what names and ARNs of AWS are made of.
fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:".contains(&b);
    // A leading hyphen would make it an option, and `file://` a file's content.
    (1..=512).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-') && !text.contains("//")
}

/// A function's name in every spelling that Lambda takes: with or without ARN, Region, account, `function` and qualifier.
/// <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html>
fn function_name(given: &str) -> &str {
    let mut parts = given.rsplit(':');
    let last = parts.next().unwrap_or_default();
    match parts.next() {
        None | Some("function" | "lambda") => last,
        Some(before) if is_account_id(before) || before.parse::<Region>().is_ok() => last,
        // A version, an alias or $LATEST.
        Some(name) => name,
    }
}

/// What a part is known by as the guard's.
fn called(part: GuardPart, given: &str) -> &str {
    match part {
        GuardPart::Topic | GuardPart::Subscription => given,
        GuardPart::LogGroup => given.rsplit('/').next().unwrap_or(given),
        part => short(part, given),
    }
}

/// The part's own name, where a call may give its ARN.
fn short(part: GuardPart, given: &str) -> &str {
    match part {
        GuardPart::Subscription => given.splitn(6, ':').nth(5).unwrap_or(given),
        GuardPart::Topic => given.rsplit(':').next().unwrap_or(given),
        GuardPart::Trail => given.rsplit('/').next().unwrap_or(given),
        GuardPart::Stack => given.split('/').nth(1).unwrap_or(given),
        // NAME or NAME:ID.
        GuardPart::StackSet => given.split(':').next().unwrap_or(given),
        _ => given,
    }
}

/// What puts it back: the command for this very call where there is one, and what doctor says.
fn remedy(part: GuardPart, action: &str, given: Option<&str>, effect: Effect, region: Option<&Region>) -> Vec<Step> {
    let mut steps = Vec::new();
    if effect != Effect::PutBack {
        steps.extend(given.zip(region).and_then(|(given, region)| back(part, action, given, region)));
        steps.extend(match part {
            GuardPart::Stack => Some("Deploy it again: sam deploy, with the parameters it had."),
            _ if action == "PurgeQueue" => {
                Some("Run the hours since the queue was last empty through keyguard replay, from the trail's bucket.")
            }
            GuardPart::StackSet => {
                Some("Roll the spokes out again: docs/organization.md, step 3, with the parameters it had.")
            }
            GuardPart::Trail => None,
            _ => Some(
                "What else was changed CloudFormation puts back, in a change set with --deployment-mode REVERT_DRIFT: keyguard doctor prints the commands.",
            ),
        }
        .map(Step::say));
    }
    let region = region.map_or(String::new(), |region| format!(" --region {region}"));
    steps.push(Step::run(
        "See whether the guard works and its alerts reach someone:",
        format!("keyguard doctor{region}"),
    ));
    steps
}

/// The command that undoes this very call, if one does.
fn back(part: GuardPart, action: &str, given: &str, region: &Region) -> Option<Step> {
    let name = short(part, given);
    // ARNs, which only some commands take, stay as they were given.
    Some(match (part, action) {
        (GuardPart::Rule, "DisableRule" | "PutRule") => {
            Step::run("Enable the rule:", format!("aws events enable-rule --region {region} --name {name}"))
        }
        (GuardPart::Function, "PutFunctionConcurrency") => Step::run(
            "Let the function run again:",
            format!("aws lambda delete-function-concurrency --region {region} --function-name {name}"),
        ),
        (GuardPart::Alarm, "DisableAlarmActions") => Step::run(
            "Enable the alarm's actions:",
            format!("aws cloudwatch enable-alarm-actions --region {region} --alarm-names {name}"),
        ),
        (GuardPart::Alarm, "PutAlarmMuteRule") => Step::run(
            "See which rules mute the alarm, and delete them (aws cloudwatch delete-alarm-mute-rule):",
            format!("aws cloudwatch list-alarm-mute-rules --region {region} --alarm-name {name}"),
        ),
        (GuardPart::EventBus, "PutPermission" | "RemovePermission") => Step::run(
            "See who may send to the bus; it is the organization alone:",
            format!("aws events describe-event-bus --region {region} --name {name}"),
        ),
        (GuardPart::Subscription, "Unsubscribe") => Step::run(
            "See who is still subscribed, and subscribe whoever is missing (aws sns subscribe):",
            format!("aws sns list-subscriptions-by-topic --region {region} --topic-arn {}", given.rsplit_once(':')?.0),
        ),
        (GuardPart::Subscription, _) => Step::run(
            "See what the subscriber still gets; an empty filter policy lets everything through again (aws sns set-subscription-attributes):",
            format!("aws sns get-subscription-attributes --region {region} --subscription-arn {given}"),
        ),
        (GuardPart::Trail, "StopLogging") => {
            Step::run("Start the trail:", format!("aws cloudtrail start-logging --region {region} --name {given}"))
        }
        (GuardPart::Trail, "PutEventSelectors") => Step::run(
            "Let the trail log every management event. This replaces all its selectors, so add those for data events that it had:",
            format!(
                r#"aws cloudtrail put-event-selectors --region {region} --trail-name {given} --event-selectors '[{{"ReadWriteType":"All","IncludeManagementEvents":true}}]'"#
            ),
        ),
        (GuardPart::Trail, "UpdateTrail") => Step::run(
            "Let the trail cover every Region (and the organization, if it did: --is-organization-trail):",
            format!("aws cloudtrail update-trail --region {region} --name {given} --is-multi-region-trail"),
        ),
        (GuardPart::Trail, "DeleteTrail") => Step::say(
            "Make the trail again (aws cloudtrail create-trail, start-logging), with every Region and all management events.",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use serde_json::json;

    fn judged_for(own: Option<&OwnStack>, service: &str, event_name: &str, request: Value) -> Option<Tampering> {
        let event = Event::from_value(json!({
            "source": format!("aws.{service}"), "detail-type": "AWS API Call via CloudTrail",
            "detail": {
                "eventSource": format!("{service}.amazonaws.com"), "eventName": event_name, "awsRegion": "eu-west-1",
                "recipientAccountId": "111122223333", "requestParameters": request,
            },
        }));
        judge(event.record().unwrap(), &event.raw["requestParameters"], own)
    }

    fn judged(service: &str, event_name: &str, request: Value) -> Option<Tampering> {
        judged_for(None, service, event_name, request)
    }

    /// As the alert function of the stack kms-key-guard judges it.
    fn judged_by(service: &str, event_name: &str, request: Value) -> Option<Tampering> {
        let arn = |topic| format!("arn:aws:sns:eu-west-1:111122223333:kms-key-guard-{topic}");
        let topics = ["alerts", "findings", "chat"].map(arn);
        let own =
            OwnStack { stack: "kms-key-guard".into(), function: "kms-key-guard-AlertFunction-1A2B".into(), topics };
        judged_for(Some(&own), service, event_name, request)
    }

    fn commands(tampering: &Tampering) -> Vec<&str> {
        tampering.remedy.iter().filter_map(|step| step.command.as_deref()).collect()
    }

    #[test]
    fn function_is_known_however_the_call_names_it() {
        for prefix in [
            "",
            "function:",
            "111122223333:",
            "111122223333:function:",
            "eu-west-1:111122223333:",
            "eu-west-1:111122223333:function:",
            "arn:aws:lambda:eu-west-1:111122223333:function:",
        ] {
            for qualifier in ["", ":$LATEST", ":1", ":live"] {
                let given = format!("{prefix}kms-key-guard-AlertFunction-1A2B{qualifier}");
                let request = json!({"functionName": given});
                let done = judged_by("lambda", "PutFunctionConcurrency20171031", request).unwrap();
                assert_eq!((done.kind, &*done.part), ("AWS::Lambda::Function", "kms-key-guard-AlertFunction-1A2B"));
                assert_eq!(
                    commands(&done)[0],
                    "aws lambda delete-function-concurrency --region eu-west-1 --function-name kms-key-guard-AlertFunction-1A2B",
                    "{given}"
                );
            }
        }
    }

    #[test]
    fn name_that_is_not_the_guards_reaches_no_command() {
        for (service, call, request) in [
            ("lambda", "PutFunctionConcurrency20171031", json!({"functionName": "other"})),
            ("lambda", "PutFunctionConcurrency20171031", json!({"functionName": "111122223333:other:1"})),
            ("events", "DisableRule", json!({"name": "kms-key-guards-rule.api-call"})),
            ("sns", "Unsubscribe", json!({"subscriptionArn": "arn:aws:sns:eu-west-1:111122223333:other:1"})),
            ("monitoring", "DisableAlarmActions", json!({"alarmNames": ["other", "another"]})),
        ] {
            let done = judged_by(service, call, request).unwrap();
            assert_eq!(commands(&done), ["keyguard doctor --region eu-west-1"], "{call}");
            assert!(done.particulars[0].contains("no name of this guard's stack"), "{:?}", done.particulars);
        }
        let alarms = json!({"alarmNames": ["other", "kms-key-guard.AlertErrorAlarm"]});
        let done = judged_by("monitoring", "DisableAlarmActions", alarms).unwrap();
        assert_eq!(done.part, "kms-key-guard.AlertErrorAlarm");
        assert!(commands(&done)[0].ends_with("--alarm-names kms-key-guard.AlertErrorAlarm"));
    }

    #[test]
    fn what_sets_the_templates_own_settings_puts_the_part_back() {
        let rule = "kms-key-guard-rule.kms-event";
        let pattern =
            r#"{"source":["aws.kms"],"detail-type":["KMS CMK Deletion","KMS Imported Key Material Expiration"]}"#;
        let put =
            |pattern: &str| judged_by("events", "PutRule", json!({"name": rule, "eventPattern": pattern})).unwrap();
        let done = put(pattern);
        assert_eq!((done.effect, done.happened.as_str(), done.part.as_str()), (Effect::PutBack, "rule put back", rule));
        assert_eq!(commands(&done), ["keyguard doctor --region eu-west-1"]);
        let other = put(&pattern.replace("CMK", "Nothing"));
        assert_eq!((other.effect, other.happened.as_str()), (Effect::Harm, "rule changed"));
        // A replay knows no stack.
        let unknown = judged("events", "PutRule", json!({"name": rule, "eventPattern": pattern})).unwrap();
        assert_eq!(unknown.effect, Effect::Harm);
    }

    #[test]
    fn subscription_that_was_removed_is_unclear() {
        let arn = "arn:aws:sns:eu-west-1:111122223333:kms-key-guard-alerts:c3019def-3714-403e-ba29-eb14079d5c69";
        let done = judged_by("sns", "Unsubscribe", json!({"subscriptionArn": arn})).unwrap();
        assert_eq!(done.effect, Effect::Unclear);
        assert!(commands(&done)[0].ends_with("--topic-arn arn:aws:sns:eu-west-1:111122223333:kms-key-guard-alerts"));
    }

    #[test]
    fn no_remedy_says_to_deploy_over_what_was_changed() {
        for (service, call, request) in [
            ("events", "DeleteRule", json!({"name": "kms-key-guard-rule.api-call"})),
            ("sqs", "DeleteQueue", json!({"queueUrl": "https://x/111122223333/kms-key-guard-AlertFailureQueue-1A2B"})),
        ] {
            let done = judged_by(service, call, request).unwrap();
            let said: Vec<_> = done.remedy.iter().map(|step| step.what.as_str()).collect();
            assert!(said[0].contains("REVERT_DRIFT") && !said.iter().any(|say| say.contains("sam deploy")), "{said:?}");
        }
    }

    #[test]
    fn alarm_is_known_in_whichever_call_names_it() {
        let alarm = "kms-key-guard.MassEventAlarm";
        for (call, request, happened) in [
            ("DisableAlarmActions", json!({"alarmNames": [alarm, "x"]}), "alarm silenced"),
            ("PutMetricAlarm", json!({"alarmName": alarm, "threshold": 1e6}), "alarm changed"),
            ("PutLogAlarm", json!({"alarmName": alarm}), "alarm replaced"),
            ("PutAlarmMuteRule", json!({"name": "night", "muteTargets": {"alarmNames": [alarm]}}), "alarm muted"),
        ] {
            let done = judged("monitoring", call, request).unwrap();
            assert_eq!((done.part.as_str(), done.happened.as_str()), (alarm, happened));
        }
    }

    #[test]
    fn stack_set_is_known_by_name_and_by_id_and_bus_in_either_field() {
        for given in ["kms-key-guard-spoke", "kms-key-guard-spoke:11112222-3333-4444-5555-666677778888"] {
            let done = judged("cloudformation", "DeleteStackSet", json!({"stackSetName": given})).unwrap();
            assert_eq!((done.kind, done.part.as_str()), ("AWS::CloudFormation::StackSet", "kms-key-guard-spoke"));
            assert_eq!(commands(&done), ["keyguard doctor --region eu-west-1"]);
        }
        for (call, field) in [("DeleteEventBus", "name"), ("PutPermission", "eventBusName")] {
            let done = judged("events", call, json!({field: "hub"})).unwrap();
            assert_eq!((done.kind, done.part.as_str()), ("AWS::Events::EventBus", "hub"));
        }
    }

    #[test]
    fn name_that_is_none_reaches_no_command() {
        for name in
            ["x; rm -rf /", "$(id)", "--endpoint-url", "file:///etc/passwd", "a b", "\u{202e}", &"x".repeat(600)]
        {
            let done = judged("cloudtrail", "StopLogging", json!({"name": name})).unwrap();
            assert_eq!(done.part, "unknown");
            assert_eq!(commands(&done), ["keyguard doctor --region eu-west-1"], "{name}");
            assert!(done.particulars[0].contains("isn't a name that can be trusted"));
        }
    }

    #[test]
    fn record_that_does_not_tell_is_taken_for_the_worst() {
        let calls = [
            ("cloudtrail", "PutEventSelectors"),
            ("events", "PutRule"),
            ("lambda", "PutFunctionConcurrency20171031"),
            ("lambda", "UpdateFunctionCode20150331v2"),
            ("monitoring", "DeleteAlarms"),
            ("monitoring", "PutMetricAlarm"),
            ("monitoring", "PutAlarmMuteRule"),
            ("events", "PutPermission"),
            ("cloudformation", "DeleteStackInstances"),
            ("sns", "SetTopicAttributes"),
            ("sns", "SetSubscriptionAttributes"),
            ("sns", "Unsubscribe"),
            ("sqs", "SetQueueAttributes"),
        ];
        for (service, call) in calls {
            for request in [
                Value::Null,
                json!({}),
                json!([]),
                json!({"name": 7, "functionName": {}, "alarmNames": "x", "muteTargets": [1]}),
            ] {
                let done = judged_by(service, call, request.clone()).unwrap();
                assert_eq!((done.part.as_str(), done.effect), ("unknown", Effect::Harm), "{call}");
                let says = if request.is_object() { "The record doesn't say which one." } else { "nor which one" };
                assert!(done.particulars[0].contains(says), "{:?}", done.particulars);
            }
        }
    }

    #[test]
    fn what_switches_nothing_off_is_silence() {
        let silent = [
            ("events", "EnableRule", json!({"name": "r"})),
            ("events", "CreateEventBus", json!({"name": "kms-key-guard"})),
            ("monitoring", "EnableAlarmActions", json!({"alarmNames": ["a"]})),
            ("monitoring", "DeleteAlarmMuteRule", json!({"alarmMuteRuleName": "night"})),
            ("cloudformation", "CreateStackInstances", json!({"stackSetName": "kms-key-guard-spoke"})),
            ("lambda", "DeleteFunctionConcurrency20171031", json!({"functionName": "f"})),
            ("lambda", "UpdateFunctionCode20150331v2", json!({"functionName": "f", "dryRun": true})),
            ("sns", "SetTopicAttributes", json!({"topicArn": "t", "attributeName": "DisplayName"})),
            ("cloudtrail", "StartLogging", json!({"name": "t"})),
            ("cloudtrail", "UpdateTrail", json!({"name": "t", "isMultiRegionTrail": true})),
        ];
        for (service, call, request) in silent {
            assert_eq!(judged(service, call, request), None, "{call}");
        }
    }
}
