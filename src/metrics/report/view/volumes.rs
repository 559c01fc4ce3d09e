//! How many orders, mails, answers and comments there were.

use super::{About, Cell, Drawn, Table};
use crate::metrics::report::chart::{self, Bar, Told};
use crate::metrics::series::{Point, Series};

/// How many there were in a period.
type CountOf = fn(&Point) -> i64;

impl About<'_> {
    pub(super) fn volumes(&self, series: &Series) -> Vec<Drawn> {
        let words = self.words;
        let kinds: [(&str, &str, CountOf); 4] = [
            ("orders", &words.volume_orders, |point| point.volumes.orders),
            ("mails", &words.volume_mails, |point| point.volumes.mails_sent),
            ("answers", &words.volume_answers, |point| point.volumes.answers),
            ("comments", &words.volume_comments, |point| point.volumes.comments),
        ];
        let drawn = kinds.into_iter().map(|(key, name, of)| {
            let bars: Vec<_> = series
                .points
                .iter()
                .map(|point| Bar {
                    label: words.period_short(series.period, point.days.starts_on),
                    n: of(point),
                    is_whole: point.complete,
                })
                .collect();
            let most = bars.iter().map(|bar| bar.n).max().unwrap_or_default();
            let all: i64 = bars.iter().map(|bar| bar.n).sum();
            let (all, most) = (words.count(all), words.count(most));
            let period = self.period_word(series.period);
            let title = words.say(&words.volume_title, &[("name", name), ("period", period)]);
            let text = words.say(&words.volume_text, &[("all", &all), ("most", &most)]);
            let told = Told { id: &self.id(&format!("volume-{key}")), title: &title, text: &text };
            let rows = series.points.iter().map(|point| {
                vec![Cell::head(self.period_name(series.period, point)), self.count_cell(of(point))]
            });
            Drawn {
                shop: self.shop.name.clone(),
                title: name.to_owned(),
                svg: chart::bars(told, &bars, &|n| words.decimal(n, 0)),
                is_wide: false,
                notes: vec![text.clone()],
                remarks: Vec::new(),
                table: Table {
                    shop: self.shop.name.clone(),
                    caption: title.clone(),
                    head: vec![words.col_period.clone(), name.to_owned()],
                    rows: rows.collect(),
                },
            }
        });
        if series.points.is_empty() { Vec::new() } else { drawn.collect() }
    }
}
