//! Volumes that are full or read-only, under the real program: what it says, how it ends, and how it goes on.
//!
//! Each test has a small file system of its own, for which it must be allowed to mount one.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use paceline_proto::client::{RunClient, endpoint};
use tonic::Code;

use crate::admin::{ask, get};
use crate::cluster::{refused, spec};
use crate::program::{coordinator, run};
use crate::volume::Volume;

/// Longest that a change may take to show; generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_volume_that_takes_nothing_ends_the_start_with_73() {
    let Some(volume) = Volume::mount("a_volume_that_takes_nothing_ends_the_start_with_73", "4m") else { return };
    let data = volume.path("data");
    let starts = || run(&["--listen", "127.0.0.1:0", "--admin-address", "off", "--data", data.to_str().unwrap()]);
    let told = |why: &str| {
        let (code, stdout, stderr) = starts();
        assert_eq!(code, 73, "{stderr}");
        assert!(stdout.is_empty() && !stderr.contains("panicked"), "{stdout}{stderr}");
        for said in [data.to_str().unwrap(), why, "writable", "free space"] {
            assert!(stderr.contains(said), "{said:?} is missing in {stderr}");
        }
    };
    volume.fill(0);
    told("No space left on device");
    volume.free();
    volume.read_only();
    told("Read-only file system");
}

/// A coordinator on a volume, its log and its two addresses.
struct Started {
    child: Child,
    log: std::thread::JoinHandle<String>,
    calls: String,
    pages: String,
}

fn started(data: &Path) -> Started {
    let data = data.to_str().unwrap();
    let mut child = coordinator(&["--listen", "127.0.0.1:0", "--admin-address", "127.0.0.1:0", "--data", data])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let calls = lines.next().and_then(|line| Some(line.strip_prefix("listening on ")?.to_owned())).expect("an address");
    let pages = lines.next().and_then(|line| Some(line.split('/').nth(2)?.to_owned())).expect("an address");
    Started { child, log, calls, pages }
}

/// Asks until `/readyz` has this status; its body.
async fn until_ready_is(pages: &str, wanted: u16) -> String {
    let asking = async {
        loop {
            let (status, _, body) = ask(pages, "GET", "/readyz", "*/*").await;
            if status == wanted {
                return String::from_utf8(body).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("/readyz never answered {wanted}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_fills_up_is_shown_and_waited_out() {
    let Some(volume) = Volume::mount("a_volume_that_fills_up_is_shown_and_waited_out", "16m") else { return };
    let Started { child, log, calls, pages } = started(&volume.path("data"));
    let begun = Instant::now();
    let runs = RunClient::new(endpoint(&calls).unwrap().connect_lazy());
    let mut kept = vec![runs.create(&spec("first"), &[], "r0", false).await.unwrap().state.run];
    until_ready_is(&pages, 200).await;

    volume.fill(64 << 10);
    let filling = async {
        loop {
            let id = format!("r{}", kept.len());
            match runs.create(&spec("more"), &[], &id, false).await {
                Ok(created) => kept.push(created.state.run),
                Err(status) => return status,
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, filling).await.expect("the volume fills up");
    let status = refused(Err::<(), _>(status), Code::Unavailable, "STORE_READ_ONLY");
    assert!(status.message().contains("goes on by itself"), "{status:?}");
    let unready = until_ready_is(&pages, 503).await;
    assert!(unready.contains("\"failing\": \"journal\"") && unready.contains("free space"), "{unready}");
    get(&pages, "/healthz").await;
    assert!(get(&pages, "/metrics").await.contains("paceline_store_read_only 1"));
    let page = get(&pages, "/").await;
    assert!(page.contains("role=\"alert\"") && page.contains("The store cannot be written"), "{page}");
    for _ in 0..20 {
        let again = runs.create(&spec("refused"), &[], "never", false).await;
        refused(again, Code::Unavailable, "STORE_READ_ONLY");
    }

    volume.free();
    until_ready_is(&pages, 200).await;
    assert!(get(&pages, "/metrics").await.contains("paceline_store_read_only 0"));
    let there: Vec<_> = runs.list().await.unwrap().into_iter().map(|run| run.run).collect();
    assert!(kept.iter().all(|run| there.contains(run)), "{kept:?} were acknowledged, {there:?} are there");
    runs.create(&spec("after"), &[], "after", false).await.unwrap();

    let ended = tokio::task::spawn_blocking(move || {
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        let mut child = child;
        (child.wait().unwrap().code(), log.join().unwrap())
    });
    let (code, log) = ended.await.unwrap();
    assert_eq!(code, Some(0), "{log}");
    for said in ["the store can no longer be written", "the store can be written again"] {
        assert_eq!(log.matches(said).count(), 1, "{said}: {log}");
    }
    let errors = log.lines().filter(|line| line.contains("STORE_READ_ONLY")).count() as u64;
    assert!(errors <= begun.elapsed().as_secs() + 2, "{errors} lines: {log}");
}
