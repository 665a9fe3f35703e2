//! The order of things in the watch function: tick, look, assess, render, publish, count.
//!
//! It keeps nothing between two runs but the line that each leaves in its own log: what the coverage run before this one
//! found broken is read back from there, so that people hear of it when it breaks, once a day while it lasts, and when it is
//! mended.

mod ends;
pub mod mass;
mod memory;
pub mod sweep;
mod trigger;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_types::SdkConfig;
use futures_util::StreamExt;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use crate::assess::{assess, is_held_back};
use crate::config::WatchConfig;
use crate::coverage::organization::{Roster, roster};
use crate::coverage::{self, Check, Stack, Verdict};
use crate::error::Error;
use crate::escape::{inert, name};
use crate::finding::Finding;
use crate::handler::REPORT_RESERVE;
use crate::key::{Region, is_account_id};
use crate::metrics::{CHECKS_FAILED, DAYS_LEFT, KEYS_IN_DANGER, KEYS_NOT_LOOKED_AT, Metrics, Run};
use crate::publish::Publisher;
use crate::render::Alert;
use crate::render::digest::{Contents, Digest};
use crate::render::mass::MassEvent;
use crate::render::text::why_unknown;
pub use crate::watch::memory::LOOK_BACK;
use crate::watch::memory::Left;
use crate::watch::sweep::{paced, sweep};
use crate::watch::trigger::{ItemFailure, Message, Then};

/// Messages a second to SNS: a third of its smallest quota, 300.
/// <https://docs.aws.amazon.com/general/latest/gr/sns.html>
pub const MESSAGES_A_SECOND: u32 = 100;
/// How many messages are under way at most.
pub const MESSAGES_IN_FLIGHT: usize = 20;
/// How far back the last sweep is looked for, to compare its digest with. Was there none, a digest comes whatever it holds.
pub const DIGEST_LOOK_BACK: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How long one message may take, all attempts included.
const ONE_MESSAGE: Duration = Duration::from_millis(7_500);
/// How long an invocation may take that came without a deadline.
const WITHOUT_DEADLINE: Duration = Duration::from_secs(300);

/// The watch function: its set-up and its clients, made once.
pub struct Watch {
    config: WatchConfig,
    sdk: SdkConfig,
    kms: aws_sdk_kms::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    publisher: Publisher,
    metrics: Metrics,
    /// When the last run that the self-check queue started began. Lambda brings one batch of that queue at a time, so this
    /// instance knows; a new one checks once more.
    self_checked: Mutex<Option<OffsetDateTime>>,
}

/// What the schedule asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Tick {
    look: Task,
    time: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Task {
    Sweep,
    Coverage,
}

/// Why the guard is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It is time.
    Schedule,
    /// The guard or its stack was changed.
    Change,
}

/// Where the function is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The account.
    pub account: String,
    /// The Region.
    pub region: Region,
}

impl Home {
    /// By a function's ARN.
    ///
    /// # Errors
    /// It is none.
    pub fn of_function(arn: &str) -> Result<Self, Error> {
        let mut parts = arn.split(':').skip(3);
        let (region, account) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match region.parse() {
            Ok(region) if is_account_id(account) => Ok(Self { account: account.to_owned(), region }),
            _ => Err(Error::Input { problem: format!("came to the function {}, which is no ARN", name(arn, 200)) }),
        }
    }
}

/// What became of a run; the function's answer.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct WatchOutcome {
    /// `done`; of what a message of the self-check queue started also `given-back`, `seen-before`, or `still-changing`.
    pub outcome: &'static str,
    /// `sweep`, `coverage` or `mass-event`.
    pub look: &'static str,
    /// How many keys there are; of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<usize>,
    /// How many of them are in danger; of a sweep, or of a mass event as the alert function's log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_risk: Option<usize>,
    /// How many couldn't be looked at; of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_looked_at: Option<usize>,
    /// The checks of the guard itself that failed: their ids.
    pub failed: Vec<String>,
    /// How many messages went out.
    pub messages: usize,
    /// Which messages of the self-check queue are to come again; None if it wasn't they that started it.
    #[serde(rename = "batchItemFailures", skip_serializing_if = "Option::is_none")]
    pub again: Option<Vec<ItemFailure>>,
}

