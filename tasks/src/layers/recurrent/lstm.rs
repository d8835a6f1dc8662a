//! The LSTM's cell. Gates `i, g, f, o` of a row lie one after another.

use super::{Backward, Forward, Into, Matrix, Real, Sizes, block, block_mut, multiply, recurrent_gradient};

pub(super) fn forward<T: Real>(sizes: Sizes, lane: Forward<'_, T>) {
    let Forward { recurrent, gates, states, memory } = lane;
    let (hidden, one) = (sizes.hidden, T::one());
    let recurrent = Matrix::new(recurrent, hidden, 4 * hidden);
    let size = sizes.state();
    for time in 0..sizes.time {
        let gates = block_mut(gates, time, 4 * size);
        if time > 0 {
            multiply(gates, Matrix::new(block(states, time - 1, size), sizes.batch, hidden), recurrent, Into::Add);
        }
        let (earlier, now) = memory.split_at_mut(time * size);
        let states = block_mut(states, time, size);
        for row in 0..sizes.batch {
            let (i, rest) = block_mut(gates, row, 4 * hidden).split_at_mut(hidden);
            let (g, rest) = rest.split_at_mut(hidden);
            let (f, o) = rest.split_at_mut(hidden);
            f.iter_mut().for_each(|value| *value += one);
            for gate in [&mut *i, f, o] {
                T::sigmoid_all(gate);
            }
            T::tanh_all(g);
            let states = block_mut(states, row, hidden);
            for unit in 0..hidden {
                let place = row * hidden + unit;
                let before = if time > 0 { earlier[(time - 1) * size + place] } else { T::zero() };
                now[place] = f[unit] * before + i[unit] * g[unit];
                states[unit] = now[place];
            }
            T::tanh_all(states);
            states.iter_mut().zip(o).for_each(|(state, o)| *state *= *o);
        }
    }
}

pub(super) fn backward<T: Real>(sizes: Sizes, lane: Backward<'_, T>) {
    let Backward { recurrent, gates, states, memory, grads, recurrent_grad } = lane;
    let (hidden, one) = (sizes.hidden, T::one());
    let recurrent = Matrix::new(recurrent, hidden, 4 * hidden).transposed();
    let size = sizes.state();
    // The gradient of the memory, from later times.
    let mut carried = vec![T::zero(); size];
    let mut squashed = vec![T::zero(); hidden];
    for time in (0..sizes.time).rev() {
        let (earlier, now) = grads.split_at_mut(time * size);
        let gates = block_mut(gates, time, 4 * size);
        let memory_now = block(memory, time, size);
        for row in 0..sizes.batch {
            let (i, rest) = block_mut(gates, row, 4 * hidden).split_at_mut(hidden);
            let (g, rest) = rest.split_at_mut(hidden);
            let (f, o) = rest.split_at_mut(hidden);
            squashed.copy_from_slice(block(memory_now, row, hidden));
            T::tanh_all(&mut squashed);
            for unit in 0..hidden {
                let place = row * hidden + unit;
                let before = if time > 0 { memory[(time - 1) * size + place] } else { T::zero() };
                let squashed = squashed[unit];
                let of_memory = carried[place] + now[place] * o[unit] * (one - squashed * squashed);
                carried[place] = of_memory * f[unit];
                let (input, candidate) = (i[unit], g[unit]);
                i[unit] = of_memory * candidate * input * (one - input);
                g[unit] = of_memory * input * (one - candidate * candidate);
                f[unit] = of_memory * before * f[unit] * (one - f[unit]);
                o[unit] = now[place] * squashed * o[unit] * (one - o[unit]);
            }
        }
        if time > 0 {
            let gates = Matrix::new(gates, sizes.batch, 4 * hidden);
            multiply(block_mut(earlier, time - 1, size), gates, recurrent, Into::Add);
        }
    }
    recurrent_gradient(sizes, recurrent_grad, states, gates, 4 * hidden);
}
