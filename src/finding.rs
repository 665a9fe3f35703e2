//! What a detection says about one key or key store at one moment: filled by the steps before, read by those after.

use std::sync::Arc;

use serde_json::Value;
use time::{OffsetDateTime, UtcOffset};
use uuid::Uuid;

use crate::actor::Actor;
use crate::catalogue::{Activity, Detection, Kind, Severity};
use crate::escape::{inert, is_plain};
use crate::event::GUARD_EVENT_SOURCE;
use crate::key::{KeyArn, KeyFacts, Region, Why};

/// The UUIDv5 of what a detection says about a thing of this kind and name.
pub(crate) fn named(detection: &Detection, what: &str, name: &str) -> Uuid {
    /// What the names under it are unique in.
    const NAMESPACE: Uuid = Uuid::from_u128(0x1c2f_6a52_8d0b_5c57_9a3e_5b1f_4f0e_7d21);
    Uuid::new_v5(&NAMESPACE, format!("{what}\n{}\n{name}", detection.id).as_bytes())
}

/// What a spoke is among the parts of the guard.
pub const SPOKE: &str = "KMS Key Guard spoke";

/// One thing the guard says.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The entry of the catalogue.
    pub detection: &'static Detection,
    /// What happened, for the Subject: the catalogue's words, or those that fit this case better.
    pub happened: String,
    /// What it means, in a sentence: the catalogue's, or one that is true of this case.
    pub meaning: &'static str,
    /// Whether and until when it can be undone, likewise.
    pub way_back: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// When it happened; when it arrived, if that isn't known.
    pub time: OffsetDateTime,
    /// Whether the signal tells when it happened.
    pub time_known: bool,
    /// Whether the danger that the detection tells of is over: told by what the guard looks after itself.
    pub over: bool,
    /// Whether a part of the guard was put back to what its template says: no danger, and the end of none for certain.
    pub put_back: bool,
    /// Whether it is a danger only if something that can't be verified, such as the network a policy spares or a name in the
    /// settings of a part of the guard, isn't the account's own.
    pub unverified: bool,
    /// Whether a key store's change leaves its keys where they are, as far as the record tells.
    pub keeps_its_keys: bool,
    /// Whether an archive sent its event again, so that it says nothing about now.
    pub replayed: bool,
    /// Until when it can be undone.
    pub deadline: Deadline,
    /// Who did it.
    pub actor: Actor,
    /// Where the guard has it from.
    pub origin: Origin,
    /// What is particular about this one, in sentences; caller-chosen parts are already inert.
    pub particulars: Vec<String>,
    /// What mends it, where that isn't told by the detection and the key alone: for a finding about the guard itself.
    pub remedy: Vec<Step>,
    /// What KMS says about the key.
    pub facts: KeyFacts,
    /// How bad it is, and why.
    pub assessment: Assessment,
    /// The record as it came.
    pub raw: Arc<Value>,
}

impl Finding {
    /// What the guard found by looking, with no signal of somebody's call behind it. Where and when it looked is what
    /// `account`, `region` and `time` say; `name` tells this finding from others of the same detection, so that looking
    /// again at the same time gives the same `metadata.uid`.
    pub fn noticed(
        kind: Kind,
        subject: Subject,
        account: Option<String>,
        region: Option<Region>,
        time: OffsetDateTime,
        name: &str,
    ) -> Self {
        let detection = kind.detection();
        Self {
            detection,
            happened: detection.happened.to_owned(),
            meaning: detection.meaning,
            way_back: detection.way_back,
            subject,
            time,
            time_known: true,
            over: false,
            put_back: false,
            unverified: false,
            keeps_its_keys: false,
            replayed: false,
            deadline: Deadline::None,
            actor: Actor::default(),
            origin: Origin {
                uid: named(detection, "noticed", name),
                event_name: detection.id.to_owned(),
                event_source: GUARD_EVENT_SOURCE.to_owned(),
                account,
                region,
                ..Origin::default()
            },
            particulars: Vec::new(),
            remedy: Vec::new(),
            facts: KeyFacts::unknown(Why::NotAsked),
            assessment: Assessment { severity: detection.severity, reasons: Vec::new() },
            raw: Value::Null.into(),
        }
    }

    /// Whether this finding is about a danger, not about the end of one.
    pub fn is_danger(&self) -> bool {
        self.detection.is_danger() && !self.over && !self.put_back
    }

