//! The gate: the only place that makes a [`Publishable`], and so the only way for a customer's words to leave the house.
//!
//! Pure: it is given what is stored and says yes, or why not. Every export asks it again for every testimonial, so that whoever is
//! erased, withdraws, or has their order cancelled is missing from the next file.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::TestimonialState;
use super::candidate::{Candidate, Reply};
use super::display_name::{agreed, display_name};
use crate::config::{DisplayName, Shop};
use crate::orders::OrderStatus;
use crate::survey::Questionnaire;
use crate::types::{Locale, ResponseId};

/// A testimonial that may be published. That one exists is the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishable(Testimonial);

/// What is published of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimonial {
    pub id: ResponseId,
    /// The shop's key.
    pub shop: String,
    /// From 1 to 5, where it was asked.
    pub rating: Option<i16>,
    /// `yes` or `no`, where it was asked.
    pub recommend: Option<String>,
    /// The author's words, as they were written.
    pub comment: String,
    /// Empty: the author stays unnamed.
    pub display_name: String,
    /// ISO 3166-1 alpha-2, of the order.
    pub country: Option<String>,
    /// Of the page that was answered.
    pub language: String,
    pub product_ids: Vec<String>,
    /// In the shop's zone.
    pub ordered_on: NaiveDate,
    /// The day of the delivery, else of the order, in the shop's zone.
    pub experience_date: NaiveDate,
    pub submitted_at: DateTime<Utc>,
    /// When it first left in an export.
    pub published_at: DateTime<Utc>,
    /// When something of it, or its order or what the shop answers, was last different.
    pub changed_at: DateTime<Utc>,
    /// The wording of the consent.
    pub consent_version: String,
    /// What the shop answers.
    pub reply: Option<Reply>,
}

/// Why a testimonial may not be published now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// Nobody approved it.
    NotApproved,
    /// The author took it back.
    Withdrawn,
    /// The customer changed their answer; the later one has its own row.
    Superseded,
    /// It does not look as if a person had sent it.
    Suspect,
    /// The author did not agree to publication.
    NoConsent,
    /// The order was called off, so that there was no experience. Who sent the goods back had one.
    OrderCancelled,
    /// The customer was erased.
    Erased,
    /// The order is another customer's now; whose words these are would be said wrongly.
    OfAnother,
    /// It was published for as long as the shop announces.
    Over,
    /// There are no words.
    NoWords,
}

impl Withheld {
    /// For people, after "withheld:".
    pub fn text(self) -> &'static str {
        match self {
            Self::NotApproved => "not approved",
            Self::Withdrawn => "withdrawn by the author",
            Self::Superseded => "changed by the author since",
            Self::Suspect => "not sent by a person",
            Self::NoConsent => "no consent",
            Self::OrderCancelled => "order cancelled",
            Self::Erased => "customer erased",
            Self::OfAnother => "the order has become another customer's",
            Self::Over => "published for as long as announced",
            Self::NoWords => "no words",
        }
    }
}

/// What the gate needs to know besides the candidate.
#[derive(Debug, Clone, Copy)]
pub struct House<'a> {
    pub shop: &'a Shop,
    pub names: DisplayName,
    /// How long what was published stays so; `None`: without end.
    pub retain: Option<TimeDelta>,
    /// The publication date of what was never published before.
    pub now: DateTime<Utc>,
}

/// Lets a candidate through, or says why not. `asked` is the questionnaire its author saw.
///
/// That the order exists and is the shop's is a foreign key of the database.
///
/// # Errors
/// The first reason against publication.
pub fn admit(
    candidate: &Candidate,
    asked: &Questionnaire,
    house: House<'_>,
) -> Result<Publishable, Withheld> {
    let Admissible { comment, consent_version } = admissible(candidate, asked)?;
    if candidate.state != TestimonialState::Approved {
        return Err(Withheld::NotApproved);
    }
    let until = candidate.published_at.zip(house.retain).map(|(from, retain)| from + retain);
    if until.is_some_and(|until| until <= house.now) {
        return Err(Withheld::Over);
    }
    let said = candidate.said(asked);
    Ok(Publishable(Testimonial {
        id: candidate.id,
        shop: house.shop.key.clone(),
        rating: said.rating,
        recommend: said.recommend.map(str::to_owned),
        comment: comment.to_owned(),
        display_name: display_name(agreed(house.names, candidate.agreed_names), candidate.author()),
        country: candidate.country.clone(),
        language: language(&candidate.locale),
        product_ids: candidate.items.clone(),
        ordered_on: day(candidate.ordered_at, house.shop.timezone),
        experience_date: day(candidate.fulfilled_at.unwrap_or(candidate.ordered_at), house.shop.timezone),
        submitted_at: candidate.answered_at,
        published_at: candidate.published_at.unwrap_or(house.now),
        changed_at: candidate.changed_at,
        consent_version: consent_version.to_owned(),
        reply: candidate.reply(),
    }))
}

