//! The word that was probably meant, for messages about one that is not known.

/// "did you mean …?", when one of the known words is close.
pub fn did_you_mean<'k>(typed: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&typed.to_lowercase(), &word.to_lowercase()), word))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| format!("did you mean `{word}`?"))
}

/// The nearest known word, else all of them; `None` when there are none.
pub fn hint<'k>(typed: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    did_you_mean(typed, known.iter().copied())
        .or_else(|| (!known.is_empty()).then(|| format!("known: {}", known.join(", "))))
}

/// The sentence about a word that is not among the known ones; `None` when it is.
pub fn unknown<'k>(what: &str, typed: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    if known.contains(&typed) {
        return None;
    }
    Some(match hint(typed, known) {
        Some(hint) => format!("there is no {what} {typed:?}; {hint}"),
        None => format!("there is no {what} {typed:?}, and none is configured"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_answered_with_the_nearest_known() {
        let check = |typed: &str, known: &[&str], expected: Option<&str>| {
            assert_eq!(unknown("shop", typed, known.iter().copied()).as_deref(), expected);
        };
        let shops = ["maison", "olist"];
        check("maison", &shops, None);
        check("Masion", &shops, Some("there is no shop \"Masion\"; did you mean `maison`?"));
        check("xyz", &shops, Some("there is no shop \"xyz\"; known: maison, olist"));
        check("xyz", &[], Some("there is no shop \"xyz\", and none is configured"));
    }
}
