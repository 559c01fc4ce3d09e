use proptest::prelude::*;

use super::*;

fn about() -> About<'static> {
    static NONE: std::sync::LazyLock<HashSet<String>> = std::sync::LazyLock::new(HashSet::new);
    About {
        locale: "fr",
        rating: None,
        recommend: None,
        order: "A-1001",
        last_name: None,
        staff: &[],
        other_orders: &NONE,
    }
}

/// The rules a text meets, each with what it points at.
#[track_caller]
fn check(about: &About<'_>, text: &str, expected: &[(Rule, &str)]) {
    let found: Vec<_> = flags(text, about).iter().map(|flag| (flag.rule, flag.found(text))).collect();
    assert_eq!(found, expected, "{text:?}");
}

fn fr(text: &str, expected: &[(Rule, &str)]) {
    check(&about(), text, expected);
}

fn en(text: &str, expected: &[(Rule, &str)]) {
    check(&About { locale: "en-GB", ..about() }, text, expected);
}

#[test]
fn contact_data() {
    use Rule::Contact;
    fr("Écrivez-moi : claire@shop.example, merci", &[(Contact, "claire@shop.example")]);
    fr("claire (at) shop.example", &[(Contact, "claire (at) shop")]);
    fr("claire arobase exemple", &[(Contact, "claire arobase exemple")]);
    for number in [
        "06 12 34 56 78",
        "06.12.34.56.78",
        "0612345678",
        "+33 6 12 34 56 78",
        "+33 (0)6-12-34-56-78",
        "(11) 98765-4321",
    ] {
        fr(&format!("Appelez le {number}."), &[(Contact, number)]);
    }
    fr("IBAN 7630006000011234567890189", &[(Contact, "7630006000011234567890189")]);
    fr("sur insta @claire_d.", &[(Contact, "@claire_d")]);
    fr("J’habite 12 bis rue des Lilas bleus", &[(Contact, "12 bis rue des Lilas bleus")]);
    // Dates, prices, sizes and the author's own order are none.
    for text in [
        "Commandé le 12/03/2026 à 10h30, reçu le 02.03.2026 10h30",
        "reçu 2026-03-12 10:30",
        "49,90 € au lieu de 1 000 000 €",
        "taille 38-40, réf. AB123456789C",
        "tout @ fait, 5 @ 6",
        "3 dans la rue",
    ] {
        let found: Vec<_> = flags(text, &about()).into_iter().filter(|flag| flag.rule == Contact).collect();
        let expected = usize::from(text == "3 dans la rue");
        assert_eq!(found.len(), expected, "{text:?}: {found:?}");
    }
    check(&About { order: "100000001", ..about() }, "ma commande 100000001", &[]);
}

#[test]
fn links_and_sentences_without_a_space() {
    use Rule::Link;
    fr("Voir https://evil.example/x?y=1.", &[(Link, "https://evil.example/x?y=1")]);
    fr("moins cher sur www.autre.example !", &[(Link, "www.autre.example")]);
    fr("moins cher sur autre-boutique.fr", &[(Link, "autre-boutique.fr")]);
    fr("voir t.co/abc", &[(Link, "t.co/abc")]);
    fr("autre point com", &[(Link, "autre point com")]);
    for text in [
        "Très bien.Merci",
        "arrivé.de suite",
        "reçu à 10.30",
        "etc...",
        "5/5",
        "c'est.it",
        "bon.fin",
        "http:// rien",
    ] {
        fr(text, &[]);
    }
}

#[test]
fn names_of_staff_and_customers() {
    use Rule::Name;
    let staff = ["Camille Roux".to_owned(), "Zoé".to_owned()];
    let about = About { staff: &staff, last_name: Some("Petit"), ..about() };
    check(&about, "Merci à CAMILLE  ROUX et à zoe !", &[(Name, "CAMILLE  ROUX"), (Name, "zoe")]);
    check(&about, "Camille est gentille, les roux aussi, Zoétrope non", &[]);
    check(&about, "un petit retard, signé Petit", &[(Name, "Petit")]);
    fr("Mme Durand et M. Martin ont aidé", &[(Name, "Mme Durand"), (Name, "M. Martin")]);
    fr("Madame, merci. Taille M Bleu ciel", &[(Name, "M Bleu")]);
}

#[test]
fn profanity_is_whole_words_in_their_language() {
    use Rule::Profanity;
    fr("C’est de la MERDE.", &[(Profanity, "MERDE")]);
    fr("bande de cons, connards", &[(Profanity, "cons"), (Profanity, "connards")]);
    fr("ta gueule", &[(Profanity, "ta gueule")]);
    // The `е` of the last one is Cyrillic.
    for disguised in ["m3rd3", "m*rde", "meeeerde", "m.e.r.d.e", "mer\u{200b}de", "ｍｅｒｄｅ", "mеrde"]
    {
        fr(&format!("oh {disguised} alors"), &[(Profanity, disguised)]);
    }
    en("this sh!t, a$$ and f**k", &[(Profanity, "sh!t"), (Profanity, "a$$"), (Profanity, "f**k")]);
    // Scunthorpe, Essex, and words that are harmless in one of the languages.
    en("Scunthorpe, Essex, assess the class, cocktail, therapist, Dick Cheney, the con bit me", &[]);
    en("The bite of the connection, *bien*, 4x4, 5***", &[]);
    fr("retard de livraison, douche, contenu, concours, députée, réputation, assez, passe, as, culture", &[]);
    en("retard", &[(Profanity, "retard")]);
}

