//! What KMS itself knows about a key, asked for all at once and within a budget. Best effort: a fact that can't be had
//! is unknown with the reason, and never stops an alert.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::DateTime;
use aws_sdk_kms::types::{
    AliasListEntry, GrantConstraints, GrantListEntry, KeyManagerType, KeyMetadata as Described, KeySpec,
    MultiRegionKeyType, OriginType,
};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use crate::catalogue::Kind;
use crate::finding::{Deadline, Finding, Source};
use crate::key::{Fact, Grants, KeyArn, KeyFacts, KeyMetadata, LastUsage, MultiRegion, Why};

/// How many things KMS is asked at the same time.
pub const LOOK_UPS: usize = 5;

/// How many grants are read at most: three pages of the largest size.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_ListGrants.html>
pub const MOST_GRANTS: usize = GRANT_PAGES * GRANTS_A_PAGE as usize;
const GRANT_PAGES: usize = 3;
const GRANTS_A_PAGE: i32 = 100;

/// How long to wait before KMS is asked again; it doubles every time.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Asks KMS about the finding's key and puts the answers in. Returns within `budget`.
pub async fn enrich(finding: &mut Finding, kms: &Client, budget: Duration) {
    let until = Instant::now() + budget;
    finding.facts = match finding.key() {
        Some(_) if budget.is_zero() => KeyFacts::unknown(Why::NoTime),
        Some(arn) => look_up(kms, arn, until).await,
        None => KeyFacts::unknown(Why::NoKey),
    };
    ask_for_the_end(finding, kms, until).await;
    finding.deadline = deadline(finding);
}

/// KMS is eventually consistent: as long as it contradicts the end of a danger, and there is time, it is asked again.
/// <https://docs.aws.amazon.com/kms/latest/developerguide/accessing-kms.html#programming-eventual-consistency>
async fn ask_for_the_end(finding: &mut Finding, kms: &Client, until: Instant) {
    let mut wait = FIRST_WAIT;
    while finding.awaits_confirmation() && finding.state().is_some() && Instant::now() + wait < until {
        let Some(arn) = finding.key().map(KeyArn::to_string) else { return };
        sleep(wait).await;
        wait *= 2;
        let answer = within(until, async { told(kms.describe_key().key_id(&arn).send().await?.key_metadata) }).await;
        if let Fact::Known(described) = answer {
            finding.facts.metadata = Fact::Known(metadata(described));
        }
    }
}

/// Leaves every fact unknown for this reason.
pub fn go_without(finding: &mut Finding, why: Why) {
    finding.facts = KeyFacts::unknown(why);
    finding.deadline = deadline(finding);
}

/// The deadline after KMS was asked. Of a deletion its own date is better than the record's, and only a computed one gives
/// way to its word that there is no date yet. Any other loss of a key that waits to be deleted takes over that deadline.
fn deadline(finding: &Finding) -> Deadline {
    let awaits_replicas = finding.state() == Some("PendingReplicaDeletion");
    let date = finding.facts.metadata.known().and_then(|metadata| metadata.deletion_date).filter(|_| !awaits_replicas);
    let of_deletion = finding.detection.kind == Kind::KeyDeletionScheduled;
    match (finding.deadline, date) {
        (Deadline::At(_, Source::Estimate | Source::Shortest), _) if of_deletion && awaits_replicas => {
            Deadline::AfterReplicas
        }
        (Deadline::At(..), Some(date)) if of_deletion => Deadline::At(date, Source::Kms),
        (Deadline::None | Deadline::Unknown, _) if !finding.detection.is_loss() || !finding.is_pending_deletion() => {
            finding.deadline
        }
        (Deadline::None | Deadline::Unknown, _) if awaits_replicas => Deadline::AfterReplicas,
        (Deadline::None | Deadline::Unknown, Some(date)) => Deadline::At(date, Source::Kms),
        (Deadline::None, None) => Deadline::Unknown,
        (deadline, _) => deadline,
    }
}

async fn look_up(kms: &Client, arn: &KeyArn, until: Instant) -> KeyFacts {
    let arn = arn.to_string();
    let (metadata, aliases, tags, last_usage, grants) = tokio::join!(
        within(until, async { told(kms.describe_key().key_id(&arn).send().await?.key_metadata).map(metadata) }),
        within(until, async {
            let aliases = told(kms.list_aliases().key_id(&arn).send().await?.aliases)?;
            Ok(longest_first(aliases))
        }),
        within(until, async {
            let tags = told(kms.list_resource_tags().key_id(&arn).send().await?.tags)?;
            Ok(tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)).collect())
        }),
        within(until, last_usage(kms, &arn)),
        grants(kms, &arn, until),
    );
    let (aliases, alias_since) = match aliases {
        Fact::Known((aliases, since)) => (Fact::Known(aliases), since),
        Fact::Unknown(why) => (Fact::Unknown(why), None),
    };
    KeyFacts { metadata, aliases, alias_since, tags, last_usage, grants }
}

