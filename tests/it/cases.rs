//! What an alert says in the cases where the catalogue's sentence alone would be wrong, with what KMS would answer.

use kms_key_guard::assess::assess;
#[cfg(feature = "watch")]
use kms_key_guard::at_risk::AtRisk;
use kms_key_guard::catalogue::{Activity, Severity};
use kms_key_guard::config::Rules;
use kms_key_guard::detect::{OptIns, detect};
use kms_key_guard::event::Event;
use kms_key_guard::finding::{Deadline, Finding};
#[cfg(feature = "watch")]
use kms_key_guard::key::KeyArn;
use kms_key_guard::key::{Fact, KeyFacts, KeyMetadata, LastUsage, MultiRegion, Why};
use kms_key_guard::render::Alert;
use serde_json::{Value, json};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::sound::assert_sound;

const ALL: OptIns = OptIns { denied_attempts: true, lost_key_use: true };
const ARRIVAL: OffsetDateTime = datetime!(2026-11-25 03:15:04 UTC);
const SOON: Duration = Duration::seconds(4);
const LATER: Duration = Duration::minutes(6);

fn sample(name: &str) -> Value {
    let file = format!("{}/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn found(event: Value) -> Finding {
    detect(&Event::from_value(event), &ALL.into(), ARRIVAL).unwrap()
}

/// What KMS answers: this state and nothing else.
fn answer(state: &str) -> KeyMetadata {
    KeyMetadata { state: Some(state.into()), ..KeyMetadata::default() }
}

fn facts(metadata: KeyMetadata) -> KeyFacts {
    KeyFacts { metadata: Fact::Known(metadata), ..KeyFacts::unknown(Why::TimedOut) }
}

/// The alert so long after the event, with what KMS answered, and its severity.
fn alert(event: Value, metadata: Option<KeyMetadata>, after: Duration) -> (Alert, Severity) {
    let mut finding = found(event);
    if let Some(metadata) = metadata {
        finding.facts = facts(metadata);
    }
    finding.assessment = assess(&finding, &Rules::default());
    let alert = Alert::of(&finding, finding.time + after);
    assert_sound("case", &alert);
    (alert, finding.assessment.severity)
}

fn text(event: Value, metadata: Option<KeyMetadata>, after: Duration) -> String {
    whole(&alert(event, metadata, after).0)
}

/// As a mail shows it: the Subject above the text.
fn whole(alert: &Alert) -> String {
    format!("{}\n{}", alert.subject, alert.text)
}

fn deadline(alert: &Alert) -> Value {
    serde_json::from_str::<Value>(&alert.ocsf).unwrap()["unmapped"]["deadline"].take()
}

#[track_caller]
fn assert_has(text: &str, has: &[&str], hasnt: &[&str]) {
    for part in has {
        assert!(text.contains(part), "misses {part:?}:\n{text}");
    }
    for part in hasnt {
        assert!(!text.contains(part), "has {part:?}:\n{text}");
    }
}

const REPLICA: &str = "deletion-scheduled-multi-region-replica";
const DESTROYED: &str = "and all data encrypted under it is lost";

#[test]
fn deletion_of_a_replica_destroys_no_data_and_it_can_be_made_again() {
    let replica = KeyMetadata { multi_region: MultiRegion::Replica("eu-west-1".into()), ..answer("PendingDeletion") };
    let again = "aws kms replicate-key --region eu-west-1 --key-id arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef12345678990a --replica-region eu-central-1";
    let known = text(sample(REPLICA), Some(replica), SOON);
    assert_has(
        &known,
        &["related keys in other Regions decrypt the same data", again, "If it is the last one", "d left"],
        &[DESTROYED, "PRIMARY_REGION"],
    );
    // Where the record is all there is, the text covers both.
    let unknown = text(sample(REPLICA), None, SOON);
    assert_has(
        &unknown,
        &["primary or a replica isn't known", "--region PRIMARY_REGION --key-id mrk-1234", "cancel-key-deletion"],
        &[DESTROYED],
    );
    // Nor is it otherwise for a key in a Region that this guard doesn't know.
    let elsewhere = sample(REPLICA).to_string().replace("eu-central-1", "nz-north-1");
    let elsewhere = text(serde_json::from_str(&elsewhere).unwrap(), None, SOON);
    assert_has(&elsewhere, &["Its related keys in other Regions"], &[DESTROYED]);
    // A Region that no ARN can be built from never reaches a command.
    let hostile = KeyMetadata { multi_region: MultiRegion::Replica("x; id".into()), ..answer("PendingDeletion") };
    assert_has(&text(sample(REPLICA), Some(hostile), SOON), &["--region PRIMARY_REGION"], &["--region x"]);
}

#[test]
fn deletion_of_a_primary_waits_for_its_replicas_and_one_without_any_is_the_only_key() {
    let primary = |replicas: &[&str], state: &str| {
        let replicas = replicas.iter().map(|region| (*region).to_owned()).collect();
        Some(KeyMetadata { multi_region: MultiRegion::Primary(replicas), ..answer(state) })
    };
    let waits = text(sample(REPLICA), primary(&["us-east-1"], "PendingReplicaDeletion"), SOON);
    assert_has(&waits, &["waiting period begins when its last replica is deleted"], &["replicate-key", DESTROYED]);
    assert_has(&text(sample(REPLICA), primary(&[], "PendingDeletion"), SOON), &[DESTROYED], &["related keys"]);
    let many: Vec<_> = (0..10_000).map(|_| "us-east-1").collect();
    let (alert, _) = alert(sample(REPLICA), primary(&many, "PendingReplicaDeletion"), SOON);
    assert!(alert.text.contains("and 9980 more") && alert.text.len() < 20_000);
}

#[test]
fn deleted_replica_is_not_gone_for_good() {
    let mut finding = found(sample("key-deleted-multi-region-key-native"));
    finding.facts = KeyFacts::unknown(Why::NotFound);
    let alert = Alert::of(&finding, ARRIVAL);
    assert_has(
        &whole(&alert),
        &["deleted in this Region", "replicate-key --region PRIMARY_REGION", "waiting period begins now"],
        &["permanently deleted", "KMS destroyed the key:", "knows no such key: it is deleted already"],
    );
    assert!(alert.ocsf.contains("related keys in other Regions"), "{}", alert.ocsf);
    let single = text(sample("key-deleted-native"), None, SOON);
    assert_has(&single, &["permanently deleted"], &["replicate-key"]);
}

#[test]
fn disabled_multi_region_key_is_lost_in_this_region_only_and_replicas_raise_nothing() {
    let name = "key-disabled-multi-region-primary";
    let primary = KeyMetadata { multi_region: MultiRegion::Primary(vec!["eu-central-1".into()]), ..answer("Disabled") };
    for metadata in [Some(primary), None] {
        let (alert, severity) = alert(sample(name), metadata, SOON);
        assert_eq!(severity, Severity::Medium);
        assert_has(&alert.text, &["in this Region"], &["what is encrypted under it can't be read"]);
    }
    let material = text(sample("material-deleted-multi-region-key"), None, SOON);
    assert_has(&material, &["own copies of the material"], &["nothing under it"]);
    let mut event = sample("policy-use-denied-to-all-but-the-root-user");
    event["detail"]["resources"][0]["ARN"] = format!("arn:aws:kms:eu-west-1:111122223333:key/mrk-{:032}", 1).into();
    assert_has(&text(event, None, SOON), &["have their own policies"], &["can't be read"]);
}

#[test]
fn lag_keeps_the_countdown_and_later_the_answer_counts() {
    let name = "deletion-scheduled";
    let pending = alert(sample(name), Some(answer("PendingDeletion")), LATER);
    for state in ["Enabled", "Disabled", "PendingImport", "Unheard"] {
        let (soon, severity) = alert(sample(name), Some(answer(state)), SOON);
        assert_has(&soon.text, &[&format!("KMS still answers {state}; this may lag")], &[]);
        assert!(soon.subject.contains("d left") && deadline(&soon)["kind"] == "at", "{}", soon.subject);
        let (later, later_severity) = alert(sample(name), Some(answer(state)), LATER);
        assert_has(&whole(&later), &["KMS knows of no deletion any more"], &["may lag", "d left", DESTROYED]);
        assert_eq!((severity, later_severity), (pending.1, pending.1), "an answer never lowers it");
        assert_eq!(deadline(&later), json!({"kind": "none"}));
    }
    assert_has(&whole(&pending.0), &[DESTROYED], &["may lag", "any more"]);
    let still = text(sample(name), Some(answer("Disabled")), LATER);
    assert_has(&still, &["STILL DISABLED", "aws kms enable-key"], &["cancel-key-deletion"]);
}

#[test]
fn other_events_that_kms_contradicts_say_so() {
    let disabled = |after| text(sample("key-disabled"), Some(answer("Enabled")), after);
    assert_has(&disabled(SOON), &["KMS still answers Enabled; this may lag", "enable-key"], &[]);
    assert_has(&disabled(LATER), &["was disabled, is Enabled now"], &["can't be used", "enable-key"]);
    let used = text(sample("lost-key-disabled"), Some(answer("Enabled")), LATER);
    assert_has(&used, &["By KMS's answer it can be used now"], &["cancel-key-deletion"]);
    let deleted = |after| text(sample("key-deleted"), Some(answer("PendingDeletion")), after);
    assert_has(&deleted(SOON), &["KMS still answers PendingDeletion; this may lag"], &[]);
    assert_has(&deleted(LATER), &["KMS knows a key with this ID: it is PendingDeletion"], &[]);
    let cancelled = |after| text(sample("deletion-cancelled"), Some(answer("PendingDeletion")), after);
    assert_has(&cancelled(SOON), &["KMS still answers PendingDeletion; this may lag"], &[]);
    assert_has(&cancelled(LATER), &["its deletion was scheduled again"], &[]);
}

#[test]
fn key_that_kms_does_not_know_is_said_in_words() {
    let mut finding = found(sample("deletion-scheduled"));
    finding.facts = KeyFacts::unknown(Why::NotFound);
    assert_has(&Alert::of(&finding, finding.time + SOON).text, &["KMS knows no such key: it is deleted already"], &[]);
}

#[test]
fn deleted_material_that_leaves_the_key_enabled_loses_no_data() {
    const LOST: &str = "Data under it can't be read";
    let name = "material-deleted-waiting-for-rotation";
    let id = "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0";
    let lost = [LOST, "lost its key material"];
    assert_has(&text(sample(name), None, SOON), &["waiting for its rotation", id], &lost);
    let enabled = || Some(answer("Enabled"));
    assert_has(&text(sample(name), enabled(), SOON), &["KMS still answers", "rotation", "this may lag"], &lost);
    assert_has(&text(sample(name), enabled(), LATER), &["is Enabled now"], &[LOST, "import-key-material"]);
    let (gone, severity) = alert(sample(name), Some(answer("PendingImport")), LATER);
    assert_has(&whole(&gone), &[LOST, &format!("--import-type EXISTING_KEY_MATERIAL --key-material-id {id}")], &[]);
    assert_eq!(severity, alert(sample(name), enabled(), LATER).1);
}

#[test]
fn use_after_the_event_raises_nothing() {
    let mut finding = found(sample("key-disabled"));
    let used = |at| Fact::Known(LastUsage::Used { operation: "Decrypt".into(), at });
    for (after, severity) in [(Duration::seconds(30), Severity::Medium), (Duration::seconds(-30), Severity::High)] {
        finding.facts.last_usage = used(finding.time + after);
        assert_eq!(assess(&finding, &Rules::default()).severity, severity);
    }
}

/// What an alert says of importing again a key of this spec, in this Region.
fn import(spec: Option<&str>, region: &str) -> String {
    let partition = if region.starts_with("cn-") { "aws-cn" } else { "aws" };
    let event = sample("material-deleted-rsa-key").to_string().replace("arn:aws:kms", &format!("arn:{partition}:kms"));
    let event = serde_json::from_str(&event.replace("eu-west-1", region)).unwrap();
    text(event, Some(KeyMetadata { spec: spec.map(str::to_owned), ..answer("PendingImport") }), SOON)
}

#[test]
fn material_is_wrapped_as_the_keys_spec_asks() {
    const OAEP: &str = "--wrapping-algorithm RSAES_OAEP_SHA_256 --wrapping-key-spec RSA_4096";
    const AES: &str = "--wrapping-algorithm RSA_AES_KEY_WRAP_SHA_256 --wrapping-key-spec RSA_4096";
    let steps = ["get-parameters-for-import", "openssl pkeyutl", "base64 --decode", "aws kms import-key-material"];
    for spec in ["RSA_2048", "RSA_3072", "RSA_4096"] {
        let alert = import(Some(spec), "eu-west-1");
        assert_has(&alert, &[AES, "openssl enc -id-aes256-wrap-pad"], &["RSAES_OAEP"]);
        assert_has(&alert, &steps, &["isn't known"]);
        let in_china = import(Some(spec), "cn-north-1");
        assert_has(&in_china, &["--wrapping-algorithm SM2PKE --wrapping-key-spec SM2"], &["RSA_AES_KEY_WRAP", "OAEP"]);
    }
    for spec in ["SYMMETRIC_DEFAULT", "HMAC_512", "ECC_NIST_P521", "ECC_NIST_EDWARDS25519", "SM2"] {
        for region in ["us-gov-west-1".replace("-gov", ""), "cn-north-1".into()] {
            let alert = import(Some(spec), &region);
            assert_has(&alert, &[OAEP], &["RSA_AES_KEY_WRAP", "isn't known"]);
            assert_has(&alert, &steps, &[]);
        }
    }
    // A spec of tomorrow, and one that nobody told.
    assert_has(&import(Some("LATTICE_9"), "eu-west-1"), &["LATTICE_9 is wrapped isn't known", OAEP], &[]);
    assert_has(&import(None, "eu-west-1"), &["--query KeyMetadata.KeySpec", "RSA_AES_KEY_WRAP_SHA_256", OAEP], &[]);
}

#[test]
fn every_command_of_an_import_is_in_the_runbook_too() {
    let runbook = std::fs::read_to_string(format!("{}/docs/runbook.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for spec in ["RSA_4096", "SYMMETRIC_DEFAULT"] {
        let alert = import(Some(spec), "eu-west-1");
        let (arn, id) = ("arn:aws:kms:eu-west-1:111122223333:key/", "1234abcd-12ab-34cd-56ef-1234567890ab");
        let plain = alert.replace(&format!("{arn}{id}"), "$KEY").replace("--region eu-west-1", "--region $REGION");
        let lines: Vec<_> = plain.lines().map(str::trim).collect();
        let commands: Vec<_> = lines
            .iter()
            .filter(|line| ["aws kms ", "openssl ", "jq ", "cat "].iter().any(|program| line.starts_with(program)))
            .collect();
        assert!(commands.len() >= 4, "{alert}");
        for command in commands {
            assert!(runbook.contains(&format!("\n{command}\n")), "{command}");
        }
    }
}

#[test]
fn lockout_names_whom_the_policy_still_lets_in() {
    let admins = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Admins_0123456789abcdef";
    for name in ["policy-admin-roles-only", "key-created-with-admin-roles-only"] {
        let text = text(sample(name), None, SOON);
        assert_has(&text, &["It still lets these change it (kms:PutKeyPolicy): "], &["role/eks-cluster"]);
        // However long, it stays one word that can be copied, and nothing in it acts.
        assert!(text.replace("[.]", ".").contains(admins), "{text}");
    }
}

#[test]
fn key_store_that_keeps_its_keys_is_low_and_says_what_changed() {
    const ELSEWHERE: &str = "may now point to another cluster or proxy";
    for (name, says) in [
        ("store-renamed", "renamed"),
        ("store-password-updated", "password of the kmsuser"),
        ("store-credential-rotated", "another credential"),
    ] {
        let (alert, severity) = alert(sample(name), None, SOON);
        assert_eq!(severity, Severity::Low, "{name}");
        assert_has(
            &whole(&alert),
            &[says, "record names no other", "describe-custom-key-stores"],
            &[ELSEWHERE, "the harm lasts"],
        );
    }
    for name in ["store-changed", "store-renamed-and-moved", "store-change-not-told", "store-changed-proxy"] {
        let (alert, severity) = alert(sample(name), None, SOON);
        assert_eq!(severity, Severity::Medium, "{name}");
        assert_has(&alert.text, &[ELSEWHERE], &["names no other"]);
    }
    assert_has(&text(sample("store-change-not-told"), None, SOON), &["doesn't tell what was changed"], &[]);
    let connected = found(sample("store-connected"));
    assert_eq!(connected.activity(), Activity::Update);
    assert_has(&text(sample("store-connected"), None, SOON), &["aws kms describe-custom-key-stores --region"], &[]);
}

#[test]
fn refusal_by_a_vpc_endpoint_is_an_attempt_if_that_is_opted_in() {
    for name in ["denied-by-vpc-endpoint", "records/denied-by-vpc-endpoint"] {
        assert!(detect(&Event::from_value(sample(name)), &OptIns::default().into(), ARRIVAL).is_none());
        let (alert, severity) = alert(sample(name), None, SOON);
        assert_eq!(severity, Severity::Low);
        assert_has(
            &whole(&alert),
            &[
                "ScheduleKeyDeletion denied",
                "policy of the VPC endpoint",
                "vpce-0123456789abcdef0",
                "doesn't hold what",
            ],
            &[],
        );
    }
}

#[test]
fn time_that_is_not_told_is_unknown_and_nothing_is_counted_from_it() {
    let finding = found(sample("event-time-unreadable"));
    assert_eq!((finding.time_known, finding.deadline), (false, Deadline::Unknown));
    let alert = Alert::of(&finding, ARRIVAL);
    assert_has(&alert.text, &["time unknown"], &["d left", "2026-11-25"]);
    let document: Value = serde_json::from_str(&alert.ocsf).unwrap();
    assert!(document["unmapped"]["time"].as_str().unwrap().starts_with("unknown"), "{document}");
    assert_eq!(document["time"], document["metadata"]["logged_time"]);
    assert!(document["metadata"]["original_time"].is_null() && document["finding_info"]["created_time"].is_null());
    // The record's own date is no invention.
    let mut event = sample("event-time-unreadable");
    event["detail"]["responseElements"] = json!({"deletionDate": "Mar 30, 2021, 6:58:30 PM"});
    assert!(matches!(found(event).deadline, Deadline::At(..)));
    for time in [
        json!("2021-03-23 18:58:30"),
        json!("2021-03-23 18:58:30.000 UTC"),
        json!(1_616_525_910),
        json!("1616525910000"),
    ] {
        let mut event = sample("records/event-time-from-a-database-in-2021");
        event["eventTime"] = time.clone();
        let finding = found(event);
        assert_eq!((finding.time_known, finding.time), (true, datetime!(2021-03-23 18:58:30 UTC)), "{time}");
    }
}

#[test]
fn programs_are_named_with_the_caution_that_their_name_deserves() {
    let with = |name: &str| text(sample(name), None, SOON);
    assert_has(&with("deletion-scheduled-by-cloud-custodian"), &["Cloud Custodian, says its user agent"], &[]);
    assert_has(&with("deletion-scheduled-by-terraform"), &["Terraform, says its user agent"], &[]);
    assert_has(&with("deletion-scheduled-by-spire"), &["SPIRE, by the name of the role or session"], &[]);
    assert_has(&with("deletion-scheduled-by-cloudformation"), &["CloudFormation"], &["CloudFormation, "]);
}

#[test]
fn expected_rotation_of_a_key_in_use_stays_below_high_unless_the_key_is_protected() {
    let mut event = sample("deletion-scheduled-by-spire");
    event["detail"]["requestParameters"]["pendingWindowInDays"] = 7.into();
    event["detail"]["responseElements"] = Value::Null;
    let mut finding = found(event);
    let used = finding.time - Duration::minutes(3);
    finding.facts.last_usage = Fact::Known(LastUsage::Used { operation: "Sign".into(), at: used });
    let severity = |rules: &Rules| assess(&finding, rules).severity;
    assert_eq!(severity(&Rules::default()), Severity::Critical);
    let expected =
        Rules { expected_principals: vec!["arn:aws:iam::444455556666:role/spire-server".into()], ..Rules::default() };
    assert_eq!(severity(&expected), Severity::Medium);
    let arn = finding.key().unwrap();
    for key in [arn.id().to_owned(), arn.to_string()] {
        let protected = Rules { protected_keys: vec![key], ..expected.clone() };
        assert_eq!(severity(&protected), Severity::Critical);
        assert_eq!(assess(&finding, &protected).reasons[0].text, "the key is one of ProtectedKeys");
    }
    let other = Rules { protected_keys: vec!["1234abcd-12ab-34cd-56ef-1234567890ab".into()], ..expected };
    assert_eq!(severity(&other), Severity::Medium);
}

#[cfg(feature = "watch")]
#[test]
fn protected_key_that_the_sweep_finds_at_risk_is_critical_too() {
    let arn: KeyArn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
    let key = AtRisk::of(arn.clone(), answer("Disabled"), ARRIVAL).unwrap();
    let severity =
        |protected_keys| assess(&key.finding(ARRIVAL), &Rules { protected_keys, ..Rules::default() }).severity;
    assert_eq!(severity(vec![]), Severity::Medium);
    assert_eq!(severity(vec![arn.to_string()]), Severity::Critical);
}

#[test]
fn every_finding_that_opens_a_protected_keys_story_is_critical_but_for_a_refusal() {
    for (file, text) in crate::sound::samples() {
        let Some(finding) = detect(&Event::read(&text), &ALL.into(), ARRIVAL) else { continue };
        let Some(key) = finding.key() else { continue };
        let rules = Rules { protected_keys: vec![key.id().to_owned()], ..Rules::default() };
        let critical = assess(&finding, &rules).severity == Severity::Critical;
        let plain = assess(&finding, &Rules::default()).severity;
        let opens = finding.activity() == Activity::Create && finding.detection.id != "key-loss-denied";
        assert_eq!(critical, opens || plain == Severity::Critical, "{file}");
    }
}