/// What is left to a moderator: everything else speaks for publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admissible<'a> {
    pub comment: &'a str,
    pub consent_version: &'a str,
}

/// Whether nothing but a moderator's approval may be missing.
///
/// # Errors
/// The first reason against publication, other than that nobody has approved it.
pub fn admissible<'a>(candidate: &'a Candidate, asked: &Questionnaire) -> Result<Admissible<'a>, Withheld> {
    let refuse_if = |condition: bool, reason: Withheld| if condition { Err(reason) } else { Ok(()) };
    refuse_if(candidate.erased, Withheld::Erased)?;
    refuse_if(candidate.of_another, Withheld::OfAnother)?;
    refuse_if(!candidate.human, Withheld::Suspect)?;
    refuse_if(!candidate.counted, Withheld::Superseded)?;
    refuse_if(candidate.state == TestimonialState::Withdrawn, Withheld::Withdrawn)?;
    refuse_if(candidate.order_status == OrderStatus::Cancelled, Withheld::OrderCancelled)?;
    let consent_version = candidate.consent_version.as_deref().filter(|version| !version.trim().is_empty());
    let consent_version = consent_version.ok_or(Withheld::NoConsent)?;
    let comment = candidate.said(asked).words.ok_or(Withheld::NoWords)?;
    Ok(Admissible { comment, consent_version })
}

impl Publishable {
    /// What may be published.
    pub fn testimonial(&self) -> &Testimonial {
        &self.0
    }

    /// One for the tests of the formats.
    #[cfg(test)]
    pub(super) fn sample(testimonial: Testimonial) -> Self {
        Self(testimonial)
    }
}

fn language(locale: &str) -> String {
    Locale::parse(locale).map_or_else(|_| locale.to_owned(), |locale| locale.language().to_owned())
}

