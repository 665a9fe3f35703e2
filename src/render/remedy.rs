//! How to undo it: what to do, in order, with commands that work when pasted.
//!
//! Commands are put together from a parsed key ARN, a known Region, a well-formed key store id and a UUID, and from
//! nothing else; where one of them is missing there is a sentence instead of a command.

use uuid::Uuid;

use crate::catalogue::Kind;
use crate::escape::name;
use crate::finding::{Deadline, Finding, Step, Subject};
use crate::key::{KeyArn, MultiRegion, Region, is_key_store_id};

/// How to undo what a finding reports.
#[derive(Debug, Clone)]
pub struct Remedy {
    /// What restores the key or key store, or fixes the guard, in the order in which it works.
    pub steps: Vec<Step>,
    /// What to do when KMS answers AccessDenied; None where no step could be refused.
    pub if_refused: Option<&'static str>,
    /// Pages to open, each with what it is. Only for what was validated.
    pub links: Vec<(&'static str, String)>,
}

impl Remedy {
    /// Puts it together for this finding.
    pub fn of(finding: &Finding) -> Self {
        let steps = steps(finding);
        Self { if_refused: if_refused(finding, &steps), links: links(finding), steps }
    }
}

fn steps(finding: &Finding) -> Vec<Step> {
    match &finding.subject {
        Subject::Key(arn) => key_steps(finding, arn),
        Subject::KeyStore { id: Some(id), .. } => store_steps(finding, id),
        Subject::Cluster { id } => cluster_steps(finding, id.as_deref()),
        Subject::Guard { .. } => finding.remedy.clone(),
        Subject::KeyStore { id: None, .. } => untrusted(finding, "custom key store"),
        Subject::Unknown { .. } => untrusted(finding, "key"),
    }
}

fn key_steps(finding: &Finding, arn: &KeyArn) -> Vec<Step> {
    let kms = |operation: &str| format!("aws kms {operation} --region {} --key-id {arn}", arn.region());
    let enable = |what: &str| Step::run(what, kms("enable-key"));
    let cancel = || Step::run("Cancel the deletion. The key stays disabled:", kms("cancel-key-deletion"));
    let then_enable = || enable("Then enable it, so that it can be used again:");
    let pending = finding.is_pending_deletion();
    if finding.deadline == Deadline::Lifted {
        return match finding.state() {
            Some("Disabled") => vec![enable("Enable the key:")],
            _ => vec![Step::run("See the key's state:", kms("describe-key"))],
        };
    }
    match finding.detection.kind {
        Kind::KeyDeletionScheduled => {
            let mut steps = vec![cancel(), then_enable()];
            steps.extend(replicate(finding, arn, "If it is a replica and KMS has deleted it already, make it again"));
            steps
        }
        Kind::KeyDisabled | Kind::KeyMaterialRestored if pending => vec![cancel(), then_enable()],
        Kind::KeyMaterialRestored if finding.state() != Some("Disabled") => Vec::new(),
        Kind::KeyDisabled | Kind::KeyDeletionCancelled | Kind::KeyMaterialRestored => vec![enable("Enable the key:")],
        Kind::LostKeyUsed if finding.state() == Some("Disabled") => vec![enable("Enable the key:")],
        Kind::LostKeyUsed => {
            vec![
                Step::run(
                    "If its deletion is scheduled, cancel that. The key stays disabled:",
                    kms("cancel-key-deletion"),
                ),
                then_enable(),
            ]
        }
        Kind::KeyAtRisk if pending => {
            let mut steps = vec![cancel(), then_enable()];
            steps.extend(replicate(finding, arn, "If it is a replica and KMS has deleted it already, make it again"));
            steps
        }
        Kind::KeyAtRisk if finding.state() == Some("Disabled") => vec![enable("Enable the key:")],
        Kind::KeyAtRisk if finding.state() == Some("Unavailable") => connect(finding, arn),
        Kind::KeyAtRisk => import(finding, arn, &kms),
        Kind::KeyMaterialDeleted | Kind::KeyMaterialExpired | Kind::KeyMaterialExpiring => {
            let mut steps = import(finding, arn, &kms);
            if pending {
                steps.insert(0, cancel());
                steps.push(then_enable());
            }
            steps
        }
        Kind::KeyPolicyLockout | Kind::KeyPolicyCutoff => {
            let show = Step::run(
                "Show the current policy:",
                kms("get-key-policy") + " --policy-name default --query Policy --output text",
            );
            let mut steps = if pending { vec![cancel()] } else { Vec::new() };
            steps.push(show);
            // Only what is certain is worth replacing a policy for.
            if finding.happened == finding.detection.happened {
                steps.push(Step::run(
                    "Let the account in again. This replaces the whole policy, so add the other statements that are still needed:",
                    kms("put-key-policy") + &format!(" --policy-name default --policy '{}'", way_in(arn)),
                ));
            } else {
                let what = if finding.detection.kind == Kind::KeyPolicyCutoff {
                    "cuts the key's users off"
                } else {
                    "locks the account out"
                };
                steps.push(Step::say(&format!(
                    "If it {what}, put back the policy that was there before (put-key-policy)."
                )));
            }
            if pending {
                steps.push(Step::run("If the cancellation was refused, cancel again now:", kms("cancel-key-deletion")));
                steps.push(then_enable());
            }
            steps
        }
        Kind::KeyDeleted => {
            const FIND: &str = "Find what was encrypted under it, and restore that from copies under other keys.";
            match replicate(finding, arn, "If it was a replica, make it again") {
                Some(again) => {
                    vec![again, Step::say(&format!("If no related key is left, the key can't be restored. {FIND}"))]
                }
                None => vec![Step::say(&format!("The key can't be restored. {FIND}"))],
            }
        }
        Kind::KeyLossDenied | Kind::UnreadableSignal => look_up(finding),
        _ => Vec::new(),
    }
}

/// Making a deleted replica again; None if the key is none, or is known to be the primary.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_ReplicateKey.html>
fn replicate(finding: &Finding, arn: &KeyArn, when: &str) -> Option<Step> {
    let part = finding.facts.metadata.known().map(|metadata| &metadata.multi_region);
    let primary = match part {
        Some(MultiRegion::Replica(region)) => arn.related(region),
        Some(MultiRegion::Primary(_)) => return None,
        _ if !arn.is_multi_region() => return None,
        _ => None,
    };
    let from = match &primary {
        Some(primary) => format!("--region {} --key-id {primary}", primary.region()),
        None => format!("--region PRIMARY_REGION --key-id {}", arn.id()),
    };
    let where_from = if primary.is_some() { "" } else { ", whose Region takes the place of PRIMARY_REGION" };
    Some(Step::run(
        &format!(
            "{when} from its primary{where_from}. It gets the default key policy (unless you add --policy), no tags and no aliases:"
        ),
        format!("aws kms replicate-key {from} --replica-region {}", arn.region()),
    ))
}

/// Where what GetParametersForImport answers is kept.
const PARAMETERS: &str = " > ImportParameters.json";

/// Encrypts a file under the wrapping key.
macro_rules! wrap {
    ($from:literal, $to:literal) => {
        concat!(
            "openssl pkeyutl -encrypt -in ",
            $from,
            " -out ",
            $to,
            " -inkey WrappingPublicKey.der -keyform DER -pubin -pkeyopt rsa_padding_mode:oaep \
             -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256"
        )
    };
}

/// How key material of a kind is wrapped: the algorithm and the wrapping key's spec, and the commands.
struct Wrapping {
    algorithm: &'static str,
    key_spec: &'static str,
    steps: &'static [(&'static str, &'static str)],
}

/// For all material but RSA private keys, which are too long for it.
static DIRECT: Wrapping = Wrapping {
    algorithm: "RSAES_OAEP_SHA_256",
    key_spec: "RSA_4096",
    steps: &[(
        "Wrap your copy of the same key material (KeyMaterial.bin):",
        wrap!("KeyMaterial.bin", "EncryptedKeyMaterial.bin"),
    )],
};

/// For RSA private keys: under an AES key, and that under the wrapping key.
static OVER_AES: Wrapping = Wrapping {
    algorithm: "RSA_AES_KEY_WRAP_SHA_256",
    key_spec: "RSA_4096",
    steps: &[
        (
            "Wrap your copy of the same private key (KeyMaterial.bin, PKCS #8 in DER) under a new AES key:",
            "openssl rand -out AesKey.bin 32 && openssl enc -id-aes256-wrap-pad -iv A65959A6 \
             -K $(od -An -v -tx1 AesKey.bin | tr -d ' \\n') -in KeyMaterial.bin -out WrappedKeyMaterial.bin",
        ),
        ("Wrap the AES key:", wrap!("AesKey.bin", "WrappedAesKey.bin")),
        ("Put both together:", "cat WrappedAesKey.bin WrappedKeyMaterial.bin > EncryptedKeyMaterial.bin"),
    ],
};

/// For RSA private keys in the China Regions, which don't take the other two.
static IN_CHINA: Wrapping = Wrapping { algorithm: "SM2PKE", key_spec: "SM2", steps: &[] };

/// Importing the same material again, wrapped as the key's spec asks.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_GetParametersForImport.html>
fn import(finding: &Finding, arn: &KeyArn, kms: &impl Fn(&str) -> String) -> Vec<Step> {
    let spec = finding.facts.metadata.known().and_then(|metadata| metadata.spec.as_deref());
    let of_rsa = spec.is_some_and(|spec| spec.starts_with("RSA_"));
    let wrapping = match arn.region().partition().name {
        "aws-cn" if of_rsa => &IN_CHINA,
        _ if of_rsa => &OVER_AES,
        _ => &DIRECT,
    };
    let mut steps = Vec::new();
    let known = |spec: &str| {
        of_rsa || matches!(spec, "SYMMETRIC_DEFAULT" | "SM2") || spec.starts_with("HMAC_") || spec.starts_with("ECC_")
    };
    match spec {
        None => steps.push(Step::run(
            "The key's spec isn't known: see it. If it is RSA_…, the algorithm in step 2 is RSA_AES_KEY_WRAP_SHA_256, and the steps are in the runbook (docs/runbook.md, An RSA private key):",
            kms("describe-key") + " --query KeyMetadata.KeySpec",
        )),
        Some(spec) if !known(spec) => steps.push(Step::say(&format!(
            "How material of the key spec {} is wrapped isn't known to this guard: check the algorithm in the next step in AWS's guide.",
            name(spec, 64)
        ))),
        _ => {}
    }
    let parameters = format!(" --wrapping-algorithm {} --wrapping-key-spec {}", wrapping.algorithm, wrapping.key_spec);
    steps.push(Step::run(
        "Get a wrapping key and an import token, valid for 24 hours:",
        kms("get-parameters-for-import") + &parameters + PARAMETERS,
    ));
    steps.push(Step::run(
        "Take them out of the answer:",
        "jq -r .PublicKey ImportParameters.json | base64 --decode > WrappingPublicKey.der && jq -r .ImportToken ImportParameters.json | base64 --decode > ImportToken.bin".into(),
    ));
    steps.extend(wrapping.steps.iter().map(|(what, command)| Step::run(what, (*command).to_owned())));
    if wrapping.steps.is_empty() {
        steps.push(Step::say("Wrap your copy of the same private key with SM2PKE into EncryptedKeyMaterial.bin, as AWS's guide for the China Regions says."));
    }
    let material = match finding.material_id() {
        Some(id) if finding.state() != Some("Enabled") => {
            format!(" --import-type EXISTING_KEY_MATERIAL --key-material-id {id}")
        }
        _ => String::new(),
    };
    steps.push(Step::run(
        "Import it, without an expiry:",
        kms("import-key-material")
            + " --encrypted-key-material fileb://EncryptedKeyMaterial.bin --import-token fileb://ImportToken.bin --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE"
            + &material,
    ));
    steps
}

/// Connecting the store of a key that is Unavailable.
fn connect(finding: &Finding, arn: &KeyArn) -> Vec<Step> {
    let store = finding.facts.metadata.known().and_then(|metadata| metadata.custom_key_store_id.as_deref());
    match store.filter(|id| is_key_store_id(id)) {
        Some(id) => vec![Step::run(
            "Connect the custom key store that holds the key:",
            format!("aws kms connect-custom-key-store --region {} --custom-key-store-id {id}", arn.region()),
        )],
        None => vec![Step::say("Connect the custom key store that holds the key (connect-custom-key-store).")],
    }
}

/// Who did what to a key, from CloudTrail's own 90 days.
pub(super) fn history(arn: &KeyArn) -> String {
    format!(
        "aws cloudtrail lookup-events --region {} --lookup-attributes AttributeKey=ResourceName,AttributeValue={arn}",
        arn.region()
    )
}

/// The statement that a key policy starts with by default.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html>
fn way_in(arn: &KeyArn) -> String {
    let root = format!("arn:{}:iam::{}:root", arn.region().partition().name, arn.account());
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"EnableIAMUserPermissions","Effect":"Allow","Principal":{{"AWS":"{root}"}},"Action":"kms:*","Resource":"*"}}]}}"#
    )
}

