//! The screen: data goes to standard output, everything else to standard error, and a closed pipe is a normal end.

use std::io::{self, Write as _};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use futures_util::{Stream, TryStreamExt as _};
use serde::Serialize;

/// Writes data to standard output. A reader that went away (`| head`) is no error.
///
/// # Errors
/// When standard output cannot be written for another reason.
pub fn data(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a value to standard output as JSON.
///
/// # Errors
/// As [`data`].
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    data(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes what comes to standard output as a JSON array, element by element, so that a long one needs no memory. With a limit, what comes
/// after it is left out, and the person is told so.
///
/// # Errors
/// As [`data`], or when no more can be had.
pub async fn json_array<T: Serialize, E: Into<anyhow::Error>>(
    mut values: impl Stream<Item = Result<T, E>> + Unpin,
    limit: Option<i64>,
) -> anyhow::Result<()> {
    let mut array = Array::begin()?;
    let mut left = limit.unwrap_or(i64::MAX);
    while let Some(value) = values.try_next().await.map_err(Into::into)? {
        if left == 0 {
            say("There are more; -n shows more.");
            break;
        }
        left -= 1;
        if !array.push(&value)? {
            break;
        }
    }
    array.end()
}

/// A JSON array that is written element by element.
struct Array {
    out: io::BufWriter<io::Stdout>,
    is_empty: bool,
    /// Nobody reads any more (`| head`), which is no error.
    is_closed: bool,
}

impl Array {
    fn begin() -> anyhow::Result<Self> {
        let mut array = Self { out: io::BufWriter::new(io::stdout()), is_empty: true, is_closed: false };
        array.write("[")?;
        Ok(array)
    }

    /// `false`: nobody reads any more.
    fn push(&mut self, value: &impl Serialize) -> anyhow::Result<bool> {
        let separator = if std::mem::take(&mut self.is_empty) { "" } else { "," };
        self.write(&format!("{separator}\n  {}", serde_json::to_string(value)?))?;
        Ok(!self.is_closed)
    }

    fn end(mut self) -> anyhow::Result<()> {
        self.write(if self.is_empty { "]\n" } else { "\n]\n" })?;
        let flushed = self.out.flush();
        self.judge(flushed)
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        if self.is_closed {
            return Ok(());
        }
        let written = self.out.write_all(text.as_bytes());
        self.judge(written)
    }

    fn judge(&mut self, written: io::Result<()>) -> anyhow::Result<()> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_closed = true,
            other => other?,
        }
        Ok(())
    }
}

/// Says something to the person, on standard error.
#[expect(clippy::print_stderr, reason = "this is the one place that speaks to the person")]
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Text on one line that cannot speak to the terminal. What customers and files say may hold escape sequences, and characters that
/// turn the direction of the text around; each becomes a space.
pub fn plain(text: &str) -> String {
    let speaks = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if speaks(c) { ' ' } else { c }).collect()
}

/// A table that fits the terminal; piped, it keeps its width and loses its lines. On a terminal that is too narrow for its words each row
/// becomes a block, a line per column.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    // Of standard output alone: piped into another program, the terminal in which that runs does not matter.
    let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
    let one_line_each = |cell: String| cell.split('\n').map(plain).collect::<Vec<_>>().join("\n");
    laid_out(header, rows.into_iter().map(|row| row.map(one_line_each)).collect(), width)
}

/// Prose in lines of at most 100 columns, on a narrower terminal of as many as it has; all but the first are indented. No word is broken.
pub fn paragraph(text: &str) -> String {
    let terminal = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    wrapped(&plain(text), terminal.unwrap_or(100).min(100))
}

fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut at = 0;
    // A number stays with its sign.
    let text = text.replace(" %", "\u{a0}%");
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if at > 0 && at + 1 + length > width {
            lines.push_str("\n  ");
            at = 2;
        } else if at > 0 {
            lines.push(' ');
            at += 1;
        }
        lines.push_str(word);
        at += length;
    }
    lines.push('\n');
    lines.replace('\u{a0}', " ")
}

/// A table of as many columns as there are, one line a row, however wide: it is for scrolling sideways, and for programs.
pub fn wide_table<'a>(
    header: impl IntoIterator<Item = &'a str>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    format!("{table}\n")
}

fn laid_out<const N: usize>(header: [&str; N], rows: Vec<[String; N]>, width: Option<u16>) -> String {
    let narrowest: [u16; N] = std::array::from_fn(|i| {
        let words = rows.iter().flat_map(|row| row[i].split_whitespace()).chain(header[i].split_whitespace());
        // With the space on both sides.
        words.map(|word| word.chars().count()).max().and_then(|n| u16::try_from(n).ok()).unwrap_or(100) + 2
    });
    // With the space between the columns.
    let too_narrow = |width: u16| narrowest.iter().sum::<u16>() + N as u16 > width;
    if width.is_some_and(too_narrow) {
        return blocks(header, &rows);
    }
    let mut table = Table::new();
    let style = if width.is_some() { presets::UTF8_HORIZONTAL_ONLY } else { presets::NOTHING };
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    if let Some(width) = width {
        table.set_width(width);
        table.set_constraints(narrowest.map(|n| ColumnConstraint::LowerBoundary(Width::Fixed(n))));
    }
    for row in rows {
        table.add_row(row);
    }
    format!("{table}\n")
}

fn blocks<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let name_width = header.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        for (name, value) in header.iter().zip(row).filter(|(_, value)| !value.is_empty()) {
            let value = value.replace('\n', &format!("\n{:name_width$}  ", ""));
            text.push_str(&format!("{name:name_width$}  {value}\n"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_narrow_terminal_words_stay_whole() {
        let header = ["job", "next runs"];
        let rows = vec![["collect-responses".to_owned(), "Sun 06:05\nSun 07:05".to_owned()]];
        for width in 1..200 {
            let text = laid_out(header, rows.clone(), Some(width));
            assert!(text.contains("collect-responses") && text.contains("07:05"), "{width}: {text}");
        }
        let narrow = laid_out(header, rows.clone(), Some(20));
        assert_eq!(narrow, "job        collect-responses\nnext runs  Sun 06:05\n           Sun 07:05\n\n");
        // What is piped stays a table, whatever the terminal behind it.
        let piped = laid_out(header, rows, None);
        assert!(piped.starts_with(" job "), "{piped}");
    }

    #[test]
    fn prose_is_wrapped_between_words() {
        assert_eq!(wrapped("one two  three", 7), "one two\n  three\n");
        assert_eq!(wrapped("of 80.0 % of", 9), "of 80.0 %\n  of\n");
        assert_eq!(wrapped("of all 80.0 %", 9), "of all\n  80.0 %\n");
        assert_eq!(wrapped("unbreakable a b", 5), "unbreakable\n  a b\n");
        assert_eq!(wrapped("", 5), "\n");
    }

    #[test]
    fn what_others_wrote_does_not_speak_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[31m\u{7}\u{9b}b\nc\u{202e}d é👩\u{200d}👩"), "a [31m  b c d é👩\u{200d}👩");
        let table = table(["Name"], [["\u{1b}]0;x\u{7}\u{202e}Claire\nDubois".to_owned()]]);
        assert!(!table.contains(['\u{1b}', '\u{7}', '\u{202e}']) && table.lines().count() == 3, "{table:?}");
    }
}
