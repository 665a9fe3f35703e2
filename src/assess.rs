//! How bad a finding is, and why.

use time::{Duration, OffsetDateTime};

use crate::actor::{Mfa, Tool, Who};
use crate::catalogue::{Activity, Kind, Severity};
use crate::config::Rules;
use crate::detect::SHORTEST_WAITING_PERIOD_DAYS;
use crate::escape::name;
use crate::finding::{Assessment, Deadline, Finding, Reason, Subject};
use crate::key::{Fact, LastUsage, MultiRegion, Why};

/// A rule that moves the severity of a danger.
pub struct Rule {
    /// Positive is worse, negative milder.
    pub levels: i32,
    /// When it applies; the documentation's table says the same.
    pub when: &'static str,
    /// The reason for the alert if it applies.
    applies: fn(&Finding, &Rules) -> Option<String>,
    /// Whether it may apply all the same, because a fact that it needs isn't known.
    may_apply: fn(&Finding) -> bool,
}

/// The rules, in the order in which an alert gives its reasons.
#[rustfmt::skip]
pub static RULES: [Rule; 20] = [
    Rule { levels: 10, when: "the key is one of `ProtectedKeys`", applies: protected, may_apply: never },
    Rule { levels: 1, when: "the key was used in the 7 days before, and no expected principal did it", applies: used_recently, may_apply: use_unknown },
    Rule { levels: 1, when: "somebody holds grants on the key", applies: grants_held, may_apply: grants_unknown },
    Rule { levels: 1, when: "deletion was scheduled with the shortest waiting period, 7 days, and no expected principal did it", applies: shortest_wait, may_apply: never },
    Rule { levels: 1, when: "imported key material expires within 7 days", applies: expires_soon, may_apply: never },
    Rule { levels: 1, when: "imported key material expires within 24 hours", applies: expires_tomorrow, may_apply: never },
    Rule { levels: 1, when: "the whole CloudHSM cluster was deleted", applies: cluster_deleted, may_apply: never },
    Rule { levels: 1, when: "the account's root user did it", applies: by_root, may_apply: never },
    Rule { levels: 1, when: "an IAM user did it without a second factor", applies: without_mfa, may_apply: never },
    Rule { levels: 1, when: "the deletion of a multi-Region primary was scheduled", applies: multi_region_primary, may_apply: may_be_primary },
    Rule { levels: 1, when: "the key policy was changed while the key is pending deletion", applies: policy_while_pending, may_apply: may_be_pending },
    Rule { levels: 1, when: "a key that the sweep found at risk will be lost within 7 days", applies: lost_within_a_week, may_apply: never },
    Rule { levels: 2, when: "a key that the sweep found at risk will be lost within the last of `REMINDER_DAYS`", applies: lost_at_the_last_reminder, may_apply: never },
    Rule { levels: -1, when: "the key was never used since it was created", applies: never_used, may_apply: never },
    Rule { levels: -1, when: "an expected principal did it, and not to the guard itself", applies: expected_principal, may_apply: never },
    Rule { levels: -1, when: "a key store's change names no other cluster or proxy: a name, a password or a credential", applies: keeps_its_keys, may_apply: never },
    Rule { levels: -2, when: "only a condition that can't be verified makes a policy a lockout", applies: unverified_lockout, may_apply: never },
    Rule { levels: -1, when: "only a condition that can't be verified makes a policy a cut-off", applies: unverified_cutoff, may_apply: never },
    Rule { levels: -2, when: "the record alone doesn't tell whether a part of the guard still works", applies: unverified_tampering, may_apply: never },
    Rule { levels: -2, when: "CloudFormation changed a part of the guard, as it does when a stack is updated or deleted", applies: by_cloudformation, may_apply: never },
];

/// What counts as recent use.
const RECENT: Duration = Duration::days(7);

