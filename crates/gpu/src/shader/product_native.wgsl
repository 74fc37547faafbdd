// All 64 bits of a product, on adapters that support 64-bit integers.
fn product(a: u32, b: u32) -> U64 {
    let p = u64(a) * u64(b);
    return U64(u32(p), u32(p >> 32u));
}
