//! What a family's data look like, as plain values for whoever draws them.

/// One picture of a sample.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Panel {
    /// A grid of values, `height × width × channels` row by row; 1 channel is brightness, 3 are red, green, blue. Values
    /// are in `[0, 1]`.
    Picture {
        /// What it shows.
        title: String,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// 1 or 3.
        channels: usize,
        /// The values.
        values: Vec<f32>,
    },
    /// Values along an axis, one line each.
    Curves {
        /// What it shows.
        title: String,
        /// What the horizontal axis counts.
        axis: String,
        /// Name and values of each line.
        lines: Vec<(String, Vec<f32>)>,
    },
    /// Nodes of some classes and the edges between them.
    Graph {
        /// What it shows.
        title: String,
        /// The class of each node.
        nodes: Vec<u32>,
        /// Pairs of nodes.
        edges: Vec<(u32, u32)>,
    },
    /// Words.
    Text {
        /// What it shows.
        title: String,
        /// The words.
        text: String,
    },
}

impl Panel {
    /// A picture of values on any scale: the smallest becomes 0, the largest 1.
    pub fn scaled(title: impl Into<String>, height: usize, width: usize, values: &[f32]) -> Self {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (low, high) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
        let span = if high > low { high - low } else { 1.0 };
        let values = values.iter().map(|value| ((value - low) / span).clamp(0.0, 1.0)).collect();
        Self::Picture { title: title.into(), height, width, channels: 1, values }
    }
}
