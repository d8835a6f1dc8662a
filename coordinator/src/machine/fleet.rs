//! All runs and all workers: where events arrive and effects leave.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use paceline_proto::PROTOCOL;
use paceline_proto::client::Created;
use paceline_proto::fault::Fault;
use paceline_proto::model::{
    CheckpointInfo, HeartbeatAnswer, LeaseKey, Registered, Registration, RunId, RunSpec, RunState, RunStatus,
    Submission, WorkerId,
};

use super::event::{Answer, Effect, Event, Grant, Moment, RunRequest, Ticket};
use super::fact::{DeviceClass, Fact};
use super::meta_run::{MetaRun, Terms, Want};
use super::outbox::{Outbox, StateAnswer};
use super::record::{Record, RunOrder, RunRecord, StoredRun};
use super::roster::Roster;

/// Times everyone keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a lease lives without a heartbeat. A worker silent for twice as long is forgotten.
    pub lease_ttl: Duration,
    /// How often workers are asked for a heartbeat.
    pub heartbeat: Duration,
}

/// A worker in a long poll.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    ticket: Ticket,
    want: Want,
}

impl Waiter {
    fn is_of(&self, worker: &WorkerId) -> bool {
        self.want.worker == *worker
    }
}

/// The state of a coordinator.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub(super) settings: Settings,
    epoch: u64,
    pub(super) roster: Roster,
    /// In order of creation; a run's order is its index.
    pub(super) runs: Vec<MetaRun>,
    by_id: HashMap<RunId, usize>,
    by_request: HashMap<String, usize>,
    pub(super) waiters: VecDeque<Waiter>,
    shutting_down: bool,
    /// What heartbeats changed; stored with the next event.
    backlog: Outbox,
    /// The state of each run last shown, without what rarely changes.
    shown: Vec<Option<RunState>>,
}

impl Fleet {
    /// A coordinator in its `epoch`th life with the runs of its earlier ones, in order of creation. A run that could not
    /// be rebuilt comes with the problem and is failed. The effects must be performed.
    ///
    /// # Errors
    /// If a stored spec cannot be planned, in words.
    pub fn restored(
        settings: Settings,
        epoch: u64,
        stored: Vec<(StoredRun, Option<String>)>,
    ) -> Result<(Self, Vec<Effect>), String> {
        let mut fleet = Self {
            settings,
            epoch,
            roster: Roster::default(),
            runs: Vec::new(),
            by_id: HashMap::new(),
            by_request: HashMap::new(),
            waiters: VecDeque::new(),
            shutting_down: false,
            backlog: Outbox::default(),
            shown: Vec::new(),
        };
        let mut out = Outbox::default();
        for (mut run, problem) in stored {
            debug_assert_eq!(run.record.order, fleet.runs.len() as RunOrder, "runs are stored in order");
            if let Some(reason) = problem {
                run.standing.status = RunStatus::Failed { reason };
                out.touched.insert(run.record.order);
            }
            let mut run = MetaRun::restored(run, Duration::ZERO, settings.lease_ttl)?;
            out.shown.insert(run.order());
            run.proceed(&mut out);
            fleet.adopt(run);
        }
        let effects = fleet.finish(out);
        Ok((fleet, effects))
    }

    fn adopt(&mut self, run: MetaRun) {
        let index = self.runs.len();
        self.by_id.insert(run.id().clone(), index);
        if !run.record.request_id.is_empty() {
            self.by_request.insert(run.record.request_id.clone(), index);
        }
        self.shown.push(None);
        self.runs.push(run);
    }

