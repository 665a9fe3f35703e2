//! Ends of a danger that KMS hadn't confirmed when the alert function was told of them: it left a line in its log, and the next
//! coverage run sends the all-clear if KMS confirms it now.

use std::collections::BTreeMap;

use aws_sdk_cloudwatchlogs::error::DisplayErrorContext;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::catalogue::{Activity, CATALOGUE, Detection};
use crate::enrich;
use crate::escape::inert;
use crate::finding::{Finding, Subject};
use crate::key::{Fact, KeyArn, KeyFacts, Why};
use crate::watch::Home;

/// How many keys are asked about at most in one run.
const MOST_KEYS: usize = 100;

/// A line that the alert function left.
#[derive(Debug, Deserialize)]
struct Unconfirmed {
    detection: String,
    finding_uid: String,
    uid: String,
}

/// The all-clear for each unconfirmed end of the log since then that KMS confirms now. What it doesn't confirm stays open.
///
/// # Errors
/// Why the log can't be read.
pub(super) async fn confirmed(
    logs: &aws_sdk_cloudwatchlogs::Client,
    kms: &aws_sdk_kms::Client,
    log_group: &str,
    home: &Home,
    since: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<Vec<Finding>, String> {
    let request = logs.filter_log_events().log_group_name(log_group).start_time(since.unix_timestamp() * 1_000);
    let request = request.filter_pattern("{ $.unconfirmed = \"yes\" }");
    let (mut pages, mut open) = (request.into_paginator().send(), BTreeMap::new());
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| inert(&DisplayErrorContext(error).to_string(), 400))?;
        // By story: the last line of each is its state.
        for event in page.events() {
            if let Some((detection, key, uid)) = event.message().and_then(|line| unconfirmed(line, home)) {
                open.insert((key.to_string(), detection.id), (detection, key, uid));
            }
        }
    }
    let mut ends = Vec::new();
    for (detection, key, uid) in open.into_values().take(MOST_KEYS) {
        let Ok(answer) = kms.describe_key().key_id(key.to_string()).send().await else { continue };
        let Some(metadata) = answer.key_metadata.map(enrich::metadata) else { continue };
        let end = end(
            detection,
            key,
            &uid,
            KeyFacts { metadata: Fact::Known(metadata), ..KeyFacts::unknown(Why::NotAsked) },
            now,
        );
        ends.extend((end.activity() == Activity::Close).then_some(end));
    }
    Ok(ends)
}

/// What a line of the alert function's log says, if it is about a key of this account and Region.
fn unconfirmed(line: &str, home: &Home) -> Option<(&'static Detection, KeyArn, String)> {
    let line: Unconfirmed = serde_json::from_str(line).ok()?;
    let ends = |detection: &&Detection| detection.id == line.detection && detection.activity == Activity::Close;
    let detection = CATALOGUE.iter().find(ends)?;
    let key: KeyArn = line.finding_uid.split('#').next()?.parse().ok()?;
    (key.account() == home.account && *key.region() == home.region).then_some((detection, key, line.uid))
}

/// The end itself, under a uid of its own that a second run gives it too.
fn end(detection: &'static Detection, key: KeyArn, uid: &str, facts: KeyFacts, now: OffsetDateTime) -> Finding {
    let (account, region) = (key.account().to_owned(), key.region().clone());
    let mut finding = Finding::noticed(
        detection.kind,
        Subject::Key(key),
        Some(account),
        Some(region),
        now,
        &format!("confirmed\n{uid}"),
    );
    finding.facts = facts;
    finding.particulars.push("KMS now confirms what was reported earlier: the danger is over.".into());
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyMetadata;
    use crate::render::Alert;
    use time::macros::datetime;

    const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/0f1e2d3c";

    fn line(detection: &str, story: &str) -> String {
        format!(
            r#"{{"level":"INFO","message":"alert","detection":"{detection}","finding_uid":"{story}","uid":"u-1","unconfirmed":"yes"}}"#
        )
    }

    fn home() -> Home {
        Home { account: "111122223333".into(), region: "eu-west-1".parse().unwrap() }
    }

    #[test]
    fn line_about_an_end_is_read_and_any_other_is_not() {
        let (detection, key, uid) = unconfirmed(&line("key-enabled", KEY), &home()).unwrap();
        assert_eq!((detection.id, key.to_string().as_str(), uid.as_str()), ("key-enabled", KEY, "u-1"));
        let (detection, key, _) =
            unconfirmed(&line("key-material-restored", &format!("{KEY}#material")), &home()).unwrap();
        assert_eq!((detection.id, key.to_string().as_str()), ("key-material-restored", KEY));
        for other in [
            line("key-disabled", KEY),
            line("key-enabled", "111122223333/eu-west-1/cks-1"),
            line("key-enabled", &KEY.replace("1111", "4444")),
            line("key-enabled", &KEY.replace("eu-west-1", "us-east-1")),
            "START RequestId: 1".into(),
        ] {
            assert!(unconfirmed(&other, &home()).is_none(), "{other}");
        }
    }

    #[test]
    fn end_closes_the_story_only_if_kms_says_enabled() {
        let now = datetime!(2026-11-21 04:00 UTC);
        let state = |state: &str| {
            let metadata = KeyMetadata { state: Some(state.into()), ..KeyMetadata::default() };
            KeyFacts { metadata: Fact::Known(metadata), ..KeyFacts::unknown(Why::NotAsked) }
        };
        let end = |detection, state| {
            let (detection, key, uid) = unconfirmed(&line(detection, KEY), &home()).unwrap();
            super::end(detection, key, &uid, state, now)
        };
        assert_eq!(end("key-enabled", state("Enabled")).activity(), Activity::Close);
        assert_eq!(end("key-enabled", state("Disabled")).activity(), Activity::Update);
        let restored = end("key-material-restored", state("Enabled"));
        assert_eq!(restored.story(), format!("{KEY}#material"));
        assert!(!Alert::of(&restored, now).text.contains("\nWHO\n"), "nobody called");
        assert_eq!(end("key-enabled", state("Enabled")).origin.uid, end("key-enabled", state("Enabled")).origin.uid);
    }
}
