//! What a person should look at before words, and the name that their author typed, are published. Pure: a text and what is known about
//! it come in; which rules it meets, and where, goes out.
//!
//! A rule points at something and decides nothing: no word is ever changed, a flag is no reason to reject, and none looks at the score
//! alone. Where `moderation = "flagged"`, what no rule meets is approved by itself; so the rules rather see one thing too many, and
//! [`Rule::Language`] keeps for a person what they cannot read. Words are compared whole, without accents and capitals ([`mod@tokens`]), with
//! tables for French and English ([`words`]). The measured false alarms are in `tests/it/flags.rs`.

mod tokens;
mod words;

use std::collections::HashSet;

use serde::Serialize;

use self::tokens::{Token, disguised, shortened, squeezed, tokens, unmasked};

/// Why a person should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A mail address, a telephone number, an account's name, a street.
    Contact,
    /// An address on the web.
    Link,
    /// Somebody of the shop, the author's own last name, or whoever is called `Mme …` or `Mr …`.
    Name,
    /// An insult or an obscenity, in disguise or not.
    Profanity,
    /// Written in capitals.
    Capitals,
    /// The number of another customer's order.
    OtherOrder,
    /// The score says one thing, the words say the other.
    Contradiction,
    /// Written on a page in a language for which there are no tables.
    Language,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 8] = [
        Self::Contact,
        Self::Link,
        Self::Name,
        Self::Profanity,
        Self::Capitals,
        Self::OtherOrder,
        Self::Contradiction,
        Self::Language,
    ];

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Contact => "contact data",
            Self::Link => "link",
            Self::Name => "name",
            Self::Profanity => "profanity",
            Self::Capitals => "capitals",
            Self::OtherOrder => "another order",
            Self::Contradiction => "score contradicts words",
            Self::Language => "language not known",
        }
    }
}

/// What a flag points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The author's words.
    Text,
    /// The name the author typed.
    DisplayName,
}

/// A rule that was met, and where. Counted in characters (Unicode scalar values) from 0; the end is the first after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Flag {
    pub rule: Rule,
    pub part: Part,
    pub start: usize,
    pub end: usize,
}

impl Flag {
    /// What it points at, in the part it points into.
    pub fn found<'t>(&self, text: &'t str) -> &'t str {
        let at = |n| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
        &text[at(self.start)..at(self.end)]
    }
}

/// What is known about a text besides its words.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The language of the page it was written on, as a locale: `fr`, `en-GB`.
    pub locale: &'a str,
    /// From 1 to 5.
    pub rating: Option<i16>,
    /// `yes` or `no`.
    pub recommend: Option<&'a str>,
    /// The shop's number of the author's order.
    pub order: &'a str,
    pub last_name: Option<&'a str>,
    /// Who works in the shop, as jobs.toml names them.
    pub staff: &'a [String],
    /// Those of [`mentioned`] that are orders of other customers.
    pub other_orders: &'a HashSet<String>,
}

/// The rules that a text meets, in the order of the text.
pub fn flags(text: &str, about: &About<'_>) -> Vec<Flag> {
    let tokens = tokens(text);
    let mut found = of_any_part(text, &tokens, about);
    let mut add = |rule, spans: Vec<Span>| found.extend(spans.into_iter().map(|span| (rule, span)));
    add(Rule::Name, names(text, &tokens, about));
    add(Rule::Capitals, capitals(text, &tokens));
    let others = mentions(&tokens, text).into_iter().filter(|(start, end)| {
        let number = &text[*start..*end];
        number != about.order && spellings(number).any(|spelling| about.other_orders.contains(&spelling))
    });
    add(Rule::OtherOrder, others.collect());
    add(Rule::Contradiction, contradiction(text, &tokens, about).into_iter().collect());
    if !matches!(language(about.locale), "fr" | "en") && !text.trim().is_empty() {
        add(Rule::Language, vec![(0, text.len())]);
    }
    in_characters(Part::Text, text, found)
}

/// The rules that the name meets which the author typed, in its order: those about what must not stand under any words either. A name is
/// a name, may be in capitals, and contradicts nothing.
pub fn flags_of_name(name: &str, about: &About<'_>) -> Vec<Flag> {
    in_characters(Part::DisplayName, name, of_any_part(name, &tokens(name), about))
}