    /// Takes one event and answers what is to be done about it, in order.
    pub fn handle(&mut self, event: Event, moment: &mut Moment<'_>) -> Vec<Effect> {
        let mut out = std::mem::take(&mut self.backlog);
        match event {
            Event::Registered { ticket, registration } => {
                let answer = self.register(registration, moment.now, &mut out);
                out.opened |= answer.is_ok();
                out.answer(ticket, answer);
            }
            Event::LeaseWanted { ticket, worker, holdings } => {
                let want = Want { worker, holdings, since: moment.now };
                self.lease_wanted(ticket, want, moment, &mut out);
            }
            Event::WaitOver { ticket } => {
                if self.stop_waiting(ticket) {
                    out.answer(ticket, Ok(Answer::Lease(None)));
                }
            }
            Event::CallerGone { ticket } => {
                self.stop_waiting(ticket);
            }
            Event::Submitted { ticket, submission, digest } => {
                let answer = self.submitted(submission, digest, moment, &mut out);
                out.answer(ticket, answer);
            }
            Event::Released { ticket, worker, leases } => {
                let released = self.released(&worker, &leases, moment.now, &mut out);
                if let Some(ticket) = ticket {
                    out.answer(ticket, Ok(Answer::Released(released)));
                }
            }
            Event::RunWanted { ticket, request } => {
                if let Err(fault) = self.run_wanted(ticket, *request, moment, &mut out) {
                    out.answer(ticket, Err(fault));
                }
            }
            Event::PauseWanted { ticket, run } => self.set_status(ticket, &run, RunStatus::Paused, &mut out),
            Event::ResumeWanted { ticket, run } => self.set_status(ticket, &run, RunStatus::Running, &mut out),
            Event::StopWanted { ticket, run } => self.stop_wanted(ticket, &run, &mut out),
            Event::Evaluated { ticket, run, evaluation } => {
                let recorded = self.find_mut(&run).and_then(|run| run.evaluated(evaluation, &mut out));
                out.answer(ticket, recorded.map(|()| Answer::Recorded));
            }
            Event::StepFolded { run, result } => {
                if let Ok(run) = self.find_mut(&run) {
                    run.folded(result, &mut out);
                }
            }
            Event::CheckpointMade { run, result } => {
                if let Ok(run) = self.find_mut(&run) {
                    run.checkpointed(result, &mut out);
                }
            }
            Event::Tick => self.tick(moment.now, &mut out),
            Event::ShutDown => self.shut_down(&mut out),
        }
        if out.opened {
            self.serve_waiters(moment, &mut out);
        }
        self.finish(out)
    }

    /// Renews leases and tells what to do with each. Stores nothing, so that it never waits; what it changed is stored
    /// with the next event.
    ///
    /// # Errors
    /// [`Fault::Deposed`] if the worker has seen a newer coordinator.
    pub fn heartbeat(
        &mut self,
        worker: &WorkerId,
        leases: &[LeaseKey],
        epoch: u64,
        inner_steps: u64,
        now: Duration,
    ) -> Result<HeartbeatAnswer, Fault> {
        if epoch > self.epoch {
            return Err(Fault::Deposed { ours: self.epoch, seen: epoch });
        }
        let known = self.roster.seen(worker, now);
        let deadline = now + self.settings.lease_ttl;
        let mut out = std::mem::take(&mut self.backlog);
        if let Some(since) = self.roster.beat(worker, now, inner_steps) {
            out.facts.push(Fact::HeartbeatLate(since.saturating_sub(self.settings.heartbeat)));
        }
        let directives = leases
            .iter()
            .map(|key| match self.find_mut(&key.run) {
                Ok(run) => run.directive(worker, key, deadline, &mut out),
                Err(_) => paceline_proto::model::Directive::Cancel,
            })
            .collect();
        self.backlog = out;
        Ok(HeartbeatAnswer { epoch: self.epoch, directives, known })
    }

    /// Where a run stands.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`].
    pub fn state(&self, run: &RunId) -> Result<RunState, Fault> {
        Ok(self.find(run)?.state(&self.roster))
    }

    /// Where all runs stand, newest first.
    pub fn states(&self) -> Vec<RunState> {
        self.runs.iter().rev().map(|run| run.state(&self.roster)).collect()
    }

