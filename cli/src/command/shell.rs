//! `paceline completions` and `paceline man`: what a shell and a reader of manuals want, made from the arguments themselves.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::console::Console;
use crate::failure::Failure;

/// `paceline completions SHELL`, on standard output.
pub(crate) fn completions(shell: Shell) {
    clap_complete::generate(shell, &mut Arguments::command(), "paceline", &mut std::io::stdout());
}

/// `paceline man DIR`: one page a command.
pub(crate) fn man(folder: &Path, console: Console) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::cannot_create(folder, &error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(failed)?;
    console.say(format!(
        "manual pages: {}; read one with `man {}`",
        folder.display(),
        folder.join("paceline.1").display()
    ));
    console.emit(&serde_json::json!({"folder": folder}));
    Ok(())
}