fn store_steps(finding: &Finding, id: &str) -> Vec<Step> {
    let Some(region) = finding.region() else { return untrusted(finding, "custom key store") };
    let kms = |operation: &str| format!("aws kms {operation} --region {region} --custom-key-store-id {id}");
    match finding.detection.kind {
        Kind::KeyStoreDisconnected => vec![
            Step::run("Connect the store:", kms("connect-custom-key-store")),
            Step::run(
                "Wait until its ConnectionState is CONNECTED, which can take 20 minutes:",
                kms("describe-custom-key-stores"),
            ),
        ],
        Kind::KeyStoreConnected => vec![Step::run(
            "Check the connection: ConnectionState becomes CONNECTED, or FAILED with the reason:",
            kms("describe-custom-key-stores"),
        )],
        Kind::KeyStoreChanged if finding.keeps_its_keys => vec![
            Step::run("See the store's ConnectionState and settings:", kms("describe-custom-key-stores")),
            Step::run("If it is DISCONNECTED, connect it:", kms("connect-custom-key-store")),
        ],
        Kind::KeyStoreChanged => {
            let mut steps = vec![Step::run(
                "Show the cluster or proxy that the store points to now:",
                kms("describe-custom-key-stores"),
            )];
            steps.push(Step::say("If that isn't the cluster or proxy that holds its keys, disconnect the store, update it back (update-custom-key-store) and connect it."));
            steps
        }
        Kind::KeyStoreDeleted => {
            vec![Step::say(
                "If the store is still needed, create it again (create-custom-key-store) on the same cluster or proxy, and connect it.",
            )]
        }
        Kind::KeyLossDenied => look_up(finding),
        _ => Vec::new(),
    }
}

