//! Arbitrary model values for property tests.

use std::time::Duration;

use bytes::Bytes;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, LossFrom, MetaLoss, PairReport};
use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use paceline_optimizer_core::optimizer::Schedule;
use paceline_optimizer_core::outer::{OuterConfig, Report, ThetaOptimizer, Variance};
use paceline_optimizer_core::perturbation::Noise;
use paceline_optimizer_core::schedule::{HorizonSchedule, Trajectory, Window};
use paceline_optimizer_core::{Seed, ThetaHash};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::model::*;

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |value| value.is_finite())
}

fn id<T>() -> impl Strategy<Value = T>
where
    T: std::str::FromStr<Err = InvalidId> + std::fmt::Debug,
{
    "[a-zA-Z0-9._-]{1,64}".prop_map(|text| text.parse().expect("drawn from the allowed characters"))
}

fn hash() -> impl Strategy<Value = ThetaHash> {
    any::<[u8; 32]>().prop_map(ThetaHash)
}

pub(crate) fn lease_key() -> impl Strategy<Value = LeaseKey> {
    (id::<RunId>(), any::<u64>(), any::<u32>(), any::<[u8; 16]>()).prop_map(|(run, outer_step, slot, token)| LeaseKey {
        run,
        outer_step,
        slot,
        token: Token(token),
    })
}

fn holdings() -> impl Strategy<Value = Vec<Holdings>> {
    let one = (id::<RunId>(), any::<u64>(), vec(any::<u32>(), 0..5)).prop_map(|(run, theta_version, slots)| Holdings {
        run,
        theta_version,
        slots,
    });
    vec(one, 0..3)
}

fn schedule() -> impl Strategy<Value = Schedule> {
    prop_oneof![
        finite().prop_map(|value| Schedule::Constant { value }),
        (finite(), finite(), any::<u64>()).prop_map(|(init_value, end_value, steps)| Schedule::Linear {
            init_value,
            end_value,
            steps
        }),
        vec((any::<u64>(), finite()), 1..4).prop_map(|points| {
            let (times, values) = points.into_iter().unzip();
            Schedule::PiecewiseLinear { times, values }
        }),
    ]
}

fn horizon() -> impl Strategy<Value = HorizonSchedule> {
    let bounds = || (any::<u32>(), any::<u32>());
    prop_oneof![
        any::<u32>().prop_map(|steps| HorizonSchedule::Constant { steps }),
        bounds()
            .prop_filter("equal bounds mean a constant", |(min, max)| min != max)
            .prop_map(|(min, max)| HorizonSchedule::LogUniform { min, max }),
        (schedule(), finite(), bounds()).prop_map(|(length, deviation, (min, max))| HorizonSchedule::Scheduled {
            length,
            deviation,
            min,
            max
        }),
        (schedule(), schedule(), bounds()).prop_map(|(shortest, longest, (min, max))| {
            HorizonSchedule::ScheduledLogUniform { shortest, longest, min, max }
        }),
    ]
}

fn estimator_kind() -> impl Strategy<Value = EstimatorKind> {
    prop_oneof![
        Just(EstimatorKind::FullEs { loss: MetaLoss::Average }),
        Just(EstimatorKind::FullEs { loss: MetaLoss::Min }),
        Just(EstimatorKind::FullEs { loss: MetaLoss::Last }),
        any::<u32>().prop_map(|batches| EstimatorKind::FullEs { loss: MetaLoss::LastRecompute { batches } }),
        any::<u32>().prop_map(|window| EstimatorKind::Pes { window }),
        (any::<u32>(), any::<u32>()).prop_map(|(window, period)| EstimatorKind::Gpes { window, period }),
        any::<u32>().prop_map(|window| EstimatorKind::Nres { window }),
        any::<u32>().prop_map(|window| EstimatorKind::TruncatedEs { window }),
    ]
}

fn noise() -> impl Strategy<Value = Noise> {
    let low_rank = any::<u32>().prop_map(|rank| Noise::LowRank { rank });
    prop_oneof![Just(Noise::Dense), Just(Noise::Orthogonal), low_rank]
}

fn estimator() -> impl Strategy<Value = EstimatorConfig> {
    let loss_from = prop_oneof![
        Just(LossFrom::TrainingBatch),
        Just(LossFrom::SameData),
        Just(LossFrom::Train),
        Just(LossFrom::InnerValid),
        Just(LossFrom::OuterValid),
    ];
    let sigma = any::<f32>().prop_filter("finite", |sigma| sigma.is_finite());
    let deltas = (option::of(finite()), option::of(finite()));
    (estimator_kind(), horizon(), sigma, loss_from, any::<u32>(), deltas, noise()).prop_map(
        |(kind, horizon, sigma, loss_from, initial_offset, (clip_delta, sign_delta), noise)| EstimatorConfig {
            noise,
            loss_from,
            initial_offset,
            clip_delta,
            sign_delta,
            ..EstimatorConfig::new(kind, sigma, horizon)
        },
    )
}

