//! The standard normal distribution: how likely it is to lie below, above, and where a given share lies below.
//!
//! The probabilities come from the complementary error function of `libm` (after FreeBSD's, exact to the last bit or so, and in the
//! far tails, too). The quantile starts from Acklam's rational approximation (An algorithm for computing the inverse
//! normal cumulative distribution function, 2003; relative error below 1.15e-9) and is made exact by one step of Halley's method.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The 97.5 % point: 95 % lie within ± this many standard errors.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// The probability to lie at or below `z`.
pub fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// The probability to lie above `z`; precise where it is tiny, as 1 − [`cdf`] is not.
pub fn survival(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// The probability to lie at least as far from 0 as `z`, on either side: the p-value of a two-sided test.
pub fn two_sided(z: f64) -> f64 {
    libm::erfc(z.abs() * FRAC_1_SQRT_2)
}

/// Where the share `p` lies below; −∞ for 0, ∞ for 1, not a number outside of these.
pub fn quantile(p: f64) -> f64 {
    if p.is_nan() || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    // The upper half mirrors the lower one, where small probabilities keep their precision. 1 − p is exact there.
    if p > 0.5 {
        return -lower_quantile(1.0 - p);
    }
    lower_quantile(p)
}

/// The quantile of a p from 0 to ½.
fn lower_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    // Below this, Acklam's approximation is another one.
    const TAIL: f64 = 0.02425;

    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    let start = if p < TAIL {
        let q = (-2.0 * p.ln()).sqrt();
        horner(&C, q) / horner(&D, q)
    } else {
        let q = p - 0.5;
        horner(&A, q * q) * q / horner(&B, q * q)
    };
    let density = (-0.5 * start * start).exp() / (2.0 * PI).sqrt();
    // Below 1e-307 or so the density loses its digits; the approximation is good to nine of them there.
    if density < 1e-300 {
        return start;
    }
    let step = (cdf(start) - p) / density;
    start - step / (1.0 + 0.5 * start * step)
}

/// The polynomial with these coefficients, the highest power first.
fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(value: f64, expected: f64) {
        assert!((value / expected - 1.0).abs() < 1e-12, "{value:e}, expected {expected:e}");
    }

    #[test]
    fn probabilities_to_twelve_digits() {
        // From mpmath 1.4.1 with 30 digits: ncdf(z).
        close(cdf(0.0), 0.5);
        close(cdf(1.0), 8.413_447_460_685_429e-1);
        close(cdf(-1.0), 1.586_552_539_314_570_5e-1);
        close(cdf(-3.0), 1.349_898_031_630_094_5e-3);
        close(cdf(-8.0), 6.220_960_574_271_784e-16);
        close(survival(8.0), 6.220_960_574_271_784e-16);
        close(survival(20.0), 2.753_624_118_606_233_7e-89);
        close(two_sided(-3.0), 2.699_796_063_260_189e-3);
        close(two_sided(3.0), 2.699_796_063_260_189e-3);
    }

    #[test]
    fn quantiles_to_twelve_digits() {
        assert_eq!(quantile(0.5), 0.0);
        close(quantile(0.975), Z_95);
        // From mpmath 1.4.1 with 30 digits and more: sqrt(2) * erfinv(2p - 1).
        close(quantile(0.95), 1.644_853_626_951_472_7);
        close(quantile(0.995), 2.575_829_303_548_901);
        close(quantile(0.3), -5.244_005_127_080_408e-1);
        close(quantile(0.025), -1.959_963_984_540_054_2);
        close(quantile(0.001), -3.090_232_306_167_813_5);
        close(quantile(1e-10), -6.361_340_902_404_056);
        close(quantile(1e-100), -2.127_345_356_096_532e1);
    }

    #[test]
    fn quantile_turns_the_distribution_around() {
        for i in 1..2_000 {
            let p = f64::from(i) / 2_000.0;
            close(cdf(quantile(p)), p);
        }
        assert_eq!(quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(quantile(1.0), f64::INFINITY);
        assert!(quantile(-0.1).is_nan() && quantile(1.1).is_nan() && quantile(f64::NAN).is_nan());
    }
}
