//! The kernels of `src/cuda/kernels`, compiled by the system's C++ compiler and run on the host.
//!
//! ```text
//!  kernels/*.cu + driver.cpp + emulator.hpp ─ c++ ─► a program ◄─ stdin: launch, buffers
//!                                                             ─► stdout: buffers it changed
//! ```

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use paceline_optimizer_core::noise;
use paceline_worker::cuda::ThetaJob;
use paceline_worker::cuda::layout::THREADS;
use paceline_worker::cuda::thetas::SHARED;
use tempfile::TempDir;

/// The order in which the emulator runs the threads of a block between two barriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Forward,
    Backward,
    Shuffled,
}

/// All of them: a kernel must give the same bits under each.
pub(crate) const ORDERS: [Order; 3] = [Order::Forward, Order::Backward, Order::Shuffled];

/// One parameter of a kernel, in bytes; `true` for a buffer that comes back.
#[derive(Clone, Debug)]
pub(crate) struct Argument(Vec<u8>, bool);

/// A buffer the kernel only reads (`const T*`).
pub(crate) fn input<T: Plain>(values: &[T]) -> Argument {
    Argument(bytes(values), false)
}

/// A buffer the kernel may change (`T*`): it comes back.
pub(crate) fn output<T: Plain>(values: &[T]) -> Argument {
    Argument(bytes(values), true)
}

/// A value.
pub(crate) fn value<T: Plain>(value: T) -> Argument {
    Argument(bytes(&[value]), false)
}

/// What kernels take as it lies in memory.
pub(crate) trait Plain: Copy {
    fn put(self, to: &mut Vec<u8>);
}

macro_rules! plain {
    ($($of:ty),*) => {$(
        impl Plain for $of {
            fn put(self, to: &mut Vec<u8>) {
                to.extend(self.to_ne_bytes());
            }
        }
    )*};
}
plain!(f32, f64, u32, u64);

/// An array of words, as of a structure's fields.
impl<const N: usize> Plain for [u32; N] {
    fn put(self, to: &mut Vec<u8>) {
        self.into_iter().for_each(|word| word.put(to));
    }
}

fn bytes<T: Plain>(values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    values.iter().for_each(|value| value.put(&mut bytes));
    bytes
}

/// Grid and block of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch {
    pub(crate) grid: [u32; 2],
    pub(crate) threads: u32,
    pub(crate) shared_floats: usize,
    pub(crate) order: Order,
}

impl Launch {
    pub(crate) fn new(grid: [u32; 2], threads: u32) -> Self {
        Self { grid, threads, shared_floats: 0, order: Order::Forward }
    }
}

/// The compiled kernels; `None`, having said so by name, where there is no C++ compiler.
pub(crate) fn emulator(test: &str) -> Option<&'static Emulator> {
    static BUILT: OnceLock<Option<Emulator>> = OnceLock::new();
    let built = BUILT.get_or_init(|| compiler().map(|compiler| Emulator::build(&compiler)));
    if built.is_none() {
        crate::announce(&format!(
            "SKIPPED {test}: no C++ compiler (CXX names one) to run the CUDA kernels on the host"
        ));
    }
    built.as_ref()
}