fn outer() -> impl Strategy<Value = OuterConfig> {
    let report = prop_oneof![Just(Report::Auto), Just(Report::SeedCoded), Just(Report::Dense)];
    let optimizer = (finite(), finite(), finite(), finite(), finite(), finite()).prop_map(
        |(learning_rate, beta1, beta2, eps, eps_root, weight_decay)| ThetaOptimizer {
            learning_rate,
            beta1,
            beta2,
            eps,
            eps_root,
            weight_decay,
        },
    );
    let counts = (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>());
    (counts, optimizer, option::of(finite()), option::of(finite()), report).prop_map(
        |((steps, slots, pairs_per_slot, accumulation), optimizer, clip, clip_norm, report)| OuterConfig {
            steps,
            slots,
            pairs_per_slot,
            optimizer,
            clip,
            clip_norm,
            accumulation,
            report,
        },
    )
}

fn task() -> impl Strategy<Value = TaskSpec> {
    let value = prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        finite().prop_map(serde_json::Value::from),
        ".{0,8}".prop_map(serde_json::Value::from),
        vec(any::<u32>(), 0..4).prop_map(serde_json::Value::from),
    ];
    let settings = vec(("[a-z_]{1,8}", value), 0..4).prop_map(|entries| entries.into_iter().collect());
    ("[a-z_]{1,12}", schedule(), settings).prop_map(|(family, weight, settings)| TaskSpec { family, weight, settings })
}

pub(crate) fn spec() -> impl Strategy<Value = RunSpec> {
    let optimizer = prop_oneof![
        Just(LearnedOptimizerConfig::LearnableAdam),
        Just(LearnedOptimizerConfig::AdafacMlp(Default::default())),
        Just(LearnedOptimizerConfig::HyperV2(Default::default())),
    ];
    let policies = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let limits = (option::of(finite()), option::of(finite()))
        .prop_map(|(max_flop, max_bytes)| MixtureLimits { max_flop, max_bytes });
    let tasks = (vec(task(), 1..4), limits);
    ("[a-z0-9-]{1,40}", any::<u64>(), optimizer, estimator(), outer(), tasks, policies).prop_map(
        |(name, seed, optimizer, estimator, outer, (tasks, mixture), (every, keep, steps, seeds))| RunSpec {
            name,
            seed: Seed::new(seed),
            optimizer,
            estimator,
            outer,
            tasks,
            mixture,
            checkpoint: CheckpointPolicy { every, keep },
            evaluation: EvaluationSpec { steps, seeds },
        },
    )
}

fn trajectory() -> impl Strategy<Value = Trajectory> {
    let place = any::<prop::sample::Index>;
    (any::<u64>(), 1..=u32::MAX, any::<u64>(), place(), place()).prop_map(|(index, horizon, began, end, place)| {
        let offset = end.index(horizon as usize) as u32;
        let inner_step = place.index((horizon - offset) as usize) as u32;
        // Family 0 is in every mixture.
        Trajectory { index, family: 0, horizon, offset, began, inner_step }
    })
}

pub(crate) fn lease() -> impl Strategy<Value = Lease> {
    let times = (any::<u32>(), any::<u64>(), any::<u32>());
    let window = (trajectory(), option::of(trajectory())).prop_map(|(current, next)| Window { current, next });
    let theta = option::of(vec(any::<[u8; 4]>(), 0..9).prop_map(|values| Bytes::from(values.concat())));
    let place = option::of((1_u128.., 1_u64.., any::<u8>()));
    (lease_key(), times, window, hash(), theta, option::of(spec()), place).prop_map(
        |(key, (attempt, epoch, ttl), window, theta_hash, theta, spec, place)| Lease {
            key,
            attempt,
            epoch,
            ttl: Duration::from_millis(ttl.into()),
            window,
            theta_hash,
            theta,
            spec: spec.map(Box::new),
            traceparent: place.and_then(|(trace, span, flags)| TraceParent::new(trace, span, flags)),
        },
    )
}

pub(crate) fn submission() -> impl Strategy<Value = Submission> {
    let pair = (finite(), finite(), finite(), finite())
        .prop_map(|(fresh, carried, loss_plus, loss_minus)| PairReport { fresh, carried, loss_plus, loss_minus });
    let value = any::<f32>().prop_filter("finite", |value| value.is_finite());
    let body = prop_oneof![
        vec(pair, 0..9).prop_map(|pairs| ResultBody::SeedCoded(SeedCoded { pairs })),
        (vec(value, 0..9), finite()).prop_map(|(gradient, loss)| ResultBody::Dense { gradient, loss }),
        ".{0,40}".prop_map(|reason| ResultBody::Failure { reason }),
    ];
    let counts = (any::<u64>(), any::<u32>(), any::<bool>());
    (id::<WorkerId>(), lease_key(), hash(), body, counts, holdings()).prop_map(
        |(worker, lease, theta_hash, body, (inner_steps, diverged_lanes, want_lease), holdings)| Submission {
            worker,
            lease,
            theta_hash,
            body,
            inner_steps,
            diverged_lanes,
            want_lease,
            holdings,
        },
    )
}

