//! Weighting: answers made to look like all orders, so that a figure does not depend on who likes to answer.
//!
//! Of every order some facts are known whether or not its customer answered: new or returning, country, size of the basket, month.
//! Raking (iterative proportional fitting; Deming and Stephan, Annals of Mathematical Statistics 11, 427–444, 1940) gives each answer a
//! weight such that the weighted answers have the same shares as the orders in each of these facts: one fact after the other, each
//! weight is multiplied by (share of the orders) / (weighted share of the answers) of its category, round after round.
//!
//! - Categories that have orders and no answers cannot be weighted up. They are left out, and the other categories of that fact stand
//!   for them in proportion; which ones is in [`Raked::collapsed`].
//! - A few heavy answers would rule the figure. Weights are capped at a multiple of the mean weight after each round, what is cut off
//!   goes to the others, and raking goes on (as in Izrael, Battaglia and Frankel, Extreme survey weight adjustment as a component of
//!   sample balancing, 2009). Where the cap leaves shares that cannot be met, [`Raked::miss`] says by how much.
//! - Weights cost precision. [`Raked::effective`] is how many answers of equal weight would be as precise (Kish, Survey Sampling, 1965):
//!   (Σw)²/Σw². Intervals take an effective number instead of the number of answers: that of [`weighted_share`].
//!
//! Weighting removes the part of the error that the facts explain. That those who are silent think like those who answer *within* a
//! category remains an assumption.
//!
//! Measured by the tests of this module, for a shop whose happier customers answer up to six times as often (some 430 answers to 4,000
//! orders): the 95 % interval contains the truth in 290 of 300 runs with the effective number of [`weighted_share`], in 275 with
//! Kish's, in 7 without weights; as a net promoter score, with that of [`weighted_net`], in 287.

use thiserror::Error;

/// A fact and how many orders each of its categories has, answered or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Margin {
    /// The name of the fact, for what is reported.
    pub fact: String,
    /// The orders of each category.
    pub orders: Vec<u64>,
}

/// The answers that share a category in every fact. All of them get the same weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The category of each fact, as an index into [`Margin::orders`], in the order of the margins.
    pub categories: Vec<usize>,
    /// How many answers.
    pub answers: u64,
}

/// How to rake.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// No weight is above this many times the mean weight. At least 1; infinity caps nothing.
    pub cap: f64,
    /// Done when no weighted share is farther than this from the share of the orders.
    pub tolerance: f64,
    /// Give up after so many rounds over all facts.
    pub rounds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cap: 5.0, tolerance: 1e-6, rounds: 1_000 }
    }
}

/// The weights, and what they cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Raked {
    /// The weight of one answer of each cell, in the order of the cells. The mean over all answers is 1.
    pub weights: Vec<f64>,
    /// The categories that have orders and no answers.
    pub collapsed: Vec<Collapsed>,
    /// How many rounds it took.
    pub rounds: u32,
    /// How many answers have the greatest weight allowed.
    pub capped: u64,
    /// The greatest difference left between a weighted share and the share of the orders, from 0 to 1. Above the tolerance only where
    /// weights were capped.
    pub miss: f64,
    /// How many answers of equal weight would be as precise (Kish); see [`weighted_share`] for a share's own.
    pub effective: f64,
}

/// A category without answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collapsed {
    /// The fact.
    pub fact: String,
    /// The category, as an index into [`Margin::orders`].
    pub category: usize,
    /// Its orders, which the other categories of the fact stand for now.
    pub orders: u64,
}

