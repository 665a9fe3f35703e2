//! Does the guard work, and do its alerts reach someone?
//!
//! Read by the watch function, which reports when something broke, and by `keyguard doctor`. Nothing here changes
//! anything. A check that couldn't be done is [`Verdict::Unknown`] with the reason, never a pass.

mod alarms;
mod auditors;
mod expected;
mod filters;
mod functions;
#[cfg(feature = "cli")]
pub mod keys;
pub mod organization;
mod proof;
#[cfg(feature = "cli")]
pub mod prove;
#[cfg(feature = "cli")]
pub mod release;
#[cfg(test)]
mod repairs;
mod rules;
mod schedules;
mod self_check;
mod settings;
mod stack;
mod topics;
mod trail;

use std::time::Duration;

use aws_sdk_sns::config::timeout::TimeoutConfig;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_types::SdkConfig;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use expected::Parts;
pub use settings::{quieter, settings};
pub use stack::{DEFAULT_NAME, Stack, StackError, StackResource};

pub(crate) use crate::aws::failure::why;
use crate::catalogue::Kind;
use crate::escape::is_plain;
use crate::finding::{Finding, Step, Subject};
use crate::key::Region;

/// A check, as the runbook lists it.
#[derive(Debug, PartialEq, Eq)]
pub struct About {
    /// Its name, in one word; the guard's own findings carry it.
    pub id: &'static str,
    /// What has to be so.
    pub what: &'static str,
    /// What it looks at, in CloudFormation's words.
    pub kind: &'static str,
}

/// Every check there is, in the order of an event's way.
pub static CHECKS: [&About; 22] = [
    &stack::DEPLOYED,
    &trail::LOGGING,
    &trail::RECORDS,
    &trail::DELIVERS,
    &rules::ENABLED,
    &rules::MATCH,
    &rules::TARGETS,
    &functions::INVOKES,
    &functions::FUNCTION,
    &functions::KEEPS,
    &schedules::SCHEDULES,
    &self_check::FOLLOWS,
    &topics::ALERTS,
    &topics::FINDINGS,
    &topics::CHAT,
    &topics::ENCRYPTION,
    &proof::READY,
    &alarms::QUEUES,
    &alarms::ALARMS,
    &alarms::QUIET,
    &auditors::CIS,
    &settings::QUIET,
];

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which one.
    pub about: &'static About,
    /// How it came out.
    pub verdict: Verdict,
    /// What fixes it, in order.
    pub fix: Vec<Step>,
}

/// How a check came out, in sentences; text from elsewhere is already inert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is so.
    Pass(String),
    /// It is so, but for something that should be known.
    Warn(String),
    /// It couldn't be looked at, for this reason.
    Unknown(String),
    /// It isn't so: the guard is blind or not heard.
    Fail(String),
}

impl Verdict {
    /// In one word: `pass`, `warn`, `unknown` or `fail`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Warn(_) => "warn",
            Self::Unknown(_) => "unknown",
            Self::Fail(_) => "fail",
        }
    }

    /// The sentences.
    pub fn text(&self) -> &str {
        match self {
            Self::Pass(text) | Self::Warn(text) | Self::Unknown(text) | Self::Fail(text) => text,
        }
    }

    /// The same with one more sentence.
    #[cfg(feature = "cli")]
    fn and(self, sentence: &str) -> Self {
        let more = |text: String| format!("{text} {sentence}");
        match self {
            Self::Pass(text) => Self::Pass(more(text)),
            Self::Warn(text) => Self::Warn(more(text)),
            Self::Unknown(text) => Self::Unknown(more(text)),
            Self::Fail(text) => Self::Fail(more(text)),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Pass(_) => 0,
            Self::Warn(_) => 1,
            Self::Unknown(_) => 2,
            Self::Fail(_) => 3,
        }
    }
}

