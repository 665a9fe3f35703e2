//! The JSON values of a text, one after the other: a file of CloudTrail's, lists, JSON lines, or objects without anything
//! between them; also with the time that CloudWatch Logs writes before each.
//!
//! A value is looked at as often as its text doubles until it is whole. What broken ones make us look at for nothing is
//! counted, and where that is much each value has to end on its line: so reading takes time in proportion to the text,
//! whatever is in it.

use memchr::{memchr, memchr_iter};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::LONGEST;
use super::report::{Enough, Place, Reading};
use super::text::{BLANK, BYTE_ORDER_MARK, Text};
use super::unwrap::{LISTS, Opening};
use crate::detect::is_silence;

/// How long the opening of a list can be to be seen; with more blanks in it an object is read as one value.
const LONGEST_OPENING: usize = 64;
/// Longer than any time and name of a log stream.
const LONGEST_PREFIX: usize = 600;
/// How much may be looked at for nothing: this, and so many times what was read.
const WASTE: (usize, usize) = (4 * 1024 * 1024, 4);

/// Why reading a value ended before its end.
enum Stop {
    /// The value there isn't JSON, why, and how far it was looked at.
    Broken(Place, String, usize),
    Enough,
}

impl From<Enough> for Stop {
    fn from(_: Enough) -> Self {
        Self::Enough
    }
}

/// Reads every value of a text. `every_part` is whether calls on other parts of a guard than trails matter.
pub(super) fn values(text: &mut Text, every_part: bool, report: &mut Reading<'_>) -> Result<(), Enough> {
    Values { text, every_part, report, by_line: false, line_end: None, searched: 0 }.all()
}

struct Values<'a, 'b> {
    text: &'a mut Text,
    every_part: bool,
    report: &'a mut Reading<'b>,
    /// Whether every value has to end on the line that it begins on.
    by_line: bool,
    /// Where the line ends that is read, and until where its end was looked for: in what was skipped so far.
    line_end: Option<usize>,
    searched: usize,
}

impl Values<'_, '_> {
    /// After a value that is broken the next line begins anew, as JSON lines have it.
    fn all(&mut self) -> Result<(), Enough> {
        let (mut wasted, mut broken) = (0_usize, false);
        while let Some(byte) = self.text.next() {
            if self.text.rest().starts_with(BYTE_ORDER_MARK) {
                self.text.skip(BYTE_ORDER_MARK.len_utf8());
                continue;
            }
            // What is left of the list that the broken value was in.
            if broken && matches!(byte, b',' | b']' | b'}') {
                self.text.skip(1);
                continue;
            }
            self.text.at_least(LONGEST_OPENING);
            let place = Place { line: self.text.line(), record: None };
            self.report.place = place;
            if byte.is_ascii_digit() {
                self.text.at_least(LONGEST_PREFIX);
                match log_line(self.text.rest()) {
                    Some(LogLine::Value(length)) => {
                        self.text.skip(length);
                        continue;
                    }
                    Some(LogLine::Other) => {
                        self.report.problem("a line of a log that holds no JSON")?;
                        self.text.skip_line();
                        continue;
                    }
                    None => {}
                }
            }
            let read = match opening_of_list(self.text.rest()) {
                Some(length) => self.object_of_list(length, place),
                None if byte == b'[' => self.list(place),
                None => self.value(place),
            };
            match read {
                Ok(()) => {}
                Err(Stop::Enough) => return Err(Enough),
                // What was cut off isn't whole; why it was cut says more.
                Err(Stop::Broken(..)) if self.text.failed.is_some() => break,
                Err(Stop::Broken(place, reason, looked_at)) => {
                    broken = true;
                    self.report.place = place;
                    self.report.problem(&format!("not JSON ({reason})"))?;
                    let before = self.text.skipped;
                    self.skip_to_next_line();
                    wasted += looked_at.saturating_sub(self.text.skipped - before);
                    let (least, times) = WASTE;
                    self.by_line |= wasted > least + times.saturating_mul(self.text.skipped);
                }
            }
        }
        Ok(())
    }

