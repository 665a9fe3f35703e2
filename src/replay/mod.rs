//! CloudTrail from files through the same detections as the Lambda function: what would the guard have said?
//!
//! A file holds what S3 has (`{"Records": […]}`), EventBridge events, lists of either, or one of them after the other
//! (JSON lines); plain or gzipped, told by its content. What can't be read is named, and the rest goes on.
//!
//! Archives are large and hits are rare, so a record gets a [`Glance`] first, which is the same JSON parser stopping at
//! a few fields, and is read in full only if these leave it open whether it is silence. Files are read in parallel, a
//! chunk at a time, and what they hold comes out in their order.

mod text;

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use walkdir::WalkDir;

use self::text::{BLANK, Text};
use crate::detect::is_silence;
use crate::event::Event;
use crate::json::parse;

/// How much is unpacked at a time: it stays in the processor's cache until it is read.
const CHUNK: usize = 256 * 1024;
/// The longest value that is read. CloudTrail's records and EventBridge's events are at most some hundred kilobytes.
const LONGEST: usize = 32 * 1024 * 1024;
/// How many results of one file wait at most until those of the files before it are taken.
const WAITING: usize = 64;

/// A place that events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `-`.
    Standard,
    /// A file.
    File(PathBuf),
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("standard input"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Something that couldn't be read, and where.
#[derive(Debug, thiserror::Error)]
#[error("{input}: {problem}")]
pub struct Unreadable {
    /// The file.
    pub input: Input,
    /// Where in it, and what is wrong.
    pub problem: String,
}

/// The inputs that the paths stand for: `-`, files, and of folders every `.json`, `.jsonl` and `.ndjson` file below,
/// gzipped or not, by name. CloudTrail's digest files, which lie beside the logs, are left out.
pub fn inputs(paths: &[PathBuf]) -> Vec<Result<Input, Unreadable>> {
    let mut inputs = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(Ok(Input::Standard));
        } else if path.is_dir() {
            let below = WalkDir::new(path)
                .follow_links(true)
                .sort_by_file_name()
                .into_iter()
                .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != "CloudTrail-Digest");
            for entry in below {
                match entry {
                    Ok(entry) if entry.file_type().is_file() && holds_events(entry.path()) => {
                        inputs.push(Ok(Input::File(entry.into_path())))
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let at = error.path().unwrap_or(path).to_owned();
                        inputs.push(Err(Unreadable { input: Input::File(at), problem: error.to_string() }));
                    }
                }
            }
        } else {
            inputs.push(Ok(Input::File(path.clone())));
        }
    }
    inputs
}

fn holds_events(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".json", ".jsonl", ".ndjson"].iter().any(|ending| name.ends_with(ending))
}

/// What an input holds.
#[derive(Debug)]
pub enum Replayed<T> {
    /// An event that is more than silence, as it was judged.
    Event(T),
    /// Something that couldn't be read.
    Problem(Unreadable),
    /// The end of the input, which held so many more events that are silence.
    End {
        /// How many.
        silent: u64,
    },
}

/// Reads the inputs, several at a time, has their events judged as they are read (None is silence), and gives what they
/// hold to `each`, in their order.
///
/// # Errors
/// The first that `each` returns; it ends the reading.
pub fn read_all<T: Send, E>(
    inputs: Vec<Result<Input, Unreadable>>,
    judge: impl Fn(Event) -> Option<T> + Sync,
    mut each: impl FnMut(Replayed<T>) -> Result<(), E>,
) -> Result<(), E> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(inputs.len());
    let (give, jobs) = channel::<(_, SyncSender<Replayed<T>>)>();
    let (jobs, judge) = (&Mutex::new(jobs), &judge);
    thread::scope(|scope| {
        // Dropping them ends the readers: no more to do, and nobody takes what they find.
        let (give, mut begun) = (give, VecDeque::new());
        for _ in 0..threads {
            scope.spawn(move || {
                let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok((input, found)) = next() {
                    // It fails if nobody listens any more, and then neither to the next.
                    let _ = match input {
                        Ok(input) => read(&input, judge, |what| found.send(what)),
                        Err(problem) => found.send(Replayed::Problem(problem)),
                    };
                }
            });
        }
        let mut take = |found: Receiver<Replayed<T>>| found.into_iter().try_for_each(&mut each);
        for input in inputs {
            let (found, results) = sync_channel(WAITING);
            // It only fails without readers, and they end after us.
            let _ = give.send((input, found));
            begun.push_back(results);
            if begun.len() > 2 * threads {
                begun.pop_front().map_or(Ok(()), &mut take)?;
            }
        }
        begun.into_iter().try_for_each(take)
    })
}