impl Check {
    /// The check over all that was looked at for it: as good as the worst of it.
    pub(crate) fn of(about: &'static About, looks: Vec<Observation>) -> Self {
        let worst = looks.iter().map(|look| look.verdict.rank()).max().unwrap_or(0);
        let mut told: Vec<_> = looks.iter().filter(|look| worst == 0 || look.verdict.rank() > 0).collect();
        told.sort_by_key(|look| std::cmp::Reverse(look.verdict.rank()));
        let mut sentences: Vec<String> = Vec::new();
        for look in &told {
            let sentence = look.among(&told);
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
        let text = sentences.join(" ");
        let mut fix: Vec<Step> = Vec::new();
        for step in told.iter().flat_map(|look| &look.fix) {
            if !fix.contains(step) && !fix.iter_mut().any(|first| joined(first, step)) {
                fix.push(step.clone());
            }
        }
        let verdict = match worst {
            0 => Verdict::Pass(text),
            1 => Verdict::Warn(text),
            2 => Verdict::Unknown(text),
            _ => Verdict::Fail(text),
        };
        Self { about, verdict, fix }
    }
}

/// What was seen of one thing.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) verdict: Verdict,
    fix: Vec<Step>,
    /// What it was seen of, and the sentence for several of which the same was seen.
    several: Option<(String, String)>,
}

impl Observation {
    fn new(verdict: Verdict) -> Self {
        Self { verdict, fix: Vec::new(), several: None }
    }

    pub(crate) fn pass(text: impl Into<String>) -> Self {
        Self::new(Verdict::Pass(text.into()))
    }

    pub(crate) fn warn(text: impl Into<String>) -> Self {
        Self::new(Verdict::Warn(text.into()))
    }

    pub(crate) fn fail(text: impl Into<String>) -> Self {
        Self::new(Verdict::Fail(text.into()))
    }

    /// `what` couldn't be looked at because AWS refused, or didn't answer, the action.
    pub(crate) fn unknown(what: &str, reason: &str) -> Self {
        Self::new(Verdict::Unknown(format!("{what} isn't known: {reason}.")))
    }

    /// What to say if the same was seen of several: once, with `{count}` and `{names}`, if they stand there, filled in.
    pub(crate) fn of_several(mut self, name: &str, sentence: impl Into<String>) -> Self {
        self.several = Some((name.to_owned(), sentence.into()));
        self
    }

    /// The sentence for this and all that are like it.
    fn among(&self, all: &[&Self]) -> String {
        let alone = || self.verdict.text().to_owned();
        let Some((_, sentence)) = &self.several else { return alone() };
        let alike = all.iter().filter(|other| other.verdict.rank() == self.verdict.rank());
        let names: Vec<_> = alike
            .filter_map(|other| other.several.as_ref())
            .filter(|(_, its)| its == sentence)
            .map(|(name, _)| name.as_str())
            .collect();
        if names.len() < 2 {
            return alone();
        }
        sentence.replace("{count}", &names.len().to_string()).replace("{names}", &names.join(", "))
    }

    /// Adds a command that fixes it.
    pub(crate) fn mend(mut self, what: &str, command: impl Into<String>) -> Self {
        self.fix.push(Step { what: what.to_owned(), command: Some(command.into()) });
        self
    }

    /// Adds something to do that no command does.
    pub(crate) fn advise(mut self, what: impl Into<String>) -> Self {
        self.fix.push(Step { what: what.into(), command: None });
        self
    }
}

/// The option of the AWS CLI that takes several names and stands last in our commands.
const TAKES_SEVERAL: &str = " --alarm-names ";

/// Adds the second step's name to the first one's command, if that does both.
fn joined(first: &mut Step, second: &Step) -> bool {
    let (Some(one), Some(other)) = (&first.command, &second.command) else { return false };
    match (one.split_once(TAKES_SEVERAL), other.split_once(TAKES_SEVERAL)) {
        (Some((one_call, _)), Some((call, name))) if one_call == call && first.what == second.what => {
            first.command = Some(format!("{one} {name}"));
            true
        }
        _ => false,
    }
}

