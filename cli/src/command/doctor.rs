//! `paceline doctor`: what works on this machine, what does not, and what to do about it.

use std::path::Path;
use std::time::Duration;

use paceline_proto::client::Access;
use serde::Serialize;
use serde_json::json;

use crate::arguments::DoctorArguments;
use crate::console::Console;
use crate::evaluation::processors;
use crate::failure::{Exit, Failure};
use crate::remote::{Coordinator, runtime};

/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where a coordinator is looked for when none is named.
const USUAL_ADDRESS: &str = "http://127.0.0.1:7700";

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    outcome: Outcome,
    found: String,
    cure: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, found: found.into(), cure: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warn, found: found.into(), cure: Some(cure.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Fail, found: found.into(), cure: Some(cure.into()) }
    }
}

/// `paceline doctor`.
pub(crate) fn doctor(arguments: &DoctorArguments, console: Console) -> Result<(), Failure> {
    let checks = [
        version(),
        processor(),
        device(),
        data(arguments.data_dir.as_deref()),
        store(&arguments.store),
        coordinator(arguments.coordinator.as_deref(), &arguments.access.access())?,
    ];
    for check in &checks {
        let mark = match check.outcome {
            Outcome::Ok => "ok  ",
            Outcome::Warn => "warn",
            Outcome::Fail => "FAIL",
        };
        console.say(format!("{mark}  {:<12} {}", check.name, check.found));
        if let Some(cure) = &check.cure {
            console.say(format!("{:19}{cure}", ""));
        }
    }
    console.emit(&json!({"checks": checks}));
    let failed: Vec<_> = checks.iter().filter(|check| check.outcome == Outcome::Fail).map(|check| check.name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "DOCTOR_FAILED", format!("not in order: {}", failed.join(", "))))
}

fn version() -> Check {
    let protocol = paceline_proto::PROTOCOL;
    let format = paceline_optimizer_core::checkpoint::FORMAT;
    Check::ok("version", format!("{} (protocol {protocol}, checkpoint format {format})", env!("CARGO_PKG_VERSION")))
}

fn processor() -> Check {
    if cfg!(debug_assertions) {
        return Check::warn("processor", machine(), "build with `cargo build --release`");
    }
    Check::ok("processor", machine())
}

/// What computes here: processors, their kind and instructions, and whether this build is slow.
pub(super) fn machine() -> String {
    let build = if cfg!(debug_assertions) { "; unoptimised build" } else { "" };
    format!("{} {}, {}{build}", processors(), std::env::consts::ARCH, features().join(" "))
}

/// Vector instructions that make a difference here.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let all = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    let found: Vec<_> = all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect();
    if found.is_empty() { vec!["no avx2, fma or avx512f: computing will be slow"] } else { found }
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    vec!["vector instructions of the architecture's baseline"]
}

/// Whether cuda:0 can be used. Nobody asked for it, so its absence is worth a word but no warning.
fn device() -> Check {
    match paceline_worker::cuda::find(0) {
        Ok(facts) => Check::ok("device", format!("cpu; cuda:0: {facts}")),
        Err(reason) => Check::ok("device", format!("cpu; cuda:0 cannot be used: {reason}")),
    }
}

fn data(folder: Option<&Path>) -> Check {
    let Some(folder) = folder else {
        let cure = "procedural data is used; name a folder with --data-dir or PACELINE_DATA to use real data";
        return Check::warn("data", "no folder named", cure);
    };
    let name = folder.display();
    if !folder.is_dir() {
        return Check::fail("data", format!("{name} is no folder"), "name another with --data-dir");
    }
    let known = [("MNIST", "mnist"), ("Fashion-MNIST", "fashion_mnist"), ("CIFAR-10", "cifar10")];
    let found: Vec<_> = known.iter().filter(|(_, path)| folder.join(path).is_dir()).map(|(set, _)| *set).collect();
    if found.is_empty() {
        return Check::warn(
            "data",
            format!("{name} holds no known data set"),
            "put MNIST's IDX files into its folder mnist/",
        );
    }
    // Reading is the only way to know that a file is whole.
    for (_, path) in known.iter().filter(|(set, _)| found.contains(set)) {
        let settings = serde_json::Map::from_iter([("data".to_owned(), (*path).into())]);
        if let Err(error @ paceline_tasks::Error::Data { .. }) =
            paceline_tasks::build("image_mlp", &settings, Some(folder))
        {
            return Check::fail("data", error.to_string(), "mend it, or name another folder with --data-dir");
        }
    }
    Check::ok("data", format!("{name}: {}", found.join(", ")))
}

