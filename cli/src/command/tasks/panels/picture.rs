//! Pictures as pixels, side by side with their captions.
//!
//! A pixel is a square of one colour, so no viewer can blur it: all squares of a colour are one path of horizontal runs, on
//! a ground of the commonest colour.

use std::collections::BTreeMap;

use paceline_tasks::Panel;

use super::{Block, LINE, WIDTH, escaped, hex, words};

/// Rows and columns drawn of a picture, at most; larger ones are thinned out.
const MOST: usize = 256;
/// The longer side of a picture on the page, about.
const SIDE: usize = 112;
/// Between pictures.
const GAP: f64 = 12.0;
/// About the width of a character of a caption.
const CHARACTER: f64 = 6.6;
/// What is no number: a colour that pictures hardly have.
const NOT_A_NUMBER: [u8; 3] = [255, 0, 255];

/// One grid of all these pictures, row by row.
pub(super) fn grid(pictures: &[Panel]) -> Block {
    let (mut left, mut top, mut row_height) = (0.0, 0.0, 0.0_f64);
    let mut body = String::new();
    for panel in pictures {
        let Panel::Picture { title, height, width, channels, values } = panel else { continue };
        let Some(tile) = tile(title, [*height, *width, *channels], values) else {
            let sizes = format!("{height} x {width} x {channels} is not {} values of 1 or 3 channels", values.len());
            let Block { height, body: refusal } = words::block(title, &sizes);
            let below = top + row_height + if row_height > 0.0 { GAP } else { 0.0 };
            body.push_str(&format!("<g transform=\"translate(0 {below:.0})\">{refusal}</g>\n"));
            (left, top, row_height) = (0.0, below + height + GAP, 0.0);
            continue;
        };
        if left > 0.0 && left + tile.width > WIDTH {
            (left, top, row_height) = (0.0, top + row_height + GAP, 0.0);
        }
        body.push_str(&format!("<g transform=\"translate({left:.0} {top:.0})\">\n{}</g>\n", tile.body));
        left += tile.width.ceil() + GAP;
        row_height = row_height.max(tile.height);
    }
    Block { height: top + row_height, body }
}

struct Tile {
    width: f64,
    height: f64,
    body: String,
}

/// One picture under its caption; `None` if its values are not those of its shape.
fn tile(title: &str, [height, width, channels]: [usize; 3], values: &[f32]) -> Option<Tile> {
    let expected = height.checked_mul(width)?.checked_mul(channels)?;
    if !matches!(channels, 1 | 3) || expected == 0 || values.len() != expected {
        return None;
    }
    let step = height.max(width).div_ceil(MOST);
    let (rows, columns) = (height.div_ceil(step), width.div_ceil(step));
    let scale = (SIDE / rows.max(columns)).max(1);
    let caption = if step > 1 { format!("{title} (1 of {step} rows and columns)") } else { title.to_owned() };
    let at = |row: usize, column: usize| {
        let start = (row * step * width + column * step) * channels;
        rgb(&values[start..start + channels])
    };
    let pixels: Vec<Vec<_>> = (0..rows).map(|row| (0..columns).map(|column| at(row, column)).collect()).collect();
    let caption_width = CHARACTER * caption.chars().count() as f64;
    Some(Tile {
        width: caption_width.max((columns * scale) as f64),
        height: LINE + (rows * scale) as f64,
        body: format!(
            "<text y=\"11\" font-size=\"12\">{}</text>\n\
             <g transform=\"translate(0 {LINE}) scale({scale})\" shape-rendering=\"crispEdges\">\n{}</g>\n",
            escaped(&caption),
            paths(&pixels),
        ),
    })
}

/// The colour of one pixel of 1 or 3 channels.
fn rgb(channels: &[f32]) -> [u8; 3] {
    if channels.iter().any(|value| value.is_nan()) {
        return NOT_A_NUMBER;
    }
    let byte = |value: f32| (255.0 * value.clamp(0.0, 1.0)).round() as u8;
    match channels {
        [red, green, blue] => [byte(*red), byte(*green), byte(*blue)],
        brightness => [byte(brightness.first().copied().unwrap_or_default()); 3],
    }
}