/// Rates a finding by its facts. Good news keeps the catalogue's severity.
pub fn assess(finding: &Finding, rules: &Rules) -> Assessment {
    let base = finding.detection.severity;
    if finding.over || finding.put_back {
        return Assessment { severity: Severity::Informational, reasons: Vec::new() };
    }
    if !finding.is_danger() {
        return Assessment { severity: base, reasons: Vec::new() };
    }
    let reason = |rule: &Rule| Some(Reason { levels: rule.levels, text: (rule.applies)(finding, rules)? });
    let reasons: Vec<_> = RULES.iter().filter_map(reason).collect();
    Assessment { severity: base.shifted(reasons.iter().map(|reason| reason.levels).sum()), reasons }
}

/// The severity that `MINIMUM_SEVERITY` is compared with: the highest that is possible for all that is known. Every rule whose
/// fact isn't known may apply, and what can't be verified may be as bad as High.
pub fn worst_case(finding: &Finding) -> Severity {
    let severity = finding.assessment.severity;
    if !finding.is_danger() {
        return severity;
    }
    let applied = finding.assessment.reasons.iter().map(|reason| reason.levels);
    let possible = RULES.iter().filter(|rule| (rule.may_apply)(finding)).map(|rule| rule.levels);
    let least = if finding.unverified { Severity::High } else { Severity::Informational };
    finding.detection.severity.shifted(applied.chain(possible).sum()).max(least)
}

/// Whether `MINIMUM_SEVERITY` keeps the finding from being published. What says that the guard itself doesn't work, or may
/// not, always goes out, and so does a test, which somebody waits for.
pub fn is_held_back(finding: &Finding, rules: &Rules) -> bool {
    let always = match finding.detection.kind {
        Kind::GuardBlind | Kind::UnreadableSignal | Kind::GuardTest => true,
        Kind::GuardTampered => finding.assessment.severity >= Severity::Medium,
        _ => false,
    };
    !always && worst_case(finding) < rules.minimum_severity
}

/// For rules that need no fact about the key.
fn never(_: &Finding) -> bool {
    false
}

fn use_unknown(finding: &Finding) -> bool {
    is_open(finding, &finding.facts.last_usage)
}

fn grants_unknown(finding: &Finding) -> bool {
    is_open(finding, &finding.facts.grants)
}

/// Only keys with such an id have replicas.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/multi-region-keys-overview.html>
fn may_be_primary(finding: &Finding) -> bool {
    finding.detection.kind == Kind::KeyDeletionScheduled
        && finding.key().is_none_or(|key| key.id().starts_with("mrk-"))
        && is_open(finding, &finding.facts.metadata)
}

fn may_be_pending(finding: &Finding) -> bool {
    finding.detection.kind == Kind::KeyPolicyLockout && is_open(finding, &finding.facts.metadata)
}

/// Whether somebody wanted to know this of the key, and doesn't.
fn is_open<T>(finding: &Finding, fact: &Fact<T>) -> bool {
    matches!(finding.subject, Subject::Key(_) | Subject::Unknown { .. })
        && fact.why_unknown().is_some_and(|why| *why != Why::NotAsked)
}

/// By the key's id, which the related keys of a multi-Region key share, or by its ARN.
fn protected(finding: &Finding, rules: &Rules) -> Option<String> {
    let kind = finding.detection.kind;
    let counts = (finding.activity() == Activity::Create && kind != Kind::KeyLossDenied) || kind == Kind::KeyAtRisk;
    let is_named = |named: &String| match &finding.subject {
        Subject::Key(arn) => named == arn.id() || *named == arn.to_string(),
        // A key in a Region that isn't known has no ARN here.
        Subject::Unknown { given: Some(given) } => {
            named == given || given.rsplit_once(":key/").is_some_and(|(_, id)| named == id)
        }
        _ => false,
    };
    (counts && rules.protected_keys.iter().any(is_named)).then(|| "the key is one of ProtectedKeys".into())
}

/// What an expected principal retires was in use until then, if its keys are rotated. A use after the event is none before.
fn used_recently(finding: &Finding, rules: &Rules) -> Option<String> {
    let Some(LastUsage::Used { operation, at }) = finding.facts.last_usage.known() else { return None };
    let recent = (Duration::ZERO..=RECENT).contains(&(finding.time - *at));
    (recent && expected_principal(finding, rules).is_none())
        .then(|| format!("the key was last used {} ({})", before(finding, *at), name(operation, 64)))
}

