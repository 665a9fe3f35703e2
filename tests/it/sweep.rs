//! The daily look at every key: which are in danger, what is said of them, on which days people are reminded, and what
//! becomes of keys that couldn't be looked at.

#[allow(dead_code, reason = "the samples are for the alerts of signals")]
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_kms::error::ErrorMetadata;
use aws_sdk_kms::operation::describe_key::{DescribeKeyError, DescribeKeyOutput};
use aws_sdk_kms::operation::get_key_last_usage::{GetKeyLastUsageError, GetKeyLastUsageOutput};
use aws_sdk_kms::operation::list_aliases::ListAliasesOutput;
use aws_sdk_kms::operation::list_keys::{ListKeysError, ListKeysOutput};
use aws_sdk_kms::operation::list_resource_tags::ListResourceTagsOutput;
use aws_sdk_kms::types::{AliasListEntry, KeyListEntry, KeyManagerType, KeySpec, KeyState, OriginType, Tag};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use insta::{Settings, assert_snapshot};
use kms_key_guard::assess::assess;
use kms_key_guard::at_risk::{AtRisk, Sweep};
use kms_key_guard::catalogue::Severity;
use kms_key_guard::config::Rules;
use kms_key_guard::coverage::{self, CHECKS, Check, Verdict};
use kms_key_guard::finding::{Deadline, Finding, Source, Step};
use kms_key_guard::key::{Fact, KeyArn, KeyMetadata, LastUsage, MultiRegion, Region, Why};
use kms_key_guard::render::Alert;
use kms_key_guard::render::digest::{Contents, Digest, DigestState};
use kms_key_guard::render::mass::{KeyLoss, MassEvent};
use kms_key_guard::watch::sweep::sweep;
use proptest::prelude::*;
use serde_json::Value;
use time::macros::datetime;
use time::{Duration as Span, OffsetDateTime};
use tokio::time::Instant;

use crate::sound::assert_sound;

const TIME: OffsetDateTime = datetime!(2026-11-22 06:00 UTC);
const NOW: OffsetDateTime = datetime!(2026-11-22 06:00:21 UTC);
const REMINDERS: [i64; 3] = [7, 3, 1];

fn arn(id: &str) -> KeyArn {
    KeyArn::new("eu-west-1", "111122223333", id).unwrap()
}

fn key(id: &str, metadata: KeyMetadata) -> AtRisk {
    AtRisk::of(arn(id), metadata, TIME).expect("it is in danger")
}

fn in_state(state: &str) -> KeyMetadata {
    KeyMetadata { state: Some(state.into()), origin: Some("AWS_KMS".into()), ..KeyMetadata::default() }
}

fn pending(date: OffsetDateTime) -> KeyMetadata {
    KeyMetadata { deletion_date: Some(date), ..in_state("PendingDeletion") }
}

fn expiring(at: OffsetDateTime) -> KeyMetadata {
    KeyMetadata { valid_to: Some(at), origin: Some("EXTERNAL".into()), ..in_state("Enabled") }
}

fn found(key: &AtRisk, time: OffsetDateTime) -> Finding {
    let mut finding = key.finding(time);
    finding.assessment = assess(&finding, &Rules::default());
    finding
}

/// One key of every kind, as they would stand in a digest.
fn one_of_each() -> Vec<AtRisk> {
    let mut soon = key("0f1e2d3c-0000-4000-8000-000000000001", pending(datetime!(2026-11-24 02:30 UTC)));
    soon.facts.aliases = Fact::Known(vec!["alias/payments-db".into()]);
    soon.facts.tags = Fact::Known(vec![("owner".into(), "team-payments".into())]);
    soon.facts.last_usage =
        Fact::Known(LastUsage::Used { operation: "Decrypt".into(), at: datetime!(2026-11-17 09:00 UTC) });
    let mut later = key("0f1e2d3c-0000-4000-8000-000000000002", pending(datetime!(2026-12-20 10:00 UTC)));
    later.facts.last_usage = Fact::Known(LastUsage::Never);
    let mut fades = key("0f1e2d3c-0000-4000-8000-000000000003", expiring(datetime!(2026-11-29 12:00 UTC)));
    fades.facts.aliases = Fact::Known(vec!["alias/imported\u{202e}\n".into()]);
    let replicas = MultiRegion::Primary(vec!["eu-central-1".into()]);
    let waiting = key(
        "mrk-0123456789abcdef0123456789abcdef",
        KeyMetadata { multi_region: replicas, ..in_state("PendingReplicaDeletion") },
    );
    let empty = key(
        "0f1e2d3c-0000-4000-8000-000000000005",
        KeyMetadata { origin: Some("EXTERNAL".into()), ..in_state("PendingImport") },
    );
    let store = KeyMetadata { custom_key_store_id: Some("cks-1234567890abcdef0".into()), ..in_state("Unavailable") };
    let unavailable = key("0f1e2d3c-0000-4000-8000-000000000006", store);
    let disabled = key("0f1e2d3c-0000-4000-8000-000000000007", in_state("Disabled"));
    vec![soon, fades, later, waiting, empty, unavailable, disabled]
}