/// How long one question to AWS may take, its repeats included.
const ANSWER: Duration = Duration::from_secs(20);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(8);

/// Looks at everything the guard of this account and Region consists of. Takes the Region from `guard`.
pub async fn look(sdk: &SdkConfig, guard: &Stack) -> Vec<Check> {
    let sdk = &in_region(sdk, guard.region.as_str());
    let parts = &Parts::of(&aws_sdk_cloudformation::Client::new(sdk), guard).await;
    let ((trails, mut checks), rules, alarms) =
        tokio::join!(trail::look(sdk, guard), rules::look(sdk, guard, parts), alarms::look(sdk, guard, parts),);
    checks.insert(0, stack::look(guard, parts));
    checks.extend(rules);
    // A spoke has no functions, schedules and topics: what it sees goes to its hub.
    if guard.is_spoke() {
        checks.extend(alarms);
        return checks;
    }
    let (functions, schedules, self_check, listening, proof) = tokio::join!(
        functions::look(sdk, guard, parts),
        schedules::look(sdk, guard, parts),
        self_check::look(sdk, guard, parts),
        topics::look(sdk, guard),
        proof::look(sdk, guard),
    );
    checks.extend(functions);
    checks.extend([schedules, self_check]);
    checks.extend(listening);
    checks.push(proof);
    checks.extend(alarms);
    checks.push(auditors::look(sdk, guard, &trails).await);
    checks.push(settings::look(guard));
    checks
}

/// The same, from the Region's and the stack's names. A Region without the guard is one check that failed, and one that
/// isn't enabled too. An operator's doctor looks at an organization's spoke where there is no guard of that name.
pub async fn look_in(sdk: &SdkConfig, region: &Region, stack: &str) -> (Option<Stack>, Vec<Check>) {
    let sdk = &in_region(sdk, region.as_str());
    let found = match Stack::find(sdk, stack).await {
        #[cfg(feature = "cli")]
        Err(none @ StackError::Missing { .. }) => match Stack::spoke(sdk).await {
            Ok(Some(spoke)) => Ok(spoke),
            Ok(None) => Err(stack::none(sdk, region, &none).await),
            Err(why) => {
                let mut checks = stack::none(sdk, region, &none).await;
                let spoke = format!("Whether a spoke is here isn't known: {why}.");
                if let Some(first) = checks.first_mut() {
                    first.verdict = first.verdict.clone().and(&spoke);
                }
                Err(checks)
            }
        },
        Ok(guard) => Ok(guard),
        Err(none) => Err(stack::none(sdk, region, &none).await),
    };
    match found {
        Ok(guard) => {
            let checks = look(sdk, &guard).await;
            (Some(guard), checks)
        }
        Err(checks) => (None, checks),
    }
}

/// The Regions that are enabled for the account of these credentials.
///
/// # Errors
/// A sentence that says why they can't be told.
pub async fn enabled_regions(sdk: &SdkConfig) -> Result<Vec<Region>, String> {
    stack::enabled_regions(sdk).await
}

/// The ARN of whoever these credentials are; needs no permission, so it shows whether they work at all.
///
/// # Errors
/// A sentence that says why not.
pub async fn caller(sdk: &SdkConfig) -> Result<String, String> {
    let region = sdk.region().map(ToString::to_string).unwrap_or_default();
    let identity = aws_sdk_sts::Client::new(&in_region(sdk, &region)).get_caller_identity().send().await;
    identity.map(|who| who.arn.unwrap_or_default()).map_err(|error| why("sts:GetCallerIdentity", &error))
}

/// The same configuration for one Region, with time-outs for looking.
pub(crate) fn in_region(sdk: &SdkConfig, region: &str) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT).operation_timeout(ANSWER);
    sdk.to_builder()
        .region(aws_sdk_sns::config::Region::new(region.to_owned()))
        .timeout_config(timeouts.build())
        .build()
}

