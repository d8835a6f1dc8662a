//! What every store must do, asked of both.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use paceline_coordinator::machine::{
    Block, EntryCurve, LeaseRecord, LeaseState, MixtureProgress, Record, RunRecord, Standing,
};
use paceline_coordinator::store::{
    Change, FORMAT, Journal, MemoryStore, SledStore, Store, StoreError, Stored, read_checkpoint, read_evaluations,
    read_steps,
};
use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::outer::{Contribution, SlotResult, StepSummary, Variance};
use paceline_optimizer_core::schedule::{Trajectory, Window};
use paceline_proto::fault::Fault;
use paceline_proto::model::{
    CheckpointInfo, ContenderCurve, Evaluation, FamilyCurves, FoldedStep, Ledger, Quartiles, RunId, RunStatus,
    TaskCost, Token,
};
use sha2::{Digest, Sha256};

use crate::recipes;

/// Closes a store and opens it again.
trait Reopen {
    fn open(&mut self) -> Arc<dyn Store>;
}

struct InMemory(MemoryStore);

impl Reopen for InMemory {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }
}

struct OnDisk(tempfile::TempDir);

impl Reopen for OnDisk {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(SledStore::open(self.0.path()).unwrap())
    }
}

/// Asks the same of both.
fn both(check: impl Fn(&mut dyn Reopen)) {
    check(&mut InMemory(MemoryStore::new()));
    check(&mut OnDisk(tempfile::tempdir().unwrap()));
}

fn run_id() -> RunId {
    "pes-00c0ffee".parse().unwrap()
}

fn costs() -> Vec<TaskCost> {
    let cost = |seconds| TaskCost { flop: 1e6, bytes: 4096.0, seconds };
    vec![cost(Some(1e-3)), cost(None)]
}

fn progress() -> MixtureProgress {
    let block = |index, loss| Block { index, contributions: 3, loss };
    let blocks = vec![block(0, -0.0), block(4, 0.1)];
    let second = EntryCurve { contributions: 6, inner_steps: 60, diverged_lanes: 1, blocks };
    MixtureProgress { entries: vec![EntryCurve::default(), second] }
}

fn run_record() -> RunRecord {
    RunRecord {
        order: 0,
        run: run_id(),
        spec: recipes::pes(9),
        costs: costs(),
        request_id: "again".into(),
        theta_size: 4,
    }
}

fn standing() -> Standing {
    Standing {
        status: RunStatus::Failed { reason: "näh".into() },
        outer_step: 7,
        theta_hash: ThetaHash([9; 32]),
        last: Some(StepSummary {
            meta_loss: -0.0,
            grad_norm: 0.1,
            variance: Variance { signal_to_noise: Some(-0.5), antithetic_correlation: None },
        }),
        inner_steps: 70,
        diverged_lanes: 1,
        ledger: Ledger { issued: 9, accepted: 3, superseded: 1, expired: 1, released: 1, rejected: 1, outstanding: 2 },
        journal_from: 5,
    }
}

fn lease(outer_step: u64, state: LeaseState) -> LeaseRecord {
    LeaseRecord {
        token: Token([outer_step as u8; 16]),
        outer_step,
        slot: 2,
        attempt: 3,
        worker: "w.1".parse().unwrap(),
        theta_hash: ThetaHash([1; 32]),
        state,
    }
}

/// Dense, and too large for one value.
fn large_result() -> Arc<Contribution> {
    let gradient = (0..40_000).map(|index| index as f32 * 0.5 - 3.0).collect();
    Arc::new(Contribution {
        slot: 1,
        window: Window {
            current: Trajectory { index: 2, family: 1, horizon: 30, offset: 4, began: 5, inner_step: 5 },
            next: None,
        },
        result: SlotResult::Dense { gradient, loss: 0.25 },
        inner_steps: 10,
        diverged_lanes: 1,
    })
}

