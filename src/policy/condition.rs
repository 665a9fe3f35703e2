//! What a statement's `Condition` comes to for a request of which some is known: the one engine for key policies, which are
//! judged for callers of the key's own account, and for those of the guard's own parts.
//!
//! Three answers: it holds, it doesn't, or (None) the policy alone doesn't tell.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>

use serde_json::Value;

use super::trusted::Range;
use super::{glob, one_or_many};

/// What is known about a condition key.
pub(super) enum ContextKey {
    Is(String),
    /// The request doesn't carry the key.
    Absent,
    Unknown,
}

/// A request that conditions are evaluated for.
pub(super) trait Context {
    /// What it tells of a condition key, whose name is in lower case.
    fn fact(&self, key: &str) -> ContextKey;

    /// Whether the policy's version knows variables; in the older one `${aws:username}` is plain text.
    fn knows_variables(&self) -> bool;

    /// The text with its policy variables filled in; None if one isn't known.
    fn expand(&self, text: &str) -> Option<String> {
        if !self.knows_variables() {
            return Some(text.into());
        }
        let mut rest = text;
        let mut expanded = String::new();
        while let Some((before, variable)) = rest.split_once("${") {
            let (name, after) = variable.split_once('}')?;
            let ContextKey::Is(value) = self.fact(&name.to_ascii_lowercase()) else { return None };
            expanded.extend([before, &value]);
            rest = after;
        }
        Some(expanded + rest)
    }

    /// Whether the whole condition holds; a statement without one always applies.
    fn meets(&self, clauses: &[Clause]) -> Option<bool> {
        not(any(clauses.iter().map(|clause| not(self.meets_clause(clause)))))
    }

    fn meets_clause(&self, clause: &Clause) -> Option<bool> {
        let fact = self.fact(&clause.key);
        if clause.operator == "null" {
            let absent = match fact {
                ContextKey::Is(_) => "false",
                ContextKey::Absent => "true",
                ContextKey::Unknown => return None,
            };
            return any(clause.values.iter().map(|value| Some(value.eq_ignore_ascii_case(absent))));
        }
        let value = match (fact, clause.set) {
            (ContextKey::Is(value), _) => value,
            (ContextKey::Unknown, _) => return None,
            (ContextKey::Absent, Some(Set::Any)) => return (!clause.if_exists).then_some(false),
            (ContextKey::Absent, Some(Set::All)) => return Some(true),
            (ContextKey::Absent, None) => return Some(clause.if_exists || clause.is_negated()),
        };
        let compare: fn(&str, &str) -> Option<bool> = match clause.operator.as_str() {
            "stringequals" | "stringnotequals" => |pattern, value| Some(pattern == value),
            "stringequalsignorecase" | "stringnotequalsignorecase" | "bool" => {
                |pattern, value| Some(pattern.eq_ignore_ascii_case(value))
            }
            "stringlike" | "stringnotlike" => |pattern, value| Some(glob(pattern, value)),
            "arnequals" | "arnlike" | "arnnotequals" | "arnnotlike" => arn_like,
            "ipaddress" | "notipaddress" => |range, address| Some(Range::read(range)?.holds(address.parse().ok()?)),
            _ => return None,
        };
        let matches = any(clause.values.iter().map(|pattern| compare(&self.expand(pattern)?, &value)));
        if clause.is_negated() { not(matches) } else { matches }
    }
}

/// How an operator takes a key of several values.
#[derive(Clone, Copy)]
pub(super) enum Set {
    Any,
    All,
}

/// One operator on one key. All but the values is in lower case: IAM doesn't tell the cases apart.
pub(super) struct Clause {
    pub set: Option<Set>,
    pub operator: String,
    pub if_exists: bool,
    pub key: String,
    /// Never empty.
    pub values: Vec<String>,
}

impl Clause {
    pub fn is_negated(&self) -> bool {
        self.operator.contains("not")
    }
}

/// The operators that IAM knows, in lower case and without what may stand around them.
const OPERATORS: [&str; 27] = [
    "stringequals",
    "stringnotequals",
    "stringequalsignorecase",
    "stringnotequalsignorecase",
    "stringlike",
    "stringnotlike",
    "numericequals",
    "numericnotequals",
    "numericlessthan",
    "numericlessthanequals",
    "numericgreaterthan",
    "numericgreaterthanequals",
    "dateequals",
    "datenotequals",
    "datelessthan",
    "datelessthanequals",
    "dategreaterthan",
    "dategreaterthanequals",
    "bool",
    "binaryequals",
    "ipaddress",
    "notipaddress",
    "arnequals",
    "arnnotequals",
    "arnlike",
    "arnnotlike",
    "null",
];