#[test]
fn capitals_are_a_text_not_a_word() {
    fr("TRÈS MAUVAISE EXPÉRIENCE !!", &[(Rule::Capitals, "TRÈS MAUVAISE EXPÉRIENCE")]);
    fr("SUPER !", &[]);
    fr("J’ai reçu un TSHIRT XXL de la SNCF", &[]);
    check(&About { locale: "fr", ..about() }, "素晴らしい 商品 でした ありがとう ございます", &[]);
}

#[test]
fn another_customers_order() {
    let others: HashSet<String> = ["A-2002", "#1043", "778899"].map(str::to_owned).into();
    let about = About { other_orders: &others, ..about() };
    check(&about, "ma commande A-1001, pas la a-2002 !", &[(Rule::OtherOrder, "a-2002")]);
    check(&about, "commande n° 1043", &[(Rule::OtherOrder, "1043")]);
    check(&about, "1043 euros", &[]);
    check(&about, "voir 778899", &[(Rule::OtherOrder, "778899")]);
    assert_eq!(mentioned("la a-2002"), ["a-2002", "A-2002", "#a-2002"]);
}

#[test]
fn a_score_and_words_that_contradict() {
    use Rule::Contradiction;
    let with = |rating| About { rating: Some(rating), ..about() };
    check(&with(5), "Quelle arnaque", &[(Contradiction, "arnaque")]);
    check(&with(1), "Parfait, rien à redire", &[(Contradiction, "Parfait")]);
    check(&with(1), "Produit superbe mais livraison nulle", &[]);
    check(&with(5), "Jamais déçue", &[]);
    check(&with(5), "Je n’ai pas été déçu", &[]);
    check(&with(5), "Je ne recommande pas", &[(Contradiction, "recommande")]);
    check(&with(1), "Je ne recommande pas", &[]);
    check(&with(1), "pas du tout satisfaite", &[]);
    check(&with(3), "horrible", &[]);
    let no = About { recommend: Some("no"), locale: "en", ..about() };
    check(&no, "I love it", &[(Contradiction, "love")]);
    check(&no, "I don’t love it. Perfect? No.", &[]);
}

#[test]
fn what_cannot_be_read_is_left_to_a_person() {
    let pt = About { locale: "pt-BR", ..about() };
    check(&pt, "Muito bom", &[(Rule::Language, "Muito bom")]);
    check(&pt, "  ", &[]);
}

#[test]
fn a_name_has_neither_an_address_nor_an_insult() {
    let check = |name: &str, expected: &[(Rule, &str)]| {
        let flags = flags_of_name(name, &about());
        let found: Vec<_> = flags.iter().map(|flag| (flag.rule, flag.found(name))).collect();
        assert_eq!(found, expected, "{name:?}");
        assert!(flags.iter().all(|flag| flag.part == Part::DisplayName), "{name:?}");
    };
    check("0612345678", &[(Rule::Contact, "0612345678")]);
    check("Cléo @cleo_d", &[(Rule::Contact, "@cleo_d")]);
    check("spam.example", &[(Rule::Link, "spam.example")]);
    check("Cléo, sale connard", &[(Rule::Profanity, "connard")]);
    for name in
        ["Claire D.", "M. Martin", "Mme DURAND DE LA TOUR", "J.-P. Petit", "la Parisienne 🗼", "Zoé 75011"]
    {
        check(name, &[]);
    }
}

#[test]
fn every_rule_has_its_words() {
    let texts: HashSet<&str> = Rule::ALL.iter().map(|rule| rule.text()).collect();
    assert_eq!(texts.len(), Rule::ALL.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is typed: no panic, and each flag points into the text.
    #[test]
    fn any_text_can_be_looked_at(
        text in r#"(?s)([a-zéM@.*$!(+#0-9/ \-\u{200b}\u{301}]{0,12}|merde|www\.|06 12 34|Mme |rue |\n|.){0,12}"#,
        last_name in proptest::option::of("(?s).{0,8}"),
        staff in "(?s).{0,8}",
        order in "[#A-Z0-9-]{0,8}",
        rating in proptest::option::of(1i16..=5),
    ) {
        let others: HashSet<String> = mentioned(&text).into_iter().collect();
        let staff = [staff];
        let about = About { rating, order: &order, last_name: last_name.as_deref(), staff: &staff, other_orders: &others, ..about() };
        for flag in flags(&text, &about) {
            prop_assert!(flag.start < flag.end && flag.end <= text.chars().count(), "{flag:?}");
            prop_assert!(!flag.found(&text).is_empty());
        }
        for flag in flags_of_name(&text, &about) {
            prop_assert!(flag.start < flag.end && !flag.found(&text).is_empty(), "{flag:?}");
        }
    }
}
