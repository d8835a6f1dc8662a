//! The one task that owns the machine and does what it asks.
//!
//! ```text
//!  handles ─Heartbeat──(own lane)──► ┌───────┐ ─batch─► writer thread ─"durable up to n"─┐
//!          ─Call───────────────────► │ Actor │ ─fold, encode─► blocking threads ──done──┐ │
//!  ticks ──────────────────────────► └───────┘ ◄────────────────────────────────────────┴─┘
//!                                        └─ answers and states, each held until all before it is durable
//! ```
//!
//! One event is handled without any await, so nobody sees half a change. Heavy work never runs here: a heartbeat is
//! answered within microseconds however busy folds and the disk are.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use paceline_optimizer_core::outer::{Contribution, OuterState};
use paceline_proto::fault::Fault;
use paceline_proto::model::{CheckpointInfo, HeartbeatAnswer, LeaseKey, RunId, RunState, WorkerId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::machine::{Answer, Effect, Event, Fact, Fleet, Grant, Moment, Record, RunOrder, StepResult, Ticket};
use crate::observe::{Observer, Phase, StepClock, Traces, say};
use crate::store::{Committed, Writer};
use crate::weights::{self, Weights};

/// Calls that may wait for the actor; a caller beyond that waits at its own end.
pub(crate) const CALLS: usize = 1024;
/// Heartbeats that may wait for the actor: one a worker of a large fleet.
pub(crate) const HEARTBEATS: usize = 4096;
/// Batches the actor keeps for a busy writer before it stops taking calls.
const BACKLOG: usize = 64;
/// How often time is noticed: leases expire and slow ones are hedged this late at most.
const TICK: Duration = Duration::from_millis(250);
/// Ticks from one survey to the next: what pages and scrapes show is a second old at most.
const SURVEY_TICKS: u32 = 4;

/// Sends a typed answer back.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Fault>>;

/// A heartbeat and its way back.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) worker: WorkerId,
    pub(crate) leases: Vec<LeaseKey>,
    pub(crate) epoch: u64,
    pub(crate) inner_steps: u64,
    pub(crate) reply: Reply<HeartbeatAnswer>,
}

/// What a handle asks.
#[derive(Debug)]
pub(crate) enum Call {
    /// Something happened; a ticket's answer goes to the reply.
    Event { event: Event, reply: Option<(Ticket, Reply<Answer>)> },
    /// A run is wanted, and here are its first weights.
    Create { event: Event, ticket: Ticket, state: Box<OuterState>, reply: Reply<Answer> },
    /// Where a run stands.
    State { run: RunId, reply: Reply<RunState> },
    /// Where all runs stand.
    States { reply: Reply<Vec<RunState>> },
    /// States as they change.
    Watch { run: RunId, reply: Reply<watch::Receiver<RunState>> },
    /// One version of theta.
    Theta { run: RunId, version: u64, reply: Reply<Bytes> },
    /// Outer steps of evaluated checkpoints, and the run's place in the store.
    Evaluations { run: RunId, reply: Reply<(RunOrder, BTreeSet<u64>)> },
    /// Checkpoints, newest first, and the run's place in the store.
    Checkpoints { run: RunId, reply: Reply<(RunOrder, Vec<CheckpointInfo>)> },
}

/// Heavy work that is done.
enum Done {
    Folded { run: RunId, result: Result<(OuterState, Bytes, StepResult), String> },
    Encoded { run: RunId, took: Duration, result: Result<(CheckpointInfo, Bytes), String> },
}

/// Shows something that waited to be durable, or the fault instead; may find that nobody waits any more.
type Delivery = Box<dyn FnOnce(Option<Fault>) -> Option<Event> + Send>;

/// The task.
pub(crate) struct Actor {
    fleet: Fleet,
    weights: HashMap<RunId, Weights>,
    /// First weights of runs about to be created.
    newborn: HashMap<Ticket, OuterState>,
    callers: HashMap<Ticket, Reply<Answer>>,
    watches: HashMap<RunId, watch::Sender<RunState>>,
    /// Place of the last batch handed over, in the machine's history.
    persisted: u64,
    outgoing: VecDeque<(u64, Vec<Record>)>,
    committed: Committed,
    /// Deliveries and the place that must be durable first.
    held: VecDeque<(u64, Delivery)>,
    heavy: JoinSet<Done>,
    started: Instant,
    ending: bool,
    observer: Observer,
    clocks: HashMap<RunId, StepClock>,
    traces: Traces,
    ticks: u32,
}

