//! The GRU's cell. Gates `z, r, a` of a row lie one after another; `a` sees the state only through `r ∘ h`, so the
//! recurrent product is two: `h · [Uz Ur]`, then `(r ∘ h) · Ua`.

use super::{Backward, Forward, Into, Matrix, Real, Sizes, block, block_mut, multiply};

/// `U` as two matrices of their own, `[hidden, 2 hidden]` and `[hidden, hidden]`.
fn apart<T: Real>(recurrent: &[T], hidden: usize) -> (Vec<T>, Vec<T>) {
    let rows = || recurrent.chunks_exact((3 * hidden).max(1));
    (
        rows().flat_map(|row| &row[..2 * hidden]).copied().collect(),
        rows().flat_map(|row| &row[2 * hidden..]).copied().collect(),
    )
}

pub(super) fn forward<T: Real>(sizes: Sizes, lane: Forward<'_, T>) {
    let Forward { recurrent, gates, states, .. } = lane;
    let (hidden, batch, size) = (sizes.hidden, sizes.batch, sizes.state());
    let (u_gates, u_candidate) = apart(recurrent, hidden);
    let u_gates = Matrix::new(&u_gates, hidden, 2 * hidden);
    let u_candidate = Matrix::new(&u_candidate, hidden, hidden);
    let zero_state = vec![T::zero(); size];
    let (mut from_state, mut reset, mut from_reset) =
        (vec![T::zero(); 2 * size], vec![T::zero(); size], vec![T::zero(); size]);
    for time in 0..sizes.time {
        let gates = block_mut(gates, time, 3 * size);
        let (earlier, now) = states.split_at_mut(time * size);
        let before = if time > 0 { block(earlier, time - 1, size) } else { &zero_state };
        if time > 0 {
            multiply(&mut from_state, Matrix::new(before, batch, hidden), u_gates, Into::Overwrite);
        }
        for row in 0..batch {
            let zr = &mut block_mut(gates, row, 3 * hidden)[..2 * hidden];
            zr.iter_mut().zip(block(&from_state, row, 2 * hidden)).for_each(|(gate, &more)| *gate += more);
            T::sigmoid_all(zr);
            let states = block(before, row, hidden).iter().zip(&zr[hidden..]);
            block_mut(&mut reset, row, hidden).iter_mut().zip(states).for_each(|(out, (&h, &r))| *out = r * h);
        }
        if time > 0 {
            multiply(&mut from_reset, Matrix::new(&reset, batch, hidden), u_candidate, Into::Overwrite);
        }
        for row in 0..batch {
            let (z, rest) = block_mut(gates, row, 3 * hidden).split_at_mut(hidden);
            let candidate = &mut rest[hidden..];
            candidate.iter_mut().zip(block(&from_reset, row, hidden)).for_each(|(sum, &more)| *sum += more);
            T::tanh_all(candidate);
            for unit in 0..hidden {
                let place = row * hidden + unit;
                now[place] = (T::one() - z[unit]) * before[place] + z[unit] * candidate[unit];
            }
        }
    }
}

pub(super) fn backward<T: Real>(sizes: Sizes, lane: Backward<'_, T>) {
    let Backward { recurrent, gates, states, grads, recurrent_grad, .. } = lane;
    let (hidden, batch, size, one) = (sizes.hidden, sizes.batch, sizes.state(), T::one());
    let (u_gates, u_candidate) = apart(recurrent, hidden);
    let u_gates = Matrix::new(&u_gates, hidden, 2 * hidden).transposed();
    let u_candidate = Matrix::new(&u_candidate, hidden, hidden).transposed();
    let zero_state = vec![T::zero(); size];
    let (mut of_gates, mut of_candidate) = (vec![T::zero(); 2 * size], vec![T::zero(); size]);
    let (mut reset, mut of_reset) = (vec![T::zero(); size], vec![T::zero(); size]);
    let (mut grad_gates, mut grad_candidate) = (vec![T::zero(); 2 * hidden * hidden], vec![T::zero(); hidden * hidden]);
    for time in (0..sizes.time).rev() {
        let gates = block_mut(gates, time, 3 * size);
        let (earlier, now) = grads.split_at_mut(time * size);
        let before = if time > 0 { block(states, time - 1, size) } else { &zero_state };
        for row in 0..batch {
            let (z, rest) = block(gates, row, 3 * hidden).split_at(hidden);
            let (r, candidate) = rest.split_at(hidden);
            for unit in 0..hidden {
                let place = row * hidden + unit;
                of_candidate[place] = now[place] * z[unit] * (one - candidate[unit] * candidate[unit]);
                reset[place] = r[unit] * before[place];
            }
        }
        multiply(&mut of_reset, Matrix::new(&of_candidate, batch, hidden), u_candidate, Into::Overwrite);
        for row in 0..batch {
            let (z, rest) = block_mut(gates, row, 3 * hidden).split_at_mut(hidden);
            let (r, candidate) = rest.split_at_mut(hidden);
            let of_gates = block_mut(&mut of_gates, row, 2 * hidden);
            for unit in 0..hidden {
                let place = row * hidden + unit;
                let (update, reset) = (z[unit], r[unit]);
                if time > 0 {
                    earlier[(time - 1) * size + place] += now[place] * (one - update) + of_reset[place] * reset;
                }
                z[unit] = now[place] * (candidate[unit] - before[place]) * update * (one - update);
                r[unit] = of_reset[place] * before[place] * reset * (one - reset);
                candidate[unit] = of_candidate[place];
                of_gates[unit] = z[unit];
                of_gates[hidden + unit] = r[unit];
            }
        }
        // The state before time 0 is 0: nothing reaches the recurrent weights there.
        if time > 0 {
            let of_gates = Matrix::new(&of_gates, batch, 2 * hidden);
            multiply(block_mut(earlier, time - 1, size), of_gates, u_gates, Into::Add);
            multiply(&mut grad_gates, Matrix::new(before, batch, hidden).transposed(), of_gates, Into::Add);
            let reset = Matrix::new(&reset, batch, hidden).transposed();
            multiply(&mut grad_candidate, reset, Matrix::new(&of_candidate, batch, hidden), Into::Add);
        }
    }
    for (row, out) in recurrent_grad.chunks_exact_mut((3 * hidden).max(1)).enumerate() {
        out[..2 * hidden].copy_from_slice(block(&grad_gates, row, 2 * hidden));
        out[2 * hidden..].copy_from_slice(block(&grad_candidate, row, hidden));
    }
}
