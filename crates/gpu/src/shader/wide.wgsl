// 64-bit integers as pairs of 32-bit ones, low word first, so that every adapter can execute them.

alias U64 = vec2<u32>;

fn is_less(a: U64, b: U64) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn is_equal(a: U64, b: U64) -> bool {
    return a.x == b.x && a.y == b.y;
}

fn smaller(a: U64, b: U64) -> U64 {
    return select(a, b, is_less(b, a));
}

fn larger(a: U64, b: U64) -> U64 {
    return select(a, b, is_less(a, b));
}

// a + b modulo 2^64.
fn add(a: U64, b: U64) -> U64 {
    let low = a.x + b.x;
    return U64(low, a.y + b.y + u32(low < a.x));
}

// All 64 bits of a product.
fn product(a: u32, b: u32) -> U64 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let p00 = a0 * b0;
    let p01 = a0 * b1;
    let p10 = a1 * b0;
    // Below 3 * 2^16, so nothing is lost.
    let middle = (p00 >> 16u) + (p01 & 0xffffu) + (p10 & 0xffffu);
    return U64(a * b, a1 * b1 + (p01 >> 16u) + (p10 >> 16u) + (middle >> 16u));
}

// The product of a below 2^31 and a signed b, in two's complement.
fn product_signed(a: u32, b: i32) -> U64 {
    let p = product(a, u32(b));
    return U64(p.x, p.y - select(0u, a, b < 0));
}

// a >> n for n below 64. Two shifts where one by 32 would not be defined.
fn shift_right(a: U64, n: u32) -> U64 {
    let m = n & 31u;
    let within = U64((a.x >> m) | ((a.y << 1u) << (31u - m)), a.y >> m);
    return select(within, U64(a.y >> m, 0u), n >= 32u);
}
