//! `paceline run watch` on a terminal, which a pseudo-terminal is to the program.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};

use nix::pty::{Winsize, openpty};

use crate::remote::Cluster;
use crate::{command, text, train};

/// A program on a terminal of 100 by 30.
struct OnTerminal {
    child: Child,
    terminal: File,
    seen: String,
}

impl OnTerminal {
    fn start(arguments: &[&str], address: &str) -> Self {
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a pseudo-terminal");
        let end = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        let mut command = command(arguments);
        command.env("PACELINE_COORDINATOR", address).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the binary runs");
        Self { child, terminal: File::from(pair.master), seen: String::new() }
    }

    /// Reads until this was shown.
    fn await_text(&mut self, expected: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(expected) {
            // At the end of the program a pseudo-terminal answers an error.
            let count = self.terminal.read(&mut bytes).unwrap_or(0);
            assert!(count > 0, "ended before it showed {expected:?}: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
}

#[test]
fn a_live_view_shows_the_run_and_q_leaves_it_running() {
    let cluster = Cluster::start();
    let recipe = train::recipe(cluster.folder.path(), 1_000_000);
    let submitted = cluster.json(&["run", "submit", text(&recipe)]);
    let run = submitted["run"].as_str().expect("an id");
    let mut watch = OnTerminal::start(&["run", "watch", run], &cluster.address);
    for expected in ["\u{1b}[?1049h", run, "meta-loss", "fleet", "workers"] {
        watch.await_text(expected);
    }
    watch.terminal.write_all(b"q").expect("typed");
    // The terminal is given back before the last words.
    watch.await_text("\u{1b}[?1049l");
    watch.await_text("goes on: outer step");
    assert!(watch.child.wait().expect("it ends").success());
    assert_eq!(cluster.json(&["run", "show", run])["status"], "running");
}

#[test]
fn a_live_view_ends_with_its_run() {
    let cluster = Cluster::start();
    let recipe = train::recipe(cluster.folder.path(), 40);
    let submitted = cluster.json(&["run", "submit", text(&recipe)]);
    let run = submitted["run"].as_str().expect("an id");
    let mut watch = OnTerminal::start(&["run", "watch", run], &cluster.address);
    watch.await_text("completed at outer step 40");
    assert!(watch.child.wait().expect("it ends").success());
}

#[test]
fn plain_lines_can_be_had_on_a_terminal() {
    let cluster = Cluster::start();
    let recipe = train::recipe(cluster.folder.path(), 7);
    let submitted = cluster.json(&["run", "submit", text(&recipe)]);
    let run = submitted["run"].as_str().expect("an id");
    let mut watch = OnTerminal::start(&["run", "watch", run, "--plain"], &cluster.address);
    watch.await_text("completed at outer step 7");
    assert!(watch.child.wait().expect("it ends").success());
    assert!(!watch.seen.contains("\u{1b}[?1049h"), "{:?}", watch.seen);
}
