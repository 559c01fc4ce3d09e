//! What each figure means, and what the page cannot know.

use serde::Serialize;

use super::{About, zoned};
use crate::metrics::{Basis, METRICS, answers, recommendation_rate};
use crate::survey::{QuestionKind, Yes};

#[derive(Serialize)]
pub(super) struct Definition {
    name: String,
    text: String,
}

impl About<'_> {
    pub(super) fn definitions(&self) -> Vec<Definition> {
        let words = self.words;
        let metrics = METRICS.iter().map(|metric| {
            let (name, _) = self.named(metric);
            let text = words.metrics.get(metric.key).map_or(metric.definition, |words| &words.definition);
            let text = match self.detail(metric.key) {
                Some(detail) => format!("{text} {detail}"),
                None => text.to_owned(),
            };
            Definition { name: name.to_owned(), text }
        });
        let others = [
            (&words.interval_name, &words.interval_definition),
            (&words.limits_name, &words.limits_definition),
            (&words.suspects_name, &words.suspects_definition),
        ];
        let named = |(name, text): (&String, &String)| Definition { name: name.clone(), text: text.clone() };
        metrics.chain(others.map(named)).collect()
    }

    /// Which questions and answers a figure is about.
    fn detail(&self, metric: &str) -> Option<String> {
        let words = self.words;
        let of_kind = |kind: QuestionKind| {
            let questions = answers::first_of(self.surveys, |question| question.kind == kind);
            let named: Vec<_> = questions
                .iter()
                .map(|(survey, question)| {
                    words.say(&words.detail_question, &[("question", &question.key), ("survey", &survey.key)])
                })
                .collect();
            if named.is_empty() {
                words.detail_none.clone()
            } else {
                words.say(&words.detail_counted, &[("questions", &named.join(", "))])
            }
        };
        match metric {
            "recommendation_rate" => {
                let rules: Vec<_> = recommendation_rate::rules(self.surveys)
                    .into_iter()
                    .map(|(survey, rule)| {
                        let yes = match &rule.yes {
                            Yes::Choices(choices) => choices
                                .iter()
                                .map(|choice| words.say(&words.detail_choice, &[("choice", choice)]))
                                .collect::<Vec<_>>()
                                .join(", "),
                            Yes::Scores { low, high } if low == high => {
                                words.say(&words.detail_score, &[("score", &low.to_string())])
                            }
                            Yes::Scores { low, high } => {
                                let values = [("low", low.to_string()), ("high", high.to_string())];
                                words.say(
                                    &words.detail_scores,
                                    &values.each_ref().map(|(n, v)| (*n, v.as_str())),
                                )
                            }
                        };
                        let values =
                            [("yes", yes.as_str()), ("question", &rule.question), ("survey", survey)];
                        words.say(&words.detail_rule, &values)
                    })
                    .collect();
                Some(if rules.is_empty() {
                    words.detail_recommendation_none.clone()
                } else {
                    words.say(&words.detail_recommendation, &[("rules", &rules.join("; "))])
                })
            }
            "nps" => Some(of_kind(QuestionKind::Nps)),
            "csat" => Some(of_kind(QuestionKind::Rating)),
            _ => None,
        }
    }

    pub(super) fn unknowns(&self) -> Vec<String> {
        let Self { words, shop, .. } = *self;
        let basis = match (shop.basis, shop.frozen_at) {
            (Basis::Frozen, Some(at)) => {
                words.say(&words.basis_frozen, &[("moment", &zoned(words, at, shop.timezone))])
            }
            (Basis::Frozen | Basis::Computed, _) => words.basis_computed.clone(),
        };
        let zone = words.say(&words.unknown_zone, &[("zone", shop.timezone.name())]);
        let mut unknowns = vec![basis, zone, words.unknown_history.clone(), words.unknown_status.clone()];
        if shop.basis == Basis::Frozen {
            unknowns.push(words.unknown_rows.clone());
        }
        unknowns
    }
}