    /// Where in the key's story it stands: the catalogue's, but an end that KMS doesn't confirm is none, and neither is one
    /// that an archive sent again.
    pub fn activity(&self) -> Activity {
        match self.detection.activity {
            _ if self.over => Activity::Close,
            _ if self.put_back => Activity::Update,
            Activity::Close if self.replayed || self.state() != Some("Enabled") => Activity::Update,
            activity => activity,
        }
    }

    /// Whether it tells of an end that KMS may still confirm.
    pub fn awaits_confirmation(&self) -> bool {
        self.detection.activity == Activity::Close && self.activity() != Activity::Close && !self.replayed
    }

    /// How many days of the calendar (UTC) lie between the finding's time and its deadline; None without a date. What
    /// happens once a day meets each number once, at whatever hour the key is destroyed.
    pub fn days_left(&self) -> Option<i64> {
        let Deadline::At(at, _) = self.deadline else { return None };
        let day = |time: OffsetDateTime| i64::from(time.to_offset(UtcOffset::UTC).to_julian_day());
        Some(day(at) - day(self.time))
    }

    /// Whether KMS says that the key waits to be deleted.
    pub fn is_pending_deletion(&self) -> bool {
        matches!(self.state(), Some("PendingDeletion" | "PendingReplicaDeletion"))
    }

    /// The key's state, as KMS said when it was asked.
    pub fn state(&self) -> Option<&str> {
        self.facts.metadata.known()?.state.as_deref()
    }

