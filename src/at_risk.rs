//! The keys at risk, as a sweep of the account found them: what the digest lists and reminders are made of.

use time::OffsetDateTime;

use crate::catalogue::Kind;
use crate::finding::{Deadline, Finding, Source, Subject};
use crate::key::{Fact, KeyArn, KeyFacts, KeyMetadata, LastUsage, Why};

/// Key material that expires within this many days counts as danger, though the key is still Enabled.
pub const EXPIRES_SOON_DAYS: i64 = 30;

/// What a sweep found.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The keys in danger, the least time left first; without those that were acknowledged.
    pub at_risk: Vec<AtRisk>,
    /// How many keys are disabled on purpose: somebody acknowledged them.
    pub acknowledged: usize,
    /// What was acknowledged and is no key here: ids and ARNs.
    pub not_found: Vec<String>,
    /// How many keys there are, AWS's own included.
    pub listed: usize,
    /// The keys that couldn't be looked at, by reason.
    pub missed: Vec<(Why, Vec<KeyArn>)>,
    /// Why the list of keys ended before its end, if it did: then there are keys that nobody has looked at.
    pub cut_short: Option<Why>,
}

impl Sweep {
    /// How many keys couldn't be looked at.
    pub fn not_looked_at(&self) -> usize {
        self.missed.iter().map(|(_, keys)| keys.len()).sum()
    }

    /// Whether every key was looked at.
    pub fn is_whole(&self) -> bool {
        self.missed.is_empty() && self.cut_short.is_none()
    }
}

fn expires_soon(metadata: &KeyMetadata, time: OffsetDateTime) -> bool {
    metadata.valid_to.is_some_and(|at| at - time <= time::Duration::days(EXPIRES_SOON_DAYS))
}

/// A key in danger with what is known about it.
#[derive(Debug, Clone)]
pub struct AtRisk {
    /// The key.
    pub arn: KeyArn,
    /// What KMS says; the metadata are known.
    pub facts: KeyFacts,
}

impl AtRisk {
    /// A key if it is in danger at this time; None if it isn't, or is AWS's own, which nobody can lose.
    pub fn of(arn: KeyArn, metadata: KeyMetadata, time: OffsetDateTime) -> Option<Self> {
        let expires = expires_soon(&metadata, time);
        let lost = matches!(
            metadata.state.as_deref(),
            Some("PendingDeletion" | "PendingReplicaDeletion" | "Disabled" | "PendingImport" | "Unavailable")
        );
        (!metadata.aws_managed && (lost || expires)).then(|| Self {
            arn,
            facts: KeyFacts { metadata: Fact::Known(metadata), ..KeyFacts::unknown(Why::NotAsked) },
        })
    }

    /// The key's state, as KMS spells it.
    pub fn state(&self) -> &str {
        self.metadata().and_then(|metadata| metadata.state.as_deref()).unwrap_or("unknown")
    }

    /// Whether it is one of those that are disabled on purpose, given by id or ARN. A key in another state isn't, and neither is
    /// one whose material is about to expire: its clock is running.
    pub fn is_acknowledged(&self, keys: &[String], time: OffsetDateTime) -> bool {
        let named = || keys.iter().any(|key| key == self.arn.id() || *key == self.arn.to_string());
        let expires = self.metadata().is_some_and(|metadata| expires_soon(metadata, time));
        self.state() == "Disabled" && !expires && named()
    }

    /// Whether it still waits for its first material, so that there is nothing to lose. KMS has no word for that: it names no
    /// material, and says that the key was never used. One of the two isn't enough.
    pub fn never_had_material(&self) -> bool {
        let names_none = self.metadata().is_some_and(|metadata| metadata.names_no_material);
        self.state() == "PendingImport" && names_none && self.facts.last_usage.known() == Some(&LastUsage::Never)
    }

    fn metadata(&self) -> Option<&KeyMetadata> {
        self.facts.metadata.known()
    }

    /// Until when it can be saved, by KMS's own word.
    pub fn deadline(&self) -> Deadline {
        let Some(metadata) = self.metadata() else { return Deadline::Unknown };
        match (self.state(), metadata.deletion_date, metadata.valid_to) {
            ("PendingDeletion", Some(date), _) => Deadline::At(date, Source::Kms),
            ("PendingDeletion", None, _) => Deadline::Unknown,
            ("PendingReplicaDeletion", ..) => Deadline::AfterReplicas,
            ("PendingImport", ..) => Deadline::Immediate,
            (_, _, Some(expiry)) => Deadline::At(expiry, Source::Kms),
            _ => Deadline::None,
        }
    }

    /// What sorts by time left: dates first, then what may end any day, then what only waits.
    pub fn urgency(&self) -> (u8, Option<OffsetDateTime>) {
        match self.deadline() {
            Deadline::At(at, _) => (0, Some(at)),
            Deadline::Unknown => (1, None),
            Deadline::AfterReplicas => (2, None),
            Deadline::Immediate => (3, None),
            Deadline::None | Deadline::Lifted => (4, None),
        }
    }

    /// The finding for machines, and the alert when it is time to remind. `time` is the schedule's: the same day gives
    /// the same `metadata.uid`, however often the sweep is repeated.
    pub fn finding(&self, time: OffsetDateTime) -> Finding {
        let name = format!("{}\n{}", self.arn, time.date());
        let (account, region) = (self.arn.account().to_owned(), self.arn.region().clone());
        let subject = Subject::Key(self.arn.clone());
        let mut finding = Finding::noticed(Kind::KeyAtRisk, subject, Some(account), Some(region), time, &name);
        finding.deadline = self.deadline();
        finding.facts = self.facts.clone();
        finding.happened = match self.state() {
            "PendingDeletion" => "pending deletion",
            "PendingReplicaDeletion" => "pending deletion, once its replicas are gone",
            "Disabled" => "still disabled",
            "PendingImport" => "without its key material",
            "Unavailable" => "still unavailable, as its key store is",
            _ => "about to lose its key material",
        }
        .to_owned();
        finding
    }
}
