//! The text of the kernels, as a compiler that knows no files gets it.

/// All files of `kernels/`, by name.
const FILES: [(&str, &str); 25] = [
    ("platform.cuh", include_str!("kernels/platform.cuh")),
    ("philox.cuh", include_str!("kernels/philox.cuh")),
    ("quantile.cuh", include_str!("kernels/quantile.cuh")),
    ("perturbation.cuh", include_str!("kernels/perturbation.cuh")),
    ("float.cuh", include_str!("kernels/float.cuh")),
    ("reduce.cuh", include_str!("kernels/reduce.cuh")),
    ("tensor.cuh", include_str!("kernels/tensor.cuh")),
    ("accumulators.cuh", include_str!("kernels/accumulators.cuh")),
    ("channels.cuh", include_str!("kernels/channels.cuh")),
    ("network.cuh", include_str!("kernels/network.cuh")),
    ("adafac_mlp.cuh", include_str!("kernels/adafac_mlp.cuh")),
    ("celo2.cuh", include_str!("kernels/celo2.cuh")),
    ("layer.cuh", include_str!("kernels/layer.cuh")),
    ("affine.cuh", include_str!("kernels/affine.cuh")),
    ("weights.cuh", include_str!("kernels/weights.cuh")),
    ("pool.cuh", include_str!("kernels/pool.cuh")),
    ("feed_forward.cuh", include_str!("kernels/feed_forward.cuh")),
    ("feed_forward.cu", include_str!("kernels/feed_forward.cu")),
    ("loss_buffer.cuh", include_str!("kernels/loss_buffer.cuh")),
    ("tensor_features.cuh", include_str!("kernels/tensor_features.cuh")),
    ("hypernetwork.cuh", include_str!("kernels/hypernetwork.cuh")),
    ("hyper_v2.cuh", include_str!("kernels/hyper_v2.cuh")),
    ("noise.cu", include_str!("kernels/noise.cu")),
    ("update.cu", include_str!("kernels/update.cu")),
    ("window.cu", include_str!("kernels/window.cu")),
];

/// Files that are compiled each by itself.
pub const UNITS: [&str; 4] = ["feed_forward.cu", "noise.cu", "update.cu", "window.cu"];

/// One of [`UNITS`] with its includes put in, each once and in order. `#line` keeps the compiler's messages true.
///
/// # Panics
/// If there is no such file: the names are constants of this crate.
pub fn source(unit: &str) -> String {
    let (mut text, mut included) = (String::new(), Vec::new());
    include(unit, &mut text, &mut included);
    text
}

fn include(name: &str, text: &mut String, included: &mut Vec<String>) {
    if included.iter().any(|done| done == name) {
        return;
    }
    included.push(name.to_owned());
    let (_, file) = FILES.iter().find(|(file, _)| *file == name).unwrap_or_else(|| panic!("no kernel file {name}"));
    text.push_str(&format!("#line 1 \"{name}\"\n"));
    for (index, line) in file.lines().enumerate() {
        match line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"')) {
            // Only the emulator has this one.
            Some("emulator.hpp") => text.push('\n'),
            Some(other) => {
                include(other, text, included);
                text.push_str(&format!("#line {} \"{name}\"\n", index + 2));
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda/kernels");
        let mut there: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let mut listed: Vec<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        there.sort();
        listed.sort();
        assert_eq!(there, listed);
        let mut units: Vec<&str> = listed.iter().map(String::as_str).filter(|name| name.ends_with(".cu")).collect();
        units.sort_unstable();
        assert_eq!(units, UNITS);
    }

    #[test]
    fn includes_are_put_in_once_and_the_rest_stays() {
        for unit in UNITS {
            let text = source(unit);
            assert!(!text.contains("#include"), "{unit}");
            assert_eq!(text.matches("#define PLATFORM_CUH").count(), 1, "{unit}");
            assert!(text.contains("\nKERNEL "), "{unit}");
        }
        assert!(source("noise.cu").contains("#line 1 \"philox.cuh\"\n"));
    }
}
