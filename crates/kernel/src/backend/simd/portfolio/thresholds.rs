//! Counts the thresholds that a draw reaches, with a guide to the few that are near it.

/// Cells of the guide: one for each value of a draw's first byte.
const CELLS: u64 = 256;
const CELL_BITS: u32 = 56;

/// Thresholds that are compared with every draw, without a branch. Most cells have no more.
const COMPARED: usize = 4;

/// Ascending thresholds.
pub(super) struct GuidedThresholds {
    /// The thresholds, and [`COMPARED`] more.
    thresholds: Vec<u64>,
    length: usize,
    /// For each cell, and for the end, the number of thresholds below the cell.
    starts: Vec<u32>,
}

impl GuidedThresholds {
    pub(super) fn new(thresholds: &[u64]) -> Self {
        let below = |cell: u64| thresholds.partition_point(|&threshold| threshold < cell << CELL_BITS);
        let starts = (0..CELLS).map(below).chain([thresholds.len()]);
        let padding = [u64::MAX; COMPARED];
        Self {
            thresholds: thresholds.iter().copied().chain(padding).collect(),
            length: thresholds.len(),
            starts: starts.map(|start| start as u32).collect(),
        }
    }

    /// The number of thresholds that are at most `draw`.
    #[inline]
    pub(super) fn reached(&self, draw: u64) -> usize {
        let cell = (draw >> CELL_BITS) as usize;
        let (start, end) = (self.starts[cell] as usize, self.starts[cell + 1] as usize);
        if end - start > COMPARED {
            return start + self.thresholds[start..end].partition_point(|&threshold| threshold <= draw);
        }
        // Those of later cells are above the draw; only the padding may be equal to it.
        let near = &self.thresholds[start..start + COMPARED];
        let mut reached = start;
        for &threshold in near {
            reached += usize::from(threshold <= draw);
        }
        reached.min(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guide_changes_no_count() {
        let cell = 1 << CELL_BITS;
        let thresholds = [0, 0, 1, cell - 1, cell, cell, cell + 1, 7 * cell, u64::MAX - 1, u64::MAX];
        let guided = GuidedThresholds::new(&thresholds);
        let around = |t: u64| [t.saturating_sub(1), t, t.saturating_add(1)];
        for draw in thresholds.into_iter().flat_map(around).chain([3 * cell, 200 * cell]) {
            let expected = thresholds.iter().filter(|&&threshold| threshold <= draw).count();
            assert_eq!(guided.reached(draw), expected, "{draw}");
        }
        assert_eq!(GuidedThresholds::new(&[]).reached(u64::MAX), 0);
    }
}
