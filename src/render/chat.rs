//! The alert for chat channels: a custom notification of Amazon Q Developer in chat applications, in one thread for each key.
//!
//! A first screen and no more: what, which key, how long is left, who, the commands that undo it, a link. The rest is in the
//! text. The channel reads it as its own markdown, which differs between Slack and Teams, so there are only lists, code and
//! bare addresses, which both read the same. Text that a caller chose mentions nobody, links nothing and formats nothing.
//! <https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>

use time::OffsetDateTime;

use super::remedy::Remedy;
use super::text::{deadline, has_caller, person, unconfirmed};
use super::writer::{Object, line};
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
const LONGEST_EXCERPT: usize = 2_400;
/// How many particulars, reasons and steps are shown at most.
const MOST: usize = 4;

/// The notification as one line of JSON, with the alert's Subject for its title.
pub(super) fn document(finding: &Finding, alert: &Alert, remedy: &Remedy, now: OffsetDateTime) -> String {
    let (detection, severity) = (finding.detection, finding.assessment.severity);
    // Nobody's refused call is written into a key's thread.
    let thread = if detection.kind == Kind::KeyLossDenied { finding.story() } else { finding.thing() };
    let description = description(finding, remedy, now);
    let place = [finding.account(), finding.region().map(Region::as_str)];
    let keywords = [severity.name(), detection.id].into_iter().chain(place.into_iter().flatten());
    notification(
        &alert.subject,
        &description,
        &alert.attributes,
        |content| {
            content.texts("nextSteps", next_steps(&remedy.steps));
            content.texts("keywords", keywords.map(|word| cut(plain(&name(word, 64)), 64)));
        },
        |o| {
            o.put("id", finding.origin.uid.to_string());
        },
        |metadata| {
            metadata.put("threadId", cut(thread.clone(), LONGEST_TITLE));
            metadata.put("eventType", detection.id);
            metadata.texts("relatedResources", finding.key().map(ToString::to_string));
        },
    )
}

/// The daily digest, or as much of its start as a channel shows.
#[cfg(feature = "watch")]
pub fn digest(digest: &super::digest::Digest) -> String {
    let below = digest.text.strip_prefix(digest.subject.as_str()).unwrap_or(&digest.text).trim();
    let whole = verbatim(below);
    let mut excerpt = String::new();
    for line in whole.lines().take_while(|line| line.len() < LONGEST_EXCERPT) {
        if excerpt.len() + line.len() > LONGEST_EXCERPT {
            break;
        }
        excerpt.push_str(line);
        excerpt.push('\n');
    }
    let more = if excerpt.trim_end().len() < whole.len() {
        "\nThis is its start; the alerts topic has all of it."
    } else {
        ""
    };
    let description = format!("```\n{excerpt}```{more}");
    notification(
        &digest.subject,
        &description,
        &digest.attributes,
        |_| {},
        |_| {},
        |metadata| {
            metadata.put("eventType", super::digest::EVENT_NAME);
        },
    )
}

fn notification(
    subject: &str,
    description: &str,
    attributes: &[(&'static str, Value)],
    content: impl FnOnce(&mut Object),
    identity: impl FnOnce(&mut Object),
    metadata: impl FnOnce(&mut Object),
) -> String {
    let title = cut(plain(subject), LONGEST_TITLE);
    line(|o| {
        o.put("version", "1.0");
        o.put("source", "custom");
        identity(o);
        o.object("content", |o| {
            o.put("textType", "client-markdown");
            o.put("title", &title);
            o.put("description", description);
            content(o);
        });
        o.object("metadata", |o| {
            o.put("summary", &title);
            metadata(o);
            o.object("additionalContext", |o| {
                for (name, value) in attributes {
                    o.put(name, value.to_string());
                }
            });
        });
    })
}

fn description(finding: &Finding, remedy: &Remedy, now: OffsetDateTime) -> String {
    let mut text = finding.detection.meaning.to_owned();
    if let Some(doubt) = unconfirmed(finding) {
        text = format!("{text} {}", cut(plain(&doubt), LONGEST_LINE));
    }
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
        Subject::Guard { kind, part } => item(kind, &code(part)),
        Subject::Unknown { .. } => item("Key", &unknown()),
    }
    if finding.is_danger() {
        item("Time left", &cut(plain(&deadline(finding, now)), LONGEST_LINE));
    }
    let reasons = finding.assessment.reasons.iter().take(MOST).map(|reason| reason.text.as_str());
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    let because = if reasons.is_empty() { "" } else { ", because " };
    let severity = finding.assessment.severity.name();
    item("Severity", &cut(plain(&[severity, because, &reasons].concat()), 2 * LONGEST_LINE));
    if has_caller(finding) {
        item("Who", &code(&person(&finding.actor)));
    }
    for particular in finding.particulars.iter().take(MOST) {
        item("", &cut(plain(particular), LONGEST_LINE));
    }
    item("Way back", finding.detection.way_back);
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
            Some(_) => format!("{} (the command is in the alert on the alerts topic)", cut(what, LONGEST_LINE)),
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
            ["Put it back: (the command is in the alert on the alerts topic)", "Enable it: `aws kms`"]
        );
        let many = vec![Step::say("Again."); MOST + 1];
        assert_eq!(next_steps(&many).last().unwrap(), "The further steps are in the alert on the alerts topic.");
    }
}
