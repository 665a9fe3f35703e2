//! Whether a key policy cuts everybody but the account's root user off from using the key, as disabling it does.
//!
//! A policy tells callers apart by their ARN and by their kind. So it is tried for a role and a user that no policy names, and
//! for each role and user that this one does: if it spares any of them, the key is in use.

use super::caller::{Caller, Does, Doubt, Holds, Principal};
use super::{CallSource, Certainty, Judgement, Loss, Policy, WAY_BACK, glob, written};

/// What nobody can do without who has lost a key: what is encrypted stays so, and nothing more is signed.
const USES: [&str; 4] = ["kms:Decrypt", "kms:Sign", "kms:GenerateMac", "kms:DeriveSharedSecret"];

/// Names that no policy has.
const UNNAMED: [&str; 2] = ["role/unnamed/9f3c7a1e", "user/unnamed/9f3c7a1e"];

/// How many roles and users are tried at most.
const MOST_CALLERS: usize = 24;

/// What a caller has left of one use.
enum Remains {
    Use,
    /// Nothing; whether a Deny says so.
    Nothing {
        denied: bool,
    },
    /// Nothing, if it is as the doubts say; never empty.
    Unverified(Vec<Doubt>),
}

/// What all of them have left of one use.
enum LeftToAll {
    /// Somebody has it, or it was never given.
    Something,
    /// A policy that lets only the root user have it.
    NotGiven,
    /// It is denied, if it is as the doubts say.
    Denied(Vec<Doubt>),
}

