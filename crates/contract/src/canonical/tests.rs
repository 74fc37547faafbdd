//! RFC 8785's own test vectors, and the values that have no canonical JSON.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn canonical(value: &impl Serialize) -> String {
    String::from_utf8(to_canonical_json(value).unwrap()).unwrap()
}

fn from_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Sections 3.2.2 (input) and 3.2.4 (bytes).
#[test]
fn rfc_sample_has_the_published_bytes() {
    let input = from_text(
        r#"{
          "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }"#,
    );
    let bytes = "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b333333333333333333\
                 2e333333333333332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac245c7530303066\
                 5c6e4127425c225c5c5c5c5c222f227d";
    assert_eq!(hex::encode(to_canonical_json(&input).unwrap()), bytes);
}

/// Section 3.2.3: keys are sorted by their UTF-16 code units.
#[test]
fn rfc_keys_are_sorted_by_utf_16() {
    let input = from_text(
        r#"{
          "\u20ac": "Euro Sign",
          "\r": "Carriage Return",
          "\ufb33": "Hebrew Letter Dalet With Dagesh",
          "1": "One",
          "\ud83d\ude00": "Emoji: Grinning Face",
          "\u0080": "Control",
          "\u00f6": "Latin Small Letter O With Diaeresis"
        }"#,
    );
    let names = ["Carriage Return", "One", "Control", "Latin Small Letter O With Diaeresis", "Euro Sign"];
    let names = [&names[..], &["Emoji: Grinning Face", "Hebrew Letter Dalet With Dagesh"]].concat();
    let keys = ["\\r", "1", "\u{80}", "\u{f6}", "\u{20ac}", "\u{1f600}", "\u{fb33}"];
    let members: Vec<_> = keys.iter().zip(names).map(|(key, name)| format!("\"{key}\":\"{name}\"")).collect();
    assert_eq!(canonical(&input), format!("{{{}}}", members.join(",")));
}