    /// Goes to the next line that can begin a value: what is indented belongs to the broken one, and might be what a caller
    /// wrote into it.
    fn skip_to_next_line(&mut self) {
        loop {
            self.text.skip_line();
            self.text.at_least(1);
            if !self.text.rest().starts_with(BLANK) {
                return;
            }
        }
    }

    /// An object that begins with a list, so much of it before the list. There may be more in it, and more lists.
    fn object_of_list(&mut self, opening: usize, place: Place) -> Result<(), Stop> {
        self.text.skip(opening - 1);
        self.list(place)?;
        while self.next_part(place, b'}')? {
            self.text.next();
            let (_, length) = self.whole(place)?;
            let name = self.text.rest().get(..length).unwrap_or_default();
            let is_list =
                LISTS.iter().any(|list| name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) == Some(list));
            self.text.skip(length);
            match (self.text.next(), self.text.skip(1), self.text.next()) {
                (Some(b':'), (), Some(b'[')) if is_list => self.list(place)?,
                (Some(b':'), (), _) => {
                    let (_, length) = self.whole(place)?;
                    self.text.skip(length);
                }
                _ => return Err(Stop::Broken(place, "expected `:`".into(), 0)),
            }
        }
        Ok(())
    }

    fn list(&mut self, place: Place) -> Result<(), Stop> {
        self.text.skip(1);
        if self.text.next() == Some(b']') {
            self.report.nothing();
            self.text.skip(1);
            return Ok(());
        }
        for number in 1.. {
            let place = Place { record: Some(number), ..place };
            self.text.next();
            self.value(place)?;
            if !self.next_part(place, b']')? {
                break;
            }
        }
        Ok(())
    }

    /// Whether another part follows, and not the end.
    fn next_part(&mut self, place: Place, end: u8) -> Result<bool, Stop> {
        let byte = self.text.next();
        if byte != Some(b',') && byte != Some(end) {
            return Err(Stop::Broken(place, format!("expected `,` or `{}`", char::from(end)), 0));
        }
        self.text.skip(1);
        Ok(byte == Some(b','))
    }

    /// The value that begins here.
    fn value(&mut self, place: Place) -> Result<(), Stop> {
        let (is_silence, length) = self.whole(place)?;
        if length > LONGEST {
            self.report.place = place;
            self.report.problem(&format!("longer than {} MiB", LONGEST >> 20))?;
        } else if is_silence {
            self.report.silence();
        } else {
            self.report.place = place;
            let json = self.text.rest().get(..length).unwrap_or_default();
            Opening::new(self.report, length).value(json)?;
        }
        self.text.skip(length);
        Ok(())
    }

    /// Adds to the text until the value that begins here is whole; says whether it is silence, and its length.
    fn whole(&mut self, place: Place) -> Result<(bool, usize), Stop> {
        loop {
            let line = if self.by_line { self.line() } else { None };
            let rest = self.text.rest();
            let rest = line.and_then(|length| rest.get(..length)).unwrap_or(rest);
            let seen = glance(rest, self.every_part);
            let looked_at = match &seen {
                Ok((_, length)) => *length,
                Err(error) if error.is_eof() => rest.len(),
                // Half a number or half a name is a mistake to the parser, and not a part of one.
                Err(error) => offset(error, rest) + 1,
            };
            if self.text.ended || line.is_some() || looked_at < rest.len() {
                return seen.map_err(|error| {
                    let reason = error.to_string();
                    let reason = reason.split(" at line").next().unwrap_or_default().to_owned();
                    Stop::Broken(place, reason, looked_at)
                });
            }
            if rest.len() > LONGEST {
                return Err(Stop::Broken(place, format!("longer than {} MiB", LONGEST >> 20), rest.len()));
            }
            self.text.more();
        }
    }

    /// How long the rest of the line is, if its end is there. It is looked for once.
    fn line(&mut self) -> Option<usize> {
        let at = self.text.skipped;
        if self.line_end.is_none_or(|end| end <= at) {
            let from = self.searched.max(at) - at;
            let rest = self.text.rest().as_bytes();
            self.line_end = memchr(b'\n', rest.get(from..).unwrap_or_default()).map(|end| at + from + end + 1);
            self.searched = self.line_end.unwrap_or(at + rest.len());
        }
        self.line_end.map(|end| end - at)
    }
}

