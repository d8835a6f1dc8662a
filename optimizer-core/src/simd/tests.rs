//! Every instruction set against the portable one, bit by bit, and the functions against f64.

use super::*;

thread_local! {
    /// What [`dispatch`] takes on this thread instead of the best.
    pub(crate) static FORCED: std::cell::Cell<Option<InstructionSet>> = const { std::cell::Cell::new(None) };
}

/// Calls `work` with these instructions wherever it dispatches on this thread.
pub(crate) fn with_instructions<T>(set: InstructionSet, work: impl FnOnce() -> T) -> T {
    let before = FORCED.replace(Some(set));
    let result = work();
    FORCED.set(before);
    result
}

/// All operations on some values, written one after the other.
struct Everything<'a>(&'a [f32; WIDTH], &'a [f32; WIDTH]);

impl Kernel for Everything<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<u32> {
        let (a, b) = (s.load(self.0), s.load(self.1));
        let (mantissa, exponent) = s.mantissa_exponent(s.add(s.abs(a), s.splat(1e-30)));
        let n = s.at_most(s.at_least(s.splat(-7.0), s.splat(-126.0)), s.splat(127.0));
        let results = [
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.sqrt(a),
            s.fma(a, b, s.splat(0.1)),
            s.at_least(a, b),
            s.at_most(a, b),
            s.select_less(a, b, s.splat(1.0), s.splat(2.0)),
            s.abs(a),
            s.copy_sign(a, b),
            s.power_of_two(n),
            mantissa,
            exponent,
            exp(s, a),
            log(s, s.add(s.abs(a), s.splat(1e-30))),
            tanh(s, a),
            sigmoid(s, a),
            rsqrt(s, a),
            s.load_part(&self.0[..5]),
        ];
        // Which NaN is nobody's business.
        let bits_of = |x: f32| if x.is_nan() { u32::MAX } else { x.to_bits() };
        let mut bits = vec![bits_of(s.sum(a))];
        for x in results {
            let mut values = [0.0; WIDTH];
            s.store(x, &mut values);
            let mut part = [7.0; 3];
            s.store_part(x, &mut part);
            bits.extend(values.iter().chain(&part).map(|&x| bits_of(x)));
        }
        bits
    }
}

#[test]
fn all_instruction_sets_give_the_same_bits() {
    const SPECIAL: [f32; 8] = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 88.8, -103.5];
    let mut word = 1_u32;
    let mut value = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match word >> 29 {
            0 => SPECIAL[(word >> 20 & 7) as usize],
            1 => (word as f32 / u32::MAX as f32 - 0.5) * 200.0,
            _ => (word as f32 / u32::MAX as f32 - 0.5) * 4.0,
        }
    };
    for _ in 0..2000 {
        let (a, b) = (std::array::from_fn(|_| value()), std::array::from_fn(|_| value()));
        let portable = InstructionSet::Portable.run(Everything(&a, &b));
        for set in InstructionSet::available() {
            let differs = set.run(Everything(&a, &b)).iter().zip(&portable).position(|(set, portable)| set != portable);
            assert_eq!(differs, None, "result {differs:?} of {set:?} on {a:?}, {b:?}");
        }
    }
}

fn evenly(low: f32, high: f32) -> Vec<f32> {
    (0..400_000).map(|i| low + (high - low) * i as f32 / 4e5).collect()
}

fn worst(f: fn(&mut [f32]), x: Vec<f32>, error: impl Fn(f64, f64) -> f64) -> f64 {
    let mut y = x.clone();
    f(&mut y);
    x.iter().zip(&y).map(|(&x, &y)| error(x.into(), y.into())).fold(0.0, f64::max)
}

#[test]
fn functions_are_as_exact_as_they_say() {
    assert!(worst(exp_all, evenly(-87.0, 88.7), |x, y| (y / x.exp() - 1.0).abs()) < 1e-7);
    assert!(worst(log_all, evenly(1e-3, 40.0), |x, y| (y - x.ln()).abs() / x.ln().abs().max(1.0)) < 1e-7);
    assert!(worst(tanh_all, evenly(-12.0, 12.0), |x, y| (y - x.tanh()).abs()) < 1.2e-7);
    assert!(worst(sigmoid_all, evenly(-12.0, 12.0), |x, y| (y - 1.0 / (1.0 + (-x).exp())).abs()) < 1.2e-7);
    let exact = |x: f64| x.ln().abs().max(1.0);
    let around_one = evenly(0.9, 1.1).into_iter().chain([1e-8, 1e-30, 1e30, f32::MAX]).collect();
    assert!(worst(log_all, around_one, |x, y| (y - x.ln()).abs() / exact(x)) < 1e-7);
}

#[test]
fn functions_at_their_ends() {
    let of = |f: fn(&mut [f32]), x: f32| {
        let mut x = [x];
        f(&mut x);
        x[0]
    };
    let ends = [(89.0, f32::INFINITY), (f32::INFINITY, f32::INFINITY), (-105.0, 0.0), (f32::NEG_INFINITY, 0.0)];
    for (x, y) in ends.into_iter().chain([(0.0, 1.0), (-0.0, 1.0)]) {
        assert_eq!(of(exp_all, x), y, "exp({x})");
    }
    let subnormal = of(exp_all, -100.0);
    assert!((f64::from(subnormal) / (-100f64).exp() - 1.0).abs() < 0.02, "{subnormal:e}");
    assert_eq!([of(log_all, 1.0), of(log_all, f32::INFINITY)], [0.0, f32::INFINITY]);
    assert_eq!([of(tanh_all, f32::INFINITY), of(tanh_all, f32::NEG_INFINITY)], [1.0, -1.0]);
    assert_eq!(of(sigmoid_all, -1e9), 0.0);
    for f in [exp_all, log_all, tanh_all, sigmoid_all] {
        assert!(of(f, f32::NAN).is_nan());
    }
}