/// Appendix B: bits of a double and its text.
#[test]
fn rfc_numbers_have_the_published_text() {
    let samples = [
        (0x0000000000000000, "0"),
        (0x8000000000000000, "0"),
        (0x0000000000000001, "5e-324"),
        (0x8000000000000001, "-5e-324"),
        (0x7fefffffffffffff, "1.7976931348623157e+308"),
        (0xffefffffffffffff, "-1.7976931348623157e+308"),
        (0x4340000000000000, "9007199254740992"),
        (0xc340000000000000, "-9007199254740992"),
        (0x4430000000000000, "295147905179352830000"),
        (0x44b52d02c7e14af5, "9.999999999999997e+22"),
        (0x44b52d02c7e14af6, "1e+23"),
        (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
        (0x444b1ae4d6e2ef4e, "999999999999999700000"),
        (0x444b1ae4d6e2ef4f, "999999999999999900000"),
        (0x444b1ae4d6e2ef50, "1e+21"),
        (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
        (0x3eb0c6f7a0b5ed8d, "0.000001"),
        (0x41b3de4355555553, "333333333.3333332"),
        (0x41b3de4355555554, "333333333.33333325"),
        (0x41b3de4355555555, "333333333.3333333"),
        (0x41b3de4355555556, "333333333.3333334"),
        (0x41b3de4355555557, "333333333.33333343"),
        (0xbecbf647612f3696, "-0.0000033333333333333333"),
        (0x43143ff3c1cb0959, "1424953923781206.2"),
    ];
    for (bits, text) in samples {
        let number = f64::from_bits(bits);
        assert_eq!(canonical(&number), text, "{bits:016x}");
        assert_eq!(canonical(&[Some(number)]), format!("[{text}]"), "{bits:016x}");
        // The text reads back as the same double.
        let value = if number == 0.0 { 0.0 } else { number };
        assert_eq!(serde_json::from_str::<f64>(text).unwrap().to_bits(), f64::to_bits(value), "{text}");
    }
}

/// Appendix B: NaN and infinity are errors, at any depth and for any type. (A plain serializer
/// writes `null`.)
#[test]
fn numbers_that_are_not_finite_are_rejected() {
    for number in [f64::from_bits(0x7fffffffffffffff), f64::from_bits(0x7ff0000000000000), f64::NEG_INFINITY]
    {
        assert_eq!(to_canonical_json(&number), Err(CanonicalJsonError::NotFinite));
        assert_eq!(to_canonical_json(&vec![Some((1, number))]), Err(CanonicalJsonError::NotFinite));
        assert_eq!(
            to_canonical_json(&BTreeMap::from([("a", number as f32)])),
            Err(CanonicalJsonError::NotFinite)
        );
    }
}

#[derive(Serialize)]
enum Shape {
    Newtype(u64),
    Tuple(u64, u64),
    Struct { field: u64 },
}

#[derive(Serialize)]
struct Wrapper<T>(T);

#[derive(Serialize)]
struct Pair<T>(T, T);

#[derive(Serialize)]
struct Flat {
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[test]
fn integers_beyond_2_53_are_rejected_anywhere() {
    let limit = MAX_INTEGER;
    let beyond = limit + 1;
    let refusal = Err(CanonicalJsonError::IntegerTooLarge(beyond.to_string()));
    assert_eq!(canonical(&[limit]), "[9007199254740992]");
    assert_eq!(canonical(&-(limit as i64)), "-9007199254740992");

    assert_eq!(to_canonical_json(&beyond), refusal);
    assert_eq!(to_canonical_json(&(beyond as i64)), refusal);
    assert_eq!(to_canonical_json(&u128::from(beyond)), refusal);
    assert_eq!(to_canonical_json(&i128::from(beyond)), refusal);
    assert_eq!(to_canonical_json(&json!({"a": [{"b": beyond}]})), refusal);
    assert_eq!(to_canonical_json(&BTreeMap::from([(beyond, ())])), refusal);
    assert_eq!(to_canonical_json(&Wrapper(Some(Pair(1, beyond)))), refusal);
    assert_eq!(to_canonical_json(&Shape::Newtype(beyond)), refusal);
    assert_eq!(to_canonical_json(&Shape::Tuple(1, beyond)), refusal);
    assert_eq!(to_canonical_json(&Shape::Struct { field: beyond }), refusal);
    assert_eq!(to_canonical_json(&Flat { rest: BTreeMap::from([("x".into(), beyond.into())]) }), refusal);
    let negative = i128::MIN;
    assert_eq!(to_canonical_json(&negative), Err(CanonicalJsonError::IntegerTooLarge(negative.to_string())));
    let large = i64::MIN;
    assert_eq!(to_canonical_json(&[large]), Err(CanonicalJsonError::IntegerTooLarge(large.to_string())));
}

#[test]
fn values_that_are_not_json_are_rejected() {
    let key = BTreeMap::from([(vec![1], 1)]);
    assert!(matches!(to_canonical_json(&key), Err(CanonicalJsonError::NotJson(_))));
}

#[test]
fn the_digest_is_of_the_canonical_text() {
    let digest = canonical_digest(&json!({"b": 1.0, "a": "x"})).unwrap();
    assert_eq!(digest, Digest::hash_parts(&[br#"{"a":"x","b":1}"#]));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53)..=1 << 53).prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Reading canonical text and writing it again gives the same text, unless a float exceeds
    /// 2^53: without an exponent, its text is read as an integer.
    #[test]
    fn canonical_text_is_idempotent(value in any_json()) {
        let once = to_canonical_json(&value).unwrap();
        let read: Value = serde_json::from_slice(&once).unwrap();
        match to_canonical_json(&read) {
            Ok(twice) => prop_assert_eq!(once, twice),
            Err(error) => prop_assert!(matches!(error, CanonicalJsonError::IntegerTooLarge(_)), "{}", error),
        }
    }

    /// Every value that the strict parser accepts has a canonical text, which the strict parser
    /// reads as the same value.
    #[test]
    fn strictly_parsed_values_have_canonical_json(value in any_json()) {
        let written = serde_json::to_vec(&value).unwrap();
        if let Ok(node) = crate::strict::parse(&written) {
            let once = to_canonical_json(&node.to_value()).unwrap();
            let reparsed = crate::strict::parse(&once).unwrap();
            prop_assert_eq!(&once, &to_canonical_json(&reparsed.to_value()).unwrap());
        }
    }
}
