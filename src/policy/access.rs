//! Whether a resource's policy lets somebody do something.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>

use super::condition::{Context, ContextKey, any, not};
use super::document::{Document, Principals, Statement};

/// A request that a policy is asked about.
pub(crate) struct AccessRequest<'a> {
    /// The service that calls, such as `events.amazonaws.com`, or the ARN of the role that does.
    pub(crate) principal: &'a str,
    /// Such as `sns:Publish`.
    pub(crate) action: &'a str,
    /// What it is done to.
    pub(crate) resource: &'a str,
    /// What is known of the request: condition key in lower case, and value.
    pub(crate) keys: &'a [(&'a str, &'a str)],
}

/// What a policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Allowed,
    /// No statement allows it, or one forbids it.
    Forbidden,
    /// No statement says anything, so that another policy may.
    Silent,
    /// It holds conditions that can't be judged here, or can't be read.
    Unclear,
}

impl AccessRequest<'_> {
    /// What this policy, as JSON text, says to it.
    pub(crate) fn under(&self, policy: &str) -> Answer {
        let Ok(document) = Document::read(policy) else { return Answer::Unclear };
        let asked = Asked { request: self, variables: document.variables };
        // A statement that isn't written as IAM knows it may say either.
        let said = |denies: bool| {
            any(document.statements.iter().map(|statement| match statement {
                Ok(statement) if statement.denies != denies => Some(false),
                Ok(statement) => asked.is_meant_by(statement),
                Err(_) => None,
            }))
        };
        match (said(true), said(false)) {
            (Some(true), _) => Answer::Forbidden,
            (None, _) => Answer::Unclear,
            (_, Some(true)) => Answer::Allowed,
            (_, None) => Answer::Unclear,
            (_, Some(false)) => Answer::Silent,
        }
    }

    /// Whether the caller is among these principals: by name, or by its account. A role that a `NotPrincipal` lists has
    /// sessions that it needn't list, so that can't be told.
    fn is_one_of(&self, principals: &Principals) -> Option<bool> {
        let account = self.principal.split(':').nth(4).unwrap_or_default();
        let named = principals.everybody
            || principals.aws.iter().chain(&principals.others).any(|name| {
                let root = !account.is_empty() && (name == account || name.ends_with(&format!(":iam::{account}:root")));
                name == self.principal || root
            });
        match (principals.negated, named) {
            (false, named) => Some(named),
            (true, true) if !account.is_empty() => None,
            (true, named) => Some(!named),
        }
    }
}

/// A request under one policy.
struct Asked<'a> {
    request: &'a AccessRequest<'a>,
    variables: bool,
}

impl Context for Asked<'_> {
    /// What isn't known of the request may still come with it.
    fn fact(&self, key: &str) -> ContextKey {
        let known = self.request.keys.iter().find(|(known, _)| *known == key);
        known.map_or(ContextKey::Unknown, |(_, value)| ContextKey::Is((*value).to_owned()))
    }

    fn knows_variables(&self) -> bool {
        self.variables
    }
}

