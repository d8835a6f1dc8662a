//! The machine under random schedules: lost, late, doubled and damaged messages, failing and silent workers, expired
//! leases, and crashes that keep only what was stored.
//!
//! Everything follows from one seed. A failing seed is printed; [`replay_one_seed`] runs it alone.

mod fake;
mod seen;
mod worker;
mod world;

use fake::FakeWeights;
use paceline_proto::model::{EntryProgress, RunStatus};
use seen::Seen;
use worker::honest_step;
use world::{STEPS, World};

const SEEDS: u64 = 200;
const ACTIONS: u32 = 700;

/// One schedule: chaos, then peace with one worker in which the run must complete (LV-1).
fn simulate(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..ACTIONS {
        world.act();
        world.check();
    }
    world.settle();
    world.check();
    assert_eq!(world.state().status, RunStatus::Completed, "LV-1");
    assert_eq!(world.state().outer_step, STEPS, "CK-3");
    assert_eq!(world.state().ledger.accepted, STEPS * 4, "LS-2");
    assert_eq!(world.state().ledger.outstanding, 0, "LG-1: nobody holds a slot that is filled");
    world
}

/// What the entries of the mixture bring when nothing ever goes wrong.
fn undisturbed_entries() -> Vec<EntryProgress> {
    let mut world = World::new(0);
    world.settle();
    assert!(!world.seen.happened("refused") && !world.seen.happened("expired"), "{:?}", world.seen);
    world.state().entries
}

/// Theta when every slot is filled in order by a worker that never fails.
fn undisturbed() -> FakeWeights {
    (0..STEPS).fold(FakeWeights::initial(), |weights, _| weights.fold(&honest_step(weights.hash())))
}

#[test]
fn any_schedule_keeps_the_invariants_and_ends_with_the_same_theta() {
    let (expected, entries) = (undisturbed().hash(), undisturbed_entries());
    assert_eq!(entries.iter().map(|entry| entry.contributions).sum::<u64>(), STEPS * 4);
    assert!(entries.iter().all(|entry| entry.latest.is_some()), "both families are seen to change: {entries:?}");
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| {
            let world = simulate(seed);
            // Even seeds have workers that all compute the same, as real ones do; in odd ones every attempt reports other
            // numbers, to see that exactly the acknowledged ones are folded.
            if seed % 2 == 0 {
                assert_eq!(world.state().theta_hash, expected, "RN-2");
                assert_eq!(world.state().entries, entries, "RN-2: to the bit, whatever was lost or restarted");
            }
            world.seen
        });
        match outcome {
            Ok(of_seed) => seen.add(&of_seed),
            Err(panic) => {
                eprintln!(
                    "seed {seed} failed: run `PACELINE_SEED={seed} cargo test -p paceline-coordinator replay_one_seed`"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    seen.assert_nothing_was_missed();
}

#[test]
fn replay_one_seed() {
    let seed = std::env::var("PACELINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (first, second) = (simulate(seed), simulate(seed));
    assert_eq!(first.state(), second.state(), "a seed decides everything");
    assert_eq!(first.seen, second.seen);
}
