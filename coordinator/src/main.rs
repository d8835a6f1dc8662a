//! The coordinator as a program: reads its command line, binds, serves, stops on a signal.

mod config;
mod exit;
mod protection;
mod telemetry;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use config::{Arguments, Settings};
use exit::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, and are no faults.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let settings = Settings::try_from(arguments)?;
    telemetry::start(settings.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::RUNTIME, format!("start the runtime: {error}")))?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let (listener, address) = bind(&settings).await?;
    tracing::info!(%address, store = ?settings.config.data, version = env!("CARGO_PKG_VERSION"), "coordinator starts");
    // Programs that start a coordinator on port 0 read the port from what is announced.
    let served = paceline_coordinator::serve_and_tell(settings.config, listener, shutdown, || announce(address));
    served.await.map_err(exit::from_serving)?;
    tracing::info!("coordinator stopped");
    Ok(())
}

async fn bind(settings: &Settings) -> Result<(TcpListener, SocketAddr), Failure> {
    let wanted = &settings.listen;
    let unknown = |error| Failure::new(exit::BAD_INPUT, format!("--listen {wanted}: no such address ({error})"));
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(wanted).await.map_err(unknown)?.collect();
    if let Some(warning) = settings.protection.allow(&addresses)? {
        tokio::spawn(protection::remind(warning));
    }
    let taken = |error: std::io::Error| exit::from_binding(wanted, &error);
    let listener = TcpListener::bind(addresses.as_slice()).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    Ok((listener, address))
}

fn announce(address: SocketAddr) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {address}").and_then(|()| stdout.flush()).context("write to standard output")
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