/// A cluster that a key store may be on.
fn cluster_steps(finding: &Finding, id: Option<&str>) -> Vec<Step> {
    let (Some(id), Some(region)) = (id, finding.region()) else { return untrusted(finding, "cluster") };
    vec![
        Step::run(
            "Check whether a custom key store uses it (CloudHsmClusterId), and whether that store is still CONNECTED:",
            format!("aws kms describe-custom-key-stores --region {region}"),
        ),
        Step::run(
            "Check whether the cluster has backups:",
            format!("aws cloudhsmv2 describe-backups --region {region} --filters clusterIds={id}"),
        ),
        Step::say(
            "Give it an HSM again (create-hsm); a deleted cluster can only be restored from a backup (create-cluster --source-backup-id). Then connect the store.",
        ),
    ]
}

/// What to do when the record doesn't name the thing in a way that a command may be built from.
fn untrusted(finding: &Finding, thing: &str) -> Vec<Step> {
    let mut steps = vec![Step::say(&format!(
        "The event doesn't name the {thing} in a valid form, so there is no command to paste. Find out which one it is first."
    ))];
    steps.extend(look_up(finding));
    steps
}

fn look_up(finding: &Finding) -> Vec<Step> {
    // CloudTrail has the event in the Region of the call, wherever the key is.
    let Some(region) = finding.origin.region.as_ref() else { return Vec::new() };
    let lookup = |key: &str, value: &str| {
        format!(
            "aws cloudtrail lookup-events --region {region} --lookup-attributes AttributeKey={key},AttributeValue={value}"
        )
    };
    let command = match trail_event(finding) {
        Some(id) => lookup("EventId", &id.to_string()),
        None => lookup("EventSource", "kms.amazonaws.com"),
    };
    vec![Step::run("Look the event up in CloudTrail:", command)]
}

