//! Doctor's repairs as the alert function sees them: whoever pastes one is nobody who tampers with the guard.

use aws_sdk_cloudtrail::operation::describe_trails::DescribeTrailsOutput;
use aws_sdk_cloudtrail::operation::get_event_selectors::GetEventSelectorsOutput;
use aws_sdk_cloudtrail::operation::get_trail_status::GetTrailStatusOutput;
use aws_sdk_cloudtrail::types::{EventSelector, Trail};
use aws_sdk_cloudwatch::operation::describe_alarms::DescribeAlarmsOutput;
use aws_sdk_cloudwatch::types::MetricAlarm;
use aws_sdk_eventbridge::operation::describe_rule::DescribeRuleOutput;
use aws_sdk_eventbridge::operation::list_targets_by_rule::ListTargetsByRuleOutput;
use aws_sdk_eventbridge::types::RuleState;
use aws_sdk_kms::operation::describe_key::DescribeKeyOutput;
use aws_sdk_kms::types::{KeyMetadata, KeyState};
use aws_sdk_lambda::operation::get_function_concurrency::GetFunctionConcurrencyOutput;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use aws_sdk_lambda::operation::get_function_event_invoke_config::GetFunctionEventInvokeConfigOutput;
use aws_sdk_lambda::operation::get_policy::GetPolicyOutput;
use aws_sdk_lambda::types::{LastUpdateStatus, State};
use aws_sdk_sns::operation::get_topic_attributes::GetTopicAttributesOutput;
use aws_sdk_sns::operation::list_subscriptions_by_topic::ListSubscriptionsByTopicOutput;
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesOutput;
use aws_sdk_sqs::types::QueueAttributeName;
use aws_smithy_mocks::{MockResponseInterceptor, RuleMode, create_mock_http_client, mock};
use serde_json::{Map, Value, json};

use super::expected::tests;
use super::{Check, Stack, alarms, functions, rules, topics, trail};
use crate::event::Event;
use crate::own::OwnStack;
use crate::tamper::{Effect, is_watched, judge};

/// A client that answers as these rules say; `mock_client!` takes only crates that are built for tests.
macro_rules! client {
    ($service:ident, $rules:expr) => {{
        let mut answers = MockResponseInterceptor::new().rule_mode(RuleMode::MatchAny);
        for rule in $rules {
            answers = answers.with_rule(rule);
        }
        let config = $service::Config::builder()
            .behavior_version($service::config::BehaviorVersion::latest())
            .region($service::config::Region::new("eu-west-1"))
            .credentials_provider($service::config::Credentials::new("a", "b", None, None, "test"))
            .http_client(create_mock_http_client())
            .interceptor(answers);
        $service::Client::from_conf(config.build())
    }};
}

/// What CloudTrail adds to the names of Lambda's operations.
const VERSIONS: [(&str, &str); 2] = [("AddPermission", "20150331v2"), ("DeleteFunctionConcurrency", "20171031")];
/// What only reads, which EventBridge's rules for writes don't see.
const READS: [&str; 4] = ["Get", "Describe", "List", "Receive"];

/// A word of a command as CloudTrail's records spell it: `topic-arn` is `topicArn`.
fn camel(word: &str) -> String {
    let mut parts = word.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(pascal).collect::<String>()
}

fn pascal(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

fn recorded(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let lower = |name: &str| name[..1].to_lowercase() + &name[1..];
            Value::Object(fields.into_iter().map(|(name, value)| (lower(&name), recorded(value))).collect())
        }
        Value::Array(values) => values.into_iter().map(recorded).collect(),
        other => other,
    }
}

/// The words of a command, as a shell takes them.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut quoted) = (Vec::new(), false);
    for piece in command.split('\'') {
        if quoted {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
        quoted = !quoted;
    }
    words
}

