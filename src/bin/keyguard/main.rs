//! The operator's command line over the same library as the functions.
//!
//! Exit status: 0 done; 1 when `replay --fail-on` found something or a check of `doctor` failed; 2 when something couldn't
//! be done.

#![recursion_limit = "256"]

mod credentials;
mod doctor;
mod generate;
mod redrive;
mod replay;
mod sweep;
mod terminal;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// A release says which commit it is of.
const VERSION: &str = match option_env!("KEYGUARD_VERSION") {
    Some(released) => released,
    None => env!("CARGO_PKG_VERSION"),
};

/// Alerts on KMS keys that are about to be lost.
#[derive(Parser)]
#[command(name = "keyguard", version = VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run CloudTrail's files through the detections: what would the guard have reported?
    #[command(after_help = replay::EXAMPLES)]
    Replay(replay::ReplayOptions),
    /// Send the events in a failure queue to the function again; only lists them, unless --yes
    #[command(after_help = redrive::EXAMPLES)]
    Redrive(redrive::RedriveOptions),
    /// Check that the guard works and its alerts reach someone, and print the commands that fix what doesn't
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorOptions),
    /// List the KMS keys that can't be used or are about to be lost, with the commands that save them
    #[command(after_help = sweep::EXAMPLES)]
    Sweep(sweep::SweepOptions),
    /// Write the shell completions and man pages that a release holds
    #[command(hide = true)]
    Generate(generate::GenerateOptions),
}

/// How `doctor` and `sweep` report.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Replay(options) => replay::run(&options),
        Command::Redrive(options) => redrive::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Sweep(options) => sweep::run(&options),
        Command::Generate(options) => generate::run(&options),
    };
    match done {
        Ok(status) => status,
        // Whoever reads the output has seen enough, as in `keyguard replay … | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(&error.to_string());
            ExitCode::from(2)
        }
    }
}
