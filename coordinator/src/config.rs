//! The command line and what it means.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::BoolishValueParser;
use paceline_admin::AdminAddress;
use paceline_coordinator::Config;

use crate::exit::{CONFIG, Failure};
use crate::protection::{Protection, ProtectionArguments};
use crate::telemetry::LogFormat;

const EXAMPLES: &str = "\
Examples:
  paceline-coordinator
      listens on 127.0.0.1:7700 and keeps runs in ./paceline-data
  paceline-coordinator --listen 127.0.0.1:0 --memory
      any free port (told on standard output), nothing kept on disk
  paceline-coordinator --listen 0.0.0.0:7700 --cert server.pem --key server.key --data /var/lib/paceline
      serves other machines by TLS (docs/security.md tells how to make certificates)
  paceline-coordinator --listen 0.0.0.0:7700 --insecure --log-format json
      serves a network in which everyone is trusted
  paceline-coordinator --admin-address 127.0.0.1:9090
      shows its pages on http://127.0.0.1:9090/ instead of on port 7701
  paceline-coordinator --lease-ttl 1m --print-config
      tells what it would do, and whether a setting comes from a flag, the environment or nobody

Exit codes: 0 stopped by a signal, 1 failed while running, 2 usage, 64 no such address, 69 address
in use, 73 store cannot be opened, 74 input or output failed, 75 store in use, 78 configuration or
version, 130 and 143 ended by a second signal (docs/exit-codes.md).
PACELINE_LOG chooses log lines, for example PACELINE_LOG=info,paceline_coordinator=debug.";

/// Owns theta, leases, the ledger and the store of a Paceline cluster.
#[derive(Clone, Debug, Parser)]
#[command(name = "paceline-coordinator", version, after_help = EXAMPLES, max_term_width = 120)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDR", env = "PACELINE_LISTEN", default_value = "127.0.0.1:7700")]
    listen: String,

    /// Folder of the store; made if it is not there
    #[arg(long, value_name = "DIR", env = "PACELINE_STORE", default_value = "./paceline-data")]
    data: PathBuf,

    /// Keep everything in memory: runs are lost at the end
    #[arg(long, env = "PACELINE_MEMORY", value_parser = BoolishValueParser::new())]
    memory: bool,

    /// How long a lease lives without a heartbeat
    #[arg(long, value_name = "TIME", env = "PACELINE_LEASE_TTL", default_value = "30s", value_parser = duration)]
    lease_ttl: Duration,

    /// How often workers send a heartbeat; less than a third of --lease-ttl
    #[arg(long, value_name = "TIME", env = "PACELINE_HEARTBEAT", default_value = "5s", value_parser = duration)]
    heartbeat: Duration,

    /// How long a stop waits for calls in flight
    #[arg(long, value_name = "TIME", env = "PACELINE_DRAIN", default_value = "10s", value_parser = duration)]
    drain: Duration,

    #[command(flatten)]
    protection: ProtectionArguments,

    /// Where probes, metrics and pages are, or off [default: 127.0.0.1, on the port after that of --listen]
    #[arg(long, value_name = "ADDR", env = "PACELINE_ADMIN_ADDRESS")]
    admin_address: Option<AdminAddress>,

    /// Send traces to this OpenTelemetry collector (OTLP over gRPC), for example http://127.0.0.1:4317
    #[arg(long, value_name = "URL", env = "PACELINE_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,

    /// Share of runs whose traces are sent, from 0 to 1; a run's traces are sent whole or not at all
    #[arg(long, value_name = "RATIO", env = "PACELINE_OTLP_SAMPLE", default_value = "1", value_parser = share)]
    otlp_sample: f64,

    /// How log lines look
    #[arg(long, value_enum, env = "PACELINE_LOG_FORMAT", default_value_t)]
    log_format: LogFormat,

    /// Ask the coordinator that runs here with the same settings whether it is ready, and end: exit code 0, or 69
    #[arg(long)]
    pub(crate) probe: bool,

    /// Print every setting and where it comes from, check that they fit together, and end
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// A checked command line.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `host:port`, not yet looked up.
    pub(crate) listen: String,
    pub(crate) protection: Protection,
    /// Where the admin listener is.
    pub(crate) admin: AdminAddress,
    /// Whether somebody chose that place.
    pub(crate) admin_chosen: bool,
    pub(crate) config: Config,
    /// Where traces go; `None` for nowhere.
    pub(crate) otlp_endpoint: Option<String>,
    /// Share of runs that are traced.
    pub(crate) otlp_sample: f64,
    pub(crate) log_format: LogFormat,
}

impl TryFrom<Arguments> for Settings {
    type Error = Failure;

