//! Assembles the source of the two shaders: shared functions first, then the entry point. The
//! number of components is a constant of the source.

const U64_PAIRS: &str = include_str!("shader/u64_pairs.wgsl");
const PRODUCT_PAIRS: &str = include_str!("shader/product_pairs.wgsl");
const PRODUCT_NATIVE: &str = include_str!("shader/product_native.wgsl");
const KEYSTREAM: &str = include_str!("shader/keystream.wgsl");
const ACCUMULATOR: &str = include_str!("shader/accumulator.wgsl");
const EXECUTE: &str = include_str!("shader/execute.wgsl");
const MERGE: &str = include_str!("shader/merge.wgsl");

/// How the shader multiplies two 32-bit integers to 64 bits. Both methods give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProductMethod {
    /// From four 32-bit products; every adapter supports it.
    Pairs,
    /// With 64-bit integers; requires an adapter that supports them.
    Native,
}

/// Source of the shader that executes slices, for programs with `components` components.
pub(crate) fn execute_source(components: usize, product_method: ProductMethod) -> String {
    let product = match product_method {
        ProductMethod::Pairs => PRODUCT_PAIRS,
        ProductMethod::Native => PRODUCT_NATIVE,
    };
    [&constants(components), U64_PAIRS, product, KEYSTREAM, ACCUMULATOR, EXECUTE].concat()
}

/// Source of the shader that merges the slices of each shard.
pub(crate) fn merge_source(components: usize) -> String {
    [&constants(components), U64_PAIRS, PRODUCT_PAIRS, ACCUMULATOR, MERGE].concat()
}

fn constants(components: usize) -> String {
    format!("const COMPONENTS = {components}u;\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prefixes of WGSL words that produce or take floats.
    const FLOAT_PREFIXES: [&str; 12] = [
        "f16", "f32", "float", "vec2f", "vec3f", "vec4f", "vec2h", "vec3h", "vec4h", "mat", "unpack", "pack",
    ];

    #[test]
    fn shaders_use_no_floats() {
        for source in [
            execute_source(16, ProductMethod::Pairs),
            execute_source(16, ProductMethod::Native),
            merge_source(16),
        ] {
            let code: Vec<_> = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
            let code = code.join("\n");
            let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
            for word in words.filter(|word| !word.is_empty()) {
                assert!(!FLOAT_PREFIXES.iter().any(|prefix| word.starts_with(prefix)), "{word}");
                // An integer literal has no point, no exponent, and no suffix other than u.
                if word.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit()) {
                    let digits = word.trim_start_matches("0x").trim_end_matches('u');
                    let radix = if word.starts_with("0x") { 16 } else { 10 };
                    assert!(u32::from_str_radix(digits, radix).is_ok(), "{word} is not an integer");
                }
            }
        }
    }
}
