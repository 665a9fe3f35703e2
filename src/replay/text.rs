//! An input's text, unpacked and decoded, a chunk at a time.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter};

/// A byte order mark; also where files that begin with one were put together.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// What JSON allows between its parts.
pub(super) const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// How the bytes stand for characters, as the byte order mark says.
#[derive(Clone, Copy)]
enum Encoding {
    Utf8,
    Utf16(fn([u8; 2]) -> u16),
}

/// A text that comes a chunk at a time. What isn't a character is replaced, so that one such byte doesn't cost a file.
pub(super) struct Text {
    from: Box<dyn Read>,
    encoding: Encoding,
    text: String,
    /// Where in `text` the unread part begins, and on which line.
    at: usize,
    line: usize,
    /// What was read last: between two reads, the beginning of a character that isn't there yet.
    bytes: Vec<u8>,
    /// How much is read at a time.
    chunk: usize,
    /// How much was skipped so far, in bytes of UTF-8.
    pub(super) skipped: usize,
    pub(super) ended: bool,
    /// Why it ended, if not with the file.
    pub(super) failed: Option<io::Error>,
}

impl Text {
    /// Reads on from a source whose first bytes, which tell the encoding, were read already.
    pub(super) fn new(head: Vec<u8>, from: impl Read + 'static, chunk: usize) -> Self {
        let encoding = match head.as_slice() {
            [0xff, 0xfe, ..] => Encoding::Utf16(u16::from_le_bytes),
            [0xfe, 0xff, ..] => Encoding::Utf16(u16::from_be_bytes),
            _ => Encoding::Utf8,
        };
        let mut text = Self {
            from: Box::new(io::Cursor::new(head).chain(from)),
            encoding,
            text: String::new(),
            at: 0,
            line: 1,
            bytes: Vec::new(),
            chunk,
            skipped: 0,
            ended: false,
            failed: None,
        };
        text.at_least(BYTE_ORDER_MARK.len_utf8());
        if text.rest().starts_with(BYTE_ORDER_MARK) {
            text.skip(BYTE_ORDER_MARK.len_utf8());
        }
        text
    }

    /// Adds to the rest until it is this long, if there is so much.
    pub(super) fn at_least(&mut self, length: usize) {
        while self.rest().len() < length && !self.ended {
            self.more();
        }
    }

    /// What is there and hasn't been read.
    pub(super) fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn skip(&mut self, length: usize) {
        let passed = self.rest().as_bytes().get(..length).unwrap_or_default();
        self.line += memchr_iter(b'\n', passed).count();
        self.at += length;
        self.skipped += length;
    }

    /// The line that the rest begins on.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Adds to the rest: a chunk, or as much as there is already, so that a long value isn't looked at too often.
    pub(super) fn more(&mut self) {
        self.text.drain(..self.at);
        self.at = 0;
        let wanted = self.chunk.max(self.text.len());
        match self.from.by_ref().take(wanted as u64).read_to_end(&mut self.bytes) {
            Ok(read) => self.ended = read < wanted,
            Err(error) => (self.ended, self.failed) = (true, Some(error)),
        }
        let done = match self.encoding {
            Encoding::Utf8 => self.decode_utf8(),
            Encoding::Utf16(unit) => self.decode_utf16(unit),
        };
        self.bytes.drain(..done);
    }

    /// Says how many of the bytes it took.
    fn decode_utf8(&mut self) -> usize {
        let mut new = self.bytes.as_slice();
        while let Err(error) = str::from_utf8(new) {
            let (good, bad) = new.split_at(error.valid_up_to());
            self.text.push_str(str::from_utf8(good).unwrap_or_default());
            new = bad;
            let Some(length) = error.error_len().or(self.ended.then_some(bad.len())) else { break };
            self.text.push(char::REPLACEMENT_CHARACTER);
            new = bad.get(length..).unwrap_or_default();
        }
        let good = str::from_utf8(new).unwrap_or_default();
        self.text.push_str(good);
        self.bytes.len() - (new.len() - good.len())
    }

    /// The same for UTF-16.
    fn decode_utf16(&mut self, unit: fn([u8; 2]) -> u16) -> usize {
        let (pairs, odd) = self.bytes.as_chunks::<2>();
        let mut units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        // The first half of a character waits for the second.
        let half = matches!(units.last(), Some(0xD800..=0xDBFF)) && !self.ended;
        if half {
            units.pop();
        }
        let characters = char::decode_utf16(units.iter().copied());
        self.text.extend(characters.map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)));
        if self.ended {
            self.text.extend(odd.first().map(|_| char::REPLACEMENT_CHARACTER));
            return self.bytes.len();
        }
        units.len() * 2
    }

    /// The first byte of the rest that isn't blank.
    pub(super) fn next(&mut self) -> Option<u8> {
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
    pub(super) fn skip_line(&mut self) {
        loop {
            match memchr(b'\n', self.rest().as_bytes()) {
                Some(end) => return self.skip(end + 1),
                None => self.skip(self.rest().len()),
            }
            if self.ended {
                return;
            }
            self.more();
        }
    }

    /// Adds to the rest until its first line is whole, and says how long that is, its end included; None if it is longer
    /// than `longest`.
    pub(super) fn whole_line(&mut self, longest: usize) -> Option<usize> {
        let mut seen = 0;
        loop {
            let rest = self.rest().as_bytes();
            let end = memchr(b'\n', rest.get(seen..).unwrap_or_default()).map(|end| seen + end + 1);
            seen = rest.len();
            if let Some(length) = end.or(self.ended.then_some(seen)) {
                return (length <= longest).then_some(length);
            }
            if seen > longest {
                return None;
            }
            self.more();
        }
    }
}

impl Read for Text {
    /// The text as UTF-8.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.at_least(1);
        let length = self.rest().len().min(into.len());
        // Who reads bytes doesn't mind where characters end, but the text does.
        let length = (0..=length).rev().find(|end| self.rest().is_char_boundary(*end)).unwrap_or_default();
        if let Some((into, from)) = into.get_mut(..length).zip(self.rest().as_bytes().get(..length)) {
            into.copy_from_slice(from);
        }
        self.skip(length);
        match self.failed.take() {
            Some(error) if length == 0 => Err(error),
            failed => {
                self.failed = failed;
                Ok(length)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], chunk: usize) -> String {
        let mut text = Text::new(bytes.to_vec(), io::empty(), chunk);
        while !text.ended {
            text.more();
        }
        text.rest().to_owned()
    }

    #[test]
    fn utf16_with_a_mark_is_read_in_either_order_and_any_pieces() {
        let units: Vec<u16> = "\u{feff}{\"a\": \"é🔑\"}".encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for chunk in [1, 2, 3, 5, 100] {
            assert_eq!(read(&little, chunk), "{\"a\": \"é🔑\"}", "{chunk}");
            assert_eq!(read(&big, chunk), "{\"a\": \"é🔑\"}", "{chunk}");
        }
    }

    #[test]
    fn what_is_no_character_is_replaced() {
        assert_eq!(read(b"a\xffb\xe2\x82", 100), "a\u{fffd}b\u{fffd}");
        // Half a character in the middle, and half a unit at the end.
        assert_eq!(read(&[0xff, 0xfe, 0x3d, 0xd8, b'a', 0, b'b'], 100), "\u{fffd}a\u{fffd}");
    }

    #[test]
    fn line_longer_than_allowed_is_none() {
        let mut text = Text::new(b"0123456789\nb".to_vec(), io::empty(), 2);
        assert_eq!(text.whole_line(4), None);
        assert_eq!(text.whole_line(100), Some(11));
    }
}
