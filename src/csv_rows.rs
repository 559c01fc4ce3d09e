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

/// The same for a reader who is to see what was written: what a spreadsheet would take for a number, a date or a time and show as it writes
/// these itself (`10/10` as a day, `00123` as 123, `50%` as 0.5) gets an apostrophe too.
pub fn guarded_text(text: &str) -> Cow<'_, str> {
    if is_value(text) { Cow::Owned(format!("'{text}")) } else { guarded(text) }
}

/// Words that spreadsheets read in numbers, dates and times in French and in English, in lower case: months and days, halves of the day,
/// currencies.
const IN_VALUES: &str = "janvier février fevrier mars avril mai juin juillet août aout septembre octobre novembre décembre decembre janv févr fevr fév \
    fev avr juil sept déc january february march april may june july august september october november december jan feb mar apr \
    jun jul aug sep oct nov dec lundi mardi mercredi jeudi vendredi samedi dimanche lun mer jeu ven sam dim monday tuesday \
    wednesday thursday friday saturday sunday mon tue wed thu fri sat sun am pm eur usd gbp chf cad";

/// Letters that they read after a digit: the exponent, the `T` and the `Z` of ISO 8601, halves of the day.
const AFTER_DIGITS: [&str; 5] = ["e", "t", "z", "a", "p"];

/// Whether a spreadsheet may read this text as a value: a truth value, or digits with nothing but the signs and words of numbers, dates and
/// times. Which of them it reads depends on its language and version (`1 000` in French, `5 May` not in every English), so it is enough
/// that one may. Files for people have headings in French or English; words of other languages are not known here.
fn is_value(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if ["true", "false", "vrai", "faux"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return true;
    }
    let is_sign = |c: char| c.is_whitespace() || c.is_numeric() || "/-.,:%+()'’−€$£¥".contains(c);
    // `P-100` is the number of a product.
    let begins_with_letter = text.starts_with(char::is_alphabetic);
    let is_word = |word: &str| {
        let word = word.to_lowercase();
        IN_VALUES.split(' ').any(|known| known == word)
            || !begins_with_letter && AFTER_DIGITS.contains(&word.as_str())
    };
    text.contains(char::is_numeric) && text.split(is_sign).all(|word| word.is_empty() || is_word(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_a_number_or_a_date() {
        for text in [
            "10/10",
            "5/5",
            "00123",
            "1E5",
            "1,5e+3",
            "1-2",
            "10:30",
            "10:30 PM",
            "50%",
            "20 %",
            "1 000",
            "1\u{202f}000,50 €",
            "$5",
            "(5)",
            " 12 ",
            "12, 13",
            "5.5.5",
            "2026-11",
            "2026-03-10T10:00:00Z",
            "mars 2026",
            "Mai 68",
            "lundi 3 mars 2026",
            "May 5",
            "5 févr. 2026",
            "1 1/2",
            "TRUE",
            "vrai",
            "Faux",
        ] {
            assert_eq!(guarded_text(text), format!("'{text}"), "{text}");
        }
        for text in [
            "10/10 !",
            "5/5 parfait",
            "P-100",
            "A00123",
            "20 personnes",
            "iPhone 12",
            "Claire D.",
            "mars",
            "Mai",
            "vrai de vrai",
            "…",
            "fr",
            "",
        ] {
            assert_eq!(guarded_text(text), text);
        }
        // What was guarded before is, and once.
        for text in ["=1+1", "-1", "+33 1", "'10/10"] {
            assert_eq!(guarded_text(text), format!("'{text}"));
        }
    }

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
