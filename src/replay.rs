//! CloudTrail from files through the same detections as the Lambda function: what would the guard have said?
//!
//! A file holds what S3 has (`{"Records": […]}`), EventBridge events, lists of either, or one of them after the other
//! (JSON lines); plain or gzipped, told by its content. What can't be read is named, and the rest goes on.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use walkdir::WalkDir;

use crate::event::Event;

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
                .sort_by_file_name()
                .into_iter()
                .filter_entry(|entry| entry.file_name() != "CloudTrail-Digest");
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
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".json", ".jsonl", ".ndjson"].iter().any(|ending| name.ends_with(ending))
}

/// Gives every event of the input to `each`, in order; returns what couldn't be read.
pub fn read(input: &Input, mut each: impl FnMut(Event)) -> Vec<Unreadable> {
    let mut problems = Vec::new();
    let mut fail = |problem: String| problems.push(Unreadable { input: input.clone(), problem });
    match text(input) {
        Ok(text) => values(&text, &mut each, &mut fail),
        Err(error) => fail(error.to_string()),
    }
    problems
}

/// The input's text, unpacked. Bytes that aren't UTF-8 are replaced, so that one of them doesn't cost a whole file.
fn text(input: &Input) -> io::Result<String> {
    let mut bytes = Vec::new();
    match input {
        Input::Standard => io::stdin().lock().read_to_end(&mut bytes)?,
        Input::File(path) => File::open(path)?.read_to_end(&mut bytes)?,
    };
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::with_capacity(bytes.len() * 8);
        MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked)?;
        bytes = unpacked;
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes);
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// A file of CloudTrail's.
#[derive(Deserialize)]
struct Log<'a> {
    #[serde(borrow, rename = "Records")]
    records: Vec<&'a RawValue>,
}

/// One JSON value after the other. After one that is broken the next line begins anew, as JSON lines have it.
fn values(text: &str, each: &mut impl FnMut(Event), fail: &mut impl FnMut(String)) {
    let mut from = 0;
    while let Some(rest) = text.get(from..).filter(|rest| !rest.trim().is_empty()) {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let mut read = 0;
        let error = loop {
            match stream.next() {
                None => return,
                Some(Ok(value)) => {
                    let line = || line_of(text, from + start_of_value(rest, read));
                    value_of(value, &line, each, fail);
                    read = stream.byte_offset();
                }
                Some(Err(error)) => break error,
            }
        };
        let broken_at = from + start_of_value(rest, read);
        let reason = error.to_string();
        let reason = reason.split(" at line").next().unwrap_or_default();
        fail(format!("line {}: not JSON ({reason})", line_of(text, broken_at)));
        match text.get(broken_at..).and_then(|tail| tail.find('\n')) {
            Some(end) => from = broken_at + end + 1,
            None => return,
        }
    }
}

/// Where the value begins that comes after `at`.
fn start_of_value(text: &str, at: usize) -> usize {
    at + text.get(at..).map_or(0, |tail| tail.len() - tail.trim_start().len())
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

fn value_of(value: &RawValue, line: &dyn Fn() -> usize, each: &mut impl FnMut(Event), fail: &mut impl FnMut(String)) {
    let text = value.get();
    let records = match serde_json::from_str::<Log<'_>>(text) {
        Ok(log) => log.records,
        Err(_) => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(list) => list,
            Err(_) => return event(text, &|| format!("line {}", line()), each, fail),
        },
    };
    for (number, record) in (1..).zip(records) {
        event(record.get(), &|| format!("line {}, record {number}", line()), each, fail);
    }
}

fn event(text: &str, place: &dyn Fn() -> String, each: &mut impl FnMut(Event), fail: &mut impl FnMut(String)) {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value)
            if ["eventSource", "eventName", "source", "detail"].iter().any(|field| value.get(field).is_some()) =>
        {
            each(Event::from_value(value));
        }
        Ok(_) => fail(format!("{}: neither a CloudTrail record nor an EventBridge event", place())),
        Err(error) => fail(format!("{}: not JSON that can be read ({error})", place())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const RECORD: &str = r#"{"eventSource":"kms.amazonaws.com","eventName":"DisableKey"}"#;

    fn names(text: &str) -> (Vec<String>, Vec<String>) {
        let (mut names, mut problems) = (Vec::new(), Vec::new());
        let mut each = |event: Event| names.push(event.record().map_or("-".into(), |record| record.event_name.clone()));
        values(text, &mut each, &mut |problem| problems.push(problem));
        (names, problems)
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
        let mut count = 0;
        assert!(read(&Input::File(whole), |_| count += 1).is_empty());
        assert_eq!(count, 1);
        assert_eq!(read(&Input::File(cut), |_| ()).len(), 1);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
