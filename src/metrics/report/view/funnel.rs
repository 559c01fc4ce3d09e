//! How far the orders came.

use super::{About, Cell, Drawn, Table};
use crate::metrics::figure::Unit;
use crate::metrics::funnel::Funnel;
use crate::metrics::report::chart::{self, Row, Told};

impl About<'_> {
    pub(super) fn funnel(&self, funnel: &Funnel) -> Option<Drawn> {
        let words = self.words;
        if funnel.orders == 0 {
            return None;
        }
        let share = |n: i64, of: i64| (of > 0).then(|| n as f64 / of as f64);
        let steps: Vec<(&String, i64)> =
            words.funnel_steps.iter().zip(funnel.steps()).map(|(name, (_, n))| (name, n)).collect();
        let rows: Vec<_> = steps
            .iter()
            .map(|(name, n)| {
                let share = share(*n, funnel.orders).unwrap_or_default();
                let number = format!("{} · {}", words.count(*n), words.percent(share, 0));
                Row { name: (*name).clone(), share, number }
            })
            .collect();
        let before = std::iter::once(None).chain(steps.iter().map(|(_, n)| Some(*n)));
        let table = steps.iter().zip(before).map(|((name, n), before)| {
            vec![
                Cell::head((*name).clone()),
                self.count_cell(*n),
                self.cell(Unit::Share, before.and_then(|before| share(*n, before))),
                self.cell(Unit::Share, share(*n, funnel.orders)),
            ]
        });
        let (orders, answered) = (words.count(funnel.orders), words.count(funnel.answered));
        let text = words.say(&words.funnel_text, &[("orders", &orders), ("answered", &answered)]);
        let id = self.id("funnel");
        let told = Told { id: &id, title: &words.funnel_title, text: &text };
        let head = [&words.col_step, &words.col_n, &words.col_of_before, &words.col_of_all];
        Some(Drawn {
            shop: self.shop.name.clone(),
            title: words.funnel.clone(),
            svg: chart::rows(told, &rows),
            is_wide: false,
            notes: vec![words.funnel_how.clone()],
            remarks: Vec::new(),
            table: Table {
                shop: self.shop.name.clone(),
                caption: words.funnel_title.clone(),
                head: head.map(Clone::clone).to_vec(),
                rows: table.collect(),
            },
        })
    }
}