/// The C++ compiler that `CXX` names, or a usual one.
fn compiler() -> Option<String> {
    let usual = ["c++", "g++", "clang++"].map(str::to_owned);
    let named = std::env::var("CXX").ok().into_iter();
    let works = |compiler: &String| {
        let version = Command::new(compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    named.chain(usual).find(works)
}

#[derive(Debug)]
pub(crate) struct Emulator {
    program: PathBuf,
    /// Deleted with this.
    _folder: TempDir,
}

impl Emulator {
    fn build(compiler: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (kernels, here) = (crate_folder.join("src/cuda/kernels"), crate_folder.join("tests/it/cuda_kernels"));
        fs::write(folder.path().join("kernels.inc"), table(&kernels)).unwrap();
        let program = folder.path().join("kernels");
        let mut command = Command::new(compiler);
        command.args(["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unused-function"]);
        command.args(["-Wno-unknown-pragmas", "-Wno-comment"]);
        // One instruction for a fused product, not a call: the same bits, sooner.
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("fma") {
            command.arg("-mfma");
        }
        // For looking at memory errors: CXXFLAGS="-fsanitize=address,undefined -g".
        if let Ok(flags) = std::env::var("CXXFLAGS") {
            command.args(flags.split_whitespace());
        }
        for include in [folder.path(), &kernels, &here] {
            command.arg("-I").arg(include);
        }
        let built = command.arg(here.join("driver.cpp")).arg("-o").arg(&program).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self { program, _folder: folder }
    }

    /// Runs one launch; the buffers that come back, in order.
    pub(crate) fn run(&self, kernel: &str, launch: Launch, arguments: &[Argument]) -> Vec<Vec<u8>> {
        let mut request = Vec::new();
        (kernel.len() as u32).put(&mut request);
        request.extend(kernel.bytes());
        let Launch { grid: [x, y], threads, shared_floats, order } = launch;
        [x, y, threads, 4 * shared_floats as u32, order as u32].put(&mut request);
        for Argument(bytes, _) in arguments {
            (bytes.len() as u32).put(&mut request);
            request.extend(bytes);
        }
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Its output begins after its input ended, so writing all first cannot block. A program that gives up before
        // says why below.
        let _ = stdin.write_all(&request);
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{kernel}: {}", String::from_utf8_lossy(&output.stderr));
        let mut rest = output.stdout.as_slice();
        let mut buffers = Vec::new();
        for Argument(bytes, _) in arguments.iter().filter(|Argument(_, back)| *back) {
            let (buffer, later) = rest.split_at(bytes.len());
            buffers.push(buffer.to_vec());
            rest = later;
        }
        assert!(rest.is_empty(), "{kernel} sent back more than its buffers: an input is not constant");
        buffers
    }

    /// As [`Emulator::run`] under all orders of threads, which must agree to the bit.
    pub(crate) fn run_in_all_orders(&self, kernel: &str, launch: Launch, arguments: &[Argument]) -> Vec<Vec<u8>> {
        let [first, others @ ..] = ORDERS;
        let expected = self.run(kernel, Launch { order: first, ..launch }, arguments);
        for order in others {
            let got = self.run(kernel, Launch { order, ..launch }, arguments);
            assert!(got == expected, "{kernel}: {order:?} differs: a barrier is missing");
        }
        expected
    }

    /// The thetas of a lease's lanes, under each of these orders of threads, which must agree to the bit.
    pub(crate) fn thetas<const N: usize>(&self, job: &ThetaJob<'_>, orders: [Order; N]) -> Vec<f32> {
        let arguments = [
            input(noise::quantile_table().as_flattened()),
            input(job.theta),
            value(job.theta.len() as u32),
            value(job.sigma),
            input(&job.parts),
            input(&job.scales),
            value(job.parts.len() as u32),
            value(job.tiles),
            input(&job.first_streams),
            input(&job.seeds),
            input(&job.factors),
            output(&vec![f32::NAN; job.floats()]),
        ];
        let launch = Launch { shared_floats: SHARED as usize / 4, ..Launch::new([job.blocks(), 1], THREADS) };
        let mut made = orders.map(|order| self.run("lane_thetas", Launch { order, ..launch }, &arguments)).into_iter();
        let first = made.next().expect("there is an order");
        assert!(made.all(|other| other == first), "lane_thetas: a barrier is missing");
        floats(&first[0])
    }

    /// The same with every buffer as f32.
    pub(crate) fn run_f32(&self, kernel: &str, launch: Launch, arguments: &[Argument]) -> Vec<Vec<f32>> {
        self.run_in_all_orders(kernel, launch, arguments).iter().map(|buffer| floats(buffer)).collect()
    }
}

/// Bytes as f32.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
}

/// Includes all kernel files, and lists the kernels they define.
fn table(kernels: &Path) -> String {
    let mut files: Vec<PathBuf> = fs::read_dir(kernels).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "cu"));
    files.sort();
    let (mut includes, mut entries) = (String::new(), String::from("#define ENTRIES"));
    for file in files {
        includes += &format!("#include \"{}\"\n", file.file_name().unwrap().to_str().unwrap());
        for line in fs::read_to_string(&file).unwrap().lines() {
            if let Some(rest) = line.strip_prefix("KERNEL ") {
                entries += &format!(" ENTRY({})", rest.split('(').next().unwrap().trim());
            }
        }
    }
    format!("{includes}{entries}\n")
}
