//! WAV files: integers of 8, 16, 24 or 32 bits and floats of 32, read with `hound`, as mono samples.
//!
//! ```text
//!  file ─► at most MAX_BYTES ─► RIFF? ─► header ─► rate as wanted? ─► samples ─► mean of channels ─► [-1, 1]
//! ```
//!
//! Stereo and more channels become their mean. Integers are divided by half their range, floats are taken as they are
//! and must be finite. Nothing is resampled: another sample rate is an error. A silent file is a valid file. Memory grows
//! with what a file holds, never with what its header claims.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use hound::{SampleFormat, WavReader};

use super::data_error;
use crate::Error;

/// Largest file read: six minutes of CD sound.
const MAX_BYTES: u64 = 64 << 20;

/// The bytes of a file.
///
/// # Errors
/// [`Error::Data`] if it cannot be read or is too large.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|error| data_error(path, format!("cannot be opened: {error}")))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that fits.
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| data_error(path, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(data_error(
            path,
            format!("is larger than {MAX_BYTES} bytes: cut the recording into shorter files"),
        ));
    }
    Ok(bytes)
}

/// Mono samples of a WAV file; `path` is for errors only.
///
/// # Errors
/// [`Error::Data`] names the file and, where there is one, the sample at fault.
pub(crate) fn decode(path: &Path, bytes: &[u8], sample_rate: u32) -> Result<Vec<f32>, Error> {
    parse(bytes, sample_rate).map_err(|reason| data_error(path, reason))
}

