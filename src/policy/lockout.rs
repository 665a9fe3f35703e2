//! Whether a key policy takes the account the way to repair the key.

use super::caller::{Caller, Doubt, Holds};
use super::document::Statement;
use super::{CallSource, Certainty, Judgement, Loss, Policy, REPAIR, WAY_BACK, written};

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
