//! The catalogue of detections: what the guard can report, and how bad each is before any fact about the case.
//!
//! Read beside docs/detections.md, which a test compares with it.

use std::fmt;
use std::str::FromStr;

/// What a detection is for in code; each has one [`Detection`] in the [`CATALOGUE`].
#[allow(missing_docs, reason = "the catalogue says what each means")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    KeyDeletionScheduled,
    KeyDisabled,
    KeyMaterialDeleted,
    KeyMaterialExpired,
    KeyDeleted,
    KeyStoreDisconnected,
    KeyStoreChanged,
    KeyStoreDeleted,
    KeyPolicyLockout,
    KeyPolicyCutoff,
    KeyStoreClusterLost,
    KeyMaterialExpiring,
    KeyMaterialRestored,
    KeyDeletionCancelled,
    KeyEnabled,
    KeyStoreConnected,
    KeyLossDenied,
    LostKeyUsed,
    KeyAtRisk,
    GuardBlind,
    GuardTampered,
    GuardTest,
    UnreadableSignal,
}

/// One entry of the catalogue: what to look for, and what it means.
#[derive(Debug)]
pub struct Detection {
    /// The entry's place in the code.
    pub kind: Kind,
    /// The name that users see and filter by.
    pub id: &'static str,
    /// Whether it is reported without being asked for.
    pub by_default: bool,
    /// The severity before any fact about the case.
    pub severity: Severity,
    /// Where in a key's story it stands.
    pub activity: Activity,
    /// The title.
    pub title: &'static str,
    /// What happened to the key, for the Subject: "KMS key … *scheduled for deletion*".
    pub happened: &'static str,
    /// What it means, in a sentence.
    pub meaning: &'static str,
    /// Whether and until when it can be undone, in a sentence.
    pub way_back: &'static str,
    /// The MITRE ATT&CK technique; None for what isn't an attack.
    pub technique: Option<Technique>,
}

impl Detection {
    /// Whether it tells of a danger, not of the end of one.
    pub fn is_danger(&self) -> bool {
        self.activity != Activity::Close
            && !matches!(self.kind, Kind::KeyDeletionCancelled | Kind::KeyStoreConnected | Kind::GuardTest)
    }

    /// Whether it tells that a key or key store is lost or on its way to it; an attempt that failed isn't.
    pub fn is_loss(&self) -> bool {
        let of_no_key = matches!(self.kind, Kind::KeyLossDenied | Kind::UnreadableSignal) || self.is_about_the_guard();
        self.is_danger() && !of_no_key
    }

    /// Whether somebody's call or a service brings it about; the others are what the guard notices by looking, or by a
    /// spoke's alarm.
    pub fn is_signalled(&self) -> bool {
        !matches!(self.kind, Kind::KeyAtRisk | Kind::GuardBlind)
    }

    /// Whether it tells of the guard itself, not of a key.
    pub fn is_about_the_guard(&self) -> bool {
        matches!(self.kind, Kind::GuardBlind | Kind::GuardTampered | Kind::GuardTest)
    }
}

/// A technique of MITRE ATT&CK. <https://attack.mitre.org/techniques/enterprise/>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technique {
    /// T1485.
    DataDestruction,
    /// T1486.
    DataEncryptedForImpact,
    /// T1489.
    ServiceStop,
    /// T1490.
    InhibitSystemRecovery,
    /// T1562.
    ImpairDefenses,
}

impl Technique {
    /// Its id and name.
    pub fn id_and_name(self) -> (&'static str, &'static str) {
        match self {
            Self::DataDestruction => ("T1485", "Data Destruction"),
            Self::DataEncryptedForImpact => ("T1486", "Data Encrypted for Impact"),
            Self::ServiceStop => ("T1489", "Service Stop"),
            Self::InhibitSystemRecovery => ("T1490", "Inhibit System Recovery"),
            Self::ImpairDefenses => ("T1562", "Impair Defenses"),
        }
    }

    /// Id and name of the tactic it serves.
    pub fn tactic(self) -> (&'static str, &'static str) {
        match self {
            Self::ImpairDefenses => ("TA0005", "Defense Evasion"),
            _ => ("TA0040", "Impact"),
        }
    }
}

