//! Whether a key policy still lets the account that owns the key administer it, and whether it still lets anybody use it; and,
//! for the guard's own parts, whether a policy lets somebody do something.
//!
//! IAM permissions count for a key only while its policy delegates to the account's root principal. Once it doesn't,
//! nobody outside the policy can repair it. <https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html>

#[cfg(feature = "watch")]
mod access;
mod caller;
mod condition;
mod cutoff;
mod document;
mod lockout;
mod trusted;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[cfg(feature = "watch")]
pub(crate) use access::{AccessRequest, Answer};
use caller::{Caller, Does, Principal};
use document::{Document, Statement};
pub use trusted::TrustedSources;
use trusted::{Network, Range};

/// The action that repairs any other: who may do it can give back the rest.
const REPAIR: &str = "kms:PutKeyPolicy";

/// What brings a key back; whoever denies one of these to everybody takes the way back away.
const WAY_BACK: [&str; 3] = [REPAIR, "kms:CancelKeyDeletion", "kms:EnableKey"];

/// What a policy takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The account can't administer the key.
    Lockout,
    /// Nobody but the account's root user can use the key.
    Cutoff,
}

/// How sure that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It depends on nothing but a guard, such as the caller's network, that can't be verified.
    Unverified,
    /// It can't be shown that the account keeps its rights.
    Unclear,
    /// From this time on.
    From(OffsetDateTime),
    /// The policy says so.
    Proved,
}

impl Certainty {
    /// The worse, the greater.
    fn rank(self) -> u8 {
        match self {
            Self::Unverified => 1,
            Self::Unclear => 2,
            Self::From(_) => 3,
            Self::Proved => 4,
        }
    }
}

/// What a policy takes away, and why that is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What.
    pub loss: Loss,
    /// How sure that is.
    pub certainty: Certainty,
    /// Why, in a sentence for the reader of an alert.
    pub sentence: String,
}

/// Whose policy it is, and when it is judged.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The account that the key is in, if the record tells.
    pub account: Option<&'a str>,
    /// The key that the policy is for, if known.
    pub key_arn: Option<&'a str>,
    /// Where the account's own people call from.
    pub trusted: &'a TrustedSources,
    /// When the policy was set.
    pub now: OffsetDateTime,
}

/// What the new policy takes away; None if the account keeps the key.
///
/// A lockout is judged for the account's root principal, since all its administrators act by that one's rights; a cut-off for
/// the roles and users that the policy tells apart. In doubt an Allow doesn't count and a Deny does. Where
/// [`TrustedSources`] are named, one of them from which the account keeps its rights is enough.
pub fn judge(policy: Option<&str>, setting: &Setting) -> Option<Judgement> {
    let unclear = |why: &str| {
        let sentence = format!("{why}, so it isn't known whether the account keeps its rights.");
        Some(Judgement { loss: Loss::Lockout, certainty: Certainty::Unclear, sentence })
    };
    let Some(policy) = policy else { return unclear("The record doesn't hold the new policy") };
    let Some(account) = setting.account else { return unclear("The record doesn't hold the account") };
    let document = match Document::read(policy) {
        Ok(document) => document,
        Err(fault) => return unclear(&format!("The new policy in the record can't be read ({fault})")),
    };
    let statements = match document.statements.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(statements) if !statements.is_empty() => statements,
        Ok(_) => return unclear("The new policy in the record has no statements"),
        Err(fault) => return unclear(&format!("The new policy isn't written as IAM knows it ({fault})")),
    };
    let policy = Policy::of(statements, document.variables, account, setting);
    let places = policy.places(setting.trusted);
    let named = policy.named();
    let everywhere =
        |judge: &dyn Fn(CallSource) -> Option<Judgement>| mildest(places.iter().map(|place| judge(*place)));
    let is_sure = |judgement: &Judgement| judgement.certainty != Certainty::Unverified;
    let lockout = everywhere(&|place| policy.lockout(place));
    if lockout.as_ref().is_some_and(is_sure) {
        return lockout;
    }
    let cutoff = everywhere(&|place| policy.cutoff(place, &named));
    if cutoff.as_ref().is_some_and(is_sure) {
        return cutoff;
    }
    let roots_alone = everywhere(&|place| policy.roots_alone(place, &named));
    if roots_alone.as_ref().is_some_and(is_sure) {
        return roots_alone;
    }
    lockout.or(roots_alone).or(cutoff)
}