/// None if this is no condition as IAM writes them.
pub(super) fn clauses(condition: &Value) -> Option<Vec<Clause>> {
    let mut clauses = Vec::new();
    for (operator, keys) in condition.as_object()? {
        let operator = operator.to_ascii_lowercase();
        let (set, operator) = match operator.split_once(':') {
            None => (None, operator.as_str()),
            Some(("foranyvalue", operator)) => (Some(Set::Any), operator),
            Some(("forallvalues", operator)) => (Some(Set::All), operator),
            Some(_) => return None,
        };
        let (operator, if_exists) =
            operator.strip_suffix("ifexists").map_or((operator, false), |operator| (operator, true));
        if !OPERATORS.contains(&operator) {
            return None;
        }
        for (key, values) in keys.as_object()? {
            let values: Vec<_> = one_or_many(values).into_iter().map(scalar).collect::<Option<_>>()?;
            if values.is_empty() {
                return None;
            }
            clauses.push(Clause { set, operator: operator.into(), if_exists, key: key.to_ascii_lowercase(), values });
        }
    }
    Some(clauses)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// True beats unknown, and unknown beats false.
pub(super) fn any(answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut so_far = Some(false);
    for answer in answers {
        match answer {
            Some(true) => return answer,
            Some(false) => {}
            None => so_far = None,
        }
    }
    so_far
}

pub(super) fn not(answer: Option<bool>) -> Option<bool> {
    answer.map(|answer| !answer)
}

/// ARNs are compared part by part, so that a wildcard stays within its part. What matches only as a whole, as `*` alone
/// does, isn't written down anywhere: unknown.
fn arn_like(pattern: &str, arn: &str) -> Option<bool> {
    let (patterns, parts) = (pattern.splitn(6, ':'), arn.splitn(6, ':'));
    let by_part = patterns.clone().count() == parts.clone().count() && patterns.zip(parts).all(|(p, t)| glob(p, t));
    if by_part { Some(true) } else { (!glob(pattern, arn)).then_some(false) }
}

#[cfg(test)]
mod tests {
    use super::super::caller::{Caller, Does, Principal};
    use super::super::trusted::Network;
    use super::*;
    use serde_json::json;
    use time::OffsetDateTime;

    const ROOT: Caller<'_> = Caller {
        account: "111122223333",
        partition: Some("aws"),
        region: Some("eu-west-1"),
        who: Principal::Root,
        does: Does::Administers,
        network: Network::Anywhere,
        organization: None,
        now: OffsetDateTime::UNIX_EPOCH,
        variables: true,
    };

    fn meets(caller: &Caller, condition: &Value) -> Option<bool> {
        caller.meets(&clauses(condition)?)
    }

    fn met(operator: &str, key: &str, values: Value) -> Option<bool> {
        meets(&ROOT, &json!({operator: {key: values}}))
    }

    #[test]
    fn root_principal_is_known_by_its_arn_its_account_and_its_type() {
        assert_eq!(met("ArnEquals", "aws:PrincipalArn", json!("arn:aws:iam::111122223333:root")), Some(true));
        assert_eq!(met("StringEquals", "AWS:principalarn", json!("arn:aws:iam::111122223333:root")), Some(true));
        assert_eq!(met("ArnNotLike", "aws:PrincipalArn", json!(["x", "arn:aws:iam::*:root"])), Some(false));
        assert_eq!(met("ArnNotLike", "aws:PrincipalArn", json!("arn:aws-cn:iam::111122223333:root")), Some(true));
        assert_eq!(met("StringNotEquals", "kms:CallerAccount", json!("111122223333")), Some(false));
        assert_eq!(met("StringEquals", "aws:PrincipalAccount", json!(["444455556666", "111122223333"])), Some(true));
        assert_eq!(met("StringNotEqualsIgnoreCase", "aws:PrincipalType", json!("account")), Some(false));
        assert_eq!(met("StringEquals", "aws:PrincipalType", json!("account")), Some(false), "case counts");
        assert_eq!(met("StringEquals", "aws:PrincipalTag/team", json!("x")), None);
    }

    #[test]
    fn root_arn_is_unknown_without_the_partition() {
        let root = Caller { partition: None, ..ROOT };
        assert_eq!(meets(&root, &json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:root"}})), None);
        assert_eq!(meets(&root, &json!({"StringEquals": {"aws:PrincipalAccount": "111122223333"}})), Some(true));
    }

    #[test]
    fn request_is_direct_and_over_tls() {
        assert_eq!(met("Bool", "aws:SecureTransport", json!("false")), Some(false));
        assert_eq!(met("Bool", "aws:SecureTransport", json!(true)), Some(true), "a bare truth value");
        assert_eq!(met("BoolIfExists", "aws:ViaAWSService", json!("True")), Some(false));
        assert_eq!(met("Bool", "aws:PrincipalIsAWSService", json!(["false", "true"])), Some(true));
    }

    #[test]
    fn equals_takes_wildcards_as_text_and_like_as_wildcards() {
        assert_eq!(met("StringEquals", "aws:PrincipalArn", json!("*")), Some(false));
        assert_eq!(met("StringLike", "aws:PrincipalArn", json!("*")), Some(true));
        assert_eq!(met("StringNotLike", "aws:PrincipalAccount", json!("1111*")), Some(false));
    }

    #[test]
    fn arn_wildcard_stays_within_its_part() {
        assert_eq!(met("ArnLike", "aws:PrincipalArn", json!("arn:*:iam::111122223333:*")), Some(true));
        assert_eq!(met("ArnLike", "aws:PrincipalArn", json!("arn:aws:iam::111122223333:role/*")), Some(false));
        assert_eq!(met("ArnLike", "aws:PrincipalArn", json!("*")), None);
        assert_eq!(met("ArnNotLike", "aws:PrincipalArn", json!("arn:aws:iam::*")), None);
    }

    #[test]
    fn null_asks_whether_the_request_carries_the_key() {
        assert_eq!(met("Null", "aws:PrincipalArn", json!("false")), Some(true));
        assert_eq!(met("Null", "aws:PrincipalArn", json!(true)), Some(false));
        assert_eq!(met("Null", "kms:ViaService", json!("true")), Some(true));
        assert_eq!(met("Null", "aws:PrincipalTag/team", json!("true")), None);
    }

    #[test]
    fn key_that_the_request_does_not_carry_fails_plain_operators_and_passes_negated_ones() {
        assert_eq!(met("StringEquals", "kms:ViaService", json!("s3.eu-west-1.amazonaws.com")), Some(false));
        assert_eq!(met("StringNotEquals", "kms:ViaService", json!("s3.eu-west-1.amazonaws.com")), Some(true));
        assert_eq!(met("NumericLessThan", "kms:TrailingDaysWithoutKeyUsage", json!("90")), Some(false));
        assert_eq!(met("NumericLessThanIfExists", "kms:TrailingDaysWithoutKeyUsage", json!("90")), Some(true));
        assert_eq!(met("StringEquals", "aws:RequestTag/team", json!("x")), Some(false));
        assert_eq!(met("ForAnyValue:StringNotEquals", "aws:TagKeys", json!("x")), Some(false));
        assert_eq!(met("ForAllValues:StringEquals", "aws:TagKeys", json!("x")), Some(true));
        assert_eq!(met("ForAnyValue:StringEqualsIfExists", "aws:TagKeys", json!("x")), None);
    }

    #[test]
    fn all_operators_and_keys_have_to_hold_and_one_value_is_enough() {
        let tls = json!({"aws:SecureTransport": "true"});
        let both = |other: Value| meets(&ROOT, &json!({"Bool": tls, "StringEquals": other}));
        assert_eq!(both(json!({"aws:PrincipalAccount": "111122223333"})), Some(true));
        assert_eq!(both(json!({"aws:PrincipalAccount": "444455556666", "aws:PrincipalOrgID": "o-x"})), Some(false));
        assert_eq!(both(json!({"aws:PrincipalAccount": "111122223333", "aws:PrincipalOrgID": "o-x"})), None);
    }

    #[test]
    fn variables_are_filled_in_where_known_and_only_where_the_version_has_them() {
        let own = json!({"StringNotEquals": {"kms:CallerAccount": "${aws:PrincipalAccount}"}});
        assert_eq!(meets(&ROOT, &own), Some(false));
        assert_eq!(meets(&Caller { variables: false, ..ROOT }, &own), Some(true));
        let arn = json!("arn:aws:iam::${aws:PrincipalAccount}:root");
        assert_eq!(met("ArnLike", "aws:PrincipalArn", arn), Some(true));
        assert_eq!(met("StringLike", "aws:PrincipalArn", json!("*${aws:FederatedProvider}")), None);
        assert_eq!(met("StringLike", "aws:PrincipalArn", json!(["${*}", "*:root"])), Some(true));
        assert_eq!(ROOT.expand("a${aws:PrincipalType}b$c}").as_deref(), Some("aAccountb$c}"));
        assert_eq!(ROOT.expand("a${aws:PrincipalType"), None, "cut off");
    }

    #[test]
    fn what_is_no_condition_or_no_known_operator_is_unknown() {
        for odd in [json!("x"), json!([]), json!({"Bool": 1}), json!({"Bool": {"aws:SecureTransport": []}})] {
            assert_eq!(meets(&ROOT, &odd), None, "{odd}");
        }
        assert_eq!(met("Bool", "aws:SecureTransport", json!({})), None);
        assert_eq!(met("Is", "aws:SecureTransport", json!("true")), None);
        assert_eq!(met("ForMost:Bool", "aws:SecureTransport", json!("true")), None);
        assert_eq!(meets(&ROOT, &json!({})), Some(true));
    }
}