impl Actor {
    /// With the runs and weights that were found.
    pub(crate) fn new(fleet: Fleet, weights: HashMap<RunId, Weights>, observer: Observer) -> Self {
        Self {
            fleet,
            weights,
            newborn: HashMap::new(),
            callers: HashMap::new(),
            watches: HashMap::new(),
            persisted: 0,
            outgoing: VecDeque::new(),
            committed: Committed::default(),
            held: VecDeque::new(),
            heavy: JoinSet::new(),
            started: Instant::now(),
            ending: false,
            observer,
            clocks: HashMap::new(),
            traces: Traces::new(),
            ticks: 0,
        }
    }

    /// Runs until it is shut down or every handle is gone. `first` is what the machine asked for when it was restored.
    pub(crate) async fn run(
        mut self,
        first: Vec<Effect>,
        mut calls: mpsc::Receiver<Call>,
        mut heartbeats: mpsc::Receiver<Heartbeat>,
        writer: Writer,
    ) {
        let Writer { batches, mut committed, thread } = writer;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.perform(first);
        let mut abandoned = false; // every handle is gone
        self.survey();
        while !self.is_done() {
            self.observer.beat();
            let has_batch = !self.outgoing.is_empty() && self.committed.broken.is_none();
            tokio::select! {
                biased;
                Some(heartbeat) = heartbeats.recv() => self.heartbeat(heartbeat),
                changed = committed.changed(), if self.committed.broken.is_none() => {
                    let mut now = committed.borrow_and_update().clone();
                    if changed.is_err() {
                        now.broken.get_or_insert_with(|| "its writer ended: see the log".to_owned());
                    }
                    self.committed(now);
                }
                Some(done) = self.heavy.join_next() => self.done(done),
                Ok(permit) = batches.reserve(), if has_batch => {
                    if let Some(batch) = self.outgoing.pop_front() {
                        permit.send(batch);
                    }
                }
                _ = ticks.tick() => self.tick(),
                call = calls.recv(), if !abandoned && self.outgoing.len() < BACKLOG => match call {
                    Some(call) => self.call(call),
                    None => {
                        abandoned = true;
                        self.shut_down();
                    }
                },
            }
        }
        drop(batches);
        // The writer has nothing left, so its thread ends at once.
        if tokio::task::spawn_blocking(move || thread.join()).await.is_err() {
            tracing::error!("the writer's thread panicked");
        }
    }

    fn shut_down(&mut self) {
        if !self.ending {
            self.ending = true;
            self.event(Event::ShutDown);
        }
    }

    /// Whether the actor was asked to end and nothing is under way.
    fn is_done(&self) -> bool {
        let stored = self.outgoing.is_empty() && self.committed.up_to == self.persisted;
        self.ending && ((self.fleet.is_quiet() && stored) || self.committed.broken.is_some())
    }

    fn event(&mut self, event: Event) {
        let mut random = || {
            let mut bits = [0; 16];
            getrandom::fill(&mut bits).expect("the operating system has randomness");
            bits
        };
        let effects = self.fleet.handle(event, &mut Moment { now: self.started.elapsed(), random: &mut random });
        self.perform(effects);
    }

    fn tick(&mut self) {
        self.event(Event::Tick);
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(SURVEY_TICKS) {
            self.survey();
        }
    }

    /// Lets everybody see how things are, once that is durable.
    fn survey(&mut self) {
        let (survey, epoch, observer) =
            (self.fleet.survey(self.started.elapsed()), self.fleet.epoch(), self.observer.clone());
        self.hold(Box::new(move |fault| {
            if fault.is_none() {
                observer.see(survey, epoch);
            }
            None
        }));
    }

    fn note(&mut self, facts: &[Fact]) {
        let now = self.started.elapsed();
        for fact in facts {
            self.observer.metrics().count(fact);
            if let Fact::LeaseEnded { token, outcome, .. } = fact {
                let trace = self.traces.of_lease(token);
                let span = trace.map(|trace| tracing::info_span!("lease", trace_id = %trace).entered());
                say(fact);
                drop(span);
                self.traces.ended(*token, *outcome);
            } else {
                say(fact);
            }
            if let Fact::LeaseIssued { run, open, .. } = fact {
                let phase = self.clocks.entry(run.clone()).or_default().leased(*open, now);
                self.time(phase);
            }
        }
    }

