//! What a finding means where the catalogue's sentence isn't true of the case: of a multi-Region key, of a key store that
//! keeps its keys, and where KMS answers something else than the event says.
//!
//! The words change, the severity doesn't: an answer of KMS may lag behind the event.
//! <https://docs.aws.amazon.com/kms/latest/developerguide/accessing-kms.html#programming-eventual-consistency>

use time::{Duration, OffsetDateTime};

use crate::catalogue::Kind;
use crate::escape::name;
use crate::finding::{Deadline, Finding, Subject};
use crate::key::{MultiRegion, Why};

/// How long after the event KMS may still answer as if it hadn't happened.
const MAY_LAG: Duration = Duration::minutes(5);

/// What a kind of finding means for one of several related keys: the meaning, and the way back.
struct OfRelated(Kind, &'static str, &'static str);

/// Each of the related keys of a multi-Region key has a state, a policy and a copy of imported material of its own, and each
/// decrypts what the others encrypted.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/multi-region-keys-overview.html>
static OF_RELATED: [OfRelated; 8] = [
    OfRelated(
        Kind::KeyDeletionScheduled,
        "The key can't be used in this Region now. When the waiting period ends, KMS deletes it. Its related keys in other \
         Regions decrypt the same data, so data is lost only with the last of them.",
        "Until the waiting period is over: cancel the deletion, then enable the key. After that a replica can be made again \
         from its primary (replicate-key).",
    ),
    OfRelated(
        Kind::KeyDisabled,
        "The key can't be used in this Region from now on. It is a multi-Region key: its related keys in other Regions keep \
         working and decrypt the same data.",
        "At any time: enable the key.",
    ),
    OfRelated(
        Kind::KeyMaterialDeleted,
        "The key lost its imported material in this Region at once, without a waiting period, and can't be used here. It is a \
         multi-Region key: its related keys in other Regions have their own copies of the material and decrypt the same data.",
        "Import the same key material again. Without a copy of it, use a related key that still has it.",
    ),
    OfRelated(
        Kind::KeyMaterialExpired,
        "KMS deleted the key's imported material in this Region because it expired; the key can't be used here. It is a \
         multi-Region key: its related keys in other Regions have their own copies of the material, which may expire too.",
        "Import the same key material again. Without a copy of it, use a related key that still has it.",
    ),
    OfRelated(
        Kind::KeyMaterialExpiring,
        "KMS will delete the imported material in this Region when it expires; from then on the key can't be used here. It is \
         a multi-Region key: its related keys in other Regions have their own copies of the material.",
        "At any time, with the same key material at hand: import it again without an expiry.",
    ),
    OfRelated(
        Kind::KeyDeleted,
        "KMS deleted the key in this Region. It is a multi-Region key: its related keys in other Regions decrypt the same \
         data. If none of them is left, all data that is encrypted under it alone is lost.",
        "If it was a replica: make it again from its primary (replicate-key). If no related key is left: none.",
    ),
    OfRelated(
        Kind::KeyPolicyCutoff,
        "Nobody but the account's root user can use the key in this Region any more. It is a multi-Region key: its related keys \
         in other Regions have their own policies and decrypt the same data.",
        "As long as somebody may call PutKeyPolicy, the root user at the latest: put back a policy that lets the key's users in.",
    ),
    OfRelated(
        Kind::KeyDeletionCancelled,
        "The key won't be deleted, but it is STILL DISABLED in this Region until somebody enables it. Its related keys in \
         other Regions have their own states.",
        "Enable the key.",
    ),
];

/// Makes the words true of this case, as things stand at `now`.
pub fn correct(finding: &mut Finding, now: OffsetDateTime) {
    related_keys(finding);
    contradiction(finding, now);
    if finding.facts.metadata.why_unknown() == Some(&Why::NotFound)
        && finding.is_danger()
        && !matches!(finding.detection.kind, Kind::KeyDeleted | Kind::KeyLossDenied)
    {
        let gone = "KMS knows no such key: it is deleted already, or never was in this account and Region.";
        finding.particulars.push(gone.into());
    }
}

