//! Words as the rules compare them: where they stand, and what is left of them without accents, capitals and disguise.

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) text: &'t str,
    /// In bytes.
    pub(super) start: usize,
    pub(super) end: usize,
    /// [`fold`] of it.
    pub(super) folded: String,
}

/// The words of a text: letters and digits, whatever their script, with the accents that follow them.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    cut(text, |c| c.is_alphanumeric() || is_unseen(c))
}

/// The same, with the signs that stand for letters in disguise: `m*rde`, `a$$`. Those around a word are not part of it, except `$` and `@`.
pub(super) fn disguised(text: &str) -> Vec<Token<'_>> {
    let mut tokens = cut(text, |c| c.is_alphanumeric() || is_unseen(c) || matches!(c, '@' | '$' | '!' | '*'));
    for token in &mut tokens {
        let trimmed = token.text.trim_start_matches(['*', '!']);
        token.start += token.text.len() - trimmed.len();
        token.text = trimmed.trim_end_matches(['*', '!']);
        token.end = token.start + token.text.len();
        token.folded = fold(token.text);
    }
    tokens.retain(|token| !token.text.is_empty());
    tokens
}

fn cut(text: &str, belongs: impl Fn(char) -> bool) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, at < text.len() && belongs(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                let word = &text[from..at];
                tokens.push(Token { text: word, start: from, end: at, folded: fold(word) });
                start = None;
            }
            _ => {}
        }
    }
    tokens.retain(|token| !token.folded.is_empty());
    tokens
}

/// What takes no room of its own: accents that follow their letter, and characters that nobody sees.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// In lower case, without accents and without what nobody sees; wide letters become narrow ones.
pub(super) fn fold(word: &str) -> String {
    let mut folded = String::with_capacity(word.len());
    for c in word.chars().filter(|c| !is_unseen(*c)) {
        let narrow = match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
            c => c,
        };
        for c in narrow.to_lowercase().filter(|c| !is_unseen(*c)) {
            match c {
                'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' => folded.push('a'),
                'ç' | 'č' => folded.push('c'),
                'è' | 'é' | 'ê' | 'ë' | 'ē' => folded.push('e'),
                'ì' | 'í' | 'î' | 'ï' | 'ī' | 'ı' => folded.push('i'),
                'ñ' => folded.push('n'),
                'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' => folded.push('o'),
                'š' => folded.push('s'),
                'ù' | 'ú' | 'û' | 'ü' | 'ū' => folded.push('u'),
                'ý' | 'ÿ' => folded.push('y'),
                'ž' => folded.push('z'),
                'æ' => folded.push_str("ae"),
                'œ' => folded.push_str("oe"),
                'ß' => folded.push_str("ss"),
                c => folded.push(c),
            }
        }
    }
    folded
}

/// What a disguised word may stand for: digits, signs and letters of other scripts that look like a letter are taken for it. `None`: it
/// has no letter, so it is a number, or nothing in it is a disguise.
pub(super) fn unmasked(folded: &str) -> Option<String> {
    let mut changed = false;
    let plain: String = folded
        .chars()
        .map(|c| {
            let letter = match c {
                '0' | 'о' => 'o',
                '1' | '!' | 'і' => 'i',
                '3' | 'е' => 'e',
                '4' | '@' | 'а' => 'a',
                '5' | '$' => 's',
                '7' => 't',
                '8' => 'b',
                'р' => 'p',
                'с' => 'c',
                'у' => 'y',
                'х' => 'x',
                c => return c,
            };
            changed = true;
            letter
        })
        .collect();
    (changed && folded.chars().any(char::is_alphabetic)).then_some(plain)
}

/// Each run of a letter becomes one of it. `None`: no letter stands there three times in a row, as in `meeerde`.
pub(super) fn shortened(word: &str) -> Option<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.windows(3).any(|w| w[0] == w[1] && w[1] == w[2]).then(|| squeezed(word))
}

/// Each run of a letter becomes one of it.
pub(super) fn squeezed(word: &str) -> String {
    let mut short = String::with_capacity(word.len());
    for c in word.chars() {
        if !short.ends_with(c) {
            short.push(c);
        }
    }
    short
}
