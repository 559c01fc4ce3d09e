//! A choice among what may be published, and what has to be said with it.
//!
//! To show the favourable ones as if they were all is a misleading practice (directive 2005/29/EC, annex I, 23c; French Code de la
//! consommation, L121-4, 28°). So nothing is left out unless somebody gave the choice a name that readers will see, and then the rule,
//! the number it was chosen from, and what all customers answered go along.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::candidate::Candidate;
use super::gate::Testimonial;
use crate::metrics::figure::Figure;
use crate::nearest::unknown;
use crate::survey::{QuestionKind, Questionnaire, Survey};

/// Which ones, and under which name. At least one rule is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    label: String,
    /// From 1 to 5.
    min_rating: Option<i16>,
    /// A choice that the author made.
    topic: Option<String>,
}

impl Selection {
    /// Reads what somebody typed; `None`: nothing is to be left out.
    ///
    /// # Errors
    /// A sentence, for a rule without a name, a name without a rule, a rating that nobody can give, or a topic that none of these surveys asks
    /// about.
    pub fn parse(
        label: Option<&str>,
        min_rating: Option<i16>,
        topic: Option<&str>,
        surveys: &[Survey],
    ) -> Result<Option<Self>, String> {
        let label = label.map(str::trim).filter(|label| !label.is_empty());
        if min_rating.is_none() && topic.is_none() {
            return match label {
                None => Ok(None),
                Some(_) => {
                    Err("a selection needs a rule besides its label: a least rating, or a topic".to_owned())
                }
            };
        }
        let Some(label) = label else {
            return Err("testimonials that were selected have to be called so where they are shown: give the selection a \
                        label, such as \"Avis sélectionnés\""
                .to_owned());
        };
        if min_rating.is_some_and(|rating| !(1..=5).contains(&rating)) {
            return Err("a rating is from 1 to 5".to_owned());
        }
        let topics: BTreeSet<String> = surveys.iter().flat_map(topics_of).collect();
        if let Some(unknown) =
            topic.and_then(|topic| unknown("topic", topic, topics.iter().map(String::as_str)))
        {
            return Err(unknown);
        }
        Ok(Some(Self { label: label.to_owned(), min_rating, topic: topic.map(str::to_owned) }))
    }

    /// Its name.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The rule, for readers of any language: `rating >= 4, topic = delivery`.
    pub fn rule(&self) -> String {
        let rating = self.min_rating.map(|rating| format!("rating >= {rating}"));
        let topic = self.topic.as_ref().map(|topic| format!("topic = {topic}"));
        rating.into_iter().chain(topic).collect::<Vec<_>>().join(", ")
    }

    /// Whether this one is chosen. `asked` is the questionnaire its author saw.
    pub(super) fn takes(
        &self,
        testimonial: &Testimonial,
        candidate: &Candidate,
        asked: &Questionnaire,
    ) -> bool {
        let rated = |least: i16| testimonial.rating.is_some_and(|rating| rating >= least);
        let chose = |topic: &String| {
            candidate.questions.iter().zip(&candidate.choices).any(|(question, choice)| {
                choice.as_ref() == Some(topic)
                    && asked
                        .question(question)
                        .is_some_and(|question| matches!(question.kind, QuestionKind::Choice { .. }))
            })
        };
        self.min_rating.is_none_or(rated) && self.topic.as_ref().is_none_or(chose)
    }
}

/// What can be chosen in a survey.
fn topics_of(survey: &Survey) -> impl Iterator<Item = String> {
    let is_choice = |kind: &&QuestionKind| matches!(kind, QuestionKind::Choice { .. });
    let kinds = survey.questionnaire.questions.iter().map(|question| &question.kind);
    kinds.filter(is_choice).filter_map(QuestionKind::options).flatten()
}

/// What is said with a selection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Selected {
    /// Under which name it is shown.
    pub label: String,
    pub rule: String,
    /// How many may be published.
    pub n_eligible: u64,
    /// What all customers answered, not only those who may be shown.
    pub recommendation: Figure,
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, rule, n_eligible, recommendation } = self;
        write!(
            f,
            "{label}: {rule}, of {n_eligible} that may be published. Recommendation rate of all answers: {}",
            recommendation.verdict
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out_without_a_name_for_it() {
        assert_eq!(Selection::parse(None, None, None, &[]), Ok(None));
        let chosen = Selection::parse(Some(" Avis sélectionnés "), Some(4), None, &[]).unwrap().unwrap();
        assert_eq!((chosen.label(), chosen.rule().as_str()), ("Avis sélectionnés", "rating >= 4"));
        for (label, rating, topic, says) in [
            (None, Some(4), None, "label"),
            (Some(" "), None, Some("delivery"), "label"),
            (Some("Avis"), None, None, "rule"),
            (Some("Avis"), Some(6), None, "1 to 5"),
            (Some("Avis"), None, Some("delivery"), "no topic"),
        ] {
            let wrong = Selection::parse(label, rating, topic, &[]).unwrap_err();
            assert!(wrong.contains(says), "{wrong}");
        }
    }
}
