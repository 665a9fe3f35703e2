//! The whole way of an event through the handler, with the SDK's own clients and their answers mocked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kms::operation::describe_key::{DescribeKeyError, DescribeKeyOutput};
use aws_sdk_kms::operation::get_key_last_usage::GetKeyLastUsageError;
use aws_sdk_kms::operation::list_aliases::ListAliasesOutput;
use aws_sdk_kms::operation::list_grants::ListGrantsOutput;
use aws_sdk_kms::operation::list_resource_tags::ListResourceTagsOutput;
use aws_sdk_kms::primitives::DateTime;
use aws_sdk_kms::types::{AliasListEntry, GrantConstraints, GrantListEntry, KeyMetadata, KeyState, Tag};
use aws_sdk_sns::operation::publish::{PublishError, PublishOutput};
use aws_sdk_sns::types::error::InternalErrorException;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use kms_key_guard::config::Config;
use kms_key_guard::error::Error;
use kms_key_guard::handler::{AlertOutcome, Guard};
use kms_key_guard::log;
use kms_key_guard::metrics::Metrics;
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::datetime;
use tracing_subscriber::util::SubscriberInitExt;

const NOW: OffsetDateTime = datetime!(2026-09-28 09:14:11 UTC);
const ALERTS: &str = "arn:aws:sns:eu-west-1:111122223333:alerts";
const FINDINGS: &str = "arn:aws:sns:eu-west-1:111122223333:findings";
const CHAT: &str = "arn:aws:sns:eu-west-1:111122223333:chat";

/// What SNS was given: topic, Subject, message and attributes.
#[derive(Debug, Clone)]
struct Message {
    topic: String,
    subject: Option<String>,
    body: String,
    attributes: Vec<(String, String, String)>,
}

type Sent = Arc<Mutex<Vec<Message>>>;

fn sns(sent: &Sent) -> Rule {
    let sent = Arc::clone(sent);
    mock!(aws_sdk_sns::Client::publish)
        .match_requests(move |request| {
            let attributes = request.message_attributes().into_iter().flatten();
            let mut attributes: Vec<_> = attributes
                .map(|(name, value)| {
                    (name.clone(), value.data_type().to_owned(), value.string_value().unwrap_or_default().to_owned())
                })
                .collect();
            attributes.sort();
            sent.lock().unwrap().push(Message {
                topic: request.topic_arn().unwrap().to_owned(),
                subject: request.subject().map(str::to_owned),
                body: request.message().unwrap().to_owned(),
                attributes,
            });
            true
        })
        .sequence()
        .output(|| PublishOutput::builder().message_id("m").build())
        .repeatedly()
        .build()
}

fn broken(topic: &'static str) -> Rule {
    mock!(aws_sdk_sns::Client::publish)
        .match_requests(move |request| request.topic_arn() == Some(topic))
        .sequence()
        .error(|| PublishError::InternalErrorException(InternalErrorException::builder().message("broken").build()))
        .repeatedly()
        .build()
}

fn described(state: KeyState, deletion: Option<i64>) -> Rule {
    mock!(aws_sdk_kms::Client::describe_key).then_output(move || {
        let metadata = KeyMetadata::builder().key_id("k").key_state(state.clone());
        let metadata = metadata.set_deletion_date(deletion.map(DateTime::from_secs)).build().unwrap();
        DescribeKeyOutput::builder().key_metadata(metadata).build()
    })
}

