//! How bad a finding is, and why.

use time::{Duration, OffsetDateTime};

use crate::actor::{Mfa, Tool, Who};
use crate::catalogue::{Activity, Kind, Severity};
use crate::config::Rules;
use crate::detect::SHORTEST_WAITING_PERIOD_DAYS;
use crate::escape::name;
use crate::finding::{Assessment, Deadline, Finding, Reason, Subject};
use crate::key::{LastUsage, MultiRegion};

/// A rule that moves the severity of a danger.
pub struct Rule {
    /// Positive is worse, negative milder.
    pub levels: i32,
    /// When it applies; the documentation's table says the same.
    pub when: &'static str,
    /// The reason for the alert if it applies.
    applies: fn(&Finding, &Rules) -> Option<String>,
}

/// The rules, in the order in which an alert gives its reasons.
pub static RULES: [Rule; 19] = [
    Rule { levels: 10, when: "the key is one of `ProtectedKeys`", applies: protected },
    Rule {
        levels: 1,
        when: "the key was used in the 7 days before, and no expected principal did it",
        applies: used_recently,
    },
    Rule { levels: 1, when: "somebody holds grants on the key", applies: grants_held },
    Rule {
        levels: 1,
        when: "deletion was scheduled with the shortest waiting period, 7 days, and no expected principal did it",
        applies: shortest_wait,
    },
    Rule { levels: 1, when: "imported key material expires within 7 days", applies: expires_soon },
    Rule { levels: 1, when: "imported key material expires within 24 hours", applies: expires_tomorrow },
    Rule { levels: 1, when: "the whole CloudHSM cluster was deleted", applies: cluster_deleted },
    Rule { levels: 1, when: "the account's root user did it", applies: by_root },
    Rule { levels: 1, when: "an IAM user did it without a second factor", applies: without_mfa },
    Rule { levels: 1, when: "the deletion of a multi-Region primary was scheduled", applies: multi_region_primary },
    Rule {
        levels: 1,
        when: "the key policy was changed while the key is pending deletion",
        applies: policy_while_pending,
    },
    Rule {
        levels: 1,
        when: "a key that the sweep found at risk will be lost within 7 days",
        applies: lost_within_a_week,
    },
    Rule {
        levels: 2,
        when: "a key that the sweep found at risk will be lost within the last of `REMINDER_DAYS`",
        applies: lost_at_the_last_reminder,
    },
    Rule { levels: -1, when: "the key was never used since it was created", applies: never_used },
    Rule { levels: -1, when: "an expected principal did it", applies: expected_principal },
    Rule {
        levels: -1,
        when: "a key store's change names no other cluster or proxy: a name, a password or a credential",
        applies: keeps_its_keys,
    },
    Rule {
        levels: -2,
        when: "only a condition that can't be verified makes a policy a lockout",
        applies: unverified_lockout,
    },
    Rule {
        levels: -1,
        when: "only a condition that can't be verified makes a policy a cut-off",
        applies: unverified_cutoff,
    },
    Rule {
        levels: -2,
        when: "CloudFormation changed a part of the guard, as it does when a stack is updated or deleted",
        applies: by_cloudformation,
    },
];

/// What counts as recent use.
const RECENT: Duration = Duration::days(7);

/// Rates a finding by its facts. Good news keeps the catalogue's severity.
pub fn assess(finding: &Finding, rules: &Rules) -> Assessment {
    let base = finding.detection.severity;
    if finding.over {
        return Assessment { severity: Severity::Informational, reasons: Vec::new() };
    }
    if !finding.is_danger() {
        return Assessment { severity: base, reasons: Vec::new() };
    }
    let reason = |rule: &Rule| Some(Reason { levels: rule.levels, text: (rule.applies)(finding, rules)? });
    let reasons: Vec<_> = RULES.iter().filter_map(reason).collect();
    Assessment { severity: base.shifted(reasons.iter().map(|reason| reason.levels).sum()), reasons }
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
        0 => "less than a minute before".into(),
        minutes @ 1..=119 => format!("{minutes} min before"),
        120..=2_879 => format!("{} h before", ago.whole_hours()),
        _ => format!("{} d before", ago.whole_days()),
    }
}

