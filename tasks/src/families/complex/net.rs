//! Which network a family has: the complex one, or one of two real twins.

use serde::{Deserialize, Serialize};

use super::super::settings::{FamilySettings, check_widths, refuse};
use crate::Error;
use crate::layers::complex::ComplexInit;
use crate::models::{ComplexNet, Hidden, NetSizes, RealNet, SignalNet};
use crate::problem::ParametersBuilder;

/// Kind of network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Net {
    /// Complex parameters.
    #[default]
    Complex,
    /// Real parameters, the same widths: half as many numbers.
    Real,
    /// Real parameters, all widths times √2: about as many numbers.
    RealMatched,
}

/// What a network is made of, but for its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetSettings {
    pub(super) net: Net,
    pub(super) activation: Hidden,
    pub(super) init: ComplexInit,
    pub(super) kernel: usize,
    pub(super) channels: [usize; 2],
    pub(super) hidden: usize,
}

/// What a network must fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    /// Rows and columns of an example.
    pub(super) image: [usize; 2],
    /// Channels, in complex numbers.
    pub(super) channels: usize,
    pub(super) classes: usize,
    /// Whether imaginary parts are 0, so that a real network need not see them.
    pub(super) is_real: bool,
}

impl NetSettings {
    /// Refuses what needs no data to be refused.
    pub(super) fn check<S: FamilySettings>(&self) -> Result<(), Error> {
        check_widths::<S>("channels", &self.channels)?;
        check_widths::<S>("hidden", &[self.hidden])?;
        if !(1..=64).contains(&self.kernel) {
            return Err(refuse::<S>(format!("kernel must be 1 to 64 (got {})", self.kernel)));
        }
        if self.net != Net::Complex && self.activation.real().is_none() {
            let reason = format!("activation {:?} has no real counterpart for a real net", self.activation);
            return Err(refuse::<S>(reason));
        }
        Ok(())
    }

    /// The network, its parameters after those of `lead`.
    pub(super) fn build<S: FamilySettings>(
        &self,
        fit: Fit,
        lead: ParametersBuilder,
    ) -> Result<Box<dyn SignalNet>, Error> {
        self.check::<S>()?;
        let Self { net, activation, init, kernel, channels, hidden } = *self;
        // √2 more of everything makes twice as many weights between them.
        let widened = |width: usize| match net {
            Net::RealMatched => (width as f64 * std::f64::consts::SQRT_2).round() as usize,
            Net::Complex | Net::Real => width,
        };
        let inputs = if net == Net::Complex || fit.is_real { fit.channels } else { 2 * fit.channels };
        let sizes = NetSizes {
            image: fit.image,
            inputs,
            kernel: [kernel; 2],
            channels: channels.map(widened),
            hidden: widened(hidden),
            classes: fit.classes,
        };
        if sizes.pooled().is_none() {
            let [rows, columns] = fit.image;
            let reason = format!(
                "kernel {kernel} leaves nothing of {rows} × {columns} behind two convolutions and pools: use a smaller \
                 one, or larger examples"
            );
            return Err(refuse::<S>(reason));
        }
        Ok(match (net, activation.real()) {
            (Net::Real | Net::RealMatched, Some(real)) => Box::new(RealNet::new(sizes, real, init, lead)),
            _ => Box::new(ComplexNet::new(sizes, activation, init, lead)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ImageComplex;
    use super::*;

    #[test]
    fn a_matched_real_network_has_about_as_many_numbers_as_the_complex_one() {
        let count = |net: Net, is_real: bool| {
            let (activation, init) = (Hidden::Crelu, ComplexInit::PolarHe);
            let settings = NetSettings { net, activation, init, kernel: 5, channels: [10, 20], hidden: 500 };
            let fit = Fit { image: [28, 28], channels: 1, classes: 10, is_real };
            settings.build::<ImageComplex>(fit, ParametersBuilder::default()).unwrap().parameters().layout().size()
        };
        let complex = count(Net::Complex, true);
        assert_eq!((complex, count(Net::Real, true)), (341_630, 170_810));
        let matched = count(Net::RealMatched, true);
        assert!((matched as f64 / complex as f64 - 1.0).abs() < 0.03, "{matched} for {complex}");
        // Of complex signals a real network sees both parts.
        assert_eq!(count(Net::Real, false) - 170_810, 250);
    }
}
