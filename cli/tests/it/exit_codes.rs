//! The documented exit codes, from the real binary.

use crate::{paceline, stderr, stdout, text};

/// An address where nothing listens: the port was free a moment ago.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

#[test]
fn help_and_version_succeed() {
    for arguments in [&["--help"][..], &["--version"], &["train", "--help"], &["checkpoint", "pull", "--help"]] {
        let output = paceline(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    }
    assert!(stdout(&paceline(&["--help"])).contains("Examples:"));
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [&[][..], &["trian"], &["train", "--workers", "0"], &["run", "show"], &["run", "show", "a b"]] {
        assert_eq!(paceline(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn no_coordinator_is_69_and_says_how_to_start_one() {
    let address = nowhere();
    let output = paceline(&["run", "list", "--coordinator", &address]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).starts_with(&format!("error: no answer from the coordinator at {address}")));
    assert!(stderr(&output).contains("help: start one with `paceline-coordinator`"));
}

#[test]
fn an_address_that_is_none_is_64() {
    let output = paceline(&["run", "list", "--coordinator", "not an address"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
}

#[test]
fn errors_are_one_json_object_when_asked() {
    let output = paceline(&["run", "list", "--format", "json", "--coordinator", &nowhere()]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
    assert_eq!(error["error"]["code"], 69);
    assert_eq!(error["error"]["reason"], "UNAVAILABLE");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_missing_recipe_is_64_and_a_store_in_the_way_73() {
    let output = paceline(&["train", "no-such-recipe"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("store");
    std::fs::write(&file, b"not a folder").expect("written");
    let output = paceline(&["train", "--store", text(&file)]);
    assert_eq!(output.status.code(), Some(73), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
}

#[test]
fn what_is_no_recipe_at_all_is_64() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0]).expect("written");
    for recipe in [folder.path(), &binary, &binary.join("under-a-file")] {
        let output = paceline(&["train", text(recipe), "--store", text(&folder.path().join("store"))]);
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    }
}

#[test]
fn a_data_folder_that_is_not_there_is_64_and_starts_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let output = paceline(&["train", "--data-dir", "/nowhere", "--store", text(&store)]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(stderr(&output).contains("/nowhere: no such folder"), "{}", stderr(&output));
    assert!(!store.exists());
}

#[test]
fn every_command_that_calls_a_coordinator_says_that_none_is_there() {
    let address = nowhere();
    for arguments in [
        &["run", "submit", "quickstart"][..],
        &["run", "list"],
        &["run", "show", "a-1"],
        &["run", "watch", "a-1"],
        &["run", "pause", "a-1"],
        &["run", "resume", "a-1"],
        &["run", "stop", "a-1"],
        &["run", "ledger", "a-1"],
        &["checkpoint", "list", "a-1"],
        &["checkpoint", "show", "a-1"],
        &["checkpoint", "pull", "a-1"],
        &["workers", "enroll", "a"],
        &["workers", "list"],
        &["workers", "revoke", "a"],
        &["token", "create", "a"],
        &["token", "list"],
        &["token", "revoke", "1f2e3d4c"],
    ] {
        let output = paceline(&[arguments, &["--coordinator", &address]].concat());
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn doctor_reads_the_data_it_finds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mnist = folder.path().join("mnist");
    std::fs::create_dir(&mnist).expect("made");
    std::fs::write(mnist.join("t10k-images-idx3-ubyte"), [0, 0, 8, 3, 0]).expect("written");
    std::fs::write(mnist.join("t10k-labels-idx1-ubyte"), [0, 0, 8, 1, 0]).expect("written");
    let output = paceline(&["doctor", "--data-dir", text(folder.path()), "--store", text(folder.path())]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("t10k-images-idx3-ubyte: is damaged"), "{}", stdout(&output));
}

#[test]
fn a_device_that_is_not_there_is_78_and_begins_no_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // No build and no machine has this one.
    let output = paceline(&["train", "--store", text(folder.path()), "--device", "cuda:4294967295"]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(stderr(&output).contains("--device cpu"), "{}", stderr(&output));
}

#[test]
fn a_checkpoint_that_is_none_is_64() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("x.safetensors");
    std::fs::write(&file, b"hello").expect("written");
    let output = paceline(&["checkpoint", "verify", text(&file)]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    let output = paceline(&["checkpoint", "verify", "gone.safetensors"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
}

#[test]
fn doctor_fails_on_a_named_coordinator_that_is_not_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = text(folder.path());
    let output = paceline(&["doctor", "--store", store, "--coordinator", &nowhere()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("FAIL  coordinator"), "{}", stdout(&output));
    let output = paceline(&["doctor", "--store", store, "--data-dir", "gone", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let names: Vec<_> =
        checks["checks"].as_array().expect("a list").iter().map(|check| check["name"].clone()).collect();
    let expected = "version processor device data store disk clock certificates token coordinator";
    assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
}

#[test]
fn doctor_compares_clocks_with_a_coordinator_and_reads_certificates() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = text(folder.path());
    let (coordinator, address) =
        crate::processes::start_coordinator(folder.path(), "127.0.0.1:0".parse().expect("one"));
    let address = format!("http://{address}");
    let output = paceline(&["doctor", "--store", store, "--coordinator", &address]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("the coordinator's"), "{}", stdout(&output));
    coordinator.stop();
    let torn = folder.path().join("torn.pem");
    std::fs::write(&torn, "no certificate").expect("written");
    let output = paceline(&["doctor", "--store", store, "--ca", text(&torn)]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stdout(&output).contains("FAIL  certificates authority"), "{}", stdout(&output));
}

#[test]
fn settings_are_printed_and_nothing_is_done() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let output = paceline(&["train", "--store", text(&store), "--print-config", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let all = printed["settings"].as_array().expect("a list");
    let of = |name: &str| all.iter().find(|setting| setting["name"] == name).expect("is there").clone();
    assert_eq!(of("--store"), serde_json::json!({"name": "--store", "value": text(&store), "origin": "command line"}));
    assert_eq!(of("--workers")["origin"], "default");
    assert_eq!(of("RECIPE")["value"], serde_json::Value::Null);
    assert!(!store.exists(), "it began to train");
}
