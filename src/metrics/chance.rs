//! Chance for the simulations of the tests: the same numbers from the same seed, on every machine.
//!
//! `SplitMix64` of Steele, Lea and Flood (Fast splittable pseudorandom number generators, OOPSLA 2014): good enough for counting how
//! often something happens, and ten lines.

use std::fmt::Arguments;

use super::normal;

/// Shows what a simulation measured, so that the figures in the documentation can be read off `cargo test -- --show-output`.
#[expect(clippy::print_stdout, reason = "read by whoever runs the test with --show-output")]
pub(crate) fn measured(what: Arguments<'_>) {
    println!("measured: {what}");
}

/// A sequence of random numbers.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, neither of them.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Of the standard normal distribution.
    pub(crate) fn normal(&mut self) -> f64 {
        normal::quantile(self.unit())
    }
}

/// How many of a number of answers say yes: a table of the cumulative probabilities, so that a draw is one search.
pub(crate) struct Binomial(Vec<f64>);

impl Binomial {
    pub(crate) fn new(answers: u32, share: f64) -> Self {
        let n = f64::from(answers);
        let mut sum = 0.0;
        let table = (0..=answers).map(|hits| {
            let k = f64::from(hits);
            let log = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0)
                + k * share.ln()
                + (n - k) * (1.0 - share).ln();
            sum += log.exp();
            sum
        });
        Self(table.collect())
    }

    /// How likely each number of hits is, from 0 on.
    pub(crate) fn probabilities(&self) -> impl Iterator<Item = f64> {
        let before = std::iter::once(&0.0).chain(&self.0);
        self.0.iter().zip(before).map(|(to, from)| to - from)
    }

    pub(crate) fn draw(&self, chance: &mut Chance) -> i64 {
        let unit = chance.unit();
        self.0.partition_point(|cumulative| *cumulative < unit).min(self.0.len() - 1) as i64
    }
}

#[test]
fn the_generator_is_the_published_one() {
    // The first outputs for the seed 1234567, as in Rosetta Code's task "Pseudo-random numbers/Splitmix64".
    let mut chance = Chance::new(1_234_567);
    let expected = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ];
    assert_eq!(expected.map(|_| chance.bits()), expected);
}

#[test]
fn draws_have_the_mean_and_the_spread_they_should() {
    let mut chance = Chance::new(1);
    let draws = 50_000;
    let binomial = Binomial::new(40, 0.85);
    let (mut sum, mut squares) = (0.0, 0.0);
    for _ in 0..draws {
        let hits = binomial.draw(&mut chance) as f64;
        sum += hits;
        squares += hits * hits;
    }
    let mean = sum / f64::from(draws);
    let variance = squares / f64::from(draws) - mean * mean;
    assert!((mean - 34.0).abs() < 0.05, "{mean}");
    assert!((variance - 5.1).abs() < 0.15, "{variance}");
    let normals: Vec<f64> = (0..draws).map(|_| chance.normal()).collect();
    let mean = normals.iter().sum::<f64>() / f64::from(draws);
    let variance = normals.iter().map(|x| x * x).sum::<f64>() / f64::from(draws);
    assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
}
