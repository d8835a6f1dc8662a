//! `paceline doctor`: what works on this machine, what does not, and what to do about it.

mod check;
mod coordinator;
mod places;
mod trust;

use std::time::SystemTime;

use serde_json::json;

use crate::arguments::DoctorArguments;
use crate::console::Console;
use crate::evaluation::processors;
use crate::failure::{Exit, Failure};
use check::{Check, Outcome};

/// `paceline doctor`.
pub(crate) fn doctor(arguments: &DoctorArguments, console: Console) -> Result<(), Failure> {
    let access = arguments.access.access();
    let address = arguments.coordinator.as_deref();
    let heard = coordinator::ask(address, &access)?;
    let now = SystemTime::now();
    let checks = [
        version(),
        processor(),
        device(),
        places::data(arguments.data_dir.as_deref()),
        places::store(&arguments.store),
        places::disk(&arguments.store),
        coordinator::clock(now, heard.clock),
        trust::certificates(&access.trust, now),
        trust::token(&access.token),
        heard.check,
    ];
    for line in checks.iter().flat_map(Check::lines) {
        console.say(line);
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
pub(in crate::command) fn machine() -> String {
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