    /// The one key material that the event is about, if it names one by a well-formed id.
    pub fn material_id(&self) -> Option<&str> {
        let holders = ["requestParameters", "responseElements", "serviceEventDetails"];
        let id = holders.into_iter().find_map(|holder| self.raw.get(holder)?.get("keyMaterialId")?.as_str())?;
        (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    }

    /// What isn't known about the key, each with the reason; nothing where the finding is about the guard.
    pub fn unknown(&self) -> impl Iterator<Item = (&'static str, &Why)> {
        let of_key = !matches!(self.subject, Subject::Cluster { .. } | Subject::Guard { .. });
        self.facts.gaps().into_iter().filter_map(move |(fact, why)| Some((fact, why.filter(|_| of_key)?)))
    }

    /// The key's ARN, if the finding is about a key that could be told.
    pub fn key(&self) -> Option<&KeyArn> {
        match &self.subject {
            Subject::Key(arn) => Some(arn),
            _ => None,
        }
    }

    /// The account it happened in: the key's, else the one whose trail told. Where a call was refused KMS hasn't confirmed
    /// the key, so the trail's comes first.
    pub fn account(&self) -> Option<&str> {
        let (key, trail) = (self.key().map(KeyArn::account), self.origin.account.as_deref());
        if self.detection.kind == Kind::KeyLossDenied { trail.or(key) } else { key.or(trail) }
    }

    /// The Region it happened in, likewise.
    pub fn region(&self) -> Option<&Region> {
        let (key, trail) = (self.key().map(KeyArn::region), self.origin.region.as_ref());
        if self.detection.kind == Kind::KeyLossDenied { trail.or(key) } else { key.or(trail) }
    }

    /// The story this finding belongs to: the same for everything about one kind of danger to one key or key store, so that
    /// the end of one danger doesn't end another, and nobody's refused call is written into it.
    pub fn story(&self) -> String {
        let danger = match self.detection.kind {
            Kind::KeyMaterialDeleted
            | Kind::KeyMaterialExpired
            | Kind::KeyMaterialExpiring
            | Kind::KeyMaterialRestored => "#material",
            Kind::KeyAtRisk if self.lacks_material() => "#material",
            Kind::KeyPolicyLockout | Kind::KeyPolicyCutoff => "#policy",
            Kind::KeyLossDenied => "#attempt",
            _ => "",
        };
        self.thing() + danger
    }

    /// Whether the key waits for its material, or is about to lose it, and isn't lost otherwise.
    fn lacks_material(&self) -> bool {
        matches!(self.state(), Some("PendingImport" | "Enabled"))
    }

    /// What all stories of one key or key store begin with.
    pub(crate) fn thing(&self) -> String {
        let place = || {
            let region = self
                .region()
                .map(|region| region.to_string())
                .or_else(|| Some(inert(self.origin.region_given.as_deref()?, 64)));
            format!(
                "{}/{}",
                self.account().unwrap_or("unknown-account"),
                region.unwrap_or_else(|| "unknown-region".into())
            )
        };
        match &self.subject {
            Subject::Key(arn) => arn.to_string(),
            // The account and the Region say which one.
            Subject::Guard { kind: SPOKE, .. } => format!("{}/spoke", place()),
            Subject::KeyStore { id: Some(id), .. } | Subject::Cluster { id: Some(id) } => format!("{}/{id}", place()),
            Subject::Guard { part, .. } => format!("{}/guard/{part}", place()),
            Subject::Unknown { given: Some(given) } if is_plain(given) => format!("{}/{given}", place()),
            Subject::KeyStore { id: None, .. } | Subject::Cluster { id: None } | Subject::Unknown { .. } => {
                format!("{}/{}", place(), self.origin.uid)
            }
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A key that the record names.
    Key(KeyArn),
    /// A custom key store.
    KeyStore {
        /// Such as `cks-1234567890abcdef0`; None if the record holds none that can be one.
        id: Option<String>,
        /// The name its owner gave it.
        name: Option<String>,
    },
    /// A CloudHSM cluster, which a custom key store may be on.
    Cluster {
        /// Such as `cluster-1a23b4cdefg`; None if the record holds none that can be one.
        id: Option<String>,
    },
    /// The guard itself, or what it sees by.
    Guard {
        /// What kind of thing, in CloudFormation's words, such as `AWS::Events::Rule`.
        kind: &'static str,
        /// Which one: its name or ARN, or the check that failed; inert and in one word.
        part: String,
    },
    /// Something the record doesn't name so that it could be trusted.
    Unknown {
        /// What the record held in that place.
        given: Option<String>,
    },
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What, in a sentence.
    pub what: String,
    /// The command for it, ready to paste; put together from validated parts only.
    pub command: Option<String>,
}

impl Step {
    /// Something to do that no command does.
    pub fn say(what: &str) -> Self {
        Self { what: what.to_owned(), command: None }
    }

    /// Something that a command does.
    pub fn run(what: &str, command: String) -> Self {
        Self { what: what.to_owned(), command: Some(command) }
    }
}

/// Until when a loss can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// At this time it is final.
    At(OffsetDateTime, Source),
    /// The waiting period begins when the last replica of the multi-Region key is gone; there is no date yet.
    AfterReplicas,
    /// The key waits to be deleted, and the date isn't known.
    Unknown,
    /// It has happened.
    Immediate,
    /// A clock was running, or harm was done, and KMS says that this is over.
    Lifted,
    /// No clock is running.
    None,
}

/// Where a deadline is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// KMS said so when asked.
    Kms,
    /// The record says so.
    Record,
    /// Computed from the time of the call and the waiting period.
    Estimate,
    /// Computed from the time of the call and the shortest waiting period, since the record doesn't tell which it is.
    Shortest,
}

/// Where a finding comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// What tells a repeated delivery: a UUID, OCSF's `metadata.uid`.
    pub uid: Uuid,
    /// Such as `ScheduleKeyDeletion`, or the detail-type of KMS's own event.
    pub event_name: String,
    /// The service, such as `kms.amazonaws.com`.
    pub event_source: String,
    /// CloudTrail's id of the record, or EventBridge's of the event.
    pub event_id: Option<String>,
    /// Whether `event_id` is CloudTrail's, so that CloudTrail can show it.
    pub in_cloudtrail: bool,
    /// The id of the call that records in several accounts share.
    pub shared_event_id: Option<String>,
    /// KMS's id of the request.
    pub request_id: Option<String>,
    /// Why the call failed, if it did: code and message.
    pub error: Option<String>,
    /// The account whose trail told; twelve digits.
    pub account: Option<String>,
    /// The Region the call was made to.
    pub region: Option<Region>,
    /// What the record holds in the Region's place, if that is no Region.
    pub region_given: Option<String>,
    /// The waiting period that was asked for, in days.
    pub waiting_period_days: Option<i64>,
}

/// A finding's severity with what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The result.
    pub severity: Severity,
    /// The rules that applied, in the table's order, each with its reason in plain words.
    pub reasons: Vec<Reason>,
}

/// A rule that moved the severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Levels: positive is worse.
    pub levels: i32,
    /// In plain words; caller-chosen parts are already inert.
    pub text: String,
}