/// CloudTrail's id of the event, if it is one.
fn trail_event(finding: &Finding) -> Option<Uuid> {
    finding.origin.event_id.as_deref().filter(|_| finding.origin.in_cloudtrail)?.parse().ok()
}

fn if_refused(finding: &Finding, steps: &[Step]) -> Option<&'static str> {
    let commands = steps.iter().any(|step| step.command.is_some());
    let lasts = finding.is_danger() && finding.deadline != Deadline::Lifted;
    (commands && lasts && finding.key().is_some() && finding.detection.kind != Kind::KeyLossDenied).then_some(
        "If KMS answers AccessDenied, the key policy may no longer allow it: use a principal that the policy names \
         (aws kms get-key-policy shows them). If there is none, open a case with AWS Support at once.",
    )
}

fn links(finding: &Finding) -> Vec<(&'static str, String)> {
    let page = |region: Option<&Region>, of: &dyn Fn(&Region) -> Option<String>| {
        let region = region?;
        Some(region.console()? + &of(region)?)
    };
    let key = page(finding.key().map(KeyArn::region), &|region| {
        Some(format!("/kms/home?region={region}#/kms/keys/{}", finding.key()?.id()))
    });
    let event = page(finding.origin.region.as_ref(), &|region| {
        Some(format!("/cloudtrailv2/home?region={region}#/events/{}", trail_event(finding)?))
    });
    let runbook = Some(runbook(env!("CARGO_PKG_REPOSITORY"), finding.detection.id));
    let guide = Some(guide(finding.detection.kind).to_owned());
    let links = [("Runbook", runbook), ("Key", key), ("Event", event), ("AWS's guide", guide)];
    links.into_iter().filter_map(|(what, address)| Some((what, address?))).collect()
}

