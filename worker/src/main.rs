//! `paceline-worker`: parse, log, work until a signal.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use paceline_admin::Traces;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

mod args;

/// Exit code of a command line whose values cannot be used.
const BAD_INPUT: u8 = 64;

use args::{Args, LogFormat};

/// Inner training allocates and frees many buffers of few sizes, for which mimalloc is faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr(args.log_format);
    let traces = Traces::start(args.otlp_endpoint.as_deref(), "paceline-worker", env!("CARGO_PKG_VERSION"));
    let traces = match traces {
        Ok(traces) => traces,
        Err(reason) => {
            eprintln!("paceline-worker: --otlp-endpoint {reason}");
            return ExitCode::from(BAD_INPUT);
        }
    };
    let shutdown = CancellationToken::new();
    tokio::spawn(drain_on_signal(shutdown.clone()));
    let ended = paceline_worker::run(args.config(), shutdown).await;
    traces.finish().await;
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("paceline-worker: {:#}", anyhow::Error::new(error));
            code
        }
    }
}

/// SIGTERM or ctrl-c begins the drain; a second one ends the process.
async fn drain_on_signal(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be caught: the worker will not drain before it ends");
        return;
    };
    let mut next = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
    next().await;
    tracing::info!("draining: unfinished leases are handed back; a second signal ends at once");
    shutdown.cancel();
    next().await;
    std::process::exit(130);
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_env("PACELINE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_target(false).with_ansi(color()).init(),
        LogFormat::Json => logs.json().init(),
    }
}

/// Colours are for a terminal whose owner wants them (no-color.org).
fn color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal()
}