/// What is told of a multi-Region key that still has related keys, or may have.
fn related_keys(finding: &mut Finding) {
    let part = finding.facts.metadata.known().map(|metadata| metadata.multi_region.clone());
    let is_one = match &finding.subject {
        Subject::Key(arn) => arn.is_multi_region(),
        // A key in a Region that isn't known has no ARN here.
        Subject::Unknown { given: Some(given) } => given.starts_with("mrk-") || given.contains(":key/mrk-"),
        _ => false,
    };
    let part = match part {
        Some(MultiRegion::No) | None if !is_one => return,
        // A primary without replicas is the only one.
        Some(MultiRegion::Primary(replicas)) if replicas.is_empty() => return,
        part => part,
    };
    let kind = finding.detection.kind;
    let deletion = kind == Kind::KeyDeletionScheduled || (kind == Kind::KeyAtRisk && finding.is_pending_deletion());
    let mut tell = |text: &str| finding.particulars.push(text.to_owned());
    match (deletion, &part) {
        (true, Some(MultiRegion::Primary(_))) => {
            tell("It is the primary: its waiting period begins when its last replica is deleted.");
        }
        (true, Some(MultiRegion::Replica(_))) => tell(
            "It is a replica. If it is the last one and its primary is scheduled for deletion too, the primary's waiting period begins when this replica is deleted.",
        ),
        (true, _) => tell(
            "Whether it is the primary or a replica isn't known. A replica can be made again from its primary; when the last replica is deleted, the waiting period of a primary that is scheduled for deletion begins.",
        ),
        (false, _) if kind == Kind::KeyDeleted => tell(
            "If it was the last replica of a primary that is scheduled for deletion, the primary's waiting period begins now: check the primary.",
        ),
        (false, _) if matches!(kind, Kind::KeyAtRisk | Kind::LostKeyUsed) => tell(
            "It is a multi-Region key: its related keys in other Regions have their own states, and decrypt the same data.",
        ),
        _ => {}
    }
    if let Some(OfRelated(_, meaning, way_back)) = OF_RELATED.iter().find(|of| of.0 == kind) {
        (finding.meaning, finding.way_back) = (meaning, way_back);
    }
    if matches!(part, Some(MultiRegion::Primary(_))) && deletion {
        finding.way_back = finding.detection.way_back;
    }
    if kind == Kind::KeyDeleted {
        finding.happened = "deleted in this Region".into();
    }
}

/// What KMS answers against the event, if it does.
fn contradiction(finding: &mut Finding, now: OffsetDateTime) {
    let kind = finding.detection.kind;
    let Some(state) = finding.state() else {
        if kind == Kind::KeyMaterialDeleted && finding.material_id().is_some() {
            finding.meaning = "One of the key's imported materials was deleted at once, without a waiting period. If it was \
                               waiting for its rotation, the key stays Enabled and no data is affected; if it was any other, \
                               nothing under the key can be read in this Region.";
            finding.happened = "had one of its key materials deleted".into();
        }
        return;
    };
    let pending = finding.is_pending_deletion();
    let contradicts = match kind {
        Kind::KeyDeletionScheduled => !pending,
        Kind::KeyDisabled | Kind::KeyMaterialDeleted | Kind::KeyMaterialExpired | Kind::LostKeyUsed => {
            state == "Enabled"
        }
        Kind::KeyDeletionCancelled => pending,
        Kind::KeyDeleted => true,
        _ => false,
    };
    if !contradicts {
        return;
    }
    let (shown, may_lag) = (name(state, 64), now - finding.time < MAY_LAG);
    let state = match state {
        "Enabled" => "Enabled",
        "Disabled" => "Disabled",
        _ => "",
    };
    let of_material = matches!(kind, Kind::KeyMaterialDeleted | Kind::KeyMaterialExpired);
    if may_lag && of_material {
        finding.meaning = "KMS deleted imported key material. Whether the key lost material that it uses isn't certain: KMS \
                           still answers that it is Enabled. If what was deleted was waiting for its rotation, no data is \
                           affected; otherwise the key can't be used.";
        finding.happened = "had key material deleted".into();
    }
    finding.particulars.push(match kind {
        _ if may_lag && finding.is_danger() => {
            format!("KMS still answers {shown}; this may lag, or somebody has undone it already.")
        }
        _ if may_lag => format!("But KMS still answers {shown}; this may lag."),
        Kind::KeyDeletionScheduled => format!("KMS knows of no deletion any more: it answers that the key is {shown}."),
        Kind::KeyDeleted => {
            format!("But KMS knows a key with this ID: it is {shown}. Check it (aws kms describe-key).")
        }
        Kind::KeyDeletionCancelled => {
            format!("But KMS says that the key is {shown}: its deletion was scheduled again.")
        }
        _ => format!("KMS says that the key is {shown} now."),
    });
    if may_lag || !finding.is_danger() || kind == Kind::KeyDeleted {
        return;
    }
    finding.deadline = Deadline::Lifted;
    let (happened, meaning, way_back) = match (kind, state) {
        (Kind::KeyDeletionScheduled, "Enabled") => (
            "was scheduled for deletion, is Enabled now",
            "The key was scheduled for deletion. By KMS's answer somebody cancelled that and enabled it: it can be used.",
            "Nothing to undo; find out who scheduled it, and why.",
        ),
        (Kind::KeyDeletionScheduled, "Disabled") => (
            "was scheduled for deletion, is Disabled now",
            "The key was scheduled for deletion. By KMS's answer somebody cancelled that, but it is STILL DISABLED: it can't \
             be used until somebody enables it.",
            "Enable the key.",
        ),
        (Kind::KeyDeletionScheduled, _) => (
            "was scheduled for deletion, no longer is",
            "The key was scheduled for deletion. By KMS's answer somebody cancelled that; the key can't be used all the same.",
            "Find out what keeps it from being used (aws kms describe-key).",
        ),
        (Kind::KeyDisabled, _) => (
            "was disabled, is Enabled now",
            "The key was disabled. By KMS's answer somebody enabled it again: it can be used.",
            "Nothing to undo; find out who disabled it, and why.",
        ),
        (Kind::LostKeyUsed, _) => (
            "was needed while it couldn't be used",
            "A cryptographic call failed because the key was disabled or pending deletion: something depends on it. By KMS's \
             answer it can be used now.",
            "Nothing to undo; make sure that it isn't disabled again.",
        ),
        _ => (
            "had key material deleted, is Enabled now",
            "Imported key material was deleted, and by KMS's answer the key is Enabled and can be used: the material was \
             waiting for its rotation, or the key has its material again.",
            "Nothing to undo; if the deleted material is still wanted for a rotation, import it again.",
        ),
    };
    finding.happened = happened.into();
    (finding.meaning, finding.way_back) = (meaning, way_back);
}

