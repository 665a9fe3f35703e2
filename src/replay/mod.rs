//! CloudTrail from files through the same detections as the Lambda function: what would the guard have said?
//!
//! An input is opened and told by its content ([`open`]), decoded ([`text`]) and read value by value ([`values`]), or by the
//! row where it isn't JSON ([`forms`]). What wraps events is opened at the fields that are known ([`unwrap`]). What can't be
//! read is named, and the rest goes on; what was passed over is counted.
//!
//! Archives are large and hits are rare, so a record gets a glance first, which is the same JSON parser stopping at a few
//! fields, and is read in full only if these leave it open whether it is silence. Files are read in parallel, a chunk at a
//! time, and what they hold comes out in their order.

mod forms;
mod open;
mod report;
mod text;
mod unwrap;
mod values;

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use walkdir::WalkDir;

use self::forms::Form;
use self::open::{Opened, open, reason};
use self::report::{Enough, Found, Reading};
use crate::escape::inert;
use crate::event::Event;

/// How much is unpacked at a time: it stays in the processor's cache until it is read.
const CHUNK: usize = 256 * 1024;
/// The longest value that is read. CloudTrail's records and EventBridge's events are at most some hundred kilobytes, and
/// what wraps them some megabytes.
const LONGEST: usize = 32 * 1024 * 1024;
/// How many results of one file wait at most until those of the files before it are taken.
const WAITING: usize = 16;

/// A place that events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `-`.
    Standard,
    /// A file that was asked for.
    File(PathBuf),
    /// A file in a folder that was asked for.
    Found(PathBuf),
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The longest path there is on Linux.
        const LONGEST_PATH: usize = 4096;
        match self {
            Self::Standard => f.write_str("standard input"),
            Self::File(path) | Self::Found(path) => f.write_str(&inert(&path.to_string_lossy(), LONGEST_PATH)),
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

/// The inputs that the paths stand for: `-`, files, and every file below folders, by name.
pub fn inputs(paths: &[PathBuf]) -> Vec<Result<Input, Unreadable>> {
    let mut inputs = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(Ok(Input::Standard));
        } else if path.is_dir() {
            let before = inputs.len();
            for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
                match entry {
                    Ok(entry) if entry.file_type().is_dir() => {}
                    Ok(entry) => inputs.push(Ok(Input::Found(entry.into_path()))),
                    Err(error) => {
                        let at = error.path().unwrap_or(path).to_owned();
                        let problem = match (error.loop_ancestor(), error.io_error()) {
                            (Some(_), _) => "a link to a folder that it is in: not followed".to_owned(),
                            (None, Some(error)) => reason(error),
                            (None, None) => "can't be read".to_owned(),
                        };
                        inputs.push(Err(Unreadable { input: Input::File(at), problem }));
                    }
                }
            }
            if inputs.len() == before {
                let problem = "a folder without files: nothing was read".to_owned();
                inputs.push(Err(Unreadable { input: Input::File(path.clone()), problem }));
            }
        } else {
            inputs.push(Ok(Input::File(path.clone())));
        }
    }
    inputs
}

/// What an input holds.
#[derive(Debug)]
pub enum Replayed<T> {
    /// An event that is more than silence, as it was judged.
    Event(T),
    /// Something that couldn't be read.
    Problem(Unreadable),
    /// The end of the input.
    End(Input, Tally),
}

/// How much of an input isn't shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that are silence.
    pub silent: u64,
    /// Whether it was understood, be it that it holds no event.
    pub read: bool,
    /// Problems beyond those that were shown.
    pub more_problems: u64,
    /// What was passed over, by its kind; of each there may be several in one input.
    pub passed_over: Vec<String>,
}

