//! The environment of the function, read once at start.

use std::time::Duration;

use crate::catalogue::Severity;
use crate::detect::{OptIns, Settings};
use crate::error::Error;
use crate::escape::inert;
use crate::key::{KeyArn, is_account_id, is_whole_key_id};
use crate::own::OwnStack;
use crate::policy::TrustedSources;

/// The function's name, which Lambda sets.
pub const FUNCTION_NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";
/// The topic for people.
pub const ALERTS_TOPIC_ARN: &str = "ALERTS_TOPIC_ARN";
/// The topic for machines.
pub const FINDINGS_TOPIC_ARN: &str = "FINDINGS_TOPIC_ARN";
/// The topic for chat channels.
pub const CHAT_TOPIC_ARN: &str = "CHAT_TOPIC_ARN";
/// The mildest severity that is published.
pub const MINIMUM_SEVERITY: &str = "MINIMUM_SEVERITY";
/// Whether denied attempts are reported.
pub const REPORT_DENIED_ATTEMPTS: &str = "REPORT_DENIED_ATTEMPTS";
/// Whether uses of a lost key are reported.
pub const REPORT_LOST_KEY_USE: &str = "REPORT_LOST_KEY_USE";
/// The roles whose doings are rated a level lower.
pub const EXPECTED_PRINCIPALS: &str = "EXPECTED_PRINCIPALS";
/// The keys whose every danger is Critical.
pub const PROTECTED_KEYS: &str = "PROTECTED_KEYS";
/// The networks and organizations that the account's own people call from.
pub const TRUSTED_SOURCES: &str = "TRUSTED_SOURCES";
/// How long look-ups may delay an alert.
pub const ENRICH_TIMEOUT_MS: &str = "ENRICH_TIMEOUT_MS";

/// The role to look keys up with in the other accounts of an organization.
pub const READER_ROLE_NAME: &str = "READER_ROLE_NAME";
/// The function's own account.
pub const HUB_ACCOUNT_ID: &str = "HUB_ACCOUNT_ID";
/// The days before a key is lost on which people are reminded of it.
#[cfg(feature = "watch")]
pub const REMINDER_DAYS: &str = "REMINDER_DAYS";
/// The keys that are disabled on purpose.
#[cfg(feature = "watch")]
pub const ACKNOWLEDGED_KEYS: &str = "ACKNOWLEDGED_KEYS";
/// The stack that the functions are parts of.
pub const STACK_NAME: &str = "STACK_NAME";
/// The watch function's own log.
#[cfg(feature = "watch")]
pub const LOG_GROUP_NAME: &str = "LOG_GROUP_NAME";
/// The alert function's log.
#[cfg(feature = "watch")]
pub const ALERT_LOG_GROUP_NAME: &str = "ALERT_LOG_GROUP_NAME";

/// The log of an organization's heartbeats, at its hub.
#[cfg(feature = "watch")]
pub const HEARTBEAT_LOG_GROUP: &str = "HEARTBEAT_LOG_GROUP";

const FUNCTION_NAME_TAKES: &str =
    "the name of the function, which Lambda sets: this program only runs as a Lambda function";

/// How the function was set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The function's name.
    pub function_name: String,
    /// The topic for people.
    pub alerts_topic: String,
    /// The topic for machines.
    pub findings_topic: String,
    /// The topic for chat channels, if there is one.
    pub chat_topic: Option<String>,
    /// What decides about severity and detection.
    pub rules: Rules,
    /// How long look-ups may delay an alert.
    pub enrich_timeout: Duration,
    /// The organization it is the hub of, if it is.
    pub organization: Option<Organization>,
}

/// What the hub of an organization needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// The name of the role that reads key metadata in every other account.
    pub reader_role: String,
    /// The hub's own account.
    pub account: String,
}

/// The part of the set-up that the pure core needs.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Which signals are findings.
    pub settings: Settings,
    /// The mildest severity that is published.
    pub minimum_severity: Severity,
    /// ARNs of IAM roles.
    pub expected_principals: Vec<String>,
    /// Ids and ARNs of keys.
    pub protected_keys: Vec<String>,
    /// The last of [`REMINDER_DAYS`]: from then on a key that the sweep finds at risk is as bad as can be.
    pub last_reminder_days: u8,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            minimum_severity: Severity::Informational,
            expected_principals: Vec::new(),
            protected_keys: Vec::new(),
            last_reminder_days: 1,
        }
    }
}