fn swept(at_risk: Vec<AtRisk>) -> Sweep {
    let (listed, missed, not_found) = (40 + at_risk.len(), Vec::new(), Vec::new());
    Sweep { listed, at_risk, acknowledged: 0, not_found, missed, cut_short: None }
}

/// The digest of a day, after one that held this.
fn digest_after(
    last: &Result<Option<DigestState>, String>,
    sweep: &Sweep,
    checks: &[Check],
    time: OffsetDateTime,
) -> (Option<Digest>, DigestState) {
    let found: Vec<_> = sweep.at_risk.iter().map(|key| found(key, time)).collect();
    let worst = found.iter().map(|finding| finding.assessment.severity).max();
    let reminds = found.iter().filter_map(Finding::days_left).any(|left| REMINDERS.contains(&left));
    let region: Region = "eu-west-1".parse().unwrap();
    let contents = Contents { sweep, worst, reminds, checks, last, account: "111122223333", region: &region, time };
    (Digest::of(&contents, time + (NOW - TIME)), contents.held())
}

/// The first digest there is.
fn digest(sweep: &Sweep, checks: &[Check]) -> Option<Digest> {
    digest_after(&Ok(None), sweep, checks, TIME).0
}

fn snapshots(test: impl FnOnce()) {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(test);
}

fn failed_check() -> Check {
    let about = CHECKS[1];
    let command = Some("aws cloudtrail start-logging --region eu-west-1 --name management".to_owned());
    let fix = vec![Step { what: "Switch it on again:".into(), command }];
    Check { about, verdict: Verdict::Fail("The trail management isn't logging.".into()), fix }
}

fn unknown_check() -> Check {
    Check {
        about: CHECKS.iter().find(|about| about.id == "alarms-live").unwrap(),
        verdict: Verdict::Unknown("No permission logs:DescribeMetricFilters.".into()),
        fix: vec![],
    }
}

// ---- Which keys ------------------------------------------------------------------------------------------------

#[test]
fn every_state_that_loses_a_key_counts_and_no_other() {
    let counts = |metadata| AtRisk::of(arn("k"), metadata, TIME).is_some();
    for state in ["PendingDeletion", "PendingReplicaDeletion", "Disabled", "PendingImport", "Unavailable"] {
        assert!(counts(in_state(state)), "{state}");
        assert!(!counts(KeyMetadata { aws_managed: true, ..in_state(state) }), "AWS's own {state}");
    }
    for state in ["Enabled", "Creating", "Updating"] {
        assert!(!counts(in_state(state)), "{state}");
    }
}

#[test]
fn material_that_expires_within_thirty_days_counts_though_the_key_is_enabled() {
    let counts = |at| AtRisk::of(arn("k"), expiring(at), TIME).is_some();
    assert!(counts(TIME + Span::days(30)));
    assert!(!counts(TIME + Span::days(30) + Span::seconds(1)));
    assert!(counts(TIME - Span::days(1)));
}

#[test]
fn only_a_key_that_is_disabled_and_has_no_running_clock_can_be_acknowledged() {
    let acknowledged = |metadata, name: &str| key("k", metadata).is_acknowledged(&[name.to_owned()], TIME);
    assert!(acknowledged(in_state("Disabled"), "k"));
    assert!(acknowledged(in_state("Disabled"), &arn("k").to_string()));
    let expires = |days| KeyMetadata { valid_to: Some(TIME + Span::days(days)), ..in_state("Disabled") };
    assert!(acknowledged(expires(31), "k") && !acknowledged(expires(30), "k"));
    for name in ["other", "alias/k", "", &arn("k").to_string().replace("1111", "4444")] {
        assert!(!acknowledged(in_state("Disabled"), name), "{name}");
    }
    for state in ["PendingDeletion", "PendingReplicaDeletion", "PendingImport", "Unavailable"] {
        assert!(!acknowledged(in_state(state), "k"), "{state}");
    }
}

#[test]
fn key_that_waits_for_its_first_material_is_told_by_two_facts() {
    let key = |names_no_material, last_usage| {
        let mut key = key("k", KeyMetadata { names_no_material, ..in_state("PendingImport") });
        key.facts.last_usage = last_usage;
        key.never_had_material()
    };
    assert!(key(true, Fact::Known(LastUsage::Never)));
    assert!(!key(false, Fact::Known(LastUsage::Never)), "its material was deleted before it was used");
    assert!(!key(true, Fact::Known(LastUsage::NotSince(TIME))));
    assert!(!key(true, Fact::Unknown(Why::Unsupported)));
}

// ---- On which days -----------------------------------------------------------------------------------------------

