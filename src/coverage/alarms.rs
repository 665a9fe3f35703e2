//! Is anything in the failure queues, and do the guard's alarms notify somebody?

use std::collections::{BTreeSet, HashMap};

use aws_sdk_cloudwatch::Client as CloudWatch;
use aws_sdk_cloudwatch::types::MetricAlarm;
use aws_sdk_sns::Client as Sns;
use aws_sdk_sqs::Client as Sqs;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use aws_types::SdkConfig;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::expected::{Part, Parts, different, restore, shown};
use super::topics::{Audience, audiences};
use super::{About, Check, DEFAULT_NAME, Observation, Stack, is_missing, plain, why};
use crate::escape::name;

pub(super) static QUEUES: About =
    About { id: "failures-empty", what: "The failure queues are there and empty.", kind: "AWS::SQS::Queue" };
pub(super) static ALARMS: About = About {
    id: "alarms-live",
    what: "The guard's alarms exist as the template has them, may act, and have an action that somebody receives.",
    kind: "AWS::CloudWatch::Alarm",
};
pub(super) static QUIET: About =
    About { id: "alarms-quiet", what: "None of the guard's alarms is going off.", kind: "AWS::CloudWatch::Alarm" };

/// Looks at the queues and alarms of the Region of `sdk`.
pub(super) async fn look(sdk: &SdkConfig, guard: &Stack, parts: &Parts) -> Vec<Check> {
    checks(&Sqs::new(sdk), &CloudWatch::new(sdk), &Sns::new(sdk), guard, parts).await
}

pub(super) async fn checks(sqs: &Sqs, cloudwatch: &CloudWatch, sns: &Sns, guard: &Stack, parts: &Parts) -> Vec<Check> {
    let queues = async {
        let queues: Vec<_> = guard.failure_queues().collect();
        let looks = join_all(queues.iter().map(|(logical, url)| queue(sqs, guard, logical, url))).await;
        match looks.is_empty() {
            true => {
                vec![
                    Observation::fail(format!("The stack {} has no failure queue.", guard.stack))
                        .advise("Deploy again."),
                ]
            }
            false => looks,
        }
    };
    let (queues, (live, quiet)) = tokio::join!(queues, alarms(cloudwatch, sns, guard, parts));
    vec![Check::of(&QUEUES, queues), Check::of(&ALARMS, live), Check::of(&QUIET, quiet)]
}

async fn queue(sqs: &Sqs, guard: &Stack, logical: &str, url: &str) -> Observation {
    let counts = [
        Attribute::ApproximateNumberOfMessages,
        Attribute::ApproximateNumberOfMessagesNotVisible,
        Attribute::ApproximateNumberOfMessagesDelayed,
    ];
    let answer = sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(counts.to_vec())).send().await;
    let held = match answer {
        Ok(answer) => {
            let held = answer.attributes().into_iter().flat_map(HashMap::values);
            held.filter_map(|count| count.parse::<u64>().ok()).sum::<u64>()
        }
        Err(error) if is_missing(&error) => {
            let gone = Observation::fail(format!("The queue {logical} is gone, so an event that fails is lost."))
                .of_several(logical, "{count} queues are gone, so an event that fails is lost: {names}.");
            return restore(gone, guard);
        }
        Err(error) => {
            let reason = why("sqs:GetQueueAttributes", &error);
            return Observation::unknown(&format!("What is in the queue {logical}"), &reason).of_several(
                logical,
                format!("What is in {{count}} queues isn't known: {reason}. They are {{names}}."),
            );
        }
    };
    if held == 0 {
        return Observation::pass(format!("The queue {logical} is empty."))
            .of_several(logical, "{count} failure queues are there and empty: {names}.");
    }
    if guard.is_spoke() {
        let say = format!("{held} events that couldn't be forwarded to the hub are in the queue {logical}.");
        let see = format!(
            "aws sqs receive-message --region {} --queue-url {} --message-attribute-names All",
            guard.region,
            plain(url, "QUEUE-URL")
        );
        return Observation::fail(say)
            .mend("See which they are and why (ERROR_CODE, ERROR_MESSAGE), and fix the cause:", see);
    }
    let command = redrive(guard, url);
    Observation::fail(format!("{held} events that no alert was sent for are in the queue {logical}."))
        .mend("See which they are and why they failed:", command.clone())
        .mend("Fix the cause, then send them again:", command + " --yes")
}

/// The command that shows what is in a queue.
pub(super) fn redrive(guard: &Stack, url: &str) -> String {
    let stack = match guard.stack.as_str() {
        DEFAULT_NAME => String::new(),
        other => format!(" --stack-name {}", plain(other, "STACK")),
    };
    format!("keyguard redrive --region {}{stack} --queue-url {}", guard.region, plain(url, "QUEUE-URL"))
}

