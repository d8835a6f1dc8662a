//! Connections that flood, against the real program over TLS: the flooder loses its own, and nobody else notices.

use std::time::Duration;

use paceline_proto::client::RunClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, call_headers, for_each_frame,
    frame,
};
use crate::strangers::{PATIENCE, Target};

const LIST: &str = "/paceline.v1.RunService/ListRuns";
/// Streams of a flood.
const MANY: u32 = 100_000;
/// Frames written at once.
const BATCH: usize = 500;
/// HTTP/2's name for a peer that asks too much.
const ENHANCE_YOUR_CALM: u32 = 11;

/// What a server says to a flood.
#[derive(Debug, Default)]
struct Heard {
    /// Streams that it answered or refused.
    answered: u32,
    /// Why it closed the connection, if it said so.
    closed: Option<u32>,
}

impl Heard {
    fn note(&mut self, (kind, flags, _, payload): (u8, u8, u32, &[u8])) {
        match kind {
            HEADERS if flags & END_STREAM != 0 => self.answered += 1,
            RST_STREAM => self.answered += 1,
            GOAWAY => self.closed = payload[4..8].try_into().ok().map(u32::from_be_bytes),
            _ => {}
        }
    }
}

/// Writes until the server has enough or all is written, and reads until it closes or has answered every stream.
async fn pour(target: &Target, frames: impl Iterator<Item = Vec<u8>>) -> Heard {
    let (mut reading, mut writing) = tokio::io::split(target.stream().await);
    let write = async {
        let _ = writing.write_all(PREFACE).await;
        let mut frames = frames.peekable();
        while frames.peek().is_some() {
            let batch: Vec<u8> = frames.by_ref().take(BATCH).flatten().collect();
            if writing.write_all(&batch).await.is_err() {
                return;
            }
        }
        let _ = writing.flush().await;
    };
    let read = async {
        let (mut heard, mut unread) = (Heard::default(), Vec::new());
        // A connection that breaks has said what it had to say.
        while heard.answered < MANY && reading.read_buf(&mut unread).await.is_ok_and(|read| read > 0) {
            let whole = for_each_frame(&unread, |frame| heard.note(frame));
            unread.drain(..whole);
        }
        heard
    };
    let both = async { tokio::join!(write, read).1 };
    tokio::time::timeout(PATIENCE, both).await.expect("it answers all or closes the connection")
}

/// Streams are numbered by odd numbers.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|nth| 2 * nth + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_costs_its_own_connection_and_nobody_elses() {
    let target = Target::start().await;
    let runs = RunClient::new(target.link(Some(&target.operator)));
    assert_eq!(runs.list().await.unwrap(), []);
    let headers = call_headers(LIST);

    let call = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers);
    let begin = |stream| frame(HEADERS, END_HEADERS, stream, &headers);
    let cancel = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let heard = pour(&target, streams(MANY).map(|stream| [begin(stream), cancel(stream)].concat())).await;
    assert_eq!(heard.closed, Some(ENHANCE_YOUR_CALM), "rapid reset: {heard:?}");

    let heard = pour(&target, streams(MANY).map(call)).await;
    assert!(heard.answered == MANY || heard.closed == Some(ENHANCE_YOUR_CALM), "a hundred thousand streams: {heard:?}");

    let endless = std::iter::once(frame(HEADERS, 0, 1, &headers));
    let endless = endless.chain((0..MANY).map(|_| frame(CONTINUATION, 0, 1, &[0x00, 1, b'x', 1, b'y'])));
    let heard = pour(&target, endless).await;
    assert_eq!(heard.closed, Some(ENHANCE_YOUR_CALM), "headers without end: {heard:?}");

    assert_eq!(runs.list().await.unwrap(), [], "others go on on the connection they have");
    slow_headers_are_cut(&target, &headers).await;
    assert_eq!(RunClient::new(target.link(Some(&target.operator))).list().await.unwrap(), [], "and on new ones");
    let (log, lived) = target.stop().await;
    assert!(!log.contains("panicked"), "{log}");
    let refusals = log.lines().filter(|line| line.contains("call refused")).count() as u64;
    assert!(refusals >= 1 && refusals <= lived.as_secs() + 2, "{refusals} lines in {lived:?}");
}

/// Headers that come byte by byte, on a connection that has made a call before: nothing answers a ping in their midst.
async fn slow_headers_are_cut(target: &Target, headers: &[u8]) {
    let (mut reading, mut writing) = tokio::io::split(target.stream().await);
    let drip = async {
        let call = [frame(HEADERS, END_HEADERS, 1, headers), frame(DATA, END_STREAM, 1, &[0; 5])].concat();
        let begun = [PREFACE, &call, &frame(HEADERS, 0, 3, headers)].concat();
        let mut alive = writing.write_all(&begun).await.is_ok();
        while alive {
            tokio::time::sleep(Duration::from_millis(500)).await;
            alive = writing.write_all(&frame(CONTINUATION, 0, 3, &[0x00])).await.is_ok();
        }
    };
    let closed = async { while reading.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} };
    let cut = async {
        tokio::select! { () = drip => {} () = closed => {} }
    };
    tokio::time::timeout(PATIENCE, cut).await.expect("slow headers are cut off");
}
