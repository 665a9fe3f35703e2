//! `keyguard sweep`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use kms_key_guard::at_risk::{AtRisk, Sweep};
use kms_key_guard::aws;
use kms_key_guard::finding::{Deadline, Step};
use kms_key_guard::key::{KeyArn, LastUsage, Region, Why};
use kms_key_guard::render::digest::table;
use kms_key_guard::render::remedy::Remedy;
use kms_key_guard::render::text;
use kms_key_guard::watch::sweep::sweep;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::ReportFormat;
use crate::credentials::{Access, SIDE_BY_SIDE, progress};
use crate::terminal::{columns, complain, paragraph, steps};

/// Shown below the options.
pub const EXAMPLES: &str = "\
Examples:
  keyguard sweep
  keyguard sweep --region all --profile audit
  keyguard sweep --role-arn arn:aws:iam::111122223333:role/security-audit --format json | jq '.keys[].arn'

It only reads, and keeps to a quarter of KMS's request quotas: 10,000 keys take some 20 seconds. KMS is asked when the first
120 keys at risk were last used, two a second.

Below the table are the commands that save the keys. Leave out the keys that nobody needs.

Exit status: 0 every key was checked, 2 when one wasn't or the sweep couldn't be done.";

/// How long a Region may take.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// The options of `sweep`.
#[derive(clap::Args)]
pub struct SweepOptions {
    #[command(flatten)]
    access: Access,
    /// What to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

type Swept = (Region, Result<Sweep, Why>);

/// Checks every key, and lists those at risk.
pub fn run(options: &SweepOptions) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (sdk, regions) = options.access.open("keyguard-sweep").await?;
        let (now, progress) = (OffsetDateTime::now_utc(), progress(regions.len()));
        let swept = futures_util::stream::iter(regions).map(|region| {
            let (kms, progress) = (aws::kms_in(&sdk, Some(&region)), &progress);
            async move {
                let found = sweep(&kms, &[], now, Instant::now() + LONGEST).await;
                progress.inc(1);
                (region, found)
            }
        });
        let swept: Vec<Swept> = swept.buffered(SIDE_BY_SIDE).collect().await;
        progress.finish_and_clear();
        let mut keys: Vec<_> =
            swept.iter().filter_map(|(_, found)| found.as_ref().ok()).flat_map(|s| &s.at_risk).collect();
        keys.sort_by_key(|key| key.urgency());
        let mut out = anstream::stdout().lock();
        match options.format {
            ReportFormat::Json => writeln!(out, "{:#}", document(&swept, &keys, now))?,
            ReportFormat::Text => {
                report(&mut out, &swept, &keys, now, |command| options.access.paste(command), columns())?;
            }
        }
        out.flush()?;
        Ok(not_checked(&swept))
    })
}

/// What saves each key, sorted so that what is done to several keys stands together: by danger, then step by step.
fn commands(keys: &[&AtRisk], now: OffsetDateTime) -> Vec<Step> {
    let mut groups: Vec<Vec<Vec<Step>>> = Vec::new();
    for key in keys {
        let steps = Remedy::of(&key.finding(now)).steps;
        let alike = |group: &&mut Vec<Vec<Step>>| {
            group
                .first()
                .is_some_and(|first| first.iter().map(|step| &step.what).eq(steps.iter().map(|step| &step.what)))
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(steps),
            None => groups.push(vec![steps]),
        }
    }
    let mut all: Vec<Step> = Vec::new();
    for group in groups {
        for number in 0..group.first().map_or(0, Vec::len) {
            for step in group.iter().filter_map(|steps| steps.get(number)) {
                // A sentence without a command stands for all of them.
                if step.command.is_some() || all.last() != Some(step) {
                    all.push(step.clone());
                }
            }
        }
    }
    all
}

/// The reason in words, for whoever runs this.
fn reason(why: &Why) -> String {
    match why {
        Why::Denied => "no permission; docs/policies/sweep.json has what sweep needs".to_owned(),
        other => text::why_unknown(other),
    }
}

fn report(
    out: &mut impl Write,
    swept: &[Swept],
    keys: &[&AtRisk],
    now: OffsetDateTime,
    paste: impl Fn(&str) -> String,
    columns: Option<usize>,
) -> io::Result<()> {
    let listed: usize = swept.iter().filter_map(|(_, found)| found.as_ref().ok()).map(|sweep| sweep.listed).sum();
    let named = |key: &KeyArn| if swept.len() > 1 { key.to_string() } else { key.id().to_owned() };
    if !keys.is_empty() {
        for row in table(keys.iter().copied(), now, now, named) {
            writeln!(out, "{row}")?;
        }
        writeln!(out, "\nTo save them:")?;
        steps(out, &commands(keys, now), paste, columns)?;
        writeln!(out)?;
    }
    paragraph(out, 0, &format!("{} of {listed} keys are at risk (AWS's own keys counted)", keys.len()), columns)
}

