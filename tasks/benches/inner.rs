//! Losses and gradients of inner problems, without an optimizer: what a step of `paceline bench inner` has besides it.
//!
//! `cargo bench -p paceline-tasks -- conv` runs some of them. One lane, one thread; throughput is in FLOP a second of the
//! products that the family counts.

#![expect(missing_docs, reason = "a function that a macro of criterion makes")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use paceline_optimizer_core::{Params, Seed};
use serde_json::{Map, Value};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name, family, settings.
const PROBLEMS: [(&str, &str, &str); 9] = [
    ("mlp", "image_mlp", r#"{"image_size": 8, "hidden": [32], "batch_size": 128}"#),
    ("conv", "image_conv", r#"{"image_size": 16, "channels": [16, 32], "batch_size": 64}"#),
    ("conv_pooled", "image_conv", r#"{"image_size": 16, "channels": [16, 32], "batch_size": 64, "max_pool": true}"#),
    ("resnet", "image_resnet", "{}"),
    ("vit", "image_vit", "{}"),
    ("complex_conv", "image_complex", "{}"),
    ("gnn", "graph_gcn", "{}"),
    ("rnn", "text_rnn", "{}"),
    ("transformer", "text_transformer", "{}"),
];

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loss_and_gradients");
    for (name, family, settings) in PROBLEMS {
        let settings: Map<String, Value> = serde_json::from_str(settings).expect("settings are JSON");
        let family = paceline_tasks::build(family, &settings, None).expect("settings fit the family");
        let mut lanes = family.bind(&[Seed::new(1)]).expect("a lane binds");
        let params: Params = lanes.init_params().expect("parameters begin");
        group.throughput(Throughput::Elements(family.flop() as u64));
        let mut batch = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                batch += 1;
                lanes.loss_and_grads(&params, batch).expect("losses can be computed")
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = steps
}
criterion_main!(benches);
