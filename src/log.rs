//! The log: one JSON object a line on standard output, as Lambda's JSON log format wants it.

use tracing::error;
use tracing::level_filters::LevelFilter;

use crate::error::Error;

/// Starts logging, at the level of `AWS_LAMBDA_LOG_LEVEL` (INFO if unset).
pub fn init() {
    let level =
        std::env::var("AWS_LAMBDA_LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_max_level(level)
        .init();
}

/// Says why the function doesn't start.
pub fn start_failed(cause: &Error) {
    error!(cause = %cause, "the function can't start");
}