/// The rules for words and names alike.
fn of_any_part(text: &str, tokens: &[Token<'_>], about: &About<'_>) -> Vec<(Rule, Span)> {
    let mails = mail_addresses(text, tokens);
    let mut contacts = mails.clone();
    contacts.extend(handles(text));
    contacts.extend(long_numbers(text, about.order));
    contacts.extend(streets(text, tokens));
    let links = links(text, tokens, &mails);
    let profanity = profanity(text, tokens, language(about.locale));
    [(Rule::Contact, contacts), (Rule::Link, links), (Rule::Profanity, profanity)]
        .into_iter()
        .flat_map(|(rule, spans)| spans.into_iter().map(move |span| (rule, span)))
        .collect()
}

/// From bytes to characters, which every language counts alike.
fn in_characters(part: Part, text: &str, found: Vec<(Rule, Span)>) -> Vec<Flag> {
    let count = |end: usize| text[..end].chars().count();
    let mut flags: Vec<Flag> = found
        .into_iter()
        .map(|(rule, (start, end))| Flag { rule, part, start: count(start), end: count(end) })
        .collect();
    flags.sort_by_key(|flag| (flag.start, flag.rule, flag.end));
    flags.dedup();
    flags
}

/// What may be the numbers of orders in a text, in the spellings a shop may use: to be looked up, for [`About::other_orders`].
pub fn mentioned(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    mentions(&tokens, text).into_iter().flat_map(|(start, end)| spellings(&text[start..end])).collect()
}

fn language(locale: &str) -> &str {
    locale.split(['-', '_']).next().unwrap_or_default()
}

fn is_in(list: &[&str], word: &str) -> bool {
    list.binary_search(&word).is_ok()
}

type Span = (usize, usize);

/// `a@b.c`, and `a (at) b.c`, `a arobase b point c`.
fn mail_addresses(text: &str, tokens: &[Token<'_>]) -> Vec<Span> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let mut found = Vec::new();
    for (at, sign) in text.char_indices().filter(|(_, c)| matches!(c, '@' | '＠')) {
        let before = text[..at].trim_end_matches(is_part).len();
        let rest = &text[at + sign.len_utf8()..];
        let domain = &rest[..rest.len() - rest.trim_start_matches(is_part).len()];
        let domain = domain.trim_end_matches(['.', '-', '_', '+']);
        if before < at && domain.contains('.') {
            found.push((before, at + sign.len_utf8() + domain.len()));
        }
    }
    // The word for the sign, which no sentence holds: alone for `arobase`, in brackets for `at`.
    for (n, token) in tokens.iter().enumerate().skip(1) {
        let bracketed =
            text[..token.start].ends_with(['(', '[', '{']) && text[token.end..].starts_with([')', ']', '}']);
        let is_sign = token.folded == "arobase" || token.folded == "at" && bracketed;
        if let Some(next) = tokens.get(n + 1).filter(|_| is_sign) {
            found.push((tokens[n - 1].start, next.end));
        }
    }
    found
}

/// `@claire_d`, the name of an account.
fn handles(text: &str) -> Vec<Span> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    let starts = text.match_indices('@').filter(|(at, _)| {
        text[..*at].chars().next_back().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ':' | ','))
    });
    let spans = starts.map(|(at, _)| {
        let name = &text[at + 1..];
        let name = &name[..name.len() - name.trim_start_matches(is_part).len()];
        (at, at + 1 + name.trim_end_matches('.').len())
    });
    spans
        .filter(|(start, end)| {
            end - start > 3 && text[*start..*end].contains(|c: char| c.is_ascii_alphabetic())
        })
        .collect()
}

/// Telephone numbers and whatever else has nine digits or more, such as a card or an account: never the author's own order.
fn long_numbers(text: &str, order: &str) -> Vec<Span> {
    let digits = |part: &str| part.chars().filter(|c| c.is_numeric()).count();
    let mut found = Vec::new();
    let mut rest_from = 0;
    while let Some(offset) = text[rest_from..].find(|c: char| c.is_numeric() || matches!(c, '+' | '(')) {
        let start = rest_from + offset;
        let run = &text[start..];
        let end = run.find(|c: char| {
            !(c.is_numeric() || matches!(c, '+' | ' ' | '\u{a0}' | '\u{202f}' | '.' | '-' | '(' | ')'))
        });
        let run = &run[..end.unwrap_or(run.len())];
        let run = run.trim_end_matches(|c: char| !c.is_numeric());
        // A letter before or after: the number of an article, or an order.
        let stuck = text[..start].ends_with(char::is_alphanumeric)
            || text[start + run.len()..].starts_with(char::is_alphabetic);
        let longest = run.split(|c: char| !c.is_numeric()).map(digits).max().unwrap_or_default();
        let first = run.chars().next();
        let dials = matches!(first, Some('+' | '(' | '0')) && digits(run) >= 9 && is_grouped(run);
        if !stuck && (dials || longest >= 9) && run != order && run != order.trim_start_matches('#') {
            found.push((start, start + run.len()));
        }
        let step = text[start..].chars().next().map_or(1, char::len_utf8);
        rest_from = start + run.len().max(step);
    }
    found
}

