//! Whether a resource's policy lets somebody do something.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>

use serde_json::Value;

use crate::policy::{glob, one_or_many, texts};

/// A request that a policy is asked about.
pub(super) struct AccessRequest<'a> {
    /// The service that calls, such as `events.amazonaws.com`, or the ARN of the role that does.
    pub(super) principal: &'a str,
    /// Such as `sns:Publish`.
    pub(super) action: &'a str,
    /// What it is done to.
    pub(super) resource: &'a str,
    /// What is known of the request: condition key in lower case, and value.
    pub(super) keys: &'a [(&'a str, &'a str)],
}

/// What a policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
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
    pub(super) fn under(&self, policy: &str) -> Answer {
        let Ok(policy) = serde_json::from_str::<Value>(policy) else { return Answer::Unclear };
        let statements = one_or_many(policy.get("Statement").unwrap_or(&Value::Null));
        let said = |effect: &str| {
            let about = statements.iter().filter(|statement| statement["Effect"] == effect);
            let said: Vec<_> = about.map(|statement| self.is_meant_by(statement)).collect();
            if said.contains(&Some(true)) {
                Some(true)
            } else if said.contains(&None) {
                None
            } else {
                Some(false)
            }
        };
        match (said("Deny"), said("Allow")) {
            (Some(true), _) => Answer::Forbidden,
            (None, _) => Answer::Unclear,
            (_, Some(true)) => Answer::Allowed,
            (_, None) => Answer::Unclear,
            (_, Some(false)) => Answer::Silent,
        }
    }

    /// Whether a statement is about this request; None if that can't be judged.
    fn is_meant_by(&self, statement: &Value) -> Option<bool> {
        let fits = |field: &str, text: &str, lower: bool| {
            let fold = |text: &str| if lower { text.to_ascii_lowercase() } else { text.to_owned() };
            let any = |value: &Value| texts(value).iter().any(|pattern| glob(&fold(pattern), &fold(text)));
            match (&statement[field], &statement[format!("Not{field}")]) {
                (Value::Null, Value::Null) => true,
                (Value::Null, others) => !any(others),
                (these, _) => any(these),
            }
        };
        if !fits("Action", self.action, true) || !fits("Resource", self.resource, false) {
            return Some(false);
        }
        let principal = match (&statement["Principal"], &statement["NotPrincipal"]) {
            (Value::Null, Value::Null) => return None,
            (Value::Null, others) => !self.is_one_of(others),
            (these, _) => self.is_one_of(these),
        };
        if !principal {
            return Some(false);
        }
        let conditions = statement["Condition"].as_object().into_iter().flatten();
        let mut all = Some(true);
        for (operator, keys) in conditions {
            for (key, wanted) in keys.as_object().into_iter().flatten() {
                match self.meets(operator, key, wanted) {
                    Some(false) => return Some(false),
                    None => all = None,
                    Some(true) => {}
                }
            }
        }
        all
    }

    fn is_one_of(&self, principals: &Value) -> bool {
        if principals == "*" {
            return true;
        }
        let named = principals.as_object().into_iter().flatten().flat_map(|(_, names)| texts(names));
        let account = self.principal.split(':').nth(4).unwrap_or_default();
        named.into_iter().any(|name| {
            let root = !account.is_empty() && (name == account || name.ends_with(&format!(":iam::{account}:root")));
            name == "*" || name == self.principal || root
        })
    }

    fn meets(&self, operator: &str, key: &str, wanted: &Value) -> Option<bool> {
        let key = key.to_ascii_lowercase();
        let value = self.keys.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)?;
        let any = |matches: fn(&str, &str) -> bool| texts(wanted).iter().any(|wanted| matches(wanted, value));
        Some(match operator.strip_suffix("IfExists").unwrap_or(operator) {
            "StringEquals" => any(|wanted, value| wanted == value),
            "StringNotEquals" | "ArnNotEquals" => !any(|wanted, value| wanted == value),
            "StringEqualsIgnoreCase" | "Bool" => any(|wanted, value| wanted.eq_ignore_ascii_case(value)),
            "StringLike" | "ArnLike" | "ArnEquals" => any(glob),
            "StringNotLike" | "ArnNotLike" => !any(glob),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn policy_that_is_no_json_is_unclear() {
        let request = AccessRequest { principal: "x", action: "y", resource: "z", keys: &[] };
        assert_eq!(request.under("{"), Answer::Unclear);
    }
}