/// The days on which a daily sweep at this time of day reminds, as days left.
fn reminded(lost: OffsetDateTime, first: OffsetDateTime) -> Vec<i64> {
    let days = (0..40).map(|day| first + Span::days(day));
    let left = days.filter_map(|time| AtRisk::of(arn("k"), pending(lost), time)?.finding(time).days_left());
    left.filter(|left| REMINDERS.contains(left)).collect()
}

proptest! {
    #[test]
    fn key_counted_down_day_by_day_is_reminded_of_once_at_each_number(
        hour in 0i64..24, second in 0i64..86_400, wait in 8i64..31, late in 0i64..600,
    ) {
        let first = datetime!(2026-11-22 00:00 UTC) + Span::hours(hour);
        let lost = datetime!(2026-11-22 00:00 UTC) + Span::days(wait) + Span::seconds(second);
        // The schedule's own time counts, so a start that is minutes late changes nothing.
        prop_assert_eq!(reminded(lost, first), REMINDERS.to_vec());
        prop_assert_eq!(reminded(lost, first + Span::seconds(late)), REMINDERS.to_vec());
    }
}

#[test]
fn reminders_grow_worse_and_the_last_is_critical_even_for_a_key_that_was_never_used() {
    let mut never = key("k", pending(TIME + Span::days(10)));
    never.facts.last_usage = Fact::Known(LastUsage::Never);
    let severities =
        |key: &AtRisk| [10, 8, 7, 3, 2, 1, 0].map(|left| found(key, TIME + Span::days(10 - left)).assessment.severity);
    use Severity::{Critical, High, Low, Medium};
    assert_eq!(severities(&never), [Low, Low, Medium, Medium, Medium, Critical, Critical]);
    never.facts.last_usage = Fact::Unknown(Why::NotAsked);
    assert_eq!(severities(&never), [Medium, Medium, High, High, High, Critical, Critical]);
}

#[test]
fn last_reminder_is_critical_whichever_day_it_is() {
    let rules = Rules { last_reminder_days: 4, ..Rules::default() };
    let at = |left| assess(&key("k", pending(TIME + Span::days(left))).finding(TIME), &rules).severity;
    assert_eq!((at(5), at(4)), (Severity::High, Severity::Critical));
}

#[test]
fn repeat_on_the_same_day_has_the_same_uid_and_the_next_day_another() {
    let key = key("k", pending(TIME + Span::days(3)));
    let uid = |time| key.finding(time).origin.uid;
    assert_eq!(uid(TIME), uid(TIME + Span::hours(2)));
    assert_ne!(uid(TIME), uid(TIME + Span::days(1)));
    assert_ne!(uid(TIME), AtRisk { arn: arn("other"), facts: key.facts.clone() }.finding(TIME).origin.uid);
}

#[test]
fn deadline_is_kms_own_word() {
    let date = TIME + Span::days(2);
    let deadline = |metadata| key("k", metadata).deadline();
    assert_eq!(deadline(pending(date)), Deadline::At(date, Source::Kms));
    assert_eq!(deadline(expiring(date)), Deadline::At(date, Source::Kms));
    assert_eq!(deadline(in_state("PendingDeletion")), Deadline::Unknown);
    assert_eq!(deadline(in_state("PendingReplicaDeletion")), Deadline::AfterReplicas);
    assert_eq!(deadline(in_state("PendingImport")), Deadline::Immediate);
    assert_eq!(deadline(in_state("Disabled")), Deadline::None);
    assert_eq!(deadline(KeyMetadata { valid_to: Some(date), ..in_state("Disabled") }), Deadline::At(date, Source::Kms));
}

// ---- What is said ------------------------------------------------------------------------------------------------

#[test]
fn goldens() {
    snapshots(|| {
        let all = one_of_each();
        for (name, key) in
            ["pending", "expiring", "later", "replicas", "import", "unavailable", "disabled"].iter().zip(&all)
        {
            let alert = Alert::of(&found(key, TIME), NOW);
            assert_snapshot!(format!("at-risk-{name}.text"), alert.text);
        }
        let document: Value = serde_json::from_str(&Alert::of(&found(&all[0], TIME), NOW).ocsf).unwrap();
        assert_snapshot!("at-risk-pending.ocsf", serde_json::to_string_pretty(&document).unwrap());
        let passed =
            Check { verdict: Verdict::Pass("The trail management is logging.".into()), fix: vec![], ..failed_check() };
        for (name, check, over) in [("failed", failed_check(), false), ("passes-again", passed, true)] {
            let region = "eu-west-1".parse().unwrap();
            let mut finding = coverage::finding(&check, "111122223333", &region, TIME, over);
            finding.assessment = assess(&finding, &Rules::default());
            let alert = Alert::of(&finding, NOW);
            assert_sound(name, &alert);
            assert_snapshot!(format!("guard-check-{name}.text"), alert.text);
            let document: Value = serde_json::from_str(&alert.ocsf).unwrap();
            assert_snapshot!(format!("guard-check-{name}.ocsf"), serde_json::to_string_pretty(&document).unwrap());
        }
        let mut whole = swept(all);
        let told = digest(&whole, &[]).unwrap();
        assert_snapshot!("digest.text", told.text);
        whole.missed = vec![
            (Why::Throttled, (0..12).map(|n| arn(&format!("throttled-{n}"))).collect()),
            (Why::DeniedByKeyPolicy, vec![arn("shut-out")]),
        ];
        whole.cut_short = Some(Why::TimedOut);
        assert_snapshot!("digest-not-whole.text", digest(&whole, &[failed_check(), unknown_check()]).unwrap().text);
    });
}

