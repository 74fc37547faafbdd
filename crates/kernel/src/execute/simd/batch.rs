//! Lists that carry amount draws from the iterations that need them to the tables, and amounts back.

use forge_contract::program::MAX_COMPONENTS;

use super::chacha::DRAWS;

/// Vectors of iterations in a batch.
pub(super) const VECTORS: usize = 32;
/// Draws of a block of a batch, with room for a whole vector behind the last.
const CAPACITY: usize = VECTORS * DRAWS * 8 + 8;

/// The lists of one batch.
pub(super) struct Batch {
    /// One list for each component.
    pub(super) lists: Vec<List>,
    /// Whose draws were added to the lists, in order.
    pub(super) parcels: Vec<Parcel>,
}

/// The draws of one vector of iterations for one component.
pub(super) struct Parcel {
    pub(super) vector: usize,
    pub(super) component: usize,
    /// Where in the component's list they start.
    pub(super) from: usize,
    /// For each draw of the block, the lanes that use it.
    pub(super) lanes: [u8; DRAWS],
}

/// A list of u64.
pub(super) struct List {
    values: Box<[u64; CAPACITY]>,
    /// Number of values, and where the next one goes.
    pub(super) next: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let list = || List { values: vec![0; CAPACITY].try_into().expect("the capacity"), next: 0 };
        Self {
            lists: (0..MAX_COMPONENTS).map(|_| list()).collect(),
            parcels: Vec::with_capacity(VECTORS * MAX_COMPONENTS),
        }
    }

    pub(super) fn clear(&mut self) {
        self.parcels.clear();
        self.lists.iter_mut().for_each(|list| list.next = 0);
    }
}

impl List {
    /// Eight values from a place on.
    #[inline(always)]
    pub(super) fn room(&mut self, from: usize) -> &mut [u64; 8] {
        self.values[from.min(CAPACITY - 8)..].first_chunk_mut().expect("a list ends with room for a vector")
    }

    /// All values, and how many of them are in use.
    pub(super) fn filled(&mut self) -> (&mut [u64], usize) {
        (&mut self.values[..], self.next)
    }
}
