//! Functions of many values.

use super::{Kernel, Simd, WIDTH, dispatch, functions};

/// A function of one vector.
trait Function {
    fn of<S: Simd>(s: S, x: S::Vector) -> S::Vector;
}

/// Replaces every value by its image.
struct Map<'a, F>(&'a mut [f32], F);

impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (vectors, rest) = self.0.as_chunks_mut::<WIDTH>();
        for values in vectors {
            s.store(F::of(s, s.load(values)), values);
        }
        s.store_part(F::of(s, s.load_part(rest)), rest);
    }
}

macro_rules! map {
    ($all:ident, $function:ident) => {
        #[doc = concat!("Replaces every value by its [`", stringify!($function), "`](functions::", stringify!($function), ").")]
        pub fn $all(values: &mut [f32]) {
            struct Of;
            impl Function for Of {
                #[inline(always)]
                fn of<S: Simd>(s: S, x: S::Vector) -> S::Vector {
                    functions::$function(s, x)
                }
            }
            dispatch(Map(values, Of));
        }
    };
}

map!(exp_all, exp);
map!(log_all, log);
map!(tanh_all, tanh);
map!(sigmoid_all, sigmoid);
