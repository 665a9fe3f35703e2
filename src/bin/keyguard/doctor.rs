//! `keyguard doctor`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::AnsiColor;
use aws_config::SdkConfig;
use futures_util::StreamExt;
use kms_key_guard::coverage::prove::{self, Proof};
use kms_key_guard::coverage::release::{self, Release};
use kms_key_guard::coverage::{self, Check, DEFAULT_NAME, Stack, Verdict, keys};
use kms_key_guard::finding::Step;
use kms_key_guard::key::Region;
use serde_json::{Value, json};

use crate::ReportFormat;
use crate::credentials::{Access, SIDE_BY_SIDE, progress, stack};
use crate::terminal::{beside, columns, complain, paragraph, steps};

/// Shown below the options.
pub const EXAMPLES: &str = "\
Examples:
  keyguard doctor
  keyguard doctor --region eu-west-1 --region us-east-1 --profile audit
  keyguard doctor --region all --format json | jq '.regions[].checks[] | select(.verdict == \"fail\")'
  keyguard doctor --role-arn arn:aws:iam::111122223333:role/security-audit
  keyguard doctor --prove
  keyguard doctor --release kms-key-guard-0.1.0-arm64

It only reads. With --prove it also sends a test through the guard and waits until it is in the stack's proof queue;
whoever is subscribed to the topics gets the test too, with TEST in the Subject.
The test begins at the event bus: that calls to KMS get there is what the checks of the trail are for.

With --region all, a Region without the guard fails if it holds customer keys, and warns if it holds none.

Exit status: 0 every check passed or warns, 1 one failed, 2 none failed and one couldn't be done, or doctor couldn't run.";

/// The options of `doctor`.
#[derive(clap::Args)]
pub struct DoctorOptions {
    /// The guard's CloudFormation stack
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME, value_parser = stack)]
    stack_name: String,
    #[command(flatten)]
    access: Access,
    /// What to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// The folder of an unpacked release: are the deployed functions those, byte for byte?
    #[arg(long, value_name = "FOLDER")]
    release: Option<PathBuf>,
    /// Send a test through the guard, and wait until it arrives
    #[arg(long)]
    prove: bool,
    /// How many seconds to wait for the test
    #[arg(long, value_name = "SECONDS", default_value_t = 120, requires = "prove", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// What was found in one Region.
struct Report {
    region: Region,
    guard: Option<Stack>,
    checks: Vec<Check>,
    proof: Option<Proof>,
}

impl Report {
    fn all(&self) -> impl Iterator<Item = &Check> {
        let legs = self.proof.as_ref().and_then(|proof| proof.legs.as_ref().ok());
        self.checks.iter().chain(legs.into_iter().flatten())
    }

    fn count(&self, verdict: &str) -> usize {
        self.all().filter(|check| check.verdict.name() == verdict).count()
    }

    /// What kept the test from being run.
    fn trouble(&self) -> Option<String> {
        let proof = self.proof.as_ref()?;
        proof.legs.as_ref().err().map(ToString::to_string)
    }
}

/// Checks the guard, and reports what it found.
pub fn run(options: &DoctorOptions) -> io::Result<ExitCode> {
    let release = options.release.as_deref().map(Release::open).transpose().map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (sdk, regions) = options.access.open("keyguard-doctor").await?;
        let mut reports = look(options, &sdk, &regions).await;
        if let Some(release) = &release {
            for report in &mut reports {
                if let Some(guard) = &report.guard {
                    report.checks.push(release::look(&sdk, guard, release).await);
                }
            }
        }
        if options.prove {
            for report in &mut reports {
                prove(options, &sdk, report).await?;
            }
        }
        let mut out = anstream::stdout().lock();
        match options.format {
            ReportFormat::Json => writeln!(out, "{:#}", document(&reports))?,
            ReportFormat::Text => {
                let compact = options.access.everywhere() || reports.len() > 3;
                text(&mut out, &reports, compact, |command| options.access.paste(command), columns())?;
            }
        }
        out.flush()?;
        Ok(status(&reports))
    })
}

