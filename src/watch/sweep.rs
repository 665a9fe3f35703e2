//! The daily look at every customer key of a Region: which can't be used, and which are about to be destroyed.
//!
//! It keeps to a part of KMS's request quotas, which everybody in the account and Region shares, and the quota of
//! GetKeyLastUsage is 400 times smaller than that of DescribeKey.
//! <https://docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.html>

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_kms::Client;
use futures_util::stream::{self, Stream, StreamExt};
use time::OffsetDateTime;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout_at};

use crate::at_risk::{AtRisk, Sweep};
use crate::enrich;
use crate::key::{Fact, KeyArn, LastUsage, Why};

/// Requests a second to DescribeKey: a quarter of the quota of 2,000.
pub const DESCRIBES_A_SECOND: u32 = 500;
/// Requests a second to ListResourceTags, whose quota is the same.
pub const TAG_LOOKS_A_SECOND: u32 = 500;
/// Requests a second to GetKeyLastUsage: less than half of the quota of 5, so that alerts find some of it left.
pub const USAGE_LOOKS_A_SECOND: u32 = 2;
/// How many keys are asked for their last use, those with the least time left first: a minute's worth.
pub const MOST_USAGE_LOOKS: usize = 120;
/// How many requests of one kind are under way at most.
pub const IN_FLIGHT: usize = 50;
/// How often a request that KMS throttled or failed is tried, each time at half the rate of the time before.
pub const ROUNDS: u32 = 4;
/// How long one request may take, repeats by the SDK included.
const ONE_REQUEST: Duration = Duration::from_secs(5);
/// The wait before the second round; it doubles with every further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The largest pages that KMS gives.
const KEYS_A_PAGE: i32 = 1_000;
const ALIASES_A_PAGE: i32 = 100;

/// Looks at every key of the client's Region, and ends by `until` with what it has by then. `acknowledged` are the ids and
/// ARNs of keys that are disabled on purpose.
///
/// # Errors
/// KMS doesn't list the keys.
pub async fn sweep(kms: &Client, acknowledged: &[String], time: OffsetDateTime, until: Instant) -> Result<Sweep, Why> {
    let (keys, cut_short) = list_keys(kms, until).await?;
    let listed = keys.len();
    let is_listed = |name: &&String| keys.iter().any(|key| key.id() == *name || key.to_string() == **name);
    // Of a list that isn't whole it can't be said what isn't in it.
    let not_found = match cut_short {
        None => acknowledged.iter().filter(|name| !is_listed(name)).cloned().collect(),
        Some(_) => Vec::new(),
    };
    let mut at_risk = Vec::new();
    let mut missed: BTreeMap<String, (Why, Vec<KeyArn>)> = BTreeMap::new();
    let describe = |key: KeyArn| async move {
        let answer = kms.describe_key().key_id(key.to_string()).send().await;
        let metadata = answer?.key_metadata.ok_or_else(|| Why::Failed("KMS's answer is empty".into()))?;
        Ok(enrich::metadata(metadata))
    };
    for (key, answer) in ask(keys, DESCRIBES_A_SECOND, until, describe).await {
        match answer {
            Ok(metadata) => at_risk.extend(AtRisk::of(key, metadata, time)),
            // Gone between the list and the look; that has its own finding.
            Err(Why::NotFound) => {}
            Err(why) => missed.entry(format!("{why:?}")).or_insert_with(|| (why, Vec::new())).1.push(key),
        }
    }
    let in_danger = at_risk.len();
    at_risk.retain(|key: &AtRisk| !key.is_acknowledged(acknowledged, time));
    let acknowledged = in_danger - at_risk.len();
    at_risk.sort_by_cached_key(|key| (key.urgency().0, key.urgency().1, key.arn.to_string()));
    add_context(kms, &mut at_risk, until).await;
    at_risk.retain(|key| !key.never_had_material());
    Ok(Sweep { at_risk, acknowledged, not_found, listed, missed: missed.into_values().collect(), cut_short })
}

/// Every key, page by page. A list that breaks off is better than none.
async fn list_keys(kms: &Client, until: Instant) -> Result<(Vec<KeyArn>, Option<Why>), Why> {
    let (mut keys, mut marker, mut unreadable) = (Vec::new(), None::<String>, 0);
    loop {
        let page = || async { Ok(kms.list_keys().limit(KEYS_A_PAGE).set_marker(marker.clone()).send().await?) };
        match patiently(until, page).await {
            Ok(page) => {
                for key in page.keys.unwrap_or_default() {
                    match key.key_arn.unwrap_or_default().parse::<KeyArn>() {
                        Ok(arn) => keys.push(arn),
                        Err(_) => unreadable += 1,
                    }
                }
                marker = page.next_marker.filter(|_| page.truncated);
                if marker.is_none() {
                    let why = || Why::Failed(format!("{unreadable} keys have ARNs that can't be read"));
                    return Ok((keys, (unreadable > 0).then(why)));
                }
            }
            Err(why) if marker.is_none() => return Err(why),
            Err(why) => return Ok((keys, Some(why))),
        }
    }
}