fn grants_held(finding: &Finding, _: &Rules) -> Option<String> {
    let grants = finding.facts.grants.known().filter(|grants| grants.count > 0)?;
    let (more, plural) = (if grants.more { "at least " } else { "" }, if grants.count == 1 { "" } else { "s" });
    Some(format!("{more}{} grant{plural} on the key: something depends on it", grants.count))
}

fn shortest_wait(finding: &Finding, rules: &Rules) -> Option<String> {
    let asked = finding.detection.kind == Kind::KeyDeletionScheduled
        && expected_principal(finding, rules).is_none()
        && finding.origin.waiting_period_days == Some(SHORTEST_WAITING_PERIOD_DAYS);
    asked.then(|| "the shortest waiting period was asked for, 7 days".into())
}

fn expires_soon(finding: &Finding, _: &Rules) -> Option<String> {
    let Deadline::At(at, _) = finding.deadline else { return None };
    let soon = finding.detection.kind == Kind::KeyMaterialExpiring && at - finding.time <= Duration::days(7);
    soon.then(|| "the key material expires within 7 days".into())
}

fn expires_tomorrow(finding: &Finding, _: &Rules) -> Option<String> {
    let Deadline::At(at, _) = finding.deadline else { return None };
    let soon = finding.detection.kind == Kind::KeyMaterialExpiring && at - finding.time <= Duration::hours(24);
    soon.then(|| "it does so within 24 hours".into())
}

fn cluster_deleted(finding: &Finding, _: &Rules) -> Option<String> {
    let deleted = finding.detection.kind == Kind::KeyStoreClusterLost && finding.origin.event_name == "DeleteCluster";
    deleted.then(|| "the whole cluster was deleted".into())
}

/// Who lost the key; the caller of `lost-key-used` is who misses it.
fn who(finding: &Finding) -> Option<&Who> {
    (finding.detection.kind != Kind::LostKeyUsed).then_some(&finding.actor.who)
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
        ..=0 => "its time is over today".into(),
        1 => "a day of the calendar is left".into(),
        left => format!("{left} days of the calendar are left"),
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
fn expected_principal(finding: &Finding, rules: &Rules) -> Option<String> {
    who(finding)?;
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
        .then(|| "it is a danger only if the policy spares nobody, which can't be verified".into())
}

/// Told by what AWS itself fills in; a user agent that says so isn't enough.
fn by_cloudformation(finding: &Finding, _: &Rules) -> Option<String> {
    let updated = finding.detection.kind == Kind::GuardTampered && finding.actor.tool == Tool::CloudFormation;
    updated.then(|| "CloudFormation did it, as it does when a stack is updated or deleted".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Settings, detect};
    use crate::event::Event;
    use crate::key::{Fact, Grants, KeyMetadata};
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
        assert_eq!(assessment.reasons[0].text, "the key was last used 3 min before (Decrypt)");
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
    fn good_news_is_never_raised_and_nothing_passes_the_ends() {
        assert_eq!(severity(&finding("EnableKey", json!({"userIdentity": {"type": "Root"}}))), Severity::Informational);
        let mut gone = finding("DeleteImportedKeyMaterial", json!({"userIdentity": {"type": "Root"}}));
        gone.facts.grants = Fact::Known(Grants { count: 1, ..Grants::default() });
        assert_eq!(severity(&gone), Severity::Critical);
        assert_eq!(assess(&gone, &Rules::default()).reasons.len(), 2);
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
        let key = finding("DisableKey", json!({"sourceIPAddress": "cloudformation.amazonaws.com"}));
        assert_eq!(severity(&key), Severity::Medium);
    }
}
