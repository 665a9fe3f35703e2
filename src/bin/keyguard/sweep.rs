//! `keyguard sweep`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use kms_key_guard::at_risk::{AtRisk, Sweep};
use kms_key_guard::aws;
use kms_key_guard::finding::Deadline;
use kms_key_guard::key::{KeyArn, LastUsage, Region, Why};
use kms_key_guard::render::digest::table;
use kms_key_guard::render::text::why_unknown;
use kms_key_guard::watch::sweep::sweep;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::ReportFormat;
use crate::credentials::{Access, SIDE_BY_SIDE, progress};

/// Shown below the options.
pub const EXAMPLES: &str = "\
Examples:
  keyguard sweep
  keyguard sweep --region all --profile audit
  keyguard sweep --role-arn arn:aws:iam::111122223333:role/security-audit --format json | jq '.keys[].arn'

It only reads, and keeps to a quarter of KMS's request quotas: 10,000 keys take some 20 seconds. Of those in danger the
first 120 are asked for their last use, two a second.

Exit status: 0 every key was looked at, 2 when one wasn't or the sweep couldn't be done.";

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

/// Looks at every key, and lists those in danger.
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
            ReportFormat::Text => text(&mut out, &swept, &keys, now)?,
        }
        out.flush()?;
        Ok(complain(&swept))
    })
}

fn text(out: &mut impl Write, swept: &[Swept], keys: &[&AtRisk], now: OffsetDateTime) -> io::Result<()> {
    let listed: usize = swept.iter().filter_map(|(_, found)| found.as_ref().ok()).map(|sweep| sweep.listed).sum();
    let named = |key: &KeyArn| if swept.len() > 1 { key.to_string() } else { key.id().to_owned() };
    if !keys.is_empty() {
        for row in table(keys.iter().copied(), now, now, named) {
            writeln!(out, "{row}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "{} of {listed} keys at risk (AWS's own included)", keys.len())
}

/// Says on standard error what wasn't looked at.
fn complain(swept: &[Swept]) -> ExitCode {
    let mut whole = true;
    let mut say = |region: &Region, what: String| {
        whole = false;
        eprintln!("keyguard: {region}: {what}");
    };
    for (region, found) in swept {
        match found {
            Err(why) => say(region, format!("the keys can't be listed: {}", why_unknown(why))),
            Ok(sweep) => {
                if let Some(why) = &sweep.cut_short {
                    say(region, format!("the list of keys isn't whole: {}", why_unknown(why)));
                }
                for (why, keys) in &sweep.missed {
                    let first = keys.first().map(KeyArn::id).unwrap_or_default();
                    say(region, format!("{} not looked at, {first} first: {}", keys.len(), why_unknown(why)));
                }
            }
        }
    }
    ExitCode::from(if whole { 0 } else { 2 })
}

fn document(swept: &[Swept], keys: &[&AtRisk], now: OffsetDateTime) -> Value {
    let regions = swept.iter().map(|(region, found)| match found {
        Err(why) => json!({"region": region.as_str(), "error": why_unknown(why)}),
        Ok(sweep) => {
            let missed = sweep.missed.iter().flat_map(|(why, keys)| {
                keys.iter().map(|key| json!({"arn": key.to_string(), "why": why_unknown(why)}))
            });
            json!({
                "region": region.as_str(),
                "listed": sweep.listed,
                "not_looked_at": missed.collect::<Vec<_>>(),
                "cut_short": sweep.cut_short.as_ref().map(why_unknown),
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
    })
}
