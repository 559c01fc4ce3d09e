//! Who ordered again, by the month of the first order.

use chrono::NaiveDate;

use super::{About, Cell, Drawn, Table};
use crate::metrics::figure::Unit;
use crate::metrics::loyalty::Cohort;
use crate::metrics::period::Period;
use crate::metrics::report::chart::{self, HeatRow, Told};
use crate::metrics::series::FEW;

/// So many months after the first order's are drawn at most; all are in the table.
const DRAWN_MONTHS: usize = 13;
/// So many cohorts, the latest, are drawn at most.
const DRAWN_COHORTS: usize = 24;

impl About<'_> {
    pub(super) fn cohorts(&self, cohorts: &[Cohort]) -> Option<Drawn> {
        let words = self.words;
        let share = |cohort: &Cohort, month: usize| -> Option<f64> {
            let again = (*cohort.ordered_again.get(month)?)?;
            (cohort.customers > 0).then(|| again as f64 / cohort.customers as f64)
        };
        // A month without new customers is no row; a last column in which nothing is known, none.
        let n_months = cohorts
            .iter()
            .filter_map(|cohort| cohort.ordered_again.iter().rposition(Option::is_some))
            .max()
            .map_or(0, |last| last + 1);
        let cohorts: Vec<_> = cohorts.iter().filter(|cohort| cohort.customers > 0).collect();
        if cohorts.is_empty() || n_months == 0 {
            return None;
        }
        let name = |cohort: &Cohort| {
            let first: Option<NaiveDate> = format!("{}-01", cohort.month).parse().ok();
            first.map_or_else(|| cohort.month.clone(), |first| words.period_short(Period::Month, first))
        };
        let column = |month: usize| match month {
            0 => words.cohort_same_month.clone(),
            month => words.say(&words.cohort_month, &[("n", &month.to_string())]),
        };
        let drawn_months = n_months.min(DRAWN_MONTHS);
        let latest = &cohorts[cohorts.len().saturating_sub(DRAWN_COHORTS)..];
        let rows: Vec<_> = latest
            .iter()
            .map(|cohort| HeatRow {
                name: name(cohort),
                size: words.count(cohort.customers),
                is_few: cohort.customers < FEW,
                cells: (0..drawn_months).map(|month| share(cohort, month)).collect(),
            })
            .collect();
        let columns: Vec<_> = (0..drawn_months).map(column).collect();
        let last_known = cohorts.iter().rev().find_map(|cohort| {
            let month = cohort.ordered_again.iter().rposition(Option::is_some)?;
            Some((*cohort, month, share(cohort, month)?))
        });
        let first_known = cohorts.first().and_then(|cohort| {
            let month = cohort.ordered_again.iter().rposition(Option::is_some)?;
            Some((*cohort, month, share(cohort, month)?))
        });
        let text = first_known.or(last_known).map_or_else(String::new, |(cohort, month, share)| {
            let values = [
                ("n", words.count(cohort.customers)),
                ("month", name(cohort)),
                ("share", words.percent(share, 0)),
                ("months", month.to_string()),
            ];
            words.say(&words.cohorts_text, &values.each_ref().map(|(name, value)| (*name, value.as_str())))
        });
        let mut notes = vec![words.cohorts_how.clone()];
        if cohorts.len() > latest.len() || n_months > drawn_months {
            let (rows, months) = (latest.len().to_string(), (drawn_months - 1).to_string());
            notes.push(words.say(&words.cohorts_cut, &[("rows", &rows), ("months", &months)]));
        }
        let id = self.id("cohorts");
        let told = Told { id: &id, title: &words.cohorts_title, text: &text };
        let head = [words.col_first_order.clone(), words.col_customers.clone()];
        let table_rows = cohorts.iter().map(|cohort| {
            let shares = (0..n_months).map(|month| match share(cohort, month) {
                Some(share) => self.cell(Unit::Share, Some(share)),
                None => Cell::text(""),
            });
            [Cell::head(name(cohort)), self.count_cell(cohort.customers)].into_iter().chain(shares).collect()
        });
        Some(Drawn {
            shop: self.shop.name.clone(),
            title: words.cohorts.clone(),
            svg: chart::heat(told, &columns, &rows, &|share| words.percent(share, 0)),
            is_wide: true,
            notes,
            remarks: Vec::new(),
            table: Table {
                shop: self.shop.name.clone(),
                caption: words.cohorts_title.clone(),
                head: head.into_iter().chain((0..n_months).map(column)).collect(),
                rows: table_rows.collect(),
            },
        })
    }
}
