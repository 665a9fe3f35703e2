//! Callers of the key's own account, for whom a key policy is judged: what is known about a request of theirs, and what stays
//! in doubt.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>

use time::OffsetDateTime;

use super::condition::{Clause, Context, ContextKey};
use super::document::{Principals, Statement};
use super::trusted::{Network, Range};
use crate::escape::name;
use crate::json::timestamp;
use crate::key::is_account_id;

/// A caller, with what is known about the call.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub account: &'a str,
    /// Of the key's ARN; without it the caller's own ARN isn't known.
    pub partition: Option<&'a str>,
    pub region: Option<&'a str>,
    pub who: Principal<'a>,
    pub does: Does,
    pub network: Network<'a>,
    /// The account's organization, if it is known.
    pub organization: Option<&'a str>,
    pub now: OffsetDateTime,
    /// Whether the policy's version knows variables.
    pub variables: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Principal<'a> {
    /// The account's root principal.
    Root,
    /// A role of the account, by its ARN; also each of its sessions.
    Role(&'a str),
    /// A user of the account, by its ARN.
    User(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Repairs the key: a plain call of the caller's own.
    Administers,
    /// Uses it, maybe through a service.
    Uses,
}

/// Whether a statement applies to a caller.
pub(super) enum Holds {
    Yes,
    No,
    /// It depends; never empty.
    Unclear(Vec<Doubt>),
}

/// What an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// On where the caller calls from, or how: "if … isn't your network", and how the doubt is ended.
    Guard(String, &'static str),
    /// On the key's tags.
    Tag,
    /// On time: from then on.
    From(OffsetDateTime),
    /// On something that isn't known.
    Unknown,
}

impl Context for Caller<'_> {
    fn fact(&self, key: &str) -> ContextKey {
        let is = |text: &str| ContextKey::Is(text.to_owned());
        let (calls_directly, root) = (self.does == Does::Administers, self.who == Principal::Root);
        match key {
            "aws:principalarn" => match (self.who, self.partition) {
                (Principal::Role(arn) | Principal::User(arn), _) => is(arn),
                (Principal::Root, Some(partition)) => {
                    ContextKey::Is(format!("arn:{partition}:iam::{}:root", self.account))
                }
                (Principal::Root, None) => ContextKey::Unknown,
            },
            "aws:principaltype" => is(match self.who {
                Principal::Root => "Account",
                Principal::Role(_) => "AssumedRole",
                Principal::User(_) => "User",
            }),
            "aws:principalaccount" | "aws:resourceaccount" | "kms:calleraccount" => is(self.account),
            "aws:principalisawsservice" => is("false"),
            "aws:securetransport" => is("true"),
            "aws:requestedregion" => self.region.map_or(ContextKey::Unknown, is),
            "aws:username" => match self.who {
                Principal::User(arn) => is(arn.rsplit('/').next().unwrap_or(arn)),
                _ => ContextKey::Absent,
            },
            "aws:userid" if root => is(self.account),
            "aws:principalorgid" | "aws:resourceorgid" => self.organization.map_or(ContextKey::Unknown, is),
            "aws:sourceip" => match self.network {
                Network::Address(address) => ContextKey::Is(address.to_string()),
                Network::Vpc(_) | Network::Endpoint(_) => ContextKey::Absent,
                Network::Anywhere => ContextKey::Unknown,
            },
            "aws:sourcevpc" => match self.network {
                Network::Vpc(id) => is(id),
                Network::Address(_) => ContextKey::Absent,
                _ => ContextKey::Unknown,
            },
            "aws:sourcevpce" => match self.network {
                Network::Endpoint(id) => is(id),
                Network::Address(_) => ContextKey::Absent,
                _ => ContextKey::Unknown,
            },
            "aws:vpcsourceip" if matches!(self.network, Network::Address(_)) => ContextKey::Absent,
            "aws:viaawsservice" if calls_directly => is("false"),
            // They come with a service's request, with tagging, with data or with the loss of a key, and not with a
            // call that a person makes to bring a key back.
            "aws:calledvia"
            | "aws:calledviafirst"
            | "aws:calledvialast"
            | "aws:sourceaccount"
            | "aws:sourcearn"
            | "aws:sourceorgid"
            | "aws:sourceorgpaths"
            | "aws:tagkeys"
            | "kms:encryptioncontextkeys"
            | "kms:grantisforawsresource"
            | "kms:schedulekeydeletionpendingwindowindays"
            | "kms:trailingdayswithoutkeyusage"
            | "kms:viaservice"
                if calls_directly =>
            {
                ContextKey::Absent
            }
            other
                if calls_directly
                    && (other.starts_with("aws:requesttag/") || other.starts_with("kms:encryptioncontext:")) =>
            {
                ContextKey::Absent
            }
            _ => ContextKey::Unknown,
        }
    }

    fn knows_variables(&self) -> bool {
        self.variables
    }
}

