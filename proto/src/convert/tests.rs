//! Laws of the border: what leaves the model comes back equal, and what never was a model value is refused by name.

use bytes::Bytes;
use paceline_optimizer_core::perturbation::Noise;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;

use super::strategies::*;
use super::*;
use crate::model::*;
use crate::pb;

/// Through bytes, as over the network.
fn over_the_wire<P, M>(value: M) -> Result<M, ProtocolError>
where
    P: Message + Default + From<M>,
    M: TryFrom<P, Error = ProtocolError>,
{
    let bytes = P::from(value).encode_to_vec();
    P::decode(bytes.as_slice()).expect("encoded by the same types").try_into()
}

#[test]
fn noise_that_is_left_out_is_dense() {
    let mut message = pb::RunSpec::from(sample(spec()));
    message.estimator.as_mut().unwrap().noise = None;
    assert_eq!(RunSpec::try_from(message).unwrap().estimator.noise, Noise::Dense);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn specs_come_back_equal(spec in spec()) {
        prop_assert_eq!(over_the_wire::<pb::RunSpec, _>(spec.clone()), Ok(spec));
    }

    #[test]
    fn leases_come_back_equal(lease in lease()) {
        prop_assert_eq!(over_the_wire::<pb::Lease, _>(lease.clone()), Ok(lease));
    }

    #[test]
    fn submissions_come_back_equal(submission in submission(), outcome in outcome()) {
        prop_assert_eq!(over_the_wire::<pb::SubmitResultRequest, _>(submission.clone()), Ok(submission));
        prop_assert_eq!(over_the_wire::<pb::SubmitResultResponse, _>(outcome.clone()), Ok(outcome));
    }

    #[test]
    fn run_states_come_back_equal(state in run_state()) {
        prop_assert_eq!(over_the_wire::<pb::RunState, _>(state.clone()), Ok(state));
    }

    #[test]
    fn what_workers_say_comes_back_equal(
        registration in registration(),
        request in lease_request(),
        (report, answer) in heartbeat(),
        checkpoint in checkpoint(),
    ) {
        prop_assert_eq!(over_the_wire::<pb::RegisterWorkerRequest, _>(registration.clone()), Ok(registration));
        prop_assert_eq!(over_the_wire::<pb::LeaseWorkRequest, _>(request.clone()), Ok(request));
        let release = ReleaseRequest { worker: report.worker.clone(), leases: report.leases.clone() };
        prop_assert_eq!(over_the_wire::<pb::HeartbeatRequest, _>(report.clone()), Ok(report));
        prop_assert_eq!(over_the_wire::<pb::HeartbeatResponse, _>(answer.clone()), Ok(answer));
        prop_assert_eq!(over_the_wire::<pb::ReleaseLeasesRequest, _>(release.clone()), Ok(release));
        prop_assert_eq!(over_the_wire::<pb::CheckpointInfo, _>(checkpoint.clone()), Ok(checkpoint));
    }
}

/// One value a strategy draws, always the same.
fn sample<S: Strategy>(strategy: S) -> S::Value {
    strategy.new_tree(&mut TestRunner::deterministic()).expect("the strategy draws").current()
}

/// A seed-coded submission of `pairs` pairs.
fn seed_coded(pairs: usize) -> pb::SubmitResultRequest {
    let vector = vec![0.1; pairs];
    let coded =
        pb::SeedCoded { fresh: vector.clone(), carried: vector.clone(), loss_plus: vector.clone(), loss_minus: vector };
    let body = Some(pb::submit_result_request::Body::SeedCoded(coded));
    pb::SubmitResultRequest { body, ..sample(submission()).into() }
}

fn submission_with(change: impl FnOnce(&mut pb::SeedCoded)) -> Converted<Submission> {
    let mut request = seed_coded(4);
    let Some(pb::submit_result_request::Body::SeedCoded(coded)) = &mut request.body else {
        unreachable!("seed_coded makes a seed-coded body")
    };
    change(coded);
    request.try_into()
}

fn altered<P, M>(model: M, change: impl FnOnce(&mut P)) -> Converted<M>
where
    P: From<M>,
    M: TryFrom<P, Error = ProtocolError>,
{
    let mut message = P::from(model);
    change(&mut message);
    message.try_into()
}

