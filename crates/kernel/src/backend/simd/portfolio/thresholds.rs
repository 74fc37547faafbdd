//! Counts the thresholds that a draw reaches, with a guide to the few that are near it.

/// Cells of the guide: one for each value of a draw's first byte.
const CELLS: u64 = 256;
const CELL_BITS: u32 = 56;

/// Ascending thresholds.
pub(super) struct GuidedThresholds<'a> {
    thresholds: &'a [u64],
    /// For each cell, and for the end, the number of thresholds below the cell.
    starts: Vec<u32>,
}

impl<'a> GuidedThresholds<'a> {
    pub(super) fn new(thresholds: &'a [u64]) -> Self {
        let below = |cell: u64| thresholds.partition_point(|&threshold| threshold < cell << CELL_BITS);
        let starts = (0..CELLS).map(below).chain([thresholds.len()]);
        Self { thresholds, starts: starts.map(|start| start as u32).collect() }
    }

    pub(super) fn thresholds(&self) -> &'a [u64] {
        self.thresholds
    }

    /// The number of thresholds that are at most `draw`.
    #[inline]
    pub(super) fn reached(&self, draw: u64) -> usize {
        let cell = (draw >> CELL_BITS) as usize;
        let (start, end) = (self.starts[cell] as usize, self.starts[cell + 1] as usize);
        if start == end {
            return start;
        }
        start + self.thresholds[start..end].partition_point(|&threshold| threshold <= draw)
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
