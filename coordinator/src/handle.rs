//! The door to a coordinator: cheap clones, typed calls.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use paceline_proto::client::Created;
use paceline_proto::fault::Fault;
use paceline_proto::model::{
    CheckpointInfo, CreateRequest, Evaluation, EvaluationReport, FoldedStep, HeartbeatAnswer, Holdings, Lease,
    LeaseKey, Registered, Registration, ResultBody, RunId, RunState, Submission, SubmissionOutcome, WorkerId,
};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::actor::{Actor, CALLS, Call, HEARTBEATS, Heartbeat, Reply};
use crate::machine::{Answer, Event, Fleet, Grant, RunRequest, Settings, Ticket};
use crate::observe::Observer;
use crate::store::{Committed, Journal, Store, StoreError, Writer, read_checkpoint, read_evaluations, read_steps};
use crate::wall_clock::now_ms;
use crate::weights;

/// Talks to a running coordinator.
#[derive(Clone, Debug)]
pub struct CoordinatorHandle {
    calls: mpsc::Sender<Call>,
    heartbeats: mpsc::Sender<Heartbeat>,
    committed: watch::Receiver<Committed>,
    store: Arc<dyn Store>,
    tickets: Arc<AtomicU64>,
    epoch: u64,
    observer: Observer,
}

/// Starts a coordinator on a store: reads what is there, rebuilds unfinished runs, and goes on with them. The join handle
/// ends after [`CoordinatorHandle::shutdown`].
///
/// # Errors
/// If the store cannot be opened or read.
pub async fn start(
    store: Arc<dyn Store>,
    settings: Settings,
) -> Result<(CoordinatorHandle, JoinHandle<()>), StoreError> {
    start_seen(store, settings, Observer::default()).await
}

/// [`start`] that lets an observer see.
///
/// # Errors
/// As [`start`].
pub(crate) async fn start_seen(
    store: Arc<dyn Store>,
    settings: Settings,
    observer: Observer,
) -> Result<(CoordinatorHandle, JoinHandle<()>), StoreError> {
    let seeing = observer.clone();
    observer.watch_store(&store);
    let opening = Arc::clone(&store);
    let open = move || {
        let (journal, stored) = Journal::open(Arc::clone(&opening))?;
        let mut weights = HashMap::new();
        let mut runs = Vec::new();
        for run in stored.runs {
            let problem = match weights::rebuild(&run, &*opening) {
                Ok(rebuilt) => {
                    weights.extend(rebuilt.map(|rebuilt| (run.record.run.clone(), rebuilt)));
                    None
                }
                Err(reason) => {
                    tracing::error!(run = %run.record.run, %reason, "a run cannot go on");
                    Some(reason)
                }
            };
            runs.push((run, problem));
        }
        let (fleet, effects) = Fleet::restored(settings, stored.epoch, runs)
            .map_err(|reason| StoreError::Damaged { what: "a run's recipe".to_owned(), reason })?;
        let writer = Writer::start_seen(journal, seeing.clone())?;
        Ok((writer, Actor::new(fleet, weights, seeing), effects, stored.epoch))
    };
    let (writer, actor, effects, epoch) =
        spawn_blocking(open).await.map_err(|error| StoreError::Io { reason: format!("open the store: {error}") })??;
    let (calls, called) = mpsc::channel(CALLS);
    let (heartbeats, beaten) = mpsc::channel(HEARTBEATS);
    let handle = CoordinatorHandle {
        calls,
        heartbeats,
        committed: writer.committed.clone(),
        store,
        tickets: Arc::new(AtomicU64::new(0)),
        epoch,
        observer,
    };
    let actor = tokio::spawn(actor.run(effects, called, beaten, writer));
    Ok((handle, actor))
}

