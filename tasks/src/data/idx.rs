//! The IDX files of MNIST and Fashion-MNIST, plain or gzip.
//!
//! ```text
//!  0 0 8 d | d sizes, 4 bytes each, big endian | bytes, row-major        (8: unsigned byte; d: 1 labels, 3 images)
//! ```
//!
//! A header may claim anything, so sizes are bounded before they are believed, and memory grows with what the file
//! holds, not with what it claims.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::{Pixels, data_error};
use crate::Error;

/// Largest payload believed: five times MNIST's training images.
const MAX_BYTES: u64 = 256 << 20;
/// Classes of every data set in this format that we read.
pub(super) const CLASSES: u8 = 10;

/// The file of this name in `folder`: plain if it is there, else gzip.
pub(super) fn locate(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

/// Reads `<part>-images-idx3-ubyte` and `<part>-labels-idx1-ubyte` of a folder.
///
/// # Errors
/// [`Error::Data`] names the file that is missing or damaged.
pub(super) fn read_pair(folder: &Path, part: &str) -> Result<Pixels, Error> {
    let find = |kind: &str| {
        let name = format!("{part}-{kind}-ubyte");
        locate(folder, &name).ok_or_else(|| {
            let reason = format!(
                "not found, neither plain nor as {name}.gz: put the IDX files of the data set into this folder, or set \
                 data = \"procedural\""
            );
            data_error(&folder.join(&name), reason)
        })
    };
    let (image_path, label_path) = (find("images-idx3")?, find("labels-idx1")?);
    let (sizes, values) = read(&image_path, 3)?;
    let (_, labels) = read(&label_path, 1)?;
    if sizes[0] != labels.len() {
        let reason = format!(
            "holds {} labels, but {} holds {} images: they are not of the same data set",
            labels.len(),
            image_path.display(),
            sizes[0]
        );
        return Err(data_error(&label_path, reason));
    }
    if let Some(label) = labels.iter().find(|&&label| label >= CLASSES) {
        return Err(data_error(&label_path, format!("expected labels 0 to {}, found {label}", CLASSES - 1)));
    }
    Ok(Pixels { height: sizes[1], width: sizes[2], channels: 1, values, labels })
}

/// Reads one file of `dimensions` axes: their sizes and the bytes.
fn read(path: &Path, dimensions: usize) -> Result<(Vec<usize>, Vec<u8>), Error> {
    let fail = |reason: String| data_error(path, reason);
    let file = File::open(path).map_err(|error| fail(format!("cannot be opened: {error}")))?;
    let mut plain = BufReader::new(file);
    let start = plain.fill_buf().map_err(|error| fail(format!("cannot be read: {error}")))?;
    // By content, not by name: browsers unpack .gz files without renaming them.
    if start.starts_with(&[0x1f, 0x8b]) {
        parse(&mut MultiGzDecoder::new(plain), dimensions).map_err(fail)
    } else {
        parse(&mut plain, dimensions).map_err(fail)
    }
}

/// Parses one file; the error says what is wrong with it.
fn parse(reader: &mut impl Read, dimensions: usize) -> Result<(Vec<usize>, Vec<u8>), String> {
    let truncated = |what: &str, error: std::io::Error| {
        format!("is damaged: its {what} cannot be read ({error}); fetch the file again")
    };
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(|error| truncated("first four bytes", error))?;
    let expected = [0, 0, 8, dimensions as u8];
    if magic != expected {
        return Err(format!(
            "is not an IDX file of bytes with {dimensions} axes: it should start with {expected:?} but starts with \
             {magic:?}; is it another file under this name?"
        ));
    }
    let mut sizes = Vec::with_capacity(dimensions);
    for _ in 0..dimensions {
        let mut size = [0; 4];
        reader.read_exact(&mut size).map_err(|error| truncated("header", error))?;
        sizes.push(u32::from_be_bytes(size) as usize);
    }
    let bytes = sizes.iter().try_fold(1_u64, |bytes, &size| bytes.checked_mul(size as u64));
    let Some(bytes) = bytes.filter(|bytes| (1..=MAX_BYTES).contains(bytes)) else {
        return Err(format!("claims sizes {sizes:?}; between 1 and {MAX_BYTES} bytes are read"));
    };
    let mut values = Vec::new();
    // One byte more than wanted tells a file that is too long from one that fits.
    reader.take(bytes + 1).read_to_end(&mut values).map_err(|error| truncated("data", error))?;
    if values.len() as u64 != bytes {
        let found = if values.len() as u64 > bytes { "more".into() } else { values.len().to_string() };
        return Err(format!(
            "is damaged: its header says {sizes:?}, that is {bytes} bytes, but {found} follow; fetch the file again"
        ));
    }
    Ok((sizes, values))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend_from_slice(&size.to_be_bytes()));
        bytes.extend_from_slice(values);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn folder(images: &[u8], labels: &[u8], suffix: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(format!("t10k-images-idx3-ubyte{suffix}")), images).unwrap();
        std::fs::write(folder.path().join(format!("t10k-labels-idx1-ubyte{suffix}")), labels).unwrap();
        folder
    }

    #[test]
    fn plain_and_gzip_files_read_the_same_whatever_their_name_says() {
        let images = idx(&[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let labels = idx(&[2], &[9, 0]);
        let expected = Pixels { height: 2, width: 3, channels: 1, values: (1..=12).collect(), labels: vec![9, 0] };
        for suffix in ["", ".gz"] {
            for (images, labels) in [(images.clone(), labels.clone()), (gzip(&images), gzip(&labels))] {
                let folder = folder(&images, &labels, suffix);
                assert_eq!(read_pair(folder.path(), "t10k").unwrap(), expected);
            }
        }
    }

    #[test]
    fn damaged_files_are_named_with_what_is_wrong() {
        let good_images = idx(&[2, 2, 2], &[0; 8]);
        let good_labels = idx(&[2], &[0, 1]);
        let cases = [
            ("empty", Vec::new(), good_labels.clone(), "images", "first four bytes"),
            ("header only in part", good_images[..9].to_vec(), good_labels.clone(), "images", "header"),
            ("truncated", good_images[..20].to_vec(), good_labels.clone(), "images", "8 bytes, but 4 follow"),
            ("too long", [good_images.clone(), vec![0]].concat(), good_labels.clone(), "images", "but more follow"),
            ("labels as images", good_labels.clone(), good_labels.clone(), "images", "[0, 0, 8, 3]"),
            ("text", b"<html>404</html>".to_vec(), good_labels.clone(), "images", "not an IDX file"),
            ("floats", [vec![0, 0, 13, 3], vec![0; 40]].concat(), good_labels.clone(), "images", "[0, 0, 13, 3]"),
            ("no image", idx(&[0, 28, 28], &[]), good_labels.clone(), "images", "claims sizes [0, 28, 28]"),
            ("huge", idx(&[u32::MAX; 3], &[]), good_labels.clone(), "images", "claims sizes"),
            ("large claim, no data", idx(&[200, 1000, 1000], &[]), good_labels.clone(), "images", "but 0 follow"),
            ("counts differ", good_images.clone(), idx(&[3], &[0; 3]), "labels", "3 labels"),
            ("label of no class", good_images.clone(), idx(&[2], &[0, 10]), "labels", "found 10"),
            ("gzip cut", gzip(&good_images)[..15].to_vec(), good_labels.clone(), "images", "damaged"),
        ];
        for (name, images, labels, at_fault, expected) in cases {
            for (suffix, packed) in [("", false), (".gz", true)] {
                let pack = |bytes: &[u8]| if packed { gzip(bytes) } else { bytes.to_vec() };
                // A cut gzip file can't be packed again: that would be a whole file of garbage.
                let images = if name == "gzip cut" { images.clone() } else { pack(&images) };
                let folder = folder(&images, &pack(&labels), suffix);
                let error = read_pair(folder.path(), "t10k").unwrap_err().to_string();
                assert!(error.contains(at_fault) && error.contains(expected), "{name}{suffix}: {error}");
            }
        }
    }

    #[test]
    fn a_missing_file_is_named_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_pair(folder.path(), "t10k").unwrap_err().to_string();
        assert!(error.contains("t10k-images-idx3-ubyte") && error.contains("procedural"), "{error}");
        std::fs::write(folder.path().join("t10k-images-idx3-ubyte"), idx(&[1, 1, 1], &[0])).unwrap();
        let error = read_pair(folder.path(), "t10k").unwrap_err().to_string();
        assert!(error.contains("t10k-labels-idx1-ubyte"), "{error}");
        let error = read_pair(&folder.path().join("nowhere"), "t10k").unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }

    #[test]
    fn a_folder_in_place_of_a_file_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("t10k-images-idx3-ubyte")).unwrap();
        assert!(read_pair(folder.path(), "t10k").unwrap_err().to_string().contains("not found"));
    }
}
