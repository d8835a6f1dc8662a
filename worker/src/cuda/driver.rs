//! The device itself: context, compiled kernels, launches. The only place that calls CUDA.
//!
//! `cudarc` loads `libcuda` and `libnvrtc` when they are first called, and panics where there are none: so both are
//! looked for before.

use std::sync::Arc;

use cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute_enum};
use cudarc::driver::{CudaContext, CudaModule, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};
use paceline_optimizer_core::noise::VERSION;
use paceline_optimizer_core::{Seed, noise};

use super::availability::{Facts, Unavailable};
use super::layout::THREADS;
use super::source::source;
use super::thetas::{self, ThetaJob};
use super::trainer::{WindowJob, WindowKernel};

/// Numbers of noise that a device must make as the CPU does before it is used.
const CHECKED: usize = 1 << 16;

/// A device with its kernels compiled.
#[derive(Debug)]
pub struct CudaDevice {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    noise: Arc<CudaModule>,
    window: Arc<CudaModule>,
    /// Most bytes of shared memory of a block.
    shared: u64,
}

/// What the driver was doing when it failed.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, Unavailable>;
}

impl<T> Doing<T> for Result<T, DriverError> {
    fn doing(self, doing: &'static str) -> Result<T, Unavailable> {
        self.map_err(|error| Unavailable::Driver { doing, why: error.to_string() })
    }
}

impl CudaDevice {
    /// Opens a device and compiles the kernels for it.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn open(ordinal: u32) -> Result<Self, Unavailable> {
        if !libraries::driver() {
            return Err(Unavailable::NoDriver);
        }
        let count = match CudaContext::device_count() {
            Ok(count) => count.unsigned_abs(),
            Err(error) if error.0 == cudarc::driver::sys::CUresult::CUDA_ERROR_NO_DEVICE => 0,
            error => return error.map(|_| unreachable!("only errors are left")).doing("start"),
        };
        match count {
            0 => return Err(Unavailable::NoDevice),
            count if ordinal >= count => return Err(Unavailable::NoSuchDevice { count }),
            _ => {}
        }
        let context = CudaContext::new(ordinal as usize).doing("open the device")?;
        let (major, minor) = context.compute_capability().doing("tell the compute capability")?;
        let got = (major.unsigned_abs(), minor.unsigned_abs());
        if got < (8, 0) {
            return Err(Unavailable::TooOld { got });
        }
        if !libraries::compiler() {
            return Err(Unavailable::NoCompiler);
        }
        let noise = context.load_module(compiled("noise.cu")?).doing("load the kernels")?;
        let window = context.load_module(compiled("window.cu")?).doing("load the kernels")?;
        let stream = context.new_stream().doing("make a stream")?;
        let shared = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let shared = u64::from(context.attribute(shared).doing("tell its shared memory")?.unsigned_abs());
        Ok(Self { context, stream, noise, window, shared })
    }

    /// What the device is.
    ///
    /// # Errors
    /// [`Unavailable::Driver`].
    pub fn facts(&self) -> Result<Facts, Unavailable> {
        let attribute = |attribute| {
            let value = self.context.attribute(attribute).doing("tell an attribute")?;
            Ok(u64::from(value.unsigned_abs()))
        };
        let (major, minor) = self.context.compute_capability().doing("tell the compute capability")?;
        let (free, total) = self.context.mem_get_info().doing("tell its memory")?;
        Ok(Facts {
            name: self.context.name().doing("tell its name")?,
            capability: (major.unsigned_abs(), minor.unsigned_abs()),
            multiprocessors: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
            free: free as u64,
            total: total as u64,
            shared: self.shared,
        })
    }

    /// The device makes the CPU's noise, to the bit: normals, and thetas under every kind of it.
    ///
    /// # Errors
    /// [`Unavailable::OtherNoise`], [`Unavailable::Driver`].
    pub fn check(&self) -> Result<(), Unavailable> {
        let (seed, first, mut expected) = (Seed::new(0x5eed), 1001, vec![0.0; CHECKED]);
        noise::normals(seed, first, &mut expected);
        let got = self.normals(seed, first, CHECKED)?;
        compare(VERSION, first, &expected, &got)?;
        for (noise, lanes) in thetas::trials() {
            let expected = lanes.made().expect("one lane is perturbed");
            let made = self.thetas(&ThetaJob::new(&lanes, 0..lanes.pairs().len()))?;
            let got = self.stream.clone_dtoh(&made).doing("copy thetas back")?;
            self.stream.synchronize().doing("wait for the device")?;
            compare(noise.name(), 0, expected.values(), &got)?;
        }
        Ok(())
    }

    /// `ε(seed, first…)`, made on the device: [`noise::normals`] there.
    ///
    /// # Errors
    /// [`Unavailable::Driver`].
    pub fn normals(&self, seed: Seed, first: u64, count: usize) -> Result<Vec<f32>, Unavailable> {
        let kernel = self.noise.load_function("normals").doing("find the kernel normals")?;
        let table = self.stream.clone_htod(noise::quantile_table().as_flattened()).doing("copy the table")?;
        let mut out = self.stream.alloc_zeros::<f32>(count).doing("allocate")?;
        let (seed, numbers) = (seed.value(), count as u64);
        let threads = 256_u32;
        let blocks = numbers.div_ceil(4 * u64::from(threads)).clamp(1, 1 << 16) as u32;
        let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
        let mut launch = self.stream.launch_builder(&kernel);
        launch.arg(&table).arg(&seed).arg(&first).arg(&numbers).arg(&mut out);
        #[expect(unsafe_code, reason = "a launch trusts the caller with the kernel's parameters")]
        // SAFETY: the five arguments are those of `normals` in `kernels/noise.cu`, in order and of their types. The table
        // has the 2048 rows it reads, `out` has the `count` places it writes, and it writes no others.
        unsafe { launch.launch(config) }.doing("launch normals")?;
        let out = self.stream.clone_dtoh(&out).doing("copy the numbers back")?;
        self.stream.synchronize().doing("wait for the device")?;
        Ok(out)
    }
}

