//! What a measurement says of the machine, and the threads that it asks for.

use std::num::NonZeroUsize;

use paceline_optimizer_core::simd::InstructionSet;

/// Threads to use: as many as asked for, else all. More than the machine has are warned of, not refused: what they cost may
/// be the question.
pub(super) fn threads(asked: Option<u16>) -> usize {
    let there = available();
    let threads = asked.map_or(there, usize::from);
    if threads > there {
        eprintln!("warning: {threads} threads on a machine that runs {there} at once: they will wait for each other");
    }
    threads
}

/// Threads that run at once.
pub(super) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The instruction set that kernels run with.
pub(super) fn instruction_set() -> &'static str {
    match InstructionSet::best() {
        InstructionSet::Portable => "portable",
        InstructionSet::Avx2 => "avx2",
        InstructionSet::Avx512 => "avx512",
        InstructionSet::Neon => "neon",
    }
}

/// Bytes that may still be allocated; `None` where the system does not tell.
pub(super) fn available_bytes() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}
