//! Curves as SVG for a page: colours come from the page's style, so that they fit light and dark; title and description
//! are for those who do not see them.

use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;

use super::words::number;

/// Width and height in units of the drawing; a page scales it to the room there is.
const SIZE: (u32, u32) = (480, 270);
/// What the style knows: one colour a line, then rules and axes.
const LINES: [RGBColor; 6] = [
    RGBColor(0x0b, 0x57, 0xa4),
    RGBColor(0xa3, 0x42, 0x0a),
    RGBColor(0x11, 0x63, 0x29),
    RGBColor(0x7b, 0x2d, 0x8b),
    RGBColor(0x5c, 0x53, 0x00),
    RGBColor(0xa4, 0x0e, 0x26),
];
const RULE: RGBColor = RGBColor(0xd0, 0xd5, 0xdb);
const AXIS: RGBColor = RGBColor(0x4d, 0x56, 0x61);
/// How much of a line's colour its spread has.
const SHADE: f64 = 0.15;
/// Ratio of the largest to the least value from which a logarithmic axis shows more.
const WIDE: f64 = 50.0;

/// Most lines of one chart.
pub(super) const MOST_LINES: usize = LINES.len();

/// One line: a name and its points, x ascending.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Ground to be shaded, x with its lower and upper edge; may be empty.
    pub(super) spread: Vec<(f64, [f64; 2])>,
}

impl Line {
    /// A line alone.
    pub(super) fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, spread: Vec::new() }
    }

    fn finite(&self) -> Self {
        Self {
            name: self.name.clone(),
            points: self.points.iter().copied().filter(|(_, y)| y.is_finite()).collect(),
            spread: self.spread.iter().copied().filter(|(_, edges)| edges.iter().all(|y| y.is_finite())).collect(),
        }
    }

    /// Every y that must fit.
    fn heights(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|(_, y)| *y).chain(self.spread.iter().flat_map(|(_, edges)| *edges))
    }
}

/// What x counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// Outer steps, evenly.
    OuterSteps,
    /// Inner steps from 1, by their logarithm: most happens in the first few.
    InnerSteps,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::OuterSteps => "outer step",
            Self::InnerSteps => "inner step (logarithmic)",
        }
    }

    fn place(self, x: f64) -> f64 {
        match self {
            Self::OuterSteps => x,
            Self::InnerSteps => x.max(1.0).log10(),
        }
    }

    /// What stands at a mark; nothing between whole steps and whole powers of ten.
    fn label(self, place: f64) -> String {
        match self {
            _ if place.fract() != 0.0 => String::new(),
            Self::OuterSteps => format!("{place:.0}"),
            Self::InnerSteps => format!("{:.0}", 10_f64.powf(place)),
        }
    }
}

/// A figure over outer steps; see [`figure_over`].
pub(super) fn figure(id: &str, title: &str, lines: &[Line]) -> Markup {
    figure_over(Axis::OuterSteps, id, title, lines)
}

