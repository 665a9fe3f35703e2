//! Whether a key policy still lets the account that owns the key administer it.
//!
//! IAM permissions count for a key only while its policy delegates to the account's root principal. Once it doesn't,
//! nobody outside the policy can repair it. <https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html>

use serde_json::Value;

use crate::key::is_account_id;

/// The action that repairs any other: who may do it can give back the rest.
const REPAIR: &str = "kms:PutKeyPolicy";

/// What brings a key back; whoever denies one of these to everybody takes the way back away.
const WAY_BACK: [&str; 3] = [REPAIR, "kms:CancelKeyDeletion", "kms:EnableKey"];

/// Why the new policy locks the account out, in a sentence; None if it doesn't.
///
/// A statement under a condition neither counts as letting the account in nor as keeping it out: conditions are not
/// evaluated. `key_arn` is the key that the policy is for, if known.
pub fn lockout(policy: Option<&str>, account: Option<&str>, key_arn: Option<&str>) -> Option<String> {
    let Some(policy) = policy else {
        return Some(
            "The record doesn't hold the new policy, so whether it keeps the account's rights can't be told.".into(),
        );
    };
    let Some(account) = account else {
        return Some(
            "The record doesn't tell the account, so whether the new policy keeps its rights can't be told.".into(),
        );
    };
    let Ok(policy) = serde_json::from_str::<Value>(policy) else {
        return Some("The new policy in the record can't be read (cut off?), so whether it keeps the account's rights can't be told.".into());
    };
    let statements = one_or_many(policy.get("Statement").unwrap_or(&Value::Null));
    let applying = |effect: &str, action: &str| {
        let of_effect = statements.iter().filter(|statement| statement["Effect"].as_str() == Some(effect));
        of_effect.copied().filter(|statement| applies(statement, action, account, key_arn)).collect::<Vec<_>>()
    };
    let unconditional =
        |statement: &&Value| statement["Condition"].as_object().is_none_or(|conditions| conditions.is_empty());
    if let Some(denied) = WAY_BACK.into_iter().find(|action| applying("Deny", action).iter().any(unconditional)) {
        return Some(format!("The new policy denies the account {denied}."));
    }
    let allowed = applying("Allow", REPAIR);
    if allowed.iter().any(unconditional) {
        return None;
    }
    Some(if allowed.is_empty() {
        "The new policy doesn't let the account's root principal administer the key.".into()
    } else {
        "The new policy lets the account's root principal administer the key only under conditions.".into()
    })
}

/// Whether the statement speaks of the account's root principal, of this action, and of this key.
fn applies(statement: &Value, action: &str, account: &str, key_arn: Option<&str>) -> bool {
    let action = action.to_ascii_lowercase();
    let matches_resource = |pattern: &str| pattern == "*" || key_arn.is_some_and(|arn| glob(pattern, arn));
    names(statement, "Principal", |principal| covers_principal(principal, account))
        && names(statement, "Action", |v| texts(v).iter().any(|pattern| glob(&pattern.to_ascii_lowercase(), &action)))
        && (statement["Resource"].is_null() && statement["NotResource"].is_null()
            || names(statement, "Resource", |v| texts(v).iter().any(|p| matches_resource(p))))
}

/// Whether `field` covers, or else its `Not` twin is there and doesn't.
fn names(statement: &Value, field: &str, covers: impl Fn(&Value) -> bool) -> bool {
    let not = &statement[format!("Not{field}").as_str()];
    match &statement[field] {
        Value::Null => !not.is_null() && !covers(not),
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

fn one_or_many(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(many) => many.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

fn texts(value: &Value) -> Vec<&str> {
    one_or_many(value).into_iter().filter_map(Value::as_str).collect()
}

/// IAM's wildcards: `*` is any text, `?` any one character. Linear in practice: it only ever steps back to the last `*`.
fn glob(pattern: &str, text: &str) -> bool {
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

    #[test]
    fn condition_on_the_only_way_in_counts_as_locked_out() {
        let mut statement = allow(json!({"AWS": "111122223333"}), json!("kms:*"));
        statement["Condition"] = json!({"StringEquals": {"aws:PrincipalTag/team": "x"}});
        assert!(locks_out(json!([statement])));
    }

    #[test]
    fn denial_counts_unless_it_is_conditional() {
        let way_in = allow(json!({"AWS": "111122223333"}), json!("kms:*"));
        let mut denial = json!({"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"});
        assert!(locks_out(json!([way_in, denial])));
        denial["Condition"] = json!({"Bool": {"aws:MultiFactorAuthPresent": "false"}});
        assert!(!locks_out(json!([way_in, denial])));
        let all_but_one = json!({"Effect": "Deny", "NotPrincipal": {"AWS": "arn:aws:iam::111122223333:role/x"}, "Action": "kms:*", "Resource": "*"});
        assert!(locks_out(json!([way_in, all_but_one])));
        let unrelated =
            json!({"Effect": "Deny", "Principal": "*", "Action": "kms:ScheduleKeyDeletion", "Resource": "*"});
        assert!(!locks_out(json!([way_in, unrelated])));
    }

    #[test]
    fn what_cannot_be_read_is_said_and_never_passed() {
        assert!(lockout(None, Some("111122223333"), None).unwrap().contains("doesn't hold"));
        assert!(lockout(Some("{\"Statement\": ["), Some("111122223333"), None).unwrap().contains("can't be read"));
        assert!(lockout(Some("{}"), None, None).unwrap().contains("account"));
        assert!(lockout(Some("[1]"), Some("111122223333"), None).is_some());
    }

    #[test]
    fn wildcards_match_as_iam_does() {
        assert!(glob("kms:*", "kms:putkeypolicy") && glob("*", "") && glob("k?s:p*y", "kms:putkeypolicy"));
        assert!(!glob("kms:", "kms:x") && !glob("", "x") && !glob("?", ""));
        let stars = "*a".repeat(2_000);
        assert!(!glob(&stars, &"b".repeat(20_000)));
    }
}
