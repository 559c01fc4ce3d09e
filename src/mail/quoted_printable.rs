//! Text as any relay takes it: quoted-printable (RFC 2045, section 6.7), in one pass.
//!
//! lettre looks at a text first, and leaves one in ASCII with short lines as it is; it takes three passes, in which half of the time went that
//! composing a mail takes. No encoded line begins with a dot, so that nothing has to be doubled on the way (RFC 5321, section 4.5.2).
//! Text that is mostly not ASCII would be nearly three times as long, and is left to lettre and base64 (section 6.8).

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, SinglePart};

/// Of a line's 76 characters the last is left to the `=` that says that it goes on.
const LONGEST: usize = 75;

/// A part of a mail: its text, as `content_type` says what it is.
pub fn part(content_type: ContentType, text: &str) -> SinglePart {
    let n_foreign = text.bytes().filter(|byte| !byte.is_ascii()).count();
    let part = SinglePart::builder().header(content_type);
    if n_foreign > text.len() / 3 {
        // lettre chooses base64 from here on, too.
        part.body(text.to_owned())
    } else {
        part.body(Body::dangerous_pre_encoded(encode(text), ContentTransferEncoding::QuotedPrintable))
    }
}

/// The text in ASCII, with lines of at most 76 characters. A line ends at `\n`, with or without a `\r` before it.
pub fn encode(text: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len() + text.len() / 8 + 16);
    for (n, line) in text.split('\n').enumerate() {
        if n > 0 {
            encoded.extend_from_slice(b"\r\n");
        }
        encode_line(line.strip_suffix('\r').unwrap_or(line).as_bytes(), &mut encoded);
    }
    encoded
}

fn encode_line(mut line: &[u8], encoded: &mut Vec<u8>) {
    let mut column = 0;
    loop {
        let n = n_literal(line, LONGEST - column, column == 0);
        let (literal, rest) = line.split_at(n);
        encoded.extend_from_slice(literal);
        column += n;
        let Some((&byte, after)) = rest.split_first() else { return };
        if column + 3 > LONGEST {
            encoded.extend_from_slice(b"=\r\n");
            (line, column) = (rest, 0);
        } else {
            let digit = |n: u8| b"0123456789ABCDEF"[usize::from(n)];
            encoded.extend_from_slice(&[b'=', digit(byte >> 4), digit(byte & 15)]);
            (line, column) = (after, column + 3);
        }
    }
}

/// How many bytes stand for themselves, of as many as there is room for: not a dot at the beginning of a line, and no space at its end.
fn n_literal(line: &[u8], room: usize, is_beginning: bool) -> usize {
    let has_loose_end = matches!(line.last(), Some(b' ' | b'\t'));
    let line = &line[..(line.len() - usize::from(has_loose_end)).min(room)];
    if is_beginning && line.first() == Some(&b'.') {
        return 0;
    }
    line.iter().position(|byte| !matches!(byte, b'\t' | b' '..=b'<' | b'>'..=b'~')).unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str) -> String {
        String::from_utf8(encode(text)).unwrap()
    }

    /// What a mail program makes of it.
    fn read_back(text: &str) -> String {
        let mut mail = part(ContentType::TEXT_PLAIN, text).formatted();
        mail.extend_from_slice(b"\r\n");
        let read = MessageParser::new().parse(&mail).unwrap();
        read.body_text(0).unwrap().into_owned()
    }

    #[test]
    fn what_rfc_2045_asks_for() {
        assert_eq!(encoded("a = b\nc\r\nd"), "a =3D b\r\nc\r\nd");
        assert_eq!(encoded("é\u{a0}ü"), "=C3=A9=C2=A0=C3=BC");
        assert_eq!(encoded("end \n\t\n  x"), "end=20\r\n=09\r\n  x");
        assert_eq!(encoded("a\rb\u{0}"), "a=0Db=00");
        assert_eq!(encoded(".\n..a\nb.c"), "=2E\r\n=2E.a\r\nb.c");
        assert_eq!(encoded(""), "");
    }

    #[test]
    fn a_long_line_goes_on_in_the_next() {
        assert_eq!(encoded(&"x".repeat(75)), "x".repeat(75));
        assert_eq!(encoded(&"x".repeat(77)), format!("{}=\r\nxx", "x".repeat(75)));
        assert_eq!(encoded(&format!("{}é", "x".repeat(71))), format!("{}=C3=\r\n=A9", "x".repeat(71)));
        assert_eq!(encoded(&format!("{}.y", "x".repeat(75))), format!("{}=\r\n=2Ey", "x".repeat(75)));
    }

    #[test]
    fn text_in_other_letters_is_not_three_times_as_long() {
        for (text, expected) in [
            ("Comment s'est passée votre commande à la Maison Été ? Dites-le-nous.\n", "quoted-printable"),
            ("Как вам ваш заказ? Расскажите нам, пожалуйста.\n", "base64"),
            ("Πώς σας φάνηκε η παραγγελία σας;\n", "base64"),
            ("كيف كان طلبك؟ أخبرنا من فضلك.\n", "base64"),
            ("ご注文はいかがでしたか。\n", "base64"),
        ] {
            let long = text.repeat(20);
            let part = part(ContentType::TEXT_PLAIN, &long);
            let encoding = part.headers().get::<ContentTransferEncoding>().unwrap();
            assert_eq!(encoding.to_string(), expected, "{text}");
            let n = part.raw_body().len();
            assert!(n < long.len() * 3 / 2, "{n} of {}: {text}", long.len());
            assert_eq!(read_back(&long).replace("\r\n", "\n").trim_end(), long.trim_end());
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_as_it_was(text in "(?s)([ -~]|[\n\t.= ]|\\PC){0,400}") {
            let encoded = encoded(&text);
            prop_assert!(encoded.is_ascii());
            for line in encoded.split("\r\n") {
                prop_assert!(line.len() <= 76 && !line.starts_with('.') && !line.ends_with([' ', '\t']), "{line:?}");
                prop_assert!(!line.contains(['\r', '\n']), "{line:?}");
            }
            prop_assert_eq!(read_back(&text).trim_end_matches(['\r', '\n']).replace("\r\n", "\n"), text.trim_end_matches('\n'));
        }
    }
}