impl Config {
    /// Reads the variables through `variable`, which is `std::env::var(name).ok()` in earnest. An empty one counts as
    /// not set.
    ///
    /// # Errors
    /// The first variable that is missing or holds what it can't.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let value = |name| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let function_name = value(FUNCTION_NAME).ok_or_else(|| wrong(FUNCTION_NAME, None, FUNCTION_NAME_TAKES))?;
        let alerts_topic = topic(ALERTS_TOPIC_ARN, value(ALERTS_TOPIC_ARN))?;
        let findings_topic = topic(FINDINGS_TOPIC_ARN, value(FINDINGS_TOPIC_ARN))?;
        let chat_topic = topic_if_set(CHAT_TOPIC_ARN, value(CHAT_TOPIC_ARN))?;
        Ok(Self {
            rules: Rules {
                settings: Settings {
                    opt_ins: OptIns {
                        denied_attempts: switch(REPORT_DENIED_ATTEMPTS, value(REPORT_DENIED_ATTEMPTS))?,
                        lost_key_use: switch(REPORT_LOST_KEY_USE, value(REPORT_LOST_KEY_USE))?,
                    },
                    trusted_sources: trusted_sources(value(TRUSTED_SOURCES))?,
                    own: Some(OwnStack {
                        stack: value(STACK_NAME).unwrap_or_default(),
                        function: function_name.clone(),
                        topics: [alerts_topic.clone(), findings_topic.clone(), chat_topic.clone().unwrap_or_default()],
                    }),
                },
                minimum_severity: severity(value(MINIMUM_SEVERITY))?,
                expected_principals: roles(value(EXPECTED_PRINCIPALS))?,
                protected_keys: keys(PROTECTED_KEYS, value(PROTECTED_KEYS))?,
                ..Rules::default()
            },
            enrich_timeout: budget(value(ENRICH_TIMEOUT_MS))?,
            organization: organization(value(READER_ROLE_NAME), value(HUB_ACCOUNT_ID))?,
            function_name,
            alerts_topic,
            findings_topic,
            chat_topic,
        })
    }
}

/// How the watch function was set up.
#[cfg(feature = "watch")]
#[derive(Debug, Clone)]
pub struct WatchConfig {
    /// The function's name.
    pub function_name: String,
    /// The stack whose parts are checked.
    pub stack_name: String,
    /// The function's own log, where it finds what its last run left.
    pub log_group: String,
    /// The alert function's log, where it finds the ends of dangers that weren't confirmed.
    pub alert_log_group: Option<String>,
    /// The topic for people.
    pub alerts_topic: String,
    /// The topic for machines.
    pub findings_topic: String,
    /// The topic for chat channels, if there is one.
    pub chat_topic: Option<String>,
    /// What decides about severity.
    pub rules: Rules,
    /// How many days before a key is lost people are reminded of it; at least one number, the largest first.
    pub reminder_days: Vec<u8>,
    /// Ids and ARNs of the keys that are disabled on purpose.
    pub acknowledged: Vec<String>,
    /// Where the heartbeats of an organization's spokes are, at its hub.
    pub heartbeats: Option<String>,
}

#[cfg(feature = "watch")]
impl WatchConfig {
    /// Reads the variables as [`Config::read`] does.
    ///
    /// # Errors
    /// The first variable that is missing or holds what it can't.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let value = |name| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let given = |name, takes| value(name).ok_or_else(|| wrong(name, None, takes));
        let reminder_days = reminder_days(value(REMINDER_DAYS))?;
        Ok(Self {
            function_name: given(FUNCTION_NAME, FUNCTION_NAME_TAKES)?,
            stack_name: given(STACK_NAME, "the name of the stack that the guard was deployed as")?,
            log_group: given(LOG_GROUP_NAME, "the name of the function's log group")?,
            alert_log_group: value(ALERT_LOG_GROUP_NAME),
            alerts_topic: topic(ALERTS_TOPIC_ARN, value(ALERTS_TOPIC_ARN))?,
            findings_topic: topic(FINDINGS_TOPIC_ARN, value(FINDINGS_TOPIC_ARN))?,
            chat_topic: topic_if_set(CHAT_TOPIC_ARN, value(CHAT_TOPIC_ARN))?,
            rules: Rules {
                minimum_severity: severity(value(MINIMUM_SEVERITY))?,
                protected_keys: keys(PROTECTED_KEYS, value(PROTECTED_KEYS))?,
                last_reminder_days: reminder_days.last().copied().unwrap_or(1),
                ..Rules::default()
            },
            reminder_days,
            acknowledged: keys(ACKNOWLEDGED_KEYS, value(ACKNOWLEDGED_KEYS))?,
            heartbeats: value(HEARTBEAT_LOG_GROUP),
        })
    }
}

