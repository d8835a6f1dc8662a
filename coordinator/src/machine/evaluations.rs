//! Evaluations of a run's checkpoints: computed by whoever has the time, kept here beside what they are of.
//!
//! The coordinator cannot repeat an evaluation, but it can tell what it is of: it takes only those of a checkpoint that it
//! keeps, with that checkpoint's theta, on the run's own mixture. An evaluation outlives its checkpoint.

use std::sync::Arc;

use paceline_proto::fault::{Fault, FieldFault};
use paceline_proto::model::Evaluation;

use super::meta_run::MetaRun;
use super::outbox::Outbox;
use super::record::Record;

/// Evaluations kept of a run: those of the newest checkpoints.
const KEPT: usize = 16;

impl MetaRun {
    /// Keeps an evaluation, in place of an earlier one of the same checkpoint.
    pub(super) fn evaluated(&mut self, evaluation: Arc<Evaluation>, out: &mut Outbox) -> Result<(), Fault> {
        let outer_step = evaluation.outer_step;
        let invalid = |field: &str, reason: String| {
            let field = format!("evaluation.{field}");
            Err(Fault::FieldsInvalid(vec![FieldFault { field, reason }]))
        };
        let checkpoint = self
            .checkpoints
            .iter()
            .find(|info| info.outer_step == outer_step)
            .ok_or_else(|| Fault::CheckpointNotFound { run: self.id().clone(), outer_step: Some(outer_step) })?;
        if checkpoint.theta_hash != evaluation.theta_hash {
            let (wanted, got) = (checkpoint.theta_hash, evaluation.theta_hash);
            return invalid("theta_hash", format!("is that of the checkpoint, {wanted}, got {got}"));
        }
        let (wanted, got): (Vec<&str>, Vec<&str>) = (
            self.spec().tasks.iter().map(|task| task.family.as_str()).collect(),
            evaluation.families.iter().map(|curves| curves.family.as_str()).collect(),
        );
        if wanted != got {
            return invalid("families", format!("are those of the run's mixture, {wanted:?}, got {got:?}"));
        }
        let oldest = self.evaluations.first().copied();
        if self.evaluations.len() >= KEPT && !self.evaluations.contains(&outer_step) {
            if oldest.is_some_and(|oldest| outer_step < oldest) {
                return invalid("outer_step", format!("{KEPT} evaluations of later checkpoints are kept, and no more"));
            }
            self.evaluations.pop_first();
            out.records.extend(oldest.map(|outer_step| Record::DropEvaluation { run: self.order(), outer_step }));
        }
        self.evaluations.insert(outer_step);
        out.records.push(Record::Evaluation(self.order(), evaluation));
        Ok(())
    }
}