/// Everything the guard can report.
pub static CATALOGUE: [Detection; 23] = [
    Detection {
        kind: Kind::KeyDeletionScheduled,
        id: "key-deletion-scheduled",
        by_default: true,
        severity: Severity::High,
        activity: Activity::Create,
        title: "KMS key scheduled for deletion",
        happened: "scheduled for deletion",
        meaning: "The key can't be used from now on; when the waiting period is over it is destroyed, and with it all data under it.",
        way_back: "Until the waiting period is over: cancel the deletion, then enable the key.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::KeyDisabled,
        id: "key-disabled",
        by_default: true,
        severity: Severity::Medium,
        activity: Activity::Create,
        title: "KMS key disabled",
        happened: "disabled",
        meaning: "The key can't be used from now on, so what is encrypted under it can't be read.",
        way_back: "At any time: enable the key.",
        technique: Some(Technique::ServiceStop),
    },
    Detection {
        kind: Kind::KeyMaterialDeleted,
        id: "key-material-deleted",
        by_default: true,
        severity: Severity::Critical,
        activity: Activity::Create,
        title: "Imported key material of a KMS key deleted",
        happened: "lost its key material",
        meaning: "The key lost its imported material at once, without a waiting period; nothing under it can be read.",
        way_back: "Only by importing the same key material again; if nobody kept a copy, the data is lost.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::KeyMaterialExpired,
        id: "key-material-expired",
        by_default: true,
        severity: Severity::High,
        activity: Activity::Create,
        title: "Imported key material of a KMS key expired",
        happened: "lost its expired key material",
        meaning: "KMS deleted the key's imported material because its time was over; nothing under it can be read.",
        way_back: "Only by importing the same key material again; if nobody kept a copy, the data is lost.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::KeyDeleted,
        id: "key-deleted",
        by_default: true,
        severity: Severity::Critical,
        activity: Activity::Update,
        title: "KMS key deleted",
        happened: "deleted for good",
        meaning: "KMS destroyed the key: all data that is encrypted under it alone is lost.",
        way_back: "None.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::KeyStoreDisconnected,
        id: "key-store-disconnected",
        by_default: true,
        severity: Severity::High,
        activity: Activity::Create,
        title: "Custom key store disconnected",
        happened: "disconnected",
        meaning: "Every KMS key of the store is unavailable, so nothing under those keys can be read.",
        way_back: "At any time, as long as the cluster or proxy behind it is there: connect the store.",
        technique: Some(Technique::ServiceStop),
    },
    Detection {
        kind: Kind::KeyStoreChanged,
        id: "key-store-changed",
        by_default: true,
        severity: Severity::Medium,
        activity: Activity::Create,
        title: "Custom key store changed",
        happened: "changed",
        meaning: "The store may point to another cluster or proxy; keys whose material isn't there can't be used.",
        way_back: "Update the store back to the cluster or proxy that holds the keys' material.",
        technique: Some(Technique::InhibitSystemRecovery),
    },
    Detection {
        kind: Kind::KeyStoreDeleted,
        id: "key-store-deleted",
        by_default: true,
        severity: Severity::Low,
        activity: Activity::Create,
        title: "Custom key store deleted",
        happened: "deleted",
        meaning: "The store is gone from KMS. It held no keys, or KMS would have refused; the cluster or proxy behind it is untouched.",
        way_back: "Create the store again on the same cluster or proxy.",
        technique: Some(Technique::InhibitSystemRecovery),
    },
    Detection {
        kind: Kind::KeyPolicyLockout,
        id: "key-policy-lockout",
        by_default: true,
        severity: Severity::High,
        activity: Activity::Create,
        title: "Key policy of a KMS key may lock its account out",
        happened: "locks its account out",
        meaning: "The account's administrators may be unable to manage the key, or to cancel its deletion.",
        way_back: "As long as somebody may call PutKeyPolicy: put back a policy that lets the account in. Else AWS Support.",
        technique: Some(Technique::InhibitSystemRecovery),
    },
    Detection {
        kind: Kind::KeyPolicyCutoff,
        id: "key-policy-cutoff",
        by_default: true,
        severity: Severity::Medium,
        activity: Activity::Create,
        title: "Key policy of a KMS key cuts its users off",
        happened: "cut off from all but root",
        meaning: "Nobody but the account's root user can use the key any more, so what is encrypted under it can't be read.",
        way_back: "As long as somebody may call PutKeyPolicy, the root user at the latest: put back a policy that lets the key's users in.",
        technique: Some(Technique::ServiceStop),
    },
    Detection {
        kind: Kind::KeyStoreClusterLost,
        id: "key-store-cluster-lost",
        by_default: true,
        severity: Severity::Low,
        activity: Activity::Create,
        title: "CloudHSM cluster lost an HSM, or was deleted",
        happened: "lost an HSM",
        meaning: "If a custom key store is on this cluster and no HSM is left, every KMS key of that store is unavailable.",
        way_back: "As long as the cluster or a backup of it exists: give it an HSM again, then connect the store.",
        technique: Some(Technique::ServiceStop),
    },
    Detection {
        kind: Kind::KeyMaterialExpiring,
        id: "key-material-expiring",
        by_default: true,
        severity: Severity::Low,
        activity: Activity::Create,
        title: "Imported key material of a KMS key will expire",
        happened: "will lose its key material",
        meaning: "KMS will delete the imported material when its time is over; from then on nothing under the key can be read.",
        way_back: "At any time, with the same key material at hand: import it again without an expiry.",
        technique: Some(Technique::DataEncryptedForImpact),
    },
    Detection {
        kind: Kind::KeyMaterialRestored,
        id: "key-material-restored",
        by_default: true,
        severity: Severity::Informational,
        activity: Activity::Close,
        title: "Key material of a KMS key imported again",
        happened: "has its key material again",
        meaning: "The key has its imported material, and the material doesn't expire.",
        way_back: "Nothing to undo.",
        technique: None,
    },
    Detection {
        kind: Kind::KeyDeletionCancelled,
        id: "key-deletion-cancelled",
        by_default: true,
        severity: Severity::Informational,
        activity: Activity::Update,
        title: "Deletion of a KMS key cancelled",
        happened: "deletion cancelled, still disabled",
        meaning: "The key won't be deleted, but it is STILL DISABLED: nothing under it can be read until somebody enables it.",
        way_back: "Enable the key.",
        technique: None,
    },
    Detection {
        kind: Kind::KeyEnabled,
        id: "key-enabled",
        by_default: true,
        severity: Severity::Informational,
        activity: Activity::Close,
        title: "KMS key enabled",
        happened: "enabled",
        meaning: "The key can be used again.",
        way_back: "Nothing to undo.",
        technique: None,
    },
    Detection {
        kind: Kind::KeyStoreConnected,
        id: "key-store-connected",
        by_default: true,
        severity: Severity::Informational,
        activity: Activity::Update,
        title: "Custom key store connected",
        happened: "connection started",
        meaning: "KMS is connecting the store; once that succeeds, its keys can be used again.",
        way_back: "Nothing to undo; see whether the connection succeeds.",
        technique: None,
    },
    Detection {
        kind: Kind::KeyLossDenied,
        id: "key-loss-denied",
        by_default: false,
        severity: Severity::Low,
        activity: Activity::Create,
        title: "Attempt to lose a KMS key denied",
        happened: "attempt denied",
        meaning: "Somebody tried and had no permission: a mistake, or someone finding out what they may do.",
        way_back: "Nothing to undo; ask who it was.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::LostKeyUsed,
        id: "lost-key-used",
        by_default: false,
        severity: Severity::High,
        activity: Activity::Update,
        title: "A lost KMS key is still needed",
        happened: "needed while it can't be used",
        meaning: "A cryptographic call failed because the key is disabled or pending deletion: something depends on it.",
        way_back: "As long as the key isn't deleted: cancel the deletion if one is scheduled, then enable the key.",
        technique: Some(Technique::DataEncryptedForImpact),
    },
    Detection {
        kind: Kind::KeyAtRisk,
        id: "key-at-risk",
        by_default: true,
        severity: Severity::Medium,
        activity: Activity::Update,
        title: "KMS key still at risk",
        happened: "still at risk",
        meaning: "The daily look at every key found that this one still can't be used, or is about to be destroyed.",
        way_back: "As long as the key isn't deleted: cancel the deletion if one is scheduled, then enable the key.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::GuardBlind,
        id: "guard-blind",
        by_default: true,
        severity: Severity::High,
        activity: Activity::Create,
        title: "KMS Key Guard can't see, or isn't heard",
        happened: "can't see, or isn't heard",
        meaning: "As long as this lasts, keys can be lost without anybody being told.",
        way_back: "Mend what is named below, then run keyguard doctor.",
        technique: None,
    },
    Detection {
        kind: Kind::GuardTampered,
        id: "guard-tampered",
        by_default: true,
        severity: Severity::Critical,
        activity: Activity::Create,
        title: "KMS Key Guard tampered with",
        happened: "tampered with",
        meaning: "Somebody switched off a part of the guard, or what it sees by: from now on keys can be lost without anybody being told.",
        way_back: "Find out whether it was meant, put the part back, then run keyguard doctor.",
        technique: Some(Technique::ImpairDefenses),
    },
    Detection {
        kind: Kind::GuardTest,
        id: "guard-test",
        by_default: true,
        severity: Severity::Informational,
        activity: Activity::Create,
        title: "TEST of KMS Key Guard",
        happened: "TEST, nothing happened",
        meaning: "Somebody asked the guard to prove that its alerts arrive. This is that alert: no key is in danger.",
        way_back: "Nothing to undo.",
        technique: None,
    },
    Detection {
        kind: Kind::UnreadableSignal,
        id: "unreadable-signal",
        by_default: true,
        severity: Severity::High,
        activity: Activity::Create,
        title: "A KMS event that can't be understood",
        happened: "event can't be understood",
        meaning: "An event of KMS reached the guard and can't be read, so it may be the loss of a key. The raw text is attached.",
        way_back: "Look the event up in CloudTrail and decide.",
        technique: None,
    },
];

