//! An input's text: unpacked if it is gzip, and refused by its name if it is something else that can't be read.

use std::cell::Cell;
use std::fs::{self, File, FileType};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use super::forms::{Form, form};
use super::text::Text;
use super::unwrap::LAYERS;
use super::{CHUNK, Input};
use crate::escape::inert;

/// How much of a file tells what it is.
const HEAD: usize = 512;
/// How much of a text tells what it is: header lines can be long.
const BEGINNING: usize = 64 * 1024;
/// How much data that was packed twice may unpack to: this, and so many times the file, which is gzip's best.
const UNPACKED: (u64, u64) = (16 * 1024 * 1024, 1100);

/// What an input turned out to be.
pub(super) enum Opened {
    Text(Text, Form),
    /// Found in a folder, and without anything that can be an event: its kind.
    PassedOver(String),
}

/// What other files begin with, what they are, and what to do.
static REFUSED: [(&[u8], &str); 15] = [
    (b"PK\x03\x04", "a zip archive isn't read: unpack it first"),
    (b"PK\x05\x06", "a zip archive isn't read: it is empty"),
    (b"\x28\xb5\x2f\xfd", "zstd isn't read: unpack it first (zstd -d)"),
    (b"BZh", "bzip2 isn't read: unpack it first (bunzip2)"),
    (b"\xfd7zXZ\0", "xz isn't read: unpack it first (xz -d)"),
    (b"\x04\x22\x4d\x18", "lz4 isn't read: unpack it first (lz4 -d)"),
    (b"\xff\x06\0\0sNaPpY", "snappy isn't read: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive isn't read: unpack it first"),
    (b"Rar!", "a RAR archive isn't read: unpack it first"),
    (b"PAR1", "Parquet isn't read, as Security Lake writes it: take CloudTrail's own files, from the trail's bucket"),
    (b"ORC", "ORC isn't read: take CloudTrail's own files, from the trail's bucket"),
    (b"Obj\x01", "Avro isn't read: take CloudTrail's own files, from the trail's bucket"),
    (b"\xff\xfe\0\0", "UTF-32 isn't read: save it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32 isn't read: save it as UTF-8"),
    (b"SQLite format 3\0", "a SQLite database isn't read: export whole records as JSON lines"),
];

/// Opens an input and looks at its beginning.
pub(super) fn open(input: &Input) -> Result<Opened, String> {
    let (packed, name, found): (Box<dyn Read>, _, _) = match input {
        Input::Standard => (Box::new(io::stdin()), String::new(), false),
        Input::File(path) => (Box::new(regular(path)?), file_name(path), false),
        Input::Found(path) => (Box::new(regular(path)?), file_name(path), true),
    };
    let failed = |error: io::Error| reason(&error);
    let size = Rc::new(Cell::new(0));
    let mut source: Box<dyn Read> = Box::new(Metered { from: packed, size: Rc::clone(&size) });
    let mut head = head(&mut source).map_err(failed)?;
    for layer in 0..=LAYERS {
        if !head.starts_with(&[0x1f, 0x8b]) {
            break;
        }
        if layer == LAYERS {
            return Err("packed with gzip more than twice: not read".into());
        }
        let whole = BufReader::with_capacity(CHUNK, io::Cursor::new(head).chain(source));
        source = Box::new(MultiGzDecoder::new(whole));
        if layer > 0 {
            source = Box::new(Limited { from: source, size: Rc::clone(&size), given: 0 });
        }
        head = self::head(&mut source).map_err(failed)?;
    }
    if let Some(what) = refused(&head) {
        return Err(what.to_owned());
    }
    let is_empty = head.is_empty();
    let has_mark = head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]);
    let is_binary = head.contains(&0) && !has_mark;
    if is_binary && !found {
        let is_utf16 = head.iter().skip(1).step_by(2).filter(|byte| **byte == 0).count() > head.len() / 4
            || head.iter().step_by(2).filter(|byte| **byte == 0).count() > head.len() / 4;
        let is_utf16 = is_utf16 && head.iter().any(|byte| byte.is_ascii_graphic());
        let what = if is_utf16 {
            "UTF-16 without a byte order mark isn't read: save it as UTF-8"
        } else {
            "binary data, and no text"
        };
        return Err(what.to_owned());
    }
    let mut text = Text::new(head, source, CHUNK);
    text.at_least(BEGINNING);
    if let Some(error) = text.failed.as_ref().filter(|_| text.rest().is_empty()) {
        return Err(reason(error));
    }
    let is_blank = text.ended && text.rest().trim().is_empty();
    let shape = form(text.rest(), &name);
    match (shape, found) {
        _ if is_binary => Ok(Opened::PassedOver(kind(&name))),
        _ if is_empty || is_blank => {
            if found {
                Ok(Opened::PassedOver("empty".into()))
            } else {
                Err("empty: it holds no event".into())
            }
        }
        (Form::Unknown, true) if !is_named_as_events(&name) => Ok(Opened::PassedOver(kind(&name))),
        (Form::Unknown, _) => Ok(Opened::Text(text, Form::Json)),
        (shape, _) => Ok(Opened::Text(text, shape)),
    }
}

