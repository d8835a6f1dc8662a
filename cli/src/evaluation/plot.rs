//! Mean training curves of one family as an SVG.
//!
//! Light grey: Adam at every rate. In colour, on top: Adam at its best rates, the untrained and the trained learned
//! optimizer. Losses are smoothed as in the scores; what flies off is cut at a little above the initial loss.

use plotters::prelude::*;
use plotters::style::FontTransform;

use super::report::FamilyReport;
use super::score::smoothed;
use crate::failure::Failure;

/// Width and height in pixels.
const SIZE: (u32, u32) = (900, 560);
/// Points drawn a curve, at most.
const POINTS: usize = 400;

/// One line of the plot.
struct Series<'a> {
    label: Option<String>,
    color: RGBColor,
    width: u32,
    losses: &'a [f64],
}

/// The plot of a family's report.
pub(crate) fn svg(family: &FamilyReport, steps: u32, seeds: u32) -> Result<String, Failure> {
    let mut text = String::new();
    draw(&mut text, family, steps, seeds)
        .map_err(|error| Failure::bug(format!("plotting {}: {error}", family.family)))?;
    Ok(text)
}

type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw(out: &mut String, family: &FamilyReport, steps: u32, seeds: u32) -> DrawResult {
    let all = series(family);
    let root = SVGBackend::with_string(out, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (low, high) = range(&all);
    let title = format!("{}: training loss, mean of {seeds} held-out tasks", family.family);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..f64::from(steps.max(1)), low..high)?;
    let label = ("sans-serif", 15);
    chart
        .configure_mesh()
        .x_desc("inner step")
        .y_desc("training loss")
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|loss| format!("{loss:.2}"))
        .axis_desc_style(label)
        .label_style(label.into_font().transform(FontTransform::None))
        .draw()?;
    // The legend follows the order of drawing, which begins with what matters least; so it is filled first, by itself.
    for line in all.iter().rev() {
        if let Some(label) = &line.label {
            let style = line.color.stroke_width(line.width);
            let entry = chart.draw_series(LineSeries::new(std::iter::empty(), style))?;
            entry.label(label).legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        }
    }
    for line in &all {
        chart.draw_series(LineSeries::new(points(line.losses, high), line.color.stroke_width(line.width)))?;
    }
    let legend = SeriesLabelPosition::UpperRight;
    chart
        .configure_series_labels()
        .position(legend)
        .label_font(label)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

/// The lines, those drawn last on top.
fn series(family: &FamilyReport) -> Vec<Series<'_>> {
    let (by_mean, by_final) = (family.best_adam_by_mean, family.best_adam_by_final);
    let line = |index: usize, label: Option<String>, color, width| {
        let contender: &super::report::ContenderReport = &family.contenders[index];
        Series { label, color, width, losses: &contender.mean_curve }
    };
    let name = |index: usize| &family.contenders[index].name;
    let mut all: Vec<_> = (2..family.contenders.len())
        .filter(|index| *index != by_mean && *index != by_final)
        .enumerate()
        .map(|(nth, index)| {
            // One entry in the legend stands for all the grey lines.
            line(index, (nth == 0).then(|| "adam, other rates".to_owned()), RGBColor(200, 200, 200), 1)
        })
        .collect();
    if by_mean == by_final {
        let label = format!("{}, best by mean and final loss", name(by_mean));
        all.push(line(by_mean, Some(label), RGBColor(31, 119, 180), 2));
    } else {
        all.push(line(by_mean, Some(format!("{}, best by mean loss", name(by_mean))), RGBColor(31, 119, 180), 2));
        all.push(line(by_final, Some(format!("{}, best by final loss", name(by_final))), RGBColor(44, 140, 60), 2));
    }
    all.push(line(1, Some(name(1).clone()), RGBColor(255, 150, 40), 2));
    all.push(line(0, Some(name(0).clone()), RGBColor(214, 39, 40), 3));
    all
}