impl Watch {
    /// Puts the function together.
    pub fn new(
        config: WatchConfig,
        sdk: SdkConfig,
        kms: aws_sdk_kms::Client,
        sns: aws_sdk_sns::Client,
        metrics: Metrics,
    ) -> Self {
        let (alerts, findings) = (config.alerts_topic.clone(), config.findings_topic.clone());
        let publisher = Publisher::new(sns, alerts, findings, config.chat_topic.clone());
        let logs = aws_sdk_cloudwatchlogs::Client::new(&sdk);
        Self { config, sdk, kms, logs, publisher, metrics, self_checked: Mutex::default() }
    }

    /// Handles one tick of the schedule, or a batch of the self-check queue.
    ///
    /// # Errors
    /// The tick can't be understood, KMS lists no keys, or something couldn't be published; Lambda then repeats it.
    pub async fn handle(&self, invocation: LambdaEvent<Box<RawValue>>) -> Result<WatchOutcome, Diagnostic> {
        let left = invocation.context.deadline().duration_since(SystemTime::now());
        // A deadline that had passed before the function was asked is none: a runtime other than Lambda's.
        let until = Instant::now() + left.unwrap_or(WITHOUT_DEADLINE);
        let place = Home::of_function(&invocation.context.invoked_function_arn)?;
        let done = self.answer(invocation.payload.get(), &place, OffsetDateTime::now_utc(), until).await;
        Ok(done.inspect_err(|cause| error!(cause = %cause, outcome = "failed", "watch"))?)
    }

    /// Does so with the clock and the end of the invocation's time as arguments.
    ///
    /// # Errors
    /// As [`Self::handle`].
    pub async fn answer(
        &self,
        payload: &str,
        place: &Home,
        now: OffsetDateTime,
        until: Instant,
    ) -> Result<WatchOutcome, Error> {
        if let Some(time) = mass::alarm(payload) {
            return self.mass_event(place, time, until).await;
        }
        let (outcome, run) = match trigger::messages(payload) {
            Some(messages) => self.self_check(&messages, place, now, until).await?,
            None => match tick(payload)? {
                (Task::Sweep, time) => self.sweep(place, time, now, until).await?,
                (Task::Coverage, time) => self.coverage(place, time, now, until, Cause::Schedule).await?,
            },
        };
        if let Some(run) = &run {
            self.metrics.run(run);
        }
        info!(
            look = outcome.look,
            time = run.map(|run| run.time),
            keys = outcome.keys,
            at_risk = outcome.at_risk,
            not_looked_at = outcome.not_looked_at,
            failed = outcome.failed.join(", "),
            messages = outcome.messages,
            outcome = outcome.outcome,
            "watch"
        );
        Ok(outcome)
    }

    /// Many keys at once: which, for people. The alarm itself has gone to them as well, on a way of its own.
    async fn mass_event(&self, place: &Home, time: OffsetDateTime, until: Instant) -> Result<WatchOutcome, Error> {
        let since = time - mass::LOOK_BACK;
        // Half of the time is for reading.
        let by = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
        let losses = match self.config.alert_log_group.as_deref() {
            Some(group) => mass::losses(&self.logs, group, since, by).await,
            None => Err("ALERT_LOG_GROUP_NAME isn't set".into()),
        };
        let at_risk = losses.as_ref().ok().map(Vec::len);
        let event = MassEvent { time, since, losses, account: &place.account, region: &place.region };
        self.publisher.tell_people(&event.message(), budget(until)).await?;
        let (outcome, look) = ("done", "mass-event");
        info!(look, at_risk, outcome, "watch");
        Ok(WatchOutcome { outcome, look, at_risk, messages: 1, ..WatchOutcome::default() })
    }