fn kms_answers() -> Vec<Rule> {
    vec![
        described(KeyState::PendingDeletion, Some(datetime!(2026-10-05 10:00 UTC).unix_timestamp())),
        mock!(aws_sdk_kms::Client::list_aliases).then_output(|| {
            let alias = AliasListEntry::builder().alias_name("alias/payments-db").build();
            ListAliasesOutput::builder().aliases(alias).build()
        }),
        mock!(aws_sdk_kms::Client::list_resource_tags).then_output(|| {
            let tag = Tag::builder().tag_key("owner").tag_value("team-payments").build().unwrap();
            ListResourceTagsOutput::builder().tags(tag).build()
        }),
        mock!(aws_sdk_kms::Client::get_key_last_usage).then_error(|| {
            GetKeyLastUsageError::generic(
                aws_sdk_kms::error::ErrorMetadata::builder().code("UnknownOperationException").build(),
            )
        }),
        mock!(aws_sdk_kms::Client::list_grants).then_output(|| {
            let constraints =
                GrantConstraints::builder().encryption_context_subset("aws:rds:db-id", "db-EXAMPLE").build();
            let grant =
                GrantListEntry::builder().grantee_principal("rds.amazonaws.com").constraints(constraints).build();
            ListGrantsOutput::builder().grants(grant).build()
        }),
    ]
}

fn guard(sns: &[Rule], kms: &[Rule], variables: &[(&str, &str)]) -> Guard {
    let all = [
        &[("AWS_LAMBDA_FUNCTION_NAME", "guard"), ("ALERTS_TOPIC_ARN", ALERTS), ("FINDINGS_TOPIC_ARN", FINDINGS)],
        variables,
    ]
    .concat();
    let config = Config::read(|name| all.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())).unwrap();
    let sns = mock_client!(aws_sdk_sns, RuleMode::MatchAny, sns);
    let kms = mock_client!(aws_sdk_kms, RuleMode::MatchAny, kms);
    Guard::new(config, kms, sns, || unreachable!("one account"), Metrics::default())
}

async fn answer(guard: &Guard, sample: &str) -> Result<AlertOutcome, Error> {
    let path = format!("{}/events/{sample}.json", env!("CARGO_MANIFEST_DIR"));
    guard.answer(&std::fs::read_to_string(path).unwrap(), NOW, || Duration::from_secs(15)).await
}

fn to(sent: &Sent, topic: &str) -> Message {
    let sent = sent.lock().unwrap();
    let mut of_topic = sent.iter().filter(|message| message.topic == topic);
    let message = of_topic.next().expect("nothing was sent").clone();
    assert!(of_topic.next().is_none(), "more than one message to {topic}");
    message
}

