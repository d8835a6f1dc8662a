//! CIFAR-10 in its binary version: records of one label byte and a 32×32 image, plane after plane (red, green, blue).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Pixels, data_error};
use crate::Error;

/// Height and width.
pub(super) const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;
/// Records of a file as it is distributed; no more are read.
const MAX_RECORDS: usize = 10_000;
/// Classes.
pub(super) const CLASSES: u8 = 10;

/// Reads the training files `data_batch_1.bin` to `data_batch_5.bin` of a folder.
///
/// # Errors
/// [`Error::Data`] names the file that is missing or damaged.
pub(super) fn read_train(folder: &Path) -> Result<Pixels, Error> {
    let mut all = Pixels { height: SIDE, width: SIDE, channels: 3, values: Vec::new(), labels: Vec::new() };
    for part in 1..=5 {
        read(&folder.join(format!("data_batch_{part}.bin")), &mut all)?;
    }
    Ok(all)
}

/// Reads `test_batch.bin` of a folder.
///
/// # Errors
/// As [`read_train`].
pub(super) fn read_test(folder: &Path) -> Result<Pixels, Error> {
    let mut all = Pixels { height: SIDE, width: SIDE, channels: 3, values: Vec::new(), labels: Vec::new() };
    read(&folder.join("test_batch.bin"), &mut all)?;
    Ok(all)
}

fn read(path: &Path, into: &mut Pixels) -> Result<(), Error> {
    let cure = "put the files of CIFAR-10's binary version into this folder, or set data = \"procedural\"";
    let fail = |reason: String| data_error(path, reason);
    let file = File::open(path).map_err(|error| fail(format!("cannot be opened ({error}): {cure}")))?;
    let mut bytes = Vec::new();
    file.take((MAX_RECORDS * RECORD + 1) as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(format!("cannot be read ({error})")))?;
    if bytes.is_empty() || bytes.len() % RECORD != 0 || bytes.len() > MAX_RECORDS * RECORD {
        return Err(fail(format!(
            "is damaged: expected 1 to {MAX_RECORDS} records of {RECORD} bytes, found {} bytes{}; fetch the file again",
            bytes.len().min(MAX_RECORDS * RECORD),
            if bytes.len() > MAX_RECORDS * RECORD { " and more" } else { "" }
        )));
    }
    for (index, record) in bytes.chunks_exact(RECORD).enumerate() {
        let label = record[0];
        if label >= CLASSES {
            let reason =
                format!("record {index} has label {label}, expected 0 to {}; fetch the file again", CLASSES - 1);
            return Err(fail(reason));
        }
        into.labels.push(label);
        for pixel in 0..PLANE {
            into.values.extend([0, 1, 2].map(|channel| record[1 + channel * PLANE + pixel]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(label: u8) -> Vec<u8> {
        let mut record = vec![label];
        for channel in [10, 20, 30] {
            record.extend((0..PLANE).map(|pixel| channel + (pixel % 5) as u8));
        }
        record
    }

    #[test]
    fn planes_become_channels() {
        let folder = tempfile::tempdir().unwrap();
        for part in 1..=5 {
            std::fs::write(folder.path().join(format!("data_batch_{part}.bin")), record(part)).unwrap();
        }
        let train = read_train(folder.path()).unwrap();
        assert_eq!(train.labels, [1, 2, 3, 4, 5]);
        assert_eq!(train.values.len(), 5 * 3 * PLANE);
        assert_eq!(train.values[..6], [10, 20, 30, 11, 21, 31]);
    }

    #[test]
    fn damaged_files_are_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test_batch.bin");
        let missing = read_test(folder.path()).unwrap_err().to_string();
        assert!(missing.contains("test_batch.bin") && missing.contains("procedural"), "{missing}");
        let cases = [
            (vec![], "found 0 bytes"),
            (record(0)[..100].to_vec(), "found 100 bytes"),
            ([record(0), vec![1]].concat(), "found 3074 bytes"),
            ([record(0), record(10)].concat(), "record 1 has label 10"),
            (vec![0; (MAX_RECORDS + 1) * RECORD], "and more"),
        ];
        for (bytes, expected) in cases {
            std::fs::write(&path, bytes).unwrap();
            let error = read_test(folder.path()).unwrap_err().to_string();
            assert!(error.contains("test_batch.bin") && error.contains(expected), "{error}");
        }
    }
}
