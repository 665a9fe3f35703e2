//! `keyguard replay`.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use aws_config::SdkConfig;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use kms_key_guard::assess::assess;
use kms_key_guard::aws;
use kms_key_guard::catalogue::Severity;
use kms_key_guard::config::{Rules, TRUSTED_SOURCES_TAKES, is_role};
use kms_key_guard::detect::{OptIns, Settings, detect};
use kms_key_guard::enrich::enrich;
use kms_key_guard::event::Event;
use kms_key_guard::finding::Finding;
use kms_key_guard::policy::TrustedSources;
use kms_key_guard::render::{Alert, text};
use kms_key_guard::replay::{self, Replayed};
use time::OffsetDateTime;
use tokio::runtime::Runtime;

/// Shown below the options.
pub const EXAMPLES: &str = "\
Examples:
  keyguard replay AWSLogs/111122223333/CloudTrail/eu-west-1/2026/11/
  keyguard replay --format ocsf logs.json.gz | jq .severity
  aws cloudtrail lookup-events --query 'Events[].CloudTrailEvent' --output text | keyguard replay -
  keyguard replay --format text --enrich --profile audit incident.json
  keyguard replay --fail-on High events.jsonl

Exit status: 0 done, 1 when --fail-on found something, 2 when something couldn't be read.";

/// The options of `replay`.
#[derive(clap::Args)]
pub struct ReplayOptions {
    /// Files, folders, or - for standard input: .json, .jsonl, also gzipped
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// What to print: a line for each finding, the whole alert, or one OCSF document a line
    #[arg(long, value_enum, default_value_t = ReplayFormat::Table)]
    format: ReplayFormat,
    /// End with status 1 if a finding is at least this severe
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    fail_on: Option<Severity>,
    /// Leave out what is milder
    #[arg(long, value_name = "SEVERITY", value_parser = severity, default_value = "Informational")]
    minimum_severity: Severity,
    /// Report denied attempts too
    #[arg(long)]
    report_denied_attempts: bool,
    /// Report uses of lost keys too
    #[arg(long)]
    report_lost_key_use: bool,
    /// A role whose doings are rated a level lower; repeatable
    #[arg(long = "expected-principal", value_name = "ROLE-ARN", value_parser = role)]
    expected_principals: Vec<String>,
    /// Networks and organizations that are yours, which key policies are judged by: CIDRs, vpc-…, vpce-…, o-…, with commas
    #[arg(long, value_name = "LIST", value_parser = trusted_sources, default_value = "", hide_default_value = true)]
    trusted_sources: TrustedSources,
    /// Ask KMS about the keys, as they are now, with your AWS credentials
    #[arg(long)]
    enrich: bool,
    /// The profile of your AWS configuration to ask KMS with
    #[arg(long, requires = "enrich")]
    profile: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReplayFormat {
    Table,
    Text,
    Ocsf,
}

fn severity(name: &str) -> Result<Severity, String> {
    name.parse().map_err(|()| "it takes Informational, Low, Medium, High or Critical".to_owned())
}

fn role(arn: &str) -> Result<String, String> {
    let takes = "it takes the ARN of an IAM role, such as arn:aws:iam::111122223333:role/key-admin";
    if is_role(arn) { Ok(arn.to_owned()) } else { Err(takes.to_owned()) }
}

fn trusted_sources(list: &str) -> Result<TrustedSources, String> {
    TrustedSources::read(list).map_err(|held| format!("{held:?} is none of what it takes: {TRUSTED_SOURCES_TAKES}"))
}

/// Runs the files through the detections.
pub fn run(options: &ReplayOptions) -> io::Result<ExitCode> {
    ReplayRun::new(options)?.run()
}

/// One run of `replay`.
struct ReplayRun<'a> {
    options: &'a ReplayOptions,
    rules: Rules,
    kms: Option<(Runtime, SdkConfig)>,
    worst: Option<Severity>,
    events: u64,
    findings: u64,
}

impl<'a> ReplayRun<'a> {
    fn new(options: &'a ReplayOptions) -> io::Result<Self> {
        let rules = Rules {
            settings: Settings {
                opt_ins: OptIns {
                    denied_attempts: options.report_denied_attempts,
                    lost_key_use: options.report_lost_key_use,
                },
                trusted_sources: options.trusted_sources.clone(),
            },
            minimum_severity: options.minimum_severity,
            expected_principals: options.expected_principals.clone(),
            ..Rules::default()
        };
        let kms = if options.enrich {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let config = runtime.block_on(aws::operator_config(options.profile.as_deref(), None));
            Some((runtime, config))
        } else {
            None
        };
        Ok(Self { options, rules, kms, worst: None, events: 0, findings: 0 })
    }