impl Policy<'_> {
    /// Whether nobody but the root user, from there, can use the key; `named` are the roles and users to try.
    pub(super) fn cutoff(&self, (network, organization): CallSource, named: &[String]) -> Option<Judgement> {
        let root = Caller { network, organization, does: Does::Uses, ..self.root };
        let left = USES.map(|action| (action, self.left_to_all(&root, &action.to_ascii_lowercase(), named)));
        let mut denied: Vec<_> = left
            .iter()
            .filter_map(
                |(action, left)| {
                    if let LeftToAll::Denied(doubts) = left { Some(cut_off(action, doubts)) } else { None }
                },
            )
            .collect();
        denied.sort_by_key(|judgement| std::cmp::Reverse(judgement.certainty.rank()));
        // Which use a key is for isn't known here, so one that nobody was given counts only where none was.
        let given = left.iter().any(|(_, left)| !matches!(left, LeftToAll::NotGiven));
        denied.into_iter().next().or_else(|| (!given).then(|| cut_off("kms:Decrypt", &[])))
    }

    /// Whether nobody but the root user, from there, can bring the key back. That one can, so it is no certain lockout.
    pub(super) fn roots_alone(&self, (network, organization): CallSource, named: &[String]) -> Option<Judgement> {
        let root = Caller { network, organization, ..self.root };
        WAY_BACK.into_iter().find_map(|action| {
            let LeftToAll::Denied(doubts) = self.left_to_all(&root, &action.to_ascii_lowercase(), named) else {
                return None;
            };
            let judgement = cut_off(action, &doubts);
            let certainty =
                if judgement.certainty == Certainty::Proved { Certainty::Unclear } else { judgement.certainty };
            Some(Judgement { loss: Loss::Lockout, certainty, ..judgement })
        })
    }

    fn left_to_all(&self, root: &Caller, action: &str, named: &[String]) -> LeftToAll {
        let (mut doubts, mut all_denied) = (Vec::new(), true);
        for (number, arn) in named.iter().enumerate() {
            let who = if arn.contains(":role/") { Principal::Role(arn) } else { Principal::User(arn) };
            match self.left(&Caller { who, ..*root }, action) {
                Remains::Use => return LeftToAll::Something,
                // Whoever no policy names stands for everybody.
                Remains::Nothing { denied } => all_denied &= denied || number >= UNNAMED.len(),
                Remains::Unverified(more) => doubts.extend(more),
            }
        }
        if all_denied {
            return LeftToAll::Denied(doubts);
        }
        let roots = matches!(self.left(root, action), Remains::Use);
        if roots && doubts.is_empty() && !self.lets_others(action) { LeftToAll::NotGiven } else { LeftToAll::Something }
    }

    /// What this caller has left of the action, given in lower case, with all the permissions that IAM can give.
    fn left(&self, caller: &Caller, action: &str) -> Remains {
        let mut unverified = Vec::new();
        for statement in self.statements.iter().filter(|statement| statement.denies) {
            match caller.holds(statement, action, self.key_arn) {
                Holds::Yes => return Remains::Nothing { denied: true },
                Holds::No => {}
                // Whatever else it depends on may be as it is for the key's everyday use.
                Holds::Unclear(doubts)
                    if doubts.iter().all(|doubt| matches!(doubt, Doubt::Guard(..) | Doubt::From(_))) =>
                {
                    unverified.extend(doubts);
                }
                Holds::Unclear(_) => {}
            }
        }
        let mut allowed = self.statements.iter().filter(|statement| !statement.denies);
        if !allowed.any(|statement| !matches!(caller.holds(statement, action, self.key_arn), Holds::No)) {
            return Remains::Nothing { denied: false };
        }
        if unverified.is_empty() { Remains::Use } else { Remains::Unverified(unverified) }
    }

    /// Whether a service, an identity provider's user or another account is let use the key.
    fn lets_others(&self, action: &str) -> bool {
        let allowed = self.statements.iter().filter(|statement| !statement.denies && statement.has_action(action));
        let ours = |name: &String| *name == self.root.account || name.contains(&format!("::{}:", self.root.account));
        allowed.into_iter().any(|statement| {
            let principals = &statement.principals;
            !principals.others.is_empty() || principals.aws.iter().any(|name| name != "*" && !ours(name))
        })
    }

    /// Roles and users of the account: those that no policy names, then those that this one does or that its patterns take
    /// in.
    pub(super) fn named(&self) -> Vec<String> {
        let partition = self.root.partition.unwrap_or("aws");
        let arn = |name: &str| format!("arn:{partition}:iam::{}:{name}", self.root.account);
        let principals = self.statements.iter().flat_map(|statement| &statement.principals.aws);
        let clauses = self.statements.iter().flat_map(|statement| &statement.conditions);
        let values = clauses.filter(|clause| clause.key == "aws:principalarn").flat_map(|clause| &clause.values);
        let mut named: Vec<String> = UNNAMED.map(arn).into();
        for pattern in principals.chain(values).filter(|pattern| *pattern != "*") {
            // A wildcard takes in the letter that replaces it.
            let plain = pattern.replace(['*', '?'], "x");
            let session =
                plain.split_once(":assumed-role/").map(|(_, session)| session.split('/').next().unwrap_or(session));
            let name = plain.split_once("role/").or(plain.split_once("user/")).map(|(_, name)| name);
            let name = session.or(name).unwrap_or_else(|| plain.rsplit(':').next().unwrap_or(&plain));
            for kind in ["role", "user"] {
                for name in [name, name.trim_start_matches('x')] {
                    let arn = arn(&format!("{kind}/{name}"));
                    let meant = if session.is_some() { kind == "role" } else { glob(pattern, &arn) };
                    if meant && !named.contains(&arn) && named.len() < MOST_CALLERS {
                        named.push(arn);
                    }
                }
            }
        }
        named
    }
}

