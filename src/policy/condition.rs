//! What a statement's `Condition` comes to for a request of which some is known: the one engine for key policies, which are
//! judged for the root principal of the key's own account, and for those of the guard's own parts.
//!
//! Three answers: it holds, it doesn't, or (None) the policy alone doesn't tell.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>

use std::net::IpAddr;

use serde_json::Value;

use super::{glob, one_or_many};

/// The caller for whom conditions are evaluated, making a plain request that administers the key.
pub(super) struct Root<'a> {
    pub account: &'a str,
    /// Of the key's ARN; without it the root principal's own ARN isn't known.
    pub partition: Option<&'a str>,
    /// Whether the policy's version knows variables; in the older one `${aws:username}` is plain text.
    pub variables: bool,
}

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
    fn meets(&self, condition: &Value) -> Option<bool> {
        if condition.is_null() {
            return Some(true);
        }
        not(any(clauses(condition)?.iter().map(|clause| not(self.meets_clause(clause)))))
    }

    fn meets_clause(&self, clause: &Clause) -> Option<bool> {
        let fact = self.fact(&clause.key);
        if clause.operator == "null" {
            let absent = match fact {
                ContextKey::Is(_) => "false",
                ContextKey::Absent => "true",
                ContextKey::Unknown => return None,
            };
            return any(clause.values.iter().map(|value| Some(value.as_deref()?.eq_ignore_ascii_case(absent))));
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
            _ => return None,
        };
        let matches = any(clause.values.iter().map(|pattern| compare(&self.expand(pattern.as_deref()?)?, &value)));
        if clause.is_negated() { not(matches) } else { matches }
    }
}

impl Context for Root<'_> {
    fn fact(&self, key: &str) -> ContextKey {
        match key {
            "aws:principalarn" => self.partition.map_or(ContextKey::Unknown, |partition| {
                ContextKey::Is(format!("arn:{partition}:iam::{}:root", self.account))
            }),
            "aws:principalaccount" | "aws:resourceaccount" | "kms:calleraccount" => ContextKey::Is(self.account.into()),
            "aws:principaltype" => ContextKey::Is("Account".into()),
            "aws:principalisawsservice" | "aws:viaawsservice" => ContextKey::Is("false".into()),
            "aws:securetransport" => ContextKey::Is("true".into()),
            // They come with a service's request, with tagging, with data or with the loss of a key, and not with a
            // call that a person makes to bring a key back.
            "aws:sourceaccount"
            | "aws:sourcearn"
            | "aws:tagkeys"
            | "kms:encryptioncontextkeys"
            | "kms:grantisforawsresource"
            | "kms:schedulekeydeletionpendingwindowindays"
            | "kms:trailingdayswithoutkeyusage"
            | "kms:viaservice" => ContextKey::Absent,
            other if other.starts_with("aws:requesttag/") || other.starts_with("kms:encryptioncontext:") => {
                ContextKey::Absent
            }
            _ => ContextKey::Unknown,
        }
    }

    fn knows_variables(&self) -> bool {
        self.variables
    }
}

impl Root<'_> {
    /// Whether a Deny under this condition is one of the well-known guards: it spares every caller who comes the proper
    /// way, so the account keeps the key. One such clause is enough, since all must hold for the Deny to apply.
    pub fn is_guard(&self, condition: &Value) -> bool {
        clauses(condition).is_some_and(|clauses| clauses.iter().any(|clause| self.is_guard_clause(clause)))
    }

    /// The direction counts: to deny those *without* a second factor guards a key, to deny those with one locks it.
    fn is_guard_clause(&self, clause: &Clause) -> bool {
        let operator = clause.operator.as_str();
        let Some(values) = clause.values.iter().map(Option::as_deref).collect::<Option<Vec<_>>>() else { return false };
        let only = |text: &str| values.iter().all(|value| value.eq_ignore_ascii_case(text));
        // A wildcard means something to Like alone; elsewhere nothing equals it, and everybody is denied.
        let spares = |prefix: &str| {
            let is_proper =
                |value: &str| value.starts_with(prefix) && (operator == "stringnotlike" || !value.contains(['*', '?']));
            operator.starts_with("stringnot") && values.iter().any(|value| is_proper(value))
        };
        let needs_the_key = !clause.if_exists && clause.set.is_none();
        match clause.key.as_str() {
            "aws:multifactorauthpresent" => operator == "bool" && only("false") || operator == "null" && only("true"),
            "aws:multifactorauthage" => {
                let at_least_a_minute = |value: &&str| value.parse::<u32>().is_ok_and(|seconds| seconds >= 60);
                operator.starts_with("numericgreaterthan") && values.iter().all(at_least_a_minute)
            }
            "aws:sourceip" => operator == "notipaddress" && values.iter().any(|range| is_callers_range(range)),
            "aws:sourcevpc" => spares("vpc-") || operator == "null" && only("true"),
            "aws:sourcevpce" => spares("vpce-") || operator == "null" && only("true"),
            "aws:principalorgid" => spares("o-") || self.variables && spares("${aws:ResourceOrgID}"),
            "kms:bypasspolicylockoutsafetycheck" => operator == "bool" && needs_the_key && only("true"),
            key if key.starts_with("aws:resourcetag/") => {
                let is_any = |value: &&str| value.trim_matches(['*', '?']).is_empty();
                matches!(operator, "stringequals" | "stringlike") && needs_the_key && !values.iter().any(is_any)
                    || self.variables && spares("${aws:PrincipalTag/")
            }
            _ => false,
        }
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
    set: Option<Set>,
    operator: String,
    if_exists: bool,
    key: String,
    /// Never empty; None stands for what is no value.
    values: Vec<Option<String>>,
}

