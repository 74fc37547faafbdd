//! Every kind of error in a document, with its exact message.

use std::ops::Bound;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::error::{FieldError, InvalidDocument};

/// The errors as pairs of pointer and message.
fn errors_of<T: std::fmt::Debug>(result: Result<T, InvalidDocument>) -> Vec<(String, String)> {
    let errors = result.unwrap_err().into_errors();
    errors.into_iter().map(|error| (error.pointer, error.message)).collect()
}

/// The single error of a document.
fn error_of(text: &str) -> (String, String) {
    let errors = errors_of(parse(text.as_bytes()));
    assert_eq!(errors.len(), 1, "{text}: {errors:?}");
    errors[0].clone()
}

#[track_caller]
fn assert_error(text: &str, pointer: &str, message: &str) {
    let error = error_of(text);
    assert_eq!((error.0.as_str(), error.1.as_str()), (pointer, message), "{text}");
}

const RANGE: &str =
    "a number must be from -9007199254740992 to 9007199254740992 (2^53), where integers are exact";

#[test]
fn checked_documents_are_those_that_parse() {
    for text in
        [r#"{"a": [1, {"b": 2}]}"#, r#"{"a": 9007199254740993}"#, r#"{"a": 1, "a": 2}"#, "[1e999]", "{"]
    {
        let (checked, parsed) = (check_document(text.as_bytes(), 100), parse(text.as_bytes()).map(drop));
        assert_eq!(checked, parsed, "{text}");
    }
    let nested = "[".repeat(1000);
    assert_eq!(check_document(nested.as_bytes(), 1000), parse(nested.as_bytes()).map(drop));
    assert_eq!(errors_of(check_document(b"[1, 2]", 5))[0].1, "is too large: 6 bytes, and at most 5 are read");
}

#[test]
fn figures_of_results_exceed_the_range_in_their_canonical_form() {
    for figure in ["30448153223683936", "-1152921504606847000", "1e+22", "1.7976931348623157e+308", "2"] {
        let document = format!("{{\"figure\":{figure}}}");
        let value = parse_result(document.as_bytes(), 100).unwrap().to_value();
        assert_eq!(crate::canonical::to_canonical_json(&value).unwrap(), document.as_bytes());
    }
    // 2^53 + 1 and 2^60, which f64 reads as other integers than integers do.
    for integer in ["9007199254740993", "-9007199254740993", "1152921504606846976"] {
        let errors = errors_of(parse_result(integer.as_bytes(), 100));
        assert_eq!(errors, [(String::new(), format!("is {integer}: {RANGE}"))]);
    }
    assert!(parse_result(b"{\"a\": 1, \"a\": 1}", 100).is_err());
    assert_eq!(errors_of(parse_result(b"[1, 2]", 5))[0].1, "is too large: 6 bytes, and at most 5 are read");
}

#[test]
fn reads_every_kind_of_value() {
    let node = parse(br#" {"a": [null, true, -1.5e1, "\u00e9\n"], "b": {}} "#).unwrap();
    let items = vec![Node::Null, Node::Bool(true), Node::Number(-15.0), Node::String("é\n".into())];
    assert_eq!(
        node,
        Node::Object(vec![("a".into(), Node::Array(items)), ("b".into(), Node::Object(Vec::new()))])
    );
    assert_eq!(node.to_value(), serde_json::json!({"a": [null, true, -15, "é\n"], "b": {}}));
}

#[test]
fn numbers_are_compared_by_value() {
    for (text, value) in [
        ("1", 1.0),
        ("1e6", 1e6),
        ("0.1", 0.1),
        ("9007199254740992", MAX_NUMBER),
        ("-9007199254740992", -MAX_NUMBER),
        ("5e-324", 5e-324),
        ("1e-400", 0.0),
        ("2.2250738585072011e-308", 2.225_073_858_507_201e-308),
    ] {
        assert_eq!(parse(text.as_bytes()), Ok(Node::Number(value)), "{text}");
    }
    for text in ["-0", "-0.0", "-1e-400"] {
        let Ok(Node::Number(zero)) = parse(text.as_bytes()) else { panic!("{text}") };
        assert!(zero == 0.0 && zero.is_sign_positive(), "{text}");
    }
    assert_eq!(number_to_value(0.5), serde_json::json!(0.5));
    assert_eq!(number_to_value(-3.0), serde_json::json!(-3));
    assert_eq!(number_to_value(f64::NAN), Value::Null);
}

#[test]
fn syntax_errors_report_line_and_column() {
    assert_error("{\n  \"op\": }", "", "is not valid JSON: expected value at line 2 column 9");
    assert_error("{\"a\": 1", "", "is not valid JSON: EOF while parsing an object at line 1 column 7");
    assert_error("[1,]", "", "is not valid JSON: trailing comma at line 1 column 4");
    assert_error("{} {}", "", "is not valid JSON: trailing characters at line 1 column 4");
    assert_error("[01]", "", "is not valid JSON: invalid number at line 1 column 3");
    assert_error(" \n", "", "is empty: a JSON object is required");
}

#[test]
fn columns_count_characters() {
    assert_error("{\"é\": }", "", "is not valid JSON: expected value at line 1 column 7");
    assert_error(
        "{\n\"日本\": 1e999}",
        "/日本",
        &format!("is too large for a finite number, at line 2 column 11: {RANGE}"),
    );
}

#[test]
fn errors_have_codes_and_hints() {
    let read = |text: &str| {
        let read_all = |node: Node| {
            let mut errors = Errors::new();
            let mut object = ObjectReader::open(&node, "", &mut errors).unwrap();
            object.required_integer("count", 1..=9);
            if object.node("pair").is_none() {
                object.error("pair", "is missing: give both");
            }
            object.finish();
            errors.into_result(())
        };
        let errors = parse(text.as_bytes()).and_then(read_all).unwrap_err().into_errors().into_iter();
        let parts = |error: FieldError| (error.pointer, error.code.as_str(), error.hint.unwrap_or_default());
        errors.map(parts).collect::<Vec<_>>()
    };
    let error = |pointer: &str, code, hint: &str| (pointer.to_owned(), code, hint.to_owned());
    let integer = "a whole number from 1 to 9 is required";
    assert_eq!(
        read(r#"{"cuont": 1}"#),
        [
            error("/count", "missing", integer),
            error("/pair", "missing", ""),
            error("/cuont", "unknown_key", "did you mean `count`?")
        ]
    );
    assert_eq!(read(r#"{"count": 0, "pair": 1}"#), [error("/count", "invalid_value", "")]);
    assert_eq!(read(r#"{"a": 1, "a": 2}"#), [error("/a", "duplicate_key", "keep one of them")]);
    assert_eq!(read("{'a': 1}"), [error("", "syntax", "strings are in double quotes")]);
    assert_eq!(read(""), [error("", "syntax", "")]);
}

#[test]
fn syntax_errors_say_what_is_probably_meant() {
    let numbers = ": JSON has neither NaN nor Infinity: give a number, or leave the key out";
    let formats = ": a document starts with `{`; convert YAML, TOML and other formats to JSON first";
    for (text, hint) in [
        ("{\"a\": NaN}", numbers),
        ("{\"a\": nan}", numbers),
        ("{\"a\":\n [1, -Infinity]}", numbers),
        ("{\"a\": None}", ": write null, or leave the key out"),
        ("{\"a\": True}", ": write true or false"),
        ("{\"a\": NULL}", ": write true, false and null in lower case"),
        ("{\"a\": tru}", "at line 1 column 10"),
        ("{\"a\": 1 true}", "at line 1 column 9"),
        ("{\"a\": \"C:\\data\"}", "at line 1 column 11"),
        ("{\"a\": \"two\nlines\"}", "at line 2 column 0"),
        ("{\"a\": \"without end}", "at line 1 column 19"),
        ("{'a': 1}", ": strings are in double quotes"),
        ("{a: 1}", ": keys and strings are in double quotes"),
        ("{\"a\": 1 // one\n}", ": JSON has no comments"),
        ("{\n# one\n}", ": JSON has no comments"),
        ("op:\n  name: mc", formats),
        ("[op\nname = 1", ": keys and strings are in double quotes"),
        ("01", formats),
    ] {
        let (pointer, message) = error_of(text);
        assert!(pointer.is_empty() && message.starts_with("is not valid JSON: "), "{text}: {message}");
        assert!(message.ends_with(hint), "{text}: {message}");
    }
    let utf_16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with_mark = [&[0xff, 0xfe], utf_16.as_slice()].concat();
    for bytes in [utf_16, with_mark, b"\0{\0}".to_vec()] {
        let message = "is UTF-16 or UTF-32: save it as UTF-8 without a byte order mark".to_owned();
        assert_eq!(errors_of(parse(&bytes)), [(String::new(), message)], "{bytes:?}");
    }
}

#[test]
fn text_must_be_utf_8_without_lone_surrogates() {
    assert_eq!(
        errors_of(parse(b"{\"a\": \"\xff\"}")),
        [(String::new(), "is not UTF-8: byte 0xff at offset 7".to_owned())]
    );
    assert_error("\u{feff}{}", "", "starts with a byte order mark: save it as UTF-8 without one");
    let lone = "is not valid JSON: lone leading surrogate in hex escape at line 1 column ";
    for text in
        [r#"["\ud800"]"#, r#"["\ud800x"]"#, r#"["\udc00"]"#, r#"["\ud800\ud800"]"#, r#"{"\udfff": 1}"#]
    {
        let (pointer, message) = error_of(text);
        assert_eq!(pointer, "");
        assert!(
            message.starts_with(lone) || message.contains("unexpected end of hex escape"),
            "{text}: {message}"
        );
    }
}

#[test]
fn every_number_out_of_range_is_reported() {
    let text = r#"{"a": [1, 9007199254740993], "b/c": -9007199254740993, "d": 1e300, "e": 100000000000000000000000}"#;
    assert_eq!(
        errors_of(parse(text.as_bytes())),
        [
            ("/a/1".to_owned(), format!("is 9007199254740993: {RANGE}")),
            ("/b~1c".to_owned(), format!("is -9007199254740993: {RANGE}")),
            ("/d".to_owned(), format!("is 1e300: {RANGE}")),
            ("/e".to_owned(), format!("is 1e23: {RANGE}")),
        ]
    );
    assert_error(
        "{\"a\": [1e400]}",
        "/a/0",
        &format!("is too large for a finite number, at line 1 column 12: {RANGE}"),
    );
    assert_error("-1e999", "", &format!("is too large for a finite number, at line 1 column 6: {RANGE}"));
}

#[test]
fn size_is_checked_before_parsing() {
    let large = vec![b'['; 100_000_000];
    let message = "is too large: 100000000 bytes, and at most 1048576 are read";
    assert_eq!(errors_of(parse(&large)), [(String::new(), message.to_owned())]);
    let mut full = b"[]".to_vec();
    full.resize(MAX_DOCUMENT_BYTES, b' ');
    assert!(parse(&full).is_ok());
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    for depth in [MAX_DEPTH + 1, 10_000] {
        let (pointer, message) = error_of(&nested(depth));
        assert_eq!(pointer, "/0".repeat(MAX_DEPTH));
        assert_eq!(message, "is nested too deeply: at most 64 arrays and objects may be inside one another");
    }
    let (pointer, _) = error_of(&"{\"a\":".repeat(10_000));
    assert_eq!(pointer, "/a".repeat(MAX_DEPTH));
}

#[test]
fn every_duplicate_key_is_reported() {
    let text = r#"{"a": 1, "a": 2, "b": [{"c~": 1, "\u0063~": {}}], "a": 3, "d": 1, "d": 2}"#;
    let message = "is given more than once: keep one of them".to_owned();
    let pointers = ["/a", "/b/0/c~0", "/d"].map(|pointer| (pointer.to_owned(), message.clone()));
    assert_eq!(errors_of(parse(text.as_bytes())), pointers);
}

#[test]
fn errors_before_a_syntax_error_are_kept() {
    let errors = errors_of(parse(br#"{"a": 1, "a": 2, "b": ]"#));
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0].0, "/a");
    assert!(errors[1].1.starts_with("is not valid JSON: "), "{errors:?}");
}

#[test]
fn errors_and_pointers_are_limited() {
    let members: Vec<_> = (0..10_000).map(|index| format!("\"{index}\": 1e99")).collect();
    let errors = errors_of(parse(format!("{{{}}}", members.join(",")).as_bytes()));
    assert_eq!(errors.len(), MAX_ERRORS + 1);
    assert_eq!(errors[MAX_ERRORS], (String::new(), "has 9936 more errors, which are not listed".to_owned()));

    let (pointer, _) = error_of(&format!("{{\"{}\": 1e99}}", "é".repeat(100_000)));
    assert_eq!(pointer.chars().count(), 200 + "…".chars().count());
}

/// Documents of maximum size take linear time to parse. Quadratic time would take minutes.
#[test]
fn hostile_documents_are_parsed_in_linear_time() {
    let keys: Vec<_> = (0..90_000).map(|index| format!("\"{index:05}\":0")).collect();
    let many_keys = format!("{{{}}}", keys.join(","));
    let node = parse(many_keys.as_bytes()).unwrap();
    let mut errors = Errors::new();
    let mut object = ObjectReader::open(&node, "", &mut errors).unwrap();
    object.optional_number("a", ..);
    object.finish();
    assert_eq!(errors_of(errors.into_result(())).len(), MAX_ERRORS + 1);

    let long_parent = format!("{{\"{}\": [{}0]}}", "k".repeat(400_000), "0,".repeat(300_000));
    assert!(parse(long_parent.as_bytes()).is_ok());

    let items: Vec<_> = (0..90_000).map(|index| format!("\"{index:05}\"")).collect();
    let node = parse(format!("{{\"a\": [{}]}}", items.join(",")).as_bytes()).unwrap();
    let mut errors = Errors::new();
    let mut object = ObjectReader::open(&node, "", &mut errors).unwrap();
    object.optional_choices("a", &[("x", 1), ("y", 2)]);
    object.finish();
    assert!(!errors.is_empty());
}

/// Reads `text` as an object with `read`; returns the value and the errors.
fn read<T>(text: &str, read: impl FnOnce(&mut ObjectReader) -> T) -> (T, Vec<(String, String)>) {
    let node = parse(text.as_bytes()).unwrap();
    let mut errors = Errors::new();
    let mut object = ObjectReader::open(&node, "/args", &mut errors).unwrap();
    let value = read(&mut object);
    object.finish();
    let found = errors.into_result(()).err().map_or(Vec::new(), |invalid| errors_of(Err::<(), _>(invalid)));
    (value, found)
}

/// Reads `text`, which must yield `value` and one error at `/args/x` with this message, or none if
/// it is empty.
#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(
    text: &str,
    get: impl FnOnce(&mut ObjectReader) -> T,
    value: T,
    message: &str,
) {
    let (read_value, errors) = read(text, get);
    assert_eq!(read_value, value, "{text}");
    let expected: &[_] = &[("/args/x".to_owned(), message.to_owned())];
    assert_eq!(errors, if message.is_empty() { &[] } else { expected }, "{text}");
}

#[test]
fn integers_are_read_in_range() {
    let required = |object: &mut ObjectReader| object.required_integer("x", 1..=1_000_000);
    for text in ["{\"x\": 1000000}", "{\"x\": 1e6}", "{\"x\": 1000000.0}"] {
        check(text, required, 1_000_000, "");
    }
    check("{}", required, 1, "is missing: a whole number from 1 to 1000000 is required");
    check("{\"x\": null}", required, 1, "is missing: a whole number from 1 to 1000000 is required");
    check("{\"x\": 0}", required, 1, "must be a whole number from 1 to 1000000; it is 0");
    check("{\"x\": -7}", required, 1, "must be a whole number from 1 to 1000000; it is -7");
    check("{\"x\": 1.5}", required, 1, "must be a whole number from 1 to 1000000; it is 1.5");
    check("{\"x\": \"1\"}", required, 1, "must be a whole number from 1 to 1000000, not a string");
    check("{\"x\": -0.0}", |object| object.required_integer("x", 0..=1), 0, "");

    let optional = |object: &mut ObjectReader| object.optional_integer("x", 2..=u64::MAX);
    check("{}", optional, None, "");
    check("{\"x\": null}", optional, None, "");
    check("{\"x\": 9007199254740992}", optional, Some(1 << 53), "");
    check("{\"x\": 1}", optional, Some(2), "must be a whole number of at least 2; it is 1");
}

#[test]
fn numbers_are_read_in_range() {
    let above_zero = (Bound::Excluded(0.0), Bound::Included(8.0));
    let get = |object: &mut ObjectReader| object.required_number("x", above_zero);
    check("{\"x\": 8}", get, 8.0, "");
    check("{\"x\": 0}", get, 8.0, "must be greater than 0 and at most 8; it is 0");
    check("{\"x\": []}", get, 8.0, "must be a number greater than 0 and at most 8, not an array");
    let get = |object: &mut ObjectReader| object.required_number("x", 0.0..=10000.0);
    check("{}", get, 0.0, "is missing: a number from 0 to 10000 is required");
    check("{\"x\": -1e-9}", get, 0.0, "must be from 0 to 10000; it is -1e-9");
    let get = |object: &mut ObjectReader| object.optional_number("x", ..);
    check("{\"x\": null}", get, None, "");
    check("{\"x\": \"1\"}", get, Some(0.0), "must be a number, not a string");
    let get = |object: &mut ObjectReader| object.optional_number("x", 0.0..);
    check("{\"x\": -2.5}", get, Some(0.0), "must be at least 0; it is -2.5");
    let get = |object: &mut ObjectReader| object.optional_number("x", ..1.0);
    check("{\"x\": 1}", get, Some(0.0), "must be less than 1; it is 1");
}

#[test]
fn booleans_and_strings_are_read() {
    check("{\"x\": true}", |object| object.optional_bool("x"), Some(true), "");
    check(
        "{\"x\": 1}",
        |object| object.optional_bool("x"),
        Some(false),
        "must be true or false, not a number",
    );
    check("{\"x\": \"a\"}", |object| object.required_string("x").to_owned(), "a".to_owned(), "");
    let get = |object: &mut ObjectReader| object.required_string("x").to_owned();
    check("{}", get, String::new(), "is missing: a string is required");
    let get = |object: &mut ObjectReader| object.optional_string("x").map(str::to_owned);
    check("{\"x\": {}}", get, Some(String::new()), "must be a string, not an object");

    let digits = |text: &str| text.parse::<u8>().ok();
    let required = |object: &mut ObjectReader| object.required_parsed("x", "a string of digits", digits);
    check("{\"x\": \"12\"}", required, Some(12), "");
    check("{}", required, None, "is missing: a string of digits is required");
    check("{\"x\": 3}", required, None, "must be a string of digits, not a number");
    let optional = |object: &mut ObjectReader| object.optional_parsed("x", "a string of digits", digits);
    check("{}", optional, None, "");
    check("{\"x\": \"a\\nb\"}", optional, None, "must be a string of digits; it is \"a\\nb\"");
    let long = format!("{{\"x\": \"{}\"}}", "é".repeat(100));
    let cut = format!("must be a string of digits; it is \"{}\"… (200 bytes)", "é".repeat(64));
    check(&long, optional, None, &cut);
}

#[test]
fn choices_are_read_by_name() {
    let choices = [("cpu", 1), ("gpu", 2), ("any", 3)];
    let required = |object: &mut ObjectReader| object.required_choice("x", &choices);
    check("{\"x\": \"gpu\"}", required, 2, "");
    check("{}", required, 1, "is missing: \"cpu\", \"gpu\" or \"any\" is required");
    check("{\"x\": 1}", required, 1, "must be \"cpu\", \"gpu\" or \"any\", not a number");
    check("{\"x\": \"fpga\"}", required, 1, "must be \"cpu\", \"gpu\" or \"any\"; it is \"fpga\"");
    let message = "must be \"cpu\", \"gpu\" or \"any\"; it is \"GPU\": did you mean \"gpu\"?";
    check("{\"x\": \"GPU\"}", required, 1, message);
    let optional = |object: &mut ObjectReader| object.optional_choice("x", &choices);
    check("{}", optional, None, "");
    check("{\"x\": \"\"}", optional, Some(1), "must be \"cpu\", \"gpu\" or \"any\"; it is \"\"");

    let list = |object: &mut ObjectReader| object.optional_choices("x", &choices);
    check("{\"x\": []}", list, Some(vec![]), "");
    check("{\"x\": [\"any\", \"cpu\"]}", list, Some(vec![3, 1]), "");
    check(
        "{\"x\": \"any\"}",
        list,
        Some(vec![]),
        "must be a list of \"cpu\", \"gpu\" or \"any\", not a string",
    );
    let (value, errors) = read(r#"{"x": ["any", "tpu", null, "any"]}"#, list);
    assert_eq!(value, Some(vec![3]));
    let suggestion = "must be \"cpu\", \"gpu\" or \"any\"; it is \"tpu\": did you mean \"cpu\"?";
    let null = "must be \"cpu\", \"gpu\" or \"any\", not null";
    let expected = [("/1", suggestion), ("/2", null), ("/3", "repeats /args/x/0: remove one of them")];
    assert_eq!(errors, expected.map(|(index, message)| (format!("/args/x{index}"), message.to_owned())));
}

#[test]
fn unknown_keys_are_reported_with_a_suggestion() {
    let (_, errors) = read(r#"{"claim_frq": 2, "zzz": null, "iter": 1, "a/b~": 1}"#, |object| {
        object.optional_number("claim_freq", ..);
        object.optional_integer("iterations", 1..=9);
    });
    let names = "is not a known key: the known keys are `claim_freq`, `iterations`";
    let expected = [
        ("/args/claim_frq", "is not a known key: did you mean `claim_freq`?"),
        ("/args/zzz", names),
        ("/args/iter", "is not a known key: did you mean `iterations`?"),
        ("/args/a~1b~0", "is not a known key"),
    ];
    assert_eq!(errors, expected.map(|(pointer, message)| (pointer.to_owned(), message.to_owned())));
    let (_, errors) = read("{\"x\": 1}", |_| ());
    assert_eq!(errors[0].1, "is not a known key: no keys are allowed here");
}

#[test]
fn nested_objects_report_full_pointers() {
    let (_, errors) = read(r#"{"a": {"b": "x", "c": 1}, "d": [], "n": null}"#, |object| {
        let mut inner = object.optional_object("a");
        assert_eq!(inner.optional_bool("b"), Some(false));
        assert_eq!(inner.pointer_of("b"), "/args/a/b");
        assert!(inner.has_error("b") && !inner.has_error("c"));
        inner.finish();
        assert!(object.required_object("d").is_none());
        assert!(object.required_object("n").is_none());
        let mut empty = object.optional_object("n");
        assert_eq!(empty.optional_string("x"), None);
        empty.finish();
        assert!(object.node("n").is_none());
        object.error("n", "is odd");
        object.error("n", "is odd");
    });
    let expected = [
        ("/args/a/b", "must be true or false, not a string"),
        ("/args/a/c", "is not a known key: the known keys are `b`"),
        ("/args/d", "must be an object, not an array"),
        ("/args/n", "is missing: an object is required"),
        ("/args/n", "is odd"),
    ];
    assert_eq!(errors, expected.map(|(pointer, message)| (pointer.to_owned(), message.to_owned())));
}

proptest! {
    #[test]
    fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn never_panics_on_json_like_text(text in r#"([\[\]{},:"\\/-]|[0-9]{1,20}|[eE.+]|null|true|\\u[dD][8-9a-f][0-9]{2}|"a":|é| ){0,40}"#) {
        let _ = parse(text.as_bytes());
    }

    /// The text of a number becomes the nearest double, as in the standard library's independent
    /// parser.
    #[test]
    fn numbers_are_correctly_rounded(text in "-?(0|[1-9][0-9]{0,14})([.][0-9]{1,25})?(e-?[0-9]{1,2})?") {
        let expected: f64 = text.parse().unwrap();
        if expected.abs() <= MAX_NUMBER {
            prop_assert_eq!(parse(text.as_bytes()), Ok(Node::Number(expected)));
        }
    }
}
