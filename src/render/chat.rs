//! The alert for chat channels: a custom notification of Amazon Q Developer in chat applications, in one thread for each key.
//!
//! A first screen and no more: what, which key, how long is left, who, the commands that undo it, a link. The rest is in the
//! text. The channel reads it as its own markdown, which differs between Slack and Teams, so there are only lists, code and
//! bare addresses, which both read the same. Text that a caller chose mentions nobody, links nothing and formats nothing.
//! <https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>

use time::OffsetDateTime;

use super::remedy::Remedy;
use super::text::{deadline, has_caller, meaning, person, way_back};
use super::writer::line;
use super::{Alert, Value};
use crate::catalogue::Kind;
use crate::escape::{name, without_domains};
use crate::finding::{Finding, Step, Subject};
use crate::key::Region;

// What AWS doesn't show it drops, so each part stays well below what Slack takes in a section, 3,000 characters.
// <https://docs.slack.dev/reference/block-kit/blocks/section-block>
const LONGEST_TITLE: usize = 240;
const LONGEST_LINE: usize = 240;
const LONGEST_STEP: usize = 340;
#[cfg(feature = "watch")]
const LONGEST_EXCERPT: usize = 2_400;
/// How many particulars, reasons and steps are shown at most.
const MOST: usize = 4;

/// The notification as one line of JSON, with the alert's Subject for its title.
pub(super) fn document(finding: &Finding, alert: &Alert, remedy: &Remedy, now: OffsetDateTime) -> String {
    let detection = finding.detection;
    let region = finding.region().map_or("", Region::as_str);
    let keywords = [finding.assessment.severity.name(), detection.id, finding.account().unwrap_or_default(), region];
    Notification {
        id: finding.origin.uid.to_string(),
        subject: &alert.subject,
        description: description(finding, remedy, now),
        next_steps: next_steps(&remedy.steps),
        keywords: keywords.map(|word| if word.is_empty() { String::new() } else { plain(&name(word, 64)) }).to_vec(),
        // Nobody's refused call is written into a key's thread.
        thread: if detection.kind == Kind::KeyLossDenied { finding.story() } else { finding.thing() },
        event_type: detection.id,
        resources: finding.key().map(ToString::to_string).into_iter().collect(),
        attributes: &alert.attributes,
    }
    .line()
}

/// The daily digest, or as much of its start as a channel shows.
#[cfg(feature = "watch")]
pub fn digest(digest: &super::digest::Digest) -> String {
    let whole = verbatim(digest.text.trim());
    let start = whole.get(..whole.floor_char_boundary(LONGEST_EXCERPT)).unwrap_or_default();
    let description = match start.rsplit_once('\n') {
        Some((lines, _)) if start.len() < whole.len() => {
            format!("```\n{lines}\n```\nThis is its start; the alerts topic has all of it.")
        }
        _ => format!("```\n{start}\n```"),
    };
    Notification {
        id: String::new(),
        subject: &digest.subject,
        description,
        next_steps: Vec::new(),
        keywords: Vec::new(),
        thread: String::new(),
        event_type: super::digest::EVENT_NAME,
        resources: Vec::new(),
        attributes: &digest.attributes,
    }
    .line()
}

/// The parts that both have; what is empty is left out.
struct Notification<'a> {
    id: String,
    subject: &'a str,
    description: String,
    next_steps: Vec<String>,
    keywords: Vec<String>,
    thread: String,
    event_type: &'a str,
    resources: Vec<String>,
    attributes: &'a [(&'static str, Value)],
}

impl Notification<'_> {
    fn line(self) -> String {
        let title = cut(plain(self.subject), LONGEST_TITLE);
        line(|o| {
            o.put("version", "1.0");
            o.put("source", "custom");
            o.put("id", self.id.as_str());
            o.object("content", |o| {
                o.put("textType", "client-markdown");
                o.put("title", title.as_str());
                o.put("description", self.description.as_str());
                o.texts("nextSteps", &self.next_steps);
                o.texts("keywords", &self.keywords);
            });
            o.object("metadata", |o| {
                o.put("threadId", cut(self.thread, LONGEST_TITLE).as_str());
                o.put("summary", title.as_str());
                o.put("eventType", self.event_type);
                o.texts("relatedResources", &self.resources);
                o.object("additionalContext", |o| {
                    for (name, value) in self.attributes {
                        o.put(name, value.to_string().as_str());
                    }
                });
            });
        })
    }
}

fn description(finding: &Finding, remedy: &Remedy, now: OffsetDateTime) -> String {
    let mut text = plain(&meaning(finding));
    text.push('\n');
    let mut item = |what: &str, value: &str| {
        for part in ["\n- ", what, if what.is_empty() { "" } else { ": " }, value] {
            text.push_str(part);
        }
    };
    let unknown = || "the event names none that can be trusted".to_owned();
    match &finding.subject {
        Subject::Key(arn) => item("Key", &code(&arn.to_string())),
        Subject::KeyStore { id, .. } => item("Custom key store", &id.as_deref().map_or_else(unknown, code)),
        Subject::Cluster { id } => item("CloudHSM cluster", &id.as_deref().map_or_else(unknown, code)),
        Subject::Guard { kind, part } => item("Part of the guard", &code(&format!("{kind} {part}"))),
        Subject::Unknown { .. } => item("Key", &unknown()),
    }
    if let Some(left) = deadline(finding, now).filter(|_| finding.is_danger()) {
        item("Time left", &cut(plain(&left), LONGEST_LINE));
    }
    if has_caller(finding) {
        item("Who", &code(&person(&finding.actor)));
    }
    let reasons = finding.assessment.reasons.iter().take(MOST).map(|reason| reason.text.as_str());
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    let because = if reasons.is_empty() { "" } else { ", because " };
    let severity = finding.assessment.severity.name();
    item("Severity", &cut(plain(&[severity, because, &reasons].concat()), 2 * LONGEST_LINE));
    for particular in finding.particulars.iter().take(MOST) {
        item("", &cut(plain(particular), LONGEST_LINE));
    }
    if finding.particulars.len() > MOST {
        item("", "The rest is in the alert on the alerts topic.");
    }
    if finding.is_danger() {
        item("Undo it", way_back(finding));
    }
    if let Some((_, address)) = remedy.links.first() {
        item("Open", address);
    }
    text
}