impl Clause {
    fn is_negated(&self) -> bool {
        self.operator.contains("not")
    }
}

/// None if this is no condition as IAM writes them.
fn clauses(condition: &Value) -> Option<Vec<Clause>> {
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
        for (key, values) in keys.as_object()? {
            let values: Vec<_> = one_or_many(values).into_iter().map(scalar).collect();
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

/// Whether callers can come from this range: not everything, and nothing that KMS never sees as a caller's address.
fn is_callers_range(range: &str) -> bool {
    let (address, prefix) = range.split_once('/').unwrap_or((range, "128"));
    let seen = match address.parse() {
        Ok(IpAddr::V4(ip)) => {
            let own = ip.is_unspecified() || ip.is_loopback() || ip.is_private() || ip.is_link_local();
            !(own || ip.is_multicast() || ip.is_broadcast())
        }
        Ok(IpAddr::V6(ip)) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_unique_local() || ip.is_multicast()),
        Err(_) => false,
    };
    seen && prefix.parse::<u8>().is_ok_and(|bits| bits > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ROOT: Root<'_> = Root { account: "111122223333", partition: Some("aws"), variables: true };

    fn met(operator: &str, key: &str, values: Value) -> Option<bool> {
        ROOT.meets(&json!({operator: {key: values}}))
    }

    fn guards(operator: &str, key: &str, values: Value) -> bool {
        ROOT.is_guard(&json!({operator: {key: values}}))
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
        let root = Root { partition: None, ..ROOT };
        assert_eq!(root.meets(&json!({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:root"}})), None);
        assert_eq!(root.meets(&json!({"StringEquals": {"aws:PrincipalAccount": "111122223333"}})), Some(true));
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
        let both = |other: Value| ROOT.meets(&json!({"Bool": tls, "StringEquals": other}));
        assert_eq!(both(json!({"aws:PrincipalAccount": "111122223333"})), Some(true));
        assert_eq!(both(json!({"aws:PrincipalAccount": "444455556666", "aws:PrincipalOrgID": "o-x"})), Some(false));
        assert_eq!(both(json!({"aws:PrincipalAccount": "111122223333", "aws:PrincipalOrgID": "o-x"})), None);
    }

    #[test]
    fn variables_are_filled_in_where_known_and_only_where_the_version_has_them() {
        let own = json!({"StringNotEquals": {"kms:CallerAccount": "${aws:PrincipalAccount}"}});
        assert_eq!(ROOT.meets(&own), Some(false));
        assert_eq!(Root { variables: false, ..ROOT }.meets(&own), Some(true));
        let arn = json!("arn:aws:iam::${aws:PrincipalAccount}:root");
        assert_eq!(met("ArnLike", "aws:PrincipalArn", arn), Some(true));
        assert_eq!(met("StringLike", "aws:PrincipalArn", json!("*${aws:username}")), None);
        assert_eq!(met("StringLike", "aws:PrincipalArn", json!(["${*}", "*:root"])), Some(true));
        assert_eq!(ROOT.expand("a${aws:PrincipalType}b$c}").as_deref(), Some("aAccountb$c}"));
        assert_eq!(ROOT.expand("a${aws:PrincipalType"), None, "cut off");
    }

    #[test]
    fn what_is_no_condition_or_no_known_operator_is_unknown() {
        for odd in [json!("x"), json!([]), json!({"Bool": 1}), json!({"Bool": {"aws:SecureTransport": []}})] {
            assert_eq!(ROOT.meets(&odd), None, "{odd}");
        }
        assert_eq!(met("Bool", "aws:SecureTransport", json!({})), None);
        assert_eq!(met("Is", "aws:SecureTransport", json!("true")), None);
        assert_eq!(met("ForMost:Bool", "aws:SecureTransport", json!("true")), None);
        assert_eq!(ROOT.meets(&json!({})), Some(true));
        assert_eq!(ROOT.meets(&Value::Null), Some(true));
    }

    #[test]
    fn second_factor_guards_unless_those_who_have_it_are_denied() {
        assert!(guards("Bool", "aws:MultiFactorAuthPresent", json!("false")));
        assert!(guards("BoolIfExists", "aws:MultiFactorAuthPresent", json!(false)));
        assert!(guards("Null", "aws:MultiFactorAuthPresent", json!("true")));
        assert!(guards("NumericGreaterThan", "aws:MultiFactorAuthAge", json!("3600")));
        assert!(guards("NumericGreaterThanIfExists", "aws:MultiFactorAuthAge", json!(3600)));
        assert!(!guards("Bool", "aws:MultiFactorAuthPresent", json!("true")));
        assert!(!guards("BoolIfExists", "aws:MultiFactorAuthPresent", json!(["true", "false"])));
        assert!(!guards("Null", "aws:MultiFactorAuthPresent", json!("false")));
        assert!(!guards("NumericGreaterThan", "aws:MultiFactorAuthAge", json!("0")));
        assert!(!guards("NumericLessThan", "aws:MultiFactorAuthAge", json!("3600")));
        assert!(!guards("Bool", "aws:MultiFactorAuthPresent", json!([{}])));
    }

    #[test]
    fn network_guards_unless_nobody_can_come_from_it_or_everybody_does() {
        assert!(guards("NotIpAddress", "aws:SourceIp", json!(["10.0.0.0/8", "203.0.113.0/24"])));
        assert!(guards("NotIpAddressIfExists", "aws:SourceIp", json!("198.51.100.24")));
        assert!(guards("NotIpAddress", "aws:SourceIp", json!("2001:db8::/32")));
        for range in ["0.0.0.0/0", "::/0", "203.0.113.0/0", "127.0.0.1/32", "10.0.0.0/8", "fd00::/8", "x", ""] {
            assert!(!guards("NotIpAddress", "aws:SourceIp", json!(range)), "{range}");
        }
        assert!(!guards("IpAddress", "aws:SourceIp", json!("203.0.113.0/24")));
        assert!(!guards("StringNotEquals", "aws:SourceIp", json!("203.0.113.0/24")), "no address is that text");
        assert!(guards("StringNotLike", "aws:SourceVpc", json!("vpc-*")));
        assert!(!guards("StringNotEquals", "aws:SourceVpc", json!("vpc-*")));
        assert!(guards("StringNotEquals", "aws:SourceVpc", json!("vpc-0a1b2c3d")));
        assert!(guards("StringNotEqualsIfExists", "aws:SourceVpce", json!(["vpce-0a1b2c3d"])));
        assert!(guards("Null", "aws:SourceVpce", json!("true")));
        assert!(!guards("StringEquals", "aws:SourceVpc", json!("vpc-0a1b2c3d")));
        assert!(!guards("StringNotEquals", "aws:SourceVpc", json!("nowhere")));
    }

    #[test]
    fn organization_tags_and_lockout_check_guard_in_one_direction() {
        assert!(guards("StringNotEquals", "aws:PrincipalOrgID", json!("o-a1b2c3d4e5")));
        assert!(guards("StringNotEquals", "aws:PrincipalOrgID", json!("${aws:ResourceOrgID}")));
        assert!(!guards("StringEquals", "aws:PrincipalOrgID", json!("o-a1b2c3d4e5")));
        assert!(!guards("StringNotEquals", "aws:PrincipalOrgID", json!("${aws:username}")));
        assert!(guards("Bool", "kms:BypassPolicyLockoutSafetyCheck", json!("true")));
        assert!(!guards("Bool", "kms:BypassPolicyLockoutSafetyCheck", json!("false")));
        assert!(!guards("BoolIfExists", "kms:BypassPolicyLockoutSafetyCheck", json!("true")));
        assert!(!guards("ForAllValues:Bool", "kms:BypassPolicyLockoutSafetyCheck", json!("true")));
        assert!(guards("StringEquals", "aws:ResourceTag/protected", json!("yes")));
        assert!(!guards("StringLike", "aws:ResourceTag/protected", json!(["yes", "?*"])));
        assert!(guards("StringNotEquals", "aws:ResourceTag/team", json!("${aws:PrincipalTag/team}")));
        assert!(!guards("StringNotEquals", "aws:ResourceTag/team", json!("nobody")));
        assert!(!guards("StringEqualsIfExists", "aws:ResourceTag/team", json!("nobody")));
        assert!(!guards("DateGreaterThan", "aws:CurrentTime", json!("2020-01-01T00:00:00Z")));
    }

    #[test]
    fn one_guard_is_enough_since_all_clauses_have_to_hold() {
        assert!(ROOT.is_guard(&json!({
            "ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/x"},
            "Bool": {"aws:MultiFactorAuthPresent": "false"},
        })));
    }
}
