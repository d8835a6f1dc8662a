//! The picture.
//!
//! ```text
//!  quickstart-1a2b3c4d   running                     q leaves, the run goes on
//!  ━━━━━━━━━━━━━━━━━━━━  1234/4000  31 %   1m20s left
//!  ┌ meta-loss 0.5740 ──────────────────────────────────────────────────────────┐
//!  │ 2.3 ⠑⠢⢄                                                                    │
//!  │ 0.5     ⠉⠒⠤⣀⣀⣀⣀⣀⣀                                                         │
//!  └────────────────────────────────────────────────────────────────────────────┘
//!  family    weight   contributions   meta-loss first   latest   change   …
//!  ┌ inner steps/s 15.9k ──────────┐ ┌ fleet ──────────────────────────────────┐
//!  │ ▁▃▅▇▇▇▇                       │ │ workers 2, leases outstanding 8         │
//!  └───────────────────────────────┘ └─────────────────────────────────────────┘
//! ```

use paceline_proto::model::{RunState, RunStatus};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, LineGauge, Paragraph, Row, Sparkline, Table};

use super::Scene;
use crate::mixture;
use crate::pace::{short, time_text};
use crate::progress::status_word;

/// Draws the scene on all of the frame.
pub(crate) fn draw(frame: &mut Frame<'_>, scene: &Scene, color: bool) {
    let palette = Palette { color };
    let entries = mixture::rows(&scene.state);
    // The chart takes what is left; a long mixture leaves it at least six lines.
    let table = (entries.len() as u16 + 1).min(frame.area().height.saturating_sub(15).max(2));
    let [head, gauge, chart, mixture, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(table),
        Constraint::Length(6),
    ])
    .areas(frame.area());
    draw_head(frame, head, scene, palette);
    draw_gauge(frame, gauge, scene, palette);
    draw_chart(frame, chart, scene, palette);
    draw_mixture(frame, mixture, &entries, palette);
    let [rates, fleet] = Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)]).areas(foot);
    draw_rates(frame, rates, scene, palette);
    draw_fleet(frame, fleet, &scene.state, palette);
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Palette {
    color: bool,
}