/// A figure with its caption, its legend if there are several lines, and what they come to in words. Points that are not
/// finite are left out, lines beyond [`MOST_LINES`] too; without any point it says so.
pub(super) fn figure_over(axis: Axis, id: &str, title: &str, lines: &[Line]) -> Markup {
    let lines = lines.iter().map(Line::finite).filter(|line| !line.points.is_empty());
    let lines: Vec<Line> = lines.take(MOST_LINES).collect();
    html! {
        figure #(id) {
            figcaption { (title) }
            @if lines.is_empty() {
                p.quiet { "Nothing yet." }
            } @else {
                @match svg(axis, id, title, &lines) {
                    Ok(svg) => (PreEscaped(svg)),
                    Err(error) => p.quiet { "It could not be drawn: " (error) },
                }
                @if lines.len() > 1 {
                    ul.legend {
                        @for (line, nth) in lines.iter().zip(1..) {
                            li {
                                svg.swatch viewBox="0 0 28 10" aria-hidden="true" { path class={ "line-" (nth) } d="M0 5h28" {} }
                                (line.name) " " (line.points.last().map_or_else(String::new, |(_, y)| number(*y)))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the lines come to, in words.
fn words(lines: &[Line]) -> String {
    let told = lines.iter().filter_map(|line| {
        let (first, last) = (line.points.first()?, line.points.last()?);
        let least = line.points.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(format!(
            "{}: {} at step {:.0}, {} at step {:.0}, least {} at step {:.0}.",
            line.name,
            number(first.1),
            first.0,
            number(last.1),
            last.0,
            number(least.1),
            least.0
        ))
    });
    told.collect::<Vec<_>>().join(" ")
}

fn svg(axis: Axis, id: &str, title: &str, lines: &[Line]) -> Result<String, String> {
    let mut drawn = String::new();
    draw(&mut drawn, axis, lines).map_err(|error| error.to_string())?;
    // The element of the drawing library has a fixed size and no name; ours has a name and takes the room there is.
    let inner = drawn.find("<svg").and_then(|start| Some(start + drawn[start..].find('>')? + 1));
    let inner = inner.and_then(|start| drawn.get(start..)).ok_or("the drawing has no <svg>")?;
    let (width, height) = SIZE;
    let names =
        html! { title id={ (id) "-title" } { (title) } desc id={ (id) "-desc" } { (words(lines)) } }.into_string();
    Ok(format!(
        "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-labelledby=\"{id}-title\" aria-describedby=\"{id}-desc\">{names}{inner}"
    ))
}

/// Least and largest of some values, a little apart even if they are equal.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let margin = if high > low { 0.05 * (high - low) } else { 0.1 * high.abs().max(1e-3) };
    (low - margin, high + margin)
}

/// Whether a logarithmic axis shows these values better.
fn is_wide(lines: &[Line]) -> bool {
    let values = || lines.iter().flat_map(Line::heights);
    let least = values().fold(f64::INFINITY, f64::min);
    least > 0.0 && values().fold(0.0, f64::max) / least > WIDE
}

fn draw(out: &mut String, axis: Axis, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let wide = is_wide(lines);
    let place = |y: f64| if wide { y.log10() } else { y };
    let (low, high) = range(lines.iter().flat_map(Line::heights).map(place));
    let xs = lines.iter().flat_map(|line| &line.points).map(|(x, _)| axis.place(*x));
    let last = xs.fold(axis.place(2.0), f64::max);
    let root = SVGBackend::with_string(out, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(6)
        .margin_right(14)
        .x_label_area_size(34)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..last, low..high)?;
    let label = ("sans-serif", 14);
    chart
        .configure_mesh()
        .x_desc(axis.name())
        .x_labels(6)
        .y_labels(5)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RULE)
        .axis_style(AXIS)
        .x_label_formatter(&|place| axis.label(*place))
        .y_label_formatter(&|y| axis_number(if wide { 10_f64.powf(*y) } else { *y }))
        .axis_desc_style(label)
        .label_style(label)
        .draw()?;
    // All grounds first, so that no line is dimmed by that of another.
    for (line, color) in lines.iter().zip(LINES) {
        let edge = |of: usize| line.spread.iter().map(move |(x, edges)| (axis.place(*x), place(edges[of])));
        let around: Vec<_> = edge(0).chain(edge(1).rev()).collect();
        if !around.is_empty() {
            chart.draw_series([Polygon::new(around, color.mix(SHADE).filled())])?;
        }
    }
    for (line, color) in lines.iter().zip(LINES) {
        let points = line.points.iter().map(|(x, y)| (axis.place(*x), place(*y)));
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        if let [(x, y)] = line.points[..] {
            // One point makes no line.
            let dot = [(axis.place(x) - 0.01 * last, place(y)), (axis.place(x), place(y))];
            chart.draw_series(LineSeries::new(dot, color.stroke_width(4)))?;
        }
    }
    root.present()?;
    Ok(())
}

/// A number that fits beside an axis.
fn axis_number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-2..1e4).contains(&size) => format!("{value:.0e}"),
        ..1.0 => format!("{value:.3}"),
        ..100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line::new(name, points.to_vec())
    }

    #[test]
    fn a_curve_has_a_name_and_says_what_it_comes_to() {
        let points = [(1.0, 2.5), (2.0, f64::NAN), (3.0, 1.5), (4.0, 1.75)];
        let figure = figure("loss", "Meta-loss <of> all", &[line("all", &points)]).into_string();
        assert!(
            figure.contains("role=\"img\" aria-labelledby=\"loss-title\" aria-describedby=\"loss-desc\""),
            "{figure}"
        );
        assert!(figure.contains("<title id=\"loss-title\">Meta-loss &lt;of&gt; all</title>"), "{figure}");
        assert!(figure.contains("all: 2.5000 at step 1, 1.7500 at step 4, least 1.5000 at step 3."), "{figure}");
        assert_eq!(figure.matches("<polyline").count() - mesh_lines(&figure), 1, "{figure}");
        assert!(!figure.contains("style="), "a style attribute would be refused by the page's policy: {figure}");
        assert_eq!(figure.matches("<svg").count(), figure.matches("</svg>").count());
    }

    /// Polylines that are axes.
    fn mesh_lines(figure: &str) -> usize {
        figure.split("<polyline").filter(|line| line.contains("#4D5661") && line.contains("points")).count()
    }

    #[test]
    fn several_lines_have_a_legend_and_colours_the_style_knows() {
        let lines: Vec<Line> =
            (0..8).map(|nth| line(&format!("family{nth}"), &[(1.0, 1.0), (2.0, f64::from(nth))])).collect();
        let figure = figure("families", "By family", &lines).into_string();
        let style = include_str!("../assets/style.css");
        for (nth, RGBColor(red, green, blue)) in LINES.into_iter().enumerate() {
            let color = format!("[stroke=\"#{red:02X}{green:02X}{blue:02X}\"]");
            assert!(style.contains(&color), "the style does not know {color}");
            assert!(style.contains(&color.replace("stroke", "fill")), "nor its shade");
            assert!(figure.contains(&format!("stroke=\"#{red:02X}{green:02X}{blue:02X}\"")), "line {nth}");
        }
        assert_eq!(figure.matches("<li>").count(), MOST_LINES, "no more lines than colours");
    }

    #[test]
    fn inner_steps_are_drawn_by_logarithm_with_their_spread() {
        let spread = vec![(1.0, [1.0, 3.0]), (10.0, [0.5, 2.0]), (1000.0, [0.25, f64::NAN])];
        let learned = Line { spread, ..line("learned", &[(1.0, 2.0), (10.0, 1.0), (1000.0, 0.5)]) };
        let figure = figure_over(Axis::InnerSteps, "e", "E", &[learned]).into_string();
        let polygon = figure.split("<polygon").nth(1).expect("a shaded ground");
        let corners = polygon.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(corners.split_whitespace().count(), 4, "two finite places, two edges: {corners}");
        assert!(polygon.starts_with(" opacity=\"0.15\" fill=\"#0B57A4\""), "the style knows this colour: {polygon}");
        for power in ["1", "10", "100", "1000"] {
            assert!(figure.contains(&format!(">\n{power}\n</text>")), "no mark at {power}: {figure}");
        }
        assert!(figure.contains("inner step (logarithmic)"), "{figure}");
        assert_eq!([1.0, 10.0, 100.0].map(|x| Axis::InnerSteps.place(x)), [0.0, 1.0, 2.0]);
        assert_eq!(Axis::InnerSteps.label(0.5), "", "nothing between powers of ten");
    }

    #[test]
    fn nothing_equal_and_wide_values_are_drawn_too() {
        assert!(figure("a", "A", &[line("x", &[(1.0, f64::INFINITY)])]).into_string().contains("Nothing yet."));
        assert!(figure("a", "A", &[line("x", &[(1.0, 0.0)])]).into_string().contains("<polyline"));
        assert!(figure("a", "A", &[line("x", &[(1.0, 3.0), (2.0, 3.0)])]).into_string().contains("<polyline"));
        assert!(is_wide(&[line("x", &[(1.0, 0.01), (2.0, 3.0)])]));
        assert!(!is_wide(&[line("x", &[(1.0, -1.0), (2.0, 300.0)])]), "no logarithm of a negative number");
    }
}