    /// Checkpoints of a run, newest first.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`].
    pub fn checkpoints(&self, run: &RunId) -> Result<Vec<CheckpointInfo>, Fault> {
        Ok(self.find(run)?.checkpoints.iter().rev().cloned().collect())
    }

    /// The place of a run in the store, and the outer steps of its checkpoints whose evaluations are kept.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`].
    pub fn evaluations(&self, run: &RunId) -> Result<(RunOrder, BTreeSet<u64>), Fault> {
        let run = self.find(run)?;
        Ok((run.order(), run.evaluations.clone()))
    }

    /// What a run is.
    pub fn spec(&self, run: &RunId) -> Option<RunSpec> {
        self.find(run).ok().map(|run| run.spec().clone())
    }

    /// The place of a run in order of creation.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`].
    pub fn order(&self, run: &RunId) -> Result<RunOrder, Fault> {
        Ok(self.find(run)?.order())
    }

    /// Whether nothing is under way outside: no fold and no checkpoint.
    pub fn is_quiet(&self) -> bool {
        self.runs.iter().all(MetaRun::is_quiet)
    }

    /// Number of this life of the coordinator.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Live workers, and the inner steps they have trained since each started.
    pub fn workers(&self) -> (u32, u64) {
        (self.roster.live(), self.roster.inner_steps())
    }

    fn find(&self, run: &RunId) -> Result<&MetaRun, Fault> {
        let index = self.by_id.get(run).ok_or_else(|| Fault::RunNotFound { run: run.to_string() })?;
        Ok(&self.runs[*index])
    }

    fn find_mut(&mut self, run: &RunId) -> Result<&mut MetaRun, Fault> {
        let index = self.by_id.get(run).ok_or_else(|| Fault::RunNotFound { run: run.to_string() })?;
        Ok(&mut self.runs[*index])
    }

    fn register(&mut self, registration: Registration, now: Duration, out: &mut Outbox) -> Result<Answer, Fault> {
        if registration.protocol != PROTOCOL {
            return Err(Fault::VersionUnsupported { theirs: registration.protocol, ours: PROTOCOL });
        }
        let device = DeviceClass::of(&registration.device);
        if self.roster.register(registration, now) {
            out.facts.push(Fact::WorkerJoined(device));
        }
        Ok(Answer::Registered(Registered {
            epoch: self.epoch,
            heartbeat: self.settings.heartbeat,
            lease_ttl: self.settings.lease_ttl,
        }))
    }

    fn lease_wanted(&mut self, ticket: Ticket, want: Want, moment: &mut Moment<'_>, out: &mut Outbox) {
        if self.shutting_down {
            out.answer(ticket, Err(Fault::ShuttingDown));
        } else if !self.roster.seen(&want.worker, moment.now) {
            out.answer(ticket, Err(Fault::WorkerNotFound { worker: want.worker }));
        } else {
            self.roster.holds(&want.worker, &want.holdings);
            match self.offer(&want, moment, out) {
                Some(grant) => out.answer(ticket, Ok(Answer::Lease(Some(Box::new(grant))))),
                None => self.waiters.push_back(Waiter { ticket, want }),
            }
        }
    }

    /// A lease of the oldest run that has one for this worker.
    fn offer(&mut self, want: &Want, moment: &mut Moment<'_>, out: &mut Outbox) -> Option<Grant> {
        let terms = Terms { epoch: self.epoch, ttl: self.settings.lease_ttl };
        self.runs.iter_mut().find_map(|run| run.offer(want, &self.roster, &terms, moment, out))
    }

    fn serve_waiters(&mut self, moment: &mut Moment<'_>, out: &mut Outbox) {
        let waiters = std::mem::take(&mut self.waiters);
        let now = moment.now;
        let any_open = |fleet: &Self| fleet.runs.iter().any(|run| run.may_offer(now));
        let mut open = any_open(self);
        for waiter in waiters {
            let grant = if open { self.offer(&waiter.want, moment, out) } else { None };
            match grant {
                Some(grant) => {
                    out.answer(waiter.ticket, Ok(Answer::Lease(Some(Box::new(grant)))));
                    open = any_open(self);
                }
                None => self.waiters.push_back(waiter),
            }
        }
    }