/// How long before the event, in the unit that fits.
pub(crate) fn before(finding: &Finding, at: OffsetDateTime) -> String {
    if !finding.time_known {
        return format!("on {}; the event's time isn't known", at.date());
    }
    let time = finding.time;
    let ago = time - at;
    match ago.whole_minutes() {
        ..0 => "after the event".into(),
        0 => "less than a minute before the event".into(),
        minutes @ 1..=119 => format!("{minutes} min before the event"),
        120..=2_879 => format!("{} h before the event", ago.whole_hours()),
        _ => format!("{} d before the event", ago.whole_days()),
    }
}

fn grants_held(finding: &Finding, _: &Rules) -> Option<String> {
    let grants = finding.facts.grants.known().filter(|grants| grants.count > 0)?;
    let (more, plural) = (if grants.more { "at least " } else { "" }, if grants.count == 1 { "" } else { "s" });
    Some(format!("{more}{} grant{plural} on the key, so something depends on it", grants.count))
}

fn shortest_wait(finding: &Finding, rules: &Rules) -> Option<String> {
    let asked = finding.detection.kind == Kind::KeyDeletionScheduled
        && expected_principal(finding, rules).is_none()
        && finding.origin.waiting_period_days == Some(SHORTEST_WAITING_PERIOD_DAYS);
    asked.then(|| "the request set the shortest waiting period, 7 days".into())
}

fn expires_soon(finding: &Finding, _: &Rules) -> Option<String> {
    let Deadline::At(at, _) = finding.deadline else { return None };
    let soon = finding.detection.kind == Kind::KeyMaterialExpiring && at - finding.time <= Duration::days(7);
    soon.then(|| "the key material expires within 7 days".into())
}

fn expires_tomorrow(finding: &Finding, _: &Rules) -> Option<String> {
    let Deadline::At(at, _) = finding.deadline else { return None };
    let soon = finding.detection.kind == Kind::KeyMaterialExpiring && at - finding.time <= Duration::hours(24);
    soon.then(|| "it expires within 24 hours".into())
}

fn cluster_deleted(finding: &Finding, _: &Rules) -> Option<String> {
    let deleted = finding.detection.kind == Kind::KeyStoreClusterLost && finding.origin.event_name == "DeleteCluster";
    deleted.then(|| "the whole cluster was deleted".into())
}

/// Who lost the key; the caller of `lost-key-used` is who misses it, and whoever deploys a stack may be anybody.
fn who(finding: &Finding) -> Option<&Who> {
    let deploys = finding.detection.kind == Kind::GuardTampered && finding.actor.tool == Tool::CloudFormation;
    (finding.detection.kind != Kind::LostKeyUsed && !deploys).then_some(&finding.actor.who)
}

fn by_root(finding: &Finding, _: &Rules) -> Option<String> {
    matches!(who(finding)?, Who::Root { .. }).then(|| "the account's root user did it".into())
}

fn without_mfa(finding: &Finding, _: &Rules) -> Option<String> {
    let without = matches!(who(finding)?, Who::IamUser(_)) && finding.actor.mfa == Mfa::No;
    without.then(|| "an IAM user did it without a second factor".into())
}

/// Of the other dangers, a primary's replicas keep working.
fn multi_region_primary(finding: &Finding, _: &Rules) -> Option<String> {
    let deletion = match finding.detection.kind {
        Kind::KeyDeletionScheduled => true,
        Kind::KeyAtRisk => finding.is_pending_deletion(),
        _ => false,
    };
    let MultiRegion::Primary(replicas) = &finding.facts.metadata.known()?.multi_region else { return None };
    deletion.then(|| match replicas.len() {
        0 => "the key is a multi-Region primary".into(),
        count => format!("the key is a multi-Region primary with {count} replica{}", if count == 1 { "" } else { "s" }),
    })
}

