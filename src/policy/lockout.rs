//! Whether a key policy takes the account the way to repair the key.

use super::caller::{Caller, Doubt, Holds, Principal};
use super::document::Statement;
use super::{CallSource, Certainty, Judgement, Loss, Policy, REPAIR, WAY_BACK, written};
use crate::escape::name;

/// How many of those who are still let in are named.
const MOST_NAMED: usize = 5;

impl Policy<'_> {
    /// Whether the root principal, called from there, loses the way to repair the key.
    pub(super) fn lockout(&self, (network, organization): CallSource) -> Option<Judgement> {
        let root = Caller { network, organization, ..self.root };
        let actions = WAY_BACK.map(|action| (action, action.to_ascii_lowercase()));
        let denials = actions.iter().flat_map(|(action, lower)| {
            let denials = self.statements.iter().filter(|statement| statement.denies);
            denials.filter_map(|statement| self.denial(&root, statement, action, lower))
        });
        let worst = |worst: Option<Judgement>, next: Judgement| match worst {
            Some(worst) if worst.certainty.rank() >= next.certainty.rank() => Some(worst),
            _ => Some(next),
        };
        denials.chain(self.no_way_in(&root)).fold(None, worst)
    }

    /// How this statement takes the action away, if it does.
    fn denial(&self, root: &Caller, statement: &Statement, action: &str, lower: &str) -> Option<Judgement> {
        let denies = if statement.principals.negated {
            format!("The new policy denies {action} to everyone whom its NotPrincipal doesn't list")
        } else {
            format!("The new policy denies the account {action}")
        };
        let met =
            if statement.conditions.is_empty() { "" } else { ", under a condition that its root principal meets" };
        match root.holds(statement, lower, self.key_arn) {
            Holds::No => None,
            Holds::Yes => Some(Judgement {
                loss: Loss::Lockout,
                certainty: Certainty::Proved,
                sentence: format!("{denies}{met}."),
            }),
            // One guard is enough: all has to hold for the denial to apply.
            Holds::Unclear(doubts) => {
                let guard = doubts.iter().find(|doubt| matches!(doubt, Doubt::Guard(..)));
                Some(doubtful(&denies, "under a condition", guard.map_or(doubts.as_slice(), std::slice::from_ref)))
            }
        }
    }

    /// Whom of the account the policy still lets change it, in a sentence. KMS lets nobody of another account do that.
    pub(super) fn let_in(&self) -> String {
        let lower = REPAIR.to_ascii_lowercase();
        let ours = format!("::{}:", self.root.account);
        let denied = |arn: &str| {
            let who = if arn.contains(":user/") { Principal::User(arn) } else { Principal::Role(arn) };
            let caller = Caller { who, ..self.root };
            let mut denials = self.statements.iter().filter(|statement| statement.denies);
            denials.any(|statement| matches!(caller.holds(statement, &lower, self.key_arn), Holds::Yes))
        };
        let mut named = Vec::new();
        for statement in self.statements.iter().filter(|statement| !statement.denies && statement.has_action(&lower)) {
            let arns = statement.principals.aws.iter().filter(|_| !statement.principals.negated);
            for arn in arns.filter(|arn| arn.contains(&ours) && !arn.ends_with(":root") && !denied(arn)) {
                let condition = if statement.conditions.is_empty() { "" } else { " (under a condition)" };
                let shown = name(arn, 256) + condition;
                if !named.contains(&shown) {
                    named.push(shown);
                }
            }
        }
        let more = named.len().saturating_sub(MOST_NAMED);
        named.truncate(MOST_NAMED);
        match more {
            _ if named.is_empty() => format!("It names no role or user of the account that may change it ({REPAIR})."),
            0 => format!("It still lets these change it ({REPAIR}): {}.", named.join(", ")),
            more => format!("It still lets these change it ({REPAIR}): {} and {more} more.", named.join(", ")),
        }
    }

    /// What is wrong if no statement certainly lets the root principal repair the policy.
    fn no_way_in(&self, root: &Caller) -> Option<Judgement> {
        let lower = REPAIR.to_ascii_lowercase();
        let mut best: Option<Judgement> = None;
        for statement in self.statements.iter().filter(|statement| !statement.denies) {
            let doubts = match root.holds(statement, &lower, self.key_arn) {
                Holds::Yes => return None,
                Holds::No => continue,
                Holds::Unclear(doubts) => doubts,
            };
            let lets = "The new policy lets the account's root principal administer the key";
            let judgement = doubtful(lets, "only under conditions", &doubts);
            if best.as_ref().is_none_or(|best| judgement.certainty.rank() < best.certainty.rank()) {
                best = Some(judgement);
            }
        }
        best.or_else(|| {
            let sentence = "The new policy doesn't let the account's root principal administer the key.".to_owned();
            Some(Judgement { loss: Loss::Lockout, certainty: Certainty::Proved, sentence })
        })
    }
}

