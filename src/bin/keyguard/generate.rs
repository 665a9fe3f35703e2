//! `keyguard generate`: what a release packs beside the program.

use std::fs::create_dir_all;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::Cli;

/// The options of `generate`.
#[derive(clap::Args)]
pub struct GenerateOptions {
    /// Where `completions/` and `man/` are written to
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes a file for each shell, and a man page for each command.
pub fn run(options: &GenerateOptions) -> io::Result<ExitCode> {
    let (completions, man) = (options.folder.join("completions"), options.folder.join("man"));
    create_dir_all(&completions)?;
    create_dir_all(&man)?;
    for &shell in Shell::value_variants() {
        clap_complete::generate_to(shell, &mut Cli::command(), "keyguard", &completions)?;
    }
    // A page for `keyguard help` would only repeat them.
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &man)?;
    Ok(ExitCode::SUCCESS)
}