/// Parses a file; the error says what is wrong with it.
fn parse(bytes: &[u8], sample_rate: u32) -> Result<Vec<f32>, String> {
    if bytes.is_empty() {
        return Err("is empty: fetch the file again".into());
    }
    if !bytes.starts_with(b"RIFF") || bytes.get(8..12) != Some(b"WAVE") {
        let start = &bytes[..bytes.len().min(12)];
        return Err(format!(
            "is not a WAV file: it should start with \"RIFF....WAVE\" but starts with \"{}\"; is it another format \
             under this name? Convert it to WAV",
            start.escape_ascii()
        ));
    }
    let mut reader = WavReader::new(bytes).map_err(|error| match error {
        hound::Error::IoError(_) => "is damaged: it ends within its header; fetch the file again".into(),
        hound::Error::Unsupported => {
            "holds a WAV encoding other than PCM integers and 32-bit floats: convert it to 16-bit PCM".to_owned()
        }
        other => format!("has a header that cannot be right ({other}): convert it to 16-bit PCM or fetch it again"),
    })?;
    let spec = reader.spec();
    if spec.sample_rate != sample_rate {
        return Err(format!(
            "is sampled at {} Hz, but {sample_rate} Hz are wanted: resample the file or set sample_rate = {}",
            spec.sample_rate, spec.sample_rate
        ));
    }
    if reader.len() == 0 {
        return Err("holds no samples: remove the file or fetch it again".into());
    }
    let channels = usize::from(spec.channels);
    let claimed = reader.len();
    let truncated = |index: usize, error: hound::Error| match error {
        hound::Error::IoError(_) => format!(
            "is truncated: its header says {claimed} samples, but sample {index} cannot be read; fetch the file again"
        ),
        other => format!("has a sample {index} that cannot be decoded ({other}): convert it to 16-bit PCM"),
    };
    // A sample takes a byte or more, whatever the header claims.
    let mut mono = Vec::with_capacity((claimed as usize).min(bytes.len()) / channels);
    let mut frame = Vec::with_capacity(channels.min(bytes.len()));
    let mut push = |value: f64| {
        frame.push(value);
        if frame.len() == channels {
            mono.push((frame.iter().sum::<f64>() / channels as f64) as f32);
            frame.clear();
        }
    };
    match spec.sample_format {
        SampleFormat::Int => {
            let half = (1_u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f64;
            for (index, sample) in reader.samples::<i32>().enumerate() {
                push(f64::from(sample.map_err(|error| truncated(index, error))?) / half);
            }
        }
        SampleFormat::Float => {
            for (index, sample) in reader.samples::<f32>().enumerate() {
                let sample = sample.map_err(|error| truncated(index, error))?;
                if !sample.is_finite() {
                    return Err(format!("has {sample} as sample {index}: repair or remove the file"));
                }
                push(f64::from(sample));
            }
        }
    }
    Ok(mono)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use hound::{WavSpec, WavWriter};
    use proptest::prelude::*;

    use super::*;

    fn spec(channels: u16, sample_rate: u32, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
        WavSpec { channels, sample_rate, bits_per_sample, sample_format }
    }

    fn integers(spec: WavSpec, samples: &[i32]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
        samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    fn floats(samples: &[f32]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut bytes, spec(1, 8000, 32, SampleFormat::Float)).unwrap();
        samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_width_is_a_share_of_its_range() {
        for bits in [8, 16, 24, 32] {
            let quarter = 1 << (bits - 3);
            let bytes = integers(spec(1, 8000, bits, SampleFormat::Int), &[0, quarter, -quarter, -4 * (quarter / 2)]);
            assert_eq!(parse(&bytes, 8000).unwrap(), [0.0, 0.25, -0.25, -0.5], "{bits} bits");
        }
        assert_eq!(parse(&floats(&[0.1, -1.5]), 8000).unwrap(), [0.1, -1.5]);
    }

    #[test]
    fn channels_are_averaged() {
        let bytes = integers(spec(2, 8000, 16, SampleFormat::Int), &[16_384, 0, -8192, 8192]);
        assert_eq!(parse(&bytes, 8000).unwrap(), [0.25, 0.0]);
    }

    #[test]
    fn silence_is_a_file_like_any_other() {
        let bytes = integers(spec(1, 8000, 16, SampleFormat::Int), &[0; 5]);
        assert_eq!(parse(&bytes, 8000).unwrap(), [0.0; 5]);
    }

    #[test]
    fn damaged_files_say_what_is_wrong_and_where() {
        let good = integers(spec(1, 8000, 16, SampleFormat::Int), &[1; 100]);
        let patched = |at: usize, with: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            bytes
        };
        let cases = [
            ("empty", Vec::new(), "is empty"),
            ("text", b"hello, world, I am text".to_vec(), "starts with \"hello, world\""),
            ("mp3", b"ID3\x04\0\0\0\0\0\0\0\0\0".to_vec(), "starts with \"ID3\\x04"),
            ("AVI", [b"RIFF\0\0\0\0AVI ".as_slice(), &[0; 40]].concat(), "not a WAV file"),
            ("three bytes", b"RIF".to_vec(), "not a WAV file"),
            ("header cut", good[..30].to_vec(), "ends within its header"),
            ("samples cut", good[..good.len() - 51].to_vec(), "says 100 samples, but sample 74 cannot be read"),
            ("huge claim", patched(40, &0xFFFF_FFFE_u32.to_le_bytes()), "is truncated"),
            ("claim of no whole sample", patched(40, &199_u32.to_le_bytes()), "header that cannot be right"),
            ("no channel", patched(22, &[0, 0]), "zero channels"),
            ("65535 channels", patched(22, &[255, 255]), "header that cannot be right"),
            ("a-law", patched(20, &[6, 0]), "encoding other than"),
            ("12 bits", patched(34, &[12, 0]), "header that cannot be right"),
            ("no rate", patched(24, &[0; 8]), "sampled at 0 Hz"),
            ("no samples", integers(spec(1, 8000, 16, SampleFormat::Int), &[]), "holds no samples"),
            (
                "another rate",
                integers(spec(1, 44_100, 16, SampleFormat::Int), &[1]),
                "44100 Hz, but 8000 Hz are wanted",
            ),
            ("NaN", floats(&[0.0, 0.5, f32::NAN]), "has NaN as sample 2"),
            ("infinity", floats(&[f32::NEG_INFINITY]), "has -inf as sample 0"),
        ];
        for (name, bytes, expected) in cases {
            let error = parse(&bytes, 8000).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_bytes(&folder.path().join("nowhere.wav")).unwrap_err().to_string();
        assert!(error.contains("nowhere.wav: cannot be opened"), "{error}");
        let large = folder.path().join("large.wav");
        File::create(&large).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let error = read_bytes(&large).unwrap_err().to_string();
        assert!(error.contains("large.wav: is larger than"), "{error}");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(
            changes in prop::collection::vec((0_usize..64, any::<u8>()), 0..12),
            length in 0_usize..90,
            extensible in any::<bool>(),
        ) {
            // hound writes WAVEFORMATEXTENSIBLE for 24 bits and WAVEFORMAT for 16.
            let bits = if extensible { 24 } else { 16 };
            let mut bytes = integers(spec(2, 8000, bits, SampleFormat::Int), &[7; 8]);
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(length);
            if let Ok(samples) = parse(&bytes, 8000) {
                prop_assert!(samples.len() <= bytes.len() && samples.iter().all(|sample| sample.is_finite()));
            }
        }
    }
}