impl Palette {
    fn of(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn status(self, status: &RunStatus) -> Style {
        let color = match status {
            RunStatus::Running | RunStatus::Completed => Color::Green,
            RunStatus::Paused | RunStatus::Stopped => Color::Yellow,
            RunStatus::Failed { .. } => Color::Red,
        };
        self.of(color).add_modifier(Modifier::BOLD)
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, scene: &Scene, palette: Palette) {
    let state = &scene.state;
    let mut line = vec![
        Span::styled(state.run.to_string(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw("   "),
        Span::styled(status_word(state), palette.status(&state.status)),
    ];
    if !scene.connected {
        line.push(Span::styled("   the coordinator does not answer; asking again", palette.of(Color::Yellow)));
    } else if !state.reason.is_empty() && state.reason != status_word(state) {
        line.push(Span::raw(format!("   {}", state.reason)));
    }
    frame.render_widget(Paragraph::new(Line::from(line)), area);
    let hint = Line::styled("q leaves, the run goes on", palette.faint()).right_aligned();
    let [_, below] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(hint), below);
}

fn draw_gauge(frame: &mut Frame<'_>, area: Rect, scene: &Scene, palette: Palette) {
    let state = &scene.state;
    let left = scene.reading.left.filter(|_| !state.status.is_final());
    let left = left.map_or(String::new(), |left| format!("  {} left", time_text(left)));
    let label = format!("{}/{}  {:.0} %{left} ", state.outer_step, state.spec.outer.steps, 100.0 * scene.done());
    let gauge = LineGauge::default().ratio(scene.done()).label(label).filled_symbol("━").unfilled_symbol("┄");
    frame.render_widget(gauge.filled_style(palette.of(Color::Cyan)).unfilled_style(palette.faint()), area);
}

fn draw_chart(frame: &mut Frame<'_>, area: Rect, scene: &Scene, palette: Palette) {
    let now = scene.reading.meta_loss.map_or("not known yet".to_owned(), |loss| format!("{loss:.4}"));
    let block = Block::bordered().title(format!(" meta-loss {now} "));
    let Some([least, most]) = scene.losses.range() else {
        let waiting = Paragraph::new("the curve begins with the first outer step").style(palette.faint()).block(block);
        return frame.render_widget(waiting, area);
    };
    let points = scene.losses.points();
    let (first, last) = (points[0].0, points[points.len() - 1].0.max(points[0].0 + 1.0));
    let data = Dataset::default()
        .marker(Marker::Braille)
        .graph_type(GraphType::Line)
        .style(palette.of(Color::Cyan))
        .data(points);
    let steps = Axis::default().bounds([first, last]).labels([format!("{first:.0}"), format!("outer step {last:.0}")]);
    let losses = Axis::default().bounds([least, most]).labels([format!("{least:.3}"), format!("{most:.3}")]);
    frame.render_widget(Chart::new(vec![data]).x_axis(steps).y_axis(losses).block(block), area);
}

/// As many columns from the left as there is room for whole.
fn draw_mixture(frame: &mut Frame<'_>, area: Rect, entries: &[[String; mixture::COLUMNS.len()]], palette: Palette) {
    const SPACING: u16 = 2;
    let width = |column: usize| {
        let cells = entries.iter().map(|row| row[column].chars().count());
        cells.chain([mixture::COLUMNS[column].len()]).max().unwrap_or(0) as u16
    };
    let ends = (0..mixture::COLUMNS.len()).scan(0, |end, column| {
        *end += width(column) + SPACING;
        Some(*end)
    });
    let columns = ends.take_while(|end| *end <= area.width + SPACING).count().max(1);
    let widths = (0..columns).map(|column| Constraint::Length(width(column)));
    let header = Row::new(mixture::COLUMNS.into_iter().take(columns)).style(palette.faint());
    let rows = entries.iter().map(|row| Row::new(row.iter().take(columns).cloned()));
    frame.render_widget(Table::new(rows, widths).header(header).column_spacing(SPACING), area);
}

fn draw_rates(frame: &mut Frame<'_>, area: Rect, scene: &Scene, palette: Palette) {
    let now = scene.reading.inner_per_second.map_or("–".to_owned(), short);
    let block = Block::bordered().title(format!(" inner steps/s {now} "));
    let columns = usize::from(area.width.saturating_sub(2));
    let rates = scene.rates.points();
    let shown = rates[rates.len().saturating_sub(columns)..].iter().map(|(_, rate)| *rate as u64);
    frame.render_widget(Sparkline::default().data(shown).style(palette.of(Color::Cyan)).block(block), area);
}

fn draw_fleet(frame: &mut Frame<'_>, area: Rect, state: &RunState, palette: Palette) {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.4}"));
    let ledger = &state.ledger;
    let lines = [
        format!("workers {}, leases outstanding {}", state.workers, ledger.outstanding),
        format!("{} accepted, {} expired, {} rejected", ledger.accepted, ledger.expired, ledger.rejected),
        format!(
            "gradient norm {}, signal to noise {}",
            number(state.grad_norm),
            number(state.variance.signal_to_noise)
        ),
        format!(
            "{} inner steps, {} lanes diverged, checkpoint {}",
            short(state.inner_steps as f64),
            state.diverged_lanes,
            state.durable_checkpoint
        ),
    ];
    let mut text: Vec<Line<'_>> = lines.into_iter().map(Line::from).collect();
    if state.workers == 0 && !state.status.is_final() {
        text[0] = text[0].clone().style(palette.of(Color::Yellow));
    }
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" fleet ")), area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::pace::tests::state;

    fn picture(scene: &Scene, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, scene, false)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = buffer.content().chunks(usize::from(width));
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    fn scene() -> Scene {
        let mut scene = Scene::new(state(1, 100, Some(2.25)));
        for step in 2..=40 {
            let time = Duration::from_secs(step);
            scene.observe(time, state(step, 100_000 * step, Some(2.5 - 0.05 * step as f64)));
        }
        scene
    }

    #[test]
    fn a_run_shows_its_steps_its_curve_its_mixture_and_its_fleet() {
        let picture = picture(&scene(), 100, 30);
        for expected in [
            "quickstart-0badcafe   running",
            "40/4000  1 %",
            "left",
            "meta-loss 0.9",
            "outer step 40",
            "2.400",
            "image_mlp",
            "diverged lanes",
            "inner steps/s 100.0k",
            "workers 1, leases outstanding 0",
            "gradient norm 1.0000",
            "q leaves",
        ] {
            assert!(picture.contains(expected), "no {expected:?} in\n{picture}");
        }
        // Braille: a falling curve; blocks: a steady rate.
        assert!(picture.chars().filter(|symbol| ('\u{2801}'..='\u{28ff}').contains(symbol)).count() > 30, "{picture}");
        assert!(picture.contains('█'), "{picture}");
    }

    #[test]
    fn before_the_first_step_it_says_what_it_waits_for() {
        let mut waiting = state(0, 0, None);
        (waiting.reason, waiting.workers) = ("no workers".into(), 0);
        let picture = picture(&Scene::new(waiting), 80, 24);
        for expected in ["running   no workers", "not known yet", "the curve begins", "workers 0"] {
            assert!(picture.contains(expected), "no {expected:?} in\n{picture}");
        }
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn() {
        for (width, height) in [(1, 1), (20, 5), (40, 12), (300, 100)] {
            let picture = picture(&scene(), width, height);
            assert_eq!(picture.contains("quickstart-0badcafe"), width >= 40, "{width}×{height}:\n{picture}");
        }
    }

    #[test]
    fn a_silent_coordinator_is_named() {
        let mut scene = scene();
        scene.connected = false;
        assert!(picture(&scene, 100, 30).contains("the coordinator does not answer"));
    }
}
