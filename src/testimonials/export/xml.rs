//! What the two XML feeds share: text that any parser reads back as it was.

use super::format::Refused;

/// Appends text, for an element or an attribute in double quotes. A parser would make one line break of CR LF, and blanks of the line
/// breaks of an attribute, so these are written by their numbers.
///
/// # Errors
/// For a character that XML 1.0 cannot hold, in whatever way it is written (<https://www.w3.org/TR/xml/#charsets>).
pub(super) fn text(out: &mut String, text: &str) -> Result<(), Refused> {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => return Err(Refused::Unprintable),
            c => out.push(c),
        }
    }
    Ok(())
}

/// Appends `<name>text</name>`.
///
/// # Errors
/// As [`text`].
pub(super) fn element(out: &mut String, name: &str, content: &str) -> Result<(), Refused> {
    out.push('<');
    out.push_str(name);
    out.push('>');
    text(out, content)?;
    out.push_str("</");
    out.push_str(name);
    out.push('>');
    Ok(())
}

/// The same for what comes from the configuration, where what XML cannot hold has no meaning.
pub(super) fn own(out: &mut String, name: &str, content: &str) {
    let content: String =
        content.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect();
    // Nothing is left that could be refused.
    let _ = element(out, name, &content);
}
