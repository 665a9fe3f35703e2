//! `keyguard replay`.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use aws_config::SdkConfig;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use kms_key_guard::assess::{assess, worst_case};
use kms_key_guard::aws;
use kms_key_guard::catalogue::{Kind, Severity};
use kms_key_guard::config::{Rules, TRUSTED_SOURCES_TAKES, is_role};
use kms_key_guard::detect::{OptIns, Settings, detect};
use kms_key_guard::enrich::enrich;
use kms_key_guard::event::Event;
use kms_key_guard::finding::{Finding, Subject};
use kms_key_guard::policy::TrustedSources;
use kms_key_guard::render::{Alert, text};
use kms_key_guard::replay::{self, Replayed, Tally};
use kms_key_guard::tamper;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::terminal::complain;

/// Shown below the options.
pub const EXAMPLES: &str = "\
Examples:
  keyguard replay AWSLogs/111122223333/CloudTrail/eu-west-1/2026/11/
  keyguard replay --format ocsf logs.json.gz | jq .severity
  aws cloudtrail lookup-events --lookup-attributes AttributeKey=EventSource,AttributeValue=kms.amazonaws.com | keyguard replay -
  keyguard replay --format text --enrich --profile audit incident.json
  keyguard replay --fail-on High events.jsonl

It reads CloudTrail's files, EventBridge events, and what wraps either: lookup-events and filter-log-events in any output
format, SQS, SNS, Kinesis, Firehose and CloudWatch Logs, documents of Elastic, Datadog and Splunk, CSV with a column of
records; one after the other or in lists, gzipped or not, UTF-8 or UTF-16. It names what it can't read.

Exit status: 0 done, 1 when --fail-on found something, 2 when something couldn't be read, or nothing was.";

/// How many rows of a table are sorted at a time.
const ROWS: usize = 100_000;
/// How many findings a repeated one is looked for among.
const REMEMBERED: usize = 1_000_000;

