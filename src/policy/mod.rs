//! Whether a key policy still lets the account that owns the key administer it; and, for the guard's own parts, whether a
//! policy lets somebody do something.
//!
//! IAM permissions count for a key only while its policy delegates to the account's root principal. Once it doesn't,
//! nobody outside the policy can repair it. <https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html>

#[cfg(feature = "watch")]
mod access;
mod condition;

use serde_json::{Map, Value};

use crate::key::is_account_id;
#[cfg(feature = "watch")]
pub(crate) use access::{AccessRequest, Answer};
use condition::{Context, Root, any, not};

/// The action that repairs any other: who may do it can give back the rest.
const REPAIR: &str = "kms:PutKeyPolicy";

/// What brings a key back; whoever denies one of these to everybody takes the way back away.
const WAY_BACK: [&str; 3] = [REPAIR, "kms:CancelKeyDeletion", "kms:EnableKey"];

/// Why a policy counts as locking the account out, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lockout {
    /// The policy says so.
    Proved(String),
    /// It can't be shown that the account keeps its rights.
    Unclear(String),
}

impl Lockout {
    /// The reason, for the reader of an alert.
    pub fn sentence(&self) -> &str {
        match self {
            Self::Proved(sentence) | Self::Unclear(sentence) => sentence,
        }
    }
}

/// Why the new policy locks the account out; None if it doesn't.
///
/// Conditions are evaluated for the account's root principal. In doubt an Allow doesn't count and a Deny does, unless it
/// is a well-known guard, such as a second factor. `key_arn` is the key that the policy is for, if known.
pub fn lockout(policy: Option<&str>, account: Option<&str>, key_arn: Option<&str>) -> Option<Lockout> {
    let unclear = |sentence: &str| Some(Lockout::Unclear(sentence.into()));
    let Some(policy) = policy else {
        return unclear(
            "The record doesn't hold the new policy, so whether it keeps the account's rights can't be told.",
        );
    };
    let Some(account) = account else {
        return unclear(
            "The record doesn't tell the account, so whether the new policy keeps its rights can't be told.",
        );
    };
    let Some(policy) = serde_json::from_str::<Value>(policy).ok().filter(Value::is_object) else {
        return unclear(
            "The new policy in the record can't be read (cut off?), so whether it keeps the account's rights can't be told.",
        );
    };
    let root = &Root {
        account,
        partition: key_arn.and_then(|arn| arn.split(':').nth(1)),
        variables: knows_variables(&policy),
    };
    let statements = one_or_many(policy.get("Statement").unwrap_or(&Value::Null));
    let denials: Vec<_> = WAY_BACK
        .into_iter()
        .flat_map(|action| statements.iter().filter_map(move |statement| denial(statement, action, root, key_arn)))
        .collect();
    let (proved, unclear): (Vec<_>, Vec<_>) =
        denials.into_iter().partition(|denial| matches!(denial, Lockout::Proved(_)));
    proved.into_iter().next().or_else(|| no_way_in(&statements, root, key_arn)).or(unclear.into_iter().next())
}

/// Whether the policy's version is the one with variables.
fn knows_variables(policy: &Value) -> bool {
    policy.get("Version").is_some_and(|version| version == "2012-10-17")
}

/// How this statement takes the action away, if it does.
fn denial(statement: &Value, action: &str, root: &Root, key_arn: Option<&str>) -> Option<Lockout> {
    let denies = statement["Effect"] == "Deny" && has_action(statement, action);
    if !denies || is_for(statement, root, key_arn) == Some(false) {
        return None;
    }
    let condition = &statement["Condition"];
    let met = root.meets(condition);
    if !statement["NotPrincipal"].is_null() {
        // Even where the root principal is listed, every role and user that isn't is denied.
        let everyone = format!("The new policy denies {action} to everyone whom its NotPrincipal doesn't list");
        return Some(match met {
            Some(true) => Lockout::Proved(format!("{everyone}.")),
            _ => Lockout::Unclear(format!("{everyone}, under a condition.")),
        });
    }
    if !covers_principal(&statement["Principal"], root.account) {
        return None;
    }
    match met {
        Some(true) if condition.as_object().is_none_or(Map::is_empty) => {
            Some(Lockout::Proved(format!("The new policy denies the account {action}.")))
        }
        Some(true) => Some(Lockout::Proved(format!(
            "The new policy denies the account {action}, under a condition that its root principal meets."
        ))),
        None if !root.is_guard(condition) => Some(Lockout::Unclear(format!(
            "The new policy denies the account {action} under a condition that can't be judged."
        ))),
        _ => None,
    }
}