/// The record that a command of the AWS CLI leaves: service, operation and parameters.
fn called(command: &str) -> (String, String, Value) {
    let words = words(command);
    let (service, operation) = (words[1].as_str(), words[2].split('-').map(pascal).collect::<String>());
    let mut request = Map::new();
    let mut options = words[3..].iter().peekable();
    while let Some(option) = options.next() {
        // Further values of an option, or of `wait` what it waits for.
        let Some(name) = option.strip_prefix("--").map(camel) else { continue };
        let value = options.next_if(|next| !next.starts_with("--"));
        let value = value.map_or(json!(true), |text| match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => serde_json::from_str(text).map_or_else(|_| Value::from(text.as_str()), recorded),
        });
        request.insert(name, value);
    }
    let version = VERSIONS.iter().find(|(name, _)| *name == operation).map_or("", |(_, version)| version);
    // The command line's own.
    request.remove("region");
    (if service == "cloudwatch" { "monitoring" } else { service }.to_owned(), operation + version, request.into())
}

/// What becomes of the guard by a command, as the alert function judges its record; None is silence.
fn effect(guard: &Stack, command: &str) -> Option<Effect> {
    let (service, operation, request) = called(command);
    let source = format!("{service}.amazonaws.com");
    if READS.iter().any(|read| operation.starts_with(read)) || !is_watched(&source, &operation, true) {
        return None;
    }
    let event = Event::from_value(json!({
        "source": format!("aws.{service}"), "detail-type": "AWS API Call via CloudTrail",
        "detail": {
            "eventSource": source, "eventName": operation, "awsRegion": guard.region.as_str(),
            "recipientAccountId": guard.account, "requestParameters": request,
        },
    }));
    let own = OwnStack {
        stack: guard.stack.clone(),
        function: guard.id("AlertFunction").unwrap().to_owned(),
        topics: [guard.alerts_topic(), guard.findings_topic(), guard.chat_topic()]
            .map(|topic| topic.unwrap_or_default().to_owned()),
    };
    judge(event.record().unwrap(), &event.raw["requestParameters"], Some(&own)).map(|done| done.effect)
}

