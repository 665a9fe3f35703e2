//! `keyguard doctor`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use aws_config::SdkConfig;
use futures_util::StreamExt;
use kms_key_guard::coverage::prove::{self, Proof};
use kms_key_guard::coverage::release::{self, Release};
use kms_key_guard::coverage::{self, Check, Stack, Verdict};
use kms_key_guard::finding::Step;
use kms_key_guard::key::Region;
use serde_json::{Value, json};

use crate::ReportFormat;
use crate::credentials::{Access, SIDE_BY_SIDE, progress, stack};

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

Exit status: 0 every check passed or warns, 1 one failed, 2 none failed and one couldn't be done, or doctor couldn't run.";

/// The options of `doctor`.
#[derive(clap::Args)]
pub struct DoctorOptions {
    /// The guard's CloudFormation stack
    #[arg(long, value_name = "NAME", default_value = "kms-key-guard", value_parser = stack)]
    stack_name: String,
    #[command(flatten)]
    access: Access,
    /// What to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// The folder of an unpacked release: are the deployed functions those, byte for byte?
    #[arg(long, value_name = "FOLDER")]
    release: Option<PathBuf>,
    /// Send a test through the guard, and wait until it comes out
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

/// Looks at the guard, and says what it saw.
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
            ReportFormat::Text => text(&mut out, &reports, options.access.everywhere() || reports.len() > 3)?,
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
            let (guard, checks) = coverage::look_in(sdk, region, &options.stack_name).await;
            progress.inc(1);
            Report { region: region.clone(), guard, checks, proof: None }
        }
    });
    let reports = reports.buffered(SIDE_BY_SIDE).collect().await;
    progress.finish_and_clear();
    reports
}

async fn prove(options: &DoctorOptions, sdk: &SdkConfig, report: &mut Report) -> io::Result<()> {
    let Some(guard) = &report.guard else { return Ok(()) };
    if guard.is_spoke() {
        eprintln!(
            "keyguard: {} in {} is a spoke, which has no topics: send the test at its hub",
            guard.stack, guard.region
        );
        return Ok(());
    }
    let interrupted = interrupted()?;
    eprintln!(
        "keyguard: sending a test through {} in {}, and waiting up to {} s; subscribers of its topics get it too",
        guard.stack, guard.region, options.timeout
    );
    let proof = prove::prove(sdk, guard, Duration::from_secs(options.timeout), interrupted).await;
    if let Err(error) = &proof.legs {
        eprintln!("keyguard: {error}");
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

/// A table of checks for each Region, or, for many, of Regions with what is wrong in each.
fn text(out: &mut impl Write, reports: &[Report], compact: bool) -> io::Result<()> {
    if compact {
        writeln!(out, "{:<16} {:>5} {:>5} {:>8} {:>5}  NOT WELL", "REGION", "PASS", "WARN", "UNKNOWN", "FAIL")?;
        for report in reports {
            let ill = report.all().filter(|check| !matches!(check.verdict, Verdict::Pass(_) | Verdict::Warn(_)));
            let ill: Vec<_> = ill.map(|check| check.about.id).collect();
            let style = match (report.count("fail"), report.count("unknown")) {
                (0, 0) => AnsiColor::Green.on_default(),
                (0, _) => AnsiColor::Yellow.on_default(),
                _ => AnsiColor::Red.on_default(),
            };
            writeln!(
                out,
                "{style}{:<16}{style:#} {:>5} {:>5} {:>8} {:>5}  {}",
                report.region.as_str(),
                report.count("pass"),
                report.count("warn"),
                report.count("unknown"),
                report.count("fail"),
                ill.join(", ")
            )?;
        }
    }
    for report in reports {
        let told = |check: &&Check| !compact || matches!(check.verdict, Verdict::Unknown(_) | Verdict::Fail(_));
        let checks: Vec<_> = report.all().filter(told).collect();
        if checks.is_empty() {
            continue;
        }
        writeln!(out, "{}{}", if compact { "\n" } else { "" }, heading(report))?;
        for check in checks {
            one(out, check)?;
        }
    }
    let total = |verdict: &str| reports.iter().map(|report| report.count(verdict)).sum::<usize>();
    writeln!(
        out,
        "\n{} passed, {} warn, {} unknown, {} failed",
        total("pass"),
        total("warn"),
        total("unknown"),
        total("fail")
    )
}

fn heading(report: &Report) -> String {
    match &report.guard {
        Some(guard) => format!("{} {}, stack {}", guard.account, report.region, guard.stack),
        None => report.region.to_string(),
    }
}

fn one(out: &mut impl Write, check: &Check) -> io::Result<()> {
    let (word, style) = match check.verdict {
        Verdict::Pass(_) => ("pass", AnsiColor::Green.on_default()),
        Verdict::Warn(_) => ("WARN", AnsiColor::Yellow.on_default()),
        Verdict::Unknown(_) => ("UNKNOWN", AnsiColor::Yellow.on_default()),
        Verdict::Fail(_) => ("FAIL", AnsiColor::Red.on_default().bold()),
    };
    let passed = matches!(check.verdict, Verdict::Pass(_));
    let said = if passed { check.about.what } else { check.verdict.text() };
    writeln!(out, "  {style}{word:<8}{style:#} {:<20} {said}", check.about.id)?;
    for Step { what, command } in &check.fix {
        writeln!(out, "{:31}{what}", "")?;
        if let Some(command) = command {
            let style = Style::new().bold();
            writeln!(out, "{:33}{style}{command}{style:#}", "")?;
        }
    }
    Ok(())
}
