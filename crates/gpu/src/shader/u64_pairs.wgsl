// 64-bit integers as pairs of 32-bit integers, low word first, which every adapter supports.
// `product` is in a file of its own, because an adapter with 64-bit integers can use a single
// instruction.

alias U64 = vec2<u32>;

fn is_less(a: U64, b: U64) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn is_equal(a: U64, b: U64) -> bool {
    return a.x == b.x && a.y == b.y;
}

fn min_u64(a: U64, b: U64) -> U64 {
    return select(a, b, is_less(b, a));
}

fn max_u64(a: U64, b: U64) -> U64 {
    return select(a, b, is_less(a, b));
}

// a + b modulo 2^64.
fn add(a: U64, b: U64) -> U64 {
    let low = a.x + b.x;
    return U64(low, a.y + b.y + u32(low < a.x));
}

// The product of a, which must be below 2^31, and the signed b, in two's complement.
fn product_signed(a: u32, b: i32) -> U64 {
    let p = product(a, u32(b));
    return U64(p.x, p.y - select(0u, a, b < 0));
}

// a >> n for n below 64. Some shifts are split in two, because a shift by 32 is not defined.
fn shift_right(a: U64, n: u32) -> U64 {
    let m = n & 31u;
    let below_32 = U64((a.x >> m) | ((a.y << 1u) << (31u - m)), a.y >> m);
    return select(below_32, U64(a.y >> m, 0u), n >= 32u);
}