async fn alarms(
    cloudwatch: &CloudWatch,
    sns: &Sns,
    guard: &Stack,
    parts: &Parts,
) -> (Vec<Observation>, Vec<Observation>) {
    let expected: Vec<_> = parts.all(guard, "AWS::CloudWatch::Alarm").collect();
    if expected.is_empty() && guard.is_spoke() {
        let none = || vec![Observation::pass("The stack has no alarm, as its parameters say.")];
        return (none(), none());
    }
    if expected.is_empty() {
        let none = Observation::fail(format!("The stack {} has no alarm.", guard.stack)).advise("Deploy again.");
        return (vec![none], vec![Observation::unknown("Whether an alarm goes off", "there are none")]);
    }
    let mut found = Vec::new();
    // The most that one call takes.
    for names in expected.chunks(100) {
        let names = names.iter().map(|(_, name, _)| (*name).to_owned()).collect();
        match cloudwatch.describe_alarms().set_alarm_names(Some(names)).max_records(100).send().await {
            Ok(answer) => found.extend(answer.metric_alarms.unwrap_or_default()),
            Err(error) => {
                let reason = why("cloudwatch:DescribeAlarms", &error);
                let unknown = |what| vec![Observation::unknown(what, &reason)];
                return (unknown("Whether the alarms can notify anyone"), unknown("Whether an alarm goes off"));
            }
        }
    }
    let audiences = audiences(sns, guard, topics(&found)).await;
    let (mut live, mut quiet) = (Vec::new(), Vec::new());
    for (logical, id, part) in expected {
        let Some(alarm) = found.iter().find(|alarm| alarm.alarm_name() == Some(id)) else {
            let gone = Observation::fail(format!("The alarm {logical} is gone."));
            live.push(restore(gone.of_several(logical, "{count} alarms are gone: {names}."), guard));
            continue;
        };
        // A spoke's alarm has no action of its own: its change of state is an event, which a rule forwards.
        let unheard =
            if part.properties.contains_key("AlarmActions") { deaf(alarm, &audiences, guard, logical) } else { None };
        live.push(match unheard.or_else(|| changed(alarm, guard, logical, part)) {
            Some(look) => look,
            None => Observation::pass(format!("The alarm {logical} is the template's, and reaches someone."))
                .of_several(logical, "{count} alarms are the template's, and reach someone: {names}."),
        });
        let state = alarm.state_value().map_or("unknown", |state| state.as_str());
        quiet.push(if state == "ALARM" {
            going_off(logical, guard)
        } else {
            let state = name(state, 64);
            Observation::pass(format!("The alarm {logical} is {state}."))
                .of_several(logical, format!("{{count}} alarms are {state}."))
        });
    }
    (live, quiet)
}

/// How the alarm isn't what the template says, so that it may never go off, or notify somebody else. Actions beside the
/// template's are the operator's.
fn changed(alarm: &MetricAlarm, guard: &Stack, logical: &str, part: &Part) -> Option<Observation> {
    let found = as_template(alarm);
    let mut wanted = part.properties.clone();
    let actions = wanted.remove("AlarmActions");
    let actions = actions.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let missing = actions.into_iter().find(|action| !alarm.alarm_actions().iter().any(|other| other == action));
    let say = if let Some(action) = missing {
        format!("it doesn't notify {}", name(action, 256))
    } else {
        let property = different(&wanted, &found)?;
        format!("{property} is {}, and not {}", shown(found.get(&property)), shown(wanted.get(&property)))
    };
    Some(restore(Observation::fail(format!("The alarm {logical} was changed: {say}.")), guard))
}