/// Reads the inputs, several at a time, has their events judged as they are read (None is silence), and gives what they
/// hold to `each`, in their order. `every_part` is whether calls on other parts of a guard than trails matter.
///
/// # Errors
/// The first that `each` returns; it ends the reading.
pub fn read_all<T: Send, E>(
    inputs: Vec<Result<Input, Unreadable>>,
    every_part: bool,
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
                        Ok(input) => read(&input, every_part, judge, |what| found.send(what)),
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
    every_part: bool,
    judge: impl Fn(Event) -> Option<T>,
    mut each: impl FnMut(Replayed<T>) -> Result<(), E>,
) -> Result<(), E> {
    let unreadable = |problem| Replayed::Problem(Unreadable { input: input.clone(), problem });
    let (mut text, form) = match open(input) {
        Ok(Opened::Text(text, form)) => (text, form),
        Ok(Opened::PassedOver(kind)) => {
            return each(Replayed::End(input.clone(), Tally { passed_over: vec![kind], ..Tally::default() }));
        }
        Err(problem) => {
            each(unreadable(problem))?;
            return each(Replayed::End(input.clone(), Tally::default()));
        }
    };
    let mut failed = None;
    let tell = &mut |found| {
        let told = match found {
            Found::Event(event) => match judge(event) {
                Some(judged) => each(Replayed::Event(judged)),
                None => return Ok(true),
            },
            Found::Problem(problem) => each(unreadable(problem)),
        };
        told.map(|()| false).map_err(|error| {
            failed = Some(error);
            Enough
        })
    };
    let mut report = Reading::new(tell);
    let read = match form {
        Form::Json | Form::Unknown => values::values(&mut text, every_part, &mut report),
        Form::Rows => forms::rows(&mut text, &mut report),
        Form::Table => forms::table(&mut text, &mut report),
        Form::Yaml => forms::yaml(&mut text, &mut report),
        Form::Csv => forms::csv(&mut text, &mut report),
    };
    let read = read.and_then(|()| match text.failed.take() {
        Some(error) => {
            report.place.line = text.line();
            report.problem(&format!("it can't be read on from here ({})", reason(&error)))
        }
        None => Ok(()),
    });
    let Reading { silent, read: understood, more_problems, passed_over, .. } = report;
    let Ok(()) = read else { return failed.map_or(Ok(()), Err) };
    let passed_over: Vec<_> = passed_over.into_iter().map(str::to_owned).collect();
    // What was asked for by its name and is known to hold no events has been read.
    let read = understood || (matches!(input, Input::File(_) | Input::Standard) && !passed_over.is_empty());
    each(Replayed::End(input.clone(), Tally { silent, read, more_problems, passed_over }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::text::Text;
    use std::io;

    pub(super) const RECORD: &str = r#"{"eventSource":"kms.amazonaws.com","eventName":"DisableKey"}"#;

    /// The calls that were read in full, and the problems; the same however the text comes.
    pub(super) fn names(text: &str) -> (Vec<String>, Vec<String>) {
        let results = [1, 2, 7, 50, CHUNK].map(|chunk| {
            let (mut names, mut problems) = (Vec::new(), Vec::new());
            let tell = &mut |found| {
                match found {
                    Found::Event(event) => names.push(event.record().map_or("-".into(), |r| r.event_name.clone())),
                    Found::Problem(problem) => problems.push(problem),
                }
                Ok(false)
            };
            let mut text = Text::new(Vec::new(), io::Cursor::new(text.to_owned()), chunk);
            assert!(values::values(&mut text, false, &mut Reading::new(tell)).is_ok());
            (names, problems)
        });
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
        results.into_iter().next().unwrap()
    }

    #[test]
    fn every_shape_of_file_is_read() {
        for (text, count) in [
            (format!("{{\"Records\":[{RECORD},{RECORD}]}}"), 2),
            (format!("{{\"awsRegion\":\"eu-west-1\",\"Records\":[{RECORD}]}}"), 1),
            (format!("{{ \"Records\" : [ {RECORD} ], \"Events\" : [{RECORD}], \"more\": [{RECORD}] }}"), 2),
            (format!("[{RECORD}]"), 1),
            (RECORD.to_owned(), 1),
            (format!("{RECORD}\n{RECORD}\n\n{RECORD}"), 3),
            (format!("{RECORD}{RECORD}\t{RECORD}"), 3),
            (format!("{RECORD}\u{feff}{RECORD}"), 2),
            (format!("2026-11-21T03:12:44.000Z {RECORD}\n2026-11-21T03:12:45+00:00 some/stream {RECORD}\n"), 2),
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
        assert!(problems.iter().any(|problem| problem.starts_with("line 4: a number is no event")), "{problems:?}");
    }

    #[test]
    fn what_a_broken_record_holds_is_no_event_of_its_own() {
        let broken = format!("{{\n  \"eventName\": nothing,\n  \"requestParameters\": [\n    {RECORD}\n  ]\n}}\n");
        let (found, problems) = names(&format!("{broken}{RECORD}\n"));
        assert_eq!((found.len(), problems.len()), (1, 1), "{problems:?}");
    }

    #[test]
    fn record_that_is_none_is_named_by_its_number() {
        let (names, problems) = names(&format!("{{\"Records\":[{RECORD},{{}},{RECORD}]}}"));
        assert_eq!((names.len(), problems.len()), (2, 1));
        assert!(problems[0].starts_with("line 1, record 2: neither"), "{problems:?}");
    }

    #[test]
    fn line_of_a_log_without_json_is_one_problem() {
        let (names, problems) =
            names(&format!("2026-11-21T03:12:44Z all well {{so far\n2026-11-21T03:12:44Z {RECORD}"));
        assert_eq!((names.len(), problems.len()), (1, 1), "{problems:?}");
    }
}
