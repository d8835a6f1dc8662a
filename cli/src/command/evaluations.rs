//! `paceline run evaluations`: how checkpoints of a run train held-out tasks.

use paceline_proto::model::{ContenderCurve, Evaluation, RunId};
use serde_json::{Value, json};

use crate::console::Console;
use crate::evaluation::table::plain;

/// Tells of evaluations, newest checkpoint first.
pub(crate) fn show(run: &RunId, evaluations: &[Evaluation], console: Console) {
    console.emit(&json!({"run": run, "evaluations": evaluations.iter().map(object).collect::<Vec<_>>()}));
    if evaluations.is_empty() {
        return console.say("no evaluations yet: `paceline eval CHECKPOINT --record` makes one");
    }
    let headings = ["outer step", "family", "optimizer", "first quartile", "median", "third quartile"];
    let mut table = plain(&headings);
    for evaluation in evaluations {
        for family in &evaluation.families {
            for contender in &family.contenders {
                let Some(last) = contender.losses.last() else { continue };
                let step = evaluation.outer_step.to_string();
                let numbers = [last.lower, last.median, last.upper].map(|loss| format!("{loss:.4}"));
                let names = [step, family.family.clone(), contender.name.clone()];
                table.add_row(names.into_iter().chain(numbers));
            }
        }
    }
    console.say(format!("training loss at the end, over held-out tasks\n{table}"));
}

fn object(evaluation: &Evaluation) -> Value {
    let families = evaluation.families.iter().map(|family| {
        let contenders: Vec<Value> = family.contenders.iter().map(contender).collect();
        json!({"family": family.family, "contenders": contenders})
    });
    json!({"outer_step": evaluation.outer_step, "theta_hash": evaluation.theta_hash.to_string(),
           "recorded_at_ms": evaluation.recorded_at_ms, "seeds": evaluation.seeds, "ends": evaluation.ends,
           "families": families.collect::<Vec<Value>>()})
}

fn contender(contender: &ContenderCurve) -> Value {
    let of =
        |value: fn(&paceline_proto::model::Quartiles) -> f32| contender.losses.iter().map(value).collect::<Vec<_>>();
    json!({"name": contender.name, "lower": of(|q| q.lower), "median": of(|q| q.median), "upper": of(|q| q.upper)})
}
