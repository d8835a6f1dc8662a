//! The coordinator as a program: reads its command line, binds, serves, stops on a signal.

mod config;
mod exit;
mod protection;
mod telemetry;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use paceline_admin::{AdminAddress, Parsed, Traces};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use config::{Arguments, Settings};
use exit::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long `--probe` waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let parsed = match Parsed::<Arguments>::of_process() {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version come this way too, and are no faults.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let ended = if parsed.arguments.print_config {
        let settings = paceline_admin::table(&parsed.settings(&[("PACELINE_LOG", false)]));
        print(&settings).and_then(|()| Settings::try_from(parsed.arguments).map(drop))
    } else {
        run(parsed.arguments)
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn print(settings: &str) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(settings.as_bytes());
    written.map_err(|error| Failure::new(exit::IO, format!("write to standard output: {error}")))
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let probe = arguments.probe;
    let settings = Settings::try_from(arguments)?;
    if probe {
        return ask(&settings);
    }
    telemetry::start(settings.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::RUNTIME, format!("start the runtime: {error}")))?;
    runtime.block_on(serve(settings))
}

/// Asks a coordinator with these settings whether it is ready, as a container's health check does.
fn ask(settings: &Settings) -> Result<(), Failure> {
    let AdminAddress::At(address) = &settings.admin else {
        return Err(Failure::new(exit::CONFIG, "--probe asks at --admin-address, which is off: name an address there"));
    };
    let report = paceline_admin::ask(address, "/readyz", PATIENCE);
    report.map(drop).map_err(|heard| Failure::new(exit::UNAVAILABLE, format!("not ready: {heard}")))
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let (listener, address) = bind("--listen", &settings.listen, |found| {
        if let Some(warning) = settings.protection.allow(found)? {
            tokio::spawn(protection::remind(warning));
        }
        Ok(())
    })
    .await?;
    let endpoint = settings.otlp_endpoint.as_deref();
    let traces = Traces::start(endpoint, settings.otlp_sample, "paceline-coordinator", env!("CARGO_PKG_VERSION"))
        .map_err(|reason| Failure::new(exit::BAD_INPUT, format!("--otlp-endpoint {reason}")))?;
    let stop_admin = CancellationToken::new();
    // Before the store is opened, so that a probe meanwhile is answered.
    let admin = serve_admin(&settings, stop_admin.clone()).await?;
    tracing::info!(%address, admin = admin.map(tracing::field::display), store = ?settings.config.data, version = env!("CARGO_PKG_VERSION"), "coordinator starts");
    // Programs that start a coordinator on port 0 read the port from what is announced.
    let served = paceline_coordinator::serve_and_tell(settings.config, listener, shutdown, || announce(address, admin));
    let served = served.await;
    traces.finish().await;
    served.map_err(exit::from_serving)?;
    stop_admin.cancel();
    tracing::info!("coordinator stopped");
    Ok(())
}

/// Serves probes, metrics and pages, and tells where.
async fn serve_admin(settings: &Settings, stop: CancellationToken) -> Result<Option<SocketAddr>, Failure> {
    let AdminAddress::At(wanted) = &settings.admin else { return Ok(None) };
    let bound = bind("--admin-address", wanted, |found| settings.allow_admin(found)).await;
    let (listener, address) = match bound {
        // Nobody asked for this very port, so it is no reason not to start.
        Err(failure) if failure.code == exit::UNAVAILABLE && !settings.admin_chosen => {
            tracing::warn!("{failure}; any free port is taken instead");
            bind("--admin-address", "127.0.0.1:0", |found| settings.allow_admin(found)).await?
        }
        bound => bound?,
    };
    let serving = settings.config.admin.clone().serve(listener, stop);
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the admin listener ended: no probe, scrape or page is answered any more");
        }
    });
    Ok(Some(address))
}

async fn bind(
    flag: &str,
    wanted: &str,
    allow: impl FnOnce(&[SocketAddr]) -> Result<(), Failure>,
) -> Result<(TcpListener, SocketAddr), Failure> {
    let unknown = |error| Failure::new(exit::BAD_INPUT, format!("{flag} {wanted}: no such address ({error})"));
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(wanted).await.map_err(unknown)?.collect();
    allow(&addresses)?;
    let taken = |error: std::io::Error| exit::from_binding(flag, wanted, &error);
    let listener = TcpListener::bind(addresses.as_slice()).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    Ok((listener, address))
}

fn announce(address: SocketAddr, admin: Option<SocketAddr>) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let pages = admin.map(|admin| format!("pages on http://{admin}/\n")).unwrap_or_default();
    // In one piece: whoever reads one line and goes away must not make the second fail.
    stdout
        .write_all(format!("listening on {address}\n{pages}").as_bytes())
        .and_then(|()| stdout.flush())
        .context("write to standard output")
}

/// The first SIGTERM or SIGINT asks for a graceful stop; a second one ends the process at once.
fn stop_on_signal(shutdown: CancellationToken) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new(exit::RUNTIME, format!("watch signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => exit::TERMINATED,
                _ = interrupt.recv() => exit::INTERRUPTED,
            }
        };
        next().await;
        tracing::info!("stopping: calls in flight finish, runs are saved; a second signal ends at once");
        shutdown.cancel();
        let code = next().await;
        std::process::exit(code.into());
    });
    Ok(())
}
