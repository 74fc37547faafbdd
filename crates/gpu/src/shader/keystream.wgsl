// ChaCha with 8 rounds (docs/determinism.md, section 4). The four rows of the state are vectors, so
// that one vector operation computes the four quarter rounds of a column or diagonal round.

struct Rows {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

// "expand 32-byte k".
const CONSTANTS = vec4<u32>(0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u);

fn rotate_left(v: vec4<u32>, bits: u32) -> vec4<u32> {
    return (v << vec4<u32>(bits)) | (v >> vec4<u32>(32u - bits));
}

fn quarter_rounds(rows: Rows) -> Rows {
    var r = rows;
    r.a = r.a + r.b;
    r.d = rotate_left(r.d ^ r.a, 16u);
    r.c = r.c + r.d;
    r.b = rotate_left(r.b ^ r.c, 12u);
    r.a = r.a + r.b;
    r.d = rotate_left(r.d ^ r.a, 8u);
    r.c = r.c + r.d;
    r.b = rotate_left(r.b ^ r.c, 7u);
    return r;
}

fn double_round(rows: Rows) -> Rows {
    let r = quarter_rounds(rows);
    let s = quarter_rounds(Rows(r.a, r.b.yzwx, r.c.zwxy, r.d.wxyz));
    return Rows(s.a, s.b.wxyz, s.c.zwxy, s.d.yzwx);
}

// One block of the keystream: 16 words, which are 8 draws.
fn keystream_block(key_low: vec4<u32>, key_high: vec4<u32>, counter: u32, nonce: u32) -> Rows {
    let start = Rows(CONSTANTS, key_low, key_high, vec4<u32>(counter, 0u, nonce, 0u));
    let end = double_round(double_round(double_round(double_round(start))));
    return Rows(end.a + start.a, end.b + start.b, end.c + start.c, end.d + start.d);
}