fn read<T, E>(
    input: &Input,
    judge: impl Fn(Event) -> Option<T>,
    mut each: impl FnMut(Replayed<T>) -> Result<(), E>,
) -> Result<(), E> {
    let mut silent = 0;
    let read = open(input).map_err(Stop::Failed).and_then(|text| {
        let each = &mut |found| each(found).map_err(Stop::Asked);
        ValueReader { input, text, silent: &mut silent, judge, each }.values()
    });
    let problem = match read {
        Ok(()) => None,
        Err(Stop::Asked(error)) => return Err(error),
        Err(Stop::Failed(error)) => Some(error.to_string()),
        Err(Stop::Broken(place, reason)) => Some(format!("{place}: not JSON ({reason})")),
    };
    if let Some(problem) = problem {
        each(Replayed::Problem(Unreadable { input: input.clone(), problem }))?;
    }
    each(Replayed::End { silent })
}

/// Why reading an input ended before its end.
enum Stop<E> {
    /// The value there isn't JSON, and why.
    Broken(Position, String),
    /// The input can't be read on.
    Failed(io::Error),
    /// Whoever takes the events said so.
    Asked(E),
}

/// The input's text, unpacked.
fn open(input: &Input) -> io::Result<Text> {
    let packed: Box<dyn Read> = match input {
        Input::Standard => Box::new(io::stdin()),
        Input::File(path) => Box::new(File::open(path)?),
    };
    let mut packed = BufReader::with_capacity(CHUNK, packed);
    let mut first = Vec::new();
    packed.by_ref().take(2).read_to_end(&mut first)?;
    let is_gzip = first == [0x1f, 0x8b];
    let whole = io::Cursor::new(first).chain(packed);
    let unpacked: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    Ok(Text::new(unpacked, CHUNK))
}

/// How long that can be to be seen; with more blanks in it a file is read as one value.
const LONGEST_OPENING: usize = 64;

/// The length of what opens a file of CloudTrail's, if the text begins with it: `{"Records":[`.
fn opening_of_log(text: &str) -> Option<usize> {
    let mut rest = text;
    for part in ["{", "\"Records\"", ":", "["] {
        rest = rest.trim_start_matches(BLANK).strip_prefix(part)?;
    }
    Some(text.len() - rest.len())
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Position {
    line: usize,
    record: Option<u64>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        self.record.map_or(Ok(()), |number| write!(f, ", record {number}"))
    }
}

struct ValueReader<'a, J, F> {
    input: &'a Input,
    text: Text,
    silent: &'a mut u64,
    judge: J,
    each: F,
}

