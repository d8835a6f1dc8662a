//! The end of one coordinator and the beginning of the next, on what was written.

use std::sync::Arc;
use std::time::Duration;

use paceline_coordinator::machine::{Fleet, Replay, replay};
use paceline_coordinator::store::{Journal, Store, read_checkpoint};

use super::{FakeWeights, SETTINGS, World};

impl World {
    /// The coordinator dies; what was not written is gone; a new one starts on what was.
    pub(super) fn crash(&mut self) {
        if !self.queue.is_empty() && !self.held.is_empty() {
            self.seen.note("crash with work in flight");
        }
        self.queue.clear();
        self.held.clear();
        self.heavy.clear();
        self.askers.clear();
        self.reports.clear();
        self.workers.iter_mut().for_each(|worker| worker.waiting = None);
        self.lives += 1;
        (self.persisted, self.written) = (0, 0);
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        let (journal, stored) = Journal::open(Arc::clone(&store)).unwrap();
        assert_eq!(stored.epoch, self.lives, "the epoch grows at every start");
        self.journal = journal;
        let run = stored.runs.into_iter().next().unwrap();
        let seen = self.thetas.keys().next_back().copied().unwrap_or(0);
        assert!(run.standing.outer_step >= seen, "CK-2: step {seen} was seen, {} is stored", run.standing.outer_step);
        if let Some(Replay { from, to }) = Replay::of(&run).unwrap() {
            let base = run.checkpoints.iter().rev().find(|info| info.outer_step <= from);
            let begin = match base {
                Some(info) => {
                    FakeWeights::decode(&read_checkpoint(&*store, 0, &run.record.run, info.outer_step).unwrap())
                }
                None => FakeWeights::initial(),
            };
            assert!(begin.outer_step >= run.standing.journal_from);
            let start = begin.outer_step;
            let rebuilt = replay(&run, start, begin, |weights, step, contributions| {
                self.check_folded(step, contributions);
                Ok(weights.fold(contributions))
            });
            self.weights = rebuilt.unwrap();
            assert_eq!(self.weights.outer_step, to);
            assert_eq!(self.weights.hash(), run.standing.theta_hash, "CK-2: rebuilt bit by bit");
            if start < to {
                self.seen.note("folded again after a crash");
            }
        }
        let (fleet, effects) = Fleet::restored(SETTINGS, stored.epoch, vec![(run, None)]).unwrap();
        self.fleet = fleet;
        self.now = Duration::ZERO;
        self.perform(effects);
    }
}
