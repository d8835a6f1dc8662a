//! Which slot a worker gets: pure functions.
//!
//! Under an estimator that runs windows a slot's trajectories live in the cache of the worker that ran its last window; anyone else must replay
//! them. So a worker first gets the open slots it has cached, then those nobody else has, then any; what it failed at
//! before comes last, so that another worker may try.
//!
//! Among equals the most expensive comes first: longest processing time first, which on m equal workers ends within
//! 4/3 − 1/(3m) times the best possible time (R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl.
//! Math. 17, 1969). A step ends with its last slot, and a long one that begins last keeps everyone waiting:
//!
//! ```text
//!  by slot    worker 1 │ a │  c  │          by cost    worker 1 │    d    │
//!             worker 2 │ b │    d    │                 worker 2 │  c  │ a │ b │
//! ```
//!
//! A result does not depend on who computed it or when, so the order is free.

use std::time::Duration;

use paceline_optimizer_core::schedule::Window;
use paceline_proto::model::TaskCost;

/// An open slot as a certain worker sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OpenSlot {
    /// The slot.
    pub(super) slot: u32,
    /// The worker has its trajectories.
    pub(super) cached_here: bool,
    /// Another live worker has them.
    pub(super) cached_elsewhere: bool,
    /// The worker failed at it before.
    pub(super) failed_here: bool,
    /// What its window is expected to cost a lane, in the run's own unit ([`expected_cost`]).
    pub(super) cost: f64,
}

/// What a window is expected to cost a lane: inner steps times what one costs. In seconds if every entry of the mixture was
/// measured, else in floating-point operations; in inner steps where nothing is known. Comparable within a run.
pub(super) fn expected_cost(window: &Window, width: Option<u32>, costs: &[TaskCost]) -> f64 {
    let measured = costs.iter().all(|cost| cost.seconds.is_some());
    let of_step = |family: usize| match costs.get(family) {
        Some(TaskCost { seconds: Some(seconds), .. }) if measured => *seconds,
        Some(cost) => cost.flop,
        None => 1.0,
    };
    let (current, after) = window.trained(width);
    let after = window.next.map_or(0.0, |next| f64::from(after) * of_step(next.family));
    f64::from(current) * of_step(window.current.family) + after
}

/// The slot to lease, of those open.
pub(super) fn choose_open(open: impl Iterator<Item = OpenSlot>) -> Option<u32> {
    let key = |slot: &OpenSlot| {
        let preference = match (slot.cached_here, slot.cached_elsewhere) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        (slot.failed_here, preference)
    };
    let dearest = |a: &OpenSlot, b: &OpenSlot| b.cost.total_cmp(&a.cost);
    open.min_by(|a, b| key(a).cmp(&key(b)).then(dearest(a, b)).then(a.slot.cmp(&b.slot))).map(|slot| slot.slot)
}

/// Shortest time a lease is given before its slot is leased a second time.
pub(super) const HEDGE_FLOOR: Duration = Duration::from_secs(2);

