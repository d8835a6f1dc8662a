//! The command line of `paceline-worker`: parsed once, into the library's [`Config`].

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use paceline_admin::AdminAddress;
use paceline_proto::access::{Holder, Secret};
use paceline_proto::client::{Access, TokenSource};
use paceline_proto::model::WorkerId;
use paceline_proto::tls::Trust;
use paceline_worker::{Config, Device};

const EXAMPLES: &str = "\
Examples:
  Work for a coordinator on this machine, with all cores:
    paceline-worker
  Work for another machine with four threads and real data:
    paceline-worker --coordinator http://10.0.0.5:7700 --threads 4 --data-dir /data
  Work for a coordinator that speaks TLS, with a token from `paceline workers enroll`:
    paceline-worker --coordinator https://fleet.example:7700 --ca ca.pem --token-file gpu-7.token
  Log as JSON, with more detail:
    PACELINE_LOG=paceline_worker=debug paceline-worker --log-format json

Stop it with SIGTERM or ctrl-c: it hands unfinished leases back first. A second signal ends it at once.

Exit codes: 0 drained, 2 usage, 64 bad address or data folder, 69 refused by the coordinator or admin address in use, 71 no threads,
77 not allowed (token or certificate), 78 configuration or version (replace the worker rather than restart it), 130 ended by a second signal.";

/// Takes leases from a Paceline coordinator, runs inner training and reports.
#[derive(Debug, Parser)]
#[command(name = "paceline-worker", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Address of the coordinator
    #[arg(long, env = "PACELINE_COORDINATOR", value_name = "URL", default_value = "http://127.0.0.1:7700")]
    coordinator: String,
    /// Name of this worker, unique in the fleet [default: host name, process id and four random digits]
    #[arg(long, env = "PACELINE_WORKER_NAME", value_name = "ID")]
    name: Option<WorkerId>,
    /// Threads that compute [default: one a core]
    #[arg(long, env = "PACELINE_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where to compute: cpu, cuda:N, or auto (cuda:0 if it can be used, else cpu)
    #[arg(long, env = "PACELINE_DEVICE", value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// Folder of real data, for families that read some
    #[arg(long, env = "PACELINE_DATA", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    /// Where probes and metrics are, for example 127.0.0.1:7710, or off
    #[arg(long, env = "PACELINE_WORKER_ADMIN_ADDRESS", value_name = "ADDR", default_value = "off")]
    pub(crate) admin_address: AdminAddress,
    /// Allow an admin address that other machines reach
    #[arg(long, env = "PACELINE_ADMIN_INSECURE")]
    pub(crate) admin_insecure: bool,
    /// Ask the worker that listens at --admin-address whether it is ready, and end: exit code 0, or 69
    #[arg(long)]
    pub(crate) probe: bool,
    /// Print every setting and where it comes from, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Send traces to this OpenTelemetry collector (OTLP over gRPC), for example http://127.0.0.1:4317
    #[arg(long, env = "PACELINE_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// How log lines on standard error look
    #[arg(long, env = "PACELINE_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// What the worker trusts and shows (docs/security.md). The token itself is never an argument, which others can see.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Security (docs/security.md)")]
struct AccessArgs {
    /// Authorities that may vouch for the coordinator, in PEM [default: those of the system]
    #[arg(long, env = "PACELINE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate of this worker, in PEM
    #[arg(long, env = "PACELINE_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, env = "PACELINE_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with this worker's token; without one, PACELINE_TOKEN is the token
    #[arg(long, env = "PACELINE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AccessArgs {
    fn access(self) -> Access {
        let token = match (self.token_file, std::env::var("PACELINE_TOKEN")) {
            (Some(file), _) => TokenSource::File(file),
            (None, Ok(token)) if !token.is_empty() => TokenSource::Text(Secret::new(token)),
            (None, _) => TokenSource::None,
        };
        Access { trust: Trust { ca: self.ca, certificate: self.cert, key: self.key }, token }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl Args {
    /// The library's configuration.
    pub(crate) fn config(self) -> Config {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let access = self.access.access();
        let worker = self.name.unwrap_or_else(|| default_name(access.holder().as_ref()));
        Config {
            coordinator: self.coordinator,
            access,
            worker,
            threads: self.threads.map_or_else(cores, usize::from),
            data_dir: self.data_dir,
            device: self.device,
        }
    }
}

/// `<host name>-<process id>-<4 hexadecimal digits>`: the digits keep apart containers that share host and process id. Under
/// a token, its holder and a dot come first, as the coordinator wants it.
fn default_name(holder: Option<&Holder>) -> WorkerId {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let digits = getrandom::u32().unwrap_or_default() & 0xffff;
    name_from(holder, &host, std::process::id(), digits)
}

/// Longest id of a worker.
const LONGEST_NAME: usize = 64;

fn name_from(holder: Option<&Holder>, host: &str, process: u32, digits: u32) -> WorkerId {
    let before = holder.map(|holder| format!("{holder}.")).unwrap_or_default();
    let after = format!("-{process}-{digits:04x}");
    let room = LONGEST_NAME.saturating_sub(before.len() + after.len()).min(40);
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let host: String = host.trim().chars().filter(allowed).take(room).collect();
    let host = if host.is_empty() { "worker" } else { &host };
    format!("{before}{host}{after}").parse().expect("at most 64 characters, all allowed")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn files_of_tls_reach_the_configuration() {
        let args = "paceline-worker --ca ca.pem --cert c.pem --key k.pem --token-file t";
        let access = Args::try_parse_from(args.split(' ')).unwrap().config().access;
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(access.trust, Trust { ca: path("ca.pem"), certificate: path("c.pem"), key: path("k.pem") });
        assert_eq!(access.token, TokenSource::File("t".into()));
    }

    #[test]
    fn flags_reach_the_configuration() {
        let args = "paceline-worker --coordinator http://h:1 --name w-1 --threads 3 --device cuda:2 --data-dir /d";
        let config = Args::try_parse_from(args.split(' ')).unwrap().config();
        assert_eq!((config.coordinator.as_str(), config.worker.as_str()), ("http://h:1", "w-1"));
        assert_eq!((config.threads, config.device), (3, Device::Cuda(2)));
        assert_eq!(config.data_dir, Some(PathBuf::from("/d")));
    }

    #[test]
    fn wrong_flags_are_named() {
        for (wrong, named) in [
            ("--threads 0", "--threads"),
            ("--threads 99999999", "1..=1024"),
            ("--device gpu", "cuda:N"),
            ("--device cuda:x", "auto"),
            ("--name a/b", "'_' and '.'"),
        ] {
            let args = format!("paceline-worker {wrong}");
            let error = Args::try_parse_from(args.split(' ')).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn any_host_name_makes_a_valid_id() {
        assert_eq!(name_from(None, "node-7\n", 12, 0xab).as_str(), "node-7-12-00ab");
        assert_eq!(name_from(None, "", 12, 0xab).as_str(), "worker-12-00ab");
        assert_eq!(name_from(None, &"ü/x".repeat(60), u32::MAX, 0xffff).as_str().len(), 40 + 1 + 10 + 1 + 4);
        let holder = "x".repeat(32).parse().unwrap();
        let name = name_from(Some(&holder), &"y".repeat(60), u32::MAX, 0xffff);
        assert!(holder.may_be(name.as_str()) && name.as_str().len() == 64, "{name}");
    }
}
