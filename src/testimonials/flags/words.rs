//! The words that the rules know, without accents and in lower case, each list in the order of the alphabet.
//!
//! A list is for both languages, except those that mean something harmless in the other one: `bite` bites in English, and what is late in
//! France is a `retard`. These count only in a text of their own language. A plural of a word is found with it.

/// Insults and obscenities that are so in whatever language they stand.
pub(super) const PROFANE: &[&str] = &[
    "abruti",
    "abrutie",
    "arsehole",
    "asshole",
    "bastard",
    "batard",
    "batarde",
    "bitch",
    "bitches",
    "bollocks",
    "bordel",
    "bougnoule",
    "branleur",
    "branleuse",
    "bullshit",
    "chier",
    "connard",
    "connarde",
    "connasse",
    "couille",
    "couillon",
    "crappy",
    "cretin",
    "cretine",
    "cunt",
    "debile",
    "dickhead",
    "dipshit",
    "dumbass",
    "emmerde",
    "emmerder",
    "emmerdeur",
    "encule",
    "enculer",
    "enfoire",
    "enfoiree",
    "faggot",
    "fdp",
    "fuck",
    "fucked",
    "fucker",
    "fuckin",
    "fucking",
    "gouine",
    "idiot",
    "idiote",
    "imbecile",
    "jackass",
    "merde",
    "merdeux",
    "merdique",
    "moron",
    "motherfucker",
    "negre",
    "nigga",
    "nigger",
    "nique",
    "niquer",
    "petasse",
    "pouffiasse",
    "putain",
    "pute",
    "salaud",
    "salope",
    "saloperie",
    "shit",
    "shite",
    "shitty",
    "slut",
    "stfu",
    "tarlouze",
    "trouduc",
    "twat",
    "wanker",
    "whore",
    "youpin",
];

/// So in French.
pub(super) const PROFANE_FR: &[&str] =
    &["bite", "chiant", "chiante", "con", "conne", "cons", "cul", "foutre", "ntm", "pd", "pede", "tapette"];

/// So in English.
pub(super) const PROFANE_EN: &[&str] =
    &["arse", "ass", "crap", "douche", "fag", "goddamn", "pissed", "prick", "retard", "retarded"];

/// Insults of several words.
pub(super) const PROFANE_PHRASES: &[&[&str]] = &[
    &["fils", "de", "pute"],
    &["nique", "ta", "mere"],
    &["piece", "of", "shit"],
    &["son", "of", "a", "bitch"],
    &["ta", "gueule"],
    &["tete", "de", "con"],
    &["trou", "du", "cul"],
    &["va", "te", "faire"],
];

/// What only satisfied people say, unless it is denied.
pub(super) const GLAD: &[&str] = &[
    "adore",
    "amazing",
    "awesome",
    "brilliant",
    "delighted",
    "enchante",
    "enchantee",
    "excellent",
    "excellente",
    "excellents",
    "fantastic",
    "fantastique",
    "formidable",
    "genial",
    "geniale",
    "impeccable",
    "love",
    "loved",
    "magnifique",
    "magnifiques",
    "nickel",
    "outstanding",
    "parfait",
    "parfaite",
    "parfaitement",
    "perfect",
    "perfectly",
    "ravi",
    "ravie",
    "recommande",
    "satisfait",
    "satisfaite",
    "satisfied",
    "super",
    "superb",
    "superbe",
    "wonderful",
];

/// What only unsatisfied people say, unless it is denied.
pub(super) const SORRY: &[&str] = &[
    "appalling",
    "arnaque",
    "atrocious",
    "avoid",
    "awful",
    "catastrophe",
    "catastrophique",
    "deception",
    "decevant",
    "decevante",
    "decu",
    "decue",
    "decues",
    "decus",
    "deplorable",
    "deplorables",
    "deteste",
    "disappointed",
    "disappointing",
    "disgraceful",
    "dreadful",
    "eviter",
    "execrable",
    "honte",
    "honteuse",
    "honteux",
    "horrible",
    "horrid",
    "inadmissible",
    "lamentable",
    "nul",
    "nulle",
    "pathetic",
    "pitoyable",
    "rubbish",
    "scam",
    "scandaleux",
    "terrible",
    "unacceptable",
    "useless",
    "worst",
];

/// What denies one of the next words, or has it denied by the last ones.
pub(super) const DENIES: &[&str] = &[
    "aucun",
    "aucune",
    "aucunement",
    "guere",
    "hardly",
    "jamais",
    "moins",
    "neither",
    "never",
    "ni",
    "no",
    "nor",
    "not",
    "nothing",
    "pas",
    "peu",
    "rien",
    "sans",
    "t",
    "without",
];

/// What stands before a person's name.
pub(super) const TITLES: &[&str] =
    &["madame", "mademoiselle", "mister", "mlle", "mme", "monsieur", "mr", "mrs", "ms"];

/// Kinds of streets, by which an address is told.
pub(super) const STREETS: &[&str] =
    &["allee", "avenue", "boulevard", "chemin", "impasse", "road", "rue", "street"];

/// What stands before the number of an order.
pub(super) const ORDERS: &[&str] =
    &["cde", "commande", "facture", "invoice", "n", "no", "num", "number", "numero", "order"];

/// Ends of addresses on the web that are no words.
pub(super) const ENDS: &[&str] = &[
    "app", "biz", "ca", "ch", "com", "eu", "example", "fr", "info", "io", "ly", "net", "nl", "org", "pt",
    "ru", "shop", "store", "uk", "xyz",
];

/// Ends of addresses that are words too: they count only before a slash.
pub(super) const WORDY_ENDS: &[&str] = &["be", "co", "de", "es", "in", "it", "me", "to", "tv", "us"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testimonials::flags::tokens::fold;

    #[test]
    fn the_lists_are_in_order_and_folded() {
        for list in
            [PROFANE, PROFANE_FR, PROFANE_EN, GLAD, SORRY, DENIES, TITLES, STREETS, ORDERS, ENDS, WORDY_ENDS]
        {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{list:?}");
            assert!(list.iter().all(|word| fold(word) == *word), "{list:?}");
        }
    }
}
