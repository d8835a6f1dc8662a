//! `paceline bench`: measurements that anybody can repeat.

use crate::arguments::BenchCommand;
use crate::console::Console;
use crate::failure::Failure;

mod estimators;
mod fold;
mod rates;
mod real;
mod regression;

/// `paceline bench …`.
pub(super) fn bench(command: &BenchCommand, console: Console) -> Result<(), Failure> {
    match command {
        BenchCommand::Estimators(arguments) => estimators::estimators(arguments, console),
        BenchCommand::Fold(arguments) => fold::fold(arguments, console),
        BenchCommand::Real(arguments) => real::real(arguments, console),
    }
}
