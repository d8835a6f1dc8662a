//! What a message may take in memory, counted by the allocator: the worst that fits in a method's bound, as prost alone
//! would decode it and as it is decoded here.

use paceline_proto::fault;
use paceline_proto::pb;
use paceline_proto::wire::{decode, largest};
use prost::{Message, Name};

use crate::counting::peak_of;

/// What one empty entry of a list is on the wire, and how many there are room for.
struct Worst {
    method: &'static str,
    entry: &'static [u8],
    /// What lies around the entries, if they are within another message: its field.
    within: Option<u8>,
}

impl Worst {
    /// A message of so many entries.
    fn of(&self, count: usize) -> Vec<u8> {
        let entries = self.entry.repeat(count);
        match self.within {
            None => entries,
            Some(field) => {
                let mut whole = vec![field];
                prost::encoding::encode_varint(entries.len() as u64, &mut whole);
                whole.extend(entries);
                whole
            }
        }
    }

    /// As many entries as the method's bound lets travel.
    fn most(&self) -> usize {
        (largest(self.method) - 8) / self.entry.len()
    }
}

/// Most bytes held at once.
struct Peaks {
    /// By prost alone, of as many entries as may travel.
    alone: usize,
    /// Of the same, which is refused here.
    refused: usize,
    /// Entries of the largest message that is taken.
    taken: usize,
    /// Of that one.
    fits: usize,
}

/// [`measure`] for one kind of message.
type Measure = fn(&Worst) -> Peaks;

fn measure<M: Message + Name + Default>(worst: &Worst) -> Peaks {
    let vast = worst.of(worst.most());
    let alone = peak_of(|| drop(M::decode(vast.as_slice()).expect("sound")));
    let refused = peak_of(|| {
        let refusal = decode::<M>(&mut vast.as_slice()).err().expect("too much");
        assert_eq!(fault::reason(&refusal).as_deref(), Some("MESSAGE_TOO_LARGE"));
    });
    let takes = |count: usize| decode::<M>(&mut worst.of(count).as_slice()).is_ok();
    let (mut taken, mut too_many) = (0, worst.most());
    while too_many - taken > 1 {
        let middle = taken.midpoint(too_many);
        if takes(middle) { taken = middle } else { too_many = middle }
    }
    let full = worst.of(taken);
    let fits = peak_of(|| drop(decode::<M>(&mut full.as_slice()).expect("it was taken")));
    Peaks { alone, refused, taken, fits }
}

#[test]
fn no_message_takes_much_more_memory_than_its_bound() {
    const SUBMIT: &str = "paceline.v1.WorkerService/SubmitResult";
    const LEASE: &str = "paceline.v1.WorkerService/LeaseWork";
    const CREATE: &str = "paceline.v1.RunService/CreateRun";
    const RECORD: &str = "paceline.v1.RunService/RecordEvaluation";
    const BEAT: &str = "paceline.v1.WorkerService/Heartbeat";
    const RELEASE: &str = "paceline.v1.WorkerService/ReleaseLeases";
    const REGISTER: &str = "paceline.v1.WorkerService/RegisterWorker";
    let flat = |method, entry| Worst { method, entry, within: None };
    let checks: [(Worst, Measure); 9] = [
        (flat(SUBMIT, &[0x52, 0]), measure::<pb::SubmitResultRequest>),
        (flat(LEASE, &[0x1a, 0]), measure::<pb::LeaseWorkRequest>),
        // Slot numbers of one byte each, within a holding.
        (Worst { method: LEASE, entry: &[0x1a, 1, 0], within: Some(0x1a) }, measure::<pb::LeaseWorkRequest>),
        (flat(CREATE, &[0x2a, 0]), measure::<pb::CreateRunRequest>),
        (Worst { method: CREATE, entry: &[0x32, 0], within: Some(0x0a) }, measure::<pb::CreateRunRequest>),
        (Worst { method: RECORD, entry: &[0x32, 0], within: Some(0x12) }, measure::<pb::RecordEvaluationRequest>),
        (flat(BEAT, &[0x12, 0]), measure::<pb::HeartbeatRequest>),
        (flat(RELEASE, &[0x12, 0]), measure::<pb::ReleaseLeasesRequest>),
        (flat(REGISTER, &[0x32, 0]), measure::<pb::RegisterWorkerRequest>),
    ];
    // What messages look like is worked out once.
    decode::<pb::GetRunRequest>(&mut &b""[..]).expect("sound");
    for (worst, measure) in checks {
        let bound = largest(worst.method);
        let Peaks { alone, refused, taken, fits } = measure(&worst);
        println!(
            "{} entries {:02x?} in {:?}, bound {bound}: prost alone {alone}, here {refused}; {taken} entries are taken: {fits}",
            worst.method, worst.entry, worst.within
        );
        assert!(alone > bound, "{}: there is nothing to bound", worst.method);
        assert!(refused < 8 << 10, "{}: {refused} bytes held for a message that is refused", worst.method);
        // A list that grows has room for twice as much, and is copied from one half as large.
        assert!(fits <= 3 * bound + (8 << 10), "{}: {fits} bytes held, {bound} are the bound", worst.method);
    }
}