    /// Every key in danger: one digest for people, a finding a key for machines, and reminders on their days.
    async fn sweep(
        &self,
        place: &Home,
        time: OffsetDateTime,
        now: OffsetDateTime,
        until: Instant,
    ) -> Result<(WatchOutcome, Option<Run>), Error> {
        // Half of the time is for looking, half for publishing.
        let looked = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
        let last = memory::last(
            &self.logs,
            &self.config.log_group,
            &self.config.function_name,
            "sweep",
            time,
            DIGEST_LOOK_BACK,
        );
        let (swept, (_, mut checks), spokes, last) = tokio::join!(
            sweep(&self.kms, &self.config.acknowledged, time, looked),
            self.checks(&place.region),
            self.spokes(now, looked),
            last
        );
        checks.extend(spokes);
        let last = last.map(|last| last.and_then(|left| left.digest));
        let swept = swept.map_err(|why| Error::Sweep(why_unknown(&why)))?;
        let findings = swept.at_risk.iter().map(|key| {
            let mut finding = key.finding(time);
            finding.assessment = assess(&finding, &self.config.rules);
            finding
        });
        let findings: Vec<_> = findings.collect();
        let contents = Contents {
            sweep: &swept,
            worst: findings.iter().map(|finding| finding.assessment.severity).max(),
            reminds: findings.iter().any(|finding| self.reminds(finding)),
            checks: &checks,
            last: &last,
            account: &place.account,
            region: &place.region,
            time,
        };
        let (digest, to_remember) = (Digest::of(&contents, now), contents.to_remember());
        let mut results = Vec::new();
        // People first, should time run out.
        if let Some(digest) = &digest {
            results.push(self.publisher.tell_people(digest, budget(until)).await);
        }
        let first_deadline = findings.iter().filter_map(Finding::days_left).min();
        let (wanted, held_back) = self.wanted(findings);
        results.extend(self.publish(&wanted, now, until, |finding| self.reminds(finding)).await);
        let failed = failing(&checks, &[]);
        let values = [
            Some((KEYS_IN_DANGER, swept.at_risk.len() as f64)),
            Some((KEYS_NOT_LOOKED_AT, swept.not_looked_at() as f64)),
            first_deadline.map(|days| (DAYS_LEFT, days as f64)),
            Some((CHECKS_FAILED, failed.len() as f64)),
        ];
        let mut run = run("sweep", time, failed, held_back, values.into_iter().flatten().collect());
        run.digest = to_remember;
        let outcome = WatchOutcome {
            outcome: "done",
            look: "sweep",
            keys: Some(swept.listed),
            at_risk: Some(swept.at_risk.len()),
            not_looked_at: Some(swept.not_looked_at()),
            failed: run.failed.clone(),
            messages: all_taken(results)?,
            ..WatchOutcome::default()
        };
        Ok((outcome, Some(run)))
    }

