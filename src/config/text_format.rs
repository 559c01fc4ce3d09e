//! How a delimited text file is written, as a format in jobs.toml or an option of a command says it.

use chrono_tz::Tz;
use encoding_rs::Encoding;

/// How a delimited text file is written; what is absent is recognised.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextFormat {
    /// Absent: the most frequent of `,` `;` tab `|` in the header.
    pub delimiter: Option<u8>,
    /// Absent: byte-order mark, then valid UTF-8, then a guess that is printed.
    pub encoding: Option<&'static Encoding>,
    /// Of times without a zone. Absent: the shop's.
    pub timezone: Option<Tz>,
    /// chrono's notation. Absent: recognised; day-first only when it is written here.
    pub date_format: Option<String>,
}

impl TextFormat {
    /// Reads what stands between the fields: one character, or `tab`.
    ///
    /// # Errors
    /// What was expected, as are those of the other readers.
    pub fn parse_delimiter(text: &str) -> Result<u8, String> {
        match text.as_bytes() {
            b"tab" | b"\\t" => Ok(b'\t'),
            [byte]
                if byte.is_ascii()
                    && !byte.is_ascii_alphanumeric()
                    && !matches!(byte, b'"' | b'\r' | b'\n') =>
            {
                Ok(*byte)
            }
            _ => Err("expected one character such as \";\", or tab".to_owned()),
        }
    }

    /// Reads the name of an encoding.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn parse_encoding(text: &str) -> Result<&'static Encoding, String> {
        Encoding::for_label(text.as_bytes()).ok_or_else(|| {
            "expected the name of an encoding, such as utf-8, windows-1252 or utf-16le".to_owned()
        })
    }

    /// Reads the notation of dates.
    ///
    /// # Errors
    /// When chrono does not know it.
    pub fn parse_date_format(text: &str) -> Result<String, String> {
        let mut items = chrono::format::StrftimeItems::new(text);
        if items.any(|item| item == chrono::format::Item::Error) {
            return Err("expected a notation such as %d/%m/%Y %H:%M".to_owned());
        }
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters() {
        assert_eq!(TextFormat::parse_delimiter(";"), Ok(b';'));
        assert_eq!(TextFormat::parse_delimiter("tab"), Ok(b'\t'));
        assert_eq!(TextFormat::parse_delimiter("\t"), Ok(b'\t'));
        for wrong in ["", "a", "\"", "\n", ";;", "é"] {
            assert!(TextFormat::parse_delimiter(wrong).is_err(), "{wrong:?}");
        }
    }
}
