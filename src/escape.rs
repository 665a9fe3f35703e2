//! Making text that a caller chose inert, so that it can't change a layout, forge a line or become a link.
//!
//! Everything outside the project's own words goes through here on its way into a Subject, the text alert, a reason or
//! a title. The result is plain and reads the same everywhere: nothing in it is a line break, a control or invisible
//! character, a bidirectional mark, a bracket that opens markup, or an address with a scheme or a `www.` that a mail client
//! would turn into a link. Some clients link a bare domain too: [`label`] breaks those up where they can't be part of a name.

use std::fmt::Write;

/// Makes the text inert and at most `max` characters of it long; says how many were cut.
///
/// Characters that could act are written as `\u{…}`, a backslash is doubled, `://` becomes `[:]//` and `www.` `www[.]`,
/// as security reports write addresses that nobody should click.
pub fn inert(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max) + 8);
    let mut rest = text.char_indices();
    for (at, c) in rest.by_ref().take(max) {
        let before = || text.get(..at).unwrap_or_default();
        let after = || text.get(at + c.len_utf8()..).unwrap_or_default();
        match c {
            ':' if after().starts_with("//") => out.push_str("[:]"),
            '.' if before().len() >= 3 && ends_with_www(before()) => out.push_str("[.]"),
            '\\' => out.push_str("\\\\"),
            c if acts(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    let cut = rest.count();
    if cut > 0 {
        // Writing to a String doesn't fail.
        let _ = write!(out, "… (+{cut} characters)");
    }
    out
}

/// The text as it is if it is a plain name, else inert and in double quotes, so that it shows where it ends.
pub fn name(text: &str, max: usize) -> String {
    if is_plain(text) && text.chars().count() <= max {
        return text.to_owned();
    }
    format!("\"{}\"", inert(text, max).replace('"', "\\\""))
}

/// Text of the key's owner, such as a tag, likewise; a bare domain in it is broken up too, which some mail clients link. In
/// ARNs and user ids one is part of the name.
pub fn label(text: &str, max: usize) -> String {
    let broken = without_domains(&inert(text, max));
    if is_plain(text) && broken == text { broken } else { format!("\"{}\"", broken.replace('"', "\\\"")) }
}

/// The text with `[.]` for every dot that a mail client could take for one of a domain's: between a letter or digit and two
/// letters at least.
pub fn without_domains(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let mut after = text.get(at + c.len_utf8()..).unwrap_or_default().chars();
        let ends = after.next().is_some_and(char::is_alphabetic) && after.next().is_some_and(char::is_alphanumeric);
        let is_dot = c == '.' && before.is_some_and(char::is_alphanumeric) && ends;
        if is_dot { out.push_str("[.]") } else { out.push(c) }
    }
    out
}

/// The longest name that AWS gives to anything in an alert, in bytes.
const LONGEST_NAME: usize = 512;

/// Whether the text is made of the characters that names of AWS are made of, and no longer than they are.
pub fn is_plain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@/:-".contains(&b);
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(plain) && !text.contains("//") && !contains_www(text)
}

fn ends_with_www(text: &str) -> bool {
    text.as_bytes().last_chunk::<3>().is_some_and(|end| end.eq_ignore_ascii_case(b"www"))
}

fn contains_www(text: &str) -> bool {
    text.as_bytes().windows(4).any(|four| four.eq_ignore_ascii_case(b"www."))
}

/// Whether a character could act instead of being shown: control and format characters, separators other than the plain
/// space, and those that open markup or a link.
/// <https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing>
pub(crate) fn acts(c: char) -> bool {
    if (' '..='~').contains(&c) {
        return matches!(c, '<' | '>' | '[' | ']' | '`' | '|');
    }
    c.is_control()
        || c.is_whitespace()
        || u32::from(c) & 0xFFFE == 0xFFFE
        || matches!(u32::from(c),
            0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
            | 0x202A..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB
            | 0xE000..=0xF8FF | 0xE0000..=0x10FFFF
            // Format characters of single scripts and of musical notation.
            | 0x600..=0x605 | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x110BD | 0x110CD | 0x13430..=0x1343F
            | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(inert("HashiCorp Terraform/1.9 (linux)", 100), "HashiCorp Terraform/1.9 (linux)");
        assert_eq!(name("alice@example.com", 64), "alice@example.com");
    }

    #[test]
    fn line_breaks_marks_and_links_lose_their_power() {
        assert_eq!(inert("a\nb\u{1b}[31m\u{202e}", 100), r"a\u{a}b\u{1b}\u{5b}31m\u{202e}");
        assert_eq!(inert("[x](https://evil.example)", 100), r"\u{5b}x\u{5d}(https[:]//evil.example)");
        assert_eq!(inert("WWW.evil.example", 100), "WWW[.]evil.example");
        assert_eq!(name("a\" b", 64), "\"a\\\" b\"");
    }

    #[test]
    fn bare_domain_is_broken_up_and_other_dots_stay() {
        assert_eq!(label("see evil.example/x now", 100), r#""see evil[.]example/x now""#);
        assert_eq!(label("alias/login.evil.example", 100), r#""alias/login[.]evil[.]example""#);
        assert_eq!(label("v1.2", 100), "v1.2");
        assert_eq!(label("payments-db", 100), "payments-db");
        assert_eq!(label("End. Next", 100), r#""End. Next""#);
        assert_eq!(without_domains("1.2.a.io"), "1.2.a[.]io");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(inert(&"x".repeat(12), 10), format!("{}… (+2 characters)", "x".repeat(10)));
    }

    proptest! {
        #[test]
        fn nothing_acts_in_what_comes_out(text in any::<String>(), max in 0usize..200) {
            let out = inert(&text, max);
            prop_assert!(!out.chars().any(|c| c.is_control() || "<>`|".contains(c)));
            prop_assert!(!out.contains("://") && !out.contains("]("));
            let named = name(&text, max);
            prop_assert!(is_plain(&named) || (named.starts_with('"') && named.ends_with('"')));
        }
    }
}
