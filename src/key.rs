//! Naming a KMS key, and what is known about it.
//!
//! Commands and links are built from [`KeyArn`] and [`Region`] only. Both are validated when they are made, so
//! text that a caller chose never reaches a shell or a browser.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

/// A partition of AWS: Regions with their own accounts, ARNs and consoles.
#[derive(Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name in ARNs, such as `aws` or `aws-cn`.
    pub name: &'static str,
    /// What its Region names begin with.
    prefixes: &'static [&'static str],
    /// Where its console is; `{region}` stands for the Region. None where it isn't publicly documented.
    console: Option<&'static str>,
}

/// The partitions with their Regions' prefixes, as the SDKs' own `partitions.json` tells them apart; the longest prefix
/// wins, so `us-gov-west-1` isn't taken for `us-`.
static PARTITIONS: [Partition; 8] = [
    Partition {
        name: "aws",
        prefixes: &["us-", "eu-", "ap-", "sa-", "ca-", "me-", "af-", "il-", "mx-"],
        console: Some("https://{region}.console.aws.amazon.com"),
    },
    Partition { name: "aws-cn", prefixes: &["cn-"], console: Some("https://{region}.console.amazonaws.cn") },
    Partition { name: "aws-us-gov", prefixes: &["us-gov-"], console: Some("https://console.amazonaws-us-gov.com") },
    Partition { name: "aws-iso", prefixes: &["us-iso-"], console: None },
    Partition { name: "aws-iso-b", prefixes: &["us-isob-"], console: None },
    Partition { name: "aws-iso-e", prefixes: &["eu-isoe-"], console: None },
    Partition { name: "aws-iso-f", prefixes: &["us-isof-"], console: None },
    Partition { name: "aws-eusc", prefixes: &["eusc-de-"], console: None },
];

/// A Region that AWS's naming allows, in its partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(String);

impl Region {
    /// The name, such as `eu-west-1`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition the Region lies in.
    pub fn partition(&self) -> &'static Partition {
        // A Region is only made from a name that has a partition.
        Self::partition_of(&self.0).unwrap_or(&PARTITIONS[0])
    }

    /// The address of this Region's console, without a closing slash; None where it isn't publicly documented.
    pub fn console(&self) -> Option<String> {
        self.partition().console.map(|address| address.replace("{region}", &self.0))
    }

    fn partition_of(name: &str) -> Option<&'static Partition> {
        let prefixes = PARTITIONS.iter().flat_map(|p| p.prefixes.iter().map(move |prefix| (*prefix, p)));
        let (prefix, partition) =
            prefixes.filter(|(prefix, _)| name.starts_with(prefix)).max_by_key(|(p, _)| p.len())?;
        let (place, number) = name.strip_prefix(prefix)?.split_once('-')?;
        let compass = ["north", "south", "east", "west", "central"];
        let main = compass.iter().find_map(|c| place.strip_prefix(c))?;
        let place_exists = main.is_empty() || compass.contains(&main);
        let number_exists = matches!(number.as_bytes(), [b'1'..=b'9'] | [b'1'..=b'9', b'0'..=b'9']);
        (place_exists && number_exists).then_some(partition)
    }
}

impl FromStr for Region {
    type Err = InvalidReference;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match Self::partition_of(name) {
            Some(_) => Ok(Self(name.to_owned())),
            None => Err(InvalidReference("Region", name.to_owned())),
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that should name a thing of AWS, and doesn't.
#[derive(Debug, thiserror::Error)]
#[error("not a valid {0}: {1:?}")]
pub struct InvalidReference(&'static str, String);

/// Whether this is an account id: twelve digits.
pub fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether this is a key's id as KMS makes them: a UUID, or `mrk-` and 32 hexadecimal digits, in lower case.
pub(crate) fn is_whole_key_id(text: &str) -> bool {
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match text.strip_prefix("mrk-") {
        Some(digits) => hex(digits, 32),
        None => {
            let mut parts = text.split('-');
            [8, 4, 4, 4, 12].into_iter().all(|length| parts.next().is_some_and(|part| hex(part, length)))
                && parts.next().is_none()
        }
    }
}

/// Whether this can be a key's id: a UUID, `mrk-` and 32 hexadecimal digits, or another short name of the same characters.
fn is_key_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The ARN of a KMS key: `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`, every part valid and the partition the Region's own.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id-key-ARN>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyArn {
    region: Region,
    account: String,
    id: String,
}

impl KeyArn {
    /// Puts an ARN together from a Region, an account id and a key id.
    pub fn new(region: &str, account: &str, id: &str) -> Result<Self, InvalidReference> {
        let region = region.parse()?;
        if !is_account_id(account) {
            return Err(InvalidReference("account id", account.to_owned()));
        }
        if !is_key_id(id) {
            return Err(InvalidReference("key id", id.to_owned()));
        }
        Ok(Self { region, account: account.to_owned(), id: id.to_owned() })
    }

    /// The Region the key lives in.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The account that owns the key.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Whether the id is a multi-Region key's, whose related keys in other Regions have the same one.
    /// <https://docs.aws.amazon.com/kms/latest/developerguide/multi-region-keys-overview.html>
    pub fn is_multi_region(&self) -> bool {
        self.id.starts_with("mrk-")
    }

    /// The related key in another Region of the same partition.
    pub fn related(&self, region: &str) -> Option<Self> {
        let related = Self::new(region, &self.account, &self.id).ok()?;
        (related.region.partition() == self.region.partition()).then_some(related)
    }

    /// The key id: the part after `key/`.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl FromStr for KeyArn {
    type Err = InvalidReference;

    fn from_str(arn: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidReference("key ARN", arn.to_owned());
        let mut parts = arn.splitn(6, ':');
        let mut next = || parts.next().ok_or_else(invalid);
        let (prefix, partition, service, region, account, resource) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        let id = resource.strip_prefix("key/").ok_or_else(invalid)?;
        let key = Self::new(region, account, id).map_err(|_| invalid())?;
        if prefix != "arn" || service != "kms" || partition != key.region.partition().name {
            return Err(invalid());
        }
        Ok(key)
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, account, id } = self;
        write!(f, "arn:{}:kms:{region}:{account}:key/{id}", region.partition().name)
    }
}

/// Something the guard tried to learn: known, or unknown with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<T> {
    /// KMS answered.
    Known(T),
    /// KMS didn't, and why.
    Unknown(Why),
}

