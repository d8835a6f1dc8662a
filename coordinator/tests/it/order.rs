//! In which order the slots of a step are leased.

use std::sync::Arc;

use paceline_coordinator::store::MemoryStore;
use paceline_proto::model::{CreateRequest, Lease, TaskCost};

use crate::recovery::{Life, request};

/// The leases of a run's first step, in the order in which one worker gets them.
async fn leased(flop: [f64; 2]) -> Vec<Lease> {
    let life = Life::begin(Arc::new(MemoryStore::new())).await;
    let costs = flop.map(|flop| TaskCost { flop, bytes: 0.0, seconds: None }).to_vec();
    life.handle.create(CreateRequest { costs, ..request("request", 9) }).await.unwrap();
    let worker = life.register("w").await;
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(life.lease(&worker).await);
    }
    leases
}

#[tokio::test]
async fn dear_families_are_leased_first() {
    let mut orders = Vec::new();
    for flop in [[1.0, 1000.0], [1000.0, 1.0]] {
        let leases = leased(flop).await;
        let costs: Vec<f64> = leases.iter().map(|lease| flop[lease.window.current.family]).collect();
        assert!(costs.is_sorted_by(|before, after| before >= after), "{costs:?}");
        assert!(costs.first() > costs.last(), "both families have slots");
        orders.push(leases.iter().map(|lease| lease.key.slot).collect::<Vec<_>>());
    }
    assert_ne!(orders[0], orders[1]);
}