#[tokio::test]
async fn loss_reaches_both_topics_with_what_kms_knows() {
    let sent = Sent::default();
    let outcome = answer(&guard(&[sns(&sent)], &kms_answers(), &[]), "deletion-scheduled").await.unwrap();
    assert_eq!((outcome.outcome, outcome.detection), ("published", Some("key-deletion-scheduled")));

    let alert = to(&sent, ALERTS);
    assert_eq!(
        alert.subject.as_deref(),
        Some("[CRITICAL] KMS key payments-db (880b7941) scheduled for deletion, 7 d left (111122223333 eu-west-1)")
    );
    assert!(alert.body.contains("until 2026-10-05 10:00:00 UTC (KMS says so)"), "{}", alert.body);
    assert!(alert.body.contains("owner=team-payments") && alert.body.contains("aws:rds:db-id=db-EXAMPLE"));
    assert!(alert.body.contains("Not known      last use: KMS doesn't offer this here"), "{}", alert.body);

    let finding = to(&sent, FINDINGS);
    let document: Value = serde_json::from_str(&finding.body).unwrap();
    assert_eq!(document["metadata"]["uid"].as_str(), outcome.uid.as_deref());
    assert_eq!(document["resources"][0]["name"], "alias/payments-db");
    assert_eq!(finding.attributes, alert.attributes);
    let names: Vec<_> = alert.attributes.iter().map(|(name, kind, _)| format!("{name}:{kind}")).collect();
    let expected = [
        "account:String",
        "activity:String",
        "detection:String",
        "event_name:String",
        "finding_uid:String",
        "key_arn:String",
        "region:String",
        "severity:String",
        "severity_id:Number",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn silence_publishes_nothing() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &kms_answers(), &[]);
    for sample in ["policy-default", "panther-disable-key-error", "panther-non-deletion-event", "empty-object"] {
        assert_eq!(answer(&guard, sample).await.unwrap().outcome, "silent", "{sample}");
    }
    assert!(sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn one_topic_that_fails_fails_the_invocation() {
    for (broken_topic, name) in [(ALERTS, "alerts"), (FINDINGS, "findings")] {
        let sent = Sent::default();
        let error =
            answer(&guard(&[broken(broken_topic), sns(&sent)], &kms_answers(), &[]), "key-disabled").await.unwrap_err();
        assert!(error.to_string().contains(&format!("the {name} topic didn't take the alert")), "{error}");
        assert_eq!(sent.lock().unwrap().len(), 1, "the other topic is still served");
    }
    let error =
        answer(&guard(&[broken(ALERTS), broken(FINDINGS)], &kms_answers(), &[]), "key-disabled").await.unwrap_err();
    assert!(error.to_string().contains("alerts") && error.to_string().contains("findings"), "{error}");
}

#[tokio::test]
async fn chat_topic_gets_the_alert_with_the_same_attributes_and_uid() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &kms_answers(), &[("CHAT_TOPIC_ARN", CHAT)]);
    let outcome = answer(&guard, "deletion-scheduled").await.unwrap();
    let (alert, chat) = (to(&sent, ALERTS), to(&sent, CHAT));
    let document: Value = serde_json::from_str(&chat.body).unwrap();
    assert_eq!((document["version"].as_str(), document["source"].as_str()), (Some("1.0"), Some("custom")));
    assert_eq!((document["id"].as_str(), chat.subject), (outcome.uid.as_deref(), None));
    assert_eq!(document["content"]["title"].as_str(), alert.subject.as_deref());
    assert_eq!(chat.attributes, alert.attributes);
    assert_eq!(sent.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn chat_topic_that_fails_fails_the_invocation_and_the_others_are_served() {
    let chat = [("CHAT_TOPIC_ARN", CHAT)];
    let sent = Sent::default();
    let error = answer(&guard(&[broken(CHAT), sns(&sent)], &kms_answers(), &chat), "key-disabled").await.unwrap_err();
    assert!(error.to_string().starts_with("the chat topic didn't take the alert"), "{error}");
    assert_eq!(sent.lock().unwrap().len(), 2);
    let none = guard(&[broken(ALERTS), broken(FINDINGS), broken(CHAT)], &kms_answers(), &chat);
    let error = answer(&none, "key-disabled").await.unwrap_err().to_string();
    assert!(
        ["alerts", "findings", "chat"].iter().all(|topic| error.contains(&format!("the {topic} topic"))),
        "{error}"
    );
}

#[tokio::test]
async fn kms_that_refuses_everything_costs_the_facts_and_not_the_alert() {
    let sent = Sent::default();
    let refused = mock!(aws_sdk_kms::Client::describe_key).then_error(|| {
        let message = "User: x is not authorized to perform: kms:DescribeKey because no resource-based policy allows the kms:DescribeKey action";
        DescribeKeyError::generic(aws_sdk_kms::error::ErrorMetadata::builder().code("AccessDeniedException").message(message).build())
    });
    let mut answers = kms_answers();
    answers[0] = refused;
    answer(&guard(&[sns(&sent)], &answers, &[]), "deletion-scheduled").await.unwrap();
    let alert = to(&sent, ALERTS);
    assert!(alert.body.contains("THE KEY POLICY SHUTS THE ACCOUNT OUT"), "{}", alert.body);
    assert!(alert.body.contains("(the record says so)"), "the record's deadline stays: {}", alert.body);
}

#[tokio::test]
async fn state_that_lags_behind_never_overrides_the_record() {
    let sent = Sent::default();
    let mut answers = kms_answers();
    answers[0] = described(KeyState::Enabled, None);
    answer(&guard(&[sns(&sent)], &answers, &[]), "deletion-scheduled").await.unwrap();
    let alert = to(&sent, ALERTS);
    assert!(alert.subject.unwrap().contains("scheduled for deletion, 7 d left"));
    assert!(alert.body.contains("Enabled when asked"), "{}", alert.body);
}

#[tokio::test]
async fn replicas_hold_the_deadline_off() {
    let sent = Sent::default();
    let mut answers = kms_answers();
    answers[0] = described(KeyState::PendingReplicaDeletion, None);
    answer(&guard(&[sns(&sent)], &answers, &[]), "deletion-scheduled-response-null").await.unwrap();
    assert!(to(&sent, ALERTS).body.contains("No date yet"), "{}", to(&sent, ALERTS).body);
}

/// What KMS answers about the state, as often as it says, the last of them from then on.
fn states(states: [(KeyState, usize); 2]) -> Rule {
    let output = |state: KeyState| {
        move || {
            let metadata = KeyMetadata::builder().key_id("k").key_state(state.clone()).build().unwrap();
            DescribeKeyOutput::builder().key_metadata(metadata).build()
        }
    };
    let [(first, times), (last, _)] = states;
    let sequence = mock!(aws_sdk_kms::Client::describe_key).sequence();
    sequence.output(output(first)).times(times).output(output(last)).repeatedly().build()
}

fn activity(sent: &Sent) -> String {
    let document: Value = serde_json::from_str(&to(sent, FINDINGS).body).unwrap();
    document["activity_name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn end_that_kms_contradicts_is_asked_again_until_it_is_confirmed() {
    let (sent, mut answers) = (Sent::default(), kms_answers());
    answers[0] = states([(KeyState::Disabled, 2), (KeyState::Enabled, 0)]);
    answer(&guard(&[sns(&sent)], &answers, &[("ENRICH_TIMEOUT_MS", "10000")]), "key-enabled").await.unwrap();
    assert_eq!(activity(&sent), "Close");
}

#[tokio::test]
async fn end_that_kms_never_confirms_is_an_update_and_leaves_a_line_for_the_watch_function() {
    let (sent, mut answers) = (Sent::default(), kms_answers());
    answers[0] = described(KeyState::Disabled, None);
    let guard = guard(&[sns(&sent)], &answers, &[("ENRICH_TIMEOUT_MS", "250")]);
    let line = logged(&guard, "key-enabled").await;
    assert_eq!((activity(&sent).as_str(), &line["unconfirmed"]), ("Update", &"yes".into()));
    assert!(to(&sent, ALERTS).body.contains("so this is no all-clear"), "{}", to(&sent, ALERTS).body);
}

#[tokio::test]
async fn end_that_kms_was_not_asked_about_is_an_update() {
    for sample in ["key-enabled", "material-restored"] {
        let sent = Sent::default();
        let line = logged(&guard(&[sns(&sent)], &[], &[("ENRICH_TIMEOUT_MS", "0")]), sample).await;
        assert_eq!((activity(&sent).as_str(), &line["unconfirmed"]), ("Update", &"yes".into()), "{sample}");
    }
}

#[tokio::test]
async fn replayed_end_closes_nothing_whatever_kms_says() {
    let (sent, mut answers) = (Sent::default(), kms_answers());
    answers[0] = described(KeyState::Enabled, None);
    let line = logged(&guard(&[sns(&sent)], &answers, &[]), "key-enabled-replayed").await;
    assert_eq!((activity(&sent).as_str(), &line["unconfirmed"]), ("Update", &Value::Null));
    assert!(to(&sent, ALERTS).body.contains("an archive sent this event again"));
}

#[tokio::test]
async fn lockout_that_only_a_guard_makes_is_low_and_counts_as_high_for_the_minimum() {
    let sent = Sent::default();
    let variables = [("MINIMUM_SEVERITY", "High"), ("ENRICH_TIMEOUT_MS", "0")];
    let sample = "policy-denial-elsewhere-in-the-network";
    let outcome = answer(&guard(&[sns(&sent)], &[], &variables), sample).await.unwrap();
    assert_eq!((outcome.outcome, outcome.severity), ("published", Some("Low")));
    let alert = to(&sent, ALERTS);
    assert!(alert.body.contains("name your networks in TrustedSources"), "{}", alert.body);
    assert!(!alert.body.contains("put-key-policy --region"), "{}", alert.body);
    let trusting = guard(&[], &[], &[("TRUSTED_SOURCES", "203.0.113.0/24")]);
    assert_eq!(answer(&trusting, sample).await.unwrap().outcome, "silent");
}

#[tokio::test]
async fn minimum_severity_holds_back_and_says_so() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &kms_answers(), &[("MINIMUM_SEVERITY", "Medium")]);
    assert_eq!(answer(&guard, "key-enabled").await.unwrap().outcome, "below-minimum");
    assert!(sent.lock().unwrap().is_empty());
    assert_eq!(answer(&guard, "key-disabled").await.unwrap().outcome, "published");
}

#[tokio::test]
async fn repeated_delivery_is_the_same_alert() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &kms_answers(), &[]);
    let (first, second) = tokio::join!(answer(&guard, "deletion-scheduled"), answer(&guard, "deletion-scheduled"));
    assert_eq!(first.unwrap(), second.unwrap());
    let sent = sent.lock().unwrap();
    let bodies: Vec<_> = sent.iter().filter(|message| message.topic == FINDINGS).map(|message| &message.body).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn more_grants_than_are_read_are_told_as_more() {
    let sent = Sent::default();
    let page = mock!(aws_sdk_kms::Client::list_grants)
        .sequence()
        .output(|| {
            let grant = || GrantListEntry::builder().grantee_principal("arn:aws:iam::111122223333:role/app").build();
            ListGrantsOutput::builder()
                .set_grants(Some((0..100).map(|_| grant()).collect()))
                .truncated(true)
                .next_marker("more")
                .build()
        })
        .repeatedly()
        .build();
    let mut answers = kms_answers();
    answers[4] = page;
    answer(&guard(&[sns(&sent)], &answers, &[]), "key-disabled").await.unwrap();
    let body = to(&sent, ALERTS).body;
    assert!(body.contains("more than 300 (at most 300 are read): 300 by arn:aws:iam::111122223333:role/app"), "{body}");
    assert!(body.contains("Raised: at least 300 grants on the key"), "{body}");
}

