//! Files from strangers: the laws of `fuzz/src/laws.rs`, and the bound on memory, for damaged and for hostile files.
//!
//! ```text
//!  fuzz/corpus/READER/*, golden files ─► as it is, cut anywhere, bits flipped, pieces moved and repeated ─► law
//! ```
//!
//! A binary of its own, because it counts what the allocator gives. `fuzz/run` looks further, with libFuzzer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic, in its helpers too")]

#[expect(unreachable_pub, reason = "public in the fuzz crate, which has them too")]
#[path = "../../../fuzz/src/counting.rs"]
mod counting;
#[expect(unreachable_pub, reason = "public in the fuzz crate, which has them too")]
#[path = "../../../fuzz/src/laws.rs"]
mod laws;

use std::path::{Path, PathBuf};

use laws::{LAWS, Law};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::noise::Draws;
use proptest::prelude::*;
use proptest::sample::Index;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Checks a law, and that the reader held no more memory than it may. Returns how much it held.
fn check(law: Law, bytes: &[u8], what: &str) -> usize {
    let (held, allowed) = (counting::peak_of(|| law(bytes)), counting::allowed(bytes.len()));
    assert!(held <= allowed, "{what}: {held} bytes held for {} bytes of input, {allowed} are allowed", bytes.len());
    held
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files of a folder, in the order of their names.
fn files(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    into.extend(paths.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())));
}

/// Seeds of one reader: committed ones, and the golden files it would meet.
fn seeds(reader: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds = vec![];
    files(&repository().join("fuzz/corpus").join(reader), &mut seeds);
    let golden = repository().join("optimizer-core/tests/golden");
    for folder in ["optimizers/flax_adafac_mlp_lopt", "optimizers/flax_hyper_v2", "celo/flax_celo", "celo/flax_celo2"] {
        files(&golden.join(folder), &mut seeds);
    }
    seeds
}

#[test]
fn every_seed_keeps_the_laws_whole_and_cut_anywhere() {
    for (reader, law) in LAWS {
        let mut most = 0;
        for (name, bytes) in seeds(reader) {
            check(law, &bytes, &name);
            // Every length of a small file; of a large one, those near structure and a sample of the rest.
            let step = bytes.len() / 4096 + 1;
            for length in (0..bytes.len()).filter(|length| *length < 2048 || length % step == 0) {
                most = most.max(check(law, &bytes[..length], &format!("{name} cut to {length}")));
            }
        }
        println!("{reader}: at most {most} bytes held");
    }
}