fn checkpoint(outer_step: u64) -> (CheckpointInfo, Bytes) {
    let bytes: Bytes = (0..200_000_u32).map(|index| (index * 7 + outer_step as u32) as u8).collect::<Vec<u8>>().into();
    let info = CheckpointInfo {
        run: run_id(),
        outer_step,
        size_bytes: bytes.len() as u64,
        sha256: Sha256::digest(&bytes).into(),
        theta_hash: ThetaHash([outer_step as u8; 32]),
        meta_loss: Some(0.5),
        inner_steps: 3,
    };
    (info, bytes)
}

fn store_checkpoint(outer_step: u64) -> Record {
    let (info, bytes) = checkpoint(outer_step);
    Record::Checkpoint { run: 0, info, bytes }
}

fn result(outer_step: u64) -> Record {
    Record::Result { run: 0, outer_step, contribution: large_result() }
}

fn begin() -> Vec<Record> {
    vec![Record::Run(Arc::new(run_record())), Record::Progress(0, progress()), Record::Standing(0, standing())]
}

fn open(store: Arc<dyn Store>) -> (Journal, Stored) {
    Journal::open(store).unwrap()
}

fn chunks(store: &dyn Store) -> usize {
    store.scan(b"b/").unwrap().len()
}

#[test]
fn everything_comes_back_after_reopening() {
    both(|place| {
        let (mut journal, stored) = open(place.open());
        assert_eq!((stored.epoch, stored.runs.len()), (1, 0));
        let accepted = lease(7, LeaseState::Accepted { digest: [4; 32] });
        let leases = vec![Record::Lease(0, lease(6, LeaseState::Held)), Record::Lease(0, accepted.clone())];
        journal.write(&[begin(), leases, vec![result(7), store_checkpoint(6)]]).unwrap();
        drop(journal);
        drop(stored);
        let store = place.open();
        let (_, stored) = open(Arc::clone(&store));
        assert_eq!(stored.epoch, 2);
        let [run] = &stored.runs[..] else { panic!("{:?}", stored.runs) };
        assert_eq!(*run.record, run_record());
        assert_eq!(run.standing, standing());
        assert_eq!(run.progress, progress());
        assert!(run.progress.entries[1].blocks[0].loss.is_sign_negative(), "bit by bit");
        assert!(run.standing.last.unwrap().meta_loss.is_sign_negative());
        assert_eq!(run.leases, [lease(6, LeaseState::Held), accepted]);
        assert_eq!(run.results, [(7, large_result())]);
        assert_eq!(run.checkpoints, [checkpoint(6).0]);
        assert_eq!(read_checkpoint(&*store, 0, &run_id(), 6).unwrap(), checkpoint(6).1);
    });
}

fn folded(outer_step: u64) -> FoldedStep {
    FoldedStep {
        outer_step,
        folded_at_ms: 1_700_000_000_000 + outer_step,
        meta_loss: -0.0,
        grad_norm: 0.1,
        variance: Variance { signal_to_noise: None, antithetic_correlation: Some(-0.5) },
        update_norm: 1e-300,
        inner_steps: u64::MAX,
        diverged_lanes: 2,
        entry_losses: vec![None, Some(0.0), Some(f64::MAX)],
    }
}

#[test]
fn folded_steps_are_kept_for_each_run_and_survive_every_drop() {
    both(|place| {
        let (mut journal, _) = open(place.open());
        let drops =
            vec![Record::DropResults { run: 0, before: u64::MAX }, Record::DropLeases { run: 0, before: u64::MAX }];
        let steps = [1, 2, 300].map(|step| Record::Step(0, folded(step)));
        journal.write(&[begin(), steps.to_vec(), vec![Record::Step(1, folded(4))], drops]).unwrap();
        drop(journal);
        let store = place.open();
        assert_eq!(read_steps(&*store, 0, [1, 2, 3, 300]).unwrap(), [1, 2, 300].map(folded));
        assert!(read_steps(&*store, 0, [1]).unwrap()[0].meta_loss.is_sign_negative(), "bit by bit");
        assert_eq!(read_steps(&*store, 1, 0..9).unwrap(), [folded(4)]);
        store.apply(vec![Change::Put([&b"h/"[..], &[0; 8], &2_u64.to_be_bytes()].concat(), vec![9])]).unwrap();
        let error = read_steps(&*store, 0, [2]).unwrap_err();
        assert!(matches!(&error, StoreError::Damaged { what, .. } if what == "folded step 2"), "{error}");
    });
}

