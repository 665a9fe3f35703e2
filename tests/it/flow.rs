//! The whole way of an event through the handler, with the SDK's own clients and their answers mocked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kms::operation::describe_key::{DescribeKeyError, DescribeKeyOutput};
use aws_sdk_kms::operation::get_key_last_usage::{GetKeyLastUsageError, GetKeyLastUsageOutput};
use aws_sdk_kms::operation::list_aliases::ListAliasesOutput;
use aws_sdk_kms::operation::list_grants::{ListGrantsError, ListGrantsOutput};
use aws_sdk_kms::operation::list_resource_tags::ListResourceTagsOutput;
use aws_sdk_kms::primitives::DateTime;
use aws_sdk_kms::types::builders::KeyMetadataBuilder;
use aws_sdk_kms::types::{
    AliasListEntry, GrantConstraints, GrantListEntry, KeyMetadata, KeySpec, KeyState, MultiRegionConfiguration,
    MultiRegionKey, MultiRegionKeyType, Tag,
};
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
    assert!(alert.body.contains("until 2026-10-05 10:00:00 UTC\n"), "{}", alert.body);
    assert!(alert.body.contains("owner=team-payments") && alert.body.contains("aws:rds:db-id=db-EXAMPLE"));
    assert!(alert.body.contains("Not known: last use (KMS doesn't offer this here)"), "{}", alert.body);

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

/// KMS's answers, with this one to DescribeKey.
fn kms_says(metadata: impl Fn(KeyMetadataBuilder) -> KeyMetadataBuilder + Send + Sync + 'static) -> Vec<Rule> {
    let mut rules = kms_answers();
    rules[0] = mock!(aws_sdk_kms::Client::describe_key).then_output(move || {
        let metadata = metadata(KeyMetadata::builder().key_id("k")).build().unwrap();
        DescribeKeyOutput::builder().key_metadata(metadata).build()
    });
    rules
}

#[tokio::test]
async fn what_kms_answers_changes_what_is_said_and_never_how_severe_it_is() {
    let text = async |kms: Vec<Rule>, sample: &str, variables: &[(&str, &str)]| {
        let sent = Sent::default();
        let severity = answer(&guard(&[sns(&sent)], &kms, variables), sample).await.unwrap().severity.unwrap();
        (to(&sent, ALERTS).body, severity)
    };
    let rsa = kms_says(|key| key.key_state(KeyState::PendingImport).key_spec(KeySpec::Rsa4096));
    let (body, _) = text(rsa, "material-deleted", &[]).await;
    assert!(body.contains("RSA_AES_KEY_WRAP_SHA_256") && !body.contains("RSAES_OAEP"), "{body}");

    let replica = kms_says(|key| {
        let primary = MultiRegionKey::builder().region("us-east-1").build();
        let kind = MultiRegionConfiguration::builder().multi_region_key_type(MultiRegionKeyType::Replica);
        let configuration = kind.primary_key(primary).build();
        key.key_state(KeyState::PendingDeletion).multi_region_configuration(configuration)
    });
    let (body, _) = text(replica, "deletion-scheduled-multi-region-key", &[]).await;
    assert!(body.contains("aws kms replicate-key --region us-east-1 --key-id arn:aws:kms:us-east-1:"), "{body}");

    let enabled = || kms_says(|key| key.key_state(KeyState::Enabled));
    let (body, severity) = text(enabled(), "deletion-scheduled", &[]).await;
    assert!(body.contains("KMS still answers Enabled; this may lag"), "{body}");
    assert_eq!(severity, text(kms_answers(), "deletion-scheduled", &[]).await.1);

    let disabled = || kms_says(|key| key.key_state(KeyState::Disabled));
    let key = sample_key("key-disabled");
    let expected = ("EXPECTED_PRINCIPALS", "arn:aws:iam::111122223333:role/platform-admin");
    assert_eq!(text(disabled(), "key-disabled", &[expected, ("PROTECTED_KEYS", &key)]).await.1, "Critical");
    assert_ne!(text(disabled(), "key-disabled", &[expected]).await.1, "Critical");
}

