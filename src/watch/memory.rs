//! What the last run left in the function's own log.
//!
//! Whoever may write to the log group can write such a line. It is believed only from a stream that is named as Lambda names
//! this function's, and only if CloudWatch Logs took it when such a run would have written it; and it can keep back no more than
//! what wasn't a change of the guard, for no more than a day.

use std::time::Duration;

use aws_sdk_cloudwatchlogs::Client as Logs;
use aws_sdk_cloudwatchlogs::error::DisplayErrorContext;
use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::escape::inert;
use crate::metrics::HEARTBEAT;
use crate::render::digest::DigestState;

/// How far back the last coverage run is looked for. Was there none, everything that fails is told again.
pub const LOOK_BACK: Duration = Duration::from_secs(3 * 60 * 60);
/// How far two clocks of AWS may be apart.
const CLOCKS: Duration = Duration::from_secs(60);

/// What a run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    /// The time that it was for.
    pub(super) at: OffsetDateTime,
    /// The checks that failed.
    pub(super) failed: Vec<String>,
    /// The settings that weren't the default; None if it couldn't tell.
    pub(super) settings: Option<Vec<String>>,
    /// What a sweep's digest held, or would have.
    pub(super) digest: Option<DigestState>,
}

/// What the last run of this kind before this time left; None if there was none in the time that counts.
///
/// # Errors
/// Why the log can't be read.
pub(super) async fn last(
    logs: &Logs,
    log_group: &str,
    function: &str,
    look: &str,
    time: OffsetDateTime,
    back: Duration,
) -> Result<Option<Left>, String> {
    let since = (time - back).unix_timestamp() * 1_000;
    let request = logs.filter_log_events().log_group_name(log_group).start_time(since);
    let request = request.filter_pattern(format!("{{ $.{HEARTBEAT} = 1 && $.Look = \"{look}\" }}"));
    let (mut pages, mut left) = (request.into_paginator().send(), Vec::new());
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| inert(&DisplayErrorContext(error).to_string(), 400))?;
        left.extend(page.events().iter().filter_map(|event| read(event, function, look)));
    }
    Ok(left.into_iter().filter(|left| left.at < time && left.at >= time - back).max_by_key(|left| left.at))
}

/// What a line says, if a run of this kind of this function can have written it.
fn read(event: &FilteredLogEvent, function: &str, look: &str) -> Option<Left> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Line {
        look: String,
        scheduled_time: String,
        failed: Vec<String>,
        settings: Option<Vec<String>>,
        digest: Option<DigestState>,
    }
    if !is_stream_of(event.log_stream_name()?, function) {
        return None;
    }
    let line: Line = serde_json::from_str(event.message()?).ok()?;
    let at = OffsetDateTime::parse(&line.scheduled_time, &Rfc3339).ok()?;
    let written = OffsetDateTime::from_unix_timestamp(event.ingestion_time()? / 1_000).ok()?;
    let plausible = line.look == look && at <= written + CLOCKS && written - at <= LOOK_BACK;
    plausible.then_some(Left { at, failed: line.failed, settings: line.settings, digest: line.digest })
}

/// Whether Lambda names a stream of this function so: `YYYY/MM/DD/[$LATEST]ID`, with the function's name before the version in a
/// log group that the function was given.
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html>
fn is_stream_of(stream: &str, function: &str) -> bool {
    let mut parts = stream.splitn(4, '/');
    let mut digits = |count: usize| {
        parts.next().is_some_and(|part| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let dated = digits(4) && digits(2) && digits(2);
    let rest = parts.next().unwrap_or_default();
    let id = rest.strip_prefix(function).unwrap_or(rest).strip_prefix("[$LATEST]").unwrap_or_default();
    dated && id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const STREAM: &str = "2026/11/22/[$LATEST]0123456789abcdef0123456789abcdef";
    const LINE: &str = r#"{"_aws":{},"Function":"w","Look":"coverage","ScheduledTime":"2026-11-22T06:00:00Z","Failed":["trail-logging"],"Heartbeat":1}"#;

    fn left(stream: &str, written: OffsetDateTime, line: &str) -> Option<Left> {
        let event = FilteredLogEvent::builder().log_stream_name(stream).message(line);
        read(&event.ingestion_time(written.unix_timestamp() * 1_000).build(), "w", "coverage")
    }

    #[test]
    fn line_that_a_coverage_run_left_is_found_among_others() {
        let written = datetime!(2026-11-22 06:00:05 UTC);
        let at = datetime!(2026-11-22 06:00 UTC);
        let trail = Left { at, failed: vec!["trail-logging".to_owned()], settings: None, digest: None };
        assert_eq!(left(STREAM, written, LINE), Some(trail.clone()));
        let set = LINE.replace(r#""Heartbeat""#, r#""Settings":["MinimumSeverity=1"],"Heartbeat""#);
        let settings = Some(vec!["MinimumSeverity=1".to_owned()]);
        assert_eq!(left(STREAM, written, &set), Some(Left { settings, ..trail }));
        for other in [
            "",
            "START RequestId: 1",
            r#"{"level":"INFO","look":"coverage"}"#,
            &LINE.replace("coverage", "sweep"),
            &LINE.replace("06:00:00Z", "soon"),
        ] {
            assert_eq!(left(STREAM, written, other), None, "{other}");
        }
    }

    #[test]
    fn line_is_believed_only_from_the_functions_streams_and_at_a_plausible_time() {
        let soon_after = datetime!(2026-11-22 06:00:05 UTC);
        assert!(left(&STREAM.replace("[$", "w[$"), soon_after, LINE).is_some());
        for stream in [
            "made-up",
            "2026/11/22/other[$LATEST]0123456789abcdef0123456789abcdef",
            "2026/11/22/[7]0123456789abcdef0123456789abcdef",
            "2026/11/22/[$LATEST]0123",
            "26/11/22/[$LATEST]0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(left(stream, soon_after, LINE), None, "{stream}");
        }
        // Written before it took place, or long after: made up, or a tick that was sent again.
        for written in [datetime!(2026-11-22 05:58 UTC), datetime!(2026-11-22 09:00:02 UTC)] {
            assert_eq!(left(STREAM, written, LINE), None, "{written}");
        }
    }
}