    fn stop_waiting(&mut self, ticket: Ticket) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|waiter| waiter.ticket != ticket);
        self.waiters.len() < before
    }

    fn submitted(
        &mut self,
        submission: Submission,
        digest: [u8; 32],
        moment: &mut Moment<'_>,
        out: &mut Outbox,
    ) -> Result<Answer, Fault> {
        if !self.roster.seen(&submission.worker, moment.now) {
            return Err(Fault::WorkerNotFound { worker: submission.worker });
        }
        self.roster.holds(&submission.worker, &submission.holdings);
        let want = (submission.want_lease && !self.shutting_down).then(|| Want {
            worker: submission.worker.clone(),
            holdings: submission.holdings.clone(),
            since: moment.now,
        });
        let verdict = self.find_mut(&submission.lease.run)?.submit(submission, digest, moment.now, out)?;
        let next = want.and_then(|want| self.offer(&want, moment, out)).map(Box::new);
        Ok(Answer::Submitted { verdict, next })
    }

    fn released(&mut self, worker: &WorkerId, leases: &[LeaseKey], now: Duration, out: &mut Outbox) -> u32 {
        self.roster.seen(worker, now);
        let mut released = 0;
        for key in leases {
            if let Ok(run) = self.find_mut(&key.run) {
                released += u32::from(run.release(worker, key, out));
            }
        }
        released
    }

    fn run_wanted(
        &mut self,
        ticket: Ticket,
        request: RunRequest,
        moment: &mut Moment<'_>,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if let Some(index) = self.by_request.get(&request.request_id) {
            let run = &self.runs[*index];
            if *run.spec() != request.spec {
                return Err(Fault::RequestIdReused { request_id: request.request_id });
            }
            out.state_answers.push((ticket, run.order(), StateAnswer::Created(false)));
            return Ok(());
        }
        if request.resume_unfinished
            && let Some(order) = self.unfinished(&request.spec)
        {
            out.state_answers.push((ticket, order, StateAnswer::Created(true)));
            return Ok(());
        }
        if self.shutting_down {
            return Err(Fault::ShuttingDown);
        }
        let bits = (moment.random)();
        let suffix = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
        let suffix = if request.validate_only { 0 } else { suffix };
        let id: RunId = format!("{}-{suffix:08x}", request.spec.name)
            .parse()
            .map_err(|error| Fault::Internal { reason: format!("run id: {error}") })?;
        if self.by_id.contains_key(&id) {
            return Err(Fault::Overloaded { retry_after: Duration::ZERO }); // one in 2³²: asking again draws another id
        }
        let record = RunRecord {
            order: self.runs.len() as RunOrder,
            run: id.clone(),
            spec: request.spec,
            costs: request.costs,
            request_id: request.request_id,
            theta_size: request.theta_size,
        };
        let mut run = MetaRun::new(record, request.theta_hash).map_err(|reason| Fault::Internal { reason })?;
        if request.validate_only {
            let state = run.state(&self.roster);
            out.answer(ticket, Ok(Answer::Created(Box::new(Created { state, resumed: false }))));
            return Ok(());
        }
        out.store(run.order(), Record::Run(run.record.clone()));
        out.effects.push(Effect::Adopt { ticket, run: id });
        out.state_answers.push((ticket, run.order(), StateAnswer::Created(false)));
        out.show(run.order());
        run.proceed(out);
        self.adopt(run);
        out.opened = true;
        Ok(())
    }

    fn unfinished(&self, spec: &RunSpec) -> Option<RunOrder> {
        let unfinished = |run: &&MetaRun| !run.status.is_final() && run.ending.is_none() && run.spec() == spec;
        self.runs.iter().rev().find(unfinished).map(MetaRun::order)
    }

    fn set_status(&mut self, ticket: Ticket, run: &RunId, status: RunStatus, out: &mut Outbox) {
        match self.find_mut(run) {
            Err(fault) => out.answer(ticket, Err(fault)),
            Ok(run) if run.status.is_final() => out.answer(ticket, Err(run.finished())),
            Ok(run) => {
                run.status = status;
                out.show(run.order());
                out.opened = true;
                out.state_answers.push((ticket, run.order(), StateAnswer::Plain));
            }
        }
    }

    fn stop_wanted(&mut self, ticket: Ticket, run: &RunId, out: &mut Outbox) {
        match self.find_mut(run) {
            Err(fault) => out.answer(ticket, Err(fault)),
            Ok(run) if run.status.is_final() => {
                out.state_answers.push((ticket, run.order(), StateAnswer::Plain));
            }
            Ok(run) => {
                run.end_waiters.push(ticket);
                run.end(RunStatus::Stopped, out);
            }
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Outbox) {
        let silent = self.roster.drop_silent(now, self.settings.lease_ttl * 2);
        out.facts.extend(silent.iter().map(|(_, device)| Fact::WorkerLost(*device)));
        let is_gone = |waiter: &Waiter| silent.iter().any(|(worker, _)| waiter.is_of(worker));
        let (gone, waiters) = std::mem::take(&mut self.waiters).into_iter().partition(is_gone);
        self.waiters = waiters;
        let gone: VecDeque<Waiter> = gone;
        for Waiter { ticket, want } in gone {
            out.answer(ticket, Err(Fault::WorkerNotFound { worker: want.worker }));
        }
        for run in &mut self.runs {
            run.expire(now, out);
        }
        out.opened = true; // a slow lease may be hedged by now
        for (run, shown) in self.runs.iter().zip(&self.shown) {
            if !run.status.is_final() && shown.as_ref() != Some(&run.state(&self.roster)) {
                out.shown.insert(run.order());
            }
        }
    }

    fn shut_down(&mut self, out: &mut Outbox) {
        self.shutting_down = true;
        for Waiter { ticket, .. } in std::mem::take(&mut self.waiters) {
            out.answer(ticket, Err(Fault::ShuttingDown));
        }
        for run in &mut self.runs {
            run.shutting_down = true;
            run.proceed(out);
        }
    }

    /// Turns what was gathered into effects: first what is stored, then what may be seen.
    fn finish(&mut self, out: Outbox) -> Vec<Effect> {
        let Outbox { mut records, effects: asked, touched, shown, state_answers, facts, opened: _ } = out;
        for order in touched {
            let run = &self.runs[order as usize];
            debug_assert!(run.is_consistent(), "LG-1 of run {}: {:?}", run.id(), run.leases.ledger());
            records.push(Record::Standing(order, run.standing()));
            if run.status.is_final() {
                self.roster.forget_run(run.id());
            }
        }
        let mut effects = Vec::with_capacity(asked.len() + state_answers.len() + 1);
        if !records.is_empty() {
            effects.push(Effect::Persist(records));
        }
        effects.extend(asked);
        for (ticket, order, kind) in state_answers {
            let state = self.runs[order as usize].state(&self.roster);
            let answer = match kind {
                StateAnswer::Created(resumed) => Answer::Created(Box::new(Created { state, resumed })),
                StateAnswer::Plain => Answer::State(Box::new(state)),
            };
            effects.push(Effect::Answer(ticket, Ok(answer)));
        }
        for order in shown {
            let state = self.runs[order as usize].state(&self.roster);
            self.shown[order as usize] = Some(state.clone());
            effects.push(Effect::Publish(Box::new(state)));
        }
        if !facts.is_empty() {
            effects.push(Effect::Note(facts));
        }
        effects
    }
}
