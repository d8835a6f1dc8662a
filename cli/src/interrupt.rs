//! Ctrl-C: the first asks for a graceful stop, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::failure::Exit;

/// What Ctrl-C (or SIGTERM) sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    /// For waiting code.
    pub(crate) token: CancellationToken,
    /// For computing code, checked between inner steps.
    pub(crate) flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from now on. Must be called inside a tokio runtime that stays alive.
    pub(crate) fn listen() -> Self {
        let interrupt = Self::default();
        let heard = interrupt.clone();
        tokio::spawn(async move {
            signal().await;
            heard.flag.store(true, Ordering::Relaxed);
            heard.token.cancel();
            signal().await;
            eprintln!("stopped at once; what was durable stays in the store");
            std::process::exit(Exit::Interrupted as i32);
        });
        interrupt
    }
}

/// The next SIGINT or SIGTERM. If signals cannot be heard, none ever comes and their default action holds.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            tokio::select! {
                _ = int.recv() => return,
                _ = term.recv() => return,
            }
        }
        std::future::pending::<()>().await;
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