/// The runbook's section, in the repository that `Cargo.toml` names; without one, its place among the project's files.
fn runbook(repository: &str, detection: &str) -> String {
    let place = format!("docs/runbook.md#{detection}");
    match repository {
        "" => place,
        repository => format!("{repository}/blob/v{}/{place}", env!("CARGO_PKG_VERSION")),
    }
}

/// The page of AWS's documentation.
pub fn guide(kind: Kind) -> &'static str {
    match kind {
        Kind::KeyDisabled | Kind::KeyEnabled => {
            "https://docs.aws.amazon.com/kms/latest/developerguide/enabling-keys.html"
        }
        Kind::KeyMaterialDeleted | Kind::KeyMaterialExpired | Kind::KeyMaterialExpiring | Kind::KeyMaterialRestored => {
            "https://docs.aws.amazon.com/kms/latest/developerguide/importing-keys.html"
        }
        Kind::KeyStoreDisconnected
        | Kind::KeyStoreChanged
        | Kind::KeyStoreDeleted
        | Kind::KeyStoreClusterLost
        | Kind::KeyStoreConnected => "https://docs.aws.amazon.com/kms/latest/developerguide/key-store-overview.html",
        Kind::KeyPolicyLockout | Kind::KeyPolicyCutoff => {
            "https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html"
        }
        Kind::UnreadableSignal | Kind::GuardBlind | Kind::GuardTampered | Kind::GuardTest => {
            "https://docs.aws.amazon.com/kms/latest/developerguide/logging-using-cloudtrail.html"
        }
        _ => "https://docs.aws.amazon.com/kms/latest/developerguide/deleting-keys.html",
    }
}

#[cfg(test)]
mod tests {
    use super::runbook;

    #[test]
    fn runbook_is_a_link_where_the_repository_is_known() {
        assert_eq!(runbook("", "key-disabled"), "docs/runbook.md#key-disabled");
        let link = runbook("https://github.com/example/kms-key-guard", "key-disabled");
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!("https://github.com/example/kms-key-guard/blob/v{version}/docs/runbook.md#key-disabled");
        assert_eq!(link, expected);
    }
}
