//! What is published again only after a while: a test once a minute, the use of a lost key once an hour for a key and
//! caller, so that neither drowns the other alerts.
//!
//! It is remembered by one instance of the function, and of a bounded number of things, since callers choose what they are.
//! Whatever is forgotten is published too often, never too seldom.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::catalogue::Kind;
use crate::finding::{Finding, named};

/// Of how many things it is remembered when they were last published.
pub const MOST: usize = 256;

/// How long one message stands for those like it, and the words for that.
fn period(kind: Kind) -> Option<(Duration, &'static str)> {
    match kind {
        Kind::GuardTest => Some((Duration::MINUTE, "a minute")),
        Kind::LostKeyUsed => Some((Duration::HOUR, "an hour")),
        _ => None,
    }
}

/// What an instance published last, the oldest first.
#[derive(Debug, Default)]
pub struct Limits(Mutex<VecDeque<Published>>);

#[derive(Debug)]
struct Published {
    what: Uuid,
    at: OffsetDateTime,
    held_back: u64,
}

impl Limits {
    /// Whether the same was published less than its period ago: this one is then held back, and counted.
    pub fn hold_back(&self, finding: &Finding, now: OffsetDateTime) -> bool {
        let Some((period, _)) = period(finding.detection.kind) else { return false };
        self.with(finding, |last| {
            // A clock that was set back far holds nothing back.
            let held = (now - last.at).abs() < period;
            last.held_back += u64::from(held);
            held
        })
        .unwrap_or(false)
    }

    /// How many like this one were held back since the last was published, in a sentence.
    pub fn held_back(&self, finding: &Finding) -> Option<String> {
        let (_, period) = period(finding.detection.kind)?;
        let count = self.with(finding, |last| last.held_back).filter(|count| *count > 0)?;
        Some(format!("Held back since the last message like this one: {count}, as there is one {period} at most."))
    }

    /// All topics took it at this time: its period begins.
    pub fn published(&self, finding: &Finding, at: OffsetDateTime) {
        if period(finding.detection.kind).is_none() {
            return;
        }
        let what = what(finding);
        let mut published = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        published.retain(|last| last.what != what);
        if published.len() >= MOST {
            published.pop_front();
        }
        published.push_back(Published { what, at, held_back: 0 });
    }

    fn with<T>(&self, finding: &Finding, answer: impl FnOnce(&mut Published) -> T) -> Option<T> {
        let what = what(finding);
        let mut published = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        published.iter_mut().find(|last| last.what == what).map(answer)
    }
}

/// What one message stands for: every test, or the uses of one key by one caller. A session's name is its caller's choice, so
/// a role counts as one caller.
fn what(finding: &Finding) -> Uuid {
    let name = match finding.detection.kind {
        Kind::GuardTest => String::new(),
        _ => {
            let actor = &finding.actor;
            format!("{}\n{}", finding.story(), actor.role_arn.as_deref().or(actor.id()).unwrap_or_default())
        }
    };
    named(finding.detection, "limit", &name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Subject;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 03:00 UTC);

    fn used(key: usize, role: &str, session: &str) -> Finding {
        let arn = format!("arn:aws:kms:eu-west-1:111122223333:key/{key}").parse().unwrap();
        let mut finding = Finding::noticed(Kind::LostKeyUsed, Subject::Key(arn), None, None, NOW, "n");
        finding.actor.role_arn = Some(role.into());
        finding.actor.arn = Some(session.into());
        finding
    }

    #[test]
    fn hour_is_of_a_key_and_a_caller_and_begins_when_it_was_published() {
        let (limits, first) = (Limits::default(), used(1, "app", "app/1"));
        assert!(!limits.hold_back(&first, NOW) && !limits.hold_back(&first, NOW), "nothing was published yet");
        limits.published(&first, NOW);
        assert!(limits.hold_back(&first, NOW + Duration::minutes(59)));
        assert!(limits.hold_back(&used(1, "app", "app/2"), NOW + Duration::minutes(59)), "a session of the same role");
        assert!(!limits.hold_back(&used(1, "other", "other/1"), NOW));
        assert!(!limits.hold_back(&used(2, "app", "app/1"), NOW));
        assert!(!limits.hold_back(&first, NOW - Duration::HOUR), "a clock that was set back");
        assert!(!limits.hold_back(&first, NOW + Duration::HOUR));
        let said = limits.held_back(&first).unwrap();
        assert_eq!(said, "Held back since the last message like this one: 2, as there is one an hour at most.");
        limits.published(&first, NOW + Duration::HOUR);
        assert_eq!(limits.held_back(&first), None);
    }

    #[test]
    fn tests_share_a_minute_and_nothing_else_is_limited() {
        let limits = Limits::default();
        let noticed = |kind, name| {
            let subject = Subject::Guard { kind: "AWS::Lambda::Function", part: name };
            Finding::noticed(kind, subject, None, None, NOW, "n")
        };
        limits.published(&noticed(Kind::GuardTest, "a".into()), NOW);
        assert!(limits.hold_back(&noticed(Kind::GuardTest, "b".into()), NOW + Duration::seconds(59)));
        let said = limits.held_back(&noticed(Kind::GuardTest, "c".into())).unwrap();
        assert!(said.ends_with("1, as there is one a minute at most."), "{said}");
        for kind in crate::catalogue::CATALOGUE.iter().map(|detection| detection.kind) {
            if !matches!(kind, Kind::GuardTest | Kind::LostKeyUsed) {
                limits.published(&noticed(kind, "a".into()), NOW);
                assert!(!limits.hold_back(&noticed(kind, "a".into()), NOW), "{kind:?}");
            }
        }
    }

    #[test]
    fn however_many_callers_there_are_the_memory_is_bounded_and_the_oldest_is_published_again() {
        let limits = Limits::default();
        for key in 0..10 * MOST {
            limits.published(&used(key, "app", "app/1"), NOW);
        }
        assert_eq!(limits.0.lock().unwrap().len(), MOST);
        assert!(!limits.hold_back(&used(0, "app", "app/1"), NOW));
        assert!(limits.hold_back(&used(10 * MOST - 1, "app", "app/1"), NOW));
    }
}