fn policy_while_pending(finding: &Finding, _: &Rules) -> Option<String> {
    (finding.detection.kind == Kind::KeyPolicyLockout && finding.is_pending_deletion())
        .then(|| "the key is pending deletion: the new policy may keep everyone from cancelling it".into())
}

fn lost_within_a_week(finding: &Finding, _: &Rules) -> Option<String> {
    found_at_risk(finding).filter(|left| *left <= 7).map(|left| match left {
        ..=0 => "it will be lost today".into(),
        1 => "1 calendar day is left".into(),
        left => format!("{left} calendar days are left"),
    })
}

fn lost_at_the_last_reminder(finding: &Finding, rules: &Rules) -> Option<String> {
    found_at_risk(finding)
        .filter(|left| *left <= i64::from(rules.last_reminder_days))
        .map(|_| "this is the last reminder".into())
}

/// The days that a key has left which the sweep found.
fn found_at_risk(finding: &Finding) -> Option<i64> {
    finding.days_left().filter(|_| finding.detection.kind == Kind::KeyAtRisk)
}

fn never_used(finding: &Finding, _: &Rules) -> Option<String> {
    (finding.facts.last_usage.known() == Some(&LastUsage::Never))
        .then(|| "the key was never used since it was created".into())
}

/// By the role alone: whoever assumes a role chooses the session's name, and whoever tags the key its tags.
/// Whose work on keys is expected may still not switch the guard off.
fn expected_principal(finding: &Finding, rules: &Rules) -> Option<String> {
    who(finding).filter(|_| finding.detection.kind != Kind::GuardTampered)?;
    let role = finding.actor.role_arn.as_deref()?;
    let expected = rules.expected_principals.iter().any(|expected| expected == role);
    expected.then(|| format!("{} is an expected principal", name(role, 256)))
}

fn keeps_its_keys(finding: &Finding, _: &Rules) -> Option<String> {
    finding.keeps_its_keys.then(|| "the record names no other cluster or proxy".into())
}

fn unverified_lockout(finding: &Finding, _: &Rules) -> Option<String> {
    unverified(finding, Kind::KeyPolicyLockout)
}

fn unverified_cutoff(finding: &Finding, _: &Rules) -> Option<String> {
    unverified(finding, Kind::KeyPolicyCutoff)
}

fn unverified(finding: &Finding, kind: Kind) -> Option<String> {
    (finding.unverified && finding.detection.kind == kind)
        .then(|| "it is a danger only if nobody meets the policy's exception, which can't be verified".into())
}

fn unverified_tampering(finding: &Finding, _: &Rules) -> Option<String> {
    (finding.unverified && finding.detection.kind == Kind::GuardTampered)
        .then(|| "the record alone doesn't tell whether the part still works; the self-check does".into())
}