/// What is wrong if no statement certainly lets the account's root principal repair the policy.
fn no_way_in(statements: &[&Value], root: &Root, key_arn: Option<&str>) -> Option<Lockout> {
    let allowed = statements.iter().filter(|statement| {
        statement["Effect"] == "Allow"
            && has_action(statement, REPAIR)
            && is_for(statement, root, key_arn) == Some(true)
            && either(statement, "Principal", |v| Some(covers_principal(v, root.account))) == Some(true)
    });
    let met: Vec<_> = allowed.map(|statement| root.meets(&statement["Condition"])).collect();
    if met.contains(&Some(true)) {
        return None;
    }
    Some(Lockout::Proved(if met.contains(&None) {
        "The new policy lets the account's root principal administer the key only under conditions.".into()
    } else {
        "The new policy doesn't let the account's root principal administer the key.".into()
    }))
}

fn has_action(statement: &Value, action: &str) -> bool {
    let action = action.to_ascii_lowercase();
    let covers = |v: &Value| Some(texts(v).iter().any(|pattern| glob(&pattern.to_ascii_lowercase(), &action)));
    either(statement, "Action", covers) == Some(true)
}

/// Whether the statement is for this resource; None if its ARN, or a variable in the pattern, isn't known.
fn is_for(statement: &Value, context: &impl Context, arn: Option<&str>) -> Option<bool> {
    if statement["Resource"].is_null() && statement["NotResource"].is_null() {
        return Some(true);
    }
    let matches = |pattern: &str| match pattern {
        "*" => Some(true),
        _ => Some(glob(&context.expand(pattern)?, arn?)),
    };
    either(statement, "Resource", |v| any(texts(v).into_iter().map(matches)))
}

/// Whether `field` covers, or else its `Not` twin is there and doesn't.
fn either(statement: &Value, field: &str, covers: impl Fn(&Value) -> Option<bool>) -> Option<bool> {
    let twin = &statement[format!("Not{field}").as_str()];
    match &statement[field] {
        Value::Null if twin.is_null() => Some(false),
        Value::Null => not(covers(twin)),
        value => covers(value),
    }
}

/// Whether a `Principal` takes in the account's root principal, however it is spelled.
fn covers_principal(principal: &Value, account: &str) -> bool {
    let is_root = |text: &&str| {
        *text == "*"
            || (is_account_id(text) && *text == account)
            || (text.starts_with("arn:") && text.ends_with(&format!(":iam::{account}:root")))
    };
    match principal {
        Value::String(text) => text == "*",
        other => texts(&other["AWS"]).iter().any(is_root),
    }
}

