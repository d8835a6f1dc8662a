//! Text files read whole: bounded, UTF-8, not empty.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::data_error;
use crate::Error;

/// The text of a file of at most `max_bytes` bytes.
///
/// # Errors
/// [`Error::Data`] names the file, and the byte offset and line where it stops being UTF-8.
pub(crate) fn read_utf8(path: &Path, max_bytes: u64) -> Result<String, Error> {
    let fail = |reason: String| data_error(path, reason);
    let file = File::open(path).map_err(|error| fail(format!("cannot be opened: {error}")))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that fits.
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|error| fail(format!("cannot be read: {error}")))?;
    if bytes.is_empty() {
        return Err(fail("is empty; fetch the file again".into()));
    }
    if bytes.len() as u64 > max_bytes {
        return Err(fail(format!("is larger than {max_bytes} bytes, the most that is read; use a part of it")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count();
        let byte = error.as_bytes()[offset];
        fail(format!("is not UTF-8: byte {byte:#04x} at offset {offset} (line {line}) starts no character; convert it"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("poem.txt");
        assert!(read_utf8(&path, 9).unwrap_err().to_string().contains("poem.txt: cannot be opened"));
        let cases: [(&[u8], &str); 4] = [
            (b"", "is empty"),
            (b"0123456789", "larger than 9 bytes"),
            (b"a\nb\xffc", "byte 0xff at offset 3 (line 2)"),
            ("é".as_bytes().split_at(1).0, "byte 0xc3 at offset 0 (line 1)"),
        ];
        for (bytes, expected) in cases {
            std::fs::write(&path, bytes).unwrap();
            let error = read_utf8(&path, 9).unwrap_err().to_string();
            assert!(error.contains("poem.txt") && error.contains(expected), "{error}");
        }
        assert!(read_utf8(folder.path(), 9).unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(&path, "123456é89".get(..9).unwrap()).unwrap();
        assert_eq!(read_utf8(&path, 9).unwrap(), "123456é8");
    }
}
