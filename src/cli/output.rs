//! The screen: data goes to standard output, everything else to standard error, and a closed pipe is a normal end.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
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

/// A table that fits the terminal; piped, it keeps its width and loses its lines.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    let style = if io::stdout().is_terminal() { presets::UTF8_HORIZONTAL_ONLY } else { presets::NOTHING };
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    if let Some((width, _)) = terminal_size::terminal_size() {
        table.set_width(width.0);
    }
    for row in rows {
        table.add_row(row.map(|cell| cell.split('\n').map(plain).collect::<Vec<_>>().join("\n")));
    }
    format!("{table}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_not_speak_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[31m\u{7}\u{9b}b\nc\u{202e}d é👩\u{200d}👩"), "a [31m  b c d é👩\u{200d}👩");
        let table = table(["Name"], [["\u{1b}]0;x\u{7}\u{202e}Claire\nDubois".to_owned()]]);
        assert!(!table.contains(['\u{1b}', '\u{7}', '\u{202e}']) && table.lines().count() == 3, "{table:?}");
    }
}