fn cut_off(action: &str, doubts: &[Doubt]) -> Judgement {
    let denies = format!("The new policy denies {action} to everybody but the account's root user");
    let from = doubts.iter().filter_map(|doubt| if let Doubt::From(date) = doubt { Some(*date) } else { None }).max();
    let guard =
        doubts.iter().find_map(|doubt| if let Doubt::Guard(text, ends) = doubt { Some((text, ends)) } else { None });
    let (certainty, sentence) = match (guard, from) {
        (Some((text, ends)), _) => {
            (Certainty::Unverified, format!("{denies}: {text}, nobody else can use this key any more; {ends}."))
        }
        (None, Some(date)) => (Certainty::From(date), format!("{denies} from {} on.", written(date))),
        (None, None) => (Certainty::Proved, format!("{denies}.")),
    };
    Judgement { loss: Loss::Cutoff, certainty, sentence }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{allow, of_version, root, under};
    use super::*;
    use serde_json::{Value, json};

    const ARN: &str = "arn:aws:iam::111122223333:";

    /// The verdict on a policy that lets the account in, and has this statement too.
    fn beside_the_way_in(statement: Value) -> Option<(Loss, Certainty)> {
        let judgement = of_version("2012-10-17", json!([allow(root(), json!("kms:*")), statement]));
        judgement.map(|judgement| (judgement.loss, judgement.certainty))
    }

    fn denied(condition: Value) -> Option<(Loss, Certainty)> {
        let denial = json!({"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"});
        beside_the_way_in(under(denial, condition))
    }

    const PROVED: Option<(Loss, Certainty)> = Some((Loss::Cutoff, Certainty::Proved));

    #[test]
    fn denial_to_everybody_but_the_root_user_is_a_cut_off_in_every_spelling() {
        for condition in [
            json!({"ArnNotEquals": {"aws:PrincipalArn": format!("{ARN}root")}}),
            json!({"StringNotEquals": {"aws:PrincipalArn": format!("{ARN}root")}}),
            json!({"ArnNotLike": {"aws:PrincipalArn": "arn:*:iam::*:root"}}),
            json!({"StringNotLike": {"aws:PrincipalArn": "*:root"}}),
            json!({"StringNotEquals": {"aws:PrincipalType": "Account"}}),
            json!({"StringEquals": {"aws:PrincipalType": ["AssumedRole", "User", "FederatedUser"]}}),
            json!({"StringLike": {"aws:PrincipalArn": [format!("{ARN}role/*"), format!("{ARN}user/*")]}}),
            json!({"ArnNotEqualsIfExists": {"aws:PrincipalArn": [format!("{ARN}root"), "arn:aws:iam::444455556666:role/x"]}}),
            json!({"StringNotEquals": {"aws:userid": "111122223333"}}),
            json!({}),
        ] {
            assert_eq!(denied(condition.clone()), PROVED, "{condition}");
        }
        let all_but_root =
            |action: Value| json!({"Effect": "Deny", "NotPrincipal": root(), "Action": action, "Resource": "*"});
        assert_eq!(beside_the_way_in(all_but_root(json!("kms:*"))), PROVED);
        assert_eq!(beside_the_way_in(all_but_root(json!(["kms:Sign", "kms:Verify"]))), PROVED);
        let not_action =
            json!({"Effect": "Deny", "NotPrincipal": root(), "NotAction": "kms:PutKeyPolicy", "Resource": "*"});
        assert_eq!(beside_the_way_in(not_action), PROVED);
        let only_root = json!({"ArnEquals": {"aws:PrincipalArn": format!("{ARN}root")}});
        let judgement = of_version("2012-10-17", under(allow(json!("*"), json!("kms:*")), only_root)).unwrap();
        assert_eq!(
            (judgement.loss, judgement.certainty),
            (Loss::Cutoff, Certainty::Proved),
            "by what it doesn't allow"
        );
    }

    #[test]
    fn denial_that_spares_a_role_or_a_user_is_none() {
        for condition in [
            json!({"ArnNotEquals": {"aws:PrincipalArn": [format!("{ARN}root"), format!("{ARN}role/app")]}}),
            json!({"StringNotLike": {"aws:PrincipalArn": [format!("{ARN}root"), "*app*"]}}),
            json!({"StringNotLike": {"aws:PrincipalArn": [format!("{ARN}root"), format!("{ARN}user/x?")]}}),
            json!({"StringNotLike": {"aws:PrincipalArn": format!("{ARN}r*")}}),
            json!({"StringNotEquals": {"aws:PrincipalType": ["Account", "AssumedRole"]}}),
            json!({"StringNotEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}),
            json!({"Null": {"kms:EncryptionContext:app": "true"}}),
            json!({"StringNotEquals": {"aws:PrincipalTag/team": "x"}}),
            json!({"StringNotLike": {"aws:userid": ["111122223333", "AROAEXAMPLEID:*"]}}),
        ] {
            assert_eq!(denied(condition.clone()), None, "{condition}");
        }
        let listed = |names: Value| json!({"Effect": "Deny", "NotPrincipal": {"AWS": names}, "Action": "kms:*", "Resource": "*"});
        let session = "arn:aws:sts::111122223333:assumed-role/app/i-0a1b";
        assert_eq!(beside_the_way_in(listed(json!([format!("{ARN}root"), format!("{ARN}role/app"), session]))), None);
        assert_eq!(beside_the_way_in(listed(json!([format!("{ARN}root"), session]))), None);
    }

    #[test]
    fn policy_that_leaves_use_to_grants_services_or_named_roles_is_none() {
        let administer = allow(root(), json!(["kms:Put*", "kms:Enable*", "kms:CreateGrant"]));
        assert_eq!(of_version("2012-10-17", json!([administer])), None);
        let app = allow(json!({"AWS": format!("{ARN}role/app")}), json!("kms:Decrypt"));
        let old = json!({"Effect": "Deny", "Principal": {"AWS": format!("{ARN}role/old")}, "Action": "kms:*", "Resource": "*"});
        assert_eq!(of_version("2012-10-17", json!([administer, app, old])), None);
        let only_root =
            under(allow(root(), json!("kms:*")), json!({"ArnEquals": {"aws:PrincipalArn": format!("{ARN}root")}}));
        let service = allow(json!({"Service": "logs.amazonaws.com"}), json!(["kms:Encrypt*", "kms:Decrypt*"]));
        assert_eq!(of_version("2012-10-17", json!([only_root, service])), None);
        let to_encrypt = json!({"Effect": "Deny", "Principal": "*", "Action": ["kms:Encrypt", "kms:GenerateDataKey*"], "Resource": "*"});
        assert_eq!(beside_the_way_in(to_encrypt), None, "what is encrypted can still be read");
    }

    #[test]
    fn guard_makes_a_cut_off_unverified_and_a_future_date_one_to_come() {
        let network = denied(json!({"NotIpAddress": {"aws:SourceIp": "192.0.2.1/32"}}));
        assert_eq!(network, Some((Loss::Cutoff, Certainty::Unverified)));
        let with_service =
            json!({"NotIpAddress": {"aws:SourceIp": "192.0.2.1/32"}, "Bool": {"aws:ViaAWSService": "false"}});
        assert_eq!(denied(with_service), None, "services still use it");
        let later = denied(json!({"DateGreaterThan": {"aws:CurrentTime": "2027-01-01T00:00:00Z"}}));
        assert_eq!(later, Some((Loss::Cutoff, Certainty::From(time::macros::datetime!(2027-01-01 00:00 UTC)))));
        assert_eq!(denied(json!({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}})), None);
    }

    #[test]
    fn way_back_that_only_the_root_user_keeps_may_be_a_lockout() {
        let all_but = |names: Value| json!({"Effect": "Deny", "NotPrincipal": {"AWS": names}, "Action": "kms:EnableKey", "Resource": "*"});
        let verdict = beside_the_way_in(all_but(json!(format!("{ARN}root"))));
        assert_eq!(verdict, Some((Loss::Lockout, Certainty::Unclear)));
        assert_eq!(beside_the_way_in(all_but(json!([format!("{ARN}root"), format!("{ARN}role/admin")]))), None);
    }
}