#[cfg(feature = "watch")]
fn reminder_days(value: Option<String>) -> Result<Vec<u8>, Error> {
    const TAKES: &str = "whole days from 1 to 30, separated by commas, such as 7,3,1";
    let Some(held) = value else { return Ok(vec![7, 3, 1]) };
    let days: Option<Vec<u8>> =
        held.split(',').map(|day| day.trim().parse().ok().filter(|day| (1..=30).contains(day))).collect();
    let mut days = days.ok_or_else(|| wrong(REMINDER_DAYS, Some(&held), TAKES))?;
    days.sort_unstable_by(|a, b| b.cmp(a));
    days.dedup();
    Ok(days)
}

fn wrong(name: &'static str, held: Option<&str>, takes: &'static str) -> Error {
    let problem = held.map_or_else(|| "is not set".to_owned(), |held| format!("is \"{}\"", inert(held, 200)));
    Error::Environment { name, problem, takes }
}

fn topic(name: &'static str, value: Option<String>) -> Result<String, Error> {
    const TAKES: &str = "the ARN of an SNS topic, such as arn:aws:sns:eu-west-1:111122223333:alerts";
    let arn = value.ok_or_else(|| wrong(name, None, TAKES))?;
    let mut parts = arn.split(':');
    let mut next = || parts.next().unwrap_or_default();
    let (prefix, partition, service, region, account, topic) = (next(), next(), next(), next(), next(), next());
    let valid = prefix == "arn"
        && partition.starts_with("aws")
        && service == "sns"
        && region.parse::<crate::key::Region>().is_ok_and(|region| region.partition().name == partition)
        && is_account_id(account)
        && !topic.is_empty()
        && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && parts.next().is_none();
    if valid { Ok(arn) } else { Err(wrong(name, Some(&arn), TAKES)) }
}

fn topic_if_set(name: &'static str, value: Option<String>) -> Result<Option<String>, Error> {
    value.map(|arn| topic(name, Some(arn))).transpose()
}

fn switch(name: &'static str, value: Option<String>) -> Result<bool, Error> {
    match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(wrong(name, value.as_deref(), "true or false")),
    }
}

fn severity(value: Option<String>) -> Result<Severity, Error> {
    match value {
        None => Ok(Severity::Informational),
        Some(held) => held
            .parse()
            .map_err(|()| wrong(MINIMUM_SEVERITY, Some(&held), "Informational, Low, Medium, High or Critical")),
    }
}

fn trusted_sources(value: Option<String>) -> Result<TrustedSources, Error> {
    TrustedSources::read(&value.unwrap_or_default())
        .map_err(|held| wrong(TRUSTED_SOURCES, Some(&held), TRUSTED_SOURCES_TAKES))
}

/// What a list of trusted sources takes.
pub const TRUSTED_SOURCES_TAKES: &str = "CIDRs other than /0, ids of VPCs, VPC endpoints and organizations, separated by \
                                         commas, such as 198.51.100.0/24,vpc-0a1b2c3d,vpce-0a1b2c3d,o-a1b2c3d4e5";

fn roles(value: Option<String>) -> Result<Vec<String>, Error> {
    const TAKES: &str = "ARNs of IAM roles, separated by commas, such as arn:aws:iam::111122223333:role/key-admin; \
                         a session's ARN (assumed-role) won't do, since whoever assumes the role chooses its name";
    let value = value.unwrap_or_default();
    let arns = value.split(',').map(str::trim).filter(|arn| !arn.is_empty());
    arns.map(|arn| if is_role(arn) { Ok(arn.to_owned()) } else { Err(wrong(EXPECTED_PRINCIPALS, Some(arn), TAKES)) })
        .collect()
}

