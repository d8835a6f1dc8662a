//! A coordinator's surroundings, made of queues: everything may be delayed, doubled, lost, or cut off by a crash.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use paceline_coordinator::machine::{
    Answer, Effect, Event, Fleet, Grant, Moment, Record, RunRequest, Settings, Ticket,
};
use paceline_coordinator::store::{Journal, MemoryStore};
use paceline_optimizer_core::outer::Contribution;
use paceline_optimizer_core::{Seed, ThetaHash};
use paceline_proto::fault::Fault;
use paceline_proto::model::{
    Lease, Registration, ResultBody, RunId, RunState, SeedCoded, Submission, Token, Verdict, WorkerId,
};

use super::fake::{FakeWeights, contribution_bytes};
use super::seen::Seen;
use super::worker::{Worker, body_bytes, digest, honest};
use crate::recipes;

mod crash;

pub(super) const STEPS: u64 = 14;
const SETTINGS: Settings = Settings { lease_ttl: Duration::from_secs(30), heartbeat: Duration::from_secs(5) };

enum Heavy {
    Fold(u64, Vec<Arc<Contribution>>),
    Checkpoint,
}

type Words = (Token, [u8; 32]);

pub(super) struct World {
    random: Seed,
    noisy: bool,
    now: Duration,
    store: MemoryStore,
    journal: Journal,
    fleet: Fleet,
    weights: FakeWeights,
    run: RunId,
    /// Handed over and not written yet.
    queue: VecDeque<Vec<Record>>,
    persisted: u64,
    written: u64,
    held: VecDeque<(u64, Ticket, Result<Answer, Fault>)>,
    heavy: VecDeque<Heavy>,
    tickets: u64,
    askers: HashMap<Ticket, usize>,
    reports: HashMap<Ticket, Submission>,
    workers: Vec<Worker>,
    /// Submissions on their way.
    network: Vec<Submission>,
    given: HashMap<Token, WorkerId>,
    given_before_crash: HashMap<Token, u64>,
    thetas: BTreeMap<u64, ThetaHash>,
    acknowledged: BTreeMap<(u64, u32), Vec<u8>>,
    verdicts: HashMap<Words, Result<Verdict, Fault>>,
    failures: BTreeMap<(u64, u32), u32>,
    lives: u64,
    pub(super) seen: Seen,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let store = MemoryStore::new();
        let (journal, stored) = Journal::open(Arc::new(store.clone())).unwrap();
        let (fleet, _) = Fleet::restored(SETTINGS, stored.epoch, Vec::new()).unwrap();
        let worker = |index: usize| Worker {
            id: format!("worker-{index}").parse().unwrap(),
            registered: false,
            waiting: None,
            leases: Vec::new(),
            cached: Vec::new(),
        };
        let mut world = Self {
            random: Seed::new(seed),
            noisy: seed % 2 == 1,
            now: Duration::ZERO,
            store,
            journal,
            fleet,
            weights: FakeWeights::initial(),
            run: "none".parse().unwrap(),
            queue: VecDeque::new(),
            persisted: 0,
            written: 0,
            held: VecDeque::new(),
            heavy: VecDeque::new(),
            tickets: 0,
            askers: HashMap::new(),
            reports: HashMap::new(),
            workers: (0..3).map(worker).collect(),
            network: Vec::new(),
            given: HashMap::new(),
            given_before_crash: HashMap::new(),
            thetas: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            verdicts: HashMap::new(),
            failures: BTreeMap::new(),
            lives: 1,
            seen: Seen::default(),
        };
        let request = RunRequest {
            spec: recipes::pes(STEPS),
            costs: Vec::new(),
            request_id: "request".into(),
            resume_unfinished: false,
            validate_only: false,
            theta_size: 4,
            theta_hash: world.weights.hash(),
        };
        let ticket = world.ticket();
        world.event(Event::RunWanted { ticket, request: Box::new(request) });
        world.write(usize::MAX);
        world
    }

    pub(super) fn state(&self) -> RunState {
        self.fleet.state(&self.run).unwrap()
    }

    fn below(&mut self, n: usize) -> usize {
        self.random = self.random.fold_in(1);
        (self.random.value() >> 33) as usize % n
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// One random thing happens.
    pub(super) fn act(&mut self) {
        let worker = self.below(self.workers.len());
        match self.below(100) {
            0..20 => self.ask(worker),
            20..40 => self.compute(worker),
            40..60 => self.deliver(),
            60..77 => {
                let batches = 1 + self.below(4);
                self.write(batches);
            }
            77..91 => self.finish_heavy(),
            91..93 => self.heartbeat(worker),
            93 => self.release(worker),
            94..96 => {
                let step = [1, 3, 20, 70][self.below(4)];
                self.pass(Duration::from_secs(step));
            }
            96 => {
                if !self.network.is_empty() {
                    let index = self.below(self.network.len());
                    self.network.swap_remove(index);
                }
            }
            97 => self.crash(),
            98 => self.pause_or_resume(),
            _ => self.workers[worker].leases.clear(), // the worker process is replaced
        }
    }

    /// Peace: everything is delivered, one worker works, time passes.
    pub(super) fn settle(&mut self) {
        let ticket = self.ticket();
        self.event(Event::ResumeWanted { ticket, run: self.run.clone() });
        for _ in 0..4000 {
            if self.state().status.is_final() {
                return;
            }
            self.write(usize::MAX);
            self.finish_heavy();
            self.ask(0);
            self.write(usize::MAX);
            self.compute_honestly(0);
            self.deliver();
            self.pass(Duration::from_secs(1));
        }
    }

    fn event(&mut self, event: Event) {
        let mut seed = self.random;
        let mut random = || {
            seed = seed.fold_in(2);
            let mut bits = [0; 16];
            bits[..8].copy_from_slice(&seed.value().to_le_bytes());
            bits[8..].copy_from_slice(&seed.fold_in(3).value().to_le_bytes());
            bits
        };
        let effects = self.fleet.handle(event, &mut Moment { now: self.now, random: &mut random });
        self.random = seed.fold_in(4);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist(records) => {
                    self.persisted += 1;
                    self.queue.push_back(records);
                }
                Effect::Answer(ticket, answer) => self.held.push_back((self.persisted, ticket, answer)),
                Effect::Publish(state) => assert!(state.ledger.balances(), "LG-1: {:?}", state.ledger),
                Effect::Adopt { run, .. } => self.run = run,
                Effect::Fold { outer_step, contributions, .. } => {
                    self.heavy.push_back(Heavy::Fold(outer_step, contributions));
                }
                Effect::Checkpoint { .. } => self.heavy.push_back(Heavy::Checkpoint),
                Effect::ForgetThetas { .. } | Effect::Note(_) => {}
            }
        }
        self.show();
    }

    /// The writer takes some batches, and what waited for them is shown.
    fn write(&mut self, batches: usize) {
        let group: Vec<Vec<Record>> = self.queue.drain(..batches.min(self.queue.len())).collect();
        self.journal.write(&group).unwrap();
        self.written += group.len() as u64;
        self.show();
    }

    fn show(&mut self) {
        while self.held.front().is_some_and(|(place, _, _)| *place <= self.written) {
            let (_, ticket, answer) = self.held.pop_front().unwrap();
            self.shown(ticket, answer);
        }
    }

    fn shown(&mut self, ticket: Ticket, answer: Result<Answer, Fault>) {
        let asker = self.askers.remove(&ticket);
        match answer {
            Ok(Answer::Lease(Some(grant))) => self.granted(asker.unwrap(), *grant),
            Ok(Answer::Submitted { verdict, next }) => {
                let report = self.reports.remove(&ticket).unwrap();
                self.judged(&report, Ok(verdict));
                if let Some(grant) = next {
                    self.granted(asker.unwrap(), *grant);
                }
            }
            Err(fault) => {
                if let Some(report) = self.reports.remove(&ticket) {
                    self.judged(&report, Err(fault.clone()));
                }
                if let Fault::WorkerNotFound { worker } = fault {
                    self.workers.iter_mut().filter(|w| w.id == worker).for_each(|w| w.registered = false);
                }
            }
            Ok(Answer::Registered(registered)) => assert_eq!(registered.epoch, self.lives),
            Ok(
                Answer::Lease(None) | Answer::Released(_) | Answer::Created(_) | Answer::State(_) | Answer::Recorded,
            ) => {}
        }
        if let Some(worker) = asker
            && self.workers[worker].waiting == Some(ticket)
        {
            self.workers[worker].waiting = None;
        }
    }

    fn granted(&mut self, worker: usize, grant: Grant) {
        let lease = grant.lease;
        let id = self.workers[worker].id.clone();
        assert_eq!(grant.worker, id, "LS-1: a lease goes to the worker that asked");
        assert_eq!(self.given.insert(lease.key.token, id), None, "LS-1: a token is given once");
        let theta = *self.thetas.entry(lease.key.outer_step).or_insert(lease.theta_hash);
        assert_eq!(theta, lease.theta_hash, "CK-1: a version of theta never changes once seen");
        self.given_before_crash.insert(lease.key.token, self.lives);
        self.workers[worker].leases.push(lease);
    }

    fn judged(&mut self, report: &Submission, outcome: Result<Verdict, Fault>) {
        let words = (report.lease.token, digest(report));
        let place = (report.lease.outer_step, report.lease.slot);
        self.seen.note(match &outcome {
            Ok(Verdict::Accepted) => "accepted",
            Ok(Verdict::AlreadyAccepted) => "already accepted",
            Ok(Verdict::Superseded) => "superseded",
            Ok(Verdict::FailureNoted) => "failure noted",
            Err(Fault::ResultNonFinite { .. }) => "refused",
            Err(Fault::WorkerNotFound { .. } | Fault::LeaseNotFound { .. } | Fault::RunFinished { .. }) => return,
            Err(other) => panic!("nobody did that: {other:?}"),
        });
        if let Some(before) = self.verdicts.get(&words) {
            let expected = if *before == Ok(Verdict::Accepted) { Ok(Verdict::AlreadyAccepted) } else { before.clone() };
            assert_eq!(outcome, expected, "LS-4: {place:?}");
        }
        if matches!(outcome, Ok(Verdict::Accepted | Verdict::AlreadyAccepted)) {
            let bytes = body_bytes(report);
            let acknowledged = self.acknowledged.entry(place).or_insert(bytes.clone());
            assert_eq!(*acknowledged, bytes, "LS-2: one result fills a slot");
            if self.given_before_crash[&report.lease.token] < self.lives {
                self.seen.note("kept result accepted after a crash");
            }
        }
        self.verdicts.entry(words).or_insert(outcome);
    }

    fn ask(&mut self, index: usize) {
        if !self.workers[index].registered {
            let ticket = self.ticket();
            let registration = Registration {
                protocol: paceline_proto::PROTOCOL,
                worker: self.workers[index].id.clone(),
                code_version: "0".into(),
                device: "cpu".into(),
                threads: 1,
                families: vec!["quadratic".into(), "rosenbrock".into()],
            };
            self.workers[index].registered = true;
            self.event(Event::Registered { ticket, registration });
        }
        if self.workers[index].waiting.is_none() && self.workers[index].leases.len() < 2 {
            let ticket = self.ticket();
            let worker = &mut self.workers[index];
            worker.waiting = Some(ticket);
            let holdings = worker.holdings(&self.run);
            let id = worker.id.clone();
            self.askers.insert(ticket, index);
            self.event(Event::LeaseWanted { ticket, worker: id, holdings });
        }
    }

    fn compute(&mut self, index: usize) {
        if self.workers[index].leases.is_empty() {
            return;
        }
        let lease = self.workers[index].leases.swap_remove(0);
        let place = (lease.key.outer_step, lease.key.slot);
        let attempt = if self.noisy { lease.attempt } else { 0 };
        let mut pairs = honest(lease.theta_hash, lease.key.slot, attempt);
        let body = match self.below(20) {
            0 => {
                pairs[1].loss_plus = f64::NAN;
                ResultBody::SeedCoded(SeedCoded { pairs })
            }
            // Fewer than end a run.
            1 if self.failures.get(&place).copied().unwrap_or(0) < 4 => {
                *self.failures.entry(place).or_default() += 1;
                ResultBody::Failure { reason: "out of memory".into() }
            }
            _ => ResultBody::SeedCoded(SeedCoded { pairs }),
        };
        self.report(index, &lease, body);
    }

    fn compute_honestly(&mut self, index: usize) {
        if let Some(lease) = self.workers[index].leases.pop() {
            let attempt = if self.noisy { lease.attempt } else { 0 };
            let pairs = honest(lease.theta_hash, lease.key.slot, attempt);
            self.report(index, &lease, ResultBody::SeedCoded(SeedCoded { pairs }));
        }
    }

    fn report(&mut self, index: usize, lease: &Lease, body: ResultBody) {
        let worker = &mut self.workers[index];
        worker.cached.retain(|slot| *slot != lease.key.slot);
        worker.cached.push(lease.key.slot);
        self.network.push(Submission {
            worker: worker.id.clone(),
            lease: lease.key.clone(),
            theta_hash: lease.theta_hash,
            body,
            inner_steps: 10,
            diverged_lanes: 0,
            want_lease: lease.key.slot.is_multiple_of(2),
            holdings: worker.holdings(&self.run),
        });
    }

    /// A submission arrives, and may arrive again.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let index = self.below(self.network.len());
        let submission = self.network[index].clone();
        if self.below(5) != 0 {
            self.network.swap_remove(index);
        }
        let ticket = self.ticket();
        let worker = self.workers.iter().position(|worker| worker.id == submission.worker).unwrap();
        if !self.workers[worker].registered {
            self.ask(worker);
        }
        self.askers.insert(ticket, worker);
        self.reports.insert(ticket, submission.clone());
        let digest = digest(&submission);
        self.event(Event::Submitted { ticket, submission, digest });
    }

    fn heartbeat(&mut self, index: usize) {
        let worker = &self.workers[index];
        let keys: Vec<_> = worker.leases.iter().map(|lease| lease.key.clone()).collect();
        let answer = self.fleet.heartbeat(&worker.id, &keys, self.lives, 0, self.now).unwrap();
        assert_eq!(answer.directives.len(), keys.len());
        self.workers[index].registered = answer.known;
        let deposed = self.fleet.heartbeat(&self.workers[index].id, &[], self.lives + 1, 0, self.now);
        assert!(matches!(deposed, Err(Fault::Deposed { .. })), "{deposed:?}");
    }

    fn release(&mut self, index: usize) {
        let leases = std::mem::take(&mut self.workers[index].leases);
        if !leases.is_empty() {
            let ticket = self.ticket();
            let leases = leases.into_iter().map(|lease| lease.key).collect();
            self.event(Event::Released { ticket: Some(ticket), worker: self.workers[index].id.clone(), leases });
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.event(Event::Tick);
        let ledger = self.state().ledger;
        if ledger.expired > 0 {
            self.seen.note("expired");
        }
        if ledger.released > 0 {
            self.seen.note("released");
        }
        if ledger.outstanding > 4 {
            self.seen.note("hedged");
        }
    }

    fn pause_or_resume(&mut self) {
        let (ticket, run) = (self.ticket(), self.run.clone());
        let pause = self.below(8) == 0;
        self.event(if pause { Event::PauseWanted { ticket, run } } else { Event::ResumeWanted { ticket, run } });
    }

    fn finish_heavy(&mut self) {
        match self.heavy.pop_front() {
            None => {}
            Some(Heavy::Checkpoint) => {
                let (info, bytes) = self.weights.encode(&self.run);
                self.event(Event::CheckpointMade { run: self.run.clone(), result: Ok((info, bytes.into())) });
            }
            Some(Heavy::Fold(outer_step, contributions)) => {
                assert_eq!(outer_step, self.weights.outer_step, "CK-3");
                self.check_folded(outer_step, &contributions);
                self.weights = self.weights.fold(&contributions);
                self.event(Event::StepFolded { run: self.run.clone(), result: Ok(self.weights.result()) });
            }
        }
    }

    fn check_folded(&self, outer_step: u64, contributions: &[Arc<Contribution>]) {
        let slots: Vec<u32> = contributions.iter().map(|contribution| contribution.slot).collect();
        assert_eq!(slots, [0, 1, 2, 3], "LS-2: each slot once, in order");
        for contribution in contributions {
            if let Some(acknowledged) = self.acknowledged.get(&(outer_step, contribution.slot)) {
                assert_eq!(contribution_bytes(contribution), *acknowledged, "CK-2: what was acknowledged is folded");
            }
        }
    }

    pub(super) fn check(&self) {
        let state = self.state();
        assert!(state.ledger.balances(), "LG-1: {:?}", state.ledger);
        assert_eq!(state.outer_step, self.weights.outer_step, "CK-3: machine and weights stand at the same step");
        assert!(state.ledger.issued >= self.given.len() as u64 || self.lives > 1, "leases are counted");
    }
}