#[test]
fn every_wrong_field_is_named() {
    let submitted = |change: fn(&mut pb::SubmitResultRequest)| {
        altered(sample(submission()), change).map(|_: Submission| ()).unwrap_err()
    };
    let leased = |change: fn(&mut pb::Lease)| altered(sample(lease()), change).map(|_: Lease| ()).unwrap_err();
    let planned = |change: fn(&mut pb::RunSpec)| altered(sample(spec()), change).map(|_: RunSpec| ()).unwrap_err();
    let stood = |change: fn(&mut pb::RunState)| altered(sample(run_state()), change).map(|_: RunState| ()).unwrap_err();
    let beat = |change: fn(&mut pb::HeartbeatRequest)| {
        altered(sample(heartbeat()).0, change).map(|_: HeartbeatReport| ()).unwrap_err()
    };
    let registered = |change: fn(&mut pb::RegisterWorkerRequest)| {
        altered(sample(registration()), change).map(|_: Registration| ()).unwrap_err()
    };
    let asked = |change: fn(&mut pb::CreateRunRequest)| {
        let request = CreateRequest {
            spec: sample(spec()),
            costs: Vec::new(),
            request_id: "0b6ab6b4-6a0e-4f5e-9d0e-2f6f0f0f0f0f".into(),
            validate_only: false,
            resume_unfinished: true,
        };
        altered(request, change).map(|_: CreateRequest| ()).unwrap_err()
    };
    let key = || pb::LeaseKey::from(sample(lease_key()));
    let holdings = || pb::Holdings { run: "r".into(), theta_version: 0, slots: Vec::new() };
    let long_list = beat(|request| request.leases = vec![sample(lease_key()).into(); MAX_LEASES + 1]);
    let mut many_holdings = pb::SubmitResultRequest::from(sample(submission()));
    many_holdings.holdings = vec![holdings(); MAX_HOLDINGS + 1];
    let mut bad_second = pb::HeartbeatRequest::from(sample(heartbeat()).0);
    bad_second.leases = vec![key(), pb::LeaseKey { token: Bytes::from_static(b"short"), ..key() }];

    let cost = |flop, seconds| pb::TaskCost { flop, bytes: 0.0, seconds };
    let costs = |costs: Vec<pb::TaskCost>| {
        let mut request = pb::CreateRunRequest::from(CreateRequest {
            spec: sample(spec()),
            costs: Vec::new(),
            request_id: "r".into(),
            validate_only: false,
            resume_unfinished: false,
        });
        request.costs = costs;
        CreateRequest::try_from(request).unwrap_err()
    };

    let table = [
        (costs(vec![cost(1.0, None); 9]), "costs"),
        (costs(vec![cost(-1.0, None)]), "costs[0].flop: is a finite number, at least 0, got -1"),
        (costs(vec![cost(1.0, Some(f64::NAN))]), "costs[0].seconds: is a finite number, at least 0, got NaN"),
        (submitted(|r| r.worker.clear()), "worker: is required"),
        (submitted(|r| r.worker = "a b".into()), "worker: worker id \"a b\": must be 1 to 64 characters"),
        (submitted(|r| r.lease = None), "lease: is required"),
        (submitted(|r| r.lease.as_mut().unwrap().run = "../x".into()), "lease.run: run id"),
        (submitted(|r| r.lease.as_mut().unwrap().token = Bytes::new()), "lease.token: is required"),
        (submitted(|r| r.lease.as_mut().unwrap().token = vec![0; 15].into()), "lease.token: is 16 bytes long, got 15"),
        (submitted(|r| r.theta_hash = vec![0; 33].into()), "theta_hash: is 32 bytes long, got 33"),
        (submitted(|r| r.body = None), "body: is required"),
        (many_holdings.try_into().map(|_: Submission| ()).unwrap_err(), "holdings: holds at most 64 entries, got 65"),
        (leased(|l| l.current = None), "current: is required"),
        (leased(|l| l.current.as_mut().unwrap().horizon = 0), "current.horizon: is at least 1"),
        (
            leased(|l| {
                let current = l.current.as_mut().unwrap();
                (current.horizon, current.offset) = (7, 7);
            }),
            "current.offset: is below the horizon 7",
        ),
        (
            leased(|l| {
                let current = l.current.as_mut().unwrap();
                (current.horizon, current.offset, current.inner_step) = (7, 3, 5);
            }),
            "current.inner_step: is at most the trajectory's length 4, got 5",
        ),
        (leased(|l| l.theta = Some(vec![0; 6].into())), "theta: holds little-endian f32 values"),
        (leased(|l| l.theta_hash.clear()), "theta_hash: is required"),
        (
            leased(|l| {
                l.spec = Some(sample(spec()).into());
                l.current.as_mut().unwrap().family = 9;
            }),
            "current.family: is an index into",
        ),
        (leased(|l| l.spec = Some(pb::RunSpec::default())), "spec.optimizer_json: is no valid JSON"),
        (
            planned(|s| s.optimizer_json = r#"{"kind": "sgd9"}"#.into()),
            "optimizer_json: is no valid JSON for it: unknown",
        ),
        (planned(|s| s.estimator = None), "estimator: is required"),
        (planned(|s| s.estimator.as_mut().unwrap().kind = None), "estimator.kind: is required"),
        (planned(|s| s.estimator.as_mut().unwrap().horizon = None), "estimator.horizon: is required"),
        (
            planned(|s| {
                let kind = pb::estimator::Kind::FullEs(pb::FullEs { loss: 9, recompute_batches: 0 });
                s.estimator.as_mut().unwrap().kind = Some(kind);
            }),
            "estimator.full_es.loss: no value 9 is known",
        ),
        (
            planned(|s| {
                let kind = pb::estimator::Kind::FullEs(pb::FullEs { loss: 1, recompute_batches: 5 });
                s.estimator.as_mut().unwrap().kind = Some(kind);
            }),
            "estimator.full_es.recompute_batches: is 0 with this loss, got 5",
        ),
        (planned(|s| s.estimator.as_mut().unwrap().loss_from = 6), "estimator.loss_from: no value 6 is known"),
        (
            planned(|s| s.estimator.as_mut().unwrap().noise = Some(pb::Noise { kind: 4, rank: 0 })),
            "estimator.noise.kind: no value 4 is known",
        ),
        (
            planned(|s| s.estimator.as_mut().unwrap().noise = Some(pb::Noise { kind: 0, rank: 0 })),
            "estimator.noise.kind: is required",
        ),
        (
            planned(|s| s.estimator.as_mut().unwrap().noise = Some(pb::Noise { kind: 1, rank: 2 })),
            "estimator.noise.rank: is 0 with this kind of noise, got 2",
        ),
        (
            planned(|s| {
                let scheduled = pb::ScheduledLength { length_json: "[]".into(), deviation: 0.0 };
                let horizon = s.estimator.as_mut().unwrap().horizon.as_mut().unwrap();
                horizon.curriculum = Some(pb::horizon::Curriculum::Scheduled(scheduled));
            }),
            "estimator.horizon.scheduled.length_json: is no valid JSON",
        ),
        (planned(|s| s.outer.as_mut().unwrap().report = 0), "outer.report: is required"),
        (planned(|s| s.outer.as_mut().unwrap().optimizer = None), "outer.optimizer: is required"),
        (planned(|s| s.tasks[0].settings_json = "[]".into()), "tasks[0].settings_json: is no valid JSON"),
        (planned(|s| s.tasks = vec![s.tasks[0].clone(); 65]), "tasks: holds at most 64 entries, got 65"),
        (asked(|r| r.request_id.clear()), "request_id: is required"),
        (asked(|r| r.request_id = "a b".into()), "request_id: is a UUID"),
        (asked(|r| r.request_id = "a".repeat(65)), "request_id: is a UUID"),
        (asked(|r| r.spec = None), "spec: is required"),
        (asked(|r| r.spec.as_mut().unwrap().estimator = None), "spec.estimator: is required"),
        (stood(|s| s.status = 0), "status: value 0 is not known"),
        (stood(|s| s.status = 77), "status: value 77 is not known"),
        (stood(|s| s.ledger = None), "ledger: is required"),
        (stood(|s| s.spec.as_mut().unwrap().outer = None), "spec.outer: is required"),
        (long_list, "leases: holds at most 64 entries, got 65"),
        (bad_second.try_into().map(|_: HeartbeatReport| ()).unwrap_err(), "leases[1].token: is 16 bytes long, got 5"),
        (registered(|r| r.families = vec!["x".into(); 257]), "families: holds at most 256 entries, got 257"),
        (registered(|r| r.families = vec!["x".into(), "y".repeat(200)]), "families[1]: is at most 128 bytes long"),
        (registered(|r| r.device = "d".repeat(129)), "device: is at most 128 bytes long, got 129"),
    ];
    for (error, wanted) in table {
        assert!(error.to_string().starts_with(wanted), "{error} should start with {wanted}");
    }
}

#[test]
fn vectors_of_a_result_have_one_length() {
    for (change, field, got) in [
        ((|coded| coded.carried.truncate(3)) as fn(&mut pb::SeedCoded), "seed_coded.carried", 3),
        (|coded| coded.loss_plus.push(0.0), "seed_coded.loss_plus", 5),
        (|coded| coded.loss_minus.clear(), "seed_coded.loss_minus", 0),
    ] {
        let fault = Fault::from(submission_with(change).unwrap_err());
        assert_eq!(fault, Fault::ResultShape { field: field.into(), expected: 4, got });
    }
    let many: Converted<Submission> = seed_coded(MAX_PAIRS + 1).try_into();
    assert_eq!(many.unwrap_err().to_string(), "seed_coded.fresh: holds at most 4096 entries, got 4097");
    assert!(Submission::try_from(seed_coded(MAX_PAIRS)).is_ok());
}

#[test]
fn numbers_that_are_not_finite_reach_the_coordinator() {
    let submission = submission_with(|coded| coded.fresh[2] = f64::NAN).unwrap();
    let ResultBody::SeedCoded(coded) = submission.body else { panic!("seed-coded in, seed-coded out") };
    assert!(coded.pairs[2].fresh.is_nan() && coded.pairs[1].fresh == 0.1);

    let body = ResultBody::Dense { gradient: vec![f32::INFINITY], loss: f64::NAN };
    let dense = Submission { body, ..sample(strategies::submission()) };
    let ResultBody::Dense { gradient, loss } = over_the_wire::<pb::SubmitResultRequest, _>(dense).unwrap().body else {
        panic!("dense in, dense out")
    };
    assert!(gradient[0].is_infinite() && loss.is_nan());
}

#[test]
fn nothing_yet_travels_as_nan() {
    let state = RunState { meta_loss: None, grad_norm: Some(2.5), ..sample(run_state()) };
    let message = pb::RunState::from(state.clone());
    assert!(message.meta_loss.is_nan() && message.grad_norm == 2.5);
    assert_eq!(RunState::try_from(message), Ok(state));
}

#[test]
fn equal_bounds_of_a_horizon_are_a_constant() {
    use paceline_optimizer_core::schedule::HorizonSchedule;
    let horizon = |min_steps, max_steps| {
        let wire: Converted<super::spec::Wire<HorizonSchedule>> =
            pb::Horizon { min_steps, max_steps, curriculum: None }.try_into();
        wire.unwrap().0
    };
    assert_eq!(horizon(7, 7), HorizonSchedule::Constant { steps: 7 });
    assert_eq!(horizon(7, 8), HorizonSchedule::LogUniform { min: 7, max: 8 });
}

#[test]
fn long_explanations_are_cut_not_refused() {
    let body = ResultBody::Failure { reason: "ä".repeat(MAX_REASON + 5) };
    let failed = Submission { body, ..sample(submission()) };
    let ResultBody::Failure { reason } = over_the_wire::<pb::SubmitResultRequest, _>(failed).unwrap().body else {
        panic!("failure in, failure out")
    };
    assert_eq!(reason, "ä".repeat(MAX_REASON));
}

#[test]
fn a_seed_coded_result_costs_few_bytes_a_pair() {
    // Random values: zeros would cost nothing in proto3.
    let size = |pairs| seed_coded(pairs).encoded_len();
    let per_pair = (size(4096) - size(64)) as f64 / f64::from(4096 - 64);
    assert!((32.0..33.0).contains(&per_pair), "{per_pair} bytes a pair");
    let whole = size(16) as f64 / 16.0;
    assert!(whole <= 64.0, "{whole} bytes a pair for a message of 16 pairs");
}