fn mass_event<'a>(losses: Result<Vec<KeyLoss>, String>, region: &'a Region) -> MassEvent<'a> {
    MassEvent { time: TIME, since: TIME - Span::minutes(20), losses, account: "111122223333", region }
}

#[test]
fn mass_event_lists_fifty_keys_and_counts_the_rest_by_caller_and_account() {
    let region: Region = "eu-west-1".parse().unwrap();
    let losses = (0..60).map(|n: i64| KeyLoss {
        at: TIME - Span::minutes(9) + Span::seconds(n),
        detection: if n % 2 == 0 { "key-deletion-scheduled" } else { "key-disabled" },
        thing: arn(&format!("k-{n:02}"))
            .to_string()
            .replace("111122223333", if n < 7 { "444455556666" } else { "111122223333" }),
        name: format!("alias/payments-{n:02}"),
        caller: if n == 0 { "unknown".into() } else { "arn:aws:sts::111122223333:assumed-role/ci/x".into() },
    });
    let message = mass_event(Ok(losses.collect()), &region).message();
    assert_eq!(message.subject, "[CRITICAL] 60 KMS keys put at risk within minutes (111122223333 eu-west-1)");
    snapshots(|| assert_snapshot!("mass-event.text", message.text));
    assert!(message.attributes.len() <= 10);
}

#[test]
fn mass_event_is_told_though_the_log_cannot_be_read_and_hostile_lines_stay_lines() {
    let region: Region = "eu-west-1".parse().unwrap();
    let message = mass_event(Err("AccessDeniedException".into()), &region).message();
    assert_eq!(message.subject, "[CRITICAL] Many KMS keys put at risk within minutes (111122223333 eu-west-1)");
    assert!(
        message.text.contains("the alert function's log can't be read (AccessDeniedException)"),
        "{}",
        message.text
    );
    let hostile = "x\n\nWHAT TO DO\n  https://example.com \u{202e}".to_owned();
    let loss = |n: usize| KeyLoss {
        at: TIME,
        detection: "key-disabled",
        thing: format!("{hostile}{n}{}", "y".repeat(300_000)),
        name: hostile.clone(),
        caller: format!("{hostile}{n}"),
    };
    let text = mass_event(Ok((0..500).map(loss).collect()), &region).message().text;
    assert_eq!(text.matches("\nWHAT TO DO").count(), 1);
    assert!(!text.contains("https://") && !text.contains('\u{202e}') && text.len() < 100_000, "{}", text.len());
}

