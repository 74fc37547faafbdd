//! The shaders' source: what is common, then the entry point, for a number of components.

const WIDE: &str = include_str!("shader/wide.wgsl");
const KEYSTREAM: &str = include_str!("shader/keystream.wgsl");
const RECORD: &str = include_str!("shader/record.wgsl");
const EXECUTE: &str = include_str!("shader/execute.wgsl");
const COLLECT: &str = include_str!("shader/collect.wgsl");

/// How a product of 64 bits is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// From four of 32 bits: on every adapter.
    Pairs,
    /// By 64-bit integers, where the adapter has them.
    Native,
}

/// The entry point that executes slices, for programs of so many components.
pub(crate) fn execute(components: usize, product: Product) -> String {
    let product = match product {
        Product::Pairs => include_str!("shader/product_pairs.wgsl"),
        Product::Native => include_str!("shader/product_native.wgsl"),
    };
    [&constants(components), WIDE, product, KEYSTREAM, RECORD, EXECUTE].concat()
}

/// The entry point that adds up the slices of each shard.
pub(crate) fn collect(components: usize) -> String {
    [&constants(components), WIDE, include_str!("shader/product_pairs.wgsl"), RECORD, COLLECT].concat()
}

fn constants(components: usize) -> String {
    format!("const COMPONENTS = {components}u;\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of WGSL that make or take floats, or leave something to the implementation.
    const FLOATS: [&str; 12] = [
        "f16", "f32", "float", "vec2f", "vec3f", "vec4f", "vec2h", "vec3h", "vec4h", "mat", "unpack", "pack",
    ];

    #[test]
    fn no_float_appears() {
        for source in [execute(16, Product::Pairs), execute(16, Product::Native), collect(16)] {
            let code: Vec<_> = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
            let code = code.join("\n");
            let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
            for word in words.filter(|word| !word.is_empty()) {
                assert!(!FLOATS.iter().any(|float| word.starts_with(float)), "{word}");
                // A number has no point, no exponent and no suffix but u; hexadecimal ones may hold the letters.
                if word.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit()) {
                    let digits = word.trim_start_matches("0x").trim_end_matches('u');
                    let radix = if word.starts_with("0x") { 16 } else { 10 };
                    assert!(u32::from_str_radix(digits, radix).is_ok(), "{word} is not an integer");
                }
            }
        }
    }
}
