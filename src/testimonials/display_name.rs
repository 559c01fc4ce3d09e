//! Under which name an author appears.

use crate::config::DisplayName;

/// What is known of an author's name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Author<'a> {
    /// Of the order.
    pub first_name: Option<&'a str>,
    /// Of the order.
    pub last_name: Option<&'a str>,
    /// What the author typed under the consent.
    pub as_given: Option<&'a str>,
}

/// The name to print; empty for none.
///
/// What the author typed is printed as typed. Of the order's name never more appears than was configured: some files hold the whole
/// name in one column, and so only the first part of a first name is taken (`Marie Claire` becomes `Marie`, `Jean-Pierre` stays), and
/// what looks like an address is no name.
pub fn display_name(rule: DisplayName, author: Author<'_>) -> String {
    match (rule, printed_as_given(rule, author)) {
        (DisplayName::Anonymous, _) => String::new(),
        (DisplayName::AsGiven, Some(name)) => name.to_owned(),
        (DisplayName::FirstName, _) => first_name(author).unwrap_or_default().to_owned(),
        (DisplayName::AsGiven | DisplayName::FirstNameInitial, _) => first_name_initial(author),
    }
}

/// The name to print, where it is what the author typed.
pub fn printed_as_given(rule: DisplayName, author: Author<'_>) -> Option<&str> {
    let given = author.as_given.map(str::trim).filter(|name| !name.is_empty());
    given.filter(|_| rule == DisplayName::AsGiven)
}

/// How an author is named when the configuration says one thing today and the page said another when the consent was given: as agreed.
/// What can change since is only that the shop names nobody.
pub fn agreed(today: DisplayName, then: Option<DisplayName>) -> DisplayName {
    match (today, then) {
        (DisplayName::Anonymous, _) => DisplayName::Anonymous,
        (_, Some(then)) => then,
        (today, None) => today,
    }
}

fn first_name(author: Author<'_>) -> Option<&str> {
    let first = author.first_name?.split_whitespace().next()?;
    (!first.contains('@')).then_some(first)
}

fn first_name_initial(author: Author<'_>) -> String {
    let Some(first) = first_name(author) else { return String::new() };
    let last = author.last_name.unwrap_or_default();
    match last.chars().find(|c| c.is_alphabetic()) {
        Some(initial) if !last.contains('@') => format!("{first} {}.", initial.to_uppercase()),
        _ => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_named_otherwise_than_agreed() {
        use DisplayName::{Anonymous, AsGiven, FirstName};
        assert_eq!(agreed(FirstName, Some(Anonymous)), Anonymous, "who agreed to no name gets none");
        assert_eq!(agreed(FirstName, Some(AsGiven)), AsGiven, "who chose a name keeps it");
        assert_eq!(agreed(Anonymous, Some(AsGiven)), Anonymous, "the shop may always leave the name out");
        assert_eq!(agreed(FirstName, None), FirstName);
    }

    #[track_caller]
    fn check(rule: DisplayName, first: &str, last: &str, given: &str, expected: &str) {
        let known = |text: &'static str| (!text.is_empty()).then_some(text);
        let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let author = Author {
            first_name: known(leak(first)),
            last_name: known(leak(last)),
            as_given: known(leak(given)),
        };
        assert_eq!(display_name(rule, author), expected, "{rule:?} of {author:?}");
    }

    #[test]
    fn first_name_and_initial() {
        use DisplayName::FirstNameInitial as Rule;
        check(Rule, "Claire", "Dubois", "", "Claire D.");
        check(Rule, "Claire", "dubois", "Whatever", "Claire D.");
        check(Rule, " Jean-Pierre ", "de la Tour", "", "Jean-Pierre D.");
        check(Rule, "Marie Claire", "O'Hara", "", "Marie O.");
        check(Rule, "Claire Dubois", "", "", "Claire");
        check(Rule, "Zoë", "élan", "", "Zoë É.");
        check(Rule, "Ina", "ßtern", "", "Ina SS.");
        check(Rule, "花子", "山田", "", "花子 山.");
        check(Rule, "🌸", "🌸 Dupont", "", "🌸 D.");
        check(Rule, "Claire", "🌸", "", "Claire");
        check(Rule, "Claire", "  ", "", "Claire");
        check(Rule, "", "Dubois", "", "");
        check(Rule, "claire@shop.example", "Dubois", "", "");
        check(Rule, "Claire", "claire@shop.example", "", "Claire");
    }

    #[test]
    fn the_other_rules() {
        check(DisplayName::FirstName, "Claire Dubois", "Dubois", "CD", "Claire");
        check(DisplayName::FirstName, "", "Dubois", "CD", "");
        check(DisplayName::Anonymous, "Claire", "Dubois", "CD", "");
        check(DisplayName::AsGiven, "Claire", "Dubois", " la Parisienne 🗼 ", "la Parisienne 🗼");
        check(DisplayName::AsGiven, "Claire", "Dubois", "  ", "Claire D.");
        check(DisplayName::AsGiven, "", "", "", "");
    }
}