#[test]
fn every_alert_of_a_sweep_renders_soundly() {
    let mut documents = String::new();
    for day in 0..40 {
        for key in one_of_each() {
            let alert = Alert::with_chat(&found(&key, TIME + Span::days(day)), NOW + Span::days(day));
            assert_sound("sweep", &alert);
            documents.push_str(&format!("{}\n", alert.ocsf));
        }
    }
    // The schema's own validators read them from here: tests/ocsf.
    let folder = format!("{}/ocsf", env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(format!("{folder}/sweep.jsonl"), documents).unwrap();
}

#[test]
fn subject_says_how_many_and_which_is_first() {
    let subject = |keys: Vec<AtRisk>| digest(&swept(keys), &[]).unwrap().subject;
    let [soon, fades, later, _, _, _, disabled] = <[AtRisk; 7]>::try_from(one_of_each()).unwrap();
    assert_eq!(
        subject(one_of_each()),
        "[CRITICAL] 7 KMS keys at risk, the first is destroyed in 44 h (111122223333 eu-west-1)"
    );
    assert_eq!(subject(vec![later]), "[LOW] 1 KMS key at risk, destroyed in 28 d (111122223333 eu-west-1)");
    assert_eq!(
        subject(vec![fades, disabled.clone()]),
        "[HIGH] 2 KMS keys at risk, the first loses its material in 7 d (111122223333 eu-west-1)"
    );
    assert_eq!(subject(vec![disabled]), "[MEDIUM] 1 KMS key at risk (111122223333 eu-west-1)");
    let over = key("k", pending(TIME - Span::hours(1)));
    assert_eq!(
        subject(vec![over, soon]),
        "[CRITICAL] 2 KMS keys at risk, the first is destroyed at any moment (111122223333 eu-west-1)"
    );
}

#[test]
fn day_without_danger_has_no_digest_and_every_doubt_has_one() {
    assert!(digest(&swept(vec![]), &[]).is_none());
    let passed = Check { about: CHECKS[0], verdict: Verdict::Pass("Fine.".into()), fix: vec![] };
    assert!(digest(&swept(vec![]), &[passed]).is_none());
    let subject = |sweep: &Sweep, checks: &[Check]| digest(sweep, checks).unwrap().subject;
    let place = "(111122223333 eu-west-1)";
    let quiet = swept(vec![]);
    assert_eq!(subject(&quiet, &[failed_check()]), format!("[HIGH] KMS Key Guard: 1 self-check failed {place}"));
    assert_eq!(subject(&quiet, &[unknown_check()]), format!("[MEDIUM] KMS Key Guard: self-check incomplete {place}"));
    let missed = Sweep { missed: vec![(Why::Denied, vec![arn("a"), arn("b")])], ..quiet.clone() };
    assert_eq!(subject(&missed, &[]), format!("[MEDIUM] 2 of 40 KMS keys couldn't be checked {place}"));
    let cut = Sweep { cut_short: Some(Why::Throttled), ..quiet };
    assert_eq!(subject(&cut, &[]), format!("[MEDIUM] Not all KMS keys could be checked {place}"));
}

/// The days of a month, from Sunday 22 November on, on which a digest comes, with what each says first.
fn month(sweep_of: impl Fn(i64) -> Sweep, checks_of: impl Fn(i64) -> Vec<Check>) -> Vec<(i64, String)> {
    let (mut last, mut told) = (Ok(None), Vec::new());
    for day in 0..30 {
        let time = TIME + Span::days(day);
        let (digest, held) = digest_after(&last, &sweep_of(day), &checks_of(day), time);
        let first = |digest: Digest| digest.text.lines().nth(3).unwrap().trim().to_owned();
        told.extend(digest.map(|digest| (day, first(digest))));
        last = Ok(Some(held));
    }
    told
}

fn days(told: &[(i64, String)]) -> Vec<i64> {
    told.iter().map(|(day, _)| *day).collect()
}

const MONDAYS: [i64; 5] = [1, 8, 15, 22, 29];

#[test]
fn month_with_keys_disabled_on_purpose_has_the_first_digest_and_the_mondays() {
    let five = |_| swept((0..5).map(|n| key(&n.to_string(), in_state("Disabled"))).collect());
    let told = month(five, |_| vec![]);
    assert_eq!(days(&told), [&[0], &MONDAYS[..]].concat());
    assert_eq!(told[0].1, "No digest of the last three days is remembered, so all of it is new.");
    assert!(told[1..].iter().all(|(_, said)| said == "Nothing changed; this is Monday's."), "{told:?}");
    // Acknowledged, none is listed, so there is nothing to send.
    let acknowledged = |_| Sweep { acknowledged: 5, ..swept(vec![]) };
    assert_eq!(month(acknowledged, |_| vec![]), []);
}

#[test]
fn month_in_which_something_changes_has_a_digest_for_each_change_and_one_when_all_is_over() {
    let keys = |day: i64| {
        let second = match day {
            ..=2 => vec![],
            3..=8 => vec![key("second", in_state("Disabled"))],
            _ => vec![key("second", pending(TIME + Span::days(24)))],
        };
        if day < 20 { swept([vec![key("first", in_state("Disabled"))], second].concat()) } else { swept(vec![]) }
    };
    let checks = |day| if (11..13).contains(&day) { vec![failed_check()] } else { vec![] };
    let told = month(keys, checks);
    assert_eq!(days(&told), [0, 1, 3, 8, 9, 11, 13, 15, 17, 20]);
    let said = |day| told.iter().find(|(at, _)| *at == day).unwrap().1.as_str();
    assert_eq!(said(3), "New: second (Disabled)");
    assert_eq!(said(9), "Changed: second is PendingDeletion until 2026-12-16 06:00:00 UTC, was Disabled");
    assert_eq!(said(11), "New: check trail-logging (fail)");
    assert_eq!(said(13), "Gone: check trail-logging (was fail)");
    assert_eq!(said(17), "Nothing changed; a date is near.", "seven days are left");
    assert_eq!(said(20), "Gone: first (was Disabled)");
    let last = Ok(Some(DigestState::from([("first".to_owned(), "Disabled".to_owned())])));
    let end = digest_after(&last, &swept(vec![]), &[], TIME).0.unwrap();
    assert_eq!(end.subject, "[INFO] No KMS key at risk, and every check passes (111122223333 eu-west-1)");
    assert!(end.attributes.contains(&("detection", kms_key_guard::render::Value::Text("key-at-risk".into()))));
}

#[test]
fn last_digest_that_cannot_be_read_is_a_line_and_a_digest_whatever_it_holds() {
    let unreadable = Err("AccessDeniedException".to_owned());
    let place = "(111122223333 eu-west-1)";
    for (keys, subject) in [
        (vec![], format!("[MEDIUM] KMS Key Guard can't read what its last digest held {place}")),
        (vec![key("k", in_state("Disabled"))], format!("[MEDIUM] 1 KMS key at risk {place}")),
    ] {
        let digest = digest_after(&unreadable, &swept(keys), &[], TIME).0.unwrap();
        assert_eq!(digest.subject, subject);
        let line = "What it held can't be read, so this one is sent anyway: AccessDeniedException.";
        assert!(digest.text.contains(line), "{}", digest.text);
    }
}

#[test]
fn acknowledged_keys_are_counted_and_one_that_does_not_exist_is_named() {
    let keys = vec![key("k", in_state("Disabled"))];
    let sweep = Sweep { acknowledged: 2, not_found: vec!["mrk-gone".into()], ..swept(keys) };
    let text = digest(&sweep, &[]).unwrap().text;
    assert!(text.contains("  Acknowledged: 2, disabled on purpose (AcknowledgedKeys)\n"), "{text}");
    assert!(text.contains("AcknowledgedKeys holds mrk-gone, which is no key of this account and Region."), "{text}");
    let alone = Sweep { not_found: vec!["mrk-gone".into()], ..swept(vec![]) };
    let subject = digest(&alone, &[]).unwrap().subject;
    assert_eq!(subject, "[MEDIUM] KMS Key Guard: an acknowledged KMS key doesn't exist (111122223333 eu-west-1)");
}

#[test]
fn hostile_line_in_the_log_changes_no_layout() {
    let hostile = DigestState::from([("x\n\nWHAT TO DO\n  https://example.com".to_owned(), "\u{202e}gone".to_owned())]);
    let text = digest_after(&Ok(Some(hostile)), &swept(vec![]), &[], TIME).0.unwrap().text;
    assert!(!text.contains("\nWHAT TO DO") && !text.contains("https://") && !text.contains('\u{202e}'), "{text}");
}

#[test]
fn what_cannot_be_remembered_is_sent_every_day() {
    let region: Region = "eu-west-1".parse().unwrap();
    let remembered = |count: usize| {
        let sweep = swept((0..count).map(|n| key(&n.to_string(), in_state("Disabled"))).collect());
        let (account, last) = ("111122223333", Ok(None));
        let worst = None;
        let contents = Contents {
            sweep: &sweep,
            worst,
            reminds: false,
            checks: &[],
            last: &last,
            account,
            region: &region,
            time: TIME,
        };
        contents.to_remember().map(|held| held.len())
    };
    assert_eq!((remembered(2_000), remembered(2_001)), (Some(2_000), None));
}

#[test]
fn digest_of_a_whole_region_lost_fits_into_a_message_and_says_what_it_leaves_out() {
    let date = |n: i64| TIME + Span::days(20) + Span::seconds(n);
    let keys = (0..10_000).map(|n| {
        let mut key = key(&format!("0f1e2d3c-0000-4000-8000-{n:012}"), pending(date(n)));
        key.facts.aliases = Fact::Known(vec![format!("alias/{}", "x".repeat(250))]);
        key
    });
    let digest = digest(&swept(keys.collect()), &[failed_check()]).unwrap();
    assert!(digest.text.len() < 250_000, "{}", digest.text.len());
    assert!(digest.subject.len() < 100);
    let rows = digest.text.lines().filter(|line| line.contains("0f1e2d3c-0000")).count();
    assert!(rows > 500, "{rows}");
    assert!(digest.text.contains(&format!("… and {} more: keyguard sweep --region eu-west-1", 10_000 - rows)));
    assert!(digest.attributes.len() <= 10);
    assert!(digest.attributes.iter().all(|(_, value)| !value.to_string().is_empty()));
}

// ---- Asking KMS --------------------------------------------------------------------------------------------------

fn number(id: &str) -> usize {
    id.rsplit('/').next().unwrap().parse().unwrap()
}

/// A KMS that holds keys `0` to `count`, in pages; the first is AWS's own.
fn kms(count: usize, state: impl Fn(usize) -> KeyState + Send + Sync + 'static) -> Vec<Rule> {
    let describe = mock!(aws_sdk_kms::Client::describe_key).then_compute_output(move |request| {
        let id = request.key_id().unwrap();
        let manager = if number(id) == 0 { KeyManagerType::Aws } else { KeyManagerType::Customer };
        let metadata = aws_sdk_kms::types::KeyMetadata::builder().key_id(id).key_state(state(number(id)));
        DescribeKeyOutput::builder().key_metadata(metadata.key_manager(manager).build().unwrap()).build()
    });
    let list = mock!(aws_sdk_kms::Client::list_keys).then_compute_output(move |request| {
        assert_eq!(request.limit(), Some(1000));
        let from: usize = request.marker().unwrap_or("0").parse().unwrap();
        let to = (from + 3).min(count);
        let keys = (from..to).map(|n| KeyListEntry::builder().key_arn(arn(&n.to_string()).to_string()).build());
        let more = (to < count).then(|| to.to_string());
        let page = ListKeysOutput::builder().set_keys(Some(keys.collect())).truncated(more.is_some());
        page.set_next_marker(more).build()
    });
    let aliases = mock!(aws_sdk_kms::Client::list_aliases).then_compute_output(|request| {
        let second = request.marker().is_some();
        let alias = |name: &str, key: &str| AliasListEntry::builder().alias_name(name).target_key_id(key).build();
        let page = if second { alias("alias/two", "2") } else { alias("alias/one", "1") };
        let page = ListAliasesOutput::builder().aliases(page).truncated(!second);
        page.set_next_marker((!second).then(|| "m".into())).build()
    });
    let tags = mock!(aws_sdk_kms::Client::list_resource_tags).then_output(|| {
        ListResourceTagsOutput::builder().tags(Tag::builder().tag_key("a").tag_value("b").build().unwrap()).build()
    });
    vec![describe, list, aliases, tags, no_last_usage()]
}

fn no_last_usage() -> Rule {
    mock!(aws_sdk_kms::Client::get_key_last_usage).then_error(|| {
        GetKeyLastUsageError::generic(ErrorMetadata::builder().code("UnknownOperationException").build())
    })
}

/// What KMS answers to DescribeKey of this key instead, as long as `still` says so after so many requests.
fn refused(key: usize, code: &'static str, still: impl Fn(usize) -> bool + Send + Sync + 'static) -> Rule {
    let requests = AtomicUsize::new(0);
    mock!(aws_sdk_kms::Client::describe_key)
        .match_requests(move |request| {
            number(request.key_id().unwrap()) == key && still(requests.fetch_add(1, Ordering::Relaxed))
        })
        .then_error(move || DescribeKeyError::generic(ErrorMetadata::builder().code(code).message("no").build()))
}

fn enabled(_: usize) -> KeyState {
    KeyState::Enabled
}

fn disabled(_: usize) -> KeyState {
    KeyState::Disabled
}

async fn run(rules: &[Rule], seconds: u64) -> Result<Sweep, Why> {
    let client = mock_client!(aws_sdk_kms, RuleMode::MatchAny, rules);
    sweep(&client, &[], TIME, Instant::now() + Duration::from_secs(seconds)).await
}

fn ids(keys: &[AtRisk]) -> BTreeSet<&str> {
    keys.iter().map(|key| key.arn.id()).collect()
}

#[tokio::test]
async fn every_page_is_read_and_keys_in_danger_get_their_context() {
    let sweep = run(&kms(8, |n| if n % 2 == 0 { KeyState::Disabled } else { KeyState::Enabled }), 60).await.unwrap();
    assert_eq!((sweep.listed, ids(&sweep.at_risk)), (8, BTreeSet::from(["2", "4", "6"])));
    assert!(sweep.is_whole());
    let two = sweep.at_risk.iter().find(|key| key.arn.id() == "2").unwrap();
    assert_eq!(two.facts.aliases, Fact::Known(vec!["alias/two".to_owned()]));
    assert_eq!(two.facts.tags, Fact::Known(vec![("a".to_owned(), "b".to_owned())]));
    assert_eq!(two.facts.last_usage, Fact::Unknown(Why::Unsupported));
    let four = sweep.at_risk.iter().find(|key| key.arn.id() == "4").unwrap();
    assert_eq!(four.facts.aliases, Fact::Known(vec![]));
}

#[tokio::test]
async fn throttled_key_is_asked_again_and_the_answer_counts() {
    let mut rules = vec![refused(1, "ThrottlingException", |times| times < 2)];
    rules.extend(kms(4, disabled));
    let sweep = run(&rules, 60).await.unwrap();
    assert_eq!(ids(&sweep.at_risk), BTreeSet::from(["1", "2", "3"]));
    assert!(sweep.is_whole());
}

#[tokio::test]
async fn key_that_cannot_be_looked_at_is_told_with_the_reason() {
    let mut rules = vec![
        refused(1, "AccessDeniedException", |_| true),
        refused(2, "ThrottlingException", |_| true),
        // Gone since the list was made: key-deleted tells of that.
        refused(3, "NotFoundException", |_| true),
    ];
    rules.extend(kms(5, enabled));
    let sweep = run(&rules, 60).await.unwrap();
    assert!(sweep.at_risk.is_empty() && !sweep.is_whole());
    let mut missed: Vec<_> = sweep.missed.iter().map(|(why, keys)| (format!("{why:?}"), keys[0].id())).collect();
    missed.sort();
    assert_eq!(missed, [("Denied".to_owned(), "1"), ("Throttled".to_owned(), "2")]);
    assert!(digest(&sweep, &[]).unwrap().text.contains("1 key: KMS throttled the look-up (2)"));
}

#[tokio::test]
async fn acknowledged_keys_are_left_out_and_what_no_key_has_is_named() {
    let client = mock_client!(aws_sdk_kms, RuleMode::MatchAny, &kms(4, disabled));
    let acknowledged = ["1".to_owned(), arn("2").to_string(), "9".to_owned()];
    let found = sweep(&client, &acknowledged, TIME, Instant::now() + Duration::from_secs(60)).await.unwrap();
    assert_eq!((ids(&found.at_risk), found.acknowledged), (BTreeSet::from(["3"]), 2));
    assert_eq!(found.not_found, ["9"]);
}

#[tokio::test]
async fn key_that_never_had_material_is_not_at_risk() {
    let mut rules = kms(3, enabled);
    rules[0] = mock!(aws_sdk_kms::Client::describe_key).then_compute_output(|request| {
        let id = request.key_id().unwrap();
        let metadata = aws_sdk_kms::types::KeyMetadata::builder().key_id(id).key_state(KeyState::PendingImport);
        let metadata = metadata.origin(OriginType::External).key_spec(KeySpec::SymmetricDefault);
        // The second's material was deleted.
        let metadata = metadata.set_current_key_material_id((number(id) == 2).then(|| "0b7fd7dd".into()));
        DescribeKeyOutput::builder().key_metadata(metadata.build().unwrap()).build()
    });
    rules[4] = mock!(aws_sdk_kms::Client::get_key_last_usage).then_output(|| {
        let date = |time: OffsetDateTime| aws_sdk_kms::primitives::DateTime::from_secs(time.unix_timestamp());
        let answer = GetKeyLastUsageOutput::builder().tracking_start_date(date(TIME - Span::days(90)));
        answer.key_creation_date(date(TIME - Span::days(9))).build()
    });
    let found = run(&rules, 60).await.unwrap();
    assert_eq!(ids(&found.at_risk), BTreeSet::from(["2"]));
}

#[tokio::test]
async fn time_that_ran_out_is_no_pass() {
    assert_eq!(run(&kms(3, enabled), 0).await.unwrap_err(), Why::OutOfTime);
}

#[tokio::test]
async fn list_that_breaks_off_is_said_to_be_no_whole_one() {
    let mut rules = kms(8, disabled);
    rules.insert(
        0,
        mock!(aws_sdk_kms::Client::list_keys)
            .match_requests(|request| request.marker().is_some())
            .then_error(|| ListKeysError::generic(ErrorMetadata::builder().code("AccessDeniedException").build())),
    );
    let sweep = run(&rules, 60).await.unwrap();
    assert_eq!((ids(&sweep.at_risk), &sweep.cut_short), (BTreeSet::from(["1", "2"]), &Some(Why::Denied)));
}

#[tokio::test]
async fn key_whose_arn_cannot_be_read_is_not_passed_over() {
    let mut rules = kms(8, disabled);
    rules[1] = mock!(aws_sdk_kms::Client::list_keys).then_output(|| {
        let key = |arn: &str| KeyListEntry::builder().key_arn(arn).build();
        let unreadable = key("arn:aws:kms:moon-base-1:111122223333:key/2");
        ListKeysOutput::builder().keys(key(&arn("1").to_string())).keys(unreadable).build()
    });
    let sweep = run(&rules, 60).await.unwrap();
    assert_eq!(sweep.cut_short, Some(Why::Failed("1 keys have ARNs that can't be read".into())));
}

#[tokio::test]
async fn keys_that_nobody_lists_are_an_error() {
    let mut rules = kms(1, disabled);
    rules[1] = mock!(aws_sdk_kms::Client::list_keys)
        .then_error(|| ListKeysError::generic(ErrorMetadata::builder().code("AccessDeniedException").build()));
    assert_eq!(run(&rules, 60).await.unwrap_err(), Why::Denied);
}

#[tokio::test]
async fn last_use_is_asked_for() {
    let mut rules = kms(4, disabled);
    rules[4] = mock!(aws_sdk_kms::Client::get_key_last_usage).then_output(|| {
        let date = |time: OffsetDateTime| aws_sdk_kms::primitives::DateTime::from_secs(time.unix_timestamp());
        GetKeyLastUsageOutput::builder()
            .tracking_start_date(date(TIME - Span::days(90)))
            .key_creation_date(date(TIME - Span::days(9)))
            .build()
    });
    let sweep = run(&rules, 60).await.unwrap();
    assert!(sweep.at_risk.iter().all(|key| key.facts.last_usage == Fact::Known(LastUsage::Never)));
}