/// What makes a row readable: aliases, tags, and when the key was last used.
async fn add_context(kms: &Client, at_risk: &mut [AtRisk], until: Instant) {
    if at_risk.is_empty() {
        return;
    }
    let keys = || at_risk.iter().map(|key| key.arn.clone());
    let tags = |key: KeyArn| async move {
        let tags = kms.list_resource_tags().key_id(key.to_string()).send().await?.tags;
        Ok(tags.unwrap_or_default().into_iter().map(|tag| (tag.tag_key, tag.tag_value)).collect::<Vec<_>>())
    };
    let (aliases, tags, usage) = tokio::join!(
        list_aliases(kms, until),
        ask(keys().collect(), TAG_LOOKS_A_SECOND, until, tags),
        last_usage(kms, keys().take(MOST_USAGE_LOOKS), until),
    );
    let mut tags: HashMap<_, _> = tags.into_iter().collect();
    let mut usage: HashMap<_, _> = usage.into_iter().collect();
    for key in at_risk {
        key.facts.aliases = match &aliases {
            Ok(aliases) => Fact::Known(aliases.get(key.arn.id()).cloned().unwrap_or_default()),
            Err(why) => Fact::Unknown(why.clone()),
        };
        if let Some(tags) = tags.remove(&key.arn) {
            key.facts.tags = tags.map_or_else(Fact::Unknown, Fact::Known);
        }
        if let Some(usage) = usage.remove(&key.arn) {
            key.facts.last_usage = usage.map_or_else(Fact::Unknown, Fact::Known);
        }
    }
}

/// The aliases of the whole Region by key id: one request for a hundred of them, where one for each key would be more.
async fn list_aliases(kms: &Client, until: Instant) -> Result<HashMap<String, Vec<String>>, Why> {
    let (mut aliases, mut marker) = (HashMap::<String, Vec<String>>::new(), None::<String>);
    loop {
        let page = || async { Ok(kms.list_aliases().limit(ALIASES_A_PAGE).set_marker(marker.clone()).send().await?) };
        let page = patiently(until, page).await?;
        for alias in page.aliases.unwrap_or_default() {
            if let (Some(name), Some(key)) = (alias.alias_name, alias.target_key_id) {
                aliases.entry(key).or_default().push(name);
            }
        }
        marker = page.next_marker.filter(|_| page.truncated);
        if marker.is_none() {
            return Ok(aliases);
        }
    }
}

/// One after the other, since so few are allowed a second. Where KMS doesn't offer it, refuses it to the guard or hangs, one
/// answer stands for all.
async fn last_usage(
    kms: &Client,
    keys: impl Iterator<Item = KeyArn>,
    until: Instant,
) -> Vec<(KeyArn, Result<LastUsage, Why>)> {
    let (mut answers, mut clock, mut hopeless) = (Vec::new(), clock(USAGE_LOOKS_A_SECOND), None);
    for key in keys {
        let answer = match &hopeless {
            Some(why) => Err(Why::clone(why)),
            None => {
                clock.tick().await;
                within(until, enrich::last_usage(kms, &key.to_string())).await
            }
        };
        if let Err(why @ (Why::Unsupported | Why::Denied | Why::TimedOut | Why::OutOfTime)) = &answer {
            hopeless = Some(why.clone());
        }
        answers.push((key, answer));
    }
    answers
}

/// Asks about every key at this rate, and again, at half the rate, about those for which KMS was too busy.
async fn ask<T, F, A>(mut keys: Vec<KeyArn>, rate: u32, until: Instant, question: F) -> Vec<(KeyArn, Result<T, Why>)>
where
    F: Fn(KeyArn) -> A,
    A: Future<Output = Result<T, Why>>,
{
    let mut answers = Vec::with_capacity(keys.len());
    for round in 0..ROUNDS {
        let once = |key: KeyArn| async {
            let answer = within(until, question(key.clone())).await;
            (key, answer)
        };
        let round_answers: Vec<_> =
            paced(keys.into_iter(), rate >> round).map(once).buffer_unordered(IN_FLIGHT).collect().await;
        keys = Vec::new();
        let last = round + 1 == ROUNDS || Instant::now() >= until;
        for (key, answer) in round_answers {
            match answer {
                Err(why) if !last && may_pass(&why) => keys.push(key),
                answer => answers.push((key, answer)),
            }
        }
        if keys.is_empty() {
            break;
        }
        sleep(FIRST_WAIT * (1 << round)).await;
    }
    answers
}

/// The same for a request that isn't about one key.
async fn patiently<T, F, A>(until: Instant, request: F) -> Result<T, Why>
where
    F: Fn() -> A,
    A: Future<Output = Result<T, Why>>,
{
    let mut round = 0;
    loop {
        let answer = within(until, request()).await;
        round += 1;
        match answer {
            Err(why) if round < ROUNDS && may_pass(&why) => sleep(FIRST_WAIT * (1 << (round - 1))).await,
            answer => return answer,
        }
    }
}

/// Whether asking again later may help.
fn may_pass(why: &Why) -> bool {
    matches!(why, Why::Throttled | Why::TimedOut | Why::Failed(_))
}

/// Waits for one answer, and not longer.
async fn within<T>(until: Instant, answer: impl Future<Output = Result<T, Why>>) -> Result<T, Why> {
    let now = Instant::now();
    if now >= until {
        return Err(Why::OutOfTime);
    }
    timeout_at(until.min(now + ONE_REQUEST), answer).await.unwrap_or(Err(Why::TimedOut))
}

/// The things one by one, at most so many a second.
pub(crate) fn paced<T>(things: impl Iterator<Item = T>, rate: u32) -> impl Stream<Item = T> {
    stream::unfold((things, clock(rate)), |(mut things, mut clock)| async move {
        let thing = things.next()?;
        clock.tick().await;
        Some((thing, (things, clock)))
    })
}

fn clock(rate: u32) -> Interval {
    let mut clock = interval(Duration::from_secs(1) / rate.max(1));
    // What was late isn't made up for by a burst.
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}