    /// A coverage run for what the self-check queue holds, unless one has seen it or was a short while ago.
    async fn self_check(
        &self,
        messages: &[Message],
        place: &Home,
        now: OffsetDateTime,
        until: Instant,
    ) -> Result<(WatchOutcome, Option<Run>), Error> {
        let ours = messages.iter().filter(|message| {
            let about = message.is_about(&self.config.stack_name, place);
            about.inspect_err(|why| warn!(why, "a message of the self-check queue is ignored")).is_ok()
        });
        let last = *self.self_checked.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, again) = match trigger::then(ours, last, now) {
            Then::Look => {
                let (outcome, run) = self.coverage(place, now, now, until, Cause::Change).await?;
                if run.is_some() {
                    *self.self_checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                }
                return Ok((WatchOutcome { again: Some(Vec::new()), ..outcome }, run));
            }
            Then::Later => ("given-back", trigger::again(messages)),
            Then::Nothing => ("seen-before", Vec::new()),
        };
        Ok((WatchOutcome { outcome, look: "coverage", again: Some(again), ..WatchOutcome::default() }, None))
    }

    /// What broke since the last coverage run, and what was mended. What still fails is told once a day; after a change of the
    /// guard all is told, that nothing is missing too.
    async fn coverage(
        &self,
        place: &Home,
        time: OffsetDateTime,
        now: OffsetDateTime,
        until: Instant,
        cause: Cause,
    ) -> Result<(WatchOutcome, Option<Run>), Error> {
        let last =
            memory::last(&self.logs, &self.config.log_group, &self.config.function_name, "coverage", time, LOOK_BACK);
        let ((guard, checks), last) = tokio::join!(self.checks(&place.region), last);
        // Its parts are of two versions, and the end of the change starts a check.
        if cause == Cause::Change && guard.as_ref().is_some_and(Stack::is_changing) {
            let outcome = WatchOutcome { outcome: "still-changing", look: "coverage", ..WatchOutcome::default() };
            return Ok((outcome, None));
        }
        let last = last.unwrap_or_else(|why| {
            // Better said twice than not at all.
            warn!(why, "what the last run left can't be read: every check that fails is told again");
            None
        });
        let begun = Left { at: time - LOOK_BACK, failed: Vec::new(), settings: None, digest: None };
        let last = last.unwrap_or(begun);
        let ends = self.ends(place, last.at, now, until).await;
        let again = cause == Cause::Change || day(last.at) != day(time);
        let told: &[String] = if again { &[] } else { &last.failed };
        let mut findings: Vec<_> = changes(&checks, &last.failed, told)
            .into_iter()
            .map(|(check, over)| coverage::finding(check, &place.account, &place.region, time, over))
            .collect();
        if cause == Cause::Change {
            findings.extend(coverage::nothing_missing(&checks, &place.account, &place.region, time));
        }
        let quieter = guard.as_ref().and_then(|guard| coverage::quieter(guard, last.settings.as_deref(), time));
        findings.extend(quieter);
        for finding in &mut findings {
            finding.assessment = assess(finding, &self.config.rules);
        }
        findings.extend(ends);
        let (wanted, held_back) = self.wanted(findings);
        let messages = all_taken(self.publish(&wanted, now, until, |_| true).await)?;
        let failed = failing(&checks, &last.failed);
        let values = vec![(CHECKS_FAILED, failed.len() as f64)];
        let settings = guard.as_ref().map(coverage::settings).or(last.settings);
        let run = Run { settings, ..run("coverage", time, failed, held_back, values) };
        let failed = run.failed.clone();
        let outcome = WatchOutcome { outcome: "done", look: "coverage", failed, messages, ..WatchOutcome::default() };
        Ok((outcome, Some(run)))
    }

    /// Those that are to be published, and how many are held back.
    fn wanted(&self, findings: Vec<Finding>) -> (Vec<Finding>, u64) {
        let all = findings.len();
        let rules = &self.config.rules;
        let wanted: Vec<_> = findings.into_iter().filter(|finding| !is_held_back(finding, rules)).collect();
        let held_back = all - wanted.len();
        (wanted, held_back as u64)
    }

    /// Whether people hear of this key today: as many days are left as one of `REMINDER_DAYS`.
    fn reminds(&self, finding: &Finding) -> bool {
        finding.days_left().is_some_and(|left| self.config.reminder_days.iter().any(|days| i64::from(*days) == left))
    }

    /// Publishes at SNS's pace, to every topic what is for people too. All are tried, whatever becomes of one.
    async fn publish(
        &self,
        findings: &[Finding],
        now: OffsetDateTime,
        until: Instant,
        for_people: impl Fn(&Finding) -> bool,
    ) -> Vec<Result<(), Error>> {
        let for_people = &for_people;
        let publish = |finding| async move {
            let budget = budget(until);
            if for_people(finding) {
                self.publisher.publish(&self.publisher.render(finding, now), budget).await
            } else {
                self.publisher.tell_machines(&Alert::of(finding, now), budget).await
            }
        };
        paced(findings.iter(), MESSAGES_A_SECOND).map(publish).buffer_unordered(MESSAGES_IN_FLIGHT).collect().await
    }

    /// At the hub of an organization: whether all its accounts and Regions are heard.
    async fn spokes(&self, now: OffsetDateTime, until: Instant) -> Option<Check> {
        let heartbeats = self.config.heartbeats.as_deref()?;
        let late = |_| Roster { unknown: vec!["Asking for the spokes took too long.".into()], ..Roster::default() };
        Some(timeout_at(until, roster(&self.sdk, heartbeats, now)).await.unwrap_or_else(late).check())
    }

    /// The checks of the guard itself, but whether its alarms are quiet: those that go off have told so themselves, and
    /// the one about this function is wrong by now.
    async fn checks(&self, region: &Region) -> (Option<Stack>, Vec<Check>) {
        let (guard, mut checks) = coverage::look_in(&self.sdk, region, &self.config.stack_name).await;
        checks.retain(|check| check.about.id != "alarms-quiet");
        (guard, checks)
    }

    /// The ends of dangers that KMS confirms since the last run.
    async fn ends(&self, place: &Home, since: OffsetDateTime, now: OffsetDateTime, until: Instant) -> Vec<Finding> {
        let Some(log_group) = self.config.alert_log_group.as_deref() else { return Vec::new() };
        // Half of the time that is left, so that what broke is told all the same.
        let by = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
        // A line takes a while to be found; whoever hears of an end twice knows it by its uid.
        let ends = ends::confirmed(&self.logs, &self.kms, log_group, place, since - Duration::from_secs(120), now);
        match timeout_at(by, ends).await {
            Ok(Ok(mut ends)) => {
                for end in &mut ends {
                    end.assessment = assess(end, &self.config.rules);
                }
                ends
            }
            Ok(Err(why)) => {
                warn!(why, "what the alert function left can't be read: no all-clear is sent for it");
                Vec::new()
            }
            Err(_) => {
                warn!("asking for the ends of dangers took too long: no all-clear is sent");
                Vec::new()
            }
        }
    }
}

