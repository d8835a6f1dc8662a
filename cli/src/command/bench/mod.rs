//! `paceline bench`: measurements that anybody can repeat.

use crate::arguments::BenchCommand;
use crate::console::Console;
use crate::failure::Failure;

mod estimators;
mod executors;
mod fold;
mod inner;
mod machine;
mod meta_gradient;
mod named;
mod rates;
mod real;
mod regression;
mod scaling;
mod shapes;
mod times;
mod update;

/// `paceline bench …`.
pub(super) fn bench(command: &BenchCommand, console: Console) -> Result<(), Failure> {
    match command {
        BenchCommand::Inner(arguments) => inner::inner(arguments, console),
        BenchCommand::Update(arguments) => update::update(arguments, console),
        BenchCommand::Scaling(arguments) => scaling::scaling(arguments, console),
        BenchCommand::Estimators(arguments) => estimators::estimators(arguments, console),
        BenchCommand::Fold(arguments) => fold::fold(arguments, console),
        BenchCommand::Real(arguments) => real::real(arguments, console),
    }
}