/// The id of the sample's key.
fn sample_key(sample: &str) -> String {
    let path = format!("{}/events/{sample}.json", env!("CARGO_MANIFEST_DIR"));
    let event: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    event["detail"]["resources"][0]["ARN"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
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
    assert!(alert.body.contains("THE KEY POLICY LOCKS THE ACCOUNT OUT"), "{}", alert.body);
    assert!(alert.body.contains("Deadline from: the event's record"), "the record's deadline stays: {}", alert.body);
}

#[tokio::test]
async fn state_that_lags_behind_never_overrides_the_record() {
    let sent = Sent::default();
    let mut answers = kms_answers();
    answers[0] = described(KeyState::Enabled, None);
    answer(&guard(&[sns(&sent)], &answers, &[]), "deletion-scheduled").await.unwrap();
    let alert = to(&sent, ALERTS);
    assert!(alert.subject.unwrap().contains("scheduled for deletion, 7 d left"));
    assert!(alert.body.contains("Enabled when looked up"), "{}", alert.body);
}

#[tokio::test]
async fn replicas_hold_the_deadline_off() {
    let sent = Sent::default();
    let mut answers = kms_answers();
    answers[0] = described(KeyState::PendingReplicaDeletion, None);
    answer(&guard(&[sns(&sent)], &answers, &[]), "deletion-scheduled-response-null").await.unwrap();
    assert!(to(&sent, ALERTS).body.contains("no date yet"), "{}", to(&sent, ALERTS).body);
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
    assert!(to(&sent, ALERTS).body.contains("Not an all-clear"), "{}", to(&sent, ALERTS).body);
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
    assert!(to(&sent, ALERTS).body.contains("this event was replayed from an archive"));
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

/// What KMS answers about a key that nothing depends on, but for what it refuses to tell.
fn idle_key(refused: &[&str]) -> Vec<Rule> {
    let refused = |what: &str| refused.contains(&what);
    let denied = || aws_sdk_kms::error::ErrorMetadata::builder().code("AccessDeniedException").build();
    let mut answers = kms_answers();
    answers.truncate(3);
    answers.push(if refused("last use") {
        mock!(aws_sdk_kms::Client::get_key_last_usage).then_error(move || GetKeyLastUsageError::generic(denied()))
    } else {
        mock!(aws_sdk_kms::Client::get_key_last_usage).then_output(|| {
            let since = GetKeyLastUsageOutput::builder().tracking_start_date(DateTime::from_secs(1));
            since.key_creation_date(DateTime::from_secs(0)).build()
        })
    });
    answers.push(if refused("grants") {
        mock!(aws_sdk_kms::Client::list_grants).then_error(move || ListGrantsError::generic(denied()))
    } else {
        mock!(aws_sdk_kms::Client::list_grants)
            .then_output(|| ListGrantsOutput::builder().set_grants(Some(vec![])).build())
    });
    answers
}

#[tokio::test]
async fn minimum_severity_holds_nothing_back_that_may_be_worse_than_is_known() {
    let high = ("MINIMUM_SEVERITY", "High");
    let sent = Sent::default();
    let known = guard(&[sns(&sent)], &idle_key(&[]), &[high]);
    assert_eq!(answer(&known, "key-disabled").await.unwrap().outcome, "below-minimum");
    for unknown in ["last use", "grants"] {
        let outcome = answer(&guard(&[sns(&sent)], &idle_key(&[unknown]), &[high]), "key-disabled").await.unwrap();
        assert_eq!((outcome.outcome, outcome.severity), ("published", Some("Medium")), "{unknown}");
    }
    let nothing_asked = guard(&[sns(&sent)], &[], &[high, ("ENRICH_TIMEOUT_MS", "0")]);
    assert_eq!(answer(&nothing_asked, "key-disabled").await.unwrap().outcome, "published");
    assert_eq!(answer(&nothing_asked, "store-deleted").await.unwrap().outcome, "below-minimum");
}

#[tokio::test]
async fn what_happens_to_the_guard_itself_goes_out_whatever_the_minimum_severity() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &[], &[("MINIMUM_SEVERITY", "Critical")]);
    for (sample, severity) in [
        ("guard-rule-disabled-by-cloudformation", "Medium"),
        ("spoke-could-not-forward", "High"),
        ("spoke-forwards-again", "Informational"),
        ("detail-text", "High"),
    ] {
        let outcome = answer(&guard, sample).await.unwrap();
        assert_eq!((outcome.outcome, outcome.severity), ("published", Some(severity)), "{sample}");
    }
}

#[tokio::test]
async fn part_that_is_put_back_is_informational_and_may_be_held_back() {
    let sent = Sent::default();
    let own =
        [("AWS_LAMBDA_FUNCTION_NAME", "kms-key-guard-AlertFunction-1A2B3C4D5E6F"), ("STACK_NAME", "kms-key-guard")];
    let knowing = guard(&[sns(&sent)], &[], &own);
    for (sample, severity) in [
        ("guard-rule-put-back", "Informational"),
        ("guard-rule-targets-put-back", "Informational"),
        ("guard-rule-targets-transformed", "Critical"),
        ("guard-rule-put-changed", "Critical"),
    ] {
        let outcome = answer(&knowing, sample).await.unwrap();
        assert_eq!((outcome.outcome, outcome.severity), ("published", Some(severity)), "{sample}");
    }
    let quiet = guard(&[], &[], &[&own[..], &[("MINIMUM_SEVERITY", "Low")]].concat());
    assert_eq!(answer(&quiet, "guard-rule-put-back").await.unwrap().outcome, "below-minimum");
    let unnamed = guard(&[sns(&sent)], &[], &own[..1]);
    assert_eq!(answer(&unnamed, "guard-rule-put-back").await.unwrap().severity, Some("Critical"));
}