/// Which roles and users of the account a policy that locks it out still lets change it, in a sentence; None if the policy
/// can't be read.
pub fn let_in(policy: &str, setting: &Setting) -> Option<String> {
    let document = Document::read(policy).ok()?;
    let statements = document.statements.into_iter().collect::<Result<Vec<_>, _>>().ok()?;
    Some(Policy::of(statements, document.variables, setting.account?, setting).let_in())
}

/// The answer from the place where it is the least bad; None if there it is none.
fn mildest(mut answers: impl Iterator<Item = Option<Judgement>>) -> Option<Judgement> {
    let mut mildest = answers.next()??;
    for answer in answers {
        let answer = answer?;
        if answer.certainty.rank() < mildest.certainty.rank() {
            mildest = answer;
        }
    }
    Some(mildest)
}

/// A policy for one key.
struct Policy<'a> {
    statements: Vec<Statement>,
    key_arn: Option<&'a str>,
    /// The root principal, of whose place nothing is known.
    root: Caller<'a>,
}

/// Where a caller is.
type CallSource<'a> = (Network<'a>, Option<&'a str>);

impl<'a> Policy<'a> {
    fn of(statements: Vec<Statement>, variables: bool, account: &'a str, setting: &Setting<'a>) -> Self {
        let part = |number| setting.key_arn.and_then(|arn| arn.split(':').nth(number));
        let root = Caller {
            account,
            partition: part(1),
            region: part(3),
            who: Principal::Root,
            does: Does::Administers,
            network: Network::Anywhere,
            organization: None,
            now: setting.now,
            variables,
        };
        Self { statements, key_arn: setting.key_arn, root }
    }
}

impl Policy<'_> {
    /// Where the account's callers may be.
    fn places<'a>(&self, trusted: &'a TrustedSources) -> Vec<CallSource<'a>> {
        let clauses = self.statements.iter().flat_map(|statement| &statement.conditions);
        let values = clauses.filter(|clause| clause.key == "aws:sourceip").flat_map(|clause| &clause.values);
        let networks = trusted.networks(values.filter_map(|value| Range::read(value)));
        let organizations = trusted.organizations();
        networks.iter().flat_map(|network| organizations.iter().map(|organization| (*network, *organization))).collect()
    }
}

/// A date in the sentences.
fn written(date: OffsetDateTime) -> String {
    date.format(&Rfc3339).unwrap_or_else(|_| date.to_string())
}

