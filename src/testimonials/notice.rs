//! What a shop has to tell near the reviews it shows, filled from the configuration as it is.
//!
//! France: Code de la consommation, L111-7-2 (whether and how reviews are checked, dates, reasons, doubts), D111-17 (dates, order, reward,
//! delay, duration), D111-18 (contact, changes, grounds for refusal), D111-19 (the author is told the ground). European Union: directive
//! 2005/29/EC, article 7(6) (whether and how it is ensured that reviews are of real buyers). The words stand in `templates/notice`.

use std::collections::BTreeSet;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use clap::ValueEnum as _;
use handlebars::Handlebars;
use serde::Serialize;

use super::RejectReason;
use super::export::{Export, ExportReport, Part, Refused};
use super::public::Field;
use super::selection::Selected;
use crate::config::{DisplayName, Moderation, Shop};
use crate::metrics::figure::Figure;
use crate::survey::{QuestionKind, Survey, Trigger};

/// The languages there are notices in.
pub const LOCALES: [&str; 2] = ["fr", "en"];

const TEMPLATES: [(&str, &str); 2] = [
    ("fr", include_str!("../../templates/notice/notice.fr.md.hbs")),
    ("en", include_str!("../../templates/notice/notice.en.md.hbs")),
];

/// The notice for an export, as Markdown.
///
/// # Errors
/// When the template is not what the code takes it for.
pub(super) fn render(
    locale: &str,
    export: &Export<'_>,
    report: &ExportReport,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let mut templates = Handlebars::new();
    templates.set_strict_mode(true);
    // It becomes Markdown, not HTML; every value is the shop's own.
    templates.register_escape_fn(handlebars::no_escape);
    for (name, text) in TEMPLATES {
        templates.register_template_string(name, text).context("reading the notice's template")?;
    }
    let words = Words { french: locale == "fr" };
    let text =
        templates.render(locale, &View::of(words, export, report, now)).context("writing the notice")?;
    Ok(format!("{}\n", text.trim_end()))
}

#[derive(Serialize)]
struct View<'a> {
    date: String,
    moderation: &'static str,
    names: &'static str,
    publish_within: String,
    /// How long what was published stays so; `None`: without end.
    retain: Option<String>,
    reasons: Vec<&'static str>,
    /// What each review shows of its two dates.
    dates: &'static str,
    selection: Option<&'a Selected>,
    /// Only what has changed: how many there are of how many cannot be told.
    is_increment: bool,
    /// Whether one shop's reviews come after another's.
    are_several: bool,
    shops: Vec<OfShop<'a>>,
}

#[derive(Serialize)]
struct OfShop<'a> {
    name: &'a str,
    contact: String,
    address: Option<&'a str>,
    privacy_url: Option<&'a str>,
    /// Whether authors have a link to come back by: those who were mailed one.
    have_links: bool,
    /// Whether answers were collected by another tool: their authors have none.
    have_none: bool,
    /// The longest time that any of the surveys with a link allows.
    edit_within: Option<String>,
    n_rows: u64,
    n_eligible: u64,
    n_refused: u64,
    /// How many for which reason.
    refused: String,
    figures: Option<Figures>,
    surveys: Vec<OfSurvey<'a>>,
}

#[derive(Serialize)]
struct OfSurvey<'a> {
    key: &'a str,
    imported: bool,
    sampled: String,
    delay: String,
    trigger: &'static str,
}

#[derive(Serialize)]
struct Figures {
    share: String,
    low: String,
    high: String,
    answers: i64,
}

impl<'a> View<'a> {
    fn of(words: Words, export: &Export<'a>, report: &'a ExportReport, now: DateTime<Utc>) -> Self {
        Self {
            date: words.date(now),
            moderation: words.moderation(export.rules.moderation),
            names: words.names(export.rules.display_name),
            publish_within: words.time(export.rules.publish_within),
            retain: export.rules.retain.map(|retain| words.time(retain)),
            reasons: RejectReason::value_variants().iter().map(|reason| words.reason(*reason)).collect(),
            dates: words.dates(export.shows(Field::PublishedAt), export.shows(Field::ExperienceDate)),
            selection: report.selection.as_ref(),
            is_increment: export.since.is_some(),
            are_several: export.shops.len() > 1,
            shops: export
                .shops
                .iter()
                .zip(&report.parts)
                .map(|((id, shop), part)| {
                    // One that waits in jobs.toml for somebody to enable its job has asked nobody.
                    let was_asked = |survey: &&Survey| report.asked.contains(&(*id, survey.key.clone()));
                    OfShop::of(words, shop, part, export.surveys.iter().filter(was_asked))
                })
                .collect(),
        }
    }
}