/// Why there are no weights.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RakingError {
    /// There is nothing to weight.
    #[error("no answers to weight")]
    NoAnswers,
    /// A cell names a category that is not there, or not one for each fact.
    #[error("cell {cell} does not fit the facts")]
    UnknownCategory {
        /// Its index.
        cell: usize,
    },
    /// Answers belong to a category of which there are no orders: the two were not counted over the same orders.
    #[error("{fact}: category {category} has answers and no orders")]
    AnswersWithoutOrders {
        /// The fact.
        fact: String,
        /// The category.
        category: usize,
    },
    /// The facts were not counted over the same orders.
    #[error("{fact} counts {orders} orders, the first fact {first}")]
    Totals {
        /// The fact.
        fact: String,
        /// Its orders.
        orders: u64,
        /// The orders of the first fact.
        first: u64,
    },
    /// The facts contradict each other in the categories that answered, or so nearly that no number of rounds is enough.
    #[error("the weights do not settle: after {rounds} rounds a share is off by {miss:.6}")]
    NotConverged {
        /// How many rounds were done.
        rounds: u32,
        /// The greatest difference between a weighted share and the share of the orders.
        miss: f64,
    },
}

/// Weights for the answers such that each fact is distributed as in the orders.
pub fn rake(margins: &[Margin], cells: &[Cell], settings: Settings) -> Result<Raked, RakingError> {
    let answers: u64 = cells.iter().map(|cell| cell.answers).sum();
    if answers == 0 {
        return Err(RakingError::NoAnswers);
    }
    let (targets, collapsed) = targets(margins, cells)?;
    let total = answers as f64;
    let mut weights = vec![1.0; cells.len()];
    let mut shares: Vec<Vec<f64>> = targets.iter().map(|target| vec![0.0; target.len()]).collect();
    for rounds in 0..=settings.rounds {
        // The shares of all facts under these weights: first to see whether that is good enough.
        let mut miss = 0.0_f64;
        for (fact, target) in targets.iter().enumerate() {
            weighted_shares(fact, cells, &weights, total, &mut shares[fact]);
            miss = shares[fact].iter().zip(target).map(|(s, t)| (s - t).abs()).fold(miss, f64::max);
        }
        let capped = capped(cells, &weights, settings.cap);
        if miss <= settings.tolerance {
            return Ok(raked(weights, cells, collapsed, rounds, capped, miss));
        }
        let before = weights.clone();
        for (fact, target) in targets.iter().enumerate() {
            weighted_shares(fact, cells, &weights, total, &mut shares[fact]);
            for (weight, cell) in weights.iter_mut().zip(cells) {
                let category = cell.categories[fact];
                // A cell whose weight has gone to nothing stays there.
                if shares[fact][category] > 0.0 {
                    *weight *= target[category] / shares[fact][category];
                }
            }
        }
        cap(cells, &mut weights, settings.cap);
        let step = weights.iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        // Capped weights settle without meeting every share; those without a cap that settle away from it contradict each other.
        let settled = step <= settings.tolerance * SETTLED;
        if settled && capped > 0 {
            return Ok(raked(weights, cells, collapsed, rounds, capped, miss));
        }
        if settled || rounds == settings.rounds {
            return Err(RakingError::NotConverged { rounds, miss });
        }
    }
    Err(RakingError::NotConverged { rounds: settings.rounds, miss: f64::NAN })
}

/// Weights, whose mean is 1, that move less than this part of the tolerance in a round have settled.
const SETTLED: f64 = 1e-3;

/// A share of weighted answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighted {
    /// From 0 to 1.
    pub share: f64,
    /// How many answers of equal weight would give this share as precisely.
    pub effective: f64,
}