fn one_or_many(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(many) => many.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
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
    use time::macros::datetime;

    const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/0f1e";

    /// When the policies are judged.
    const NOW: OffsetDateTime = datetime!(2026-11-21 03:12:44 UTC);

    fn judged(policy: Option<&str>, key_arn: Option<&str>) -> Option<Judgement> {
        judge(policy, &Setting { account: Some("111122223333"), key_arn, trusted: &TrustedSources::NONE, now: NOW })
    }

    fn locks_out(statements: Value) -> bool {
        of_version("2012-10-17", statements).is_some()
    }

    pub(super) fn allow(principal: Value, action: Value) -> Value {
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

    pub(super) fn root() -> Value {
        json!({"AWS": "arn:aws:iam::111122223333:root"})
    }

    pub(super) fn under(mut statement: Value, condition: Value) -> Value {
        statement["Condition"] = condition;
        statement
    }

    pub(super) fn of_version(version: &str, statements: Value) -> Option<Judgement> {
        let policy = json!({"Version": version, "Statement": statements}).to_string();
        judged(Some(&policy), Some(KEY))
    }

    /// The verdict on a policy that lets the account in and denies everybody everything under this condition.
    fn denied(condition: Value) -> Option<Judgement> {
        let denial = json!({"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"});
        of_version("2012-10-17", json!([allow(root(), json!("kms:*")), under(denial, condition)]))
    }

    fn certainty(judgement: &Option<Judgement>, loss: Loss) -> Option<Certainty> {
        judgement.as_ref().filter(|judgement| judgement.loss == loss).map(|judgement| judgement.certainty)
    }

    fn is_proved(judgement: Option<Judgement>) -> bool {
        certainty(&judgement, Loss::Lockout) == Some(Certainty::Proved)
    }

    fn is_unclear(judgement: Option<Judgement>) -> bool {
        certainty(&judgement, Loss::Lockout) == Some(Certainty::Unclear)
    }

    fn is_unverified(judgement: Option<Judgement>) -> bool {
        certainty(&judgement, Loss::Lockout) == Some(Certainty::Unverified)
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
    fn way_in_that_may_not_hold_is_never_certain() {
        let verdict = |condition| of_version("2012-10-17", under(allow(json!("*"), json!("kms:*")), condition));
        for condition in [
            json!({"StringEquals": {"aws:PrincipalTag/team": "x"}}),
            json!({"StringLike": {"aws:PrincipalArn": "${aws:FederatedProvider}"}}),
            json!({"StringEquals": {"aws:ResourceTag/open": "yes"}}),
        ] {
            assert!(verdict(condition.clone()).unwrap().sentence.contains("only under conditions"), "{condition}");
            assert!(is_unclear(verdict(condition.clone())), "{condition}");
        }
        let mfa = verdict(json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}}));
        assert!(mfa.as_ref().unwrap().sentence.contains("second factor"));
        assert!(is_unverified(mfa));
        assert!(is_unverified(verdict(json!({"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}))));
        assert!(is_unclear(verdict(json!({"NotIpAddress": {"aws:SourceIp": "198.51.100.0/24"}}))));
        assert!(is_unclear(verdict(json!("x"))));
        assert!(is_proved(verdict(json!({"StringEquals": {"kms:CallerAccount": "444455556666"}}))));
        assert!(is_proved(verdict(json!({"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}))));
        let until = verdict(json!({"DateLessThan": {"aws:CurrentTime": "2026-12-01"}}));
        assert_eq!(certainty(&until, Loss::Lockout), Some(Certainty::From(datetime!(2026-12-01 00:00 UTC))));
        assert!(is_proved(verdict(json!({"DateLessThan": {"aws:CurrentTime": "2026-11-01"}}))));
        assert_eq!(verdict(json!({"DateGreaterThan": {"aws:CurrentTime": "2026-11-01"}})), None);
        assert!(is_unclear(verdict(json!({"DateGreaterThan": {"aws:CurrentTime": "2026-12-01"}}))));
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
        assert!(denied(json!({})).unwrap().sentence.starts_with("The new policy denies the account kms:PutKeyPolicy"));
    }

    #[test]
    fn guard_never_makes_a_lockout_silent() {
        for (condition, says, ends) in [
            (
                json!({"NotIpAddress": {"aws:SourceIp": "192.0.2.1/32"}}),
                "if 192.0.2.1/32 isn't your network",
                "name your networks in TrustedSources",
            ),
            (
                json!({"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}, "Bool": {"aws:ViaAWSService": "false"}}),
                "if 203.0.113.0/24 isn't",
                "TrustedSources",
            ),
            (json!({"StringNotEquals": {"aws:SourceVpc": "vpc-0"}}), "if vpc-0 isn't your VPC,", "TrustedSources"),
            (
                json!({"StringNotEquals": {"aws:SourceVpce": "vpce-0a1b2c3d"}}),
                "if vpce-0a1b2c3d isn't your VPC endpoint",
                "TrustedSources",
            ),
            (
                json!({"Null": {"aws:SourceVpce": "true"}}),
                "if your administrators don't call through a VPC endpoint",
                "TrustedSources",
            ),
            (
                json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-0"}}),
                "if o-0 isn't your organization",
                "TrustedSources",
            ),
            (
                json!({"StringNotEquals": {"aws:PrincipalOrgID": "${aws:ResourceOrgID}"}}),
                "if the account is in no organization",
                "TrustedSources",
            ),
            (
                json!({"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}),
                "if nobody can come with a second factor",
                "no parameter",
            ),
            (json!({"NumericGreaterThan": {"aws:MultiFactorAuthAge": "3600"}}), "second factor", "no parameter"),
        ] {
            let judgement = denied(condition.clone());
            let sentence = &judgement.as_ref().unwrap().sentence;
            assert!(sentence.contains(says) && sentence.contains(ends), "{sentence}");
            assert!(sentence.contains("nobody can administer this key any more"), "{sentence}");
            assert!(is_unverified(judgement), "{condition}");
        }
    }

    #[test]
    fn condition_on_a_tag_is_no_guard_and_the_sentence_says_why() {
        for condition in [
            json!({"StringEquals": {"aws:ResourceTag/protected": "yes"}}),
            json!({"StringNotEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}),
        ] {
            let judgement = denied(condition);
            assert!(judgement.as_ref().unwrap().sentence.contains("whoever may tag the key decides"));
            assert!(is_unclear(judgement));
        }
    }

    #[test]
    fn condition_that_never_concerns_a_way_back_is_silent() {
        for condition in [
            json!({"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "true"}}),
            json!({"NumericLessThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": "30"}}),
            json!({"NumericLessThan": {"kms:TrailingDaysWithoutKeyUsage": "90"}}),
            json!({"StringEquals": {"aws:RequestTag/team": "x"}}),
        ] {
            let denial = json!({"Effect": "Deny", "Principal": "*", "Action": ["kms:PutKeyPolicy", "kms:Enable*"], "Resource": "*"});
            let statements = json!([allow(root(), json!("kms:*")), under(denial, condition.clone())]);
            assert_eq!(of_version("2012-10-17", statements), None, "{condition}");
        }
    }

    #[test]
    fn trusted_source_decides_what_a_guard_leaves_open() {
        let verdict = |condition: &Value, trusted: &str| {
            let denial = json!({"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"});
            let statements = json!([allow(root(), json!("kms:*")), under(denial, condition.clone())]);
            let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
            let trusted = &TrustedSources::read(trusted).unwrap();
            judge(Some(&policy), &Setting { account: Some("111122223333"), key_arn: Some(KEY), trusted, now: NOW })
        };
        let network = json!({"NotIpAddress": {"aws:SourceIp": ["198.51.100.64/26", "192.0.2.1/32"]}});
        assert_eq!(verdict(&network, "198.51.100.0/24"), None, "a part of the trusted range");
        assert_eq!(verdict(&network, "vpc-0a1b2c3d,198.51.100.65/32"), None, "holds the trusted range");
        assert!(is_unverified(verdict(&network, "203.0.113.0/24")));
        assert!(is_unverified(verdict(&network, "o-a1b2c3d4e5")));
        let vpc = json!({"StringNotEquals": {"aws:SourceVpc": "vpc-0a1b2c3d"}});
        assert_eq!(verdict(&vpc, "vpc-0a1b2c3d"), None);
        assert!(is_unverified(verdict(&vpc, "vpc-0a1b2c3e")));
        let organization = json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}});
        assert_eq!(verdict(&organization, "o-a1b2c3d4e5"), None);
        assert!(is_proved(verdict(&organization, "o-a1b2c3d4e6")), "the account's organization is known");
        assert_eq!(
            verdict(&json!({"StringNotEquals": {"aws:PrincipalOrgID": "${aws:ResourceOrgID}"}}), "o-a1b2c3d4e5"),
            None
        );
        assert!(is_unclear(verdict(&json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}), "198.51.100.0/24")));
        let twice = json!({"NotIpAddress": {"aws:SourceIp": "198.51.100.0/24"}, "StringNotEquals": {"aws:SourceVpc": "vpc-0a1b2c3d"}});
        assert_eq!(verdict(&twice, "vpc-0a1b2c3d"), None, "either is spared");
    }

    #[test]
    fn date_that_is_past_is_decided_and_a_future_one_counts_from_then_on() {
        let date = |operator: &str, date: &str| denied(json!({operator: {"aws:CurrentTime": date}}));
        assert!(is_proved(date("DateGreaterThan", "2020-01-01T00:00:00Z")));
        assert!(is_proved(date("DateLessThan", "2030-01-01T00:00:00Z")), "as long as that");
        assert_eq!(date("DateLessThan", "2020-01-01T00:00:00Z"), None);
        let later = date("DateGreaterThanEquals", "2027-03-01T00:00:00Z");
        assert!(later.as_ref().unwrap().sentence.ends_with("from 2027-03-01T00:00:00Z on."));
        assert_eq!(certainty(&later, Loss::Lockout), Some(Certainty::From(datetime!(2027-03-01 00:00 UTC))));
        let epoch = denied(json!({"NumericGreaterThan": {"aws:EpochTime": "1577836800"}}));
        assert!(is_proved(epoch));
        assert!(is_unclear(date("DateGreaterThan", "soon")));
    }

    #[test]
    fn denial_under_a_condition_that_cannot_be_judged_is_reported_as_unclear() {
        for condition in [
            json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}),
            json!({"IpAddress": {"aws:SourceIp": "::/0"}}),
            json!({"NotIpAddress": {"aws:SourceIp": "127.0.0.1/32"}}),
            json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}}),
            json!({"StringNotEquals": {"aws:PrincipalTag/team": "x"}}),
            json!({"StringNotEquals": {"aws:PrincipalArn": "${aws:FederatedProvider}"}}),
        ] {
            let lockout = denied(condition.clone());
            assert!(lockout.as_ref().unwrap().sentence.contains("can't be judged"), "{condition}");
            assert!(is_unclear(lockout), "{condition}");
        }
        assert!(is_unclear(denied(json!("x"))), "no condition at all");
    }

    #[test]
    fn what_is_proved_is_said_before_what_is_unclear() {
        let deny = |action: &str, condition: Value| json!({"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*", "Condition": condition});
        let unclear = deny("kms:PutKeyPolicy", json!({"StringEquals": {"aws:PrincipalTag/team": "x"}}));
        let proved = deny("kms:EnableKey", json!({}));
        let way_in = allow(root(), json!("kms:*"));
        assert!(is_proved(of_version("2012-10-17", json!([way_in, unclear, proved]))));
        assert!(is_proved(of_version("2012-10-17", json!([unclear]))), "no way in at all");
        assert!(is_unclear(of_version("2012-10-17", json!([way_in, unclear]))));
    }

    #[test]
    fn denial_to_all_but_a_list_without_the_account_locks_it_out() {
        let all_but = |listed: Value, action: &str| json!({"Effect": "Deny", "NotPrincipal": listed, "Action": action, "Resource": "*"});
        let way_in = allow(root(), json!("kms:*"));
        let a_role = json!({"AWS": "arn:aws:iam::111122223333:role/x"});
        let lockout = of_version("2012-10-17", json!([way_in, all_but(a_role.clone(), "kms:*")]));
        assert!(lockout.as_ref().unwrap().sentence.contains("NotPrincipal"));
        assert!(is_proved(lockout));
        assert!(!locks_out(json!([way_in, all_but(root(), "kms:ScheduleKeyDeletion")])));
        let with_condition = under(all_but(a_role, "kms:*"), json!({"Bool": {"aws:MultiFactorAuthPresent": "false"}}));
        assert!(is_unverified(of_version("2012-10-17", json!([way_in, with_condition]))));
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
            judged(Some(&policy), key_arn).is_some()
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
        let judge = |policy: &Value| judged(Some(&policy.to_string()), Some(KEY));
        policy["Statement"].as_array_mut().unwrap().push(allow(root(), json!("kms:*")));
        let lockout = judge(&policy).unwrap();
        assert_eq!(lockout.certainty, Certainty::Proved);
        assert!(lockout.sentence.contains("kms:PutKeyPolicy, under a condition"), "{}", lockout.sentence);
        policy["Statement"][2]["Action"].as_array_mut().unwrap().retain(|action| action != "kms:PutKeyPolicy");
        assert_eq!(judge(&policy), None);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_never_passed() {
        let sentence = |policy, account| {
            let setting = Setting { account, key_arn: None, trusted: &TrustedSources::NONE, now: NOW };
            let judgement = judge(policy, &setting).unwrap();
            assert_eq!((judgement.loss, judgement.certainty), (Loss::Lockout, Certainty::Unclear));
            judgement.sentence
        };
        let account = Some("111122223333");
        assert!(sentence(None, account).contains("doesn't hold"));
        assert!(sentence(Some("{\"Statement\": ["), account).contains("can't be read"));
        assert!(sentence(Some("[1]"), account).contains("can't be read"));
        assert!(sentence(Some("{}"), None).contains("account"));
        assert!(sentence(Some("{}"), account).contains("no statements"));
        assert!(sentence(Some(r#"{"Statement": []}"#), account).contains("no statements"));
        assert!(sentence(Some(r#"{"Statement": [{}]}"#), account).contains("empty"));
        let lower = r#"{"Statement": [{"Effect": "deny", "Principal": "*", "Action": "kms:*"}]}"#;
        assert!(sentence(Some(lower), account).contains("Effect"));
    }

    #[test]
    fn large_and_deep_policies_are_judged_in_bounded_time() {
        let statement = r#"{"Effect":"Deny","NotPrincipal":"*","Action":"kms:*"}"#;
        let many = format!(r#"{{"Statement":[{}]}}"#, vec![statement; 600].join(","));
        assert!(
            many.len() > 32_000 && is_proved(judged(Some(&many), Some(KEY))),
            "it denies nobody, and lets nobody in"
        );
        let thousand = format!(r#"{{"Statement":[{}]}}"#, vec![statement; 1_000].join(","));
        assert!(is_unclear(judged(Some(&thousand), Some(KEY))), "longer than KMS takes");
        let deep = format!(r#"{{"Statement":{}"#, "[".repeat(30_000));
        assert!(is_unclear(judged(Some(&deep), Some(KEY))));
        let names: Vec<_> = (0..600).map(|n| format!("\"*{n}*a*a*a*a*a*a*a*a\"")).collect();
        let stars = format!(
            r#"{{"Statement":[{{"Effect":"Deny","Principal":"*","Action":"kms:*","Condition":{{"StringNotLike":{{"aws:PrincipalArn":[{}]}}}}}}]}}"#,
            names.join(",")
        );
        assert!(judged(Some(&stars), Some(KEY)).is_some());
    }

    #[test]
    fn wildcards_match_as_iam_does() {
        assert!(glob("kms:*", "kms:putkeypolicy") && glob("*", "") && glob("k?s:p*y", "kms:putkeypolicy"));
        assert!(!glob("kms:", "kms:x") && !glob("", "x") && !glob("?", ""));
        let stars = "*a".repeat(2_000);
        assert!(!glob(&stars, &"b".repeat(20_000)));
    }
}