/// A list of keys. Aliases won't do: whoever moves one elsewhere would choose which key is meant.
fn keys(name: &'static str, value: Option<String>) -> Result<Vec<String>, Error> {
    const TAKES: &str = "key ids and key ARNs, separated by commas, such as 1234abcd-12ab-34cd-56ef-1234567890ab; \
                         an alias won't do, since it can be moved to another key";
    let value = value.unwrap_or_default();
    let keys = value.split(',').map(str::trim).filter(|key| !key.is_empty());
    let is_key = |key: &str| is_whole_key_id(key.parse::<KeyArn>().as_ref().map_or(key, KeyArn::id));
    keys.map(|key| if is_key(key) { Ok(key.to_owned()) } else { Err(wrong(name, Some(key), TAKES)) }).collect()
}

/// Whether this is `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
pub fn is_role(arn: &str) -> bool {
    let mut parts = arn.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (prefix, partition, service, region, account, resource) = (next(), next(), next(), next(), next(), next());
    let name = resource.strip_prefix("role/").unwrap_or_default();
    prefix == "arn"
        && partition.starts_with("aws")
        && service == "iam"
        && region.is_empty()
        && is_account_id(account)
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@/-".contains(&b))
}

/// How long look-ups may take together, unless `ENRICH_TIMEOUT_MS` says otherwise.
pub const DEFAULT_ENRICH_TIMEOUT: Duration = Duration::from_millis(2_000);

fn budget(value: Option<String>) -> Result<Duration, Error> {
    const TAKES: &str = "whole milliseconds from 0 (no look-ups) to 10000";
    let Some(held) = value else { return Ok(DEFAULT_ENRICH_TIMEOUT) };
    match held.parse() {
        Ok(ms @ 0..=10_000) => Ok(Duration::from_millis(ms)),
        _ => Err(wrong(ENRICH_TIMEOUT_MS, Some(&held), TAKES)),
    }
}

