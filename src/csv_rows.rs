//! CSV that leaves the house: RFC 4180, and, where a person opens it in a spreadsheet, texts that no spreadsheet takes for formulas.

use std::borrow::Cow;
use std::io::Write;

/// Rows as RFC 4180 writes them: fields quoted where they need it, lines ended by CRLF, UTF-8 without a byte-order mark.
pub fn rows_into<W: Write>(out: W) -> csv::Writer<W> {
    rows_separated_by(b',', out)
}

/// The same with another separator.
pub fn rows_separated_by<W: Write>(delimiter: u8, out: W) -> csv::Writer<W> {
    csv::WriterBuilder::new()
        .delimiter(delimiter)
        .terminator(csv::Terminator::CRLF)
        .buffer_capacity(64 * 1024)
        .from_writer(out)
}

/// Writes a row.
///
/// # Errors
/// Fails with the `io::Error` itself, so that a reader who went away is recognised.
pub fn write_row<W: Write, F: AsRef<[u8]>>(
    rows: &mut csv::Writer<W>,
    fields: impl IntoIterator<Item = F>,
) -> anyhow::Result<()> {
    rows.write_record(fields).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => anyhow::Error::from(error),
        other => anyhow::anyhow!("{other:?}"),
    })
}

/// A text that somebody else wrote, for a cell that a spreadsheet may open: what a spreadsheet would take for a formula gets an
/// apostrophe before it, as OWASP advises (<https://owasp.org/www-community/attacks/CSV_Injection>), also where blanks come first, which some
/// programs skip, and for the wide signs of Asian keyboards. What begins with an apostrophe gets one too, so that taking one away always
/// gives back what was written. Not for files of programs, whose words are never altered, and not for numbers, which may be negative.
pub fn guarded(text: &str) -> Cow<'_, str> {
    let first = text.trim_start_matches([' ', '\u{a0}', '\u{3000}', '\u{feff}']);
    if text.starts_with('\'')
        || first.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\0', '＝', '＋', '－', '＠'])
    {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_a_formula() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("\n=1", "'\n=1"),
            (" =1", "' =1"),
            ("\u{feff}\u{a0}=1", "'\u{feff}\u{a0}=1"),
            ("＝1", "'＝1"),
            ("'quoted'", "''quoted'"),
            (" web", " web"),
            ("web", "web"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(guarded(text), expected);
        }
    }
}