/// The options of `replay`.
#[derive(clap::Args)]
pub struct ReplayOptions {
    /// Files, folders, or - for standard input; recognized by their content
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// What to print: a line for each finding by time, or in input order the whole alert, or one OCSF document a line
    #[arg(long, value_enum, default_value_t = ReplayFormat::Table)]
    format: ReplayFormat,
    /// End with status 1 if a finding is at least this severe
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    fail_on: Option<Severity>,
    /// Leave out findings below this severity
    #[arg(long, value_name = "SEVERITY", value_parser = severity, default_value = "Informational")]
    minimum_severity: Severity,
    /// Report denied attempts too
    #[arg(long)]
    report_denied_attempts: bool,
    /// Report uses of lost keys too
    #[arg(long)]
    report_lost_key_use: bool,
    /// A role whose findings are lowered by one severity level; repeatable
    #[arg(long = "expected-principal", value_name = "ROLE-ARN", value_parser = role)]
    expected_principals: Vec<String>,
    /// Report tampering with this guard's parts, by the name of its stack; repeatable. Tampering with trails always is
    #[arg(long = "stack-name", value_name = "NAME")]
    stack_names: Vec<String>,
    /// Report tampering with this part of a guard, by its name or ARN; repeatable
    #[arg(long = "guard-part", value_name = "NAME")]
    guard_parts: Vec<String>,
    /// Networks and organizations that are yours, which key policies are judged by: CIDRs, vpc-…, vpce-…, o-…, with commas
    #[arg(long, value_name = "LIST", value_parser = trusted_sources, default_value = "", hide_default_value = true)]
    trusted_sources: TrustedSources,
    /// Ask KMS about the keys, as they are now, with your AWS credentials
    #[arg(long)]
    enrich: bool,
    /// The profile of your AWS configuration to ask KMS with; it wins over credentials in the environment
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
    table: Table,
    /// What was reported, by event, detection and subject.
    reported: HashSet<Uuid>,
    totals: BTreeMap<Severity, BTreeMap<&'static str, u64>>,
    passed_over: BTreeMap<String, u64>,
    events: u64,
    findings: u64,
    repeated: u64,
    read: bool,
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
                own: None,
            },
            minimum_severity: options.minimum_severity,
            expected_principals: options.expected_principals.clone(),
            ..Rules::default()
        };
        let kms = if options.enrich {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let config = runtime.block_on(aws::operator_config(options.profile.as_deref(), None));
            Some((runtime, config.map_err(io::Error::other)?))
        } else {
            None
        };
        Ok(Self {
            options,
            rules,
            kms,
            table: Table::default(),
            reported: HashSet::new(),
            totals: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            events: 0,
            findings: 0,
            repeated: 0,
            read: false,
        })
    }

    fn run(&mut self) -> io::Result<ExitCode> {
        let mut out = io::BufWriter::new(anstream::stdout().lock());
        let inputs = replay::inputs(&self.options.paths);
        let progress = progress(inputs.len());
        let mut broken = false;
        let judge = Judge { settings: self.rules.settings.clone(), parts: GuardParts::of(self.options) };
        let read = replay::read_all(
            inputs,
            !judge.parts.is_empty(),
            |event| judge.finding(&event),
            |found| {
                match found {
                    Replayed::Event((finding, now)) => self.finding(finding, now, &mut out)?,
                    Replayed::Problem(problem) => {
                        broken = true;
                        progress.suspend(|| complain(&problem.to_string()));
                    }
                    Replayed::End(input, tally) => {
                        if tally.more_problems > 0 {
                            let more = counted(tally.more_problems, "more problem");
                            progress.suspend(|| complain(&format!("{input}: {more}")));
                        }
                        self.end(tally);
                        progress.inc(1);
                    }
                }
                Ok::<_, io::Error>(())
            },
        );
        let read = read.and_then(|()| self.table.print(&mut out)).and_then(|()| self.print_totals(&mut out));
        match read.and_then(|()| out.flush()) {
            // Whoever reads the output has seen enough; the status still tells what was seen until then.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
        progress.finish_and_clear();
        self.print_summary();
        let worst = self.totals.keys().next_back();
        let fails = self.options.fail_on.is_some_and(|limit| worst.is_some_and(|worst| *worst >= limit));
        Ok(ExitCode::from(if broken || !self.read { 2 } else { u8::from(fails) }))
    }

    fn finding(&mut self, mut finding: Finding, now: OffsetDateTime, out: &mut impl Write) -> io::Result<()> {
        self.events += 1;
        self.read = true;
        let identity = identity(&finding);
        if identity.is_some_and(|identity| self.reported.contains(&identity)) {
            self.repeated += 1;
            return Ok(());
        }
        self.look_up(&mut finding);
        finding.assessment = assess(&finding, &self.rules);
        let severity = finding.assessment.severity;
        if worst_case(&finding) < self.rules.minimum_severity {
            return Ok(());
        }
        if self.reported.len() < REMEMBERED {
            self.reported.extend(identity);
        }
        self.findings += 1;
        *self.totals.entry(severity).or_default().entry(finding.detection.id).or_default() += 1;
        match self.options.format {
            ReplayFormat::Table => self.table.add(&finding, now, out),
            ReplayFormat::Text => {
                let rule = if self.findings == 1 { "" } else { "\n========================================\n\n" };
                let alert = Alert::of(&finding, now);
                write!(out, "{rule}{}\n\n{}", alert.subject, alert.text)
            }
            ReplayFormat::Ocsf => writeln!(out, "{}", Alert::of(&finding, now).ocsf),
        }
    }

    fn end(&mut self, tally: Tally) {
        self.events += tally.silent;
        self.read |= tally.read;
        for kind in tally.passed_over {
            *self.passed_over.entry(kind).or_default() += 1;
        }
    }

    /// How many there are of each severity and detection, the worst first: below the table, or where the counts go.
    fn print_totals(&self, out: &mut impl Write) -> io::Result<()> {
        let lines: Vec<_> = self
            .totals
            .iter()
            .rev()
            .map(|(severity, detections)| {
                let of: Vec<_> = detections.iter().map(|(id, count)| format!("{id} {count}")).collect();
                let sum: u64 = detections.values().sum();
                format!("{:<13}  {sum:>6}  {}", severity.name(), of.join(", "))
            })
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        let lines = lines.join("\n");
        match self.options.format {
            ReplayFormat::Table => writeln!(out, "\n{lines}"),
            ReplayFormat::Text | ReplayFormat::Ocsf => {
                eprintln!("{lines}");
                Ok(())
            }
        }
    }

    fn print_summary(&self) {
        /// How many kinds are named: endings are what somebody chose.
        const KINDS: usize = 20;
        let mut summary = format!("{}, {}", counted(self.events, "event"), counted(self.findings, "finding"));
        if self.repeated > 0 {
            summary += &format!(", {} repeated", self.repeated);
        }
        eprintln!("{summary}");
        if self.table.pieces > 1 {
            eprintln!("the table is sorted in pieces of {ROWS} rows");
        }
        if self.reported.len() >= REMEMBERED {
            eprintln!("repeated findings are counted for the first {REMEMBERED} only");
        }
        if !self.passed_over.is_empty() {
            let mut kinds: Vec<_> =
                self.passed_over.iter().take(KINDS).map(|(kind, count)| format!("{count} {kind}")).collect();
            let more: u64 = self.passed_over.values().skip(KINDS).sum();
            if more > 0 {
                kinds.push(format!("{more} others"));
            }
            eprintln!("files passed over: {}", kinds.join(", "));
        }
        if !self.read {
            complain("no event was read");
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

/// What a repeated finding is known by: the event's id, and what is found about what.
fn identity(finding: &Finding) -> Option<Uuid> {
    let event = finding.origin.event_id.as_deref()?;
    let name = format!("{event}\n{}\n{}", finding.detection.id, finding.story());
    Some(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What makes findings of events.
struct Judge {
    settings: Settings,
    parts: GuardParts,
}

impl Judge {
    /// What the guard would have said, seconds after the event: it counts from there.
    fn finding(&self, event: &Event) -> Option<(Finding, OffsetDateTime)> {
        let record_time = event.record().and_then(|record| record.event_time);
        let now = record_time.or(event.envelope.time).unwrap_or_else(OffsetDateTime::now_utc);
        let finding = detect(event, &self.settings, now)?;
        let is_ours = finding.detection.kind != Kind::GuardTampered || self.parts.are_met(&finding, event);
        is_ours.then_some((finding, now))
    }
}

/// The parts of guards that calls on are tampering: EventBridge's rules tell them for the functions, and an archive doesn't.
struct GuardParts {
    stacks: Vec<String>,
    names: Vec<String>,
}

impl GuardParts {
    fn of(options: &ReplayOptions) -> Self {
        Self { stacks: options.stack_names.clone(), names: options.guard_parts.clone() }
    }

    fn is_empty(&self) -> bool {
        self.stacks.is_empty() && self.names.is_empty()
    }

    /// Whether a call was made on a trail, or on one of the parts.
    fn are_met(&self, finding: &Finding, event: &Event) -> bool {
        if matches!(finding.subject, Subject::Guard { kind: "AWS::CloudTrail::Trail", .. }) {
            return true;
        }
        let Some(record) = event.record() else { return false };
        let request = event.raw.get("requestParameters").unwrap_or(&Value::Null);
        tamper::names(record, request).iter().any(|name| {
            let own = name.rsplit(['/', ':']).next().unwrap_or(name);
            self.names.iter().any(|part| part == name || part.rsplit([':', '/']).next() == Some(own))
                || self.stacks.iter().any(|stack| [name, own].iter().any(|name| is_of_stack(name, stack)))
        })
    }
}

/// Whether CloudFormation, or a StackSet, gave the name to a part of the stack, or to the stack.
fn is_of_stack(name: &str, stack: &str) -> bool {
    let name = name.strip_prefix("StackSet-").unwrap_or(name);
    name.strip_prefix(stack).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ':', '.']))
}

fn progress(inputs: usize) -> ProgressBar {
    if inputs < 10 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(inputs as u64).with_style(style)
}

/// The rows of a table, kept until they are sorted.
#[derive(Default)]
struct Table {
    rows: Vec<TableRow>,
    pieces: u64,
}

struct TableRow {
    time: OffsetDateTime,
    severity: Severity,
    cells: [String; 7],
}

/// The heads of the columns, in the order of the cells.
const HEADS: [&str; 7] = ["TIME (UTC)", "SEVERITY", "DETECTION", "ACCOUNT", "REGION", "KEY", "WHO"];
const SEVERITY: usize = 1;

impl Table {
    fn add(&mut self, finding: &Finding, now: OffsetDateTime, out: &mut impl Write) -> io::Result<()> {
        if self.rows.len() == ROWS {
            self.print(out)?;
        }
        let row = text::row(finding, now);
        let severity = finding.assessment.severity;
        let detection = finding.detection.id.to_owned();
        let cells = [row.time, severity.name().to_owned(), detection, row.account, row.region, row.subject, row.who];
        self.rows.push(TableRow { time: finding.time, severity, cells });
        Ok(())
    }

    /// Prints what it has by time, in columns as wide as what is in them.
    fn print(&mut self, out: &mut impl Write) -> io::Result<()> {
        /// Wider cells push the rest of their row aside.
        const WIDEST: usize = 80;
        if self.rows.is_empty() {
            return Ok(());
        }
        self.pieces += 1;
        self.rows.sort_by_key(|row| row.time);
        let mut widths = HEADS.map(str::len);
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(cell.chars().count().min(WIDEST));
            }
        }
        let line = |cells: [&str; 7], style: Style| {
            let mut line = String::new();
            for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
                let style = if at == SEVERITY { style } else { Style::new() };
                line += &format!("{style}{cell:<width$}{style:#}  ");
            }
            line.truncate(line.trim_end().len());
            line
        };
        writeln!(out, "{}", line(HEADS, Style::new()))?;
        for row in self.rows.drain(..) {
            let style = match row.severity {
                Severity::Critical => AnsiColor::Red.on_default().bold(),
                Severity::High => AnsiColor::Red.on_default(),
                Severity::Medium => AnsiColor::Yellow.on_default(),
                Severity::Low | Severity::Informational => Style::new(),
            };
            writeln!(out, "{}", line(row.cells.each_ref().map(String::as_str), style))?;
        }
        Ok(())
    }
}
