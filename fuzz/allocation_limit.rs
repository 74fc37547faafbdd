//! An allocator that aborts the process on a huge allocation, since no input may cause one.

use std::alloc::{GlobalAlloc, Layout, System};

/// Largest permitted allocation, in bytes. An input of a few kilobytes yields tables of half a
/// megabyte.
const MAX_ALLOCATION_BYTES: usize = 32 << 20;

struct LimitedAllocator;

#[global_allocator]
static ALLOCATOR: LimitedAllocator = LimitedAllocator;

// SAFETY: every call is forwarded to the system allocator.
unsafe impl GlobalAlloc for LimitedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        abort_if_huge(layout.size());
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        abort_if_huge(size);
        // SAFETY: the caller upholds the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn abort_if_huge(size: usize) {
    if size > MAX_ALLOCATION_BYTES {
        eprintln!("refused to allocate {size} bytes");
        std::process::abort();
    }
}
