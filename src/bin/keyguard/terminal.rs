//! Text for people: wrapped to the terminal, and one line a sentence where there is none, so that pipes can search it.
//! Commands are never wrapped, since they are there to be pasted.

use std::io::{self, Write};

use anstyle::Style;
use kms_key_guard::finding::Step;
use terminal_size::{Width, terminal_size_of};
use textwrap::{Options, WordSplitter};

/// Columns that text beside something else needs; with fewer it goes below.
const ROOM: usize = 40;

/// The columns of standard output; None if it is no terminal.
pub fn columns() -> Option<usize> {
    terminal_size_of(io::stdout()).map(|(Width(columns), _)| columns.into())
}

/// Reports a problem on standard error.
pub fn complain(problem: &str) {
    let columns = terminal_size_of(io::stderr()).map(|(Width(columns), _)| columns.into());
    for line in wrapped(&format!("keyguard: {problem}"), "  ", columns) {
        eprintln!("{line}");
    }
}

/// The text in lines, those after the first one indented. Words stay whole: they are names and ARNs.
fn wrapped(text: &str, indent: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns else { return vec![text.to_owned()] };
    let options = Options::new(columns).subsequent_indent(indent);
    let options = options.word_splitter(WordSplitter::NoHyphenation).break_words(false);
    textwrap::wrap(text, options).into_iter().map(String::from).collect()
}

/// Writes an indented paragraph.
pub fn paragraph(out: &mut impl Write, indent: usize, text: &str, columns: Option<usize>) -> io::Result<()> {
    for line in wrapped(text, "", columns.map(|columns| columns.saturating_sub(indent))) {
        writeln!(out, "{:indent$}{line}", "")?;
    }
    Ok(())
}

/// Writes the text beside its head, which takes `width` columns; below it on a narrow terminal.
pub fn beside(out: &mut impl Write, head: &str, width: usize, text: &str, columns: Option<usize>) -> io::Result<()> {
    if columns.is_some_and(|columns| columns < width + ROOM) {
        writeln!(out, "{}", head.trim_end())?;
        return paragraph(out, 4, text, columns);
    }
    let lines = wrapped(text, "", columns.map(|columns| columns - width));
    let mut lines = lines.iter();
    writeln!(out, "{head}{}", lines.next().map_or("", |first| first))?;
    lines.try_for_each(|line| writeln!(out, "{:width$}{line}", ""))
}

/// Writes what to do, with the commands; what several commands are for stands above the first of them.
pub fn steps<'a>(
    out: &mut impl Write,
    steps: impl IntoIterator<Item = &'a Step>,
    paste: impl Fn(&str) -> String,
    columns: Option<usize>,
) -> io::Result<()> {
    let mut above = "";
    for Step { what, command } in steps {
        if what != above {
            paragraph(out, 4, what, columns)?;
            above = what;
        }
        if let Some(command) = command {
            let bold = Style::new().bold();
            writeln!(out, "      {bold}{}{bold:#}", paste(command))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>, Option<usize>) -> io::Result<()>, columns: Option<usize>) -> String {
        let mut out = Vec::new();
        write(&mut out, columns).unwrap();
        String::from_utf8(out).unwrap()
    }

    const SAID: &str =
        "10 alarms notify the topic arn:aws:sns:eu-west-1:111122223333:alerts, to which nobody has subscribed.";

    #[test]
    fn text_wraps_beside_its_head_below_it_and_not_in_a_pipe() {
        let write = |out: &mut Vec<u8>, columns| beside(out, "  FAIL  alarms-live  ", 21, SAID, columns);
        assert_eq!(written(write, None), format!("  FAIL  alarms-live  {SAID}\n"));
        assert_eq!(written(write, Some(200)), format!("  FAIL  alarms-live  {SAID}\n"));
        assert_eq!(
            written(write, Some(80)),
            "  FAIL  alarms-live  10 alarms notify the topic\n\
             \x20                    arn:aws:sns:eu-west-1:111122223333:alerts, to which nobody\n\
             \x20                    has subscribed.\n"
        );
        assert_eq!(
            written(write, Some(40)),
            "  FAIL  alarms-live\n\
             \x20   10 alarms notify the topic\n\
             \x20   arn:aws:sns:eu-west-1:111122223333:alerts,\n\
             \x20   to which nobody has subscribed.\n"
        );
    }

    #[test]
    fn commands_stay_whole_and_what_they_are_for_is_said_once() {
        let command = format!("aws events enable-rule --name {}", "long-".repeat(20));
        let enable = |name: &str| Step::run("Enable it:", format!("aws events enable-rule --name {name}"));
        let all = [enable("a"), enable("b"), Step::run("Then wait for it:", command.clone()), Step::say("Done.")];
        let write = |out: &mut Vec<u8>, columns| steps(out, &all, |command| format!("{command} --profile p"), columns);
        for columns in [Some(40), None] {
            let text = anstream::adapter::strip_str(&written(write, columns)).to_string();
            assert_eq!(
                text,
                format!(
                    "    Enable it:\n      aws events enable-rule --name a --profile p\n      \
                     aws events enable-rule --name b --profile p\n    Then wait for it:\n      \
                     {command} --profile p\n    Done.\n"
                )
            );
        }
    }
}
