//! An input's text, unpacked, a chunk at a time.

use std::io::{self, Read};

use memchr::memchr_iter;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// What JSON allows between its parts.
pub const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// A text that comes a chunk at a time. Bytes that aren't UTF-8 are replaced, so that one of them doesn't cost a file.
pub struct Text {
    from: Box<dyn Read>,
    text: String,
    /// Where in `text` the unread part begins, and on which line.
    at: usize,
    line: usize,
    /// What was read last: between two reads, the beginning of a character that isn't there yet.
    bytes: Vec<u8>,
    /// How much is read at a time.
    chunk: usize,
    pub ended: bool,
    /// Why it ended, if not with the file.
    pub failed: Option<io::Error>,
}

impl Text {
    pub fn new(from: Box<dyn Read>, chunk: usize) -> Self {
        let mut text =
            Self { from, text: String::new(), at: 0, line: 1, bytes: Vec::new(), chunk, ended: false, failed: None };
        text.at_least(BYTE_ORDER_MARK.len_utf8());
        if text.rest().starts_with(BYTE_ORDER_MARK) {
            text.skip(BYTE_ORDER_MARK.len_utf8());
        }
        text
    }

    /// Adds to the rest until it is this long, if there is so much.
    pub fn at_least(&mut self, length: usize) {
        while self.rest().len() < length && !self.ended {
            self.more();
        }
    }

    /// What is there and hasn't been read.
    pub fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub fn skip(&mut self, length: usize) {
        let skipped = self.rest().as_bytes().get(..length).unwrap_or_default();
        self.line += memchr_iter(b'\n', skipped).count();
        self.at += length;
    }

    /// The line that the rest begins on.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Adds to the rest: a chunk, or as much as there is already, so that a long value isn't looked at too often.
    pub fn more(&mut self) {
        self.text.drain(..self.at);
        self.at = 0;
        let wanted = self.chunk.max(self.text.len());
        match self.from.by_ref().take(wanted as u64).read_to_end(&mut self.bytes) {
            Ok(read) => self.ended = read < wanted,
            Err(error) => (self.ended, self.failed) = (true, Some(error)),
        }
        let mut new = self.bytes.as_slice();
        while let Err(error) = str::from_utf8(new) {
            let (good, bad) = new.split_at(error.valid_up_to());
            self.text.push_str(str::from_utf8(good).unwrap_or_default());
            new = bad;
            let Some(length) = error.error_len().or(self.ended.then_some(bad.len())) else { break };
            self.text.push('\u{fffd}');
            new = bad.get(length..).unwrap_or_default();
        }
        let good = str::from_utf8(new).unwrap_or_default();
        self.text.push_str(good);
        let done = self.bytes.len() - (new.len() - good.len());
        self.bytes.drain(..done);
    }

    /// The first byte of the rest that isn't blank.
    pub fn next(&mut self) -> Option<u8> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches(BLANK).len();
            self.skip(blank);
            match self.rest().bytes().next() {
                None if !self.ended => self.more(),
                byte => return byte,
            }
        }
    }

    /// Goes to the next line.
    pub fn skip_line(&mut self) {
        loop {
            match self.rest().find('\n') {
                Some(end) => return self.skip(end + 1),
                None => self.skip(self.rest().len()),
            }
            if self.ended {
                return;
            }
            self.more();
        }
    }
}