impl<T, E, J, F> ValueReader<'_, J, F>
where
    J: Fn(Event) -> Option<T>,
    F: FnMut(Replayed<T>) -> Result<(), Stop<E>>,
{
    /// One JSON value after the other. After one that is broken the next line begins anew, as JSON lines have it.
    fn values(&mut self) -> Result<(), Stop<E>> {
        while let Some(byte) = self.text.next() {
            self.text.at_least(LONGEST_OPENING);
            let place = Position { line: self.text.line(), record: None };
            let read = match opening_of_log(self.text.rest()) {
                Some(length) => self.log(length, place),
                None if byte == b'[' => self.list(place),
                None => self.value(place),
            };
            match read {
                // What was cut off isn't whole; why it was cut says more.
                Err(Stop::Broken(..)) if self.text.failed.is_some() => break,
                Err(Stop::Broken(place, reason)) => {
                    let problem = format!("{place}: not JSON ({reason})");
                    (self.each)(Replayed::Problem(Unreadable { input: self.input.clone(), problem }))?;
                    self.text.skip_line();
                }
                other => other?,
            }
        }
        self.text.failed.take().map_or(Ok(()), |error| Err(Stop::Failed(error)))
    }

    /// A file of CloudTrail's, of which so much opens the list. There may be more than the list in it.
    fn log(&mut self, opening: usize, place: Position) -> Result<(), Stop<E>> {
        self.text.skip(opening - 1);
        self.list(place)?;
        while self.next_part(place, b'}')? {
            self.text.next();
            let (_, length) = self.whole(place)?;
            let is_records = self.text.rest().get(..length) == Some("\"Records\"");
            self.text.skip(length);
            match (self.text.next(), self.text.skip(1), self.text.next()) {
                (Some(b':'), (), Some(b'[')) if is_records => self.list(place)?,
                (Some(b':'), (), _) => {
                    let (_, length) = self.whole(place)?;
                    self.text.skip(length);
                }
                _ => return Err(Stop::Broken(place, "expected `:`".into())),
            }
        }
        Ok(())
    }

    /// A list of records.
    fn list(&mut self, place: Position) -> Result<(), Stop<E>> {
        self.text.skip(1);
        if self.text.next() == Some(b']') {
            self.text.skip(1);
            return Ok(());
        }
        for number in 1.. {
            let place = Position { record: Some(number), ..place };
            self.text.next();
            self.value(place)?;
            if !self.next_part(place, b']')? {
                break;
            }
        }
        Ok(())
    }

    /// Whether another part follows, and not the end.
    fn next_part(&mut self, place: Position, end: u8) -> Result<bool, Stop<E>> {
        let byte = self.text.next();
        if byte != Some(b',') && byte != Some(end) {
            return Err(Stop::Broken(place, format!("expected `,` or `{}`", char::from(end))));
        }
        self.text.skip(1);
        Ok(byte == Some(b','))
    }

    /// The value that begins here.
    fn value(&mut self, place: Position) -> Result<(), Stop<E>> {
        let (is_silence, length) = self.whole(place)?;
        if is_silence {
            *self.silent += 1;
            self.text.skip(length);
            return Ok(());
        }
        let text = self.text.rest().get(..length).unwrap_or_default();
        let records = match serde_json::from_str::<Log<'_>>(text) {
            Ok(log) if place.record.is_none() => {
                (1..).zip(log.records).map(|(number, record)| (Some(number), record.get())).collect()
            }
            _ => vec![(place.record, text)],
        };
        for (record, text) in records {
            match event(text).map(&self.judge) {
                Ok(Some(judged)) => (self.each)(Replayed::Event(judged))?,
                Ok(None) => *self.silent += 1,
                Err(reason) => {
                    let problem = format!("{}: {reason}", Position { record, ..place });
                    (self.each)(Replayed::Problem(Unreadable { input: self.input.clone(), problem }))?;
                }
            }
        }
        self.text.skip(length);
        Ok(())
    }

    /// Adds to the text until the value that begins here is whole; says whether it is silence, and its length.
    fn whole(&mut self, place: Position) -> Result<(bool, usize), Stop<E>> {
        loop {
            let rest = self.text.rest();
            let seen = glance(rest);
            let may_go_on = match &seen {
                Ok((_, length)) => *length == rest.len(),
                Err(error) => error.is_eof() || is_at_end(error, rest),
            };
            if self.text.ended || !may_go_on {
                return seen.map_err(|error| {
                    let reason = error.to_string();
                    Stop::Broken(place, reason.split(" at line").next().unwrap_or_default().to_owned())
                });
            }
            if rest.len() > LONGEST {
                return Err(Stop::Broken(place, format!("longer than {} MiB", LONGEST >> 20)));
            }
            self.text.more();
        }
    }
}

/// Whether the parser came to the end of the text: half a number is a mistake to it, and not a part of one.
fn is_at_end(error: &serde_json::Error, text: &str) -> bool {
    let (mut lines, mut last) = (0, "");
    for line in text.split('\n') {
        (lines, last) = (lines + 1, line);
    }
    error.line() == lines && error.column() + 1 >= last.len()
}

