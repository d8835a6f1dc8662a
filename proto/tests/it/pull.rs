//! Pulls against a real server that breaks, damages or changes what it sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use paceline_proto::chunk::{self, PIECE_BYTES};
use paceline_proto::client::{CheckpointClient, endpoint};
use paceline_proto::fault::Fault;
use paceline_proto::model::{CheckpointInfo, RunId};
use paceline_proto::pb;
use paceline_proto::pb::checkpoint_service_server::{CheckpointService, CheckpointServiceServer};
use tokio_stream::Iter;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

/// What goes wrong with stream number `n` (from 0) after its honest pieces.
type Mischief = fn(n: usize, pieces: Vec<Result<pb::Chunk, Status>>) -> Vec<Result<pb::Chunk, Status>>;

struct Server {
    file: Bytes,
    recorded: [u8; 32],
    mischief: Mischief,
    opened: Arc<AtomicUsize>,
}

fn run() -> RunId {
    "velo-00000001".parse().expect("an id")
}

#[tonic::async_trait]
impl CheckpointService for Server {
    type PullCheckpointStream = Iter<std::vec::IntoIter<Result<pb::Chunk, Status>>>;

    async fn list_checkpoints(
        &self,
        request: Request<pb::ListCheckpointsRequest>,
    ) -> Result<Response<pb::ListCheckpointsResponse>, Status> {
        // Three pages of one checkpoint each.
        let page: u64 = request.into_inner().page_token.parse().unwrap_or(0);
        let next_page_token = if page < 2 { (page + 1).to_string() } else { String::new() };
        Ok(Response::new(pb::ListCheckpointsResponse {
            checkpoints: vec![self.info(30 - page).into()],
            next_page_token,
        }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        if request.into_inner().run == "silent" {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(pb::GetCheckpointResponse { checkpoint: Some(self.info(30).into()) }))
    }

    async fn pull_checkpoint(
        &self,
        request: Request<pb::PullCheckpointRequest>,
    ) -> Result<Response<Self::PullCheckpointStream>, Status> {
        let request = request.into_inner();
        assert_eq!(request.outer_step, Some(30), "the newest is chosen once");
        let number = self.opened.fetch_add(1, Ordering::SeqCst);
        let pieces =
            chunk::pieces(self.file.clone(), chunk::sha256(&self.file), request.offset).map_err(Fault::from)?;
        Ok(Response::new(tokio_stream::iter((self.mischief)(number, pieces.map(Ok).collect()))))
    }
}

impl Server {
    fn info(&self, outer_step: u64) -> CheckpointInfo {
        let theta_hash = paceline_optimizer_core::ThetaHash([1; 32]);
        let (size_bytes, sha256) = (self.file.len() as u64, self.recorded);
        CheckpointInfo { run: run(), outer_step, size_bytes, sha256, theta_hash, meta_loss: None, inner_steps: 5 }
    }
}

/// A client of a server with this mischief, the file it keeps, and how many streams it opened.
async fn served(mischief: Mischief) -> (CheckpointClient, Bytes, Arc<AtomicUsize>) {
    let file: Bytes = (0..PIECE_BYTES * 3 + 17).map(|index| (index % 253) as u8).collect();
    let opened = Arc::new(AtomicUsize::new(0));
    let recorded = chunk::sha256(&file);
    let server = Server { file: file.clone(), recorded, mischief, opened: opened.clone() };
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = incoming.local_addr().expect("bound");
    let service = CheckpointServiceServer::new(server);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    (CheckpointClient::new(endpoint(&address.to_string()).expect("an address").connect_lazy()), file, opened)
}

#[tokio::test]
async fn an_honest_stream_is_opened_once() {
    let (client, file, opened) = served(|_, pieces| pieces).await;
    assert_eq!(client.pull(&run(), None).await.unwrap(), file);
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn broken_streams_go_on_where_they_broke() {
    let (client, file, opened) = served(|number, mut pieces| {
        match number {
            // Ends early without a word.
            0 => pieces.truncate(1),
            // Breaks with a status.
            1 => pieces[1] = Err(Fault::ShuttingDown.into()),
            // Damages its first piece.
            2 => pieces[0].as_mut().unwrap().crc32c ^= 1,
            _ => {}
        }
        pieces
    })
    .await;
    assert_eq!(client.pull(&run(), None).await.unwrap(), file);
    assert_eq!(opened.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn what_no_second_try_mends_ends_at_once() {
    let (client, _, opened) = served(|_, mut pieces| {
        let run = "velo-00000001".parse().unwrap();
        pieces[1] = Err(Fault::CheckpointCorrupt { run, outer_step: 30, reason: "crc32c".into() }.into());
        pieces
    })
    .await;
    let status = client.pull(&run(), None).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert_eq!(paceline_proto::fault::reason(&status).as_deref(), Some("CHECKPOINT_CORRUPT"));
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn pieces_out_of_order_are_refused() {
    let (client, _, _) = served(|_, mut pieces| {
        pieces.swap(1, 2);
        pieces
    })
    .await;
    let status = client.pull(&run(), None).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss, "{status:?}");
    assert!(status.message().contains("expected 262144"), "{status:?}");
}

#[tokio::test]
async fn a_stream_that_always_breaks_ends_after_ten_tries() {
    tokio::time::pause();
    let (client, _, opened) = served(|_, _| Vec::new()).await;
    let status = client.pull(&run(), None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(opened.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn lists_follow_their_pages() {
    let (client, _, _) = served(|_, pieces| pieces).await;
    let steps: Vec<u64> = client.list(&run()).await.unwrap().iter().map(|info| info.outer_step).collect();
    assert_eq!(steps, [30, 29, 28]);
}

#[tokio::test]
async fn a_silent_coordinator_is_a_missed_deadline() {
    tokio::time::pause();
    let (client, _, _) = served(|_, pieces| pieces).await;
    let status = client.get(&"silent".parse().unwrap(), None).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(paceline_proto::fault::is_transient(&status));
}

#[tokio::test]
async fn a_coordinator_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let client = CheckpointClient::new(endpoint(&address).unwrap().connect_lazy());
    let status = client.get(&run(), None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(
        paceline_proto::fault::describe(&status).contains("refused"),
        "{}",
        paceline_proto::fault::describe(&status)
    );
}