/// How long a lease may take before its slot is leased a second time: twice the median of recent leases, at least
/// [`HEDGE_FLOOR`]. `None` before the first lease was completed.
pub(super) fn hedge_after(recent: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut durations: Vec<Duration> = recent.collect();
    durations.sort_unstable();
    let median = durations.get(durations.len() / 2)?;
    Some((*median * 2).max(HEDGE_FLOOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(slot: u32, cached_here: bool, cached_elsewhere: bool) -> OpenSlot {
        OpenSlot { slot, cached_here, cached_elsewhere, failed_here: false, cost: 1.0 }
    }

    #[test]
    fn own_cache_comes_first_then_nobodys_then_anybodys() {
        let slots = [open(0, false, true), open(1, false, false), open(2, true, false), open(3, true, true)];
        assert_eq!(choose_open(slots.into_iter()), Some(2));
        assert_eq!(choose_open(slots[..2].iter().copied()), Some(1));
        assert_eq!(choose_open(slots[..1].iter().copied()), Some(0));
        assert_eq!(choose_open([].into_iter()), None);
        let failed = OpenSlot { failed_here: true, ..slots[2] };
        assert_eq!(choose_open([slots[0], failed].into_iter()), Some(0));
        assert_eq!(choose_open([failed].into_iter()), Some(2));
    }

    #[test]
    fn the_most_expensive_of_equals_comes_first_then_the_lowest() {
        let of = |slot, cost| OpenSlot { cost, ..open(slot, false, false) };
        assert_eq!(choose_open([of(0, 1.0), of(1, 3.0), of(2, 3.0), of(3, 2.0)].into_iter()), Some(1));
        let cached = OpenSlot { cached_here: true, ..of(3, 0.5) };
        assert_eq!(choose_open([of(1, 3.0), cached].into_iter()), Some(3), "replaying costs more than waiting");
    }

    /// When the last worker is done, if each takes the next slot as soon as it is free.
    fn makespan(workers: usize, costs: &[f64], by_cost: bool) -> f64 {
        let mut slots: Vec<OpenSlot> = (0..)
            .zip(costs)
            .map(|(slot, &cost)| OpenSlot { cost: if by_cost { cost } else { 1.0 }, ..open(slot, false, false) })
            .collect();
        let mut busy_until = vec![0.0_f64; workers];
        while let Some(chosen) = choose_open(slots.iter().copied()) {
            slots.retain(|slot| slot.slot != chosen);
            busy_until.sort_by(f64::total_cmp);
            busy_until[0] += costs[chosen as usize];
        }
        busy_until.into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn longest_first_ends_earlier() {
        let costs = [1.0, 1.0, 1.0, 1.0, 4.0];
        assert_eq!((makespan(2, &costs, false), makespan(2, &costs, true)), (6.0, 4.0));
    }

    proptest::proptest! {
        /// Graham's bound, against the trivial lower bounds of the best order.
        #[test]
        fn longest_first_keeps_graham_s_bound(
            costs in proptest::collection::vec(0.1..10.0_f64, 1..20), workers in 1..5_usize,
        ) {
            let longest = costs.iter().copied().fold(0.0, f64::max);
            let (mean, m) = (costs.iter().sum::<f64>() / workers as f64, workers as f64);
            let made = makespan(workers, &costs, true);
            // A list schedule ends within mean + (1 − 1/m) · longest.
            proptest::prop_assert!(made <= mean + (1.0 - 1.0 / m) * longest + 1e-9);
            proptest::prop_assert!(made >= mean.max(longest) - 1e-9);
        }
    }

    #[test]
    fn a_window_costs_what_its_trajectories_train() {
        use paceline_optimizer_core::schedule::Trajectory;
        let cost = |flop, seconds| TaskCost { flop, bytes: 0.0, seconds };
        let current = Trajectory { family: 0, horizon: 20, inner_step: 16, ..Trajectory::default() };
        let next = Some(Trajectory { family: 1, horizon: 20, ..Trajectory::default() });
        let window = Window { current, next };
        let measured = [cost(100.0, Some(2.0)), cost(10.0, Some(0.5))];
        assert_eq!(expected_cost(&window, Some(10), &measured), 4.0 * 2.0 + 5.0 * 0.5);
        let half_measured = [cost(100.0, Some(2.0)), cost(10.0, None)];
        assert_eq!(expected_cost(&window, Some(10), &half_measured), 4.0 * 100.0 + 5.0 * 10.0);
        assert_eq!(expected_cost(&window, Some(10), &[]), 9.0);
        assert_eq!(expected_cost(&Window { current, next: None }, None, &[]), 4.0, "a whole trajectory");
    }

    #[test]
    fn hedging_waits_for_twice_the_median() {
        let seconds = |values: &[u64]| hedge_after(values.iter().map(|s| Duration::from_secs(*s)));
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(&[0, 0, 0]), Some(HEDGE_FLOOR));
        assert_eq!(seconds(&[9, 1, 5]), Some(Duration::from_secs(10)));
    }
}