/// Where in the text the parser stopped.
fn offset(error: &serde_json::Error, text: &str) -> usize {
    let lines_before = error.line().saturating_sub(1);
    let line = match lines_before {
        0 => 0,
        lines => memchr_iter(b'\n', text.as_bytes()).nth(lines - 1).map_or(0, |end| end + 1),
    };
    line + error.column()
}

/// The length of what opens an object that begins with a list of events, if the text begins with it: `{"Records":[`.
fn opening_of_list(text: &str) -> Option<usize> {
    let text = text.get(..text.floor_char_boundary(LONGEST_OPENING))?;
    let part = |rest: &'_ str, part: char| Some(text.len() - rest.trim_start_matches(BLANK).strip_prefix(part)?.len());
    let name_at = part(text.get(part(text, '{')?..)?, '"')?;
    let (name, rest) = text.get(name_at..)?.split_once('"')?;
    let opening = part(text.get(part(rest, ':')?..)?, '[')?;
    LISTS.contains(&name).then_some(opening)
}

/// What a line of CloudWatch Logs is that begins with a time, in an exported log or as `aws logs tail` prints it, with the
/// log stream.
enum LogLine {
    /// The length of what stands before the value.
    Value(usize),
    /// No JSON.
    Other,
}

fn log_line(text: &str) -> Option<LogLine> {
    let head = text.get(..text.floor_char_boundary(LONGEST_PREFIX))?;
    let line = head.split('\n').next()?;
    let prefix = line.split(['{', '"', '[']).next()?;
    let mut words = prefix.split_ascii_whitespace();
    let time = words.next()?.as_bytes();
    let is_time = time.get(..4)?.iter().all(u8::is_ascii_digit) && time.get(4) == Some(&b'-') && time.contains(&b':');
    let is_value = prefix.len() < line.len() && words.count() <= 1;
    is_time.then_some(if is_value { LogLine::Value(prefix.len()) } else { LogLine::Other })
}

/// Whether the value at the beginning of the text surely is silence, and its length.
fn glance(text: &str, every_part: bool) -> Result<(bool, usize), serde_json::Error> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Glance<'_>>();
    match values.next() {
        // Another type, or a field given twice.
        Some(Err(error)) if error.is_data() => {
            let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
            values.next().transpose()?;
            Ok((false, values.byte_offset()))
        }
        other => {
            let is_silence = other.transpose()?.is_some_and(|glance| glance.is_silence(every_part));
            Ok((is_silence, values.byte_offset()))
        }
    }
}

/// The fields that tell most silence, as they stand in the JSON.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow, default, rename = "eventSource")]
    event_source: Field<'a>,
    #[serde(borrow, default, rename = "eventName")]
    event_name: Field<'a>,
    #[serde(borrow, default, rename = "errorCode")]
    error_code: Field<'a>,
    #[serde(borrow, default, rename = "errorMessage")]
    error_message: Field<'a>,
    #[serde(borrow, default)]
    detail: Field<'a>,
}

impl Glance<'_> {
    /// Whether it is a CloudTrail record that is silence whatever is asked for.
    fn is_silence(&self, every_part: bool) -> bool {
        let failed = self.error_code.0.is_some() || self.error_message.0.is_some();
        let named = self.event_source.plain().zip(self.event_name.plain());
        // Lambda's events name their source as `aws:sqs`.
        self.detail.0.is_none()
            && named.is_some_and(|(source, name)| {
                !source.starts_with("aws:") && is_silence(source, name, failed, every_part)
            })
    }
}

/// A field's JSON; None if the field isn't there, which isn't the same as null.
#[derive(Default)]
struct Field<'a>(Option<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|value| Self(Some(value.get())))
    }
}

impl<'a> Field<'a> {
    /// The text, if it is one, not empty and without escapes.
    fn plain(&self) -> Option<&'a str> {
        let text = self.0?.strip_prefix('"')?.strip_suffix('"')?;
        (!text.is_empty() && !text.contains('\\')).then_some(text)
    }
}
