//! The commands, one a file.

use crate::arguments::Command;
use crate::console::Console;
use crate::failure::Failure;

mod bench;
mod checkpoint;
mod doctor;
mod eval;
mod evaluations;
mod interchange;
mod run;
mod shell;
mod tasks;
mod token;
mod train;

/// Does what was typed.
pub(crate) fn run(command: &Command, console: Console) -> Result<(), Failure> {
    match command {
        Command::Train(arguments) => train::train(arguments, console),
        Command::Run { command, remote } => run::run(command, remote, console),
        Command::Checkpoint { command, remote } => checkpoint::checkpoint(command, remote, console),
        Command::Workers { command, remote } => token::workers(command, remote, console),
        Command::Token { command, remote } => token::token(command, remote, console),
        Command::Eval(arguments) => eval::eval(arguments, console),
        Command::Bench { command } => bench::bench(command, console),
        Command::Tasks { command } => tasks::tasks(command, console),
        Command::Doctor(arguments) => doctor::doctor(arguments, console),
        Command::Completions { shell } => {
            shell::completions(*shell);
            Ok(())
        }
        Command::Man { folder } => shell::man(folder, console),
    }
}