/// The day in UTC.
fn day(time: OffsetDateTime) -> time::Date {
    time.to_offset(UtcOffset::UTC).date()
}

/// The checks to tell of: those that fail and weren't `told` (`false`), and those that failed before and no longer do
/// (`true`). What couldn't be looked at is neither.
fn changes<'a>(checks: &'a [Check], before: &[String], told: &[String]) -> Vec<(&'a Check, bool)> {
    let is_in = |ids: &[String], check: &Check| ids.iter().any(|id| id == check.about.id);
    let news = checks.iter().filter_map(|check| match &check.verdict {
        Verdict::Fail(_) if !is_in(told, check) => Some((check, false)),
        Verdict::Pass(_) | Verdict::Warn(_) if is_in(before, check) => Some((check, true)),
        _ => None,
    });
    news.collect()
}

/// What the next run has to know as failing: what fails, and what failed before and isn't known to be mended.
fn failing(checks: &[Check], before: &[String]) -> Vec<String> {
    let fails = |check: &&Check| matches!(check.verdict, Verdict::Fail(_));
    let mended = |id: &str| {
        let looked_at = |check: &Check| check.about.id == id && !matches!(check.verdict, Verdict::Unknown(_));
        checks.iter().any(looked_at)
    };
    let mut failing: Vec<_> = checks.iter().filter(fails).map(|check| check.about.id.to_owned()).collect();
    failing.extend(before.iter().filter(|id| !mended(id)).cloned());
    failing
}

/// Reads what the schedule sends.
fn tick(payload: &str) -> Result<(Task, OffsetDateTime), Error> {
    let tick: Tick = serde_json::from_str(payload).map_err(|error| Error::Input {
        problem: format!(
            "is {}, which can't be read ({})",
            inert(payload, 200),
            inert(&error.to_string().replace('`', "'"), 200)
        ),
    })?;
    let time = OffsetDateTime::parse(&tick.time, &Rfc3339)
        .map_err(|_| Error::Input { problem: format!("has the time \"{}\"", inert(&tick.time, 100)) })?;
    Ok((tick.look, time))
}

