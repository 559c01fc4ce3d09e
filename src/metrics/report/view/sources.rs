//! The scores of other sites, against the level at which each is alarming.

use std::collections::BTreeSet;

use super::{About, Cell, Drawn, Table, stretch};
use crate::metrics::figure::Unit;
use crate::metrics::report::Alarm;
use crate::metrics::report::chart::{self, Dot, Line, Told};
use crate::metrics::series::Series;

impl About<'_> {
    /// A drawing for each source that said anything.
    pub(super) fn scores(&self, series: &Series) -> Vec<Drawn> {
        let sources: BTreeSet<&String> =
            series.points.iter().flat_map(|point| point.third_party_scores.keys()).collect();
        sources.into_iter().map(|source| self.score(source, series)).collect()
    }

    fn score(&self, source: &str, series: &Series) -> Drawn {
        let words = self.words;
        let alarm = self.alarm("third_party_score", Some(source)).map(|alarm| alarm.below);
        let known: Vec<_> = series
            .points
            .iter()
            .filter_map(|point| Some((point, *point.third_party_scores.get(source)?)))
            .collect();
        let dots: Vec<Dot> = series
            .points
            .iter()
            .map(|point| Dot {
                label: words.period_short(series.period, point.days.starts_on),
                value: point.third_party_scores.get(source).map(|score| score.score),
                is_whole: true,
                ..Dot::default()
            })
            .collect();
        let level = alarm.map(|below| {
            (below, words.say(&words.score_alarm, &[("level", &words.value(Unit::Share, below))]))
        });
        let mut notes = Vec::new();
        if let Some((_, latest)) = known.last() {
            let (value, day) = (words.value(Unit::Share, latest.score), words.day(latest.rated_on));
            let mut text = words.say(&words.score_latest, &[("value", &value), ("date", &day)]);
            if let Some(n) = latest.ratings {
                text = format!("{text} {}", words.say(&words.score_ratings, &[("n", &words.count(n))]));
            }
            notes.push(text);
            notes.push(match alarm {
                Some(below) => {
                    let level = words.value(Unit::Share, below);
                    let wording =
                        if latest.score < below { &words.score_alarming } else { &words.score_not_alarming };
                    words.say(wording, &[("level", &level)])
                }
                None => words.score_no_alarm.clone(),
            });
        }
        let title = words.say(&words.score_title, &[("source", source)]);
        let text = notes.join(" ");
        let told = Told { id: &self.id(&format!("score-{source}")), title: &title, text: &text };
        let svg = chart::line(&Line {
            told,
            dots: &dots,
            center: None,
            level: level.as_ref().map(|(level, name)| (*level, name.as_str())),
            range: Unit::Share.range(),
            number: &|value| words.tick(Unit::Share, value),
        });
        let rows = known.iter().map(|(point, score)| {
            let ratings =
                score.ratings.map_or_else(|| Cell::text(words.none.clone()), |n| self.count_cell(n));
            vec![
                Cell::head(self.words.period_long(series.period, stretch(point))),
                self.cell(Unit::Share, Some(score.score)),
                Cell::text(words.day(score.rated_on)),
                ratings,
            ]
        });
        let head = [&words.col_period, &words.col_score, &words.col_rated_on, &words.col_ratings];
        let table = Table {
            shop: self.shop.name.clone(),
            caption: title.clone(),
            head: head.map(Clone::clone).to_vec(),
            rows: rows.collect(),
        };
        Drawn {
            shop: self.shop.name.clone(),
            title: source.to_owned(),
            svg,
            is_wide: false,
            notes,
            remarks: Vec::new(),
            table,
        }
    }

    fn alarm(&self, metric: &str, source: Option<&str>) -> Option<&Alarm> {
        let is_it = |alarm: &&Alarm| {
            alarm.metric == metric
                && alarm.shop.as_ref().is_none_or(|shop| *shop == self.shop.shop)
                && alarm.source.as_deref().is_none_or(|of| Some(of) == source)
        };
        self.contents.alarms.iter().find(is_it)
    }
}
