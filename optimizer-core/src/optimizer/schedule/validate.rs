//! What the settings of a schedule must satisfy.

use super::Schedule;
use crate::{Error, Result};

impl Schedule {
    /// Checks the settings; `field` is what the schedule is called where it stands, for example `learning_rate`.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the setting below `field`.
    pub fn validate(&self, field: &str) -> Result<()> {
        let finite = |name: &str, value: f64| match value.is_finite() {
            true => Ok(()),
            false => Err(Error::setting(below(field, name), "must be finite", value)),
        };
        let positive = |name: &str, steps: u64| match steps {
            0 => Err(Error::setting(below(field, name), "must be at least 1", 0)),
            _ => Ok(()),
        };
        match self {
            Self::Constant { value } if value.is_finite() => Ok(()),
            Self::Constant { value } => Err(Error::setting(field, "must be finite", value)),
            Self::Linear { init_value, end_value, steps } => {
                finite("init_value", *init_value)?;
                finite("end_value", *end_value)?;
                positive("steps", *steps)
            }
            Self::WarmupCosine { init_value, peak_value, warmup_steps, decay_steps, end_value } => {
                finite("init_value", *init_value)?;
                finite("peak_value", *peak_value)?;
                finite("end_value", *end_value)?;
                match decay_steps {
                    Some(decay_steps) if decay_steps <= warmup_steps => {
                        let reason = format!("must be more than warmup_steps, {warmup_steps}");
                        Err(Error::setting(below(field, "decay_steps"), reason, decay_steps))
                    }
                    _ => Ok(()),
                }
            }
            Self::NadamwCosine { learning_rate, min_learning_rate_mult, constant_fraction, warmup_fraction } => {
                finite("learning_rate", *learning_rate)?;
                finite("min_learning_rate_mult", *min_learning_rate_mult)?;
                for (name, fraction) in [("constant_fraction", constant_fraction), ("warmup_fraction", warmup_fraction)]
                {
                    if !(0.0..=1.0).contains(fraction) {
                        return Err(Error::setting(below(field, name), "must lie in [0, 1]", fraction));
                    }
                }
                Ok(())
            }
            Self::InverseSqrt { peak_value, warmup_steps } => {
                finite("peak_value", *peak_value)?;
                positive("warmup_steps", *warmup_steps)
            }
            Self::Exponential { init_value, rate, steps, staircase: _, end_value } => {
                finite("init_value", *init_value)?;
                finite("end_value", end_value.unwrap_or(0.0))?;
                if !(*rate > 0.0 && rate.is_finite()) {
                    return Err(Error::setting(below(field, "rate"), "must be positive and finite", rate));
                }
                positive("steps", *steps)
            }
            Self::PiecewiseLinear { times, values } => {
                if times.is_empty() {
                    return Err(Error::setting(below(field, "times"), "must name at least one step", "none"));
                }
                points(field, ("times", times), ("values", values))
            }
            Self::PiecewiseConstant { init_value, boundaries, scales } => {
                finite("init_value", *init_value)?;
                points(field, ("boundaries", boundaries), ("scales", scales))
            }
        }
    }
}

/// The name of a setting of the thing called `field`.
fn below(field: &str, name: &str) -> String {
    format!("{field}.{name}")
}

/// Checks that there are as many values as steps, that steps ascend and that values are finite.
fn points(field: &str, (times_name, times): (&str, &[u64]), (values_name, values): (&str, &[f64])) -> Result<()> {
    if times.len() != values.len() {
        let reason = format!("must have as many entries as {times_name}, {}", times.len());
        return Err(Error::setting(below(field, values_name), reason, values.len()));
    }
    if times.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(Error::setting(below(field, times_name), "must ascend", format!("{times:?}")));
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::setting(below(field, values_name), "must be finite", format!("{values:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for (text, field) in [
            (r#"{"kind": "linear", "init_value": 1, "end_value": 2, "steps": 0}"#, "lr.steps"),
            (r#"{"kind": "warmup_cosine", "peak_value": 1, "warmup_steps": 5, "decay_steps": 5}"#, "lr.decay_steps"),
            (r#"{"kind": "nadamw_cosine", "learning_rate": 1, "constant_fraction": 1.5}"#, "lr.constant_fraction"),
            (r#"{"kind": "nadamw_cosine", "learning_rate": 1, "warmup_fraction": -1}"#, "lr.warmup_fraction"),
            (r#"{"kind": "inverse_sqrt", "peak_value": 1, "warmup_steps": 0}"#, "lr.warmup_steps"),
            (r#"{"kind": "exponential", "init_value": 1, "rate": 0}"#, "lr.rate"),
            (r#"{"kind": "exponential", "init_value": 1, "rate": 0.5, "steps": 0}"#, "lr.steps"),
            (r#"{"kind": "piecewise_linear", "times": [], "values": []}"#, "lr.times"),
            (r#"{"kind": "piecewise_linear", "times": [3, 3], "values": [1, 2]}"#, "lr.times"),
            (r#"{"kind": "piecewise_linear", "times": [3, 4], "values": [1]}"#, "lr.values"),
            (r#"{"kind": "piecewise_constant", "init_value": 1, "boundaries": [3], "scales": []}"#, "lr.scales"),
        ] {
            let schedule: Schedule = serde_json::from_str(text).unwrap();
            match schedule.validate("lr") {
                Err(Error::Setting { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{text}: {other:?}"),
            }
        }
        let not_finite = Schedule::from(f64::NAN).validate("lr");
        assert!(matches!(not_finite, Err(Error::Setting { field, .. }) if field == "lr"));
        let not_finite = Schedule::Linear { init_value: f64::INFINITY, end_value: 0.0, steps: 1 }.validate("lr");
        assert!(matches!(not_finite, Err(Error::Setting { field, .. }) if field == "lr.init_value"));
    }
}