#[tokio::test]
async fn no_budget_means_no_look_ups() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &[], &[("ENRICH_TIMEOUT_MS", "0")]);
    answer(&guard, "deletion-scheduled").await.unwrap();
    assert!(to(&sent, ALERTS).body.contains("state, aliases, tags, last use, grants: KMS wasn't asked"));
}

#[tokio::test]
async fn invocation_without_a_deadline_still_has_time() {
    let sent = Sent::default();
    let path = format!("{}/events/key-disabled.json", env!("CARGO_MANIFEST_DIR"));
    let payload = serde_json::value::RawValue::from_string(std::fs::read_to_string(path).unwrap()).unwrap();
    let invocation = lambda_runtime::LambdaEvent::new(payload, lambda_runtime::Context::default());
    let outcome = guard(&[sns(&sent)], &kms_answers(), &[]).handle(invocation).await.unwrap();
    assert_eq!(outcome.outcome, "published");
}

#[tokio::test]
async fn test_goes_out_whatever_the_minimum_severity() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &[], &[("MINIMUM_SEVERITY", "Critical")]);
    let outcome = answer(&guard, "guard-test").await.unwrap();
    assert_eq!((outcome.outcome, outcome.detection), ("published", Some("guard-test")));
    let (alert, finding) = (to(&sent, ALERTS), to(&sent, FINDINGS));
    assert!(alert.subject.as_deref().unwrap().starts_with("[INFO] KMS Key Guard: TEST"), "{alert:?}");
    let document: Value = serde_json::from_str(&finding.body).unwrap();
    assert_eq!(document["unmapped"]["event_id"], "0f9d3c52-6b1e-4f0e-9a53-2f0d5c3f7a11");
    assert_eq!((&document["is_alert"], &document["severity_id"]), (&false.into(), &1.into()));
}