fn run(
    look: &'static str,
    time: OffsetDateTime,
    failed: Vec<String>,
    held_back: u64,
    values: Vec<(&'static str, f64)>,
) -> Run {
    let time = time.format(&Rfc3339).unwrap_or_else(|_| time.to_string());
    Run { look, time, failed, digest: None, settings: None, held_back, values }
}

fn budget(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).saturating_sub(REPORT_RESERVE).min(ONE_MESSAGE)
}

/// How many there were, if all were taken.
fn all_taken(results: Vec<Result<(), Error>>) -> Result<usize, Error> {
    let all = results.len();
    let mut failures = results.into_iter().filter_map(Result::err);
    match failures.next() {
        None => Ok(all),
        Some(cause) => Err(Error::Unpublished { failed: 1 + failures.count(), all, cause: Box::new(cause) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn check(index: usize, verdict: fn(String) -> Verdict) -> Check {
        Check { about: coverage::CHECKS[index], verdict: verdict("It was looked at.".into()), fix: Vec::new() }
    }

    fn id(index: usize) -> String {
        coverage::CHECKS[index].id.to_owned()
    }

    #[test]
    fn what_breaks_is_told_once_and_so_is_its_end() {
        let told = |checks: &[Check], before: &[String]| {
            changes(checks, before, before).into_iter().map(|(check, over)| (check.about.id, over)).collect::<Vec<_>>()
        };
        let (broken, well) = ([check(1, Verdict::Fail)], [check(1, Verdict::Pass)]);
        let name = coverage::CHECKS[1].id;
        assert_eq!(told(&broken, &[]), [(name, false)]);
        assert_eq!(told(&broken, &[id(1)]), []);
        assert_eq!(told(&well, &[id(1)]), [(name, true)]);
        assert_eq!(told(&[check(1, Verdict::Warn)], &[id(1)]), [(name, true)]);
        assert_eq!(told(&well, &[]), []);
        let again = changes(&broken, &[id(1)], &[]);
        assert_eq!(again, [(&broken[0], false)], "once a day, and after a change");
    }

    #[test]
    fn what_cannot_be_looked_at_is_neither_broken_nor_mended() {
        let unknown = [check(1, Verdict::Unknown), check(2, Verdict::Fail)];
        assert_eq!(changes(&unknown, &[id(1), id(2)], &[id(1), id(2)]), []);
        assert_eq!(failing(&unknown, &[id(1), id(3)]), [id(2), id(1), id(3)]);
        assert_eq!(failing(&[check(1, Verdict::Pass), check(3, Verdict::Warn)], &[id(1), id(3)]), Vec::<String>::new());
        assert_eq!(failing(&unknown, &[]), [id(2)]);
    }

    #[test]
    fn only_the_schedules_own_input_is_taken() {
        let (look, time) = tick(r#"{"look": "sweep", "time": "2026-11-22T06:00:00Z"}"#).unwrap();
        assert_eq!((look, time), (Task::Sweep, datetime!(2026-11-22 06:00 UTC)));
        for (wrong, says) in [
            ("", "can't be read"),
            (r#"{"look": "everything", "time": "2026-11-22T06:00:00Z"}"#, "expected 'sweep' or 'coverage'"),
            (r#"{"look": "sweep"}"#, "missing field 'time'"),
            (r#"{"look": "sweep", "time": "<aws.scheduler.scheduled-time>"}"#, "scheduler.scheduled-time"),
            (r#"{"source": "aws.kms", "detail": {}}"#, "missing field 'look'"),
        ] {
            let error = tick(wrong).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(r#"it takes {"look": "sweep" or "coverage""#), "{error}");
        }
    }

    #[test]
    fn place_is_that_of_the_function() {
        let place = Home::of_function("arn:aws:lambda:eu-west-1:111122223333:function:guard-watch").unwrap();
        assert_eq!((place.account.as_str(), place.region.as_str()), ("111122223333", "eu-west-1"));
        assert!(Home::of_function("guard-watch").is_err());
    }
}
