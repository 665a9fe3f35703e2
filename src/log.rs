//! The log: one JSON object a line on standard output, as Lambda's JSON log format wants it.

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

use crate::error::Error;

/// Starts logging on standard output.
pub fn init() {
    lines(std::io::stdout).init();
}

/// Logging to somewhere, at the level of `AWS_LAMBDA_LOG_LEVEL` (INFO if unset). What the libraries say below WARN never
/// shows: the SDK would log requests and answers whole, credentials among them.
pub fn lines<W: for<'w> MakeWriter<'w> + Send + Sync + 'static>(to: W) -> impl Subscriber + Send + Sync {
    let level =
        std::env::var("AWS_LAMBDA_LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let targets =
        Targets::new().with_target(env!("CARGO_CRATE_NAME"), level).with_default(level.min(LevelFilter::WARN));
    let lines =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    tracing_subscriber::registry().with(lines.with_target(false).with_writer(to).with_filter(targets))
}

/// Says why the function doesn't start.
pub fn start_failed(cause: &Error) {
    error!(cause = %cause, "the function can't start");
}

/// Says why the runtime gave up.
pub fn ended(cause: &lambda_runtime::Error) {
    error!(cause = %cause, "the function ended");
}