impl Asked<'_> {
    /// Whether a statement is about this request; None if that can't be judged.
    fn is_meant_by(&self, statement: &Statement) -> Option<bool> {
        let parts = [
            Some(statement.has_action(&self.request.action.to_ascii_lowercase())),
            statement.is_for(self, Some(self.request.resource)),
            self.request.is_one_of(&statement.principals),
            self.meets(&statement.conditions),
        ];
        not(any(parts.into_iter().map(not)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const RULE: &str = "arn:aws:events:eu-west-1:111122223333:rule/guard";

    fn ask(statement: Value) -> Answer {
        let request = AccessRequest {
            principal: "events.amazonaws.com",
            action: "lambda:InvokeFunction",
            resource: "arn:aws:lambda:eu-west-1:111122223333:function:guard",
            keys: &[("aws:sourcearn", RULE), ("aws:sourceaccount", "111122223333")],
        };
        request.under(&json!({"Version": "2012-10-17", "Statement": statement}).to_string())
    }

    fn allow(principal: Value, condition: Value) -> Value {
        json!({"Effect": "Allow", "Action": "lambda:InvokeFunction", "Principal": principal, "Condition": condition})
    }

    #[test]
    fn service_and_rule_have_to_fit() {
        let events = json!({"Service": "events.amazonaws.com"});
        assert_eq!(ask(allow(events.clone(), json!({"ArnLike": {"AWS:SourceArn": RULE}}))), Answer::Allowed);
        assert_eq!(
            ask(allow(events.clone(), json!({"ArnLike": {"AWS:SourceArn": "arn:aws:events:*:*:rule/gu*"}}))),
            Answer::Allowed
        );
        assert_eq!(ask(allow(events.clone(), json!({}))), Answer::Allowed);
        let other = json!({"ArnLike": {"AWS:SourceArn": "arn:aws:events:eu-west-1:111122223333:rule/other"}});
        assert_eq!(ask(allow(events.clone(), other)), Answer::Silent);
        assert_eq!(ask(allow(json!({"Service": "s3.amazonaws.com"}), json!({}))), Answer::Silent);
        assert_eq!(ask(allow(events, json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}))), Answer::Unclear);
        assert_eq!(ask(json!([])), Answer::Silent);
    }

    #[test]
    fn denial_wins() {
        let deny = json!({"Effect": "Deny", "Action": "lambda:*", "Principal": "*"});
        assert_eq!(ask(json!([allow(json!("*"), json!({})), deny])), Answer::Forbidden);
        let elsewhere = json!({"Effect": "Deny", "Action": "lambda:GetFunction", "Principal": "*"});
        assert_eq!(ask(json!([allow(json!("*"), json!({})), elsewhere])), Answer::Allowed);
    }

    #[test]
    fn operators_are_known_in_any_case_and_wildcards_of_arns_stay_within_their_part() {
        let events = json!({"Service": "events.amazonaws.com"});
        let under = |condition: Value| ask(allow(events.clone(), condition));
        assert_eq!(under(json!({"arnlike": {"aws:sourcearn": RULE}})), Answer::Allowed);
        assert_eq!(under(json!({"STRINGEQUALS": {"aws:SourceAccount": "111122223333"}})), Answer::Allowed);
        assert_eq!(under(json!({"ArnLike": {"aws:SourceArn": "arn:aws:*:rule/guard:a:b"}})), Answer::Silent);
        assert_eq!(under(json!({"StringLike": {"aws:SourceArn": "arn:aws:*:rule/guard"}})), Answer::Allowed);
        assert_eq!(under(json!({"ArnNotEquals": {"aws:SourceArn": "arn:aws:events:*:*:rule/guard"}})), Answer::Silent);
    }

    #[test]
    fn what_is_not_known_of_the_request_is_unclear_and_what_is_none_of_iams_too() {
        let events = json!({"Service": "events.amazonaws.com"});
        let under = |condition: Value| ask(allow(events.clone(), condition));
        assert_eq!(under(json!({"NumericLessThan": {"aws:SourceAccount": "5"}})), Answer::Unclear);
        assert_eq!(under(json!({"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}})), Answer::Unclear);
        assert_eq!(under(json!({"Null": {"aws:SourceArn": "true"}})), Answer::Silent);
        assert_eq!(under(json!({"Null": {"aws:SourceArn": "false"}})), Answer::Allowed);
        assert_eq!(under(json!("x")), Answer::Unclear);
        let both = json!({"StringEquals": {"aws:PrincipalOrgID": "o-1", "aws:SourceAccount": "444455556666"}});
        assert_eq!(under(both), Answer::Silent, "whatever the unknown one is");
    }

    #[test]
    fn policy_that_is_no_json_is_unclear() {
        let request = AccessRequest { principal: "x", action: "y", resource: "z", keys: &[] };
        assert_eq!(request.under("{"), Answer::Unclear);
    }
}