impl<T> Fact<T> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Why it is unknown, if it is.
    pub fn why_unknown(&self) -> Option<&Why> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(why) => Some(why),
        }
    }
}

/// Why a fact is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Nobody wanted to know: a replay without look-ups, or a finding that isn't about a key.
    NotAsked,
    /// Nobody asked, for there was to be no time for it: `ENRICH_TIMEOUT_MS` is 0.
    NoTime,
    /// The record doesn't name a key that can be asked about.
    NoKey,
    /// The guard's role may not ask, by its own permissions.
    Denied,
    /// No statement of the key policy lets the guard's account ask: IAM permissions don't count for this key.
    DeniedByKeyPolicy,
    /// The key policy forbids the guard's role to ask.
    ForbiddenByKeyPolicy,
    /// No answer within the budget.
    TimedOut,
    /// The time for all look-ups together ran out before this one.
    OutOfTime,
    /// KMS was asked too often.
    Throttled,
    /// KMS knows no such key: it is already gone, or of another account.
    NotFound,
    /// KMS in this Region doesn't offer the operation.
    Unsupported,
    /// There is no way to ask in the key's account: whose role should be assumed isn't certain, or it can't be; in words
    /// that are already inert.
    NoReader(String),
    /// The call failed otherwise; the code or kind of failure.
    Failed(String),
}

impl Why {
    /// Whether there was something to ask, somebody to ask for it, and no answer all the same.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::NotAsked | Self::NoTime | Self::NoKey | Self::Unsupported)
    }
}

/// What KMS says about a key, each fact for itself. What wasn't learnt never stops an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// DescribeKey.
    pub metadata: Fact<KeyMetadata>,
    /// ListAliases for this key, each beginning with `alias/`; the one that has been on it longest first.
    pub aliases: Fact<Vec<String>>,
    /// Since when the first of them has been on the key, if KMS tells.
    pub alias_since: Option<OffsetDateTime>,
    /// ListResourceTags, as key and value.
    pub tags: Fact<Vec<(String, String)>>,
    /// GetKeyLastUsage.
    pub last_usage: Fact<LastUsage>,
    /// ListGrants.
    pub grants: Fact<Grants>,
}

impl KeyFacts {
    /// Every fact unknown for the same reason.
    pub fn unknown(why: Why) -> Self {
        Self {
            metadata: Fact::Unknown(why.clone()),
            aliases: Fact::Unknown(why.clone()),
            alias_since: None,
            tags: Fact::Unknown(why.clone()),
            last_usage: Fact::Unknown(why.clone()),
            grants: Fact::Unknown(why),
        }
    }