/// Told by what AWS itself fills in; a user agent that says so isn't enough.
fn by_cloudformation(finding: &Finding, _: &Rules) -> Option<String> {
    let updated = finding.detection.kind == Kind::GuardTampered && finding.actor.tool == Tool::CloudFormation;
    // Medium is the least that is sure to be published.
    (updated && !finding.unverified)
        .then(|| "CloudFormation did it, as it does when a stack is updated or deleted".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Activity;
    use crate::detect::{Settings, detect};
    use crate::event::Event;
    use crate::key::{Grants, KeyFacts, KeyMetadata};
    use serde_json::{Value, json};
    use time::macros::datetime;

    const TIME: OffsetDateTime = datetime!(2026-11-21 03:12:44 UTC);

    fn finding(name: &str, fields: Value) -> Finding {
        let mut record = json!({
            "eventSource": "kms.amazonaws.com", "eventName": name, "eventID": "e-1", "eventTime": "2026-11-21T03:12:44Z",
            "awsRegion": "eu-west-1", "recipientAccountId": "111122223333", "requestParameters": {"keyId": "0f1e2d3c"},
        });
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        detect(&Event::from_value(record), &Settings::default(), TIME).unwrap()
    }

    fn severity(finding: &Finding) -> Severity {
        assess(finding, &Rules::default()).severity
    }

    #[test]
    fn nothing_known_leaves_the_catalogues_severity() {
        let assessment = assess(&finding("ScheduleKeyDeletion", json!({})), &Rules::default());
        assert_eq!(assessment, Assessment { severity: Severity::High, reasons: vec![] });
    }

    #[test]
    fn recent_use_raises_and_old_use_does_not() {
        let mut finding = finding("DisableKey", json!({}));
        let used = |at| Fact::Known(LastUsage::Used { operation: "Decrypt".into(), at });
        finding.facts.last_usage = used(TIME - Duration::minutes(3));
        let assessment = assess(&finding, &Rules::default());
        assert_eq!(assessment.severity, Severity::High);
        assert_eq!(assessment.reasons[0].text, "the key was last used 3 min before the event (Decrypt)");
        finding.facts.last_usage = used(TIME - Duration::days(8));
        assert_eq!(severity(&finding), Severity::Medium);
    }

    #[test]
    fn never_used_lowers_by_one_and_unknown_use_does_not() {
        let mut finding = finding("DisableKey", json!({}));
        finding.facts.last_usage = Fact::Known(LastUsage::Never);
        assert_eq!(severity(&finding), Severity::Low);
        finding.facts.last_usage = Fact::Known(LastUsage::NotSince(TIME));
        assert_eq!(severity(&finding), Severity::Medium);
    }

    #[test]
    fn grants_primary_and_shortest_wait_raise() {
        let mut key = finding("DisableKey", json!({}));
        key.facts.grants = Fact::Known(Grants { count: 2, ..Grants::default() });
        assert_eq!(severity(&key), Severity::High);
        // What happens to a primary otherwise leaves its replicas as they are.
        key.facts.metadata =
            Fact::Known(KeyMetadata { multi_region: MultiRegion::Primary(vec!["r".into()]), ..KeyMetadata::default() });
        assert_eq!(severity(&key), Severity::High);
        let mut scheduled = finding("ScheduleKeyDeletion", json!({}));
        scheduled.facts.metadata = key.facts.metadata.clone();
        assert_eq!(severity(&scheduled), Severity::Critical);
        let window = |days: i64| {
            severity(&finding(
                "ScheduleKeyDeletion",
                json!({"requestParameters": {"keyId": "a", "pendingWindowInDays": days}}),
            ))
        };
        assert_eq!(window(7), Severity::Critical);
        assert_eq!(window(8), Severity::High);
    }

    #[test]
    fn root_and_users_without_second_factor_raise() {
        let by = |identity: Value| severity(&finding("DisableKey", json!({"userIdentity": identity})));
        assert_eq!(by(json!({"type": "Root"})), Severity::High);
        assert_eq!(by(json!({"type": "IAMUser", "userName": "x"})), Severity::High);
        let with_mfa = json!({"attributes": {"mfaAuthenticated": "true"}});
        assert_eq!(by(json!({"type": "IAMUser", "userName": "x", "sessionContext": with_mfa})), Severity::Medium);
        assert_eq!(
            by(json!({"type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-role/a/b"})),
            Severity::Medium
        );
    }

    #[test]
    fn material_that_expires_soon_raises() {
        let import = |valid_to: &str| {
            severity(&finding("ImportKeyMaterial", json!({"requestParameters": {"keyId": "a", "validTo": valid_to}})))
        };
        assert_eq!(import("Nov 22, 2026, 3:12:44 AM"), Severity::High);
        assert_eq!(import("Nov 22, 2026, 3:12:45 AM"), Severity::Medium);
        assert_eq!(import("Nov 21, 2027, 3:30:00 AM"), Severity::Low);
    }

    #[test]
    fn policy_on_a_pending_key_raises() {
        let mut finding = finding("PutKeyPolicy", json!({}));
        assert_eq!(severity(&finding), Severity::High);
        finding.facts.metadata =
            Fact::Known(KeyMetadata { state: Some("PendingDeletion".into()), ..KeyMetadata::default() });
        assert_eq!(severity(&finding), Severity::Critical);
    }

    #[test]
    fn expected_principal_is_told_by_the_role_and_nothing_else() {
        let rules =
            Rules { expected_principals: vec!["arn:aws:iam::111122223333:role/ops".into()], ..Rules::default() };
        let by = |issuer: &str, arn: &str| {
            let identity = json!({"type": "AssumedRole", "arn": arn, "sessionContext": {"sessionIssuer": {"type": "Role", "arn": issuer}}});
            assess(&finding("DisableKey", json!({"userIdentity": identity})), &rules).severity
        };
        let session = "arn:aws:sts::111122223333:assumed-role/ops/x";
        assert_eq!(by("arn:aws:iam::111122223333:role/ops", session), Severity::Low);
        assert_eq!(by("arn:aws:iam::111122223333:role/ops2", session), Severity::Medium);
        assert_eq!(by("arn:aws:iam::444455556666:role/ops", session), Severity::Medium);
        assert_eq!(
            by("arn:aws:iam::111122223333:role/other", "arn:aws:sts::111122223333:assumed-role/other/ops"),
            Severity::Medium
        );
    }

    #[test]
    fn worst_case_counts_every_raise_whose_fact_is_not_known() {
        let mut key = finding("DisableKey", json!({}));
        assert_eq!(worst_case(&key), Severity::Medium, "nobody asked");
        for why in
            [Why::Denied, Why::ForbiddenByKeyPolicy, Why::Throttled, Why::TimedOut, Why::NoTime, Why::Unsupported]
        {
            key.facts = KeyFacts::unknown(why.clone());
            // Use and grants; the key isn't a multi-Region one.
            assert_eq!((severity(&key), worst_case(&key)), (Severity::Medium, Severity::Critical), "{why:?}");
            key.facts.grants = Fact::Known(Grants::default());
            assert_eq!(worst_case(&key), Severity::High, "{why:?}");
            key.facts.last_usage = Fact::Known(LastUsage::Never);
            assert_eq!(worst_case(&key), Severity::Medium, "{why:?}");
        }
    }

    #[test]
    fn worst_case_starts_from_what_applied_and_asks_only_what_may_be_so() {
        let mut policy = finding("PutKeyPolicy", json!({"userIdentity": {"type": "Root"}}));
        policy.facts = KeyFacts::unknown(Why::Denied);
        policy.assessment = assess(&policy, &Rules::default());
        assert_eq!((policy.assessment.severity, worst_case(&policy)), (Severity::Critical, Severity::Critical));
        let waits = json!({"requestParameters": {"keyId": "mrk-0f1e", "pendingWindowInDays": 30}});
        let mut multi = finding("ScheduleKeyDeletion", waits);
        multi.facts.grants = Fact::Known(Grants::default());
        multi.facts.last_usage = Fact::Known(LastUsage::NotSince(TIME));
        assert_eq!(worst_case(&multi), Severity::High);
        multi.facts.metadata = Fact::Unknown(Why::Throttled);
        assert_eq!(worst_case(&multi), Severity::Critical, "it may be a primary");
        // A key store has no facts, and good news nothing that could be worse.
        let mut store = finding("DeleteCustomKeyStore", json!({"requestParameters": {"customKeyStoreId": "cks-1"}}));
        store.facts = KeyFacts::unknown(Why::NoKey);
        let mut enabled = finding("EnableKey", json!({}));
        enabled.facts = KeyFacts::unknown(Why::Denied);
        enabled.assessment = assess(&enabled, &Rules::default());
        assert_eq!((worst_case(&store), worst_case(&enabled)), (Severity::Low, Severity::Informational));
    }

    #[test]
    fn what_says_that_the_guard_is_ill_is_never_held_back() {
        let rules = Rules { minimum_severity: Severity::Critical, ..Rules::default() };
        let of = |kind: Kind, severity| {
            let subject = Subject::Guard { kind: "AWS::Events::Rule", part: "r".into() };
            let mut finding = Finding::noticed(kind, subject, None, None, TIME, "x");
            finding.assessment.severity = severity;
            finding
        };
        let mut over = of(Kind::GuardBlind, Severity::Informational);
        over.over = true;
        for goes_out in [
            of(Kind::GuardBlind, Severity::High),
            over,
            of(Kind::UnreadableSignal, Severity::High),
            of(Kind::GuardTampered, Severity::Medium),
            of(Kind::GuardTest, Severity::Informational),
        ] {
            assert!(!is_held_back(&goes_out, &rules), "{}", goes_out.detection.id);
        }
        let mut low = of(Kind::GuardTampered, Severity::Low);
        low.assessment.reasons = vec![Reason { levels: -3, text: "x".into() }];
        assert!(is_held_back(&low, &rules) && is_held_back(&finding("DisableKey", json!({})), &rules));
    }

    #[test]
    fn good_news_is_never_raised_and_nothing_passes_the_ends() {
        assert_eq!(severity(&finding("EnableKey", json!({"userIdentity": {"type": "Root"}}))), Severity::Informational);
        let mut gone = finding("DeleteImportedKeyMaterial", json!({"userIdentity": {"type": "Root"}}));
        gone.facts.grants = Fact::Known(Grants { count: 1, ..Grants::default() });
        assert_eq!(severity(&gone), Severity::Critical);
        assert_eq!(assess(&gone, &Rules::default()).reasons.len(), 2);
    }

    #[test]
    fn what_the_record_leaves_open_is_medium_and_a_part_put_back_is_no_danger() {
        let mut removed = Finding::noticed(
            Kind::GuardTampered,
            Subject::Guard { kind: "AWS::SNS::Subscription", part: "x".into() },
            None,
            None,
            TIME,
            "x",
        );
        removed.unverified = true;
        for by in [Tool::Unknown, Tool::CloudFormation] {
            removed.actor.tool = by;
            removed.actor.who = if by == Tool::CloudFormation { Who::Root { assumed: false } } else { Who::default() };
            removed.assessment = assess(&removed, &Rules::default());
            assert_eq!((removed.assessment.severity, worst_case(&removed)), (Severity::Medium, Severity::High));
        }
        removed.unverified = false;
        removed.put_back = true;
        let assessment = assess(&removed, &Rules::default());
        assert_eq!((assessment.severity, removed.activity()), (Severity::Informational, Activity::Update));
    }

    #[test]
    fn cloudformation_lowers_what_was_done_to_the_guard_by_two_and_only_where_aws_says_so() {
        let tampered = |invoked_by: Value, agent: &str| {
            let event = json!({
                "source": "aws.events", "detail-type": "AWS API Call via CloudTrail",
                "detail": {
                    "eventSource": "events.amazonaws.com", "eventName": "DisableRule", "userAgent": agent,
                    "userIdentity": {"type": "AssumedRole", "invokedBy": invoked_by}, "requestParameters": {"name": "r"},
                },
            });
            severity(&detect(&Event::from_value(event), &Settings::default(), TIME).unwrap())
        };
        assert_eq!(tampered("cloudformation.amazonaws.com".into(), "x"), Severity::Medium);
        assert_eq!(tampered(Value::Null, "cloudformation.amazonaws.com"), Severity::Critical);
        // Nobody's expected work is to switch the guard off: Medium stays Medium.
        let rules = Rules { expected_principals: vec!["arn:aws:iam::111122223333:role/a".into()], ..Rules::default() };
        let subject = Subject::Guard { kind: "AWS::Events::Rule", part: "r".into() };
        let mut by_expected = Finding::noticed(Kind::GuardTampered, subject, None, None, TIME, "x");
        by_expected.actor.role_arn = rules.expected_principals.first().cloned();
        by_expected.actor.tool = Tool::CloudFormation;
        assert_eq!(assess(&by_expected, &rules).severity, Severity::Medium);
        let key = finding("DisableKey", json!({"sourceIPAddress": "cloudformation.amazonaws.com"}));
        assert_eq!(severity(&key), Severity::Medium);
    }
}