/// What UpdateCustomKeyStore changed if that leaves the keys where they are.
pub struct StoreChange {
    /// For the Subject.
    pub happened: &'static str,
    /// In a sentence.
    pub meaning: &'static str,
    /// In a sentence.
    pub way_back: &'static str,
}

/// The changes that name no other cluster or proxy, by the parameter; the first that was given says what it means.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_UpdateCustomKeyStore.html>
static STORE_CHANGES: [(&str, StoreChange); 3] = [
    (
        "keyStorePassword",
        StoreChange {
            happened: "had its password updated in KMS",
            meaning: "KMS was given the password of the kmsuser in the store's cluster; the record names no other cluster. For \
                      that the store has to be disconnected, and its keys can't be used until it is connected, which takes the \
                      right password.",
            way_back: "Connect the store. If that fails, give KMS the password that the kmsuser has in the cluster.",
        },
    ),
    (
        "xksProxyAuthenticationCredential",
        StoreChange {
            happened: "had its proxy credential updated in KMS",
            meaning: "KMS was given another credential for the store's proxy; the record names no other proxy. The keys can be \
                      used as long as the proxy accepts it.",
            way_back: "If requests to the proxy fail: give KMS a credential that the proxy accepts.",
        },
    ),
    (
        "newCustomKeyStoreName",
        StoreChange {
            happened: "renamed",
            meaning: "The store got another name. The record names no other cluster or proxy, so its keys can be used as before.",
            way_back: "At any time: give the store its old name again.",
        },
    ),
];

/// What such a call changed by its parameters; None if the keys may be elsewhere now, or the record doesn't tell.
pub fn store_change(parameters: &[String]) -> Option<&'static StoreChange> {
    let is = |parameter: &String, name: &str| parameter.eq_ignore_ascii_case(name);
    let mut given = parameters.iter().filter(|parameter| !is(parameter, "customKeyStoreId"));
    if !given.all(|parameter| STORE_CHANGES.iter().any(|(name, _)| is(parameter, name))) {
        return None;
    }
    let found = STORE_CHANGES.iter().find(|(name, _)| parameters.iter().any(|parameter| is(parameter, name)));
    found.map(|(_, change)| change)
}