/// A change to a file.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    /// Some bytes from elsewhere over those here.
    Copy(Index, Index, usize),
    /// The same, pushed in between.
    Insert(Index, Index, usize),
    Remove(Index, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let length = 1..40_usize;
    let change = prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        (any::<Index>(), prop_oneof![any::<u8>(), Just(0xff), Just(0xdf), Just(0xc9)])
            .prop_map(|(at, to)| Change::Set(at, to)),
        (any::<Index>(), any::<Index>(), length.clone()).prop_map(|(from, to, length)| Change::Copy(from, to, length)),
        (any::<Index>(), any::<Index>(), length.clone())
            .prop_map(|(from, to, length)| Change::Insert(from, to, length)),
        (any::<Index>(), length).prop_map(|(at, length)| Change::Remove(at, length)),
    ];
    proptest::collection::vec(change, 1..5)
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let size = bytes.len();
        let piece = |from: &Index, length: usize| {
            let from = from.index(size);
            from..(from + length).min(size)
        };
        match change {
            Change::Flip(at, bit) => bytes[at.index(size)] ^= bit,
            Change::Set(at, to) => bytes[at.index(size)] = *to,
            Change::Copy(from, to, length) => {
                let from = piece(from, *length);
                let to = to.index(size - from.len() + 1);
                bytes.copy_within(from, to);
            }
            Change::Insert(from, to, length) => {
                let inserted = bytes[piece(from, *length)].to_vec();
                let to = to.index(size);
                bytes.splice(to..to, inserted);
            }
            Change::Remove(at, length) => {
                bytes.drain(piece(at, *length));
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn changed_seeds_keep_the_laws(which in any::<Index>(), changes in changes()) {
        for (reader, law) in LAWS {
            let seeds = SEEDS.with(|seeds| seeds.iter().find(|(name, _)| *name == reader).unwrap().1.clone());
            let (name, bytes) = &seeds[which.index(seeds.len())];
            check(law, &changed(bytes.clone(), &changes), name);
        }
    }
}

type Seeds = std::rc::Rc<Vec<(String, Vec<u8>)>>;

thread_local! {
    static SEEDS: Vec<(&'static str, Seeds)> =
        LAWS.map(|(reader, _)| (reader, Seeds::new(seeds(reader)))).to_vec();
}

/// Files that declare much or repeat much, larger than a seed should be.
#[test]
fn crowds_and_giants_take_little_memory() {
    const SIZE: usize = 1 << 20;
    let repeated = |head: &[u8], piece: &[u8], tail: &[u8]| {
        let times = (SIZE - head.len() - tail.len()) / piece.len();
        [head, &piece.repeat(times), tail].concat()
    };
    let header = |text: &[u8]| [&(text.len() as u64).to_le_bytes(), text].concat();
    let map = |entries: u32| [&[0xdf], &entries.to_be_bytes()[..]].concat();
    let msgpack = [
        ("maps in maps", repeated(&[], &[0x81, 0xa1, b'a'], &[0xc0])),
        ("arrays in arrays", repeated(b"\x81\xa6params", &[0x91], &[0xc0])),
        ("a crowd of keys", repeated(&map(SIZE as u32 / 2 - 3), &[0xa0, 0xc0], &[])),
        ("a map of 2^32", repeated(&[0xdf, 0xff, 0xff, 0xff, 0xff], &[0xa0, 0xc0], &[])),
        ("an array of 2^32", repeated(&[0xdd, 0xff, 0xff, 0xff, 0xff], &[0xdd, 0xff, 0xff, 0xff, 0xff], &[])),
        ("an extension of 4 GiB", repeated(&[0x81, 0xa2, b'n', b'n', 0xc9, 0xff, 0xff, 0xff, 0xff, 1], &[0], &[])),
        ("text of 4 GiB", repeated(&[0x81, 0xdb, 0xff, 0xff, 0xff, 0xff], b"a", &[])),
        ("one long key", repeated(&[&[0x81, 0xdb], &(SIZE as u32 - 7).to_be_bytes()[..]].concat(), b"a", &[0xc0])),
    ];
    let gin = [
        ("brackets", repeated(b"a.b = ", b"(", b"")),
        ("a crowd of values", repeated(b"a.b = [", b"0,", b"]")),
        ("a crowd of bindings", repeated(b"", b"a.b=1\n", b"")),
        ("a crowd of macros", (0..SIZE / 16).map(|i| format!("m{i}=%m{}\n", i + 1)).collect::<String>().into_bytes()),
        ("scopes", repeated(b"run_train.lopt = @", b"a/", b"LearnableAdam()")),
        ("an endless text", repeated(b"a.b = '", b"x", b"")),
        ("continued lines", repeated(b"a.b = ", b"\\\n", b"1")),
        ("comments", repeated(b"", b"#\n", b"")),
    ];
    let entry = br#""":{"dtype":"F32","shape":[],"data_offsets":[0,0]},"#;
    let document = |text: &str| {
        let text = serde_json::to_string(&format!("{{\"digest\":\"0\",{text}}}")).unwrap();
        header(format!("{{\"__metadata__\":{{\"paceline\":{text}}}}}").as_bytes())
    };
    let safetensors = [
        ("a crowd of tensors", header(&repeated(b"{", entry, br#""__metadata__":{}}"#))),
        ("a crowd of metadata", header(&repeated(br#"{"__metadata__":{"#, br#""":"","#, br#""":""}}"#))),
        ("a shape of many axes", header(&repeated(br#"{"a":{"dtype":"F32","shape":["#, b"0,", b"0]}}"))),
        ("deep nesting", header(&repeated(br#"{"a":"#, b"[", b""))),
        ("a header of 2^64", repeated(&[0xff; 8], b"{", b"")),
        ("a crowd of JSON values", document(&format!("\"x\":[{}0]", "0,".repeat(SIZE / 2)))),
        ("a crowd of JSON keys", document(&(0..SIZE / 12).map(|i| format!("\"{i}\":0,")).collect::<String>())),
        ("deep JSON", document(&format!("\"x\":{}", "[".repeat(SIZE)))),
        ("a giant's theta", giant()),
    ];
    for (law, files) in [(LAWS[0].1, &msgpack[..]), (LAWS[1].1, &gin[..]), (LAWS[2].1, &safetensors[..])] {
        for (what, bytes) in files {
            let held = check(law, bytes, what);
            println!("{what:24} {:8} bytes, {held:8} held", bytes.len());
        }
    }
}

/// A plain theta whose metadata name the largest optimizer there is, and which has all its tensors, each too small.
fn giant() -> Vec<u8> {
    let settings = r#"{"kind":"hyper_v2","lstm_hidden_size":4096,"param_inits":4096,"ff_hidden_size":256}"#;
    let optimizer: paceline_optimizer_core::learned::LearnedOptimizerConfig = serde_json::from_str(settings).unwrap();
    let about = serde_json::json!({"optimizer": optimizer, "outer_step": 0, "run": "giant"}).to_string();
    let learned = optimizer.build().unwrap();
    let views = learned.layout().tensors().iter().map(|tensor| {
        (tensor.name().to_owned(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![0], &[]).unwrap())
    });
    let metadata = std::collections::HashMap::from([("paceline_theta".to_owned(), about)]);
    safetensors::serialize(views.collect::<Vec<_>>(), Some(metadata)).unwrap()
}

/// The harness itself: what it counts is what was asked for.
#[test]
fn the_counter_counts() {
    let held = counting::peak_of(|| drop(std::hint::black_box(vec![0_u8; 12_345])));
    assert!((12_345..13_000).contains(&held), "{held}");
    let mut draws = Draws::new(Seed::new(3));
    assert_eq!(counting::peak_of(|| assert!(std::hint::black_box(draws.normal()).is_finite())), 0);
}