impl CudaDevice {
    /// The thetas of some lanes, in the device's memory.
    fn thetas(&self, job: &ThetaJob<'_>) -> Result<CudaSlice<f32>, Unavailable> {
        let kernel = self.noise.load_function("lane_thetas").doing("find the kernel lane_thetas")?;
        let stream = &self.stream;
        let floats = |floats: &[f32]| stream.clone_htod(floats).doing("copy theta to the device");
        let words = |words: &[u32]| stream.clone_htod(words).doing("copy parts of the noise to the device");
        let doubles = |doubles: &[f64]| stream.clone_htod(doubles).doing("copy factors to the device");
        let (table, theta) = (floats(noise::quantile_table().as_flattened())?, floats(job.theta)?);
        let (parts, first_streams) = (words(job.parts.as_flattened())?, words(&job.first_streams)?);
        let (scales, factors) = (doubles(&job.scales)?, doubles(&job.factors)?);
        let seeds = stream.clone_htod(&job.seeds).doing("copy seeds to the device")?;
        let mut out = stream.alloc_zeros::<f32>(job.floats()).doing("allocate thetas")?;
        let (size, count) = (job.theta.len() as u32, job.parts.len() as u32);
        let config = LaunchConfig {
            grid_dim: (job.blocks(), 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: thetas::SHARED,
        };
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&table).arg(&theta).arg(&size).arg(&job.sigma).arg(&parts).arg(&scales).arg(&count);
        launch.arg(&job.tiles).arg(&first_streams).arg(&seeds).arg(&factors).arg(&mut out);
        #[expect(unsafe_code, reason = "a launch trusts the caller with the kernel's parameters")]
        // SAFETY: the twelve arguments are those of `lane_thetas` in `kernels/noise.cu`, in order and of their types, as
        // `ThetaJob` makes them; the emulator's tests run the same jobs with guards behind every buffer.
        unsafe { launch.launch(config) }.doing("launch lane_thetas")?;
        Ok(out)
    }

    fn train(&self, job: &mut WindowJob<'_>) -> Result<Vec<f32>, Unavailable> {
        let WindowJob { kernel, lanes, shared, spill, steps, window, .. } = &*job;
        let function = self.window.load_function(kernel).doing("find the kernel of the window")?;
        let shared_bytes = i32::try_from(*shared).unwrap_or(i32::MAX);
        let most = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(most, shared_bytes).doing("give a block its shared memory")?;
        let stream = &self.stream;
        let words = |words: &[u32]| stream.clone_htod(words).doing("copy numbers to the device");
        let floats = |floats: &[f32]| stream.clone_htod(floats).doing("copy values to the device");
        let (sizes, layers) = (words(window)?, words(job.layers.as_flattened())?);
        let tensors = words(job.tensors.as_flattened())?;
        let (settings, place) = (floats(job.settings)?, words(job.place)?);
        let (images, labels, batches) = (floats(job.images)?, words(job.labels)?, words(&job.batches)?);
        let thetas = self.thetas(&job.thetas)?;
        let (first_steps, horizons) = (words(&job.first_steps)?, words(&job.horizons)?);
        let (mut params, mut slots) = (floats(&job.params)?, floats(&job.slots)?);
        let mut diverged = words(&job.diverged)?;
        let mut losses = stream.alloc_zeros::<f32>(*lanes as usize * *steps as usize).doing("allocate losses")?;
        // An empty allocation is an error; a kernel that does not spill does not look.
        let mut arenas = stream.alloc_zeros::<f32>((*spill).max(1)).doing("allocate arenas")?;
        let config = LaunchConfig {
            grid_dim: (*lanes, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: shared_bytes.unsigned_abs(),
        };
        let mut launch = stream.launch_builder(&function);
        launch
            .arg(&sizes)
            .arg(&layers)
            .arg(&tensors)
            .arg(&settings)
            .arg(&place)
            .arg(&images)
            .arg(&labels)
            .arg(&batches);
        launch.arg(&thetas).arg(&first_steps).arg(&horizons).arg(&mut params).arg(&mut slots).arg(&mut diverged);
        launch.arg(&mut losses).arg(&mut arenas);
        #[expect(unsafe_code, reason = "a launch trusts the caller with the kernel's parameters")]
        // SAFETY: the sixteen arguments are those of the window kernels in `kernels/window.cu`, in order and of their
        // types, and as long as `WindowPlan` says, whose words the kernel reads; the emulator's tests run the same jobs
        // with guards behind every buffer and behind shared memory.
        unsafe { launch.launch(config) }.doing("launch the window")?;
        job.params = stream.clone_dtoh(&params).doing("copy parameters back")?;
        job.slots = stream.clone_dtoh(&slots).doing("copy slots back")?;
        job.diverged = stream.clone_dtoh(&diverged).doing("copy flags back")?;
        let losses = stream.clone_dtoh(&losses).doing("copy losses back")?;
        stream.synchronize().doing("wait for the device")?;
        Ok(losses)
    }
}

impl WindowKernel for CudaDevice {
    fn shared(&self) -> u64 {
        self.shared
    }

