//! Values along an axis, one line each.

use plotters::prelude::*;

use super::{Block, WIDTH, color};
use crate::failure::Failure;

/// Height in pixels.
const HEIGHT: u32 = 300;
/// Points drawn a line, about: two for each of half as many stretches, the least and the largest.
const POINTS: usize = 1600;

/// The plot of some lines.
pub(super) fn block(title: &str, axis: &str, lines: &[(String, Vec<f32>)]) -> Result<Block, Failure> {
    let mut text = String::new();
    draw(&mut text, title, axis, lines).map_err(|error| Failure::bug(format!("plotting {title}: {error}")))?;
    // An SVG within an SVG, at (0, 0).
    Ok(Block { height: f64::from(HEIGHT), body: text })
}

fn draw(
    out: &mut String,
    title: &str,
    axis: &str,
    lines: &[(String, Vec<f32>)],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(out, (WIDTH as u32, HEIGHT)).into_drawing_area();
    let longest = lines.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    let (low, high) = range(lines);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..(longest.max(2) - 1) as f64, low..high)?;
    chart
        .configure_mesh()
        .x_desc(axis)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .label_style(("sans-serif", 12))
        .draw()?;
    for (nth, (name, values)) in lines.iter().enumerate() {
        let [red, green, blue] = color(nth);
        let style = RGBColor(red, green, blue).stroke_width(1);
        let mut named = Some(name);
        for stretch in stretches(values) {
            let series = chart.draw_series(LineSeries::new(stretch, style))?;
            if let Some(name) = named.take() {
                series.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
            }
        }
    }
    if lines.len() > 1 {
        chart
            .configure_series_labels()
            .label_font(("sans-serif", 12))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK)
            .draw()?;
    }
    root.present()?;
    Ok(())
}

/// Limits of the vertical axis: all finite values, and a little more.
fn range(lines: &[(String, Vec<f32>)]) -> (f64, f64) {
    let values = || lines.iter().flat_map(|(_, values)| values).copied().map(f64::from).filter(|v| v.is_finite());
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    match (low, high) {
        (low, high) if low < high => (low - 0.04 * (high - low), high + 0.04 * (high - low)),
        (low, _) if low.is_finite() => (low - 0.5, low + 0.5),
        _ => (0.0, 1.0),
    }
}

/// A line's points, broken where it is not finite: a gap is seen, a line across it would hide it.
fn stretches(values: &[f32]) -> Vec<Vec<(f64, f64)>> {
    let points: Vec<_> = values.iter().enumerate().map(|(x, &y)| (x as f64, f64::from(y))).collect();
    let width = points.len().div_ceil(POINTS / 2).max(1);
    let parts = points.split(|(_, y)| !y.is_finite()).filter(|part| !part.is_empty());
    parts.map(|part| if points.len() > POINTS { envelope(part, width) } else { part.to_vec() }).collect()
}

/// The least and the largest of each `width` points, in their order: what is short and high stays seen.
fn envelope(points: &[(f64, f64)], width: usize) -> Vec<(f64, f64)> {
    let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
    let ends = points.chunks(width).filter_map(|chunk| {
        let (low, high) = (*chunk.iter().min_by(by_height)?, *chunk.iter().max_by(by_height)?);
        Some(if low.0 <= high.0 { [low, high] } else { [high, low] })
    });
    ends.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_axis_and_title_are_named() {
        let lines = [("up".to_owned(), vec![0.0, 1.0, 2.0]), ("down".to_owned(), vec![1.0, f32::NAN, -1.0, -2.0])];
        let block = block("both", "step", &lines).expect("drawn");
        for text in ["both", "step", "up", "down"] {
            assert!(block.body.contains(&format!("\n{text}\n")), "{text}: {}", block.body);
        }
        assert!(block.body.starts_with("<svg "));
    }

    #[test]
    fn what_is_not_finite_is_a_gap() {
        let parts = stretches(&[1.0, f32::NAN, 2.0, 3.0, f32::INFINITY]);
        assert_eq!(parts, [vec![(0.0, 1.0)], vec![(2.0, 2.0), (3.0, 3.0)]]);
    }

    #[test]
    fn a_spike_of_a_long_line_is_seen() {
        let mut values = vec![0.0; 100_000];
        values[77_777] = 5.0;
        let parts = stretches(&values);
        assert!(parts.len() == 1 && parts[0].len() <= 2 * POINTS, "{} points", parts[0].len());
        assert!(parts[0].contains(&(77_777.0, 5.0)) && parts[0].is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn nothing_and_flat_lines_have_a_range() {
        assert_eq!(range(&[]), (0.0, 1.0));
        assert_eq!(range(&[("nan".into(), vec![f32::NAN])]), (0.0, 1.0));
        assert_eq!(range(&[("flat".into(), vec![3.0, 3.0])]), (2.5, 3.5));
        assert!(block("empty", "", &[]).is_ok() && block("one", "", &[("a".into(), vec![1.0])]).is_ok());
    }
}