/// The sample's answer so many minutes later.
async fn later(guard: &Guard, sample: &str, minutes: i64) -> Result<AlertOutcome, Error> {
    let path = format!("{}/events/{sample}.json", env!("CARGO_MANIFEST_DIR"));
    let now = NOW + time::Duration::minutes(minutes);
    guard.answer(&std::fs::read_to_string(path).unwrap(), now, || Duration::from_secs(15)).await
}

#[tokio::test]
async fn use_of_a_lost_key_is_published_once_an_hour_for_a_key_and_caller_with_the_number_held_back() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &kms_answers(), &[("REPORT_LOST_KEY_USE", "true")]);
    for (sample, minute, outcome) in [
        ("lost-key-disabled", 0, "published"),
        ("lost-key-disabled", 1, "rate-limited"),
        ("lost-key-used-by-service", 2, "published"),
        ("key-disabled", 3, "published"),
        ("key-disabled", 4, "published"),
        ("lost-key-disabled", 59, "rate-limited"),
        ("lost-key-disabled", 61, "published"),
        ("lost-key-disabled", 122, "published"),
    ] {
        let answer = later(&guard, sample, minute).await.unwrap();
        assert_eq!(answer.outcome, outcome, "{sample} at {minute} min");
        assert!(answer.uid.is_some(), "one that was held back is still told by its uid");
    }
    let sent = sent.lock().unwrap();
    let of_the_app = |message: &&Message| message.body.contains("9bd89b0f-91ad-4b87-bf12-4af63434be19");
    let messages: Vec<_> = sent
        .iter()
        .filter(|message| message.attributes.iter().any(|(_, _, v)| v == "lost-key-used"))
        .filter(of_the_app)
        .collect();
    let held_back = |message: &&&Message| message.body.contains("Held back since the last message like this one: 2,");
    assert_eq!((messages.len(), messages.iter().filter(held_back).count()), (6, 2), "three times to each topic");
}

#[tokio::test]
async fn tests_are_published_once_a_minute_and_the_minute_begins_when_all_topics_took_one() {
    static BROKEN: AtomicBool = AtomicBool::new(true);
    let refuses = mock!(aws_sdk_sns::Client::publish)
        .match_requests(|request| request.topic_arn() == Some(ALERTS) && BROKEN.load(Ordering::Relaxed))
        .sequence()
        .error(|| PublishError::InternalErrorException(InternalErrorException::builder().message("broken").build()))
        .repeatedly()
        .build();
    let guard = guard(&[refuses, sns(&Sent::default())], &[], &[("MINIMUM_SEVERITY", "Critical")]);
    assert!(answer(&guard, "guard-test").await.is_err());
    BROKEN.store(false, Ordering::Relaxed);
    let outcome = async |minutes| later(&guard, "guard-test", minutes).await.unwrap().outcome;
    assert_eq!(outcome(0).await, "published", "what failed is tried again at once");
    assert_eq!(outcome(0).await, "rate-limited");
    let line = logged(&guard, "guard-test").await;
    assert_eq!((&line["outcome"], &line["detection"]), (&"rate-limited".into(), &"guard-test".into()));
    assert_eq!(outcome(2).await, "published");
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
    assert!(
        body.contains("more than 300, of which 300 were read (300 by arn:aws:iam::111122223333:role/app)"),
        "{body}"
    );
    assert!(body.contains("Raised: at least 300 grants on the key"), "{body}");
}

#[tokio::test]
async fn no_budget_means_no_look_ups() {
    let sent = Sent::default();
    let guard = guard(&[sns(&sent)], &[], &[("ENRICH_TIMEOUT_MS", "0")]);
    answer(&guard, "deletion-scheduled").await.unwrap();
    assert!(to(&sent, ALERTS).body.contains("state, aliases, tags, last use, grants (not looked up)"));
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
    assert_eq!(line["key_name"], "alias/payments-db");
    assert_eq!(line["caller"], "arn:aws:sts::111122223333:assumed-role/platform-admin/deploy-7");
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