    fn time(&self, phase: Option<(Phase, Duration)>) {
        if let Some((phase, took)) = phase {
            self.observer.metrics().phase(phase, took);
        }
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat) {
        let Heartbeat { worker, leases, epoch, inner_steps, reply } = heartbeat;
        let answer = self.fleet.heartbeat(&worker, &leases, epoch, inner_steps, self.started.elapsed());
        // The caller may be gone: then nobody misses the answer.
        let _ = reply.send(answer);
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Event { event: Event::ShutDown, reply: _ } => self.shut_down(),
            Call::Event { event, reply: None } => {
                if let Event::CallerGone { ticket } = event {
                    self.callers.remove(&ticket);
                }
                self.event(event);
            }
            Call::Event { event, reply: Some((ticket, reply)) } => self.ask(event, ticket, reply),
            Call::Create { event, ticket, state, reply } => {
                self.newborn.insert(ticket, *state);
                self.ask(event, ticket, reply);
                self.newborn.remove(&ticket);
            }
            Call::State { run, reply } => {
                let answer = self.fleet.state(&run);
                self.deliver(reply, answer);
            }
            Call::States { reply } => {
                let answer = Ok(self.fleet.states());
                self.deliver(reply, answer);
            }
            Call::Watch { run, reply } => {
                let answer = self
                    .fleet
                    .state(&run)
                    .map(|state| self.watches.entry(run).or_insert_with(|| watch::channel(state).0).subscribe());
                self.deliver(reply, answer);
            }
            Call::Theta { run, version, reply } => {
                let answer = self.fleet.order(&run).and_then(|_| {
                    let kept = self.weights.get(&run).and_then(|weights| weights.thetas.get(&version));
                    kept.cloned().ok_or(Fault::ThetaNotFound { run, version })
                });
                self.deliver(reply, answer);
            }
            Call::Evaluations { run, reply } => {
                let answer = self.fleet.evaluations(&run);
                self.deliver(reply, answer);
            }
            Call::Checkpoints { run, reply } => {
                let answer = self.fleet.order(&run).and_then(|order| Ok((order, self.fleet.checkpoints(&run)?)));
                self.deliver(reply, answer);
            }
        }
    }

    fn ask(&mut self, event: Event, ticket: Ticket, reply: Reply<Answer>) {
        if let Some(fault) = self.broken() {
            let _ = reply.send(Err(fault)); // the caller may be gone
            return;
        }
        self.callers.insert(ticket, reply);
        self.event(event);
    }

    fn broken(&self) -> Option<Fault> {
        self.committed.broken.clone().map(|reason| Fault::StoreReadOnly { reason })
    }

    /// Answers a question about what may not be durable yet.
    fn deliver<T: Send + 'static>(&mut self, reply: Reply<T>, answer: Result<T, Fault>) {
        self.hold(Box::new(move |fault| {
            let _ = reply.send(fault.map_or(answer, Err)); // the caller may be gone
            None
        }));
    }

    /// Shows it as soon as everything up to now is durable.
    fn hold(&mut self, delivery: Delivery) {
        self.held.push_back((self.persisted, delivery));
        self.release_held();
    }

    fn committed(&mut self, committed: Committed) {
        self.committed = committed;
        if self.committed.broken.is_some() {
            self.observer.store_broke(self.committed.broken.as_deref().unwrap_or_default());
            // Nobody takes them any more; were they kept, calls would wait behind them instead of being refused.
            self.outgoing.clear();
        }
        self.release_held();
    }

    fn release_held(&mut self) {
        let fault = self.broken();
        while let Some((place, _)) = self.held.front()
            && (*place <= self.committed.up_to || fault.is_some())
            && let Some((place, delivery)) = self.held.pop_front()
        {
            let fault = if place <= self.committed.up_to { None } else { fault.clone() };
            if let Some(undelivered) = delivery(fault) {
                self.event(undelivered);
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist(records) => {
                    self.persisted += 1;
                    if self.committed.broken.is_none() {
                        self.outgoing.push_back((self.persisted, records));
                    }
                }
                Effect::Answer(ticket, answer) => self.answer(ticket, answer),
                Effect::Publish(state) => self.publish(*state),
                Effect::Adopt { ticket, run } => {
                    if let Some(state) = self.newborn.remove(&ticket) {
                        self.weights.insert(run, Weights::new(state));
                    }
                }
                Effect::Fold { run, outer_step, contributions } => {
                    let phase = self.clocks.entry(run.clone()).or_default().filled(self.started.elapsed());
                    self.time(phase);
                    self.traces.folding(&run);
                    self.fold(run, outer_step, contributions);
                }
                Effect::Note(facts) => self.note(&facts),
                Effect::Checkpoint { run, parent } => self.encode(run, parent),
                Effect::ForgetThetas { run, before } => {
                    if let Some(weights) = self.weights.get_mut(&run) {
                        weights.forget_before(before);
                    }
                }
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, mut answer: Result<Answer, Fault>) {
        let Some(reply) = self.callers.remove(&ticket) else { return };
        match &mut answer {
            Ok(Answer::Lease(Some(grant)) | Answer::Submitted { next: Some(grant), .. }) => {
                self.attach_theta(grant);
                grant.lease.traceparent = self.traces.leased(&grant.lease);
            }
            Ok(
                Answer::Lease(None)
                | Answer::Submitted { next: None, .. }
                | Answer::Registered(_)
                | Answer::Released(_)
                | Answer::Created(_)
                | Answer::State(_)
                | Answer::Recorded,
            )
            | Err(_) => {}
        }
        self.hold(Box::new(move |fault| {
            let undelivered = reply.send(fault.map_or(answer, Err)).err()?.ok()?;
            let (Answer::Lease(grant) | Answer::Submitted { next: grant, .. }) = undelivered else { return None };
            // The worker went away before its lease came: hand it back at once instead of waiting for its deadline.
            let Grant { lease, worker, .. } = *grant?;
            Some(Event::Released { ticket: None, worker, leases: vec![lease.key] })
        }));
    }

    fn attach_theta(&self, grant: &mut Grant) {
        if grant.attach_theta {
            let key = &grant.lease.key;
            let weights = self.weights.get(&key.run);
            grant.lease.theta = weights.and_then(|weights| weights.thetas.get(&key.outer_step)).cloned();
        }
    }

    fn publish(&mut self, state: RunState) {
        if state.status.is_final() {
            tracing::info!(run = %state.run, status = ?state.status, outer_step = state.outer_step, "run ended");
        } else {
            tracing::debug!(run = %state.run, outer_step = state.outer_step, meta_loss = ?state.meta_loss, "run goes on");
        }
        if state.status.is_final() {
            self.clocks.remove(&state.run);
            self.traces.closed(&state.run);
            self.observer.ended(&state.run);
        }
        let Some(watch) = self.watches.get(&state.run).cloned() else { return };
        self.hold(Box::new(move |fault| {
            if fault.is_none() {
                watch.send_replace(state);
            }
            None
        }));
    }

    fn fold(&mut self, run: RunId, outer_step: u64, contributions: Vec<Arc<Contribution>>) {
        let (spec, state) = (self.fleet.spec(&run), self.weights.get(&run).map(|weights| Arc::clone(&weights.state)));
        self.heavy.spawn_blocking(move || {
            let result = guarded(|| {
                let (spec, state) = (spec.ok_or("its run is gone")?, state.ok_or("its weights are gone")?);
                debug_assert_eq!(state.outer_step, outer_step, "weights and machine stand at the same step");
                let next = weights::step(&spec, OuterState::clone(&state), &contributions)?;
                let (theta, result) = (weights::theta_bytes(&next), weights::step_result(&state, &next)?);
                Ok((next, theta, result))
            });
            Done::Folded { run, result }
        });
    }

    fn encode(&mut self, run: RunId, parent: Option<[u8; 32]>) {
        let (spec, state) = (self.fleet.spec(&run), self.weights.get(&run).map(|weights| Arc::clone(&weights.state)));
        self.heavy.spawn_blocking(move || {
            let begun = Instant::now();
            let result = guarded(|| {
                let (spec, state) = (spec.ok_or("its run is gone")?, state.ok_or("its weights are gone")?);
                weights::encode(&run, &spec, &state, parent)
            });
            Done::Encoded { run, took: begun.elapsed(), result }
        });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Folded { run, result }) => {
                let result = result.map(|(state, theta, result)| {
                    if let Some(weights) = self.weights.get_mut(&run) {
                        weights.advance(state, theta);
                    }
                    result
                });
                let (now, observer) = (self.started.elapsed(), self.observer.clone());
                let phase = self.clocks.entry(run.clone()).or_default().folded(now);
                self.time(phase);
                self.traces.folded(&run, result.as_ref().err().map(String::as_str));
                self.event(Event::StepFolded { run, result });
                let handed_over = Instant::now();
                self.hold(Box::new(move |fault| {
                    if fault.is_none() {
                        observer.metrics().phase(Phase::Commit, handed_over.elapsed());
                    }
                    None
                }));
            }
            Ok(Done::Encoded { run, took, result }) => {
                self.observer.metrics().encoded(took);
                self.observer.checkpointed(&run);
                self.event(Event::CheckpointMade { run, result });
            }
            Err(error) => tracing::error!(%error, "heavy work was cancelled"),
        }
    }
}

/// Turns a panic into words, so that the run fails visibly instead of waiting for ever.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(ToString::to_string);
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(format!("panicked: {said}"))
    })
}
