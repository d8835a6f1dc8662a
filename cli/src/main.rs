//! `paceline`: what a person types.
//!
//! ```text
//!  arguments ─► command ─► Console (stdout: results, stderr: progress)
//!                  └─ Failure ─► "error: … help: …" once, and the exit code of docs/exit-codes.md
//! ```

use std::process::ExitCode;

use paceline_admin::Parsed;

mod arguments;
mod cluster;
mod command;
mod console;
mod evaluation;
mod export;
mod failure;
mod file;
mod interrupt;
mod live;
mod mixture;
mod pace;
mod progress;
mod recipe;
mod remote;

/// Small, short-lived tensors are allocated all the time; the system's allocator is the slowest part of an inner step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let parsed = Parsed::<arguments::Arguments>::of_process().unwrap_or_else(|error| error.exit());
    let arguments = &parsed.arguments;
    let console = console::Console::new(arguments.format, arguments.color);
    console::log_to_stderr(arguments.verbose, console.color);
    if arguments.print_config {
        console.settings(&parsed.settings(&[("PACELINE_TOKEN", true), ("PACELINE_LOG", false)]));
        return ExitCode::SUCCESS;
    }
    match command::run(&arguments.command, console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console.fail(&failure);
            failure.exit.into()
        }
    }
}
