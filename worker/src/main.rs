//! `paceline-worker`: parse, log, work until a signal.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use paceline_admin::{AdminAddress, Parsed, Traces};
use paceline_worker::Vitals;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

mod args;

/// Exit code of a command line whose values cannot be used.
const BAD_INPUT: u8 = 64;
/// Exit code where an address cannot be had.
const UNAVAILABLE: u8 = 69;
/// Exit code of settings that do not fit together.
const CONFIG: u8 = 78;
/// How long `--probe` waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

use args::{Args, LogFormat};

/// Inner training allocates and frees many buffers of few sizes, for which mimalloc is faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let parsed = Parsed::<Args>::of_process().unwrap_or_else(|error| error.exit());
    if parsed.arguments.print_config {
        let settings = parsed.settings(&[("PACELINE_TOKEN", true), ("PACELINE_LOG", false)]);
        print!("{}", paceline_admin::table(&settings));
        return ExitCode::SUCCESS;
    }
    let args = parsed.arguments;
    if args.probe {
        return probe(&args.admin_address);
    }
    log_to_stderr(args.log_format);
    // A worker has no trace of its own: its spans go with the lease's.
    let traces = Traces::start(args.otlp_endpoint.as_deref(), 1.0, "paceline-worker", env!("CARGO_PKG_VERSION"));
    let traces = match traces {
        Ok(traces) => traces,
        Err(reason) => {
            eprintln!("paceline-worker: --otlp-endpoint {reason}");
            return ExitCode::from(BAD_INPUT);
        }
    };
    let (vitals, stop_admin) = (Vitals::default(), CancellationToken::new());
    if let Err((code, reason)) = serve_admin(&args, vitals.clone(), stop_admin).await {
        eprintln!("paceline-worker: --admin-address {reason}");
        return ExitCode::from(code);
    }
    let shutdown = CancellationToken::new();
    tokio::spawn(drain_on_signal(shutdown.clone()));
    let ended = paceline_worker::run_seen(args.config(), vitals, shutdown).await;
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

/// Asks a worker that runs whether it is ready, as a container's health check does.
fn probe(admin: &AdminAddress) -> ExitCode {
    let (code, reason) = match admin {
        AdminAddress::Off => {
            (CONFIG, "--probe asks at --admin-address, which is off: name an address there".to_owned())
        }
        AdminAddress::At(address) => match paceline_admin::ask(address, "/readyz", PATIENCE) {
            Ok(_) => return ExitCode::SUCCESS,
            Err(heard) => (UNAVAILABLE, format!("not ready: {heard}")),
        },
    };
    eprintln!("paceline-worker: {reason}");
    ExitCode::from(code)
}

/// Serves probes and metrics where it was asked for; else the exit code and why not.
async fn serve_admin(args: &Args, vitals: Vitals, stop: CancellationToken) -> Result<(), (u8, String)> {
    let AdminAddress::At(wanted) = &args.admin_address else { return Ok(()) };
    let found = tokio::net::lookup_host(wanted).await;
    let addresses: Vec<_> =
        found.map_err(|error| (BAD_INPUT, format!("{wanted}: no such address ({error})")))?.collect();
    if let Some(open) = addresses.iter().find(|address| !address.ip().is_loopback() && !args.admin_insecure) {
        let cure = "use 127.0.0.1, or say --admin-insecure if the network is trusted";
        return Err((CONFIG, format!("{wanted}: {open} can be reached from other machines: {cure}")));
    }
    let listener = TcpListener::bind(addresses.as_slice())
        .await
        .map_err(|error| (UNAVAILABLE, format!("{wanted} cannot be used ({error}): choose another address")))?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "probes and metrics are here");
    }
    tokio::spawn(async move {
        if let Err(error) = vitals.serve(listener, stop).await {
            tracing::error!(%error, "the admin listener ended: no probe is answered any more");
        }
    });
    Ok(())
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
