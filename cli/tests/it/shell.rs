//! `paceline completions` and `paceline man`.

use crate::{command, stderr, stdout, text};

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = command(&["completions", shell]).output().expect("the binary runs");
        let script = stdout(&output);
        assert!(output.status.success(), "{}", stderr(&output));
        for word in ["train", "checkpoint", "doctor", "data-dir"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    assert_eq!(command(&["completions", "tcsh"]).output().expect("the binary runs").status.code(), Some(2));
}

/// A shell that knows how to complete is asked, where there is one.
#[test]
fn bash_completes_a_command_from_the_script() {
    let script = stdout(&command(&["completions", "bash"]).output().expect("the binary runs"));
    let ask = "COMP_WORDS=(paceline che); COMP_CWORD=1; _paceline paceline che paceline; echo \"${COMPREPLY[@]}\"";
    match std::process::Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output() {
        Ok(output) => assert_eq!(stdout(&output).trim(), "checkpoint", "{}", stderr(&output)),
        Err(_) => eprintln!("SKIPPED bash_completes_a_command_from_the_script: no bash here"),
    }
}

#[test]
fn manual_pages_are_written_one_a_command() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = folder.path().join("man1");
    let output = command(&["man", text(&pages)]).output().expect("the binary runs");
    assert!(output.status.success(), "{}", stderr(&output));
    for (page, says) in
        [("paceline.1", "Meta\\-trains"), ("paceline-train.1", "recipe"), ("paceline-run-watch.1", "live")]
    {
        let page = std::fs::read_to_string(pages.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(page.starts_with(".ie") && page.contains(says), "{page}");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let output = command(&["man", text(&file)]).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(73), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
}