    /// The facts by their plain names with the reason each is unknown, if it is; in the order of the alert.
    pub fn gaps(&self) -> [(&'static str, Option<&Why>); 5] {
        [
            ("state", self.metadata.why_unknown()),
            ("aliases", self.aliases.why_unknown()),
            ("tags", self.tags.why_unknown()),
            ("last use", self.last_usage.why_unknown()),
            ("grants", self.grants.why_unknown()),
        ]
    }
}

/// What DescribeKey tells that matters here.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_KeyMetadata.html>
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyMetadata {
    /// KeyState, such as `PendingDeletion`.
    pub state: Option<String>,
    /// Origin: `AWS_KMS`, `EXTERNAL` (imported material), `AWS_CLOUDHSM` or `EXTERNAL_KEY_STORE`.
    pub origin: Option<String>,
    /// KeySpec, such as `SYMMETRIC_DEFAULT` or `RSA_4096`.
    pub spec: Option<String>,
    /// Whether AWS manages the key for a service (KeyManager `AWS`); nobody can delete those.
    pub aws_managed: bool,
    /// The description its owner gave it.
    pub description: Option<String>,
    /// When KMS will delete it, while it is pending deletion.
    pub deletion_date: Option<OffsetDateTime>,
    /// When imported material expires.
    pub valid_to: Option<OffsetDateTime>,
    /// The custom key store it lives in.
    pub custom_key_store_id: Option<String>,
    /// What it is of a multi-Region key.
    pub multi_region: MultiRegion,
    /// Whether it is a symmetric encryption key for imported material, and KMS names none: neither imported nor deleted.
    pub names_no_material: bool,
}

/// A key's part in a multi-Region key.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/multi-region-keys-overview.html>
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MultiRegion {
    /// It is a key of one Region.
    #[default]
    No,
    /// The primary, with its replicas' Regions.
    Primary(Vec<String>),
    /// A replica, with the primary's Region.
    Replica(String),
}

/// When the key was last used, as far as KMS tells.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_GetKeyLastUsage.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastUsage {
    /// Its last successful cryptographic operation.
    Used {
        /// Such as `Decrypt`.
        operation: String,
        /// When.
        at: OffsetDateTime,
    },
    /// Not once since the key was created.
    Never,
    /// Not since KMS began to keep track, which was after the key was created: earlier use is unknown.
    NotSince(OffsetDateTime),
}

/// Who holds grants on the key, and for which resources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// How many were read.
    pub count: usize,
    /// Whether there are more than were read.
    pub more: bool,
    /// The grantees, each once: services or principals, with how many grants each holds.
    pub grantees: Vec<(String, usize)>,
    /// Resources named by the grants' encryption contexts, such as `aws:ebs:id` = `vol-0a1b`; each once.
    pub resources: Vec<(String, String)>,
}

/// Whether a text can be a custom key store's id, such as `cks-1234567890abcdef0`.
pub(crate) fn is_key_store_id(id: &str) -> bool {
    let rest = id.strip_prefix("cks-").unwrap_or_default();
    (1..=64).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether a text can be a CloudHSM cluster's id, such as `cluster-1a23b4cdefg`.
pub(crate) fn is_cluster_id(id: &str) -> bool {
    let rest = id.strip_prefix("cluster-").unwrap_or_default();
    (1..=64).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arn_survives_the_round_trip_in_every_partition() {
        for arn in [
            "arn:aws:kms:eu-west-1:111122223333:key/0f1e2d3c-0000-4000-8000-000000000001",
            "arn:aws:kms:us-west-2:123456789012:key/1",
            "arn:aws:kms:ap-southeast-7:123456789012:key/mrk-0123456789abcdef0123456789abcdef",
            "arn:aws-cn:kms:cn-northwest-1:111122223333:key/0f1e",
            "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/0f1e",
            "arn:aws-iso:kms:us-iso-east-1:111122223333:key/0f1e",
            "arn:aws-eusc:kms:eusc-de-east-1:111122223333:key/0f1e",
        ] {
            assert_eq!(arn.parse::<KeyArn>().unwrap().to_string(), arn);
        }
    }

    #[test]
    fn arn_with_a_wrong_part_is_refused() {
        for arn in [
            "",
            "arn:aws:kms:eu-west-1:111122223333:alias/payments",
            "arn:aws:kms:eu-west-1:111122223333:key/",
            "arn:aws:kms:eu-west-1:11112222333:key/0f1e",
            "arn:aws:kms:eu-nowhere-1:111122223333:key/0f1e",
            "arn:aws:kms:cn-north-1:111122223333:key/0f1e",
            "arn:aws:s3:eu-west-1:111122223333:key/0f1e",
            "arn:aws:kms:eu-west-1:111122223333:key/0f1e; rm -rf /",
            "arn:aws:kms:eu-west-1:111122223333:key/0f1e\n",
            "arn:aws:kms:eu-west-1:111122223333:key/--region",
        ] {
            assert!(arn.parse::<KeyArn>().is_err(), "{arn:?}");
        }
    }

    #[test]
    fn region_that_aws_would_not_name_is_refused() {
        for region in [
            "",
            "mars-north-1",
            "eu-west",
            "eu-west-",
            "eu-west-0",
            "eu-west-123",
            "eu-west-1a",
            "eu-west-1 ",
            "EU-WEST-1",
        ] {
            assert!(region.parse::<Region>().is_err(), "{region:?}");
        }
    }

    #[test]
    fn console_is_the_partitions_own() {
        let console = |region: &str| region.parse::<Region>().unwrap().console();
        assert_eq!(console("eu-west-1").unwrap(), "https://eu-west-1.console.aws.amazon.com");
        assert_eq!(console("cn-north-1").unwrap(), "https://cn-north-1.console.amazonaws.cn");
        assert_eq!(console("us-gov-west-1").unwrap(), "https://console.amazonaws-us-gov.com");
        assert_eq!(console("us-iso-east-1"), None);
    }
}