fn status(reports: &[Report]) -> ExitCode {
    let interrupted = |report: &Report| {
        report.proof.as_ref().is_some_and(|proof| matches!(proof.legs, Err(prove::ProveError::Interrupted)))
    };
    let any = |verdict: &str| reports.iter().any(|report| report.count(verdict) > 0);
    if reports.iter().any(interrupted) {
        ExitCode::from(130)
    } else if any("fail") {
        ExitCode::FAILURE
    } else if any("unknown") || reports.iter().any(|report| report.trouble().is_some()) {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}

async fn look(options: &DoctorOptions, sdk: &SdkConfig, regions: &[Region]) -> Vec<Report> {
    let progress = progress(regions.len());
    let reports = futures_util::stream::iter(regions).map(|region| {
        let progress = &progress;
        async move {
            let (guard, mut checks) = coverage::look_in(sdk, region, &options.stack_name).await;
            progress.inc(1);
            if options.access.everywhere() {
                excuse(&mut checks);
            }
            Report { region: region.clone(), guard, checks, proof: None }
        }
    });
    let reports = reports.buffered(SIDE_BY_SIDE).collect().await;
    progress.finish_and_clear();
    reports
}

/// Among all Regions, one without customer keys needs no guard yet.
fn excuse(checks: &mut [Check]) {
    if checks.iter().any(|check| *check.about == keys::GUARDED && matches!(check.verdict, Verdict::Pass(_))) {
        for check in checks.iter_mut() {
            if let Verdict::Fail(text) = &check.verdict {
                check.verdict = Verdict::Warn(text.clone());
            }
        }
    }
}

async fn prove(options: &DoctorOptions, sdk: &SdkConfig, report: &mut Report) -> io::Result<()> {
    let Some(guard) = &report.guard else { return Ok(()) };
    if guard.is_spoke() {
        complain(&format!(
            "{} in {} is a spoke, which has no topics: send the test from its hub",
            guard.stack, guard.region
        ));
        return Ok(());
    }
    let interrupted = interrupted()?;
    complain(&format!(
        "sending a test through {} in {}, and waiting up to {} s; subscribers of its topics get it too",
        guard.stack, guard.region, options.timeout
    ));
    let proof = prove::prove(sdk, guard, Duration::from_secs(options.timeout), interrupted).await;
    if let Err(error) = &proof.legs {
        complain(&error.to_string());
    }
    report.proof = Some(proof);
    Ok(())
}

/// Ends when the user or the system asks the program to; listens from the time of the call on.
#[cfg(unix)]
fn interrupted() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn interrupted() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

fn document(reports: &[Report]) -> Value {
    let steps = |steps: &[Step]| -> Vec<Value> {
        steps.iter().map(|step| json!({"what": step.what, "command": step.command})).collect()
    };
    let check = |check: &Check| {
        json!({
            "id": check.about.id,
            "what": check.about.what,
            "verdict": check.verdict.name(),
            "text": check.verdict.text(),
            "fix": steps(&check.fix),
        })
    };
    let regions = reports.iter().map(|report| {
        let mut region = json!({
            "region": report.region.as_str(),
            "account": report.guard.as_ref().map(|guard| guard.account.as_str()),
            "stack": report.guard.as_ref().map(|guard| guard.stack.as_str()),
            "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
        });
        if let (Some(proof), Some(region)) = (&report.proof, region.as_object_mut()) {
            let legs = proof.legs.as_ref();
            region.insert(
                "test".into(),
                json!({
                    "id": proof.id.to_string(),
                    "error": legs.err().map(ToString::to_string),
                    "checks": legs.ok().into_iter().flatten().map(check).collect::<Vec<_>>(),
                }),
            );
        }
        region
    });
    json!({"regions": regions.collect::<Vec<_>>()})
}

/// The checks of each Region; of many, a table of Regions first and then only what isn't well.
fn text(
    out: &mut impl Write,
    reports: &[Report],
    compact: bool,
    paste: impl Fn(&str) -> String,
    columns: Option<usize>,
) -> io::Result<()> {
    if compact {
        table(out, reports, columns)?;
    }
    for report in reports {
        let shown = |check: &&Check| !compact || matches!(check.verdict, Verdict::Unknown(_) | Verdict::Fail(_));
        let checks: Vec<_> = report.all().filter(shown).collect();
        if checks.is_empty() {
            continue;
        }
        if compact {
            writeln!(out)?;
        }
        paragraph(out, 0, &heading(report), columns)?;
        for check in checks {
            one(out, check, &paste, columns)?;
        }
    }
    let total = |verdict: &str| reports.iter().map(|report| report.count(verdict)).sum::<usize>();
    let (passed, warned, unknown, failed) = (total("pass"), total("warn"), total("unknown"), total("fail"));
    writeln!(out, "\n{passed} passed, {warned} warned, {unknown} unknown, {failed} failed")?;
    if reports.iter().flat_map(Report::all).any(|check| check.verdict.text().contains("no permission for")) {
        let policies = "Missing permissions: docs/policies/doctor.json grants all that doctor needs, and \
                        docs/policies/doctor-prove.json what --prove needs.";
        paragraph(out, 0, policies, columns)?;
    }
    Ok(())
}

/// A row for each Region.
fn table(out: &mut impl Write, reports: &[Report], columns: Option<usize>) -> io::Result<()> {
    let head = format!("{:<15} {:>4} {:>4} {:>7} {:>4}  ", "REGION", "PASS", "WARN", "UNKNOWN", "FAIL");
    let width = head.len();
    beside(out, &head, width, "PROBLEMS", columns)?;
    for report in reports {
        let style = match (report.count("fail"), report.count("unknown")) {
            (0, 0) => AnsiColor::Green.on_default(),
            (0, _) => AnsiColor::Yellow.on_default(),
            _ => AnsiColor::Red.on_default(),
        };
        let counts = ["pass", "warn", "unknown", "fail"].map(|verdict| report.count(verdict));
        let [passed, warned, unknown, failed] = counts;
        let head = format!(
            "{style}{:<15}{style:#} {passed:>4} {warned:>4} {unknown:>7} {failed:>4}  ",
            report.region.as_str()
        );
        let problems = problems(report);
        if problems.is_empty() {
            writeln!(out, "{}", head.trim_end())?;
        } else {
            beside(out, &head, width, &problems, columns)?;
        }
    }
    Ok(())
}

/// What isn't well in a Region: the checks, or that it has no guard and what keys it holds.
fn problems(report: &Report) -> String {
    if let Some(keys) = report.checks.iter().find(|check| *check.about == keys::GUARDED) {
        let holds = match keys.verdict {
            Verdict::Pass(_) => "holds no customer key",
            Verdict::Fail(_) => "holds customer keys",
            _ => "may hold customer keys",
        };
        return format!("no guard, {holds}");
    }
    let ill = report.all().filter(|check| !matches!(check.verdict, Verdict::Pass(_) | Verdict::Warn(_)));
    ill.map(|check| check.about.id).collect::<Vec<_>>().join(", ")
}

fn heading(report: &Report) -> String {
    match &report.guard {
        Some(guard) => format!("{} {}, stack {}", guard.account, report.region, guard.stack),
        None => report.region.to_string(),
    }
}

fn one(out: &mut impl Write, check: &Check, paste: &impl Fn(&str) -> String, columns: Option<usize>) -> io::Result<()> {
    let (word, style) = match check.verdict {
        Verdict::Pass(_) => ("pass", AnsiColor::Green.on_default()),
        Verdict::Warn(_) => ("WARN", AnsiColor::Yellow.on_default()),
        Verdict::Unknown(_) => ("UNKNOWN", AnsiColor::Yellow.on_default()),
        Verdict::Fail(_) => ("FAIL", AnsiColor::Red.on_default().bold()),
    };
    let head = format!("  {style}{word:<7}{style:#} {:<18} ", check.about.id);
    beside(out, &head, 29, check.verdict.text(), columns)?;
    steps(out, &check.fix, paste, columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kms_key_guard::coverage::CHECKS;

    fn check(id: &str, verdict: Verdict, fix: Vec<Step>) -> Check {
        let about = CHECKS.into_iter().find(|about| about.id == id).unwrap_or(&keys::GUARDED);
        Check { about, verdict, fix }
    }

    fn report(region: &str, checks: Vec<Check>) -> Report {
        Report { region: region.parse().unwrap(), guard: None, checks, proof: None }
    }

    fn shown(reports: &[Report], compact: bool, columns: Option<usize>) -> String {
        let mut out = Vec::new();
        text(&mut out, reports, compact, str::to_owned, columns).unwrap();
        anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string()
    }

    fn snapshot(name: &str, text: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../../tests/golden");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, text));
    }

    fn of_one_region() -> Report {
        let pass = |id, text: &str| check(id, Verdict::Pass(text.into()), vec![]);
        let queue = "keyguard redrive --region eu-west-1 --queue-url \
                     https://sqs.eu-west-1.amazonaws.com/111122223333/kms-key-guard-AlertFailureQueue-1A2B";
        let subscribe = "aws sns subscribe --region eu-west-1 --topic-arn arn:aws:sns:eu-west-1:111122223333:kms-key-guard-alerts \
                         --protocol email --notification-endpoint kms-alerts@example.com";
        let deaf = "10 alarms notify the topic arn:aws:sns:eu-west-1:111122223333:kms-key-guard-alerts, to which nobody has \
                    confirmed a subscription: AlertErrorAlarm, AlertFailureAlarm, AlertLostAlarm, AlertThrottleAlarm, \
                    MassEventAlarm, RuleDeadLetterAlarm, ScheduleDeadLetterAlarm, WatchErrorAlarm, WatchFailureAlarm, \
                    WatchSilentAlarm.";
        let checks = vec![
            pass("guard-deployed", "The stack kms-key-guard is CREATE_COMPLETE."),
            pass("trail-logging", "The trail management (home Region eu-west-1) is logging."),
            check(
                "rules-match",
                Verdict::Unknown("The patterns of 9 rules aren't known: no permission for events:DescribeRule.".into()),
                vec![],
            ),
            check(
                "failures-empty",
                Verdict::Fail("2 events that no alert was sent for are in the queue AlertFailureQueue.".into()),
                vec![
                    Step::run("See which they are and why they failed:", queue.into()),
                    Step::run("Fix the cause, then send them again:", format!("{queue} --yes")),
                ],
            ),
            check(
                "alarms-live",
                Verdict::Fail(deaf.into()),
                vec![Step::run("Subscribe, and answer the message that comes:", subscribe.into())],
            ),
        ];
        let guard = Stack {
            stack: "kms-key-guard".into(),
            stack_id: String::new(),
            status: "CREATE_COMPLETE".into(),
            account: "111122223333".into(),
            region: "eu-west-1".parse().unwrap(),
            resources: [].into(),
            parameters: [].into(),
            outputs: [].into(),
            read: time::OffsetDateTime::UNIX_EPOCH,
        };
        Report { guard: Some(guard), ..report("eu-west-1", checks) }
    }

    #[test]
    fn report_fits_the_terminal_but_for_commands_and_is_one_line_a_check_in_a_pipe() {
        for columns in [40, 80, 200] {
            let text = shown(&[of_one_region()], false, Some(columns));
            // An ARN of its own may be longer than a line.
            let is_long = |line: &&str| line.chars().count() > columns && line.trim().contains(' ');
            let long: Vec<_> = text.lines().filter(is_long).collect();
            assert!(
                long.iter().all(|line| line.starts_with("      aws ") || line.starts_with("      keyguard ")),
                "{long:#?}"
            );
            snapshot(&format!("doctor-{columns}"), &text);
        }
        let piped = shown(&[of_one_region()], false, None);
        let ten = |line: &&str| line.contains("AlertErrorAlarm") && line.contains("WatchSilentAlarm");
        assert_eq!(piped.lines().filter(ten).count(), 1);
        let picture = format!("```\n{}```\n", shown(&[of_one_region()], false, Some(80)));
        assert!(include_str!("../../../docs/runbook.md").contains(&picture), "docs/runbook.md should hold:\n{picture}");
    }

    fn of_all_regions() -> [Report; 3] {
        let none = |region: &str| {
            let say = format!("There is no stack kms-key-guard in {region}.");
            let deploy = Step::run("Deploy it there:", format!("make deploy REGION={region}"));
            check("guard-deployed", Verdict::Fail(say), vec![deploy])
        };
        let mut keyless = vec![
            none("eu-north-1"),
            check("keys-guarded", Verdict::Pass("eu-north-1 holds no customer key.".into()), vec![]),
        ];
        excuse(&mut keyless);
        let keys = "3 customer keys in us-east-1 are unguarded: 0f1e2d3c-0000-4000-8000-000000000001, \
                    0f1e2d3c-0000-4000-8000-000000000002, 0f1e2d3c-0000-4000-8000-000000000003.";
        let mut unguarded = vec![none("us-east-1"), check("keys-guarded", Verdict::Fail(keys.into()), vec![])];
        excuse(&mut unguarded);
        [
            report("eu-north-1", keyless),
            report("eu-west-1", vec![check("trail-logging", Verdict::Pass("It is.".into()), vec![])]),
            report("us-east-1", unguarded),
        ]
    }

    #[test]
    fn unguarded_region_fails_if_it_holds_customer_keys_and_warns_if_it_holds_none() {
        let reports = of_all_regions();
        let counts: Vec<_> = reports.iter().map(|report| (report.count("warn"), report.count("fail"))).collect();
        assert_eq!(counts, [(1, 0), (0, 0), (0, 2)]);
        assert_eq!(format!("{:?}", status(&reports[..2])), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", status(&reports)), format!("{:?}", ExitCode::FAILURE));
        for columns in [40, 80] {
            snapshot(&format!("doctor-regions-{columns}"), &shown(&reports, true, Some(columns)));
        }
    }
}