impl Kind {
    /// The catalogue's entry.
    pub fn detection(self) -> &'static Detection {
        // A test shows that the catalogue is in the order of the enum.
        CATALOGUE.get(self as usize).unwrap_or(&CATALOGUE[0])
    }
}

/// How bad it is, with OCSF's numbers.
/// <https://schema.ocsf.io/1.5.0/classes/detection_finding>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Informational = 1,
    /// When there is time.
    Low = 2,
    /// Today.
    Medium = 3,
    /// Now.
    High = 4,
    /// Now, and wake others.
    Critical = 5,
}

impl Severity {
    /// All of them, mildest first.
    pub const ALL: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// OCSF's `severity_id`.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The name, as OCSF spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }

    /// This many levels worse, or milder if negative; never past either end.
    pub fn shifted(self, levels: i32) -> Self {
        let id = (i32::from(self.id()) + levels).clamp(1, 5);
        Self::ALL.into_iter().find(|severity| i32::from(severity.id()) == id).unwrap_or(self)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Severity {
    type Err = ();

    /// Reads the name in any case.
    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|severity| severity.name().eq_ignore_ascii_case(name)).ok_or(())
    }
}

/// OCSF's activity: where in the story of a key this finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// The story begins.
    Create = 1,
    /// It goes on.
    Update = 2,
    /// It is over.
    Close = 3,
}

impl Activity {
    /// OCSF's `activity_id`.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The name, as OCSF spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Update => "Update",
            Self::Close => "Close",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_entry_in_order() {
        for (index, detection) in CATALOGUE.iter().enumerate() {
            assert_eq!(detection.kind as usize, index, "{}", detection.id);
            assert_eq!(detection.kind.detection().id, detection.id);
        }
        assert_eq!(Kind::UnreadableSignal as usize + 1, CATALOGUE.len());
    }
}