/// The share of yes among the weighted answers, `hits` being the number of yes of each cell; `None` when no weight is left.
///
/// Kish's effective number takes what people answer for independent of how much they weigh. Where those with heavy weights disagree
/// among themselves more than the others, it promises too much: so this is p(1 − p)/V with the linearised variance
/// V = Σw²(y − p)²/(Σw)² (Korn and Graubard, Survey Methodology 24, 193–201, 1998), and Kish's where that is smaller.
pub fn weighted_share(raked: &Raked, cells: &[Cell], hits: &[u64]) -> Option<Weighted> {
    let of = || {
        raked
            .weights
            .iter()
            .zip(cells)
            .zip(hits)
            .map(|((w, cell), hits)| (w, cell.answers as f64, *hits as f64))
    };
    let total: f64 = of().map(|(weight, answers, _)| weight * answers).sum();
    if total <= 0.0 {
        return None;
    }
    let share = of().map(|(weight, _, hits)| weight * hits).sum::<f64>() / total;
    let square = |(weight, answers, hits): (&f64, f64, f64)| {
        weight * weight * (hits * (1.0 - share).powi(2) + (answers - hits) * share.powi(2))
    };
    let variance = of().map(square).sum::<f64>() / (total * total);
    // Everybody says the same: no variance to compare with.
    let effective =
        if variance > 0.0 { raked.effective.min(share * (1.0 - share) / variance) } else { raked.effective };
    Some(Weighted { share, effective })
}

/// A net promoter score of weighted answers: its parts, as shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightedNet {
    /// The share of 9 and 10, from 0 to 1.
    pub promoters: f64,
    /// The share of 0 to 6, from 0 to 1.
    pub detractors: f64,
    /// How many answers of equal weight would give the score as precisely.
    pub effective: f64,
}

/// The net promoter score of the weighted answers, given the promoters and the detractors of each cell; `None` when no weight is left.
///
/// The effective number is made as that of [`weighted_share`], an answer being 1, 0 or −1: (p + d − (p − d)²)/V, and Kish's where that is
/// smaller.
pub fn weighted_net(
    raked: &Raked,
    cells: &[Cell],
    promoters: &[u64],
    detractors: &[u64],
) -> Option<WeightedNet> {
    let of = || {
        let parts = promoters.iter().zip(detractors).map(|(p, d)| (*p as f64, *d as f64));
        raked.weights.iter().zip(cells).zip(parts).map(|((w, cell), (p, d))| (*w, cell.answers as f64, p, d))
    };
    let total: f64 = of().map(|(weight, answers, ..)| weight * answers).sum();
    if total <= 0.0 {
        return None;
    }
    let promoters = of().map(|(weight, _, p, _)| weight * p).sum::<f64>() / total;
    let detractors = of().map(|(weight, _, _, d)| weight * d).sum::<f64>() / total;
    let score = promoters - detractors;
    let squares = of().map(|(weight, answers, p, d)| {
        let passives = answers - p - d;
        weight * weight * (p * (1.0 - score).powi(2) + passives * score.powi(2) + d * (1.0 + score).powi(2))
    });
    let variance = squares.sum::<f64>() / (total * total);
    let simple = promoters + detractors - score * score;
    let effective = if variance > 0.0 { raked.effective.min(simple / variance) } else { raked.effective };
    Some(WeightedNet { promoters, detractors, effective })
}

/// How many answers of equal weight would be as precise: (Σw)²/Σw², over pairs of a weight and how many answers have it. `None` when
/// no weight is above 0.
pub fn kish(weights: impl IntoIterator<Item = (f64, u64)>) -> Option<f64> {
    let (sum, squares) = weights.into_iter().fold((0.0, 0.0), |(sum, squares), (weight, answers)| {
        (sum + weight * answers as f64, squares + weight * weight * answers as f64)
    });
    (squares > 0.0).then(|| sum * sum / squares)
}

/// How many times the variance of a figure is greater for its weights: answers / effective answers, 1 when all weigh the same.
pub fn design_effect(answers: u64, effective: f64) -> f64 {
    answers as f64 / effective
}