/// A ground of the commonest colour, and a path for each other one.
fn paths(pixels: &[Vec<[u8; 3]>]) -> String {
    let mut runs: BTreeMap<[u8; 3], (usize, String)> = BTreeMap::new();
    for (row, colors) in pixels.iter().enumerate() {
        let mut column = 0;
        for run in colors.chunk_by(|a, b| a == b) {
            let (area, path) = runs.entry(run[0]).or_default();
            *area += run.len();
            path.push_str(&format!("M{column} {row}h{0}v1h-{0}z", run.len()));
            column += run.len();
        }
    }
    let ground = runs.iter().max_by_key(|(_, (area, _))| *area).map(|(color, _)| *color).unwrap_or_default();
    let (width, height) = (pixels.first().map_or(0, Vec::len), pixels.len());
    let mut svg = format!("<rect width=\"{width}\" height=\"{height}\" fill=\"{}\"/>\n", hex(ground));
    for (color, (_, path)) in runs.iter().filter(|(color, _)| **color != ground) {
        svg.push_str(&format!("<path fill=\"{}\" d=\"{path}\"/>\n", hex(*color)));
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(title: &str, shape: [usize; 3], values: Vec<f32>) -> Panel {
        let [height, width, channels] = shape;
        Panel::Picture { title: title.into(), height, width, channels, values }
    }

    #[test]
    fn every_pixel_has_its_colour_at_its_place() {
        let block = grid(&[picture("x", [2, 3, 1], vec![0.0, 1.0, 1.0, 0.0, 0.0, 0.0])]);
        assert!(block.body.contains("<rect width=\"3\" height=\"2\" fill=\"#000000\"/>"), "{}", block.body);
        assert!(block.body.contains("<path fill=\"#ffffff\" d=\"M1 0h2v1h-2z\"/>"), "{}", block.body);
        assert_eq!(block.body.matches("<path").count(), 1);
        let block = grid(&[picture("x", [1, 2, 3], vec![1.0, 0.0, 0.0, 0.0, 0.5, 2.0])]);
        assert!(block.body.contains("#ff0000") && block.body.contains("#0080ff"), "{}", block.body);
    }

    #[test]
    fn what_is_no_number_is_seen() {
        let block = grid(&[picture("x", [1, 2, 1], vec![f32::NAN, 0.0])]);
        assert!(block.body.contains("#ff00ff"), "{}", block.body);
    }

    #[test]
    fn pictures_fill_rows_and_captions_stay_apart() {
        let tiles: Vec<_> = (0..12).map(|i| picture(&format!("class {i}"), [8, 8, 1], vec![0.0; 64])).collect();
        let block = grid(&tiles);
        let (across, down) = (124.0, LINE + 112.0 + GAP);
        for nth in 0..12 {
            let (row, column) = (nth / 6, nth % 6);
            let place = format!("translate({:.0} {:.0})", across * f64::from(column), down * f64::from(row));
            assert!(block.body.contains(&place), "{nth}: {place}");
        }
        assert!(block.height <= 2.0 * down);
        let long = grid(&[picture(&"a".repeat(40), [1, 1, 1], vec![0.0]), picture("b", [1, 1, 1], vec![0.0])]);
        assert!(long.body.contains("translate(276 0)"), "{}", long.body);
    }

    #[test]
    fn large_pictures_are_thinned_and_wrong_ones_told() {
        let block = grid(&[picture("big", [3, 1000, 1], vec![0.5; 3000])]);
        assert!(block.body.contains("big (1 of 4 rows and columns)"), "{}", block.body);
        assert!(block.body.contains("<rect width=\"250\" height=\"1\""), "{}", block.body);
        for (shape, values) in [([2, 2, 1], 3), ([1, 1, 2], 2), ([0, 3, 1], 0), ([usize::MAX, 2, 1], 2)] {
            let block = grid(&[picture("wrong", shape, vec![0.0; values])]);
            assert!(block.body.contains("is not") && block.height > 0.0, "{}", block.body);
        }
    }
}
