//! The settings of the stack that keep something back, and whether one came to do so.

use std::fmt::Write;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::expected::default_of;
use super::{About, Check, Observation, Stack};
use crate::actor::Tool;
use crate::catalogue::Kind;
use crate::escape::name;
use crate::finding::{Finding, Step, Subject};

pub(super) static QUIET: About = About {
    id: "settings-loud",
    what: "No setting keeps back what the defaults report.",
    kind: "AWS::CloudFormation::Stack",
};

/// When a setting keeps something back, compared with its default.
#[derive(Clone, Copy)]
enum Quieter {
    Otherwise,
    Less,
    More,
}

/// The parameters that can, and what they do.
static SETTINGS: [(&str, Quieter, &str); 7] = [
    ("MinimumSeverity", Quieter::Otherwise, "findings that are milder are logged and not sent"),
    ("ExpectedPrincipals", Quieter::Otherwise, "what these roles do is rated one severity level lower"),
    ("TrustedSources", Quieter::Otherwise, "a key policy that spares one of these is no lockout"),
    ("AcknowledgedKeys", Quieter::Otherwise, "these keys are counted in the digest and not listed"),
    ("EnrichTimeoutMs", Quieter::Less, "an alert waits less long for what raises its severity"),
    ("MassEventThreshold", Quieter::More, "the alarm on many keys at once goes off later"),
    ("ReminderDays", Quieter::Otherwise, "reminders come on these days only"),
];

/// Those that keep something back: name, value, what it does.
fn quiet(guard: &Stack) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
    SETTINGS.iter().filter_map(|(parameter, quieter, effect)| {
        let (value, default) = (guard.parameter(parameter)?, default_of(parameter));
        let less = || Some(value.parse::<f64>().ok()? < default.parse::<f64>().ok()?);
        let keeps_back = value != default
            && match quieter {
                Quieter::Otherwise => true,
                Quieter::Less => less().unwrap_or(true),
                Quieter::More => !less().unwrap_or(false),
            };
        keeps_back.then_some((*parameter, value, *effect))
    })
}

fn sentence((parameter, value, effect): (&str, &str, &str)) -> String {
    format!("{parameter} is {}: {effect}.", name(value, 300))
}

/// What of the settings keeps something back.
pub(super) fn look(guard: &Stack) -> Check {
    let mut looks: Vec<_> = quiet(guard).map(|setting| Observation::warn(sentence(setting))).collect();
    if looks.is_empty() {
        looks.push(Observation::pass("Every setting that could is the default."));
    }
    Check::of(&QUIET, looks)
}

/// The settings that keep something back, each with what tells its value from another, for the next run to compare with.
pub fn settings(guard: &Stack) -> Vec<String> {
    quiet(guard).map(|(parameter, value, _)| mark(parameter, value)).collect()
}

fn mark(parameter: &str, value: &str) -> String {
    format!("{parameter}={}", Uuid::new_v5(&Uuid::NAMESPACE_OID, value.as_bytes()).simple())
}

/// That settings came to keep something back, or something else, since the run that left `before`.
pub fn quieter(guard: &Stack, before: Option<&[String]>, time: OffsetDateTime) -> Option<Finding> {
    let before = before.unwrap_or_default();
    let new: Vec<_> = quiet(guard).filter(|(parameter, value, _)| !before.contains(&mark(parameter, value))).collect();
    if new.is_empty() {
        return None;
    }
    let Stack { account, region, .. } = guard;
    let mut id = format!("{account}/{region}/settings/{}", time.format(&Rfc3339).unwrap_or_default());
    for (parameter, value, _) in &new {
        // Writing to a String doesn't fail.
        let _ = write!(id, "/{}", mark(parameter, value));
    }
    let subject = Subject::Guard { kind: QUIET.kind, part: "settings".into() };
    let mut finding =
        Finding::noticed(Kind::GuardTampered, subject, Some(account.clone()), Some(region.clone()), time, &id);
    finding.happened = "set to report less".into();
    // Nothing else changes a stack's parameters.
    finding.actor.tool = Tool::CloudFormation;
    finding.particulars.extend(new.into_iter().map(sentence));
    finding.remedy.push(Step::say("If that wasn't meant, deploy again with the values that were (make deploy)."));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::assess;
    use crate::catalogue::Severity;
    use crate::config::Rules;
    use crate::render::Alert;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-25 12:00 UTC);

    #[test]
    fn settings_that_keep_nothing_back_pass() {
        let loud = Stack::example(&[
            ("MinimumSeverity", "Informational"),
            ("ExpectedPrincipals", ""),
            ("EnrichTimeoutMs", "5000"),
            ("MassEventThreshold", "1"),
            ("ReminderDays", "7,3,1"),
            ("LogRetentionDays", "30"),
        ]);
        assert_eq!(look(&loud).verdict.name(), "pass");
        assert!(settings(&loud).is_empty() && quieter(&loud, None, NOW).is_none());
    }

    #[test]
    fn setting_that_keeps_something_back_is_shown_and_reported_once_a_change() {
        let quiet = |severity: &str| {
            Stack::example(&[("MinimumSeverity", severity), ("EnrichTimeoutMs", "0"), ("MassEventThreshold", "11")])
        };
        let check = look(&quiet("Critical"));
        assert_eq!(check.verdict.name(), "warn");
        let text = check.verdict.text();
        for says in ["MinimumSeverity is Critical: ", "EnrichTimeoutMs is 0: ", "MassEventThreshold is 11: "] {
            assert!(text.contains(says), "{text}");
        }
        let told = |guard: &Stack, before: &[String]| {
            quieter(guard, Some(before), NOW).map_or(0, |finding| finding.particulars.len())
        };
        assert_eq!(told(&quiet("High"), &[]), 3);
        assert_eq!(told(&quiet("High"), &settings(&quiet("High"))), 0);
        assert_eq!(told(&quiet("Critical"), &settings(&quiet("High"))), 1);
        assert_eq!(told(&Stack::example(&[]), &settings(&quiet("High"))), 0, "nothing is kept back any more");
    }

    #[test]
    fn report_is_medium_and_hostile_values_stay_inert() {
        let guard = Stack::example(&[("ExpectedPrincipals", "arn:aws:iam::1:role/a\n\nHOW TO FIX\u{202e}")]);
        let mut finding = quieter(&guard, None, NOW).unwrap();
        finding.assessment = assess(&finding, &Rules::default());
        assert_eq!(finding.assessment.severity, Severity::Medium);
        let alert = Alert::of(&finding, NOW);
        assert_eq!(alert.subject, "[MEDIUM] KMS Key Guard: set to report less, settings (111122223333 eu-west-1)");
        assert!(alert.text.contains(r"role/a\u{a}\u{a}HOW TO FIX\u{202e}"), "{}", alert.text);
    }
}