/// Limits of the loss axis: from a little below the least loss drawn to a little above the common initial loss.
fn range(all: &[Series<'_>]) -> (f64, f64) {
    let start = all.iter().filter_map(|line| line.losses.first().copied()).filter(|loss| loss.is_finite());
    let high = start.fold(f64::NEG_INFINITY, f64::max);
    let least =
        all.iter().flat_map(|line| line.losses).copied().filter(|loss| loss.is_finite()).fold(f64::INFINITY, f64::min);
    if !(high.is_finite() && least.is_finite() && least < high) {
        return (0.0, 1.0);
    }
    let margin = 0.06 * (high - least);
    (if least >= 0.0 { (least - margin).max(0.0) } else { least - margin }, high + margin)
}

/// At most [`POINTS`] points of a smoothed curve, up to where it first leaves the plot or stops being finite.
fn points(losses: &[f64], high: f64) -> Vec<(f64, f64)> {
    let stride = losses.len().div_ceil(POINTS).max(1);
    smoothed(losses)
        .into_iter()
        .enumerate()
        .filter(|(step, _)| step % stride == 0 || step + 1 == losses.len())
        .take_while(|(_, loss)| loss.is_finite())
        .map(|(step, loss)| (step as f64, loss.min(high)))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::evaluation::report::tests::example;

    #[test]
    fn the_plot_names_axes_and_series() {
        let svg = svg(&example().families[0], 200, 2).expect("drawn");
        for text in [
            "inner step",
            "training loss",
            "learned",
            "learned, untrained",
            "adam 1e-2, best by mean loss",
            "adam 1e-1, best by final loss",
            "adam, other rates",
        ] {
            assert!(svg.contains(text), "the plot lacks {text:?}");
        }
        // Five curves with 200 points each, and a short line for each of the five entries of the legend.
        let long = svg.split("<polyline").filter(|line| line.matches(',').count() > 100).count();
        assert_eq!(long, 5);
    }

    /// Whether every element that is opened is closed, in order, and every attribute is quoted.
    pub(crate) fn is_well_formed(xml: &str) -> bool {
        let mut open = Vec::new();
        for piece in xml.split('<').skip(1) {
            let Some((tag, text)) = piece.split_once('>') else { return false };
            if tag.matches('"').count() % 2 != 0 || text.contains('"') && text.contains('=') {
                return false;
            }
            let name = tag.trim_start_matches('/').split_whitespace().next().unwrap_or_default().trim_end_matches('/');
            if let Some(closed) = tag.strip_prefix('/') {
                if open.pop() != Some(closed) {
                    return false;
                }
            } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
                open.push(name);
            }
        }
        open.is_empty()
    }

    #[test]
    fn the_plot_is_well_formed_xml_whatever_the_names() {
        assert!(!is_well_formed("<a><b></a></b>") && !is_well_formed("<a>") && is_well_formed("<a><b c=\"d\"/></a>"));
        let mut family = example().families.remove(0);
        assert!(is_well_formed(&svg(&family, 200, 2).expect("drawn")));
        family.family = "<b>&\"bold\"".into();
        let svg = svg(&family, 200, 2).expect("drawn");
        assert!(is_well_formed(&svg), "{}", &svg[..800]);
        assert!(svg.contains("&lt;b&gt;&amp;"));
    }

    #[test]
    fn a_curve_that_is_not_finite_ends_early_and_high_losses_are_cut() {
        assert_eq!(points(&[1.0, 50.0, f64::NAN, 1.0], 10.0), [(0.0, 1.0), (1.0, 10.0)]);
        let drawn = points(&vec![1.0; 10_000], 10.0);
        assert!(drawn.len() <= POINTS + 1 && drawn.last() == Some(&(9999.0, 1.0)));
    }

    #[test]
    fn equal_losses_still_have_a_range() {
        let flat = [1.0, 1.0];
        let line = Series { label: None, color: BLACK, width: 1, losses: &flat };
        assert_eq!(range(&[line]), (0.0, 1.0));
    }
}