/// Reports on standard error what wasn't checked.
fn not_checked(swept: &[Swept]) -> ExitCode {
    let mut whole = true;
    let mut say = |region: &Region, what: String| {
        whole = false;
        complain(&format!("{region}: {what}"));
    };
    for (region, found) in swept {
        match found {
            Err(why) => say(region, format!("the keys can't be listed: {}", reason(why))),
            Ok(sweep) => {
                if let Some(why) = &sweep.cut_short {
                    say(region, format!("the list of keys isn't whole: {}", reason(why)));
                }
                for (why, keys) in &sweep.missed {
                    let first = keys.first().map(KeyArn::id).unwrap_or_default();
                    say(region, format!("{} keys not checked, {first} first: {}", keys.len(), reason(why)));
                }
            }
        }
    }
    ExitCode::from(if whole { 0 } else { 2 })
}

fn document(swept: &[Swept], keys: &[&AtRisk], now: OffsetDateTime) -> Value {
    let regions = swept.iter().map(|(region, found)| match found {
        Err(why) => json!({"region": region.as_str(), "error": reason(why)}),
        Ok(sweep) => {
            let missed = sweep
                .missed
                .iter()
                .flat_map(|(why, keys)| keys.iter().map(|key| json!({"arn": key.to_string(), "why": reason(why)})));
            json!({
                "region": region.as_str(),
                "listed": sweep.listed,
                "not_looked_at": missed.collect::<Vec<_>>(),
                "cut_short": sweep.cut_short.as_ref().map(reason),
            })
        }
    });
    json!({
        "keys": keys.iter().map(|key| one(key, now)).collect::<Vec<_>>(),
        "regions": regions.collect::<Vec<_>>(),
    })
}

fn one(key: &AtRisk, now: OffsetDateTime) -> Value {
    let rfc3339 = |time: OffsetDateTime| time.format(&Rfc3339).ok();
    let (until, seconds) = match key.deadline() {
        Deadline::At(at, _) => (rfc3339(at), Some((at - now).whole_seconds())),
        _ => (None, None),
    };
    let last_used = match key.facts.last_usage.known() {
        Some(LastUsage::Used { at, .. }) => rfc3339(*at),
        _ => None,
    };
    let steps = Remedy::of(&key.finding(now)).steps;
    let fix = steps.iter().map(|step| json!({"what": step.what, "command": step.command}));
    json!({
        "arn": key.arn.to_string(),
        "account": key.arn.account(),
        "region": key.arn.region().as_str(),
        "state": key.state(),
        "until": until,
        "seconds_left": seconds,
        "aliases": key.facts.aliases.known(),
        "last_used": last_used,
        "never_used": key.facts.last_usage.known() == Some(&LastUsage::Never),
        "fix": fix.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kms_key_guard::key::KeyMetadata;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-25 06:00 UTC);

    fn key(number: usize, state: &str) -> AtRisk {
        let arn = format!("arn:aws:kms:eu-west-1:111122223333:key/0f1e2d3c-0000-4000-8000-00000000000{number}");
        let deletion_date = (state == "PendingDeletion").then(|| NOW + time::Duration::days(7));
        let metadata = KeyMetadata { state: Some(state.to_owned()), deletion_date, ..KeyMetadata::default() };
        AtRisk::of(arn.parse().unwrap(), metadata, NOW).unwrap()
    }

    #[test]
    fn commands_for_many_keys_stand_together_and_in_the_order_that_works() {
        let all = [key(1, "PendingDeletion"), key(2, "PendingDeletion"), key(3, "Disabled"), key(4, "Disabled")];
        let keys: Vec<_> = all.iter().collect();
        let call = |step: &Step| {
            let words: Vec<_> = step.command.as_deref().unwrap().split(' ').collect();
            format!("{} {}", words[2], words[6].chars().last().unwrap())
        };
        assert_eq!(
            commands(&keys, NOW).iter().map(call).collect::<Vec<_>>(),
            [
                "cancel-key-deletion 1",
                "cancel-key-deletion 2",
                "enable-key 1",
                "enable-key 2",
                "enable-key 3",
                "enable-key 4"
            ]
        );
        let swept = [(
            "eu-west-1".parse().unwrap(),
            Ok(Sweep {
                at_risk: vec![],
                acknowledged: 0,
                not_found: vec![],
                listed: 9,
                missed: vec![],
                cut_short: None,
            }),
        )];
        let mut out = Vec::new();
        report(&mut out, &swept, &keys, NOW, |command| format!("{command} --profile audit"), Some(80)).unwrap();
        let text = anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string();
        assert_eq!(text.matches("Cancel the deletion.").count(), 1, "{text}");
        assert_eq!(text.matches(" --profile audit\n").count(), 6, "{text}");
        assert!(text.ends_with("4 of 9 keys are at risk (AWS's own keys counted)\n"), "{text}");
    }

    #[test]
    fn sentence_without_a_command_is_said_once_for_all_keys() {
        let all = [key(1, "Unavailable"), key(2, "Unavailable"), key(3, "Disabled")];
        let steps = commands(&all.iter().collect::<Vec<_>>(), NOW);
        let (commands, sentences): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.command.is_some());
        assert_eq!((commands.len(), sentences.len()), (1, 1));
    }
}
