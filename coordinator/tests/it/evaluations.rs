//! Evaluations of checkpoints: kept, replaced, listed in pages, bounded, and refused where they are of something else.

use paceline_optimizer_core::ThetaHash;
use paceline_proto::model::{CheckpointInfo, Evaluation, RunId, RunSpec, RunStatus};
use paceline_proto::pb;
use tonic::Code;

use crate::cluster::{Cluster, evaluation, refused, result, spec};

const FAMILIES: &[&str] = &["image_mlp"];

/// A run of so many steps that has ended, with all its checkpoints.
async fn ended(cluster: &Cluster, steps: u64) -> (RunId, Vec<CheckpointInfo>) {
    let mut whole = serde_json::to_value(spec("judged")).unwrap();
    whole["outer"]["steps"] = steps.into();
    whole["checkpoint"]["keep"] = 40.into();
    let spec: RunSpec = serde_json::from_value(whole).unwrap();
    let run = cluster.runs.create(&spec, &[], "judged", false).await.unwrap().state.run;
    let worker = cluster.register("w1").await;
    for _ in 0..2 * steps {
        let lease = cluster.lease(&worker).await;
        cluster.workers.submit(&result(&worker, &lease)).await.unwrap();
    }
    let mut states = cluster.runs.watch(&run).await.unwrap();
    while let Some(state) = tokio_stream::StreamExt::next(&mut states).await {
        if state.unwrap().status == RunStatus::Completed {
            break;
        }
    }
    let mut checkpoints = cluster.checkpoints.list(&run).await.unwrap();
    checkpoints.reverse();
    (run, checkpoints)
}

/// What is kept, but for the time, which must be the coordinator's.
async fn kept(cluster: &Cluster, run: &RunId) -> Vec<Evaluation> {
    let mut kept = cluster.runs.evaluations(run).await.unwrap();
    for one in &mut kept {
        assert!(one.recorded_at_ms > 1_700_000_000_000, "{one:?}");
        one.recorded_at_ms = 0;
    }
    kept
}

#[tokio::test]
async fn the_newest_checkpoints_evaluations_are_kept_one_each() {
    let cluster = Cluster::start().await;
    let (run, checkpoints) = ended(&cluster, 17).await;
    assert_eq!(checkpoints.len(), 18, "step 0 and every step");
    assert_eq!(kept(&cluster, &run).await, []);
    let of = |step: usize| evaluation(&checkpoints[step], FAMILIES);
    // In any order, one of them twice with another content.
    let first = Evaluation { seeds: 9, ..of(3) };
    cluster.runs.record_evaluation(&run, &first).await.unwrap();
    assert_eq!(kept(&cluster, &run).await, [first]);
    for step in [3, 17, 2] {
        cluster.runs.record_evaluation(&run, &of(step)).await.unwrap();
    }
    assert_eq!(kept(&cluster, &run).await, [of(17), of(3), of(2)]);
    for step in 4..17 {
        cluster.runs.record_evaluation(&run, &of(step)).await.unwrap();
    }
    let newest: Vec<_> = (2..=17).rev().map(of).collect();
    assert_eq!(kept(&cluster, &run).await, newest, "sixteen fit");
    let status = cluster.runs.record_evaluation(&run, &of(1)).await;
    let status = refused(status, Code::InvalidArgument, "FIELD_INVALID");
    assert!(status.message().contains("evaluation.outer_step: 16 evaluations of later"), "{status}");
    cluster.runs.record_evaluation(&run, &of(2)).await.expect("one that is kept may be repeated");
    assert_eq!(kept(&cluster, &run).await, newest);

    let client = pb::run_service_client::RunServiceClient::new(cluster.channel.clone());
    let page = |page_token: String| {
        let request = pb::ListEvaluationsRequest { run: run.to_string(), page_size: 10, page_token };
        let mut client = client.clone();
        async move { client.list_evaluations(request).await.map(tonic::Response::into_inner) }
    };
    let steps = |page: &pb::ListEvaluationsResponse| page.evaluations.iter().map(|e| e.outer_step).collect::<Vec<_>>();
    let first = page(String::new()).await.unwrap();
    assert_eq!(steps(&first), (8..=17).rev().collect::<Vec<_>>());
    let second = page(first.next_page_token).await.unwrap();
    assert_eq!((steps(&second), second.next_page_token.as_str()), ((2..8).rev().collect(), ""));
    refused(page("made-up".into()).await, Code::InvalidArgument, "FIELD_INVALID");
}

#[tokio::test]
async fn an_evaluation_of_a_seventeenth_checkpoint_takes_the_oldest_ones_place() {
    let cluster = Cluster::start().await;
    let (run, checkpoints) = ended(&cluster, 17).await;
    for info in &checkpoints {
        cluster.runs.record_evaluation(&run, &evaluation(info, FAMILIES)).await.unwrap();
    }
    let steps: Vec<u64> = kept(&cluster, &run).await.iter().map(|one| one.outer_step).collect();
    assert_eq!(steps, (2..=17).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_not_of_a_kept_checkpoint_is_refused_and_changes_nothing() {
    let cluster = Cluster::start().await;
    let (run, checkpoints) = ended(&cluster, 2).await;
    let good = evaluation(&checkpoints[1], FAMILIES);
    let told = async |run: &str, evaluation: Evaluation, code, reason| {
        let outcome = cluster.runs.record_evaluation(&run.parse().unwrap(), &evaluation).await;
        refused(outcome, code, reason).message().to_owned()
    };
    told("nobody-1234", good.clone(), Code::NotFound, "RUN_NOT_FOUND").await;
    let missing = Evaluation { outer_step: 9, ..good.clone() };
    told(run.as_str(), missing, Code::NotFound, "CHECKPOINT_NOT_FOUND").await;
    for (evaluation, field) in [
        (Evaluation { theta_hash: ThetaHash([1; 32]), ..good.clone() }, "evaluation.theta_hash: is that of"),
        (evaluation(&checkpoints[1], &["quadratic"]), "evaluation.families: are those of"),
        (evaluation(&checkpoints[1], &[]), "evaluation.families: are those of"),
        (evaluation(&checkpoints[1], &["image_mlp"; 2]), "evaluation.families: are those of"),
        (Evaluation { seeds: 0, ..good.clone() }, "evaluation.seeds: is at least 1"),
    ] {
        let said = told(run.as_str(), evaluation, Code::InvalidArgument, "FIELD_INVALID").await;
        assert!(said.contains(field), "{said}");
    }
    assert_eq!(kept(&cluster, &run).await, []);
}
