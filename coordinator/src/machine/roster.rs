//! The workers a coordinator knows: who lives, what each can run, whose cache holds which slot.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use paceline_proto::model::{Holdings, Registration, RunId, WorkerId};

/// A registered worker.
#[derive(Clone, Debug)]
struct Worker {
    registration: Registration,
    last_seen: Duration,
    inner_steps: u64,
}

/// All live workers. One that was silent for too long is forgotten and must register again.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    workers: BTreeMap<WorkerId, Worker>,
    /// For each slot, the worker that last said it has its trajectories.
    cached: HashMap<RunId, BTreeMap<u32, WorkerId>>,
}

impl Roster {
    /// Adds a worker, or takes its new introduction.
    pub(super) fn register(&mut self, registration: Registration, now: Duration) {
        let id = registration.worker.clone();
        self.workers.insert(id, Worker { registration, last_seen: now, inner_steps: 0 });
    }

    /// Notes a sign of life; false if the worker is not known.
    pub(super) fn seen(&mut self, worker: &WorkerId, now: Duration) -> bool {
        match self.workers.get_mut(worker) {
            Some(known) => {
                known.last_seen = known.last_seen.max(now);
                true
            }
            None => false,
        }
    }

    /// Notes how many inner steps a worker has trained since it started.
    pub(super) fn trained(&mut self, worker: &WorkerId, inner_steps: u64) {
        if let Some(known) = self.workers.get_mut(worker) {
            known.inner_steps = inner_steps;
        }
    }

    /// Notes which trajectories a worker has cached.
    pub(super) fn holds(&mut self, worker: &WorkerId, holdings: &[Holdings]) {
        for holding in holdings {
            let cached = self.cached.entry(holding.run.clone()).or_default();
            cached.retain(|_, owner| owner != worker);
            cached.extend(holding.slots.iter().map(|slot| (*slot, worker.clone())));
        }
    }

    /// Forgets workers silent for `patience` and returns them.
    pub(super) fn drop_silent(&mut self, now: Duration, patience: Duration) -> Vec<WorkerId> {
        let silent: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| now.saturating_sub(worker.last_seen) > patience)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &silent {
            self.workers.remove(id);
            self.cached.values_mut().for_each(|cached| cached.retain(|_, owner| owner != id));
        }
        silent
    }

    /// Forgets who cached what of a run that ended.
    pub(super) fn forget_run(&mut self, run: &RunId) {
        self.cached.remove(run);
    }

    /// Number of live workers.
    pub(super) fn live(&self) -> u32 {
        self.workers.len() as u32
    }

    /// Inner steps trained by live workers since each started.
    pub(super) fn inner_steps(&self) -> u64 {
        self.workers.values().map(|worker| worker.inner_steps).sum()
    }

    /// Whether the worker can run the family.
    pub(super) fn can_run(&self, worker: &WorkerId, family: &str) -> bool {
        self.workers.get(worker).is_some_and(|known| known.registration.families.iter().any(|name| name == family))
    }

    /// Whether any live worker can run the family.
    pub(super) fn any_can_run(&self, family: &str) -> bool {
        self.workers.keys().any(|worker| self.can_run(worker, family))
    }

    /// Whether another live worker said that it has the slot's trajectories.
    pub(super) fn cached_elsewhere(&self, run: &RunId, slot: u32, worker: &WorkerId) -> bool {
        self.cached.get(run).and_then(|cached| cached.get(&slot)).is_some_and(|owner| owner != worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(worker: &str) -> Registration {
        Registration {
            protocol: 1,
            worker: worker.parse().unwrap(),
            code_version: "0".into(),
            device: "cpu".into(),
            threads: 1,
            families: vec!["quadratic".into()],
        }
    }

    #[test]
    fn silent_workers_are_forgotten_with_their_caches() {
        let (a, b, run): (WorkerId, WorkerId, RunId) =
            ("a".parse().unwrap(), "b".parse().unwrap(), "r".parse().unwrap());
        let mut roster = Roster::default();
        roster.register(registration("a"), Duration::ZERO);
        roster.register(registration("b"), Duration::ZERO);
        roster.holds(&a, &[Holdings { run: run.clone(), theta_version: 0, slots: vec![2] }]);
        assert!(roster.cached_elsewhere(&run, 2, &b));
        assert!(!roster.cached_elsewhere(&run, 2, &a));
        assert!(roster.seen(&b, Duration::from_secs(5)));
        assert_eq!(roster.drop_silent(Duration::from_secs(6), Duration::from_secs(5)), vec![a.clone()]);
        assert!(!roster.seen(&a, Duration::from_secs(6)));
        assert!(!roster.cached_elsewhere(&run, 2, &b));
        assert_eq!(roster.live(), 1);
    }

    #[test]
    fn families_decide_what_a_worker_can_run() {
        let mut roster = Roster::default();
        roster.register(registration("a"), Duration::ZERO);
        assert!(roster.can_run(&"a".parse().unwrap(), "quadratic"));
        assert!(!roster.any_can_run("image_mlp"));
    }
}