/// What a check that failed, or the end of that, is to those who are told: `over` when it is mended.
pub fn finding(check: &Check, account: &str, region: &Region, time: OffsetDateTime, over: bool) -> Finding {
    let About { id, what, kind } = check.about;
    let at = time.format(&Rfc3339).unwrap_or_else(|_| time.unix_timestamp().to_string());
    let name = format!("{account}/{region}/{id}/{at}/{over}");
    let subject = Subject::Guard { kind, part: (*id).to_owned() };
    let mut finding =
        Finding::noticed(Kind::GuardBlind, subject, Some(account.to_owned()), Some(region.clone()), time, &name);
    finding.over = over;
    if over {
        finding.happened = "works again".into();
    }
    finding.particulars.push(check.verdict.text().to_owned());
    finding.particulars.push(format!("What the check requires: {what}"));
    if !over {
        finding.remedy = check.fix.clone();
    }
    finding
}

/// What is said after a change of the guard if no check fails.
pub fn nothing_missing(checks: &[Check], account: &str, region: &Region, time: OffsetDateTime) -> Option<Finding> {
    let of = |verdict: &str| -> Vec<&str> {
        checks.iter().filter(|check| check.verdict.name() == verdict).map(|check| check.about.id).collect()
    };
    if !of("fail").is_empty() {
        return None;
    }
    let name = format!("{account}/{region}/self-check/{}", time.unix_timestamp_nanos());
    let subject = Subject::Guard { kind: stack::DEPLOYED.kind, part: "self-check".into() };
    let mut finding =
        Finding::noticed(Kind::GuardBlind, subject, Some(account.to_owned()), Some(region.clone()), time, &name);
    finding.over = true;
    finding.happened = "is complete, nothing is missing".into();
    finding.particulars.push(format!(
        "The guard or its stack was changed. The self-check that followed found nothing missing: {} checks pass.",
        of("pass").len()
    ));
    for (verdict, says) in [("warn", "To be known (keyguard doctor)"), ("unknown", "These couldn't be done")] {
        let ids = of(verdict);
        if !ids.is_empty() {
            finding.particulars.push(format!("{says}: {}.", ids.join(", ")));
        }
    }
    Some(finding)
}

/// Whether the answer is that there is no such thing.
pub(crate) fn is_missing<E, R>(error: &SdkError<E, R>) -> bool
where
    E: ProvideErrorMetadata,
{
    error.code().is_some_and(|code| {
        code.contains("NotFound") || code.contains("NonExistentQueue") || code == "QueueDoesNotExist"
    })
}