/// Why a file can't be read, in the system's words.
pub(super) fn reason(error: &io::Error) -> String {
    inert(&error.to_string(), 300)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    name.strip_suffix(".gz").map(str::to_owned).unwrap_or(name)
}

/// Whether only JSON is to be expected in a file of this name.
fn is_named_as_events(name: &str) -> bool {
    [".json", ".jsonl", ".ndjson", ".csv", ".tsv"].iter().any(|ending| name.ends_with(ending))
}

/// The kind of a file, by its ending.
fn kind(name: &str) -> String {
    /// Longer than any ending that tells something.
    const LONGEST: usize = 16;
    match name.rsplit_once('.') {
        Some((_, ending)) if (1..=LONGEST).contains(&ending.len()) && !ending.contains(' ') => {
            format!(".{}", inert(ending, LONGEST))
        }
        _ => "without an ending".to_owned(),
    }
}

/// A file whose text ends. A pipe that the shell made has somebody who writes into it; any other may wait for ever.
fn regular(path: &Path) -> Result<File, String> {
    let kind = fs::metadata(path).map_err(|error| reason(&error))?.file_type();
    let is_of_shell =
        ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|made| path.starts_with(made)) && !is_device(kind);
    if !kind.is_file() && !is_of_shell {
        return Err(format!("{}: not read; files, folders and - (standard input) are", name_of(kind)));
    }
    File::open(path).map_err(|error| reason(&error))
}

#[cfg(unix)]
fn name_of(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match kind {
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_dir() => "a folder",
        _ => "a device",
    }
}

#[cfg(not(unix))]
fn name_of(_: FileType) -> &'static str {
    "no file"
}

#[cfg(unix)]
fn is_device(kind: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_char_device() || kind.is_block_device()
}

#[cfg(not(unix))]
fn is_device(_: FileType) -> bool {
    false
}

fn head(source: &mut Box<dyn Read>) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    source.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn refused(head: &[u8]) -> Option<&'static str> {
    /// Where a tar archive says that it is one.
    const TAR: usize = 257;
    let is_tar = head.get(TAR..TAR + 5) == Some(b"ustar");
    let known = REFUSED.iter().find(|(begins, _)| head.starts_with(begins)).map(|(_, what)| *what);
    known.or(is_tar.then_some("a tar archive isn't read: unpack it first (tar -x)"))
}

/// Counts what is read.
struct Metered {
    from: Box<dyn Read>,
    size: Rc<Cell<u64>>,
}

impl Read for Metered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.size.set(self.size.get() + read as u64);
        Ok(read)
    }
}

/// Ends what unpacks to more than gzip alone could.
struct Limited {
    from: Box<dyn Read>,
    size: Rc<Cell<u64>>,
    given: u64,
}

impl Read for Limited {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (least, times) = UNPACKED;
        if self.given > least + times * self.size.get() {
            return Err(io::Error::other(
                "packed twice, and it unpacks to more than a thousand times its size: not read on",
            ));
        }
        let read = self.from.read(into)?;
        self.given += read as u64;
        Ok(read)
    }
}