/// The steps with their commands, each as it is pasted; one that is too long, or that code can't show, is in the text alone.
fn next_steps(steps: &[Step]) -> Vec<String> {
    let shown = steps.iter().take(MOST).map(|step| {
        let what = plain(&step.what);
        match &step.command {
            Some(command) if what.len() + command.len() < LONGEST_STEP && verbatim(command) == *command => {
                format!("{what} `{command}`")
            }
            Some(_) => {
                let what = cut(what.trim_end_matches(':').to_owned(), LONGEST_LINE);
                format!("{what} (the command is in the alert on the alerts topic).")
            }
            None => cut(what, LONGEST_STEP),
        }
    });
    let more = (steps.len() > MOST).then(|| "The further steps are in the alert on the alerts topic.".to_owned());
    shown.chain(more).collect()
}

/// Inert text as code.
fn code(text: &str) -> String {
    format!("`{}`", cut(verbatim(text), LONGEST_LINE))
}

/// Inert text as it may stand in code: code ends with a backtick, Slack reads `&`, `<` and `>` there too, and a mention may be
/// one anywhere.
fn verbatim(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '@' => out.push_str("(at)"),
            '&' | '<' | '>' | '`' => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Inert text as it may stand outside code: no emphasis, no mention, no emoji, no link.
/// <https://docs.slack.dev/messaging/formatting-message-text>
fn plain(text: &str) -> String {
    let text = without_domains(text);
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let after = text.get(at + c.len_utf8()..).unwrap_or_default();
        match c {
            '@' => out.push_str("(at)"),
            '(' if out.ends_with(']') => out.push_str(" ("),
            '*' | '~' | '&' | '<' | '>' | '`' => out.extend(c.escape_unicode()),
            // Within a word it is only itself.
            '_' if !(before.is_alphanumeric() && after.starts_with(char::is_alphanumeric)) => {
                out.extend(c.escape_unicode())
            }
            ':' if names_emoji(after) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// Whether what stands after a colon makes an emoji of it, such as `tada:`.
fn names_emoji(after: &str) -> bool {
    after.split_once(':').is_some_and(|(name, _)| {
        name.bytes().any(|b| b.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-'".contains(&b))
    })
}

/// The text, or as much of it as fits.
fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_of_a_caller_formats_links_and_mentions_nothing() {
        for (given, shown) in [
            ("<!channel> @here", r"\u{3c}!channel\u{3e} (at)here"),
            ("*a* _b_ ~c~ `d`", r"\u{2a}a\u{2a} \u{5f}b\u{5f} \u{7e}c\u{7e} \u{60}d\u{60}"),
            ("www[.](evil", "www[.] (evil"),
            ("see evil.example", "see evil[.]example"),
            ("&lt;!here&gt;", r"\u{26}lt;!here\u{26}gt;"),
            (":white_check_mark: fixed", r"\u{3a}white_check_mark: fixed"),
            ("payments_db at 03:12:44 UTC", "payments_db at 03:12:44 UTC"),
        ] {
            assert_eq!(plain(given), shown);
        }
        assert_eq!(code("a`b <@U1> &amp;"), r"`a\u{60}b \u{3c}(at)U1\u{3e} \u{26}amp;`");
    }

    #[test]
    fn step_whose_command_is_too_long_says_where_it_is() {
        let steps = [Step::run("Put it back:", "x".repeat(LONGEST_STEP)), Step::run("Enable it:", "aws kms".into())];
        assert_eq!(
            next_steps(&steps),
            ["Put it back (the command is in the alert on the alerts topic).", "Enable it: `aws kms`"]
        );
        let many = vec![Step::say("Again."); MOST + 1];
        assert_eq!(next_steps(&many).last().unwrap(), "The further steps are in the alert on the alerts topic.");
    }

    #[cfg(feature = "watch")]
    #[test]
    fn digest_is_shown_as_far_as_a_channel_takes_it() {
        let of = |lines: usize| {
            let text = "  alias/a `b` @here <!channel>\n".repeat(lines);
            let attributes = vec![("event_name", Value::Text("daily-digest".into()))];
            let notification = digest(&crate::render::digest::Digest { subject: "3 keys".into(), text, attributes });
            let document: serde_json::Value = serde_json::from_str(&notification).unwrap();
            assert_eq!(document["content"]["title"], "3 keys");
            assert_eq!(document["metadata"]["additionalContext"]["event_name"], "daily-digest");
            document["content"]["description"].as_str().unwrap().to_owned()
        };
        assert_eq!(of(1), "```\nalias/a \\u{60}b\\u{60} (at)here \\u{3c}!channel\\u{3e}\n```");
        let long = of(500);
        assert!(
            long.len() < 3_000 && long.ends_with("```\nThis is its start; the alerts topic has all of it."),
            "{long}"
        );
    }
}