/// Every check of a guard in which everything is switched off or set wrong.
async fn ill(guard: &Stack) -> Vec<Check> {
    let parts = &tests::parts_of(guard);
    let events = client!(
        aws_sdk_eventbridge,
        &[
            mock!(aws_sdk_eventbridge::Client::describe_rule)
                .then_output(|| DescribeRuleOutput::builder().state(RuleState::Disabled).build()),
            mock!(aws_sdk_eventbridge::Client::list_targets_by_rule)
                .then_output(|| ListTargetsByRuleOutput::builder().build()),
        ]
    );
    let lambda = client!(
        aws_sdk_lambda,
        &[
            mock!(aws_sdk_lambda::Client::get_policy)
                .then_output(|| { GetPolicyOutput::builder().policy(r#"{"Statement":[]}"#).build() }),
            mock!(aws_sdk_lambda::Client::get_function_configuration).then_output(|| {
                let ready = GetFunctionConfigurationOutput::builder().state(State::Active);
                ready.last_update_status(LastUpdateStatus::Successful).build()
            }),
            mock!(aws_sdk_lambda::Client::get_function_concurrency).then_output(|| {
                let throttled = GetFunctionConcurrencyOutput::builder();
                throttled.reserved_concurrent_executions(0).build()
            }),
            mock!(aws_sdk_lambda::Client::get_function_event_invoke_config)
                .then_output(|| { GetFunctionEventInvokeConfigOutput::builder().build() }),
        ]
    );
    let sns = client!(
        aws_sdk_sns,
        &[
            mock!(aws_sdk_sns::Client::get_topic_attributes).then_output(|| {
                let topic = GetTopicAttributesOutput::builder();
                topic.attributes("KmsMasterKeyId", "theirs").attributes("Policy", "{}").build()
            }),
            mock!(aws_sdk_sns::Client::list_subscriptions_by_topic)
                .then_output(|| { ListSubscriptionsByTopicOutput::builder().build() }),
        ]
    );
    let kms = client!(
        aws_sdk_kms,
        &[mock!(aws_sdk_kms::Client::describe_key).then_output(|| {
            let key = KeyMetadata::builder().key_id("k").key_state(KeyState::PendingDeletion).build().unwrap();
            DescribeKeyOutput::builder().key_metadata(key).build()
        })]
    );
    let sqs = client!(
        aws_sdk_sqs,
        &[mock!(aws_sdk_sqs::Client::get_queue_attributes).then_output(|| {
            let queue = GetQueueAttributesOutput::builder();
            queue.attributes(QueueAttributeName::ApproximateNumberOfMessages, "1").build()
        })]
    );
    let alarm = |(_, name, _): (&str, &str, &super::expected::Part)| {
        MetricAlarm::builder().alarm_name(name).actions_enabled(false).build()
    };
    let found: Vec<_> = parts.all(guard, "AWS::CloudWatch::Alarm").map(alarm).collect();
    let cloudwatch = client!(
        aws_sdk_cloudwatch,
        &[mock!(aws_sdk_cloudwatch::Client::describe_alarms)
            .then_output(move || { DescribeAlarmsOutput::builder().set_metric_alarms(Some(found.clone())).build() })]
    );
    let cloudtrail = client!(
        aws_sdk_cloudtrail,
        &[
            mock!(aws_sdk_cloudtrail::Client::describe_trails).then_output(|| {
                let trail = Trail::builder().trail_arn("arn:aws:cloudtrail:eu-west-1:111122223333:trail/management");
                let trail = trail.home_region("eu-west-1").build();
                DescribeTrailsOutput::builder().trail_list(trail).build()
            }),
            mock!(aws_sdk_cloudtrail::Client::get_trail_status)
                .then_output(|| { GetTrailStatusOutput::builder().is_logging(false).build() }),
            mock!(aws_sdk_cloudtrail::Client::get_event_selectors).then_output(|| {
                let without_kms =
                    EventSelector::builder().exclude_management_event_sources("kms.amazonaws.com").build();
                GetEventSelectorsOutput::builder().event_selectors(without_kms).build()
            }),
        ]
    );
    let mut checks = rules::checks(&events, guard, parts).await;
    checks.extend(functions::checks(&lambda, guard, parts).await);
    checks.extend(topics::checks(&sns, &kms, guard).await);
    checks.extend(alarms::checks(&sqs, &cloudwatch, &sns, guard, parts).await);
    checks.extend(trail::checks(&cloudtrail, guard).await.1);
    checks
}

#[tokio::test]
async fn every_repair_that_doctor_prints_is_silence_or_puts_a_part_back() {
    let guard = tests::guard(&[]);
    let checks = ill(&guard).await;
    let commands: Vec<_> =
        checks.iter().flat_map(|check| &check.fix).filter_map(|step| step.command.as_deref()).collect();
    let mut put_back = std::collections::BTreeSet::new();
    for command in commands.iter().filter(|command| command.starts_with("aws ")) {
        match effect(&guard, command) {
            None => {}
            Some(Effect::PutBack) => {
                put_back.insert(words(command)[2].clone());
            }
            Some(other) => panic!("{other:?}: {command}"),
        }
    }
    let watched = ["put-function-event-invoke-config", "put-targets", "set-topic-attributes"].map(str::to_owned);
    assert_eq!(put_back, watched.into());
    for silent in [
        "enable-rule",
        "delete-function-concurrency",
        "enable-alarm-actions",
        "start-logging",
        "put-event-selectors",
        "add-permission",
        "create-change-set",
        "subscribe",
    ] {
        assert!(commands.iter().any(|command| words(command).get(2).is_some_and(|word| word == silent)), "{silent}");
    }
}

#[test]
fn the_same_commands_with_anything_else_in_them_are_tampering() {
    let guard = tests::guard(&[]);
    let topic = guard.alerts_topic().unwrap();
    for command in [
        format!("aws sns set-topic-attributes --region eu-west-1 --topic-arn {topic} --attribute-name KmsMasterKeyId --attribute-value theirs"),
        r#"aws events put-targets --region eu-west-1 --rule kms-key-guard-rule.api-call --targets '[{"Id":"alert-function","Arn":"arn:aws:lambda:eu-west-1:111122223333:function:x"}]'"#.to_owned(),
        "aws lambda put-function-event-invoke-config --region eu-west-1 --function-name kms-key-guard-AlertFunction-1A2B3C4D5E6F --maximum-retry-attempts 0".to_owned(),
    ] {
        assert_eq!(effect(&guard, &command), Some(Effect::Harm), "{command}");
    }
}
