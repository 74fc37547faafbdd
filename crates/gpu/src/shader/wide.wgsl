// 64-bit integers as pairs of 32-bit ones, low word first, so that every adapter can execute them. `product` is in a file of
// its own: where the adapter has 64-bit integers, one instruction may do it.

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