pub(crate) fn outcome() -> impl Strategy<Value = SubmissionOutcome> {
    let verdict = prop_oneof![
        Just(Verdict::Accepted),
        Just(Verdict::AlreadyAccepted),
        Just(Verdict::Superseded),
        Just(Verdict::FailureNoted),
    ];
    (verdict, option::of(lease())).prop_map(|(verdict, next)| SubmissionOutcome { verdict, next })
}

pub(crate) fn cost() -> impl Strategy<Value = TaskCost> {
    let positive = || finite().prop_map(f64::abs);
    (positive(), positive(), option::of(positive())).prop_map(|(flop, bytes, seconds)| TaskCost {
        flop,
        bytes,
        seconds,
    })
}

fn entry() -> impl Strategy<Value = EntryProgress> {
    let span = || {
        let span = (any::<u64>(), any::<u64>(), any::<u64>(), finite());
        span.prop_map(|(from, to, contributions, meta_loss)| SpanLoss { from, to, contributions, meta_loss })
    };
    (any::<[u64; 3]>(), option::of(span()), option::of(span())).prop_map(
        |([contributions, inner_steps, diverged_lanes], first, latest)| EntryProgress {
            contributions,
            inner_steps,
            diverged_lanes,
            first,
            latest,
        },
    )
}

pub(crate) fn run_state() -> impl Strategy<Value = RunState> {
    let status = prop_oneof![
        Just(RunStatus::Running),
        Just(RunStatus::Paused),
        Just(RunStatus::Completed),
        Just(RunStatus::Stopped),
        ".{0,20}".prop_map(|reason| RunStatus::Failed { reason }),
    ];
    let ledger =
        any::<[u64; 7]>().prop_map(|[issued, accepted, superseded, expired, released, rejected, outstanding]| Ledger {
            issued,
            accepted,
            superseded,
            expired,
            released,
            rejected,
            outstanding,
        });
    let counts = (any::<[u64; 4]>(), any::<u32>());
    let numbers = (option::of(finite()), option::of(finite()), option::of(finite()), option::of(finite()));
    let mixture = (vec(cost(), 0..4), vec(entry(), 0..4));
    (id::<RunId>(), spec(), status, ".{0,20}", counts, numbers, hash(), ledger, mixture).prop_map(
        |(run, spec, status, reason, counts, numbers, theta_hash, ledger, (costs, entries))| {
            let (meta_loss, grad_norm, signal_to_noise, antithetic_correlation) = numbers;
            let ([outer_step, inner_steps, diverged_lanes, durable_checkpoint], workers) = counts;
            // A failed run does not wait: its reason is in its status.
            let reason = if matches!(status, RunStatus::Failed { .. }) { String::new() } else { reason };
            RunState {
                run,
                spec,
                status,
                reason,
                outer_step,
                meta_loss,
                grad_norm,
                variance: Variance { signal_to_noise, antithetic_correlation },
                inner_steps,
                diverged_lanes,
                theta_hash,
                durable_checkpoint,
                workers,
                ledger,
                costs,
                entries,
            }
        },
    )
}

pub(crate) fn lease_request() -> impl Strategy<Value = LeaseRequest> {
    (id::<WorkerId>(), any::<u32>(), holdings()).prop_map(|(worker, wait, holdings)| LeaseRequest {
        worker,
        wait: Duration::from_millis(wait.into()),
        holdings,
    })
}

pub(crate) fn heartbeat() -> impl Strategy<Value = (HeartbeatReport, HeartbeatAnswer)> {
    let directive = prop_oneof![Just(Directive::Continue), Just(Directive::Cancel)];
    let report = (id::<WorkerId>(), vec(lease_key(), 0..4), any::<u64>(), any::<u64>())
        .prop_map(|(worker, leases, epoch, inner_steps)| HeartbeatReport { worker, leases, epoch, inner_steps });
    let answer = (any::<u64>(), vec(directive, 0..4), any::<bool>())
        .prop_map(|(epoch, directives, known)| HeartbeatAnswer { epoch, directives, known });
    (report, answer)
}

pub(crate) fn registration() -> impl Strategy<Value = Registration> {
    (any::<u32>(), id::<WorkerId>(), "[0-9.]{0,9}", "[a-z:0-9]{0,9}", any::<u32>(), vec("[a-z_]{1,9}", 0..4)).prop_map(
        |(protocol, worker, code_version, device, threads, families)| Registration {
            protocol,
            worker,
            code_version,
            device,
            threads,
            families,
        },
    )
}

pub(crate) fn checkpoint() -> impl Strategy<Value = CheckpointInfo> {
    (id::<RunId>(), any::<[u64; 3]>(), any::<[u8; 32]>(), hash(), option::of(finite())).prop_map(
        |(run, [outer_step, size_bytes, inner_steps], sha256, theta_hash, meta_loss)| CheckpointInfo {
            run,
            outer_step,
            size_bytes,
            sha256,
            theta_hash,
            meta_loss,
            inner_steps,
        },
    )
}