/// The aliases, the one that has been on the key longest first, and since when that has been. Whoever attaches one now, or
/// moves one here, doesn't choose what the key is called: CreationDate survives a move, LastUpdatedDate doesn't.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_AliasListEntry.html>
fn longest_first(aliases: Vec<AliasListEntry>) -> (Vec<String>, Option<OffsetDateTime>) {
    let mut dated: Vec<_> = aliases
        .into_iter()
        .filter_map(|alias| {
            let since = alias.last_updated_date.or(alias.creation_date).as_ref().and_then(instant);
            Some((since, alias.alias_name?))
        })
        .collect();
    dated.sort_by_key(|(since, _)| (since.is_none(), *since));
    let since = dated.first().and_then(|(since, _)| *since);
    (dated.into_iter().map(|(_, name)| name).collect(), since)
}

/// What KMS always tells in an answer; one without it is no answer, and not an empty list.
fn told<T>(part: Option<T>) -> Result<T, Why> {
    part.ok_or_else(|| Why::Failed("KMS's answer is empty".into()))
}

/// Waits for one answer, and not longer.
async fn within<T>(until: Instant, answer: impl Future<Output = Result<T, Why>>) -> Fact<T> {
    match timeout_at(until, answer).await {
        Ok(Ok(value)) => Fact::Known(value),
        Ok(Err(why)) => Fact::Unknown(why),
        Err(_) => Fact::Unknown(Why::TimedOut),
    }
}

impl<E: ProvideErrorMetadata, R> From<SdkError<E, R>> for Why {
    fn from(error: SdkError<E, R>) -> Self {
        let Some(service) = error.as_service_error() else {
            return match error {
                SdkError::TimeoutError(_) => Self::TimedOut,
                SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::TimedOut,
                SdkError::DispatchFailure(_) => Self::Failed("KMS couldn't be reached".into()),
                SdkError::ResponseError(_) => Self::Failed("KMS's answer couldn't be read".into()),
                _ => Self::Failed("the request couldn't be made".into()),
            };
        };
        match service.code().unwrap_or("no code") {
            code if code.starts_with("AccessDenied") => {
                // KMS says which: "because no resource-based policy allows …", "with an explicit deny in a …".
                match service.message().unwrap_or_default() {
                    message if message.contains("no resource-based policy allows") => Self::DeniedByKeyPolicy,
                    message if message.contains("explicit deny in a resource-based policy") => {
                        Self::ForbiddenByKeyPolicy
                    }
                    _ => Self::Denied,
                }
            }
            code if code.starts_with("Throttling") || code == "TooManyRequestsException" => Self::Throttled,
            "NotFoundException" => Self::NotFound,
            "UnknownOperationException" | "UnknownOperation" | "InvalidAction" | "UnsupportedOperationException" => {
                Self::Unsupported
            }
            "no code" => Self::Failed("KMS's answer couldn't be read".into()),
            code => Self::Failed(code.to_owned()),
        }
    }
}

pub(crate) fn metadata(key: Described) -> KeyMetadata {
    // Keys of other kinds never have the id.
    let names_material = key.current_key_material_id.is_some() || key.key_spec != Some(KeySpec::SymmetricDefault);
    KeyMetadata {
        names_no_material: key.origin == Some(OriginType::External) && !names_material,
        state: key.key_state.map(|state| state.as_str().to_owned()),
        origin: key.origin.map(|origin| origin.as_str().to_owned()),
        spec: key.key_spec.map(|spec| spec.as_str().to_owned()),
        aws_managed: key.key_manager == Some(KeyManagerType::Aws),
        description: key.description.filter(|description| !description.is_empty()),
        deletion_date: key.deletion_date.as_ref().and_then(instant),
        valid_to: key.valid_to.as_ref().and_then(instant),
        custom_key_store_id: key.custom_key_store_id,
        multi_region: key.multi_region_configuration.map_or(MultiRegion::No, |of| {
            let primary = of.primary_key.and_then(|primary| primary.region).unwrap_or_else(|| "unknown".into());
            match of.multi_region_key_type {
                Some(MultiRegionKeyType::Replica) => MultiRegion::Replica(primary),
                _ => MultiRegion::Primary(
                    of.replica_keys.unwrap_or_default().into_iter().filter_map(|key| key.region).collect(),
                ),
            }
        }),
    }
}