/// A name or a queue's URL for a command, in quotes if a shell needs them; the placeholder if it holds what a shell or a
/// reader's mail program could act on.
pub(crate) fn plain(text: &str, placeholder: &str) -> String {
    let quoted = |c: char| matches!(c, ' ' | '#' | '(' | ')' | '[' | ']');
    let address = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    if !is_plain(&address.replace(quoted, "-")) || text.starts_with('-') {
        placeholder.to_owned()
    } else if text.contains(quoted) {
        format!("'{text}'")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn check_is_as_good_as_the_worst_of_it() {
        let fix = |look: Observation| look.mend("Do:", "aws x");
        let check = Check::of(
            &trail::LOGGING,
            vec![
                Observation::pass("A."),
                Observation::warn("B."),
                fix(Observation::fail("C.")),
                fix(Observation::fail("C.")),
                Observation::unknown("D", "e"),
            ],
        );
        assert_eq!(check.verdict, Verdict::Fail("C. D isn't known: e. B.".into()));
        assert_eq!(check.fix.len(), 1);
        assert_eq!(
            Check::of(&trail::LOGGING, vec![Observation::pass("A."), Observation::unknown("D", "e")]).verdict.name(),
            "unknown"
        );
    }

    #[test]
    fn same_seen_of_several_is_one_sentence_with_all_names() {
        let gone = |name: &str| {
            let look = Observation::fail(format!("The alarm {name} is gone."));
            look.of_several(name, "{count} alarms are gone: {names}.")
                .mend("Do:", format!("aws x --alarm-names {name}"))
        };
        let names: Vec<_> = (1..=10).map(|number| format!("A{number}")).collect();
        let ten = Check::of(&alarms::ALARMS, names.iter().map(|name| gone(name)).collect());
        assert_eq!(ten.verdict.text(), format!("10 alarms are gone: {}.", names.join(", ")));
        let command = format!("aws x --alarm-names {}", names.join(" "));
        assert_eq!(ten.fix, [Step { what: "Do:".into(), command: Some(command) }]);
        let one = Check::of(&alarms::ALARMS, vec![gone("A"), Observation::pass("B is well.")]);
        assert_eq!(one.verdict.text(), "The alarm A is gone.");
        let look = |name: &str, off: bool| match off {
            true => Observation::warn("x").of_several(name, "{count}: {names}."),
            false => gone(name),
        };
        let mixed = Check::of(&alarms::ALARMS, vec![look("A", true), look("B", false), look("C", true)]);
        assert_eq!(mixed.verdict.text(), "The alarm B is gone. 2: A, C.");
    }

    #[test]
    fn names_that_a_shell_would_act_on_stay_out_of_commands() {
        assert_eq!(plain("alerts-1", "NAME"), "alerts-1");
        assert_eq!(plain("KMS (loss) #1", "NAME"), "'KMS (loss) #1'");
        let queue = "https://sqs.eu-west-1.amazonaws.com/111122223333/failed";
        assert_eq!(plain(queue, "QUEUE-URL"), queue);
        for name in ["$(x)", "-x", "a;b", "a'b", "a & b", "a // b", "see www.example.com", "%PATH%", ""] {
            assert_eq!(plain(name, "NAME"), "NAME");
        }
    }

    #[test]
    fn finding_tells_what_failed_and_its_end_closes_it() {
        let check =
            Check::of(&trail::LOGGING, vec![Observation::fail("It is stopped.").mend("Start it:", "aws start")]);
        let region: Region = "eu-west-1".parse().unwrap();
        let at = datetime!(2026-11-21 06:00 UTC);
        let blind = finding(&check, "111122223333", &region, at, false);
        assert_eq!(blind.story(), "111122223333/eu-west-1/guard/trail-logging");
        assert_eq!(blind.remedy[0].command.as_deref(), Some("aws start"));
        assert!(blind.particulars.contains(&"It is stopped.".to_owned()));
        let well = Check::of(&trail::LOGGING, vec![Observation::pass("It is logging.")]);
        let over = finding(&well, "111122223333", &region, at, true);
        assert_eq!((over.story(), over.activity()), (blind.story(), crate::catalogue::Activity::Close));
        assert!(over.remedy.is_empty() && over.origin.uid != blind.origin.uid);
        assert_eq!(finding(&check, "111122223333", &region, at, false).origin.uid, blind.origin.uid);
    }

    #[test]
    fn nothing_missing_is_said_only_if_no_check_fails() {
        let check = |about, look| Check::of(about, vec![look]);
        let region: Region = "eu-west-1".parse().unwrap();
        let said = |checks: &[Check]| nothing_missing(checks, "111122223333", &region, datetime!(2026-11-21 06:00 UTC));
        let well = check(&trail::LOGGING, Observation::pass("A."));
        let other = check(&settings::QUIET, Observation::warn("B."));
        let finding = said(&[well.clone(), other.clone()]).unwrap();
        assert_eq!(finding.activity(), crate::catalogue::Activity::Close);
        assert_eq!(finding.story(), "111122223333/eu-west-1/guard/self-check");
        let told = finding.particulars.join(" ");
        assert!(told.contains("1 checks pass.") && told.contains("settings-loud"), "{told}");
        assert!(said(&[well, other, check(&trail::RECORDS, Observation::fail("C."))]).is_none());
    }

    #[test]
    fn every_check_has_its_own_name() {
        let names: std::collections::BTreeSet<_> = CHECKS.iter().map(|about| about.id).collect();
        assert_eq!(names.len(), CHECKS.len());
    }
}