    fn free(&self) -> Result<u64, String> {
        let (free, _) = self.context.mem_get_info().map_err(|error| error.to_string())?;
        Ok(free as u64)
    }

    fn run(&self, job: &mut WindowJob<'_>) -> Result<Vec<f32>, String> {
        // Leases are computed by whichever thread is free.
        self.context.bind_to_thread().map_err(|error| error.to_string())?;
        self.train(job).map_err(|error| error.to_string())
    }
}

/// The same numbers to the bit, the first of which is number `first`.
fn compare(noise: &'static str, first: u64, expected: &[f32], got: &[f32]) -> Result<(), Unavailable> {
    match expected.iter().zip(got).position(|(expected, got)| expected.to_bits() != got.to_bits()) {
        Some(at) => Err(Unavailable::OtherNoise { noise, at: first + at as u64 }),
        None => Ok(()),
    }
}

/// One unit as PTX for compute capability 8.0, which every later device can run.
///
/// # Errors
/// [`Unavailable::Compilation`].
fn compiled(unit: &'static str) -> Result<Ptx, Unavailable> {
    // Sums and products are rounded one by one, as on the CPU; division and root are IEEE's; denormals stay.
    let options = CompileOptions {
        fmad: Some(false),
        ftz: Some(false),
        prec_div: Some(true),
        prec_sqrt: Some(true),
        arch: Some("compute_80"),
        name: Some(unit.to_owned()),
        ..CompileOptions::default()
    };
    compile_ptx_with_opts(source(unit), options).map_err(|error| {
        let why = match error {
            CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
            other => format!("{other:?}"),
        };
        Unavailable::Compilation { unit, why }
    })
}

/// Whether the libraries that `cudarc` loads are there.
mod libraries {
    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    pub(super) fn driver() -> bool {
        // SAFETY: what is loaded is NVIDIA's driver, by its name; its initialisers are those of any program that uses it.
        unsafe { cudarc::driver::sys::is_culib_present() }
    }

    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    pub(super) fn compiler() -> bool {
        // SAFETY: as above, of NVRTC.
        unsafe { cudarc::nvrtc::sys::is_culib_present() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::UNITS;
    use super::*;

    fn announce(line: &str) {
        use std::io::Write;
        // Nothing to be done if stderr is closed; the test itself does not depend on it.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    #[test]
    fn nvrtc_compiles_every_unit() {
        if !libraries::compiler() {
            return announce("SKIPPED nvrtc: no libnvrtc on this machine (docs/cuda.md)");
        }
        for unit in UNITS {
            let ptx = compiled(unit).unwrap_or_else(|error| panic!("{error}"));
            let text = ptx.to_src();
            assert!(text.contains(".target sm_80") && text.contains(".visible .entry"), "{unit}");
            // `fma` stands where the source says fmaf, and nowhere else.
            assert!(unit != "noise.cu" || !text.contains("fma."), "{unit}");
        }
    }

    #[test]
    fn a_device_makes_the_cpus_noise() {
        match CudaDevice::open(0) {
            Ok(device) => device.check().unwrap(),
            Err(reason) => announce(&format!("SKIPPED cuda_device: {reason}")),
        }
    }

    #[test]
    fn an_ordinal_beyond_the_devices_is_refused() {
        let refused = CudaDevice::open(u32::MAX).unwrap_err();
        assert!(
            matches!(refused, Unavailable::NoDriver | Unavailable::NoDevice | Unavailable::NoSuchDevice { .. }),
            "{refused}"
        );
    }
}
