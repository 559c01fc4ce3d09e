//! Addresses in what servers write, and whether two of them are the same.

/// Every mail address in a text, in order, each once, without what stands around it. A Message-ID looks the same; the caller knows where
/// it looks.
pub fn all(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let bytes = text.as_bytes();
    for at in memchr(bytes) {
        let local_start = text[..at]
            .char_indices()
            .rev()
            .take(64)
            .take_while(|(_, c)| is_local(*c))
            .last()
            .map_or(at, |(start, _)| start);
        let domain_end = text[at + 1..]
            .char_indices()
            .take(254)
            .take_while(|(_, c)| is_domain(*c))
            .last()
            .map_or(at + 1, |(end, c)| at + 1 + end + c.len_utf8());
        // Some write `SMTP=x@…`, `mailto:x@…` or `rfc822;x@…`, of which only `=` can be in an address.
        let local =
            text[local_start..at].rsplit_once("SMTP=").map_or(&text[local_start..at], |(_, local)| local);
        let local = local.trim_start_matches(['\'', '`', '*', '=', '-', '.']);
        let domain = text[at + 1..domain_end].trim_end_matches(['.', '-', '_']);
        if local.is_empty() || domain.is_empty() || domain.starts_with(['.', '-']) {
            continue;
        }
        let address = format!("{local}@{domain}");
        if !found.contains(&address) {
            found.push(address);
        }
        if found.len() == MOST {
            break;
        }
    }
    found
}

/// More recipients than this in one report are of no interest: our mails have one.
const MOST: usize = 50;

/// The places of the at signs.
fn memchr(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'@').map(|(at, _)| at)
}

fn is_local(c: char) -> bool {
    c.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c)
}

fn is_domain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// Whether two texts are the same address: case does not count, and a domain is the same in Unicode and in ASCII (RFC 5890).
pub fn is_same(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (one.rsplit_once('@'), other.rsplit_once('@')) else { return false };
    one.0.to_lowercase() == other.0.to_lowercase() && domain_key(one.1) == domain_key(other.1)
}

/// The form under which domains are compared.
fn domain_key(domain: &str) -> String {
    idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase())
}

/// Whether a mail system writes under this address, and no person.
pub fn is_of_a_mail_system(address: &str) -> bool {
    let local = address.split('@').next().unwrap_or_default().to_lowercase();
    let local: String = local.chars().filter(char::is_ascii_alphanumeric).collect();
    [
        "mailerdaemon",
        "postmaster",
        "maildaemon",
        "mailsystem",
        "mmdf",
        "mailadmin",
        "mta",
        "maildeliverysubsystem",
        "maildeliverysystem",
        "mdaemon",
    ]
    .contains(&local.as_str())
        || local.starts_with("mailerdaemon")
        || local.starts_with("microsoftexchange")
}

/// Whether an address was made unreadable, as feedback loops do.
pub fn is_redacted(address: &str) -> bool {
    let local = address.split('@').next().unwrap_or_default().to_lowercase();
    local.contains("redacted")
        || local.contains("undisclosed")
        || local.chars().all(|c| matches!(c, 'x' | '*' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_all_sorts_of_words() {
        for (text, expected) in [
            ("<claire@customer.example>: host said", vec!["claire@customer.example"]),
            ("rfc822;claire@customer.example", vec!["claire@customer.example"]),
            ("c=US;a= ;p=X;dda:SMTP=Claire@Customer.EXAMPLE; on", vec!["Claire@Customer.EXAMPLE"]),
            ("'claire@customer.example' on Monday.", vec!["claire@customer.example"]),
            ("o'hara+x@customer.example.", vec!["o'hara+x@customer.example"]),
            (
                "élise@exemple.example, zoë@bücher.example",
                vec!["élise@exemple.example", "zoë@bücher.example"],
            ),
            ("a@b.example a@b.example", vec!["a@b.example"]),
            ("mailto:a@b.example", vec!["a@b.example"]),
            ("@ a@ @b no", vec![]),
        ] {
            assert_eq!(all(text), expected, "{text}");
        }
        assert_eq!(all(&"a@b.example ".repeat(10_000)).len(), 1);
    }

    #[test]
    fn the_same_address_is_the_same_in_every_writing() {
        assert!(is_same("Claire@Customer.Example", "claire@customer.example"));
        assert!(is_same("zoe@bücher.example", "ZOE@xn--bcher-kva.example"));
        assert!(is_same("zoe@BÜCHER.example", "zoe@xn--bcher-kva.EXAMPLE"));
        assert!(!is_same("claire@customer.example", "clair@customer.example"));
        assert!(!is_same("claire", "claire"));
    }
}