/// The shares that each fact should have over the categories that answered, and the categories that did not.
fn targets(margins: &[Margin], cells: &[Cell]) -> Result<(Vec<Vec<f64>>, Vec<Collapsed>), RakingError> {
    let mut answers: Vec<Vec<u64>> = margins.iter().map(|margin| vec![0; margin.orders.len()]).collect();
    for (index, cell) in cells.iter().enumerate() {
        if cell.categories.len() != margins.len() {
            return Err(RakingError::UnknownCategory { cell: index });
        }
        for (fact, category) in cell.categories.iter().enumerate() {
            let counted = answers[fact].get_mut(*category);
            *counted.ok_or(RakingError::UnknownCategory { cell: index })? += cell.answers;
        }
    }
    let first: u64 = margins.first().map_or(0, |margin| margin.orders.iter().sum());
    let mut collapsed = Vec::new();
    let mut targets = Vec::with_capacity(margins.len());
    for (margin, answers) in margins.iter().zip(&answers) {
        let orders: u64 = margin.orders.iter().sum();
        if orders != first {
            return Err(RakingError::Totals { fact: margin.fact.clone(), orders, first });
        }
        let mut answered = 0;
        for (category, (orders, answers)) in margin.orders.iter().copied().zip(answers).enumerate() {
            match (orders, *answers) {
                (0, 0) => {}
                (0, _) => {
                    let fact = margin.fact.clone();
                    return Err(RakingError::AnswersWithoutOrders { fact, category });
                }
                (_, 0) => collapsed.push(Collapsed { fact: margin.fact.clone(), category, orders }),
                _ => answered += orders,
            }
        }
        let share = |(orders, answers): (&u64, &u64)| {
            if *answers == 0 { 0.0 } else { *orders as f64 / answered as f64 }
        };
        targets.push(margin.orders.iter().zip(answers).map(share).collect());
    }
    Ok((targets, collapsed))
}

/// The share of the weighted answers in each category of a fact.
fn weighted_shares(fact: usize, cells: &[Cell], weights: &[f64], total: f64, shares: &mut [f64]) {
    shares.fill(0.0);
    for (weight, cell) in weights.iter().zip(cells) {
        shares[cell.categories[fact]] += weight * cell.answers as f64 / total;
    }
}

/// Cuts weights to `cap` times the mean, and gives what was cut off to the others in proportion to their weight, so that the mean
/// stays 1.
fn cap(cells: &[Cell], weights: &mut [f64], cap: f64) {
    let cap = cap.max(1.0);
    // Each pass brings at least one more cell to the cap, or is the last one.
    for _ in 0..=cells.len() {
        let (mut at_cap, mut below) = (0.0, 0.0);
        let mut over = false;
        for (weight, cell) in weights.iter_mut().zip(cells) {
            let answers = cell.answers as f64;
            over |= *weight > cap;
            *weight = weight.min(cap);
            if *weight < cap {
                below += *weight * answers;
            } else {
                at_cap += answers;
            }
        }
        if !over || below <= 0.0 {
            return;
        }
        let total: f64 = cells.iter().map(|cell| cell.answers as f64).sum();
        let factor = (total - cap * at_cap) / below;
        for weight in weights.iter_mut().filter(|weight| **weight < cap) {
            *weight *= factor;
        }
    }
}

/// How many answers have the greatest weight allowed.
fn capped(cells: &[Cell], weights: &[f64], cap: f64) -> u64 {
    weights.iter().zip(cells).filter(|(weight, _)| **weight >= cap).map(|(_, cell)| cell.answers).sum()
}