impl Caller<'_> {
    /// Whether the statement applies to this caller's call of `action`, given in lower case, on the key.
    pub fn holds(&self, statement: &Statement, action: &str, key_arn: Option<&str>) -> Holds {
        if !statement.has_action(action) || !self.is_among(&statement.principals, statement.denies) {
            return Holds::No;
        }
        let mut doubts = Vec::new();
        match statement.is_for(self, key_arn) {
            Some(false) => return Holds::No,
            Some(true) => {}
            None => doubts.push(Doubt::Unknown),
        }
        for clause in &statement.conditions {
            match self.time(clause, statement.denies).unwrap_or_else(|| self.clause(clause, statement.denies)) {
                Holds::No => return Holds::No,
                Holds::Yes => {}
                Holds::Unclear(more) => doubts.extend(more),
            }
        }
        if doubts.is_empty() { Holds::Yes } else { Holds::Unclear(doubts) }
    }

    /// Whether a `Principal` takes the caller in, or its `NotPrincipal` leaves it over. A role's session counts as the role
    /// where that gives it something, or spares it.
    fn is_among(&self, principals: &Principals, denies: bool) -> bool {
        let is_account = |text: &str| {
            (is_account_id(text) && text == self.account)
                || (text.starts_with("arn:") && text.ends_with(&format!(":iam::{}:root", self.account)))
        };
        let listed = |text: &String| match self.who {
            Principal::Root => is_account(text),
            Principal::Role(arn) => {
                let session = || {
                    let role = arn.rsplit('/').next().unwrap_or(arn);
                    (principals.negated || !denies)
                        && text.contains(&format!(":sts::{}:assumed-role/{role}/", self.account))
                };
                text == arn || session() || (!principals.negated && is_account(text))
            }
            Principal::User(arn) => text == arn || (!principals.negated && is_account(text)),
        };
        (principals.everybody || principals.aws.iter().any(listed)) != principals.negated
    }

    fn clause(&self, clause: &Clause, denies: bool) -> Holds {
        // The caller decides whether the check is skipped, so a call that skips nothing can always be made.
        let skips = clause.key == "kms:bypasspolicylockoutsafetycheck" && clause.operator == "bool";
        let plain = !clause.if_exists && clause.set.is_none();
        if skips && plain && denies && clause.values.iter().all(|value| value.eq_ignore_ascii_case("true")) {
            return Holds::No;
        }
        // Only the root user's id is the account's.
        let of_roots = clause.key == "aws:userid" && clause.values.iter().all(|value| value == self.account);
        if of_roots && clause.operator.starts_with("string") && self.who != Principal::Root {
            return if clause.is_negated() { Holds::Yes } else { Holds::No };
        }
        match self.meets_clause(clause) {
            Some(true) => Holds::Yes,
            Some(false) => Holds::No,
            None => Holds::Unclear(vec![self.doubt(clause, denies)]),
        }
    }

    /// What a clause on the time comes to; None if it is about something else. A past date is decided, a future one is a
    /// doubt until then.
    fn time(&self, clause: &Clause, denies: bool) -> Option<Holds> {
        let epoch = clause.key == "aws:epochtime";
        if !epoch && clause.key != "aws:currenttime" {
            return None;
        }
        if clause.operator == "null" {
            let absent = clause.values.iter().any(|value| value.eq_ignore_ascii_case("true"));
            return Some(if absent { Holds::No } else { Holds::Yes });
        }
        let unknown = || Some(Holds::Unclear(vec![Doubt::Unknown]));
        let comparison =
            clause.operator.strip_prefix("date").or_else(|| clause.operator.strip_prefix("numeric").filter(|_| epoch));
        let Some(dates) = clause.values.iter().map(|value| date(value)).collect::<Option<Vec<_>>>() else {
            return unknown();
        };
        let (Some(first), Some(last)) = (dates.iter().min().copied(), dates.iter().max().copied()) else {
            return unknown();
        };
        let (now, changes) = match comparison {
            Some("lessthan" | "lessthanequals") => (self.now <= last, last),
            Some("greaterthan" | "greaterthanequals") => (self.now >= first, first),
            Some("equals") => (false, last),
            Some("notequals") => (true, last),
            _ => return unknown(),
        };
        let lasts = changes <= self.now || comparison == Some("notequals");
        Some(match (now, lasts) {
            (true, true) => Holds::Yes,
            (false, true) => Holds::No,
            (true, false) if denies => Holds::Yes,
            (false, false) if !denies => Holds::Unclear(vec![Doubt::Unknown]),
            (_, false) => Holds::Unclear(vec![Doubt::From(changes)]),
        })
    }

    fn doubt(&self, clause: &Clause, denies: bool) -> Doubt {
        if clause.key.starts_with("aws:resourcetag/") {
            return Doubt::Tag;
        }
        self.guard(clause, denies).map_or(Doubt::Unknown, |(text, ends)| Doubt::Guard(text, ends))
    }

    /// What a clause depends on that lets in whoever comes the proper way, or denies everybody else. The direction counts:
    /// to deny those *without* a second factor guards a key, to deny those with one locks it.
    fn guard(&self, clause: &Clause, denies: bool) -> Option<(String, &'static str)> {
        const NETWORKS: &str = "name your networks in TrustedSources";
        const VPCS: &str = "name your VPCs in TrustedSources";
        const ENDPOINTS: &str = "name your VPC endpoints in TrustedSources";
        const ORGANIZATION: &str = "name your organization in TrustedSources";
        let operator = clause.operator.as_str();
        let only = |text: &str| clause.values.iter().all(|value| value.eq_ignore_ascii_case(text));
        let outside = operator == "null" && only(if denies { "true" } else { "false" });
        // A wildcard means something to Like alone; elsewhere nothing equals it, and everybody is denied.
        let proper = |prefix: &str| {
            let direction = clause.is_negated() == denies && operator.starts_with("string");
            let like = operator.ends_with("like");
            let is_proper = |value: &&String| value.starts_with(prefix) && (like || !value.contains(['*', '?']));
            let values: Vec<_> = clause.values.iter().filter(is_proper).collect();
            (direction && !values.is_empty()).then(|| list(&values))
        };
        match clause.key.as_str() {
            "aws:multifactorauthpresent" | "aws:multifactorauthage" => {
                let direction = match operator {
                    "bool" => only(if denies { "false" } else { "true" }),
                    "null" => outside,
                    _ => {
                        let later = if denies { "numericgreaterthan" } else { "numericlessthan" };
                        let a_minute = |value: &String| value.parse::<u32>().is_ok_and(|seconds| seconds >= 60);
                        operator.starts_with(later) && clause.values.iter().all(a_minute)
                    }
                };
                let text = "if nobody can come with a second factor".to_owned();
                direction.then_some((text, "no parameter can tell that"))
            }
            "aws:sourceip" | "aws:vpcsourceip" => {
                let direction = operator == if denies { "notipaddress" } else { "ipaddress" };
                let inside = clause.key == "aws:vpcsourceip";
                let callers = |value: &&String| Range::read(value).is_some_and(|range| inside || range.is_callers());
                let ranges: Vec<_> = clause.values.iter().filter(callers).collect();
                let text = || format!("if {} isn't your network", list(&ranges));
                (direction && !ranges.is_empty()).then(|| (text(), NETWORKS))
            }
            "aws:sourcevpc" | "aws:sourcevpce" if outside => {
                Some(("if your administrators don't call through a VPC endpoint".into(), VPCS))
            }
            "aws:sourcevpc" => proper("vpc-").map(|ids| (format!("if {ids} isn't your VPC"), VPCS)),
            "aws:sourcevpce" => proper("vpce-").map(|ids| (format!("if {ids} isn't your VPC endpoint"), ENDPOINTS)),
            "aws:principalorgid" if self.variables && proper("${aws:ResourceOrgID}").is_some() => {
                Some(("if the account is in no organization".into(), ORGANIZATION))
            }
            "aws:principalorgid" => proper("o-").map(|ids| (format!("if {ids} isn't your organization"), ORGANIZATION)),
            _ => None,
        }
    }
}

/// The first three, inert.
fn list(values: &[&String]) -> String {
    let shown: Vec<_> = values.iter().take(3).map(|value| name(value, 64)).collect();
    let more = values.len().saturating_sub(3);
    if more == 0 { shown.join(" or ") } else { format!("{} or {more} more", shown.join(", ")) }
}

/// A date as IAM takes it: ISO 8601, or seconds since 1970.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html#Conditions_Date>
fn date(text: &str) -> Option<OffsetDateTime> {
    if let Ok(seconds) = text.parse::<i64>() {
        // A year alone is ISO 8601 as well.
        if text.len() == 4 {
            return timestamp(&format!("{text}-01-01T00:00:00Z"));
        }
        return OffsetDateTime::from_unix_timestamp(seconds).ok().filter(|time| (1970..=9000).contains(&time.year()));
    }
    match text.len() {
        7 => timestamp(&format!("{text}-01T00:00:00Z")),
        10 => timestamp(&format!("{text}T00:00:00Z")),
        17 if text.ends_with('Z') => timestamp(&format!("{}:00Z", text.get(..16)?)),
        _ => timestamp(text),
    }
}
