//! Numbers and states as people read them.

use std::time::Duration;

use paceline_proto::model::{RunState, RunStatus};

/// A state in one word.
pub(super) fn status(status: &RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::Completed => "completed",
        RunStatus::Stopped => "stopped",
        RunStatus::Failed { .. } => "failed",
    }
}

/// Why it is so, where there is more to say than the state does.
pub(super) fn reason(state: &RunState) -> &str {
    match &state.status {
        RunStatus::Failed { reason } => reason,
        other if state.reason == status(other) => "",
        _ => &state.reason,
    }
}

/// Four digits, whatever the size.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "not finite".to_owned();
    }
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.3e}");
    }
    let digits = match size {
        ..10.0 => 4,
        ..100.0 => 3,
        ..1000.0 => 2,
        _ => 1,
    };
    format!("{value:.digits$}")
}

/// A count with a space every three digits.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in the unit that fits.
pub(super) fn bytes(value: u64) -> String {
    let (mut size, mut unit) = (value as f64, "B");
    for next in ["KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "B" { format!("{value} B") } else { format!("{size:.1} {unit}") }
}

/// A time in its two largest units.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        for (value, text) in [
            (0.0, "0.0000"),
            (1.23456, "1.2346"),
            (-12.3456, "-12.346"),
            (1234.56, "1234.6"),
            (0.000_012_34, "1.234e-5"),
            (1e300, "1.000e300"),
            (f64::NAN, "not finite"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn counts_bytes_and_times_are_short() {
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1\u{202f}234\u{202f}567"]);
        assert_eq!([bytes(1023), bytes(1536), bytes(3 << 30)], ["1023 B", "1.5 KiB", "3.0 GiB"]);
        let times = [1, 59, 61, 7260].map(|seconds| time(Duration::from_secs(seconds)));
        assert_eq!(times, ["1.0 s", "59 s", "1 min 1 s", "2 h 1 min"]);
    }
}