pub(crate) fn one_or_many(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(many) => many.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

pub(crate) fn texts(value: &Value) -> Vec<&str> {
    one_or_many(value).into_iter().filter_map(Value::as_str).collect()
}

/// IAM's wildcards: `*` is any text, `?` any one character. Linear in practice: it only ever steps back to the last `*`.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(&byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&want) if want == b'?' || want == byte => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_at, matched)) => {
                    star = Some((star_at, matched + 1));
                    p = star_at + 1;
                    t = matched + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/0f1e";

    fn locks_out(statements: Value) -> bool {
        let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        lockout(Some(&policy), Some("111122223333"), Some(KEY)).is_some()
    }

    fn allow(principal: Value, action: Value) -> Value {
        json!({"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*"})
    }

    #[test]
    fn default_policy_in_any_spelling_keeps_the_account_in() {
        let root = json!({"AWS": "arn:aws:iam::111122223333:root"});
        assert!(!locks_out(json!([allow(root.clone(), json!("kms:*"))])));
        assert!(!locks_out(allow(root.clone(), json!("kms:*"))), "one statement, no list");
        assert!(!locks_out(json!([allow(root.clone(), json!(["kms:Describe*", "KMS:put*"]))])));
        assert!(!locks_out(json!([allow(
            json!({"AWS": ["arn:aws:iam::444455556666:root", "111122223333"]}),
            json!("*")
        )])));
        assert!(!locks_out(json!([allow(json!("*"), json!("kms:PutKeyPolicy"))])));
        assert!(!locks_out(
            json!([{"Effect": "Allow", "Principal": root, "NotAction": "kms:Decrypt", "Resource": KEY}])
        ));
    }

    #[test]
    fn policy_without_the_account_locks_it_out() {
        assert!(locks_out(json!([])));
        assert!(locks_out(json!([allow(json!({"AWS": "arn:aws:iam::111122223333:role/admin"}), json!("kms:*"))])));
        assert!(locks_out(json!([allow(json!({"AWS": "arn:aws:iam::444455556666:root"}), json!("kms:*"))])));
        assert!(locks_out(json!([allow(json!({"Service": "*"}), json!("kms:*"))])));
        let root = json!({"AWS": "arn:aws:iam::111122223333:root"});
        assert!(locks_out(json!([allow(root.clone(), json!(["kms:Decrypt", "kms:Get*"]))])));
        let elsewhere = "arn:aws:kms:eu-west-1:111122223333:key/other";
        assert!(locks_out(json!([{"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": elsewhere}])));
    }

    fn root() -> Value {
        json!({"AWS": "arn:aws:iam::111122223333:root"})
    }

    fn under(mut statement: Value, condition: Value) -> Value {
        statement["Condition"] = condition;
        statement
    }

    fn of_version(version: &str, statements: Value) -> Option<Lockout> {
        let policy = json!({"Version": version, "Statement": statements}).to_string();
        lockout(Some(&policy), Some("111122223333"), Some(KEY))
    }

    /// The verdict on a policy that lets the account in and denies everybody everything under this condition.
    fn denied(condition: Value) -> Option<Lockout> {
        let denial = json!({"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"});
        of_version("2012-10-17", json!([allow(root(), json!("kms:*")), under(denial, condition)]))
    }

    fn is_proved(lockout: Option<Lockout>) -> bool {
        matches!(lockout, Some(Lockout::Proved(_)))
    }

    fn is_unclear(lockout: Option<Lockout>) -> bool {
        matches!(lockout, Some(Lockout::Unclear(_)))
    }

    #[test]
    fn way_in_counts_when_the_root_principal_meets_its_condition() {
        let anyone = || allow(json!({"AWS": "*"}), json!("kms:*"));
        assert!(!locks_out(under(anyone(), json!({"StringEquals": {"kms:CallerAccount": "111122223333"}}))));
        assert!(!locks_out(under(
            anyone(),
            json!({"StringEquals": {"aws:PrincipalAccount": "${aws:PrincipalAccount}"}})
        )));
        let way_in = || allow(root(), json!("kms:*"));
        assert!(!locks_out(under(way_in(), json!({"StringLike": {"aws:PrincipalArn": "*"}}))));
        assert!(!locks_out(under(way_in(), json!({"Bool": {"aws:SecureTransport": "true"}}))));
        assert!(!locks_out(under(way_in(), json!({}))));
    }

    #[test]
    fn way_in_under_any_other_condition_counts_as_locked_out() {
        let verdict = |condition| of_version("2012-10-17", under(allow(json!("*"), json!("kms:*")), condition));
        let sentence = |condition| verdict(condition).unwrap().sentence().to_owned();
        assert!(sentence(json!({"StringEquals": {"aws:PrincipalTag/team": "x"}})).contains("only under conditions"));
        assert!(sentence(json!({"StringLike": {"aws:PrincipalArn": "${aws:username}"}})).contains("only under"));
        assert!(sentence(json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}})).contains("only under conditions"));
        assert!(sentence(json!("x")).contains("only under conditions"));
        assert!(sentence(json!({"StringEquals": {"kms:CallerAccount": "444455556666"}})).contains("doesn't let"));
        assert!(is_proved(verdict(json!({"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}))));
    }

    #[test]
    fn unconditional_denial_of_a_way_back_counts_and_of_a_loss_does_not() {
        let way_in = allow(root(), json!("kms:*"));
        let deny = |action: &str| json!({"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*"});
        for action in ["kms:*", "kms:PutKeyPolicy", "kms:cancel*", "kms:EnableKey"] {
            assert!(is_proved(of_version("2012-10-17", json!([way_in, deny(action)]))), "{action}");
        }
        assert!(!locks_out(json!([way_in, deny("kms:ScheduleKeyDeletion")])));
        let of_one_role = json!({"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::111122223333:role/x"}, "Action": "kms:*", "Resource": "*"});
        assert!(!locks_out(json!([way_in, of_one_role])));
    }

    #[test]
    fn denial_that_the_root_principal_does_not_meet_takes_nothing_away() {
        let root = "arn:aws:iam::111122223333:root";
        let role = "arn:aws:iam::111122223333:role/x";
        for condition in [
            json!({"Bool": {"aws:SecureTransport": "false"}}),
            json!({"StringNotEquals": {"aws:PrincipalAccount": "111122223333"}}),
            json!({"StringNotEquals": {"kms:CallerAccount": ["111122223333", "444455556666"]}}),
            json!({"StringNotEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}}),
            json!({"ArnNotEquals": {"aws:PrincipalArn": [role, root]}}),
            json!({"ArnNotLike": {"aws:PrincipalArn": [role, root]}}),
            json!({"StringNotLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:*"}}),
            json!({"ArnEquals": {"aws:PrincipalArn": role}}),
            json!({"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}),
        ] {
            assert_eq!(denied(condition.clone()), None, "{condition}");
        }
    }

    #[test]
    fn denial_that_the_root_principal_meets_locks_out_whatever_it_looks_like() {
        let role = "arn:aws:iam::111122223333:role/x";
        for condition in [
            json!({"ArnNotEquals": {"aws:PrincipalArn": role}}),
            json!({"ArnNotLike": {"aws:PrincipalArn": [role, "arn:aws:iam::111122223333:user/*"]}}),
            json!({"StringNotEquals": {"aws:PrincipalArn": role}}),
            json!({"StringNotLike": {"aws:PrincipalArn": role}}),
            json!({"StringNotEqualsIfExists": {"aws:PrincipalArn": role}}),
            json!({"Null": {"aws:PrincipalArn": "false"}}),
            json!({"StringLike": {"aws:PrincipalArn": "*"}}),
            json!({"Bool": {"aws:SecureTransport": "true"}}),
            json!({"Bool": {"aws:ViaAWSService": "false"}}),
            json!({"StringEquals": {"aws:PrincipalAccount": "111122223333"}}),
            json!({"StringNotEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}),
            json!({"StringNotEquals": {"aws:RequestTag/team": "x"}}),
            json!({"NumericLessThanIfExists": {"kms:ScheduleKeyDeletionPendingWindowInDays": "30"}}),
        ] {
            let lockout = denied(condition.clone());
            assert!(is_proved(lockout), "{condition}");
        }
        assert!(
            denied(json!({})).unwrap().sentence().starts_with("The new policy denies the account kms:PutKeyPolicy")
        );
    }

    #[test]
    fn well_known_guards_stay_silent() {
        for condition in [
            json!({"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}),
            json!({"NumericGreaterThan": {"aws:MultiFactorAuthAge": "3600"}}),
            json!({"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}, "Bool": {"aws:ViaAWSService": "false"}}),
            json!({"StringNotEquals": {"aws:SourceVpce": "vpce-0a1b2c3d"}}),
            json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}),
            json!({"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "true"}}),
            json!({"NumericLessThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": "30"}}),
            json!({"NumericLessThan": {"kms:TrailingDaysWithoutKeyUsage": "90"}}),
            json!({"StringEquals": {"aws:ResourceTag/protected": "yes"}}),
            json!({"StringEquals": {"aws:RequestTag/team": "x"}}),
        ] {
            assert_eq!(denied(condition.clone()), None, "{condition}");
        }
    }

    #[test]
    fn denial_under_a_condition_that_cannot_be_judged_is_reported_as_unclear() {
        for condition in [
            json!({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}),
            json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}),
            json!({"IpAddress": {"aws:SourceIp": "::/0"}}),
            json!({"NotIpAddress": {"aws:SourceIp": "127.0.0.1/32"}}),
            json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}}),
            json!({"StringNotEquals": {"aws:PrincipalTag/team": "x"}}),
            json!({"StringNotEquals": {"aws:PrincipalArn": "${aws:username}"}}),
            json!("x"),
        ] {
            let lockout = denied(condition.clone());
            assert!(lockout.as_ref().unwrap().sentence().contains("can't be judged"), "{condition}");
            assert!(is_unclear(lockout), "{condition}");
        }
    }

    #[test]
    fn what_is_proved_is_said_before_what_is_unclear() {
        let deny = |action: &str, condition: Value| json!({"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*", "Condition": condition});
        let unclear = deny("kms:PutKeyPolicy", json!({"StringEquals": {"aws:PrincipalTag/team": "x"}}));
        let proved = deny("kms:EnableKey", Value::Null);
        let way_in = allow(root(), json!("kms:*"));
        assert!(is_proved(of_version("2012-10-17", json!([way_in, unclear, proved]))));
        assert!(is_proved(of_version("2012-10-17", json!([unclear]))), "no way in at all");
        assert!(is_unclear(of_version("2012-10-17", json!([way_in, unclear]))));
    }

    #[test]
    fn denial_to_all_but_a_list_counts_even_if_the_list_names_the_account() {
        let all_but = |listed: Value, action: &str| json!({"Effect": "Deny", "NotPrincipal": listed, "Action": action, "Resource": "*"});
        let way_in = allow(root(), json!("kms:*"));
        for listed in [root(), json!({"AWS": "arn:aws:iam::111122223333:role/x"})] {
            let lockout = of_version("2012-10-17", json!([way_in, all_but(listed, "kms:*")]));
            assert!(lockout.as_ref().unwrap().sentence().contains("NotPrincipal"));
            assert!(is_proved(lockout));
        }
        assert!(!locks_out(json!([way_in, all_but(root(), "kms:ScheduleKeyDeletion")])));
        let with_condition = under(all_but(root(), "kms:*"), json!({"Bool": {"aws:MultiFactorAuthPresent": "false"}}));
        assert!(is_unclear(of_version("2012-10-17", json!([way_in, with_condition]))));
    }

    #[test]
    fn variables_are_plain_text_in_the_older_version() {
        let statements = json!([
            allow(root(), json!("kms:*")),
            {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*",
             "Condition": {"StringNotEquals": {"kms:CallerAccount": "${aws:PrincipalAccount}"}}},
        ]);
        assert_eq!(of_version("2012-10-17", statements.clone()), None);
        assert!(is_proved(of_version("2008-10-17", statements)));
    }

    #[test]
    fn denial_counts_unless_it_is_certainly_for_another_key() {
        let verdict = |field: &str, pattern: &str, key_arn: Option<&str>| {
            let mut denial = json!({"Effect": "Deny", "Principal": "*", "Action": "kms:*"});
            denial[field] = json!(pattern);
            let statements = json!([allow(root(), json!("kms:*")), denial]);
            let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
            lockout(Some(&policy), Some("111122223333"), key_arn).is_some()
        };
        let elsewhere = "arn:aws:kms:eu-west-1:111122223333:key/other";
        assert!(verdict("Resource", KEY, Some(KEY)) && !verdict("Resource", elsewhere, Some(KEY)));
        assert!(verdict("Resource", KEY, None) && verdict("Resource", elsewhere, None));
        assert!(verdict("Resource", "arn:aws:kms:*:*:key/${aws:PrincipalTag/key}", Some(KEY)));
        assert!(verdict("Resource", "arn:aws:kms:*:${aws:PrincipalAccount}:key/*", Some(KEY)));
        assert!(!verdict("Resource", "arn:aws:kms:*:${aws:PrincipalAccount}:alias/*", Some(KEY)));
        assert!(!verdict("NotResource", KEY, Some(KEY)) && verdict("NotResource", KEY, None));
    }

    #[test]
    fn way_in_counts_only_if_it_is_certainly_for_this_key() {
        let verdict = |pattern: &str| {
            locks_out(json!({"Effect": "Allow", "Principal": root(), "Action": "kms:*", "Resource": pattern}))
        };
        assert!(!verdict("arn:aws:kms:*:${aws:PrincipalAccount}:key/*"));
        assert!(verdict("arn:aws:kms:*:*:key/${aws:PrincipalTag/key}"));
    }

    #[test]
    fn break_glass_statements_of_the_runbook_are_reported_for_their_lock_on_the_policy() {
        let mut policy: Value =
            serde_json::from_str(include_str!("../../docs/policies/key-policy-statements.json")).unwrap();
        let judge = |policy: &Value| lockout(Some(&policy.to_string()), Some("111122223333"), Some(KEY));
        policy["Statement"].as_array_mut().unwrap().push(allow(root(), json!("kms:*")));
        let lockout = judge(&policy).unwrap();
        assert!(matches!(lockout, Lockout::Proved(_)));
        assert!(lockout.sentence().contains("kms:PutKeyPolicy, under a condition"), "{}", lockout.sentence());
        policy["Statement"][2]["Action"].as_array_mut().unwrap().retain(|action| action != "kms:PutKeyPolicy");
        assert_eq!(judge(&policy), None);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_never_passed() {
        let sentence = |policy, account| match lockout(policy, account, None) {
            Some(Lockout::Unclear(sentence)) => sentence,
            other => panic!("{other:?}"),
        };
        let account = Some("111122223333");
        assert!(sentence(None, account).contains("doesn't hold"));
        assert!(sentence(Some("{\"Statement\": ["), account).contains("can't be read"));
        assert!(sentence(Some("[1]"), account).contains("can't be read"));
        assert!(sentence(Some("{}"), None).contains("account"));
        assert!(is_proved(lockout(Some("{}"), account, None)), "a policy that says nothing lets nobody in");
    }

    #[test]
    fn wildcards_match_as_iam_does() {
        assert!(glob("kms:*", "kms:putkeypolicy") && glob("*", "") && glob("k?s:p*y", "kms:putkeypolicy"));
        assert!(!glob("kms:", "kms:x") && !glob("", "x") && !glob("?", ""));
        let stars = "*a".repeat(2_000);
        assert!(!glob(&stars, &"b".repeat(20_000)));
    }
}