impl CoordinatorHandle {
    /// Number of this start of the coordinator on its store.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where its calls are counted.
    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Whether calls can be served.
    ///
    /// # Errors
    /// [`Fault::StoreReadOnly`], [`Fault::ShuttingDown`].
    pub fn ready(&self) -> Result<(), Fault> {
        if self.calls.is_closed() {
            return Err(Fault::ShuttingDown);
        }
        match &self.committed.borrow().broken {
            Some(reason) => Err(Fault::StoreReadOnly { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Waits until the store can no longer be written.
    pub(crate) async fn store_broke(&self) {
        let mut committed = self.committed.clone();
        if committed.wait_for(|committed| committed.broken.is_some()).await.is_err() {
            // The writer ended in order, and the coordinator with it.
            std::future::pending::<()>().await;
        }
    }

    /// The store, without keeping it open.
    pub(crate) fn store(&self) -> std::sync::Weak<dyn Store> {
        Arc::downgrade(&self.store)
    }

    /// Introduces a worker.
    ///
    /// # Errors
    /// [`Fault::VersionUnsupported`].
    pub async fn register(&self, registration: Registration) -> Result<Registered, Fault> {
        match self.ask(|ticket| Event::Registered { ticket, registration }).await? {
            Answer::Registered(registered) => Ok(registered),
            other => Err(mismatch(&other)),
        }
    }

    /// Waits for a lease; `None` after at most `wait`. Dropping the future gives up the wait.
    ///
    /// # Errors
    /// [`Fault::WorkerNotFound`], [`Fault::ShuttingDown`].
    pub async fn lease(
        &self,
        worker: WorkerId,
        wait: Duration,
        holdings: Vec<Holdings>,
    ) -> Result<Option<Lease>, Fault> {
        let ticket = self.ticket();
        let (reply, mut answer) = oneshot::channel();
        let mut guard = WaitGuard { ticket, calls: Some(self.calls.clone()) };
        self.send(Call::Event { event: Event::LeaseWanted { ticket, worker, holdings }, reply: Some((ticket, reply)) })
            .await?;
        let answer = match tokio::time::timeout(wait, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                // A lease may be on its way already: the machine says which came first.
                self.send(Call::Event { event: Event::WaitOver { ticket }, reply: None }).await?;
                answer.await
            }
        };
        guard.calls = None; // answered: there is no wait left to give up
        match answer.map_err(|_| Fault::ShuttingDown)?? {
            Answer::Lease(grant) => Ok(grant.map(into_lease)),
            other => Err(mismatch(&other)),
        }
    }

    /// Renews leases and learns what to do with each, on a lane of its own: it never waits for folds or the disk.
    ///
    /// # Errors
    /// [`Fault::Deposed`], [`Fault::Overloaded`] when far too many heartbeats wait.
    pub async fn heartbeat(
        &self,
        worker: WorkerId,
        leases: Vec<LeaseKey>,
        epoch: u64,
        inner_steps: u64,
    ) -> Result<HeartbeatAnswer, Fault> {
        let (reply, answer) = oneshot::channel();
        self.heartbeats.try_send(Heartbeat { worker, leases, epoch, inner_steps, reply }).map_err(
            |error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    self.observer.metrics().shed("heartbeat");
                    Fault::Overloaded { retry_after: Duration::from_secs(1) }
                }
                mpsc::error::TrySendError::Closed(_) => Fault::ShuttingDown,
            },
        )?;
        answer.await.map_err(|_| Fault::ShuttingDown)?
    }

    /// Reports a lease; durable when it answers.
    ///
    /// # Errors
    /// What [`Fault`] says of results, leases, workers and runs.
    pub async fn submit(&self, submission: Submission) -> Result<SubmissionOutcome, Fault> {
        let (submission, digest) = match submission.body {
            // Hashing megabytes takes milliseconds: not on a thread of the runtime.
            ResultBody::Dense { .. } => spawn_blocking(move || {
                let digest = result_digest(&submission);
                (submission, digest)
            })
            .await
            .map_err(|error| Fault::Internal { reason: format!("hash a result: {error}") })?,
            ResultBody::SeedCoded(_) | ResultBody::Failure { .. } => {
                let digest = result_digest(&submission);
                (submission, digest)
            }
        };
        match self.ask(|ticket| Event::Submitted { ticket, submission, digest }).await? {
            Answer::Submitted { verdict, next } => Ok(SubmissionOutcome { verdict, next: next.map(into_lease) }),
            other => Err(mismatch(&other)),
        }
    }

    /// Hands leases back; answers how many the worker held.
    ///
    /// # Errors
    /// [`Fault::StoreReadOnly`], [`Fault::ShuttingDown`].
    pub async fn release(&self, worker: WorkerId, leases: Vec<LeaseKey>) -> Result<u32, Fault> {
        match self.ask(|ticket| Event::Released { ticket: Some(ticket), worker, leases }).await? {
            Answer::Released(count) => Ok(count),
            other => Err(mismatch(&other)),
        }
    }

    /// One version of theta as little-endian f32.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`], [`Fault::ThetaNotFound`].
    pub async fn theta(&self, run: RunId, version: u64) -> Result<Bytes, Fault> {
        self.call(|reply| Call::Theta { run, version, reply }).await
    }

    /// Creates a run, or answers the one this request or an equal spec made before.
    ///
    /// # Errors
    /// [`Fault::FieldsInvalid`] naming each field, [`Fault::RequestIdReused`].
    pub async fn create(&self, request: CreateRequest) -> Result<Created, Fault> {
        let CreateRequest { spec, costs, request_id, validate_only, resume_unfinished } = request;
        // A curriculum is checked at every outer step of its run: not on a thread of the runtime.
        let check = move || spec.validate().map(|()| spec);
        let spec = spawn_blocking(check)
            .await
            .map_err(|error| Fault::Internal { reason: format!("check the recipe: {error}") })?
            .map_err(Fault::FieldsInvalid)?;
        let begin = move || weights::initial(&spec).map(|state| (spec, state.theta.hash(), state));
        let (spec, theta_hash, state) = spawn_blocking(begin)
            .await
            .map_err(|error| Fault::Internal { reason: format!("draw the first theta: {error}") })?
            .map_err(|reason| Fault::Internal { reason: format!("draw the first theta: {reason}") })?;
        let theta_size = state.theta.values().len();
        let request =
            Box::new(RunRequest { spec, costs, request_id, resume_unfinished, validate_only, theta_size, theta_hash });
        let ticket = self.ticket();
        let event = Event::RunWanted { ticket, request };
        match self.call(|reply| Call::Create { event, ticket, state: Box::new(state), reply }).await? {
            Answer::Created(created) => Ok(*created),
            other => Err(mismatch(&other)),
        }
    }

    /// Where a run stands.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`].
    pub async fn get(&self, run: RunId) -> Result<RunState, Fault> {
        self.call(|reply| Call::State { run, reply }).await
    }

    /// Where all runs stand, newest first.
    ///
    /// # Errors
    /// [`Fault::StoreReadOnly`], [`Fault::ShuttingDown`].
    pub async fn list(&self) -> Result<Vec<RunState>, Fault> {
        self.call(|reply| Call::States { reply }).await
    }

    /// The state of a run now and as it changes.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`].
    pub async fn watch(&self, run: RunId) -> Result<watch::Receiver<RunState>, Fault> {
        self.call(|reply| Call::Watch { run, reply }).await
    }

    /// Folded steps of a run between two, both included, as many as `most` and evenly spread; the run's last folded one is
    /// always among them where it lies between. Steps folded before the store kept them are left out.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`], [`Fault::StoreReadOnly`] if the store cannot be read.
    pub async fn steps(&self, run: RunId, between: RangeInclusive<u64>, most: usize) -> Result<Vec<FoldedStep>, Fault> {
        // What a state tells is durable, so all its steps are.
        let state = self.get(run.clone()).await?;
        let (order, _) = self.call(|reply| Call::Checkpoints { run, reply }).await?;
        let steps = spread(*between.start().max(&1), *between.end().min(&state.outer_step), most);
        let store = Arc::clone(&self.store);
        spawn_blocking(move || read_steps(&*store, order, steps))
            .await
            .map_err(|error| Fault::Internal { reason: format!("read folded steps: {error}") })?
            .map_err(|error| error.to_fault())
    }

    /// Gives no more leases of the run until it is resumed.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`], [`Fault::RunFinished`].
    pub async fn pause(&self, run: RunId) -> Result<RunState, Fault> {
        self.change(|ticket| Event::PauseWanted { ticket, run }).await
    }

    /// Goes on with a paused run.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`], [`Fault::RunFinished`].
    pub async fn resume(&self, run: RunId) -> Result<RunState, Fault> {
        self.change(|ticket| Event::ResumeWanted { ticket, run }).await
    }

    /// Ends a run; answers after its last checkpoint.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`].
    pub async fn stop(&self, run: RunId) -> Result<RunState, Fault> {
        self.change(|ticket| Event::StopWanted { ticket, run }).await
    }

    /// Keeps an evaluation of a checkpoint; durable when it answers.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`], [`Fault::CheckpointNotFound`], [`Fault::FieldsInvalid`] if it is not of that checkpoint.
    pub async fn record_evaluation(&self, report: EvaluationReport) -> Result<(), Fault> {
        let EvaluationReport { run, mut evaluation } = report;
        evaluation.recorded_at_ms = now_ms();
        let evaluation = Arc::new(evaluation);
        match self.ask(|ticket| Event::Evaluated { ticket, run, evaluation }).await? {
            Answer::Recorded => Ok(()),
            other => Err(mismatch(&other)),
        }
    }

    /// Evaluations of a run's checkpoints that are kept, newest checkpoint first.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`], [`Fault::StoreReadOnly`] if the store cannot be read.
    pub async fn evaluations(&self, run: RunId) -> Result<Vec<Evaluation>, Fault> {
        let (order, steps) = self.call(|reply| Call::Evaluations { run, reply }).await?;
        let store = Arc::clone(&self.store);
        spawn_blocking(move || read_evaluations(&*store, order, steps.into_iter().rev()))
            .await
            .map_err(|error| Fault::Internal { reason: format!("read evaluations: {error}") })?
            .map_err(|error| error.to_fault())
    }

    /// Checkpoints of a run, newest first.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`].
    pub async fn checkpoints(&self, run: RunId) -> Result<Vec<CheckpointInfo>, Fault> {
        self.call(|reply| Call::Checkpoints { run, reply }).await.map(|(_, infos)| infos)
    }

    /// A checkpoint's file, checked; the newest if `outer_step` is `None`.
    ///
    /// # Errors
    /// [`Fault::RunNotFound`], [`Fault::CheckpointNotFound`], [`Fault::CheckpointCorrupt`].
    pub async fn checkpoint(&self, run: RunId, outer_step: Option<u64>) -> Result<(CheckpointInfo, Bytes), Fault> {
        let asked = run.clone();
        let (order, infos) = self.call(|reply| Call::Checkpoints { run: asked, reply }).await?;
        let info = infos
            .into_iter()
            .find(|info| outer_step.is_none_or(|wanted| wanted == info.outer_step))
            .ok_or_else(|| Fault::CheckpointNotFound { run: run.clone(), outer_step })?;
        let (store, step) = (Arc::clone(&self.store), info.outer_step);
        let bytes = spawn_blocking(move || read_checkpoint(&*store, order, &run, step))
            .await
            .map_err(|error| Fault::Internal { reason: format!("read a checkpoint: {error}") })??;
        Ok((info, bytes.into()))
    }

    /// Ends the coordinator: no new leases, a last checkpoint of every unfinished run, everything flushed. Returns when
    /// all is done.
    pub async fn shutdown(&self) {
        // If the actor is gone already, so is the work.
        let _ = self.calls.send(Call::Event { event: Event::ShutDown, reply: None }).await;
        self.calls.closed().await;
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    async fn send(&self, call: Call) -> Result<(), Fault> {
        self.calls.send(call).await.map_err(|_| Fault::ShuttingDown)
    }

    async fn call<T>(&self, call: impl FnOnce(Reply<T>) -> Call) -> Result<T, Fault> {
        let (reply, answer) = oneshot::channel();
        self.send(call(reply)).await?;
        answer.await.map_err(|_| Fault::ShuttingDown)?
    }

    async fn ask(&self, event: impl FnOnce(Ticket) -> Event) -> Result<Answer, Fault> {
        let ticket = self.ticket();
        let event = event(ticket);
        self.call(|reply| Call::Event { event, reply: Some((ticket, reply)) }).await
    }

    async fn change(&self, event: impl FnOnce(Ticket) -> Event) -> Result<RunState, Fault> {
        match self.ask(event).await? {
            Answer::State(state) => Ok(*state),
            other => Err(mismatch(&other)),
        }
    }
}

/// Tells the coordinator when a long poll is dropped. If its queue is full the lease comes anyway, cannot be delivered,
/// and is handed back by the actor.
struct WaitGuard {
    ticket: Ticket,
    /// `None` once the wait is over.
    calls: Option<mpsc::Sender<Call>>,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        if let Some(calls) = self.calls.take() {
            let event = Event::CallerGone { ticket: self.ticket };
            let _ = calls.try_send(Call::Event { event, reply: None });
        }
    }
}

/// At most `most` numbers from `first` to `last`, evenly spread, `last` among them; none if there is none between.
fn spread(first: u64, last: u64, most: usize) -> Vec<u64> {
    let count = (last + 1).saturating_sub(first);
    let stride = count.div_ceil(most.max(1) as u64).max(1);
    // From the end, so that the last is there whatever the stride.
    let mut numbers: Vec<u64> = (0..count.div_ceil(stride)).map(|nth| last - nth * stride).collect();
    numbers.reverse();
    numbers
}

fn into_lease(grant: Box<Grant>) -> Lease {
    grant.lease
}

fn mismatch(answer: &Answer) -> Fault {
    Fault::Internal { reason: format!("the machine answered another question: {answer:?}") }
}

/// SHA-256 of what a submission reports: equal digests mean an equal result, bit by bit.
fn result_digest(submission: &Submission) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(submission.theta_hash.0);
    hasher.update(submission.inner_steps.to_le_bytes());
    hasher.update(submission.diverged_lanes.to_le_bytes());
    match &submission.body {
        ResultBody::SeedCoded(coded) => {
            hasher.update([1]);
            for pair in &coded.pairs {
                for number in [pair.fresh, pair.carried, pair.loss_plus, pair.loss_minus] {
                    hasher.update(number.to_le_bytes());
                }
            }
        }
        ResultBody::Dense { gradient, loss } => {
            hasher.update([2]);
            hasher.update(loss.to_le_bytes());
            for value in gradient {
                hasher.update(value.to_le_bytes());
            }
        }
        ResultBody::Failure { reason } => {
            hasher.update([3]);
            hasher.update(reason.as_bytes());
        }
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_spread_evenly_and_end_with_the_last() {
        assert_eq!(spread(1, 0, 10), Vec::<u64>::new());
        assert_eq!(spread(1, 3, 10), [1, 2, 3]);
        assert_eq!(spread(1, 10, 5), [2, 4, 6, 8, 10]);
        assert_eq!(spread(4, 10, 2), [6, 10]);
        assert_eq!(spread(5, 5, 0), [5]);
        let many = spread(1, 1_000_003, 600);
        assert!(many.len() <= 600 && many.last() == Some(&1_000_003), "{}", many.len());
    }
}