fn raked(
    weights: Vec<f64>,
    cells: &[Cell],
    collapsed: Vec<Collapsed>,
    rounds: u32,
    capped: u64,
    miss: f64,
) -> Raked {
    // There are answers, and their mean weight is 1.
    let effective = kish(weights.iter().copied().zip(cells.iter().map(|cell| cell.answers))).unwrap_or(0.0);
    Raked { weights, collapsed, rounds, capped, miss, effective }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::chance::{Chance, measured};
    use crate::metrics::interval;

    fn margin(fact: &str, orders: &[u64]) -> Margin {
        Margin { fact: fact.to_owned(), orders: orders.to_vec() }
    }

    /// A table of answers by two facts.
    fn table<const N: usize>(rows: &[[u64; N]]) -> Vec<Cell> {
        let cells = rows.iter().enumerate().flat_map(|(row, answers)| {
            answers.iter().enumerate().map(move |(column, answers)| (vec![row, column], *answers))
        });
        cells.map(|(categories, answers)| Cell { categories, answers }).collect()
    }

    /// The weighted shares of all facts, again and simply.
    fn shares(margins: &[Margin], cells: &[Cell], raked: &Raked) -> Vec<Vec<f64>> {
        let total: f64 = cells.iter().zip(&raked.weights).map(|(c, w)| w * c.answers as f64).sum();
        let share = |fact: usize, category| {
            let of = cells.iter().zip(&raked.weights).filter(|(cell, _)| cell.categories[fact] == category);
            of.map(|(cell, weight)| weight * cell.answers as f64).sum::<f64>() / total
        };
        (0..margins.len()).map(|f| (0..margins[f].orders.len()).map(|c| share(f, c)).collect()).collect()
    }

    const TIGHT: Settings = Settings { cap: f64::INFINITY, tolerance: 1e-12, rounds: 1_000 };

    #[test]
    fn the_published_table_is_fitted() {
        // Hunsinger, Iterative proportional fitting for a two-dimensional table, 2008 (the example of Wikipedia's article, too).
        let cells = table(&[[40, 30, 20, 10], [35, 50, 100, 75], [30, 80, 70, 120], [20, 30, 40, 50]]);
        let margins = [margin("rows", &[150, 300, 400, 150]), margin("columns", &[200, 300, 400, 100])];
        let answers: u64 = cells.iter().map(|cell| cell.answers).sum();
        let check = |raked: &Raked, expected: [f64; 16], tolerance: f64| {
            for ((cell, weight), expected) in cells.iter().zip(&raked.weights).zip(expected) {
                // The table is published in orders, of which there are 1,000.
                let fitted = weight * cell.answers as f64 / answers as f64 * 1_000.0;
                assert!((fitted - expected).abs() <= tolerance, "{fitted}, expected {expected}");
            }
        };
        // As published, after three rounds.
        let raked = rake(&margins, &cells, Settings { tolerance: 2e-4, ..TIGHT }).unwrap();
        assert_eq!(raked.rounds, 3);
        let published = [
            64.61, 46.28, 35.42, 3.83, 49.95, 68.15, 156.49, 25.37, 56.70, 144.40, 145.06, 53.76, 28.74,
            41.18, 63.03, 17.03,
        ];
        check(&raked, published, 0.006);
        // To the end, as the Python package ipfn 1.4.4 does it.
        let raked = rake(&margins, &cells, TIGHT).unwrap();
        let to_the_end = [
            64.5585, 46.2325, 35.3843, 3.8247, 49.9679, 68.1594, 156.4985, 25.3742, 56.7219, 144.4282,
            145.0825, 53.7673, 28.7516, 41.18, 63.0347, 17.0337,
        ];
        check(&raked, to_the_end, 0.000_051);
        assert_eq!((raked.capped, raked.collapsed.len()), (0, 0));
    }

    #[test]
    fn one_fact_is_done_in_one_round() {
        // Of 1,000 orders 700 are by new customers, who answer less: 20 of 100 answers.
        let cells = [Cell { categories: vec![0], answers: 20 }, Cell { categories: vec![1], answers: 80 }];
        let raked = rake(&[margin("returning", &[700, 300])], &cells, TIGHT).unwrap();
        assert_eq!(raked.rounds, 1);
        assert!((raked.weights[0] - 3.5).abs() < 1e-12 && (raked.weights[1] - 0.375).abs() < 1e-12);
        // 100² / (20 · 3.5² + 80 · 0.375²) = 10,000 / 256.25.
        assert!((raked.effective - 39.024_390_243_902_44).abs() < 1e-9);
        assert!((design_effect(100, raked.effective) - 2.562_5).abs() < 1e-9);
        // Half of the new customers say yes, nine in ten of the others.
        let weighted = weighted_share(&raked, &cells, &[10, 72]).unwrap();
        assert!((weighted.share - (0.7 * 0.5 + 0.3 * 0.9)).abs() < 1e-12, "{weighted:?}");
        // By hand: V = (3.5²·(10·0.38² + 10·0.62²) + 0.375²·(72·0.38² + 8·0.62²)) / 100² = 0.00666725.
        assert!((weighted.effective - 0.2356 / 0.006_667_25).abs() < 1e-3, "{weighted:?}");
        let all = weighted_share(&raked, &cells, &[20, 80]).unwrap();
        assert_eq!((all.share, all.effective), (1.0, raked.effective));
    }

    #[test]
    fn heavy_weights_are_capped_and_the_rest_is_raked_again() {
        let cells = table(&[[2, 98], [150, 250]]);
        let margins = [margin("returning", &[500, 500]), margin("country", &[500, 500])];
        let free = rake(&margins, &cells, TIGHT).unwrap();
        assert!(free.weights[0] > 5.0, "{:?}", free.weights);
        let raked = rake(&margins, &cells, Settings::default()).unwrap();
        assert_eq!(raked.capped, 2);
        assert!(raked.weights.iter().all(|weight| *weight <= 5.0), "{:?}", raked.weights);
        let mean = raked.weights.iter().zip(&cells).map(|(w, c)| w * c.answers as f64).sum::<f64>() / 500.0;
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
        assert!(raked.effective > free.effective);
        // The other cells can make up for it here.
        let missing = |margins: &[Margin], cells: &[Cell], raked: &Raked| {
            shares(margins, cells, raked).concat().iter().map(|s| (s - 0.5).abs()).fold(0.0, f64::max)
        };
        assert!(raked.miss <= 1e-6 && missing(&margins, &cells, &raked) <= 2e-6, "{}", raked.miss);
        // Nothing can here: two answers would have to speak for half of the orders.
        let cells = [Cell { categories: vec![0], answers: 2 }, Cell { categories: vec![1], answers: 498 }];
        let raked = rake(&margins[..1], &cells, Settings::default()).unwrap();
        assert_eq!((raked.weights[0], raked.capped), (5.0, 2));
        assert!((raked.miss - 0.48).abs() < 1e-9, "{}", raked.miss);
        assert!((missing(&margins[..1], &cells, &raked) - raked.miss).abs() < 1e-9);
    }

    #[test]
    fn categories_without_answers_are_collapsed_and_reported() {
        let cells = table(&[[30, 20, 0], [10, 40, 0]]);
        let margins = [margin("returning", &[600, 400]), margin("country", &[450, 450, 100])];
        let raked = rake(&margins, &cells, TIGHT).unwrap();
        assert_eq!(raked.collapsed, [Collapsed { fact: "country".to_owned(), category: 2, orders: 100 }]);
        let found = shares(&margins, &cells, &raked);
        assert!((found[1][0] - 0.5).abs() < 1e-9 && (found[1][1] - 0.5).abs() < 1e-9);
        assert!((found[0][0] - 0.6).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_weighted_is_an_error() {
        let cells = table(&[[10, 0], [0, 10]]);
        let facts = |a: &[u64], b: &[u64]| [margin("a", a), margin("b", b)];
        // Who is in the first category of one fact is in the first of the other, in the answers; but not in the orders.
        assert!(matches!(
            rake(&facts(&[70, 30], &[30, 70]), &cells, Settings::default()),
            Err(RakingError::NotConverged { miss, .. }) if miss > 0.1
        ));
        assert_eq!(
            rake(&facts(&[70, 30], &[30, 60]), &cells, TIGHT),
            Err(RakingError::Totals { fact: "b".to_owned(), orders: 90, first: 100 })
        );
        assert_eq!(
            rake(&facts(&[70, 30], &[100, 0]), &cells, TIGHT),
            Err(RakingError::AnswersWithoutOrders { fact: "b".to_owned(), category: 1 })
        );
        assert_eq!(
            rake(&facts(&[100], &[30, 70]), &cells, TIGHT),
            Err(RakingError::UnknownCategory { cell: 2 })
        );
        assert_eq!(
            rake(&[margin("a", &[1, 1])], &cells, TIGHT),
            Err(RakingError::UnknownCategory { cell: 0 })
        );
        assert_eq!(rake(&facts(&[1], &[1]), &[], TIGHT), Err(RakingError::NoAnswers));
        assert_eq!(kish([(0.0, 10)]), None);
    }

    #[test]
    fn weights_remove_the_bias_that_the_facts_explain() {
        // Returning customers are happier (95 % against 75 %) and answer three times as often; so do those of one country (5 points
        // happier, twice as often). 60 % of the orders are by new customers, half come from either country: the truth is 85.5 %.
        let mut chance = Chance::new(5);
        let (truth, orders) = (0.6 * 0.775 + 0.4 * 0.975, 4_000);
        let runs = 300;
        let (mut covered, mut covered_kish, mut covered_without, mut covered_net) = (0, 0, 0, 0);
        for _ in 0..runs {
            let mut margins = [margin("returning", &[0, 0]), margin("country", &[0, 0])];
            let mut cells = table(&[[0, 0], [0, 0]]);
            let mut hits = [0_u64; 4];
            for _ in 0..orders {
                let (returning, country) =
                    (usize::from(chance.unit() < 0.4), usize::from(chance.unit() < 0.5));
                margins[0].orders[returning] += 1;
                margins[1].orders[country] += 1;
                let rate = 0.04 * (1.0 + 2.0 * returning as f64) * (1.0 + country as f64);
                if chance.unit() < rate {
                    let cell = 2 * returning + country;
                    cells[cell].answers += 1;
                    let happy = 0.75 + 0.2 * returning as f64 + 0.05 * country as f64;
                    hits[cell] += u64::from(chance.unit() < happy);
                }
            }
            let raked = rake(&margins, &cells, Settings::default()).unwrap();
            let Weighted { share, effective } = weighted_share(&raked, &cells, &hits).unwrap();
            let within = interval::wilson_effective(share, effective).unwrap();
            covered += i32::from(within.low <= truth && truth <= within.high);
            // The happy as promoters and the others as detractors: their score is twice the share less one.
            let unhappy: Vec<_> = cells.iter().zip(hits).map(|(cell, hits)| cell.answers - hits).collect();
            let net = weighted_net(&raked, &cells, &hits, &unhappy).unwrap();
            assert!((net.effective - effective).abs() < 1e-6 && (net.promoters - share).abs() < 1e-9);
            let score =
                interval::adjusted_wald_effective(net.promoters, net.detractors, net.effective).unwrap();
            let true_score = 100.0 * (2.0 * truth - 1.0);
            covered_net += i32::from(score.low <= true_score && true_score <= score.high);
            let kish = interval::wilson_effective(share, raked.effective).unwrap();
            covered_kish += i32::from(kish.low <= truth && truth <= kish.high);
            let (yes, all) = (hits.iter().sum::<u64>(), cells.iter().map(|cell| cell.answers).sum::<u64>());
            let plain = interval::wilson(yes as i64, all as i64).unwrap();
            covered_without += i32::from(plain.low <= truth && truth <= plain.high);
        }
        measured(format_args!(
            "covered {covered} of {runs}, by Kish {covered_kish}, without weights {covered_without}, as a score {covered_net}"
        ));
        assert!(covered >= 280, "{covered} of {runs}");
        assert!(covered_net >= 280, "{covered_net} of {runs}");
        assert!(covered_without <= 60, "{covered_without} of {runs}");
    }
}