/// Whether one sign divides the number, as in `06 12 34 56 78`, or it says of itself that it is one, with `+` or brackets. A date and a time
/// have several.
fn is_grouped(run: &str) -> bool {
    if run.contains(['+', '(']) {
        return true;
    }
    let mut signs = run.chars().filter(|c| !c.is_numeric());
    let Some(first) = signs.next() else { return true };
    let is_year = |part: &str| part.len() == 4 && (part.starts_with("19") || part.starts_with("20"));
    signs.all(|sign| sign == first) && !run.split(first).any(is_year)
}

/// `12 rue des Lilas`.
fn streets(text: &str, tokens: &[Token<'_>]) -> Vec<Span> {
    let is_number =
        |token: &Token<'_>| token.folded.len() <= 4 && token.folded.starts_with(|c: char| c.is_ascii_digit());
    let mut found = Vec::new();
    for (n, token) in tokens.iter().enumerate() {
        if !is_in(words::STREETS, &token.folded) {
            continue;
        }
        let from = n.saturating_sub(3);
        if let Some(number) = tokens[from..n].iter().find(|token| is_number(token)) {
            let last = tokens[n..]
                .iter()
                .take(4)
                .take_while(|next| !text[token.start..next.start].contains(['.', '\n']))
                .last();
            found.push((number.start, last.map_or(token.end, |last| last.end)));
        }
    }
    found
}

/// `https://…`, `www.…`, `shop.example`, `shop point com`; not what is a mail address.
fn links(text: &str, tokens: &[Token<'_>], mails: &[Span]) -> Vec<Span> {
    let mut found = Vec::new();
    let mut at = 0;
    for word in text.split(|c: char| {
        c.is_whitespace() || matches!(c, '(' | ')' | '<' | '>' | '"' | '«' | '»' | ',' | ';')
    }) {
        let start = at;
        at += word.len() + text[at + word.len()..].chars().next().map_or(0, char::len_utf8);
        let word = word.trim_end_matches(['.', '!', '?', ':', '…', '\'', '’']);
        if leads_somewhere(word) && !mails.iter().any(|(from, to)| *from < start + word.len() && start < *to)
        {
            found.push((start, start + word.len()));
        }
    }
    for (n, token) in tokens.iter().enumerate().skip(1) {
        let is_dot = matches!(token.folded.as_str(), "point" | "dot");
        let end = tokens
            .get(n + 1)
            .filter(|next| is_dot && matches!(next.folded.as_str(), "com" | "fr" | "net" | "org"));
        if let Some(end) = end {
            found.push((tokens[n - 1].start, end.end));
        }
    }
    found
}

fn leads_somewhere(word: &str) -> bool {
    let lower = word.to_lowercase();
    let after_scheme = lower.split_once("://").map(|(scheme, rest)| {
        (scheme.ends_with(|c: char| c.is_ascii_alphabetic())) && rest.starts_with(char::is_alphanumeric)
    });
    if after_scheme == Some(true) || lower.starts_with("www.") && lower.len() > 6 {
        return true;
    }
    let (host, path) =
        lower.split_once('/').map_or((lower.as_str(), None), |(host, path)| (host, Some(path)));
    let Some((name, end)) = host.rsplit_once('.') else { return false };
    let is_name = name.split('.').all(|label| {
        !label.is_empty()
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && label.contains(char::is_alphabetic)
    });
    // `cher.fr`, not `a.m`, and not the end of a sentence that goes on without a space.
    is_name
        && (is_in(words::ENDS, end)
            || is_in(words::WORDY_ENDS, end)
                && path.is_some_and(|path| path.starts_with(char::is_alphanumeric)))
}

/// Staff by their whole names as configured; the author's last name where it is written like a name; whoever has a title before the name.
fn names(text: &str, tokens: &[Token<'_>], about: &About<'_>) -> Vec<Span> {
    let mut found = Vec::new();
    let is_capital = |token: &Token<'_>| token.text.chars().next().is_some_and(char::is_uppercase);
    for name in about.staff {
        let parts: Vec<String> = self::tokens(name).into_iter().map(|token| token.folded).collect();
        found.extend(sequences(tokens, &parts));
    }
    let parts: Vec<String> =
        about.last_name.map(self::tokens).unwrap_or_default().into_iter().map(|token| token.folded).collect();
    if parts.iter().map(|part| part.chars().count()).sum::<usize>() >= 3 {
        // Many names are words: a `petit` problem is nobody's.
        let named = sequences(tokens, &parts)
            .into_iter()
            .filter(|(start, _)| text[*start..].starts_with(char::is_uppercase));
        found.extend(named);
    }
    for pair in tokens.windows(2) {
        let between = &text[pair[0].end..pair[1].start];
        let close = between.chars().all(|c| matches!(c, ' ' | '.' | '\u{a0}' | '\u{202f}'));
        if is_in(words::TITLES, &pair[0].folded) && is_capital(&pair[1]) && close {
            found.push((pair[0].start, pair[1].end));
        }
        if pair[0].text == "M" && is_capital(&pair[1]) && close && pair[1].text.chars().count() > 2 {
            found.push((pair[0].start, pair[1].end));
        }
    }
    found
}

/// Where these words stand one after the other.
fn sequences(tokens: &[Token<'_>], parts: &[String]) -> Vec<Span> {
    if parts.is_empty() {
        return Vec::new();
    }
    let is_there =
        |window: &&[Token<'_>]| window.iter().zip(parts).all(|(token, part)| token.folded == *part);
    tokens
        .windows(parts.len())
        .filter(is_there)
        .map(|window| (window[0].start, window[parts.len() - 1].end))
        .collect()
}

fn profanity(text: &str, tokens: &[Token<'_>], language: &str) -> Vec<Span> {
    let of_language = match language {
        "fr" => words::PROFANE_FR,
        "en" => words::PROFANE_EN,
        _ => &[],
    };
    let lists = [words::PROFANE, of_language];
    let is_listed = |word: &str| lists.iter().any(|list| is_in(list, word));
    let is_profane = |word: &str| {
        let singular = word.strip_suffix(['s', 'x']).filter(|singular| singular.len() >= 4);
        is_listed(word) || singular.is_some_and(is_listed)
    };
    let is_long = |word: &str| {
        let short = shortened(word);
        short.is_some_and(|short| lists.iter().any(|list| list.iter().any(|known| squeezed(known) == short)))
    };
    let hides = |word: &str| {
        let letters: Vec<char> = word.chars().collect();
        let shown = letters.iter().filter(|c| **c != '*').count();
        let fits = |known: &&str| {
            known.chars().count() == letters.len()
                && known.chars().zip(&letters).all(|(k, c)| *c == '*' || k == *c)
        };
        word.contains('*') && shown >= 2 && lists.iter().any(|list| list.iter().any(&fits))
    };
    let mut found: Vec<Span> = tokens
        .iter()
        .filter(|token| is_profane(&token.folded) || is_long(&token.folded))
        .map(|token| (token.start, token.end))
        .collect();
    for token in disguised(text) {
        let plain = unmasked(&token.folded);
        let in_disguise = plain.as_deref().is_some_and(|plain| is_profane(plain) || is_long(plain));
        if in_disguise || hides(&token.folded) {
            found.push((token.start, token.end));
        }
    }
    for phrase in words::PROFANE_PHRASES {
        let parts: Vec<String> = phrase.iter().map(|part| (*part).to_owned()).collect();
        found.extend(sequences(tokens, &parts));
    }
    found
        .extend(spelled(text, tokens).into_iter().filter(|(_, word)| is_profane(word)).map(|(span, _)| span));
    found.sort_unstable();
    found.dedup();
    found
}

/// Words that are spelled letter by letter: `m.e.r.d.e`.
fn spelled(text: &str, tokens: &[Token<'_>]) -> Vec<(Span, String)> {
    let mut found = Vec::new();
    let mut rest = tokens;
    while let Some(first) = rest.first() {
        let is_letter = |token: &&Token<'_>| token.text.chars().count() == 1;
        let mut run: Vec<&Token<'_>> = rest.iter().take_while(is_letter).collect();
        let close =
            run.windows(2).take_while(|pair| text[pair[0].end..pair[1].start].chars().count() == 1).count();
        run.truncate(close + 1);
        if run.len() >= 3 && is_letter(&first) {
            let word = run.iter().map(|token| token.folded.as_str()).collect();
            found.push(((first.start, run[run.len() - 1].end), word));
        }
        rest = &rest[run.len().max(1)..];
    }
    found
}

/// A text of three words or more that is nearly all in capitals.
fn capitals(text: &str, tokens: &[Token<'_>]) -> Vec<Span> {
    let n_words =
        tokens.iter().filter(|token| token.text.chars().filter(|c| c.is_alphabetic()).count() > 1).count();
    let n_upper = text.chars().filter(|c| c.is_uppercase()).count();
    let n_lower = text.chars().filter(|c| c.is_lowercase()).count();
    let ends = tokens.first().zip(tokens.last());
    let shouts = n_words >= 3 && n_upper >= 12 && n_upper >= 4 * n_lower;
    ends.filter(|_| shouts).map(|(first, last)| (first.start, last.end)).into_iter().collect()
}

/// What may be numbers of orders: six characters or more with a digit, or fewer after a word such as `commande`, or after `#`.
fn mentions(tokens: &[Token<'_>], text: &str) -> Vec<Span> {
    let mut found = Vec::new();
    for (n, token) in tokens.iter().enumerate() {
        let start = whole_number(text, token.start);
        let named = text[..start].ends_with('#')
            || tokens[..n].iter().rev().take(3).any(|before| is_in(words::ORDERS, &before.folded));
        // A number with dashes is cut into several words; the last of them sees the whole.
        let goes_on = text[token.end..]
            .strip_prefix(['-', '_', '/'])
            .is_some_and(|rest| rest.starts_with(char::is_alphanumeric));
        let number = &text[start..token.end];
        let is_number =
            number.contains(|c: char| c.is_ascii_digit()) && (named || number.chars().count() >= 6);
        if is_number && !goes_on && number.len() <= 64 {
            found.push((start, token.end));
        }
    }
    found
}

/// Where the number begins that goes on at this place.
fn whole_number(text: &str, at: usize) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/');
    let before = text[..at].trim_end_matches(is_part);
    let kept = &text[before.len()..at];
    at - kept.trim_start_matches(['-', '_', '/']).len()
}

/// A number as a shop may write it.
fn spellings(number: &str) -> impl Iterator<Item = String> {
    [number.to_owned(), number.to_uppercase(), format!("#{number}")].into_iter()
}

/// What contradicts the score: a word of the other opinion, where no word is of the score's own.
fn contradiction(text: &str, tokens: &[Token<'_>], about: &About<'_>) -> Option<Span> {
    let is_glad = match (about.rating, about.recommend) {
        (Some(4..), _) | (None, Some("yes")) => true,
        (Some(..=2), _) | (None, Some("no")) => false,
        _ => return None,
    };
    let mut against = None;
    for (n, token) in tokens.iter().enumerate() {
        let opinion = match token.folded.as_str() {
            word if is_in(words::GLAD, word) => true,
            word if is_in(words::SORRY, word) => false,
            _ => continue,
        };
        if (opinion != is_denied(text, tokens, n)) == is_glad {
            return None;
        }
        against.get_or_insert((token.start, token.end));
    }
    against
}

/// Whether one of the three words before it in the sentence denies a word, or `ne … pas` around it.
fn is_denied(text: &str, tokens: &[Token<'_>], n: usize) -> bool {
    let start = tokens[n].start;
    let near = tokens[..n]
        .iter()
        .rev()
        .take(3)
        .take_while(|before| !text[before.end..start].contains(['.', '!', '?', ';', ':', '\n']));
    let near: Vec<&str> = near.map(|token| token.folded.as_str()).collect();
    let around = near.iter().take(2).any(|word| matches!(*word, "ne" | "n"))
        && tokens
            .get(n + 1)
            .is_some_and(|next| matches!(next.folded.as_str(), "pas" | "plus" | "jamais" | "guere"));
    around || near.iter().any(|word| is_in(words::DENIES, word))
}

#[cfg(test)]
mod tests;
