//! Evaluations as keys and values. Each entry of the mixture has a value of its own, so that none grows past what sled
//! keeps well, however many families a mixture has.

use std::collections::BTreeSet;

use paceline_optimizer_core::ThetaHash;
use paceline_proto::model::{ContenderCurve, Evaluation, FamilyCurves, Quartiles};
use prost::Message;

use super::{Change, Store, StoreError, keys};
use crate::machine::RunOrder;

#[derive(Clone, PartialEq, Message)]
struct HeadMessage {
    #[prost(bytes = "vec", tag = "1")]
    theta_hash: Vec<u8>,
    #[prost(uint64, tag = "2")]
    recorded_at_ms: u64,
    #[prost(uint32, tag = "3")]
    seeds: u32,
    #[prost(uint32, repeated, tag = "4")]
    ends: Vec<u32>,
    #[prost(uint32, tag = "5")]
    families: u32,
}

#[derive(Clone, PartialEq, Message)]
struct CurvesMessage {
    #[prost(string, tag = "1")]
    family: String,
    #[prost(message, repeated, tag = "2")]
    contenders: Vec<ContenderMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ContenderMessage {
    #[prost(string, tag = "1")]
    name: String,
    /// Bits of lower quartile, median and upper quartile, span by span.
    #[prost(fixed32, repeated, tag = "2")]
    losses: Vec<u32>,
}

/// All pairs of an evaluation. One of the same checkpoint has the same keys.
pub(super) fn writing(run: RunOrder, evaluation: &Evaluation) -> Vec<Change> {
    let head = HeadMessage {
        theta_hash: evaluation.theta_hash.0.to_vec(),
        recorded_at_ms: evaluation.recorded_at_ms,
        seeds: evaluation.seeds,
        ends: evaluation.ends.clone(),
        families: evaluation.families.len() as u32,
    };
    let step = evaluation.outer_step;
    let head = Change::Put(keys::of_step(keys::EVALUATIONS, run, step), head.encode_to_vec());
    let curves = (0..).zip(&evaluation.families).map(|(entry, family)| {
        let contenders = family.contenders.iter().map(contender_message).collect();
        let message = CurvesMessage { family: family.family.clone(), contenders };
        Change::Put(keys::curves(run, step, entry), message.encode_to_vec())
    });
    std::iter::once(head).chain(curves).collect()
}

fn contender_message(contender: &ContenderCurve) -> ContenderMessage {
    let bits = |q: &Quartiles| [q.lower, q.median, q.upper].map(f32::to_bits);
    ContenderMessage { name: contender.name.clone(), losses: contender.losses.iter().flat_map(bits).collect() }
}

/// Outer steps of a run's checkpoints that have an evaluation.
pub(super) fn evaluated(store: &dyn Store, run: RunOrder) -> Result<BTreeSet<u64>, StoreError> {
    let (from, to) = (keys::of_run(keys::EVALUATIONS, run), keys::of_run(keys::EVALUATIONS, run + 1));
    let step = |key: &Vec<u8>| {
        keys::number(key, 8).ok_or_else(|| StoreError::damaged("key of an evaluation", "it is cut short"))
    };
    store.keys(&from, &to)?.iter().map(step).collect()
}

/// Those of these evaluations of a run that are stored, in the order asked for.
///
/// # Errors
/// [`StoreError::Damaged`], [`StoreError::Io`].
pub fn read_evaluations(
    store: &dyn Store,
    run: RunOrder,
    steps: impl IntoIterator<Item = u64>,
) -> Result<Vec<Evaluation>, StoreError> {
    let mut found = Vec::new();
    for step in steps {
        if let Some(head) = store.get(&keys::of_step(keys::EVALUATIONS, run, step))? {
            found.push(read(store, run, step, &head)?);
        }
    }
    Ok(found)
}

fn read(store: &dyn Store, run: RunOrder, outer_step: u64, head: &[u8]) -> Result<Evaluation, StoreError> {
    let damaged = |reason: &str| StoreError::damaged(format!("evaluation of step {outer_step}"), reason);
    let head = HeadMessage::decode(head).map_err(|error| damaged(&error.to_string()))?;
    let theta_hash = head.theta_hash.try_into().map_err(|_| damaged("its theta hash is not 32 bytes long"))?;
    let family = |entry| {
        let bytes = store.get(&keys::curves(run, outer_step, entry))?;
        let bytes = bytes.ok_or_else(|| damaged("the curves of a family are missing"))?;
        let message = CurvesMessage::decode(&bytes[..]).map_err(|error| damaged(&error.to_string()))?;
        let contender = |contender: ContenderMessage| {
            let (triples, []) = contender.losses.as_chunks::<3>() else { return Err(damaged("a span is cut short")) };
            if triples.len() != head.ends.len() {
                return Err(damaged("it does not have one loss a span"));
            }
            let quartiles = |bits: &[u32; 3]| {
                let [lower, median, upper] = bits.map(f32::from_bits);
                Quartiles { lower, median, upper }
            };
            Ok(ContenderCurve { name: contender.name, losses: triples.iter().map(quartiles).collect() })
        };
        let contenders = message.contenders.into_iter().map(contender).collect::<Result<_, _>>()?;
        Ok(FamilyCurves { family: message.family, contenders })
    };
    Ok(Evaluation {
        outer_step,
        theta_hash: ThetaHash(theta_hash),
        recorded_at_ms: head.recorded_at_ms,
        seeds: head.seeds,
        families: (0..head.families).map(family).collect::<Result<_, StoreError>>()?,
        ends: head.ends,
    })
}