    fn try_from(arguments: Arguments) -> Result<Self, Failure> {
        let Arguments {
            listen,
            data,
            memory,
            lease_ttl,
            heartbeat,
            drain,
            protection,
            admin_address,
            otlp_endpoint,
            otlp_sample,
            log_format,
            probe: _,
            print_config: _,
        } = arguments;
        if heartbeat >= lease_ttl / 3 {
            let reason = "two heartbeats may get lost before a lease is";
            let message = format!(
                "--heartbeat {heartbeat:?} must be less than a third of --lease-ttl {lease_ttl:?}, so that {reason}: \
                 shorten the one or lengthen the other"
            );
            return Err(Failure::new(CONFIG, message));
        }
        let data = (!memory).then_some(data);
        let protection = Protection::try_from(protection)?;
        let security = protection.security.clone();
        let admin_chosen = admin_address.is_some();
        let admin = admin_address.unwrap_or_else(|| AdminAddress::beside(&listen));
        let config = Config { data, lease_ttl, heartbeat, drain, security, ..Config::default() };
        Ok(Self { listen, protection, admin, admin_chosen, config, otlp_endpoint, otlp_sample, log_format })
    }
}

impl Settings {
    /// Refuses to show other machines runs and checkpoints by accident.
    pub(crate) fn allow_admin(&self, addresses: &[SocketAddr]) -> Result<(), Failure> {
        let open = addresses.iter().find(|address| !address.ip().is_loopback());
        match open {
            Some(open) if !self.protection.insecure => {
                let message = format!(
                    "--admin-address: {open} can be reached from other machines, and whoever reaches it reads runs, metrics \
                     and checkpoints: use 127.0.0.1, or say --insecure if the network is trusted"
                );
                Err(Failure::new(CONFIG, message))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A share: 0 for none, 1 for all.
fn share(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "write a number from 0 to 1, for example 0.1".to_owned())
}

/// A time such as `500ms`, `30s`, `2m` or `1h`; a bare number counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("unit {unit:?} is none of ms, s, m, h")),
    };
    let number: u64 = number.parse().map_err(|_| "give a whole number and a unit, for example 30s".to_owned())?;
    let total = number.checked_mul(milliseconds).filter(|total| u32::try_from(*total).is_ok());
    match total {
        None => Err("is longer than 49 days".into()),
        Some(0) => Err("must be longer than 0".into()),
        Some(total) => Ok(Duration::from_millis(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings, Failure> {
        let all = std::iter::once("paceline-coordinator").chain(arguments.iter().copied());
        Settings::try_from(Arguments::try_parse_from(all).unwrap())
    }

    #[test]
    fn durations_have_units() {
        for (text, milliseconds) in
            [("500ms", 500), ("30s", 30_000), ("30", 30_000), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "30 s", "30d", "0", "99999999999999999999s", "2000h"] {
            assert!(duration(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_share_lies_between_none_and_all() {
        assert_eq!(["0", "0.25", "1"].map(share), [Ok(0.0), Ok(0.25), Ok(1.0)]);
        for text in ["", "-0.1", "1.01", "NaN", "inf", "10%"] {
            assert!(share(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(settings(&[]).unwrap().otlp_sample, 1.0);
    }

    #[test]
    fn a_heartbeat_must_fit_three_times_into_a_lease() {
        assert!(settings(&["--heartbeat", "9s"]).is_ok());
        let failure = settings(&["--heartbeat", "10s"]).unwrap_err();
        assert_eq!(failure.code, CONFIG);
        assert!(failure.message.contains("--heartbeat 10s must be less than a third of --lease-ttl 30s"), "{failure}");
    }

    #[test]
    fn memory_means_no_folder() {
        assert_eq!(settings(&["--memory"]).unwrap().config.data, None);
        assert_eq!(settings(&[]).unwrap().config.data, Some("./paceline-data".into()));
    }

    #[test]
    fn pages_are_for_this_machine_unless_asked() {
        let careful = settings(&["--listen", "0.0.0.0:7700"]).unwrap();
        assert_eq!(careful.admin.to_string(), "127.0.0.1:7701");
        let failure = careful.allow_admin(&["0.0.0.0:7701".parse().unwrap()]).unwrap_err();
        assert!(failure.code == CONFIG && failure.message.contains("--admin-address"), "{failure}");
        let bold = settings(&["--insecure", "--admin-address", "0.0.0.0:9000"]).unwrap();
        assert_eq!(bold.allow_admin(&["0.0.0.0:9000".parse().unwrap()]), Ok(()));
        assert_eq!(settings(&["--admin-address", "off"]).unwrap().admin, AdminAddress::Off);
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
