//! Folders: data sets, the store, and the room around it.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::check::Check;

/// Less room than this stops a coordinator: it would soon keep nothing more.
const TOO_LITTLE: u64 = 64 << 20;
/// Less room than this will not last: a checkpoint of a large optimizer takes tens of megabytes.
const LITTLE: u64 = 1 << 30;

pub(super) fn data(folder: Option<&Path>) -> Check {
    let Some(folder) = folder else {
        let cure = "procedural data is used; name a folder with --data-dir or PACELINE_DATA to use real data";
        return Check::warn("data", "no folder named", cure);
    };
    let name = folder.display();
    if !folder.is_dir() {
        return Check::fail("data", format!("{name} is no folder"), "name another with --data-dir");
    }
    let known = [("MNIST", "mnist"), ("Fashion-MNIST", "fashion_mnist"), ("CIFAR-10", "cifar10")];
    let found: Vec<_> = known.iter().filter(|(_, path)| folder.join(path).is_dir()).map(|(set, _)| *set).collect();
    if found.is_empty() {
        return Check::warn(
            "data",
            format!("{name} holds no known data set"),
            "put MNIST's IDX files into its folder mnist/",
        );
    }
    // Reading is the only way to know that a file is whole.
    for (_, path) in known.iter().filter(|(set, _)| found.contains(set)) {
        let settings = serde_json::Map::from_iter([("data".to_owned(), (*path).into())]);
        if let Err(error @ paceline_tasks::Error::Data { .. }) =
            paceline_tasks::build("image_mlp", &settings, Some(folder))
        {
            return Check::fail("data", error.to_string(), "mend it, or name another folder with --data-dir");
        }
    }
    Check::ok("data", format!("{name}: {}", found.join(", ")))
}

pub(super) fn store(folder: &Path) -> Check {
    let probe = existing(folder).join(format!(".paceline-doctor-{}", std::process::id()));
    let tried = std::fs::write(&probe, b"probe").and_then(|()| std::fs::remove_file(&probe));
    let name = folder.display();
    match tried {
        Ok(()) if folder.is_dir() => Check::ok("store", format!("{name} is writable")),
        Ok(()) if folder.exists() => {
            Check::fail("store", format!("{name} is not a folder"), "name another with --store")
        }
        Ok(()) => Check::ok("store", format!("{name} will be made by the first run")),
        Err(error) => {
            let cure = "make it writable, free some space, or name another with --store";
            Check::fail("store", format!("{name} cannot be written: {error}"), cure)
        }
    }
}

/// A store that does not exist yet lies in its nearest parent that does.
fn existing(folder: &Path) -> &Path {
    let there = folder.ancestors().find(|path| path.is_dir() || path.as_os_str().is_empty());
    there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Room on the file system of the store.
pub(super) fn disk(store: &Path) -> Check {
    let place = existing(store);
    match statvfs(place) {
        // Their types differ between systems.
        #[allow(clippy::useless_conversion)]
        Ok(found) => room(
            u64::from(found.blocks_available()).saturating_mul(u64::from(found.fragment_size())),
            u64::from(found.files()) > 0 && u64::from(found.files_available()) == 0,
        ),
        Err(error) => {
            Check::warn("disk", format!("{} does not tell its room: {error}", place.display()), "look yourself: df")
        }
    }
}

/// What to think of so many free bytes, where files cannot be made at all if `no_files`.
fn room(free: u64, no_files: bool) -> Check {
    let found = format!("{:.1} GB free where the store is", bytes_to_gb(free));
    let cure = "free some, or name another place with --store";
    if no_files {
        Check::fail("disk", format!("{found}, but no file more can be made (no inodes)"), cure)
    } else if free < TOO_LITTLE {
        Check::fail("disk", found, cure)
    } else if free < LITTLE {
        Check::warn("disk", found, cure)
    } else {
        Check::ok("disk", found)
    }
}

#[allow(clippy::cast_precision_loss, reason = "for one decimal")]
fn bytes_to_gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::*;

    #[test]
    fn data_folders_are_recognised() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(data(Some(&folder.path().join("gone"))).outcome, Outcome::Fail);
        assert_eq!(data(Some(folder.path())).outcome, Outcome::Warn);
        std::fs::create_dir(folder.path().join("mnist")).expect("made");
        let empty = data(Some(folder.path()));
        assert!(empty.outcome == Outcome::Fail && empty.found.contains("not found"), "{empty:?}");
        let images = [&[0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1][..], &[7; 20]].concat();
        let labels = [&[0, 0, 8, 1, 0, 0, 0, 20][..], &[7; 20]].concat();
        std::fs::write(folder.path().join("mnist/t10k-images-idx3-ubyte"), images).expect("written");
        std::fs::write(folder.path().join("mnist/t10k-labels-idx1-ubyte"), labels).expect("written");
        let check = data(Some(folder.path()));
        assert_eq!(check.outcome, Outcome::Ok, "{check:?}");
        assert!(check.found.ends_with("MNIST"), "{check:?}");
    }

    #[test]
    fn a_store_may_not_exist_yet_but_may_not_be_a_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(store(folder.path()).outcome, Outcome::Ok);
        assert_eq!(store(&folder.path().join("a/b")).outcome, Outcome::Ok);
        let file = folder.path().join("file");
        std::fs::write(&file, b"x").expect("written");
        assert_eq!(store(&file).outcome, Outcome::Fail);
    }

    #[test]
    fn a_full_disk_fails_and_a_nearly_full_one_warns() {
        assert_eq!(room(0, false).outcome, Outcome::Fail);
        assert_eq!(room(TOO_LITTLE, false).outcome, Outcome::Warn);
        assert_eq!(room(LITTLE, false).outcome, Outcome::Ok);
        let none = room(u64::MAX, true);
        assert!(none.outcome == Outcome::Fail && none.found.contains("inodes"), "{none:?}");
    }

    #[test]
    fn the_disk_of_a_store_that_is_not_there_is_its_parents() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(disk(&folder.path().join("a/b")).found.ends_with("GB free where the store is"));
    }
}