impl<'a> OfShop<'a> {
    fn of(words: Words, shop: &'a Shop, part: &Part, asked: impl Iterator<Item = &'a Survey>) -> Self {
        // Words come from surveys that ask for the consent to publish them.
        let publishes = |survey: &&Survey| {
            let consent = |kind: &QuestionKind| matches!(kind, QuestionKind::Consent { .. });
            survey.is_for(&shop.key)
                && survey.questionnaire.questions.iter().any(|question| consent(&question.kind))
        };
        let surveys: Vec<&Survey> = asked.filter(publishes).collect();
        let mailed = || surveys.iter().filter(|survey| survey.mailed);
        let contact = shop.reply_to.as_ref().unwrap_or(&shop.from);
        Self {
            name: &shop.name,
            contact: contact.email.to_string(),
            address: shop.address.as_deref(),
            privacy_url: shop.privacy_url.as_deref(),
            have_links: mailed().next().is_some(),
            have_none: surveys.iter().any(|survey| !survey.mailed),
            edit_within: mailed().map(|survey| survey.edit_within).max().map(|time| words.time(time)),
            n_rows: part.n_rows,
            n_eligible: part.n_eligible,
            n_refused: part.refused.values().sum(),
            refused: words.refusals(part),
            figures: part.recommendation.as_ref().and_then(|figure| words.figures(figure)),
            surveys: surveys.into_iter().map(|survey| OfSurvey::of(words, survey)).collect(),
        }
    }
}

impl<'a> OfSurvey<'a> {
    fn of(words: Words, survey: &'a Survey) -> Self {
        let delays: BTreeSet<TimeDelta> =
            std::iter::once(survey.delay).chain(survey.delay_by_country.values().copied()).collect();
        let delays: Vec<String> = delays.into_iter().map(|delay| words.time(delay)).collect();
        Self {
            key: &survey.key,
            imported: !survey.mailed,
            sampled: words.sampled(survey.sample),
            delay: delays.join(words.pick(" ou ", " or ")),
            trigger: match &survey.trigger {
                Trigger::Fulfilled => words.pick("la livraison", "the delivery"),
                Trigger::Ordered => words.pick("la commande", "the order"),
                Trigger::Event(_) => {
                    words.pick("un échange avec le service client", "an exchange with customer care")
                }
            },
        }
    }
}

/// The words of one of the two languages.
#[derive(Clone, Copy)]
struct Words {
    french: bool,
}

impl Words {
    fn pick<T>(self, french: T, english: T) -> T {
        if self.french { french } else { english }
    }

    fn date(self, now: DateTime<Utc>) -> String {
        now.format(self.pick("%d/%m/%Y", "%Y-%m-%d")).to_string()
    }

    /// Whole years or days where it is some, else hours or minutes.
    fn time(self, time: TimeDelta) -> String {
        let (n, one, many) = if time.num_days() > 0 && time == TimeDelta::days(365 * (time.num_days() / 365))
        {
            (time.num_days() / 365, self.pick("an", "year"), self.pick("ans", "years"))
        } else if time.num_hours() % 24 == 0 {
            (time.num_days(), self.pick("jour", "day"), self.pick("jours", "days"))
        } else if time.num_minutes() % 60 == 0 {
            (time.num_hours(), self.pick("heure", "hour"), self.pick("heures", "hours"))
        } else {
            (time.num_minutes(), self.pick("minute", "minute"), self.pick("minutes", "minutes"))
        };
        format!("{n} {}", if n == 1 { one } else { many })
    }

    fn percent(self, share: f64) -> String {
        let number = format!("{:.1}", share * 100.0);
        if self.french { format!("{}\u{a0}%", number.replace('.', ",")) } else { format!("{number}\u{a0}%") }
    }

    fn figures(self, figure: &Figure) -> Option<Figures> {
        Some(Figures {
            share: self.percent(figure.value?),
            low: self.percent(figure.ci_low?),
            high: self.percent(figure.ci_high?),
            answers: figure.denominator,
        })
    }

    fn sampled(self, sample: f64) -> String {
        if sample >= 1.0 {
            return self.pick("chaque client", "every customer").to_owned();
        }
        let share = self.percent(sample);
        if self.french {
            format!("un client tiré au sort ({share} des commandes)")
        } else {
            format!("a customer drawn by lot ({share} of the orders)")
        }
    }