fn day(moment: DateTime<Utc>, zone: Tz) -> NaiveDate {
    moment.with_timezone(&zone).date_naive()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CustomerId, SurveyVersionId};

    fn moment(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn asked() -> Questionnaire {
        serde_json::from_value(serde_json::json!({ "questions": [
            { "key": "recommend", "type": "recommend", "required": true, "in_mail": true, "when": null, "text": {} },
            { "key": "overall", "type": "rating", "required": false, "in_mail": false, "when": null, "text": {} },
            { "key": "delivery", "type": "rating", "required": false, "in_mail": false, "when": null, "text": {} },
            { "key": "comment", "type": "text", "max_length": 4000, "required": false, "in_mail": false, "when": null, "text": {} },
            { "key": "more", "type": "text", "max_length": 4000, "required": false, "in_mail": false, "when": null, "text": {} },
        ]}))
        .unwrap()
    }

    fn candidate() -> Candidate {
        let some = |text: &str| Some(text.to_owned());
        Candidate {
            id: ResponseId(7),
            state: TestimonialState::Approved,
            reject_reason: None,
            by_rules: false,
            decided_at: Some(moment("2026-03-11T10:00:00Z")),
            published_at: None,
            counted: true,
            human: true,
            version: SurveyVersionId(1),
            locale: "pt-BR".to_owned(),
            answered_at: moment("2026-03-10T10:00:00Z"),
            received_at: moment("2026-03-10T10:00:00Z"),
            consent_version: some("2026-11"),
            agreed_names: None,
            given_name: None,
            order: "A-1".to_owned(),
            order_status: OrderStatus::Fulfilled,
            ordered_at: moment("2026-02-28T12:00:00Z"),
            fulfilled_at: Some(moment("2026-03-02T23:30:00Z")),
            country: some("FR"),
            items: vec!["p1".to_owned(), "p2".to_owned()],
            customer: CustomerId(3),
            first_name: some("Claire"),
            last_name: some("Dubois"),
            erased: false,
            changed_at: moment("2026-03-10T10:00:00Z"),
            of_another: false,
            questions: vec!["comment".to_owned(), "overall".to_owned(), "recommend".to_owned()],
            scores: vec![None, Some(4), None],
            choices: vec![None, None, some("yes")],
            bodies: vec![some("  Très bien!\n"), None, None],
            reply: some("Merci !"),
            replied_at: Some(moment("2026-03-12T10:00:00Z")),
            reply_revision: Some(2),
        }
    }

    fn gate(candidate: &Candidate) -> Result<Publishable, Withheld> {
        let shop = Shop {
            key: "maison".to_owned(),
            name: "Maison Exemple".to_owned(),
            locale: Locale::parse("fr").unwrap(),
            timezone: Tz::Europe__Paris,
            from: "avis@shop.example".parse().unwrap(),
            reply_to: None,
            url: "https://shop.example".to_owned(),
            color: "#14508f".to_owned(),
            logo: None,
            address: None,
            privacy_url: None,
            review_places: Vec::new(),
            unhappy_next: None,
        };
        let house = House {
            shop: &shop,
            names: DisplayName::FirstNameInitial,
            retain: Some(TimeDelta::days(365)),
            now: moment("2026-04-01T06:00:00Z"),
        };
        admit(candidate, &asked(), house)
    }

    #[test]
    fn what_is_published_of_an_answer() {
        let publishable = gate(&candidate()).unwrap();
        assert_eq!(
            publishable.testimonial(),
            &Testimonial {
                id: ResponseId(7),
                shop: "maison".to_owned(),
                rating: Some(4),
                recommend: Some("yes".to_owned()),
                // Not even the blanks around the words are touched.
                comment: "  Très bien!\n".to_owned(),
                display_name: "Claire D.".to_owned(),
                country: Some("FR".to_owned()),
                language: "pt".to_owned(),
                product_ids: vec!["p1".to_owned(), "p2".to_owned()],
                ordered_on: "2026-02-28".parse().unwrap(),
                // Half past midnight in Paris.
                experience_date: "2026-03-03".parse().unwrap(),
                submitted_at: moment("2026-03-10T10:00:00Z"),
                published_at: moment("2026-04-01T06:00:00Z"),
                changed_at: moment("2026-03-10T10:00:00Z"),
                consent_version: "2026-11".to_owned(),
                reply: Some(Reply {
                    text: "Merci !".to_owned(),
                    replied_at: moment("2026-03-12T10:00:00Z"),
                    revision: 2,
                }),
            }
        );
    }

    #[test]
    fn dates_that_are_there_already_stay_and_dates_that_are_missing_have_a_substitute() {
        let before = moment("2026-03-20T06:00:00Z");
        let again =
            gate(&Candidate { published_at: Some(before), fulfilled_at: None, ..candidate() }).unwrap();
        assert_eq!(again.testimonial().published_at, before);
        assert_eq!(again.testimonial().experience_date, "2026-02-28".parse().unwrap());
    }

    #[test]
    fn a_reply_that_was_taken_down_is_none() {
        let silent = gate(&Candidate { reply: None, ..candidate() }).unwrap();
        assert_eq!(silent.testimonial().reply, None);
    }

    #[test]
    fn each_thing_that_is_missing_closes_the_gate() {
        let check = |candidate: Candidate, reason| assert_eq!(gate(&candidate), Err(reason));
        check(Candidate { state: TestimonialState::Pending, ..candidate() }, Withheld::NotApproved);
        check(Candidate { state: TestimonialState::Rejected, ..candidate() }, Withheld::NotApproved);
        check(Candidate { state: TestimonialState::Withdrawn, ..candidate() }, Withheld::Withdrawn);
        check(Candidate { counted: false, ..candidate() }, Withheld::Superseded);
        check(Candidate { counted: false, human: false, ..candidate() }, Withheld::Suspect);
        check(Candidate { consent_version: None, ..candidate() }, Withheld::NoConsent);
        check(Candidate { consent_version: Some(" ".to_owned()), ..candidate() }, Withheld::NoConsent);
        check(Candidate { order_status: OrderStatus::Cancelled, ..candidate() }, Withheld::OrderCancelled);
        check(Candidate { erased: true, ..candidate() }, Withheld::Erased);
        check(Candidate { of_another: true, ..candidate() }, Withheld::OfAnother);
        let blank = vec![Some(" \n".to_owned()), None, None];
        check(Candidate { bodies: blank, ..candidate() }, Withheld::NoWords);
        // A year to the second.
        let over = |published: &str| Candidate { published_at: Some(moment(published)), ..candidate() };
        check(over("2025-04-01T06:00:00Z"), Withheld::Over);
        assert!(gate(&over("2025-04-01T06:00:01Z")).is_ok());
        assert!(gate(&Candidate { order_status: OrderStatus::Refunded, ..candidate() }).is_ok());
    }
}
