//! The pure middle, from the bytes of a sample event to the rendered alert, beside a plain parse of the same bytes.
//! Prints both as events a second, in JSON; `make bench` reads it.

// The nested futures of the SDK clients are deeper than the compiler looks by default.
#![recursion_limit = "256"]

use std::hint::black_box;
use std::time::{Duration, Instant};

use kms_key_guard::assess::assess;
use kms_key_guard::config::Rules;
use kms_key_guard::detect::{Settings, detect};
use kms_key_guard::event::Event;
use kms_key_guard::render::Alert;
use time::OffsetDateTime;

const EVENT: &str = include_str!("../../../events/deletion-scheduled.json");
/// So often both are measured in turn; the best round counts, which had the least else to do.
const ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_millis(200);

fn main() {
    let (mut alerts, mut parses) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        alerts = alerts.max(a_second(alert));
        parses = parses.max(a_second(parse));
    }
    println!(r#"{{"alerts_per_second": {alerts:.0}, "parses_per_second": {parses:.0}, "bytes": {}}}"#, EVENT.len());
}

fn alert(text: &str) {
    let event = Event::read(text);
    let now = event.record().and_then(|record| record.event_time).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut finding = detect(&event, &Settings::default(), now).expect("the sample is a hit");
    finding.assessment = assess(&finding, &Rules::default());
    black_box(Alert::of(&finding, now));
}

fn parse(text: &str) {
    black_box(serde_json::from_str::<serde_json::Value>(text).expect("the sample is JSON"));
}

fn a_second(work: fn(&str)) -> f64 {
    let (began, mut times) = (Instant::now(), 0_u32);
    while began.elapsed() < ROUND {
        work(black_box(EVENT));
        times += 1;
    }
    f64::from(times) / began.elapsed().as_secs_f64()
}