fn store(folder: &Path) -> Check {
    // A store that does not exist yet is fine if its nearest existing parent can be written.
    let there = folder.ancestors().find(|path| path.is_dir() || path.as_os_str().is_empty());
    let place = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let probe = place.join(format!(".paceline-doctor-{}", std::process::id()));
    let tried = std::fs::write(&probe, b"probe").and_then(|()| std::fs::remove_file(&probe));
    let name = folder.display();
    match tried {
        Ok(()) if folder.is_dir() => Check::ok("store", format!("{name} is writable")),
        Ok(()) if folder.exists() => {
            Check::fail("store", format!("{name} is not a folder"), "name another with --store")
        }
        Ok(()) => Check::ok("store", format!("{name} will be made by the first run")),
        Err(error) => {
            let cure = "make it writable, free some space, or name another with --store";
            Check::fail("store", format!("{name} cannot be written: {error}"), cure)
        }
    }
}

/// A coordinator that was named must answer; one that was not is only worth a remark.
fn coordinator(named: Option<&str>, access: &Access) -> Result<Check, Failure> {
    let address = named.unwrap_or(USUAL_ADDRESS);
    let answer = runtime()?.block_on(async {
        let coordinator = Coordinator::with(address, access).await?;
        match tokio::time::timeout(PATIENCE, coordinator.runs.list()).await {
            Ok(runs) => coordinator.answer(runs).map(|runs| runs.len()),
            Err(_) => Err(Failure::new(Exit::Unavailable, "TIMEOUT", format!("no answer within {PATIENCE:?}"))),
        }
    });
    Ok(match (answer, named) {
        (Ok(runs), _) => Check::ok("coordinator", format!("{address} answers and knows {runs} runs")),
        (Err(failure), Some(_)) => {
            let found = std::iter::once(failure.message).chain(failure.causes).collect::<Vec<_>>().join(": ");
            Check::fail("coordinator", found, failure.help.unwrap_or_else(|| "see the coordinator's log".into()))
        }
        (Err(_), None) => Check::ok("coordinator", format!("none at {address}; `paceline train` needs none")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_folders_are_recognised() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(data(Some(&folder.path().join("gone"))).outcome, Outcome::Fail);
        assert_eq!(data(Some(folder.path())).outcome, Outcome::Warn);
        std::fs::create_dir(folder.path().join("mnist")).expect("made");
        let empty = data(Some(folder.path()));
        assert!(empty.outcome == Outcome::Fail && empty.found.contains("not found"), "{empty:?}");
        let images = [&[0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1][..], &[7; 20]].concat();
        let labels = [&[0, 0, 8, 1, 0, 0, 0, 20][..], &[7; 20]].concat();
        std::fs::write(folder.path().join("mnist/t10k-images-idx3-ubyte"), images).expect("written");
        std::fs::write(folder.path().join("mnist/t10k-labels-idx1-ubyte"), labels).expect("written");
        let check = data(Some(folder.path()));
        assert_eq!(check.outcome, Outcome::Ok, "{check:?}");
        assert!(check.found.ends_with("MNIST"), "{check:?}");
    }

    #[test]
    fn a_store_may_not_exist_yet_but_may_not_be_a_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(store(folder.path()).outcome, Outcome::Ok);
        assert_eq!(store(&folder.path().join("a/b")).outcome, Outcome::Ok);
        let file = folder.path().join("file");
        std::fs::write(&file, b"x").expect("written");
        assert_eq!(store(&file).outcome, Outcome::Fail);
    }
}
