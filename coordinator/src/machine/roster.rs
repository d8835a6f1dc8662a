//! The workers a coordinator knows: who lives, what each can run, whose cache holds which slot.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use paceline_proto::model::{Holdings, Registration, RunId, WorkerId};

use super::fact::DeviceClass;
use super::survey::WorkerGroup;

/// A registered worker.
#[derive(Clone, Debug)]
struct Worker {
    registration: Registration,
    last_seen: Duration,
    /// When its last heartbeat came; `None` before the first.
    last_beat: Option<Duration>,
    inner_steps: u64,
    /// Inner steps a second between its last two heartbeats.
    rate: f64,
}

/// All live workers. One that was silent for too long is forgotten and must register again.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    workers: BTreeMap<WorkerId, Worker>,
    /// For each slot, the worker that last said it has its trajectories.
    cached: HashMap<RunId, BTreeMap<u32, WorkerId>>,
}

impl Roster {
    /// Adds a worker, or takes its new introduction; true if it was not known.
    pub(super) fn register(&mut self, registration: Registration, now: Duration) -> bool {
        let id = registration.worker.clone();
        let worker = Worker { registration, last_seen: now, last_beat: None, inner_steps: 0, rate: 0.0 };
        self.workers.insert(id, worker).is_none()
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

    /// Notes a heartbeat and how many inner steps its worker has trained since it started. Answers the time since the
    /// heartbeat before; `None` if there was none.
    pub(super) fn beat(&mut self, worker: &WorkerId, now: Duration, inner_steps: u64) -> Option<Duration> {
        let known = self.workers.get_mut(worker)?;
        let trained = inner_steps.saturating_sub(std::mem::replace(&mut known.inner_steps, inner_steps));
        let since = now.saturating_sub(known.last_beat.replace(now)?);
        known.rate = if since.is_zero() { known.rate } else { trained as f64 / since.as_secs_f64() };
        Some(since)
    }

    /// What the worker computes on.
    pub(super) fn device(&self, worker: &WorkerId) -> DeviceClass {
        self.workers.get(worker).map_or(DeviceClass::Other, |known| DeviceClass::of(&known.registration.device))
    }

    /// Live workers by class; one silent for longer than `patience` is suspect.
    pub(super) fn groups(&self, now: Duration, patience: Duration) -> Vec<WorkerGroup> {
        let mut groups: BTreeMap<DeviceClass, WorkerGroup> = BTreeMap::new();
        for worker in self.workers.values() {
            let device = DeviceClass::of(&worker.registration.device);
            let none = WorkerGroup { device, active: 0, suspect: 0, threads: 0, inner_steps_per_second: 0.0 };
            let group = groups.entry(device).or_insert(none);
            let active = now.saturating_sub(worker.last_seen) <= patience;
            *(if active { &mut group.active } else { &mut group.suspect }) += 1;
            group.threads += u64::from(worker.registration.threads);
            group.inner_steps_per_second += if active { worker.rate } else { 0.0 };
        }
        groups.into_values().collect()
    }

    /// Notes which trajectories a worker has cached.
    pub(super) fn holds(&mut self, worker: &WorkerId, holdings: &[Holdings]) {
        for holding in holdings {
            let cached = self.cached.entry(holding.run.clone()).or_default();
            cached.retain(|_, owner| owner != worker);
            cached.extend(holding.slots.iter().map(|slot| (*slot, worker.clone())));
        }
    }

    /// Forgets workers silent for `patience` and returns them, with what they computed on.
    pub(super) fn drop_silent(&mut self, now: Duration, patience: Duration) -> Vec<(WorkerId, DeviceClass)> {
        let silent: Vec<(WorkerId, DeviceClass)> = self
            .workers
            .iter()
            .filter(|(_, worker)| now.saturating_sub(worker.last_seen) > patience)
            .map(|(id, worker)| (id.clone(), DeviceClass::of(&worker.registration.device)))
            .collect();
        for (id, _) in &silent {
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
        assert_eq!(
            roster.drop_silent(Duration::from_secs(6), Duration::from_secs(5)),
            vec![(a.clone(), DeviceClass::Cpu)]
        );
        assert!(!roster.seen(&a, Duration::from_secs(6)));
        assert!(!roster.cached_elsewhere(&run, 2, &b));
        assert_eq!(roster.live(), 1);
    }

    #[test]
    fn workers_are_grouped_by_class_and_their_rates_added() {
        let mut roster = Roster::default();
        let second = Duration::from_secs(1);
        for (name, device) in [("a", "cpu"), ("b", "cuda:1"), ("c", "cuda:0")] {
            let known = roster.register(Registration { device: device.into(), ..registration(name) }, Duration::ZERO);
            assert!(known, "{name} is new");
        }
        assert!(!roster.register(Registration { device: "cpu".into(), ..registration("a") }, Duration::ZERO));
        let [b, c]: [WorkerId; 2] = ["b", "c"].map(|name| name.parse().unwrap());
        assert_eq!(roster.beat(&b, second, 500), None, "the first heartbeat has none before it");
        assert_eq!(roster.beat(&b, 3 * second, 700), Some(2 * second));
        roster.beat(&c, second, 0);
        roster.beat(&c, 2 * second, 50);
        assert!([&b, &c].iter().all(|worker| roster.seen(worker, 9 * second)));
        let groups = roster.groups(10 * second, 5 * second);
        let found = groups.iter().map(|g| (g.device, g.active, g.suspect, g.threads, g.inner_steps_per_second));
        let expected = [(DeviceClass::Cpu, 0, 1, 1, 0.0), (DeviceClass::Cuda, 2, 0, 2, 150.0)];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        // A worker that started anew counts from 0 again, which is no negative rate.
        roster.beat(&b, 4 * second, 0);
        assert_eq!(roster.groups(4 * second, 5 * second)[1].inner_steps_per_second, 50.0);
    }

    #[test]
    fn families_decide_what_a_worker_can_run() {
        let mut roster = Roster::default();
        roster.register(registration("a"), Duration::ZERO);
        assert!(roster.can_run(&"a".parse().unwrap(), "quadratic"));
        assert!(!roster.any_can_run("image_mlp"));
    }
}
