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
    /// Whether it reports a danger, not the end of one.
    pub fn is_danger(&self) -> bool {
        self.activity != Activity::Close
            && !matches!(self.kind, Kind::KeyDeletionCancelled | Kind::KeyStoreConnected | Kind::GuardTest)
    }

    /// Whether it reports that a key or key store is lost or about to be; an attempt that failed isn't.
    pub fn is_loss(&self) -> bool {
        let of_no_key = matches!(self.kind, Kind::KeyLossDenied | Kind::UnreadableSignal) || self.is_about_the_guard();
        self.is_danger() && !of_no_key
    }

    /// Whether somebody's call or a service brings it about; the others are what the guard's own checks find, or a
    /// spoke's alarm.
    pub fn is_signalled(&self) -> bool {
        !matches!(self.kind, Kind::KeyAtRisk | Kind::GuardBlind)
    }

    /// Whether it is about the guard itself, not about a key.
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
        meaning: "The key can't be used now. When the waiting period ends, KMS destroys it, and all data encrypted under it is lost.",
        way_back: "Cancel the deletion before the waiting period ends, then enable the key.",
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
        meaning: "The key can't be used until it is enabled again: data encrypted under it can't be read.",
        way_back: "Enable the key. This works at any time.",
        technique: Some(Technique::ServiceStop),
    },
    Detection {
        kind: Kind::KeyMaterialDeleted,
        id: "key-material-deleted",
        by_default: true,
        severity: Severity::Critical,
        activity: Activity::Create,
        title: "Imported key material of a KMS key deleted",
        happened: "imported key material deleted",
        meaning: "The key lost its imported material at once. Data under it can't be read unless the same material is imported again.",
        way_back: "Import the same key material again. Without a copy of it, the data is lost.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::KeyMaterialExpired,
        id: "key-material-expired",
        by_default: true,
        severity: Severity::High,
        activity: Activity::Create,
        title: "Imported key material of a KMS key expired",
        happened: "imported key material expired",
        meaning: "KMS deleted the key's expired material. Data under it can't be read unless the same material is imported again.",
        way_back: "Import the same key material again. Without a copy of it, the data is lost.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::KeyDeleted,
        id: "key-deleted",
        by_default: true,
        severity: Severity::Critical,
        activity: Activity::Update,
        title: "KMS key deleted",
        happened: "permanently deleted",
        meaning: "KMS destroyed the key: all data encrypted under it alone is lost.",
        way_back: "This can't be undone.",
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
        meaning: "No key in this store can be used until the store is connected again.",
        way_back: "Connect the store. This works as long as the cluster or proxy behind it exists.",
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
        meaning: "The store may now point to another cluster or proxy. Keys whose material isn't there can't be used.",
        way_back: "Point the store back to the cluster or proxy that holds its keys' material.",
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
        meaning: "The store was removed from KMS. It held no keys, or KMS would have refused; its cluster or proxy is untouched.",
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
        way_back: "Put back a policy that lets the account in, as a principal that may call PutKeyPolicy. If there is none: AWS Support.",
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
        meaning: "Only the account's root user can use the key now. For everybody else, data encrypted under it can't be read.",
        way_back: "Put back a policy that lets the key's users in, as a principal that may call PutKeyPolicy; the root user can if nobody else can.",
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
        meaning: "If a custom key store uses this cluster and no HSM is left in it, none of the store's keys can be used.",
        way_back: "Add an HSM to the cluster, or restore the cluster from a backup, then connect the store.",
        technique: Some(Technique::ServiceStop),
    },
    Detection {
        kind: Kind::KeyMaterialExpiring,
        id: "key-material-expiring",
        by_default: true,
        severity: Severity::Low,
        activity: Activity::Create,
        title: "Imported key material of a KMS key will expire",
        happened: "imported key material will expire",
        meaning: "KMS deletes the imported material when it expires. From then on, data encrypted under the key can't be read.",
        way_back: "Import the same key material again without an expiry, from your copy of it.",
        technique: Some(Technique::DataEncryptedForImpact),
    },
    Detection {
        kind: Kind::KeyMaterialRestored,
        id: "key-material-restored",
        by_default: true,
        severity: Severity::Informational,
        activity: Activity::Close,
        title: "Key material of a KMS key imported again",
        happened: "key material imported again",
        meaning: "The key has its imported material again, and the material doesn't expire.",
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
        meaning: "The key won't be deleted, but it is STILL DISABLED: it can't be used until somebody enables it.",
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
        meaning: "KMS is connecting the store. Its keys can be used once that succeeds.",
        way_back: "Nothing to undo. Check that the connection succeeds.",
        technique: None,
    },
    Detection {
        kind: Kind::KeyLossDenied,
        id: "key-loss-denied",
        by_default: false,
        severity: Severity::Low,
        activity: Activity::Create,
        title: "Attempt to disable or destroy a KMS key denied",
        happened: "attempt denied",
        meaning: "The call was refused, so nothing was lost. It was a mistake, or somebody is finding out what they may do.",
        way_back: "Nothing to undo. Ask the caller.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::LostKeyUsed,
        id: "lost-key-used",
        by_default: false,
        severity: Severity::High,
        activity: Activity::Update,
        title: "KMS key needed while it can't be used",
        happened: "still needed, but can't be used",
        meaning: "A cryptographic call failed because the key is disabled or pending deletion: something depends on it.",
        way_back: "Cancel the deletion if one is scheduled, then enable the key.",
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
        meaning: "The daily check found that this key can't be used, or is about to be destroyed.",
        way_back: "Cancel the deletion if one is scheduled, then enable the key. This works until the key is deleted.",
        technique: Some(Technique::DataDestruction),
    },
    Detection {
        kind: Kind::GuardBlind,
        id: "guard-blind",
        by_default: true,
        severity: Severity::High,
        activity: Activity::Create,
        title: "KMS Key Guard is blind, or its alerts reach no one",
        happened: "is blind, or its alerts reach no one",
        meaning: "Until this is fixed, a key can be lost without anybody being alerted.",
        way_back: "Fix the cause, then run keyguard doctor.",
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
        meaning: "Somebody switched off or changed a part of the guard. A key can now be lost without anybody being alerted.",
        way_back: "Find out whether this was intended, restore the part, then run keyguard doctor.",
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
        meaning: "Somebody sent this test to prove that alerts arrive. No key is in danger.",
        way_back: "Nothing to do.",
        technique: None,
    },
    Detection {
        kind: Kind::UnreadableSignal,
        id: "unreadable-signal",
        by_default: true,
        severity: Severity::High,
        activity: Activity::Create,
        title: "KMS event that can't be read",
        happened: "event can't be read",
        meaning: "The guard received a KMS event that it can't read. It may report the loss of a key. The raw text is below.",
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