fn organization(role: Option<String>, account: Option<String>) -> Result<Option<Organization>, Error> {
    const TAKES: &str = "the name of an IAM role, without a path, such as kms-key-guard-spoke-reader";
    let Some(reader_role) = role else { return Ok(None) };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if reader_role.len() > 64 || !reader_role.bytes().all(is_name) {
        return Err(wrong(READER_ROLE_NAME, Some(&reader_role), TAKES));
    }
    match account {
        Some(account) if is_account_id(&account) => Ok(Some(Organization { reader_role, account })),
        held => Err(wrong(HUB_ACCOUNT_ID, held.as_deref(), "the account that the function is in, twelve digits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(overrides: &[(&str, &str)]) -> Result<Config, String> {
        let mut variables = vec![
            ("AWS_LAMBDA_FUNCTION_NAME", "guard"),
            ("ALERTS_TOPIC_ARN", "arn:aws:sns:eu-west-1:111122223333:alerts"),
            ("FINDINGS_TOPIC_ARN", "arn:aws:sns:eu-west-1:111122223333:findings"),
        ];
        variables.extend(overrides);
        let last = |name: &str| variables.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Config::read(last).map_err(|error| error.to_string())
    }

    #[test]
    fn two_topics_are_enough() {
        let config = read(&[]).unwrap();
        assert_eq!(config.enrich_timeout, Duration::from_secs(2));
        assert_eq!(config.rules.minimum_severity, Severity::Informational);
        let [alerts, findings] =
            ["alerts", "findings"].map(|topic| format!("arn:aws:sns:eu-west-1:111122223333:{topic}"));
        let topics = [alerts, findings, String::new()];
        let own = Some(OwnStack { stack: String::new(), function: "guard".into(), topics });
        assert_eq!(config.rules.settings, Settings { own, ..Settings::default() });
        assert!(config.rules.expected_principals.is_empty());
        assert_eq!(config.organization, None);
        assert_eq!(config.chat_topic, None);
    }

    #[test]
    fn every_variable_is_taken() {
        let config = read(&[
            ("STACK_NAME", "kms-key-guard"),
            ("CHAT_TOPIC_ARN", "arn:aws:sns:eu-west-1:111122223333:chat"),
            ("MINIMUM_SEVERITY", "medium"),
            ("REPORT_DENIED_ATTEMPTS", "TRUE"),
            ("REPORT_LOST_KEY_USE", "true"),
            ("EXPECTED_PRINCIPALS", "arn:aws:iam::111122223333:role/a, arn:aws-cn:iam::111122223333:role/path/b"),
            ("TRUSTED_SOURCES", "198.51.100.0/24, vpc-0a1b2c3d"),
            (
                "PROTECTED_KEYS",
                "mrk-1234abcd12ab34cd56ef1234567890ab, arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            ),
            ("ENRICH_TIMEOUT_MS", "500"),
            ("READER_ROLE_NAME", "kms-key-guard-spoke-reader"),
            ("HUB_ACCOUNT_ID", "111122223333"),
        ])
        .unwrap();
        assert_eq!(config.rules.settings.own.unwrap().stack, "kms-key-guard");
        assert_eq!(config.chat_topic.as_deref(), Some("arn:aws:sns:eu-west-1:111122223333:chat"));
        assert_eq!(config.rules.minimum_severity, Severity::Medium);
        assert!(config.rules.settings.opt_ins.denied_attempts && config.rules.settings.opt_ins.lost_key_use);
        assert_eq!(config.rules.expected_principals.len(), 2);
        assert_eq!(config.rules.protected_keys.len(), 2);
        let trusted = TrustedSources::read("198.51.100.0/24,vpc-0a1b2c3d").unwrap();
        assert_eq!(config.rules.settings.trusted_sources, trusted);
        assert_eq!(config.enrich_timeout, Duration::from_millis(500));
        let (reader_role, account) = ("kms-key-guard-spoke-reader".to_owned(), "111122223333".to_owned());
        assert_eq!(config.organization, Some(Organization { reader_role, account }));
    }

    #[test]
    fn wrong_value_is_named_with_what_it_takes() {
        for (name, held, takes) in [
            ("AWS_LAMBDA_FUNCTION_NAME", "", "is not set; it takes the name of the function"),
            ("ALERTS_TOPIC_ARN", "", "is not set; it takes the ARN of an SNS topic"),
            ("FINDINGS_TOPIC_ARN", "arn:aws:sqs:eu-west-1:111122223333:q", "an SNS topic"),
            ("ALERTS_TOPIC_ARN", "arn:aws-cn:sns:eu-west-1:111122223333:alerts", "an SNS topic"),
            ("CHAT_TOPIC_ARN", "true", "an SNS topic"),
            ("MINIMUM_SEVERITY", "Severe", "Informational, Low, Medium, High or Critical"),
            ("REPORT_DENIED_ATTEMPTS", "yes", "true or false"),
            ("REPORT_LOST_KEY_USE", "1", "true or false"),
            ("EXPECTED_PRINCIPALS", "arn:aws:sts::111122223333:assumed-role/a/b", "ARNs of IAM roles"),
            ("EXPECTED_PRINCIPALS", "arn:aws:iam::111122223333:role/", "ARNs of IAM roles"),
            ("PROTECTED_KEYS", "alias/payments-db", "an alias won't do"),
            ("PROTECTED_KEYS", "1234abcd", "key ids and key ARNs"),
            (
                "PROTECTED_KEYS",
                "arn:aws:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
                "key ARNs",
            ),
            ("PROTECTED_KEYS", "mrk-1234abcd12ab34cd56ef1234567890abc", "key ids"),
            ("TRUSTED_SOURCES", "0.0.0.0/0", "CIDRs other than /0"),
            ("TRUSTED_SOURCES", "example.com", "ids of VPCs"),
            ("ENRICH_TIMEOUT_MS", "2s", "whole milliseconds"),
            ("ENRICH_TIMEOUT_MS", "10001", "whole milliseconds"),
        ] {
            let error = read(&[(name, held)]).unwrap_err();
            assert!(error.contains(name) && error.contains(held) && error.contains(takes), "{error}");
        }
    }

    #[test]
    fn reader_role_is_a_plain_name_and_comes_with_the_account() {
        let hub = ("HUB_ACCOUNT_ID", "111122223333");
        for (overrides, name, held) in [
            ([("READER_ROLE_NAME", "path/reader"), hub], "READER_ROLE_NAME", "path/reader"),
            ([("READER_ROLE_NAME", "arn:aws:iam::111122223333:role/r"), hub], "READER_ROLE_NAME", "arn:aws:iam"),
            ([("READER_ROLE_NAME", "reader"), ("HUB_ACCOUNT_ID", "")], "HUB_ACCOUNT_ID", "is not set"),
            ([("READER_ROLE_NAME", "reader"), ("HUB_ACCOUNT_ID", "1111")], "HUB_ACCOUNT_ID", "1111"),
        ] {
            let error = read(&overrides).unwrap_err();
            assert!(error.starts_with(name) && error.contains(held), "{error}");
        }
        assert_eq!(read(&[hub]).unwrap().organization, None);
    }

    #[test]
    fn hostile_value_cannot_forge_a_log_line() {
        assert!(!read(&[("MINIMUM_SEVERITY", "x\nERROR y")]).unwrap_err().contains('\n'));
    }

    #[cfg(feature = "watch")]
    fn read_watch(overrides: &[(&str, &str)]) -> Result<WatchConfig, String> {
        let mut variables = vec![
            ("AWS_LAMBDA_FUNCTION_NAME", "guard-watch"),
            ("STACK_NAME", "guard"),
            ("LOG_GROUP_NAME", "/aws/lambda/guard-watch"),
            ("ALERTS_TOPIC_ARN", "arn:aws:sns:eu-west-1:111122223333:alerts"),
            ("FINDINGS_TOPIC_ARN", "arn:aws:sns:eu-west-1:111122223333:findings"),
        ];
        variables.extend(overrides);
        let last = |name: &str| variables.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        WatchConfig::read(last).map_err(|error| error.to_string())
    }

    #[cfg(feature = "watch")]
    #[test]
    fn reminder_days_come_in_any_order() {
        let days =
            |value| read_watch(&[("REMINDER_DAYS", value)]).map(|c| (c.reminder_days, c.rules.last_reminder_days));
        assert_eq!(days("").unwrap(), (vec![7, 3, 1], 1));
        assert_eq!(days("2, 14,2").unwrap(), (vec![14, 2], 2));
        assert_eq!(days("30").unwrap(), (vec![30], 30));
        for wrong in ["0", "31", "7,,1", "7;3", "-1", "1.5", "a week", "7,3,1,"] {
            let error = days(wrong).unwrap_err();
            assert!(
                error.contains("REMINDER_DAYS") && error.contains(wrong) && error.contains("from 1 to 30"),
                "{error}"
            );
        }
    }

    #[cfg(feature = "watch")]
    #[test]
    fn acknowledged_keys_are_ids_and_arns_and_nothing_else() {
        let id = "1234abcd-12ab-34cd-56ef-1234567890ab";
        let multi_region = "mrk-1234abcd12ab34cd56ef1234567890ab";
        let arn = format!("arn:aws:kms:eu-west-1:111122223333:key/{id}");
        let keys = |value: &str| read_watch(&[("ACKNOWLEDGED_KEYS", value)]).map(|config| config.acknowledged);
        assert_eq!(keys("").unwrap(), Vec::<String>::new());
        assert_eq!(keys(&format!("{id}, {arn},{multi_region}")).unwrap(), [id, &arn, multi_region]);
        for wrong in [
            "alias/retired",
            "retired",
            "1234ABCD-12ab-34cd-56ef-1234567890ab",
            "1234abcd-12ab-34cd-56ef-1234567890ab0",
            "mrk-1234",
            "arn:aws:kms:eu-west-1:111122223333:alias/retired",
            "arn:aws-cn:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        ] {
            let error = keys(&format!("{id},{wrong}")).unwrap_err();
            assert!(
                error.starts_with(&format!("ACKNOWLEDGED_KEYS is \"{wrong}\"; it takes key ids and key ARNs")),
                "{error}"
            );
        }
    }

    #[cfg(feature = "watch")]
    #[test]
    fn watch_function_needs_its_stack_and_its_log() {
        assert!(read_watch(&[]).is_ok());
        for name in ["STACK_NAME", "LOG_GROUP_NAME", "ALERTS_TOPIC_ARN", "AWS_LAMBDA_FUNCTION_NAME"] {
            let error = read_watch(&[(name, " ")]).unwrap_err();
            assert!(error.contains(name) && error.contains("is not set"), "{error}");
        }
    }
}