pub(crate) async fn last_usage(kms: &Client, arn: &str) -> Result<LastUsage, Why> {
    let answer = kms.get_key_last_usage().key_id(arn).send().await?;
    let used =
        answer.key_last_usage.as_ref().and_then(|used| Some((used.operation.as_ref()?, used.timestamp.as_ref()?)));
    if let Some((operation, at)) = used {
        let at = instant(at).ok_or_else(|| Why::Failed("the time of the last use can't be read".into()))?;
        return Ok(LastUsage::Used { operation: operation.as_str().to_owned(), at });
    }
    let date = |date: &Option<DateTime>| date.as_ref().and_then(instant);
    match (date(&answer.tracking_start_date), date(&answer.key_creation_date)) {
        (Some(tracked), Some(created)) if created >= tracked => Ok(LastUsage::Never),
        (Some(tracked), _) => Ok(LastUsage::NotSince(tracked)),
        (None, _) => Err(Why::Failed("KMS doesn't say since when it keeps track".into())),
    }
}

/// Reads pages until the limit, the end or the budget; what has been read counts even if a later page fails.
async fn grants(kms: &Client, arn: &str, until: Instant) -> Fact<Grants> {
    let mut read: Vec<GrantListEntry> = Vec::new();
    let mut marker = None;
    for page in 0..GRANT_PAGES {
        let request = kms.list_grants().key_id(arn).limit(GRANTS_A_PAGE).set_marker(marker.take());
        let page_of_grants = async {
            let answer = request.send().await?;
            Ok((told(answer.grants)?, answer.next_marker.filter(|_| answer.truncated)))
        };
        match within(until, page_of_grants).await {
            Fact::Known((grants, next)) => {
                read.extend(grants);
                marker = next;
                if marker.is_none() {
                    return Fact::Known(summary(&read, false));
                }
            }
            Fact::Unknown(why) if page == 0 => return Fact::Unknown(why),
            Fact::Unknown(_) => break,
        }
    }
    Fact::Known(summary(&read, true))
}

fn summary(grants: &[GrantListEntry], more: bool) -> Grants {
    let mut grantees = BTreeMap::<String, usize>::new();
    let mut resources = BTreeSet::new();
    for grant in grants {
        let grantee = grant.grantee_service_principal().or(grant.grantee_principal()).unwrap_or("unnamed");
        *grantees.entry(grantee.to_owned()).or_default() += 1;
        resources.extend(grant.constraints().into_iter().flat_map(named_resources));
    }
    let mut grantees: Vec<_> = grantees.into_iter().collect();
    grantees.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Grants { count: grants.len(), more, grantees, resources: resources.into_iter().collect() }
}

/// AWS services name the resource they use the key for in the encryption context that the grant is limited to, or by
/// its ARN.
fn named_resources(constraints: &GrantConstraints) -> impl Iterator<Item = (String, String)> {
    let contexts = [constraints.encryption_context_subset(), constraints.encryption_context_equals()];
    let pairs = contexts.into_iter().flatten().flatten().map(|(name, value)| (name.clone(), value.clone()));
    pairs.chain(constraints.source_arn().map(|arn| ("aws:SourceArn".to_owned(), arn.to_owned())))
}

fn instant(time: &DateTime) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::from_unix_timestamp(time.secs()).ok()?;
    (1970..=9000).contains(&time.year()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_that_has_been_on_the_key_longest_comes_first_and_one_that_was_moved_here_last() {
        let alias = |name: &str, created: Option<i64>, attached: Option<i64>| {
            let dates = AliasListEntry::builder().set_creation_date(created.map(DateTime::from_secs));
            dates.set_last_updated_date(attached.map(DateTime::from_secs)).alias_name(name).build()
        };
        let (names, since) = longest_first(vec![
            alias("alias/undated", None, None),
            alias("alias/moved", Some(1_000), Some(9_000)),
            alias("alias/old", Some(5_000), None),
        ]);
        assert_eq!(names, ["alias/old", "alias/moved", "alias/undated"]);
        assert_eq!(since, OffsetDateTime::from_unix_timestamp(5_000).ok());
        assert_eq!(longest_first(Vec::new()), (Vec::new(), None));
    }
}