    fn run(&mut self) -> io::Result<ExitCode> {
        let mut out = io::BufWriter::new(anstream::stdout().lock());
        let inputs = replay::inputs(&self.options.paths);
        let progress = progress(inputs.len());
        let mut broken = false;
        let settings = self.rules.settings.clone();
        let read = replay::read_all(
            inputs,
            |event| judge(&event, &settings),
            |found| {
                match found {
                    Replayed::Event((finding, now)) => self.finding(finding, now, &mut out)?,
                    Replayed::Problem(problem) => {
                        broken = true;
                        progress.suspend(|| eprintln!("keyguard: {problem}"));
                    }
                    Replayed::End { silent } => {
                        self.events += silent;
                        progress.inc(1);
                    }
                }
                Ok::<_, io::Error>(())
            },
        );
        match read.and_then(|()| out.flush()) {
            // Whoever reads the output has seen enough; the status still tells what was seen until then.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
        progress.finish_and_clear();
        let s = |count| if count == 1 { "" } else { "s" };
        eprintln!("{} event{}, {} finding{}", self.events, s(self.events), self.findings, s(self.findings));
        let fails = self.options.fail_on.is_some_and(|limit| self.worst.is_some_and(|worst| worst >= limit));
        Ok(ExitCode::from(if broken { 2 } else { u8::from(fails) }))
    }

    fn finding(&mut self, mut finding: Finding, now: OffsetDateTime, out: &mut impl Write) -> io::Result<()> {
        self.events += 1;
        self.look_up(&mut finding);
        finding.assessment = assess(&finding, &self.rules);
        let severity = finding.assessment.severity;
        if finding.worst_case() < self.rules.minimum_severity {
            return Ok(());
        }
        self.findings += 1;
        self.worst = self.worst.max(Some(severity));
        match self.options.format {
            ReplayFormat::Table => row(out, &finding, now, self.findings == 1),
            ReplayFormat::Text => {
                let rule = if self.findings == 1 { "" } else { "\n========================================\n\n" };
                write!(out, "{rule}{}", Alert::of(&finding, now).text)
            }
            ReplayFormat::Ocsf => writeln!(out, "{}", Alert::of(&finding, now).ocsf),
        }
    }

    fn look_up(&self, finding: &mut Finding) {
        /// Nobody waits at 3 a.m. for this one, so KMS gets the time it needs.
        const BUDGET: Duration = Duration::from_secs(10);
        if let Some((runtime, config)) = &self.kms {
            let client = aws::kms_in(config, finding.region());
            runtime.block_on(enrich(finding, &client, BUDGET));
        }
    }
}

/// What the guard would have said, seconds after the event: it counts from there.
fn judge(event: &Event, settings: &Settings) -> Option<(Finding, OffsetDateTime)> {
    let record_time = event.record().and_then(|record| record.event_time);
    let now = record_time.or(event.envelope.time).unwrap_or_else(OffsetDateTime::now_utc);
    Some((detect(event, settings, now)?, now))
}

fn progress(inputs: usize) -> ProgressBar {
    if inputs < 10 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(inputs as u64).with_style(style)
}

fn row(out: &mut impl Write, finding: &Finding, now: OffsetDateTime, first: bool) -> io::Result<()> {
    if first {
        writeln!(out, "{:<20}  {:<13}  {:<24}  {:<48}  WHO", "TIME (UTC)", "SEVERITY", "DETECTION", "KEY")?;
    }
    let severity = finding.assessment.severity;
    let style = match severity {
        Severity::Critical => AnsiColor::Red.on_default().bold(),
        Severity::High => AnsiColor::Red.on_default(),
        Severity::Medium => AnsiColor::Yellow.on_default(),
        Severity::Low | Severity::Informational => Style::new(),
    };
    let line = text::row(finding, now);
    writeln!(
        out,
        "{:<20}  {style}{:<13}{style:#}  {:<24}  {:<48}  {}",
        line.time,
        severity.name(),
        finding.detection.id,
        line.subject,
        line.who
    )
}
