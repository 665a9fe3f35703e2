//! Keys in the other accounts of an organization: whose role is assumed, whose never, and what the alert says otherwise.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_sdk_kms::operation::describe_key::DescribeKeyOutput;
use aws_sdk_kms::operation::get_key_last_usage::GetKeyLastUsageOutput;
use aws_sdk_kms::operation::list_aliases::ListAliasesOutput;
use aws_sdk_kms::operation::list_grants::ListGrantsOutput;
use aws_sdk_kms::operation::list_resource_tags::ListResourceTagsOutput;
use aws_sdk_kms::types::{KeyMetadata, KeyState};
use aws_sdk_sts::error::ErrorMetadata;
use aws_sdk_sts::operation::assume_role::{AssumeRoleError, AssumeRoleInput, AssumeRoleOutput};
use aws_sdk_sts::types::{AssumedRoleUser, Credentials};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use kms_key_guard::config::Organization;
use kms_key_guard::detect::{Settings, detect};
use kms_key_guard::event::Event;
use kms_key_guard::finding::Finding;
use kms_key_guard::key::{Fact, Why};
use kms_key_guard::members::{Members, SESSION_NAME};
use serde_json::{Value, json};
use time::OffsetDateTime;

const HUB: &str = "111122223333";
const SPOKE: &str = "444455556666";
const ROLE: &str = "kms-key-guard-spoke-reader";
const BUDGET: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// A key of this account and Region scheduled for deletion, as the hub's bus hears it.
fn event(account: &str, region: &str) -> Value {
    let path = format!("{}/events/deletion-scheduled.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap().replace(HUB, account).replace("eu-west-1", region);
    serde_json::from_str(&text).unwrap()
}

/// STS with one answer for every request, and the roles it was asked for.
struct Sts {
    rule: Rule,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Sts {
    fn with(answer: impl Fn(&str) -> AssumeRoleOutput + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (note, last) = (Arc::clone(&asked), Arc::clone(&asked));
        let rule = mock!(aws_sdk_sts::Client::assume_role)
            .match_requests(move |request: &AssumeRoleInput| {
                assert_eq!(request.role_session_name(), Some(SESSION_NAME));
                note.lock().unwrap().push(request.role_arn().unwrap().to_owned());
                true
            })
            .sequence()
            .output(move || answer(last.lock().unwrap().last().unwrap()))
            .repeatedly()
            .build();
        Self { rule, asked }
    }

    /// As AWS answers: a session of the role that was asked for.
    fn honest(lasting: Duration) -> Self {
        Self::with(move |role| session(&format!("{}/{SESSION_NAME}", as_session(role)), lasting))
    }

    fn refusing(code: &'static str) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        let rule = mock!(aws_sdk_sts::Client::assume_role)
            .match_requests(move |request: &AssumeRoleInput| {
                note.lock().unwrap().push(request.role_arn().unwrap().to_owned());
                true
            })
            .sequence()
            .error(move || AssumeRoleError::generic(ErrorMetadata::builder().code(code).build()))
            .repeatedly()
            .build();
        Self { rule, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn as_session(role: &str) -> String {
    role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
}

fn session(arn: &str, lasting: Duration) -> AssumeRoleOutput {
    let until = aws_sdk_sts::primitives::DateTime::from(SystemTime::now() + lasting);
    let credentials = Credentials::builder().access_key_id("ASIAEXAMPLE").secret_access_key("s").session_token("t");
    AssumeRoleOutput::builder()
        .credentials(credentials.expiration(until).build().unwrap())
        .assumed_role_user(AssumedRoleUser::builder().arn(arn).assumed_role_id("AROAEXAMPLE:s").build().unwrap())
        .build()
}

fn reader(sts: &Sts) -> Members {
    let described = mock!(aws_sdk_kms::Client::describe_key).then_output(|| {
        let metadata = KeyMetadata::builder().key_id("k").key_state(KeyState::PendingDeletion).build().unwrap();
        DescribeKeyOutput::builder().key_metadata(metadata).build()
    });
    let others = [
        mock!(aws_sdk_kms::Client::list_aliases).then_output(|| ListAliasesOutput::builder().build()),
        mock!(aws_sdk_kms::Client::list_resource_tags).then_output(|| ListResourceTagsOutput::builder().build()),
        mock!(aws_sdk_kms::Client::get_key_last_usage).then_output(|| GetKeyLastUsageOutput::builder().build()),
        mock!(aws_sdk_kms::Client::list_grants).then_output(|| ListGrantsOutput::builder().build()),
    ];
    let rules: Vec<_> = std::iter::once(described).chain(others).collect();
    let kms = mock_client!(aws_sdk_kms, RuleMode::MatchAny, &rules, |config| config
        .region(aws_sdk_kms::config::Region::new("eu-west-1")));
    let sts = mock_client!(aws_sdk_sts, RuleMode::MatchAny, [&sts.rule]);
    Members::new(Organization { reader_role: ROLE.into(), account: HUB.into() }, kms, sts)
}

async fn enriched(reader: &Members, event: &Value) -> Finding {
    let event = Event::from_value(event.clone());
    let mut finding = detect(&event, &Settings::default(), OffsetDateTime::UNIX_EPOCH).unwrap();
    reader.enrich(&mut finding, &event, BUDGET).await;
    finding
}

fn why(finding: &Finding) -> &str {
    match &finding.facts.metadata {
        Fact::Unknown(Why::NoReader(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn key_of_another_account_is_looked_up_with_its_reader_role() {
    let sts = Sts::honest(HOUR);
    let finding = enriched(&reader(&sts), &event(SPOKE, "us-east-1")).await;
    assert_eq!(finding.state(), Some("PendingDeletion"));
    assert_eq!(finding.account(), Some(SPOKE));
    assert_eq!(finding.region().unwrap().as_str(), "us-east-1");
    assert_eq!(sts.asked(), [format!("arn:aws:iam::{SPOKE}:role/{ROLE}")]);
}

#[tokio::test]
async fn own_account_needs_no_role_in_any_region() {
    let sts = Sts::honest(HOUR);
    let reader = reader(&sts);
    for region in ["eu-west-1", "us-east-1"] {
        assert_eq!(enriched(&reader, &event(HUB, region)).await.state(), Some("PendingDeletion"));
    }
    assert!(sts.asked().is_empty());
}

#[tokio::test]
async fn role_is_assumed_once_for_an_account_in_all_its_regions() {
    let sts = Sts::honest(HOUR);
    let reader = reader(&sts);
    for region in ["eu-west-1", "us-east-1", "eu-west-1", "ap-southeast-2"] {
        assert_eq!(enriched(&reader, &event(SPOKE, region)).await.state(), Some("PendingDeletion"));
    }
    assert_eq!(sts.asked().len(), 1);
    enriched(&reader, &event("123456789012", "eu-west-1")).await;
    assert_eq!(sts.asked().len(), 2);
}

#[tokio::test]
async fn session_is_made_anew_before_it_ends() {
    let sts = Sts::honest(Duration::from_secs(200));
    let reader = reader(&sts);
    for _ in 0..2 {
        assert_eq!(enriched(&reader, &event(SPOKE, "eu-west-1")).await.state(), Some("PendingDeletion"));
    }
    assert_eq!(sts.asked().len(), 2);
}

#[tokio::test]
async fn role_is_assumed_in_the_partition_of_the_region() {
    let sts = Sts::honest(HOUR);
    let text = event(SPOKE, "us-gov-west-1").to_string().replace("arn:aws:", "arn:aws-us-gov:");
    enriched(&reader(&sts), &serde_json::from_str(&text).unwrap()).await;
    assert_eq!(sts.asked(), [format!("arn:aws-us-gov:iam::{SPOKE}:role/{ROLE}")]);
}

#[tokio::test]
async fn role_that_is_not_there_leaves_the_facts_unknown_with_the_reason() {
    for (code, words) in [
        ("AccessDenied", "isn't there, or doesn't let the guard in"),
        ("Throttling", "STS throttled the request"),
        ("RegionDisabledException", "STS said RegionDisabledException"),
    ] {
        let finding = enriched(&reader(&Sts::refusing(code)), &event(SPOKE, "eu-west-1")).await;
        assert!(why(&finding).contains(words), "{}", why(&finding));
        assert_eq!(finding.account(), Some(SPOKE));
    }
}

#[tokio::test]
async fn refusal_is_not_kept() {
    let sts = Sts::refusing("AccessDenied");
    let reader = reader(&sts);
    for _ in 0..2 {
        enriched(&reader, &event(SPOKE, "eu-west-1")).await;
    }
    assert_eq!(sts.asked().len(), 2);
}

#[tokio::test]
async fn role_that_answers_for_another_account_or_name_is_refused() {
    for other in [
        format!("arn:aws:sts::123456789012:assumed-role/{ROLE}/{SESSION_NAME}"),
        format!("arn:aws:sts::{SPOKE}:assumed-role/admin/{SESSION_NAME}"),
        format!("arn:aws:sts::{SPOKE}:assumed-role/{ROLE}/somebody"),
        format!("arn:aws:iam::{SPOKE}:role/{ROLE}"),
        String::new(),
    ] {
        let sts = Sts::with(move |_| session(&other, HOUR));
        let finding = enriched(&reader(&sts), &event(SPOKE, "eu-west-1")).await;
        assert!(why(&finding).contains("another session"), "{}", why(&finding));
    }
}

#[tokio::test]
async fn answer_without_credentials_or_identity_is_refused() {
    let user = || {
        let arn = format!("arn:aws:sts::{SPOKE}:assumed-role/{ROLE}/{SESSION_NAME}");
        AssumedRoleUser::builder().arn(arn).assumed_role_id("A").build().unwrap()
    };
    for with_user in [true, false] {
        let sts = Sts::with(move |_| AssumeRoleOutput::builder().set_assumed_role_user(with_user.then(user)).build());
        let finding = enriched(&reader(&sts), &event(SPOKE, "eu-west-1")).await;
        assert!(why(&finding).contains("incomplete"), "{}", why(&finding));
    }
}

#[tokio::test]
async fn no_role_is_assumed_where_envelope_record_and_key_disagree() {
    let spoke = event(SPOKE, "eu-west-1");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut event = spoke.clone();
        change(&mut event);
        event
    };
    for (case, event, words) in [
        ("envelope of another account", with(&|e| e["account"] = json!("123456789012")), "is account 444455556666's"),
        ("envelope without an account", with(&|e| e["account"] = Value::Null), "doesn't say which account"),
        ("envelope's account malformed", with(&|e| e["account"] = json!("4444\n5555")), "which is no account"),
        ("envelope of another Region", with(&|e| e["region"] = json!("us-east-1")), "comes from us-east-1"),
        ("envelope's Region malformed", with(&|e| e["region"] = json!("moon-1")), "which is no Region"),
        ("envelope without a Region", with(&|e| e["region"] = Value::Null), "doesn't say which Region"),
        (
            "record of another account",
            with(&|e| e["detail"]["recipientAccountId"] = json!("123456789012")),
            "its record is account 123456789012's",
        ),
        (
            "key of another account",
            with(&|e| {
                let arn = json!("arn:aws:kms:eu-west-1:123456789012:key/0f1e");
                e["detail"]["responseElements"]["keyId"] = arn;
            }),
            "the key is account 123456789012's",
        ),
        (
            "key of the hub's own account",
            with(&|e| {
                let arn = json!("arn:aws:kms:eu-west-1:111122223333:key/0f1e");
                e["detail"]["responseElements"]["keyId"] = arn;
            }),
            "the key is account 111122223333's",
        ),
        ("bare record", spoke["detail"].clone(), "doesn't say which account"),
    ] {
        let sts = Sts::honest(HOUR);
        let finding = enriched(&reader(&sts), &event).await;
        assert!(why(&finding).contains(words), "{case}: {}", why(&finding));
        assert!(!why(&finding).contains('\n'), "{case}");
        assert!(finding.particulars.iter().any(|said| said.contains(words)), "{case}: {:?}", finding.particulars);
        assert!(sts.asked().is_empty(), "{case}");
    }
}

#[tokio::test]
async fn without_time_nobody_is_asked() {
    let sts = Sts::honest(HOUR);
    let event = Event::from_value(event(SPOKE, "eu-west-1"));
    let mut finding = detect(&event, &Settings::default(), OffsetDateTime::UNIX_EPOCH).unwrap();
    reader(&sts).enrich(&mut finding, &event, Duration::ZERO).await;
    assert_eq!(finding.facts.metadata, Fact::Unknown(Why::NoTime));
    assert!(sts.asked().is_empty());
}