/// An alarm as a template has it, without its actions.
fn as_template(alarm: &MetricAlarm) -> Map<String, Value> {
    let dimensions: Vec<_> =
        alarm.dimensions().iter().map(|of| json!({"Name": of.name(), "Value": of.value()})).collect();
    let fields = [
        ("ComparisonOperator", alarm.comparison_operator().map(|operator| operator.as_str().into())),
        ("DatapointsToAlarm", alarm.datapoints_to_alarm().map(Value::from)),
        ("Dimensions", (!dimensions.is_empty()).then(|| dimensions.into())),
        ("EvaluationPeriods", alarm.evaluation_periods().map(Value::from)),
        ("MetricName", alarm.metric_name().map(Value::from)),
        ("Namespace", alarm.namespace().map(Value::from)),
        ("Period", alarm.period().map(Value::from)),
        ("Statistic", alarm.statistic().map(|statistic| statistic.as_str().into())),
        ("Threshold", alarm.threshold().map(Value::from)),
        ("TreatMissingData", alarm.treat_missing_data().map(Value::from)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// An alarm that goes off has notified somebody, or [`ALARMS`] says why not; so this only points to it, but for the heartbeat's.
fn going_off(logical: &str, guard: &Stack) -> Observation {
    let say = format!("The alarm {logical} is going off.");
    let look = if logical == "WatchSilentAlarm" {
        Observation::fail(format!("{say} The watch function, which makes the same checks as doctor, hasn't run."))
    } else {
        Observation::warn(say).of_several(logical, "{count} alarms are going off: {names}.")
    };
    let id = guard.id(logical).unwrap_or_default();
    look.mend(
        "See why; its description says what to do:",
        format!("aws cloudwatch describe-alarms --region {} --alarm-names {}", guard.region, plain(id, "ALARM")),
    )
}

/// The topics among the alarms' actions, each once.
pub(super) fn topics(alarms: &[MetricAlarm]) -> impl Iterator<Item = String> + use<> {
    let actions = alarms.iter().flat_map(MetricAlarm::alarm_actions);
    actions.filter(|action| is_topic(action)).cloned().collect::<BTreeSet<_>>().into_iter()
}

fn is_topic(arn: &str) -> bool {
    arn.split(':').nth(2) == Some("sns")
}

/// Why the alarm reaches no one; None if it does.
pub(super) fn deaf(
    alarm: &MetricAlarm,
    audiences: &HashMap<String, Audience>,
    guard: &Stack,
    called: &str,
) -> Option<Observation> {
    let id = plain(alarm.alarm_name().unwrap_or_default(), "ALARM");
    let region = alarm.alarm_arn().and_then(|arn| arn.split(':').nth(3)).unwrap_or(guard.region.as_str());
    let region = plain(region, "REGION");
    if alarm.actions_enabled() == Some(false) {
        return Some(
            Observation::fail(format!("The actions of the alarm {called} are switched off."))
                .of_several(called, "The actions of {count} alarms are switched off: {names}.")
                .mend(
                    "Switch them on:",
                    format!("aws cloudwatch enable-alarm-actions --region {region} --alarm-names {id}"),
                ),
        );
    }
    if alarm.alarm_actions().is_empty() {
        let say = format!("The alarm {called} has no action, so it reaches no one.");
        let several = "{count} alarms have no action, so they reach no one: {names}.";
        return Some(Observation::fail(say).of_several(called, several).advise(
            "Give it the alerts topic as its action (put-metric-alarm with --alarm-actions), or deploy again if it is the stack's.",
        ));
    }
    let audience = |action: &String| audiences.get(action).cloned().unwrap_or(Audience::Nobody);
    // The guard's own function tells through the same topics. What else isn't a topic (a function, an OpsItem) is taken to be
    // there.
    let own = guard.id("WatchFunction").map(|function| guard.arn("lambda", &format!("function:{function}")));
    let elsewhere = |action: &String| !is_topic(action) && own.as_ref() != Some(action);
    let reached = |action: &String| elsewhere(action) || matches!(audience(action), Audience::Confirmed(..));
    if alarm.alarm_actions().iter().any(reached) {
        return None;
    }
    let reason = alarm.alarm_actions().iter().find_map(|action| match audience(action) {
        Audience::Unknown(reason) => Some(reason),
        _ => None,
    });
    if let Some(reason) = reason {
        let several = format!("Whether {{count}} alarms reach someone isn't known: {reason}. They are {{names}}.");
        let look = Observation::unknown(&format!("Whether the alarm {called} reaches someone"), &reason);
        return Some(look.of_several(called, several));
    }
    let topic = alarm.alarm_actions().first().map(String::as_str).unwrap_or_default();
    let state = match audience(&topic.to_owned()) {
        Audience::NoTopic => "which doesn't exist",
        Audience::Filtered(_) => {
            "where every subscription's filter policy keeps it out, as an alarm has no message attributes"
        }
        _ => "to which nobody has confirmed a subscription",
    };
    let shown = name(topic, 256);
    let look = Observation::fail(format!("The alarm {called} notifies the topic {shown}, {state}."));
    let several = format!("{{count}} alarms notify the topic {shown}, {state}: {{names}}.");
    Some(look.of_several(called, several).mend(
        "Subscribe, and answer the message that comes:",
        format!(
            "aws sns subscribe --region {region} --topic-arn {} --protocol email --notification-endpoint {}",
            plain(topic, "TOPIC-ARN"),
            guard.address()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::StackResource;

    #[test]
    fn alarm_that_starts_the_guards_own_function_is_not_heard_by_that() {
        let mut guard = Stack::example(&[]);
        let watch = StackResource { kind: "AWS::Lambda::Function".into(), id: "watch".into() };
        guard.resources.insert("WatchFunction".into(), watch);
        let (topic, nobody) = ("arn:aws:sns:eu-west-1:111122223333:alerts".to_owned(), HashMap::new());
        let somebody = HashMap::from([(topic.clone(), Audience::Confirmed(vec!["email a".into()], Vec::new()))]);
        let unheard = |function: &str, audiences: &HashMap<String, Audience>| {
            let function = format!("arn:aws:lambda:eu-west-1:111122223333:function:{function}");
            let alarm = MetricAlarm::builder().alarm_name("a").alarm_actions(&topic).alarm_actions(function).build();
            deaf(&alarm, audiences, &guard, "MassEventAlarm").is_some()
        };
        assert!(unheard("watch", &nobody));
        assert!(!unheard("watch", &somebody));
        assert!(!unheard("on-call", &nobody), "another function is somebody's");
    }
}