/// Whether the value at the beginning of the text surely is silence, and its length.
fn glance(text: &str) -> Result<(bool, usize), serde_json::Error> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Glance<'_>>();
    match values.next() {
        // Another type, or a field given twice.
        Some(Err(error)) if error.is_data() => {
            let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
            values.next().transpose()?;
            Ok((false, values.byte_offset()))
        }
        other => {
            let is_silence = other.transpose()?.is_some_and(|glance| glance.is_silence());
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
    #[serde(borrow, default, rename = "Records")]
    records: Field<'a>,
}

impl Glance<'_> {
    /// Whether it is a CloudTrail record that is silence whatever is asked for.
    fn is_silence(&self) -> bool {
        let is_record = self.detail.0.is_none() && self.records.0.is_none();
        let failed = self.error_code.0.is_some() || self.error_message.0.is_some();
        let named = self.event_source.plain().zip(self.event_name.plain());
        is_record && named.is_some_and(|(source, name)| is_silence(source, name, failed))
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

/// A file of CloudTrail's whose records don't come first.
#[derive(Deserialize)]
struct Log<'a> {
    #[serde(borrow, rename = "Records")]
    records: Vec<&'a RawValue>,
}

fn event(text: &str) -> Result<Event, String> {
    let value = parse(text).map_err(|error| format!("not JSON that can be read ({error})"))?;
    // CloudTrail's Insights records have a category and no source.
    if ["eventSource", "eventName", "eventCategory", "source", "detail"].iter().all(|field| value.get(field).is_none())
    {
        return Err("neither a CloudTrail record nor an EventBridge event".into());
    }
    Ok(Event::from_value(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const RECORD: &str = r#"{"eventSource":"kms.amazonaws.com","eventName":"DisableKey"}"#;

    /// The calls that were read in full, and the problems; the same however the text comes.
    fn names(text: &str) -> (Vec<String>, Vec<String>) {
        let results = [1, 2, 7, 50, CHUNK].map(|chunk| {
            let (mut names, mut problems, mut silent) = (Vec::new(), Vec::new(), 0);
            let each = &mut |found: Replayed<Event>| {
                match found {
                    Replayed::Event(event) => names.push(event.record().map_or("-".into(), |r| r.event_name.clone())),
                    Replayed::Problem(Unreadable { problem, .. }) => problems.push(problem),
                    Replayed::End { .. } => {}
                }
                Ok::<_, Stop<()>>(())
            };
            let text = Text::new(Box::new(io::Cursor::new(text.to_owned())), chunk);
            assert!(
                ValueReader { input: &Input::Standard, text, silent: &mut silent, judge: Some, each }.values().is_ok()
            );
            (names, problems)
        });
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
        results.into_iter().next().unwrap()
    }

    #[test]
    fn every_shape_of_file_is_read() {
        for (text, count) in [
            (format!("{{\"Records\":[{RECORD},{RECORD}]}}"), 2),
            (format!("[{RECORD}]"), 1),
            (RECORD.to_owned(), 1),
            (format!("{RECORD}\n{RECORD}\n\n{RECORD}"), 3),
            (
                format!(
                    "{{\"source\":\"aws.kms\",\"detail-type\":\"AWS API Call via CloudTrail\",\"detail\":{RECORD}}}"
                ),
                1,
            ),
            (String::new(), 0),
        ] {
            let (names, problems) = names(&text);
            assert_eq!(names, vec!["DisableKey"; count], "{text}");
            assert!(problems.is_empty(), "{problems:?}");
        }
    }

    #[test]
    fn broken_line_is_named_and_the_rest_goes_on() {
        let (names, problems) = names(&format!("{RECORD}\n{{\"eventName\": \n{RECORD}\n7\n{RECORD}"));
        assert_eq!(names.len(), 3);
        assert!(problems[0].starts_with("line 2: not JSON"), "{problems:?}");
        assert!(problems.iter().any(|problem| problem.starts_with("line 4: neither")), "{problems:?}");
    }

    #[test]
    fn record_that_is_none_is_named_by_its_number() {
        let (names, problems) = names(&format!("{{\"Records\":[{RECORD},{{}},{RECORD}]}}"));
        assert_eq!((names.len(), problems.len()), (2, 1));
        assert!(problems[0].starts_with("line 1, record 2: neither"), "{problems:?}");
    }

    #[test]
    fn gzip_is_told_by_content_and_a_cut_one_is_an_error() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(RECORD.as_bytes()).unwrap();
        let bytes = gzip.finish().unwrap();
        let folder = std::env::temp_dir().join(format!("keyguard-replay-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (whole, cut) = (folder.join("whole"), folder.join("cut.json.gz"));
        std::fs::write(&whole, &bytes).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        let count = |path: PathBuf| {
            let (mut events, mut problems) = (0, 0);
            let inputs = vec![Ok(Input::File(path))];
            let read = read_all(inputs, Some, |found| {
                match found {
                    Replayed::Event(_) => events += 1,
                    Replayed::Problem(_) => problems += 1,
                    Replayed::End { .. } => {}
                }
                Ok::<_, ()>(())
            });
            assert!(read.is_ok());
            (events, problems)
        };
        assert_eq!(count(whole), (1, 0));
        assert_eq!(count(cut), (0, 1));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