fn evaluation(outer_step: u64, families: usize) -> Evaluation {
    let loss = Quartiles { lower: -0.0, median: 0.1, upper: f32::MAX };
    let contender = |name: &str| ContenderCurve { name: name.into(), losses: vec![loss; 2] };
    let contenders = vec![contender("learned"), contender("größer")];
    Evaluation {
        outer_step,
        theta_hash: ThetaHash([3; 32]),
        recorded_at_ms: u64::MAX,
        seeds: 5,
        ends: vec![1, 20],
        families: vec![FamilyCurves { family: "image_mlp".into(), contenders }; families],
    }
}

#[test]
fn evaluations_come_back_are_replaced_and_dropped_whole() {
    both(|place| {
        let (mut journal, _) = open(place.open());
        let keep = |run, step, families| Record::Evaluation(run, Arc::new(evaluation(step, families)));
        let of_others = vec![keep(1, 4, 1)];
        journal.write(&[begin(), vec![keep(0, 4, 3), keep(0, u64::MAX, 1), keep(0, 300, 1)], of_others]).unwrap();
        drop(journal);
        let store = place.open();
        let (mut journal, stored) = open(Arc::clone(&store));
        assert_eq!(stored.runs[0].evaluations, [4, 300, u64::MAX].into());
        let read = |steps: &[u64]| read_evaluations(&*store, 0, steps.iter().copied()).unwrap();
        assert_eq!(read(&[300, 5, 4]), [evaluation(300, 1), evaluation(4, 3)]);
        assert!(read(&[4])[0].families[2].contenders[1].losses[1].lower.is_sign_negative(), "bit by bit");
        let newer = Evaluation { seeds: 9, ..evaluation(4, 3) };
        journal.write(&[vec![Record::Evaluation(0, Arc::new(newer.clone()))]]).unwrap();
        assert_eq!(read(&[4]), [newer]);
        // One group: the drop must find what an earlier batch of the same group wrote.
        journal.write(&[vec![keep(0, 6, 2)], vec![4, 6].into_iter().map(drop_evaluation).collect()]).unwrap();
        assert_eq!(store.scan(b"e/").unwrap().len(), 2 + 2 + 2, "two of run 0 and one of run 1, head and curves each");
        drop(journal);
        let (_, stored) = open(Arc::clone(&store));
        assert_eq!(stored.runs[0].evaluations, [300, u64::MAX].into());
        let head = store.scan(b"e/").unwrap().remove(0).0;
        for (damage, says) in [
            (Change::Remove([&head[..], &[0; 4]].concat()), "the curves of a family are missing"),
            (Change::Put([&head[..], &[0; 4]].concat(), vec![9]), "evaluation of step 300"),
            (Change::Put(head, vec![9]), "evaluation of step 300"),
        ] {
            store.apply(vec![damage]).unwrap();
            let error = read_evaluations(&*store, 0, [300]).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    });
}

#[test]
fn the_journal_knows_how_much_it_keeps() {
    both(|place| {
        let store = place.open();
        let (mut journal, _) = open(Arc::clone(&store));
        assert_eq!(journal.result_bytes(), 0);
        let small = Arc::new(Contribution {
            slot: 0,
            result: SlotResult::Dense { gradient: vec![0.5; 8], loss: 1.0 },
            ..(*large_result()).clone()
        });
        let keep = |contribution: Arc<Contribution>| Record::Result { run: 0, outer_step: 4, contribution };
        journal.write(&[begin(), vec![keep(small), store_checkpoint(4)]]).unwrap();
        let small = journal.result_bytes();
        assert!((32..200).contains(&small), "{small}");
        journal.write(&[vec![keep(large_result()), result(6)]]).unwrap();
        let large = (journal.result_bytes() - small) / 2;
        assert!((160_000..161_000).contains(&large), "40,000 floats, in chunks: {large}");
        drop(journal);
        let (mut journal, _) = open(store);
        assert_eq!(journal.result_bytes(), small + 2 * large, "after a restart too");
        journal.write(&[vec![Record::DropResults { run: 0, before: 6 }]]).unwrap();
        assert_eq!(journal.result_bytes(), large);
        journal.write(&[vec![Record::DropResults { run: 0, before: u64::MAX }]]).unwrap();
        assert_eq!(journal.result_bytes(), 0);
    });
}

fn drop_evaluation(outer_step: u64) -> Record {
    Record::DropEvaluation { run: 0, outer_step }
}

#[test]
fn dropping_frees_every_chunk() {
    both(|place| {
        let store = place.open();
        let (mut journal, _) = open(Arc::clone(&store));
        journal.write(&[begin(), vec![store_checkpoint(4), result(4)], vec![store_checkpoint(6), result(6)]]).unwrap();
        let of_both = chunks(&*store);
        let drop_old = vec![
            Record::DropCheckpoint { run: 0, outer_step: 4 },
            Record::DropResults { run: 0, before: 6 },
            Record::Lease(0, lease(6, LeaseState::Expired)),
        ];
        // One group: the drop must find what an earlier batch of the same group wrote.
        journal
            .write(&[vec![store_checkpoint(8)], drop_old, vec![Record::DropCheckpoint { run: 0, outer_step: 8 }]])
            .unwrap();
        assert_eq!(chunks(&*store) * 2, of_both);
        assert_eq!(
            read_checkpoint(&*store, 0, &run_id(), 4),
            Err(Fault::CheckpointNotFound { run: run_id(), outer_step: Some(4) })
        );
        journal.write(&[vec![Record::DropLeases { run: 0, before: 7 }]]).unwrap();
        drop(journal);
        let (_, stored) = open(store);
        assert_eq!(stored.runs[0].results, [(6, large_result())]);
        assert_eq!(stored.runs[0].leases, []);
    });
}

#[test]
fn orphaned_chunks_are_removed_and_their_numbers_not_reused() {
    both(|place| {
        let store = place.open();
        let (mut journal, _) = open(Arc::clone(&store));
        journal.write(&[begin(), vec![store_checkpoint(2)]]).unwrap();
        let whole = chunks(&*store);
        // A crash after the chunks and before the pointer leaves this.
        let orphan = [&b"b/"[..], &77_u64.to_be_bytes(), &0_u32.to_be_bytes()].concat();
        store.apply(vec![Change::Put(orphan.clone(), vec![0; 10])]).unwrap();
        drop(journal);
        let (mut journal, _) = open(Arc::clone(&store));
        assert_eq!(store.get(&orphan).unwrap(), None);
        assert_eq!(chunks(&*store), whole);
        journal.write(&[vec![store_checkpoint(4)]]).unwrap();
        for step in [2, 4] {
            assert_eq!(read_checkpoint(&*store, 0, &run_id(), step).unwrap(), checkpoint(step).1);
        }
    });
}

#[test]
fn damage_to_a_checkpoint_is_found_and_named() {
    both(|place| {
        let store = place.open();
        let (mut journal, _) = open(Arc::clone(&store));
        journal.write(&[begin(), vec![store_checkpoint(2)]]).unwrap();
        let (key, value) = store.scan(b"b/").unwrap().remove(1);
        let mut flipped = value.clone();
        flipped[100] ^= 1;
        for (damaged, says) in [
            (Change::Put(key.clone(), flipped), "checksum"),
            (Change::Put(key.clone(), value[..3].to_vec()), "cut short"),
            (Change::Remove(key.clone()), "missing"),
        ] {
            store.apply(vec![damaged]).unwrap();
            let fault = read_checkpoint(&*store, 0, &run_id(), 2).unwrap_err();
            let Fault::CheckpointCorrupt { outer_step: 2, reason, .. } = &fault else { panic!("{fault:?}") };
            assert!(reason.contains(says), "{reason}");
        }
        // Two chunks changed places: every checksum fits, the whole does not.
        let (first, other) = store.scan(b"b/").unwrap().remove(0);
        store.apply(vec![Change::Put(first, value), Change::Put(key, other)]).unwrap();
        assert!(matches!(read_checkpoint(&*store, 0, &run_id(), 2), Err(Fault::CheckpointCorrupt { .. })));
    });
}

#[test]
fn what_format_2_wrote_is_read() {
    both(|place| {
        let store = place.open();
        let (mut journal, _) = open(Arc::clone(&store));
        let record = RunRecord { costs: Vec::new(), ..run_record() };
        journal.write(&[vec![Record::Run(Arc::new(record.clone())), Record::Standing(0, standing())]]).unwrap();
        store.apply(vec![Change::Put(b"m/format".to_vec(), 2_u32.to_be_bytes().to_vec())]).unwrap();
        drop(journal);
        let (_, stored) = open(Arc::clone(&store));
        assert_eq!((&*stored.runs[0].record, &stored.runs[0].progress), (&record, &MixtureProgress::default()));
        assert_eq!(store.get(b"m/format").unwrap(), Some(FORMAT.to_be_bytes().to_vec()));
    });
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    both(|place| {
        let store = place.open();
        store.apply(vec![Change::Put(b"m/format".to_vec(), (FORMAT + 1).to_be_bytes().to_vec())]).unwrap();
        let error = Journal::open(Arc::clone(&store)).unwrap_err();
        assert!(matches!(error, StoreError::FormatTooNew { found, .. } if found == FORMAT + 1), "{error}");
        assert!(error.to_string().contains("newer paceline"), "{error}");
        assert_eq!(store.get(b"m/epoch").unwrap(), None);
    });
}

#[test]
fn keys_and_scans_respect_their_bounds() {
    both(|place| {
        let store = place.open();
        let put = |key: &str| Change::Put(key.into(), key.into());
        store.apply(["a/1", "a/2", "a/3", "b/1"].map(put).into()).unwrap();
        store.apply(vec![Change::Remove("a/2".into()), Change::Remove("nothing".into())]).unwrap();
        store.flush().unwrap();
        assert_eq!(store.keys(b"a/1", b"a/3").unwrap(), [b"a/1"]);
        assert_eq!(store.scan(b"a/").unwrap().len(), 2);
        assert_eq!(store.get(b"b/1").unwrap(), Some(b"b/1".to_vec()));
    });
}

#[test]
fn a_folder_in_use_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let _first = SledStore::open(folder.path()).unwrap();
    let error = SledStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_by_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = SledStore::open(&file.path().join("data")).unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("writable"), "{error}");
}

#[test]
fn torn_snapshots_of_sled_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(Arc::new(SledStore::open(folder.path()).unwrap()));
    journal.write(&[begin(), vec![store_checkpoint(2)]]).unwrap();
    drop(journal);
    tear_snapshots(&folder.path().join("db"));
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
    let (_, stored) = open(Arc::clone(&store));
    assert_eq!(stored.epoch, 2);
    assert_eq!(read_checkpoint(&*store, 0, &run_id(), 2).unwrap(), checkpoint(2).1);
}

/// Cuts every snapshot in two and leaves an empty half-made one.
fn tear_snapshots(db: &Path) {
    std::fs::write(db.join("snap.00000000000000FF.generating"), b"").unwrap();
    let snapshots = std::fs::read_dir(db).unwrap().map(|entry| entry.unwrap().path());
    let whole = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("snap.") && !name.ends_with(".generating")
    };
    for snapshot in snapshots.filter(whole) {
        let bytes = std::fs::read(&snapshot).unwrap();
        std::fs::write(&snapshot, &bytes[..bytes.len() / 2]).unwrap();
    }
}