    fn refusals(self, part: &Part) -> String {
        let one = |(reason, n): (&Refused, &u64)| format!("{n} {}", self.refusal(*reason));
        part.refused.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// What the file shows, or what the shop has to show beside it: both dates stand near each review (D111-17).
    fn dates(self, published: bool, experience: bool) -> &'static str {
        match (published, experience) {
            (true, true) => self.pick(
                "Chaque avis porte la date de sa publication et la date de l’expérience de consommation (le jour de la livraison, à défaut celui de la commande).",
                "Each review shows the date of its publication and the date of the experience (the day of the delivery, or else of the order).",
            ),
            (false, true) => self.pick(
                "Chaque avis porte la date de l’expérience de consommation (le jour de la livraison, à défaut celui de la commande). *À la boutique : le fichier ne contient pas la date de publication de chaque avis ; montrez-la vous-même auprès de lui.*",
                "Each review shows the date of the experience (the day of the delivery, or else of the order). *To the shop: the file does not hold the date of publication of each review; show it yourself near the review.*",
            ),
            (true, false) => self.pick(
                "Chaque avis porte la date de sa publication. *À la boutique : le fichier ne contient pas la date de l’expérience de consommation (le jour de la livraison, à défaut celui de la commande) ; montrez-la vous-même auprès de chaque avis.*",
                "Each review shows the date of its publication. *To the shop: the file does not hold the date of the experience (the day of the delivery, or else of the order); show it yourself near each review.*",
            ),
            (false, false) => self.pick(
                "*À la boutique : le fichier ne contient ni la date de publication de chaque avis, ni celle de l’expérience de consommation (le jour de la livraison, à défaut celui de la commande) ; montrez-les vous-même auprès de chaque avis.*",
                "*To the shop: the file holds neither the date of publication of each review nor the date of the experience (the day of the delivery, or else of the order); show both yourself near each review.*",
            ),
        }
    }

    fn refusal(self, reason: Refused) -> &'static str {
        if !self.french {
            return reason.text();
        }
        match reason {
            Refused::NoRating => "sans note",
            Refused::NoProduct => "sur une commande sans produit",
            Refused::SeveralProducts => "sur une commande de plusieurs produits",
            Refused::NoCountry => "sur une commande sans pays",
            Refused::TooLong => "au-delà de la longueur que le lecteur accepte",
            Refused::WrongProduct => "dont le numéro de produit n’est pas accepté",
            Refused::Unprintable => "avec un caractère qu’un tel fichier ne peut contenir",
            Refused::Formula => "avec une formule qu’un tableur exécuterait",
        }
    }

    fn moderation(self, moderation: Moderation) -> &'static str {
        match moderation {
            Moderation::Manual => self.pick("une personne lit chacun d’eux.", "a person reads each of them."),
            Moderation::Flagged => self.pick(
                "un programme cherche dans chacun d’eux ce qui pourrait justifier un refus ; une personne lit ceux où il trouve quelque chose.",
                "a program looks in each of them for what might be a reason for refusal; a person reads those in which it finds something.",
            ),
        }
    }

    fn names(self, names: DisplayName) -> &'static str {
        match names {
            DisplayName::FirstNameInitial => self.pick(
                "Il paraît sous le prénom de l’auteur et l’initiale de son nom.",
                "It appears under the author’s first name and the initial of their last name.",
            ),
            DisplayName::FirstName => self
                .pick("Il paraît sous le prénom de l’auteur.", "It appears under the author’s first name."),
            DisplayName::Anonymous => self.pick("Il paraît sans nom.", "It appears without a name."),
            DisplayName::AsGiven => self.pick(
                "Il paraît sous le nom que l’auteur a choisi en donnant son accord.",
                "It appears under the name that the author chose when agreeing.",
            ),
        }
    }

    fn reason(self, reason: RejectReason) -> &'static str {
        match reason {
            RejectReason::NoExperience => self.pick(
                "il ne porte pas sur une expérience de consommation avec la boutique",
                "it is not about an experience with the shop",
            ),
            RejectReason::Unlawful => {
                self.pick("son contenu est illicite ou injurieux", "its content is unlawful or insulting")
            }
            RejectReason::PersonalData => self.pick(
                "il contient des coordonnées, ou des données d’autres personnes",
                "it holds contact data, or other people’s data",
            ),
            RejectReason::Promotional => {
                self.pick("il est publicitaire ou contient des liens", "it advertises, or holds links")
            }
            RejectReason::Contradictory => self.pick(
                "la note et le texte se contredisent",
                "its rating and its words contradict each other",
            ),
            RejectReason::Unintelligible => self.pick("il est incompréhensible", "it cannot be understood"),
        }
    }
}
