//! What the unhappy name.

use super::{About, Cell, Drawn, Table};
use crate::metrics::figure::Unit;
use crate::metrics::report::chart::{self, Row, Told};
use crate::metrics::series::Topic;
use crate::survey::QuestionKind;
use crate::types::Locale;

/// So many topics are drawn at most.
const MOST_TOPICS: usize = 10;

impl About<'_> {
    pub(super) fn topics(&self) -> Option<Drawn> {
        let words = self.words;
        let mut topics: Vec<&Topic> = self.shop.topics.iter().collect();
        topics.sort_by(|a, b| b.n.cmp(&a.n).then_with(|| a.option.cmp(&b.option)));
        let first = *topics.first()?;
        let share = |topic: &Topic| {
            if topic.unhappy > 0 { topic.n as f64 / topic.unhappy as f64 } else { 0.0 }
        };
        let rows: Vec<_> = topics
            .iter()
            .take(MOST_TOPICS)
            .map(|topic| {
                let (share, n) = (share(topic), words.count(topic.n));
                let number = format!("{n} · {}", words.percent(share, 0));
                Row { name: self.wording(topic).1, share, number }
            })
            .collect();
        let values = [
            ("topic", self.wording(first).1),
            ("n", words.count(first.n)),
            ("of", words.count(first.unhappy)),
        ];
        let text =
            words.say(&words.topics_text, &values.each_ref().map(|(name, value)| (*name, value.as_str())));
        let id = self.id("topics");
        let told = Told { id: &id, title: &words.topics_title, text: &text };
        let table = topics.iter().map(|topic| {
            let (question, answer) = self.wording(topic);
            vec![
                Cell::head(answer),
                Cell::text(question),
                self.count_cell(topic.n),
                self.count_cell(topic.unhappy),
                self.cell(Unit::Share, Some(share(topic))),
            ]
        });
        let head =
            [&words.col_answer, &words.col_question, &words.col_n, &words.col_unhappy, &words.col_value];
        Some(Drawn {
            shop: self.shop.name.clone(),
            title: words.topics.clone(),
            svg: chart::rows(told, &rows),
            is_wide: false,
            notes: vec![words.topics_how.clone()],
            remarks: Vec::new(),
            table: Table {
                shop: self.shop.name.clone(),
                caption: words.topics_title.clone(),
                head: head.map(Clone::clone).to_vec(),
                rows: table.collect(),
            },
        })
    }

    /// How the survey words the question and the answer of a topic, as far as it still asks so.
    fn wording(&self, topic: &Topic) -> (String, String) {
        let locale = Locale::parse(&self.words.language);
        let survey = self.surveys.iter().find(|survey| survey.key == topic.survey);
        let question = survey.and_then(|survey| survey.questionnaire.question(&topic.question));
        let (Ok(locale), Some(question)) = (locale, question) else {
            return (topic.question.clone(), topic.option.clone());
        };
        let asked = question.text.get(&locale, &locale).replace("{{shop.name}}", &self.shop.name);
        let QuestionKind::Choice { choices } = &question.kind else { return (asked, topic.option.clone()) };
        let chosen =
            choices.iter().find(|choice| choice.key == topic.option).and_then(|choice| choice.text.as_ref());
        let answer = match chosen {
            Some(texts) => texts.get(&locale, &locale).to_owned(),
            None => self.reader.built_in.choices.get(&topic.option).unwrap_or(&topic.option).clone(),
        };
        (asked, answer)
    }
}