#[tokio::test]
async fn tampering_reaches_both_topics_and_kms_is_not_asked() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &[], &[]);
    let outcome = answer(&guard, "guard-trail-stopped").await.unwrap();
    assert_eq!((outcome.detection, outcome.severity), (Some("guard-tampered"), Some("Critical")));
    let document: Value = serde_json::from_str(&to(&sent, FINDINGS).body).unwrap();
    assert_eq!(document["resources"][0]["type"], "AWS::CloudTrail::Trail");
    assert!(to(&sent, ALERTS).body.contains("aws cloudtrail start-logging --region eu-west-1 --name management"));
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the log says of one event, as the deployed function writes it.
async fn logged(guard: &Guard, sample: &str) -> Value {
    // Whether a line is written at all is remembered by the first test that comes by it: for all threads, then.
    let _ = log::lines(std::io::sink).try_init();
    let written = Written::default();
    let to = written.clone();
    let logging = log::lines(move || to.clone()).set_default();
    drop(answer(guard, sample).await);
    drop(logging);
    serde_json::from_slice(&written.0.lock().unwrap()).expect("one line, and it is JSON")
}

/// Leaves a line of the log where tests/template/test_dashboard.py holds the dashboard's queries to it.
fn keep(name: &str, line: &Value) {
    let folder = format!("{}/log", env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(format!("{folder}/{name}.json"), line.to_string()).unwrap();
}

/// The dashboard's queries read these fields.
#[tokio::test]
async fn log_line_tells_what_the_dashboard_counts() {
    let line = logged(&guard(&[sns(&Sent::default())], &kms_answers(), &[]), "deletion-scheduled").await;
    keep("published", &line);
    assert_eq!((&line["message"], &line["outcome"]), (&"alert".into(), &"published".into()));
    assert_eq!((&line["severity"], &line["detection"]), (&"Critical".into(), &"key-deletion-scheduled".into()));
    assert!(line["publish_ms"].is_u64(), "{line}");
    // Last use isn't offered here, which is no failure.
    assert_eq!((&line["unknown"], &line["failed_look_ups"]), (&"last use".into(), &0.into()));

    let mut answers = kms_answers();
    answers[0] = mock!(aws_sdk_kms::Client::describe_key).then_error(|| {
        DescribeKeyError::generic(aws_sdk_kms::error::ErrorMetadata::builder().code("AccessDeniedException").build())
    });
    let line = logged(&guard(&[sns(&Sent::default())], &answers, &[]), "deletion-scheduled").await;
    assert_eq!((&line["unknown"], &line["failed_look_ups"]), (&"state, last use".into(), &1.into()));

    let line = logged(&guard(&[broken(ALERTS), sns(&Sent::default())], &answers, &[]), "deletion-scheduled").await;
    keep("failed", &line);
    assert_eq!((&line["outcome"], &line["failed_look_ups"]), (&"failed".into(), &1.into()));
    assert!(line["publish_ms"].is_u64(), "{line}");

    let held_back = guard(&[], &kms_answers(), &[("MINIMUM_SEVERITY", "Critical")]);
    let line = logged(&held_back, "key-enabled").await;
    assert_eq!((&line["outcome"], line.get("publish_ms")), (&"below-minimum".into(), None));

    let line = logged(&guard(&[sns(&Sent::default())], &[], &[]), "store-deleted").await;
    assert_eq!(line["failed_look_ups"], 0, "there is no key to ask for: {line}");
}
