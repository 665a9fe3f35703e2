//! KMS Key Guard tells the people responsible, within seconds, that a KMS key is on its way to being lost.
//!
//! ```text
//! EventBridge ─► event ─► detect ─► enrich ─► assess ─► render ─► publish ─► SNS
//! ```
//!
//! `detect`, `assess` and `render` are pure; AWS is only asked in `enrich` and only told in `publish`. [`handler`] is
//! the list of these calls in that order. The modules below stand in the order in which a signal meets them.
//!
//! The watch function (feature `watch`) looks at the account on a schedule and says the same way what it finds:
//!
//! ```text
//! Scheduler ─┬─► sweep     every key already in danger        ─┬─► assess ─► render ─► publish ─► SNS
//!            └─► coverage  can the guard see, is it heard?    ─┘
//! ```
//!
//! # Environment of the alert function
//!
//! | variable | takes | default |
//! |---|---|---|
//! | `ALERTS_TOPIC_ARN` | the SNS topic for people | required |
//! | `FINDINGS_TOPIC_ARN` | the SNS topic for machines | required |
//! | `CHAT_TOPIC_ARN` | the SNS topic for chat channels | none |
//! | `MINIMUM_SEVERITY` | `Informational`, `Low`, `Medium`, `High` or `Critical` | `Informational` |
//! | `REPORT_DENIED_ATTEMPTS` | `true` or `false` | `false` |
//! | `REPORT_LOST_KEY_USE` | `true` or `false` | `false` |
//! | `PROTECTED_KEYS` | ids and ARNs of keys, separated by commas: whatever puts one at risk is Critical | none |
//! | `EXPECTED_PRINCIPALS` | ARNs of IAM roles, separated by commas | none |
//! | `TRUSTED_SOURCES` | CIDRs, `vpc-…`, `vpce-…` and `o-…`, separated by commas: where the account's own people call from | none |
//! | `ENRICH_TIMEOUT_MS` | milliseconds, 0 to 10000; 0 means no look-ups | `2000` |
//! | `STACK_NAME` | the stack that it is a part of, to know calls that put a part back | none: every such call counts as tampering |
//! | `READER_ROLE_NAME` | the name of the role to look keys up with in the other accounts of an organization | none: one account |
//! | `HUB_ACCOUNT_ID` | the function's own account, where no role is needed | required with `READER_ROLE_NAME` |
//!
//! # Environment of the watch function
//!
//! | variable | takes | default |
//! |---|---|---|
//! | `ALERTS_TOPIC_ARN`, `FINDINGS_TOPIC_ARN`, `CHAT_TOPIC_ARN`, `MINIMUM_SEVERITY`, `PROTECTED_KEYS` | as above | as above |
//! | `STACK_NAME` | the stack whose parts it checks | required |
//! | `LOG_GROUP_NAME` | its own log group, where it finds what its last run left | required |
//! | `ALERT_LOG_GROUP_NAME` | the alert function's log group, where it finds the ends of dangers that KMS hadn't confirmed | none: no all-clear is sent later |
//! | `HEARTBEAT_LOG_GROUP` | the log group with the heartbeats of an organization's spokes | none: one account |
//! | `ACKNOWLEDGED_KEYS` | ids and ARNs of keys that are disabled on purpose, separated by commas | none |
//! | `REMINDER_DAYS` | whole days from 1 to 30, separated by commas | `7,3,1` |

// What everything stands on.
pub mod catalogue;
pub mod escape;
pub mod json;
pub mod key;

// The way of an event.
pub mod event;

pub mod actor;
pub mod finding;
pub mod meaning;

pub mod policy;
pub mod trail_selectors;

pub mod own;
pub mod tamper;

pub mod detect;

pub mod error;

pub mod config;

pub mod aws;

pub mod enrich;
pub mod members;

pub mod assess;

// What the watch function finds by looking.
#[cfg(feature = "watch")]
pub mod at_risk;
#[cfg(feature = "watch")]
pub mod coverage;

pub mod render;

pub mod publish;

pub mod log;
pub mod metrics;

pub mod limit;

pub mod handler;

#[cfg(feature = "watch")]
pub mod watch;

// What only the command line does.
#[cfg(feature = "cli")]
pub mod redrive;
#[cfg(feature = "cli")]
pub mod replay;