/// A lockout that depends on all of these.
fn doubtful(begins: &str, how: &str, doubts: &[Doubt]) -> Judgement {
    let guards: Vec<_> = doubts.iter().filter(|doubt| matches!(doubt, Doubt::Guard(..))).collect();
    let dates: Vec<_> =
        doubts.iter().filter_map(|doubt| if let Doubt::From(date) = doubt { Some(*date) } else { None }).collect();
    let (certainty, sentence) = match (guards.as_slice(), dates.iter().max()) {
        ([Doubt::Guard(text, ends), ..], _) if guards.len() == doubts.len() => {
            let sentence = format!("{begins} {how}: {text}, nobody can administer this key any more; {ends}.");
            (Certainty::Unverified, sentence)
        }
        (_, Some(date)) if dates.len() == doubts.len() => {
            let sentence = if how.starts_with("only") {
                format!("{begins} until {}, and nobody from {} on.", written(*date), written(*date))
            } else {
                format!("{begins} from {} on.", written(*date))
            };
            (Certainty::From(*date), sentence)
        }
        _ if doubts.contains(&Doubt::Tag) => {
            let tag = "on the key's tags, and whoever may tag the key decides when it applies";
            (Certainty::Unclear, format!("{begins} {how} {tag}."))
        }
        _ => (Certainty::Unclear, format!("{begins} {how} that can't be judged from the policy alone.")),
    };
    Judgement { loss: Loss::Lockout, certainty, sentence }
}

#[cfg(test)]
mod tests {
    use super::super::tests::allow;
    use super::super::{Setting, TrustedSources, let_in};
    use serde_json::{Value, json};
    use time::macros::datetime;

    fn told(statements: Value) -> Option<String> {
        let setting = Setting {
            account: Some("111122223333"),
            key_arn: None,
            trusted: &TrustedSources::NONE,
            now: datetime!(2026-11-21 03:12:44 UTC),
        };
        let_in(&json!({"Version": "2012-10-17", "Statement": statements}).to_string(), &setting)
    }

    fn role(name: &str) -> Value {
        json!({"AWS": format!("arn:aws:iam::111122223333:role/{name}")})
    }

    #[test]
    fn whom_a_lockout_still_lets_in_is_named() {
        let admins = allow(role("path/admins"), json!(["kms:Put*", "kms:Describe*"]));
        let sentence = told(json!([admins, allow(role("app"), json!("kms:Decrypt"))])).unwrap();
        assert!(sentence.contains("arn:aws:iam::111122223333:role/path/admins") && !sentence.contains("role/app"));
    }

    #[test]
    fn nobody_is_named_whom_another_statement_denies_or_who_is_of_another_account() {
        let nobody = "It names no role or user of the account that may change it (kms:PutKeyPolicy).";
        let far = allow(json!({"AWS": "arn:aws:iam::444455556666:role/admins"}), json!("kms:*"));
        assert_eq!(told(json!([far])).as_deref(), Some(nobody));
        let denied = json!({"Effect": "Deny", "Principal": role("admins"), "Action": "kms:*", "Resource": "*"});
        assert_eq!(told(json!([allow(role("admins"), json!("kms:*")), denied])).as_deref(), Some(nobody));
        assert_eq!(told(json!("no policy")), None);
    }

    #[test]
    fn only_the_first_of_many_are_named() {
        let names: Vec<_> = (0..9).map(|number| format!("arn:aws:iam::111122223333:role/admin-{number}")).collect();
        let sentence = told(json!([allow(json!({"AWS": names}), json!("kms:*"))])).unwrap();
        assert!(sentence.contains("role/admin-4") && sentence.ends_with(" and 4 more."), "{sentence}");
    }
}
