//! The terminal: its other buffer, and what is typed.

use std::io::{Stderr, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use tokio::sync::Notify;

use super::Scene;
use super::view::draw;
use crate::failure::{Exit, Failure};

/// How long the thread that reads keys waits before it looks whether it is still wanted.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// The terminal while it shows a run. Given back as it was when dropped.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    color: bool,
    /// Told when somebody wants to leave.
    leave: Arc<Notify>,
    wanted: Arc<AtomicBool>,
    keys: Option<JoinHandle<()>>,
}

impl Screen {
    /// Takes the terminal of standard error.
    ///
    /// # Errors
    /// If it cannot be written, or is none.
    pub(crate) fn open(color: bool) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Io, "NO_TERMINAL", "the terminal cannot show a live view")
                .cause(error)
                .help("`--plain` follows the run in lines")
        };
        enable_raw_mode().map_err(failed)?;
        // From here on a drop undoes what was done.
        let (leave, wanted) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(true)));
        let terminal = Terminal::new(CrosstermBackend::new(stderr())).map_err(failed)?;
        let mut screen = Self { terminal, color, leave, wanted, keys: None };
        execute!(stderr(), EnterAlternateScreen).map_err(failed)?;
        let (leave, wanted) = (Arc::clone(&screen.leave), Arc::clone(&screen.wanted));
        screen.keys = Some(std::thread::spawn(move || read_keys(&leave, &wanted)));
        Ok(screen)
    }

    /// Draws the scene.
    ///
    /// # Errors
    /// If the terminal has gone away.
    pub(crate) fn draw(&mut self, scene: &Scene) -> Result<(), Failure> {
        let color = self.color;
        self.terminal
            .draw(|frame| draw(frame, scene, color))
            .map(drop)
            .map_err(|error| Failure::new(Exit::Io, "NO_TERMINAL", "the terminal has gone away").cause(error))
    }

    /// Returns when somebody typed that they want to leave.
    pub(crate) async fn left(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
        if let Some(keys) = self.keys.take() {
            // It panics as little as this does; either way the terminal must be given back.
            let _ = keys.join();
        }
        // Nobody can be told if this fails.
        let _ = execute!(stderr(), LeaveAlternateScreen);
        let _ = self.terminal.show_cursor();
        let _ = disable_raw_mode();
    }
}

fn read_keys(leave: &Notify, wanted: &AtomicBool) {
    while wanted.load(Ordering::Relaxed) {
        match event::poll(KEY_WAIT).and_then(|ready| if ready { event::read().map(Some) } else { Ok(None) }) {
            Ok(Some(Event::Key(key))) if leaves(key) => leave.notify_one(),
            Ok(_) => {}
            // No keyboard: the picture is still worth showing.
            Err(_) => return,
        }
    }
}

/// q, Escape or Ctrl-C: in raw mode Ctrl-C is a key.
fn leaves(key: KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release && (control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_control_c_leave_and_nothing_else_does() {
        let key = |code, modifiers| leaves(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Esc, KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!key(KeyCode::Enter, KeyModifiers::NONE));
    }
}
