//! The values of a JSON document that are no objects or arrays, each with a name that is the same
//! in two documents of the same kind: `treaties[cat xl].limit`, `quantiles[0.995].var`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Members that identify the elements of an array, in the order of preference.
const LABELS: [&str; 4] = ["name", "level", "return_period", "step"];

/// A value that holds no others.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// The member, or that of the array around it.
    pub key: &'a str,
    /// The object around the value; `None` for elements of arrays.
    pub siblings: Option<&'a Map<String, Value>>,
    /// The value.
    pub value: &'a Value,
}

/// The leaves of an object in document order, with their names.
pub fn leaves(object: &Map<String, Value>) -> Vec<(String, Leaf<'_>)> {
    let mut found = Vec::new();
    add_members("", object, None, &mut found);
    found
}

/// Adds the leaves of an object, without the member `label`.
fn add_members<'a>(
    prefix: &str,
    object: &'a Map<String, Value>,
    label: Option<&str>,
    found: &mut Vec<(String, Leaf<'a>)>,
) {
    for (key, value) in object.iter().filter(|(key, _)| Some(key.as_str()) != label) {
        let separator = if prefix.is_empty() { "" } else { "." };
        let name = format!("{prefix}{separator}{key}");
        add_value(name, Leaf { key, siblings: Some(object), value }, found);
    }
}

fn add_value<'a>(name: String, leaf: Leaf<'a>, found: &mut Vec<(String, Leaf<'a>)>) {
    match leaf.value {
        Value::Object(members) => add_members(&name, members, None, found),
        Value::Array(elements) => {
            let label = label_of(elements);
            for (index, element) in elements.iter().enumerate() {
                let shown = label.map(|label| text_of(&element[label])).unwrap_or_else(|| index.to_string());
                let name = format!("{name}[{shown}]");
                match element {
                    Value::Object(members) => add_members(&name, members, label, found),
                    value => add_value(name, Leaf { siblings: None, value, ..leaf }, found),
                }
            }
        }
        _ => found.push((name, leaf)),
    }
}

/// The member that tells the elements apart: every element is an object that has it, and no two
/// values are equal.
fn label_of(elements: &[Value]) -> Option<&'static str> {
    LABELS.into_iter().find(|&label| {
        let mut texts = BTreeSet::new();
        let is_distinct =
            |element: &Value| element.get(label).is_some_and(|value| texts.insert(text_of(value)));
        elements.iter().all(is_distinct)
    })
}

/// A value as it is shown: strings without quotes.
pub fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(document: &Value) -> Vec<(String, String)> {
        let leaves = leaves(document.as_object().unwrap()).into_iter();
        leaves.map(|(name, leaf)| (name, text_of(leaf.value))).collect()
    }

    #[test]
    fn elements_are_named_by_the_first_member_that_tells_them_apart() {
        let document = json!({
            "a": {"b": 1},
            "list": [{"name": "x", "step": 1, "v": 2}, {"name": "y", "step": 1, "v": 3}],
            "levels": [{"level": 0.5, "var": 4}],
            "twice": [{"name": "x", "v": 5}, {"name": "x", "v": 6}],
            "plain": [7, [8]],
        });
        let expected = [
            ("a.b", "1"),
            ("levels[0.5].var", "4"),
            ("list[x].step", "1"),
            ("list[x].v", "2"),
            ("list[y].step", "1"),
            ("list[y].v", "3"),
            ("plain[0]", "7"),
            ("plain[1][0]", "8"),
            ("twice[0].name", "x"),
            ("twice[0].v", "5"),
            ("twice[1].name", "x"),
            ("twice[1].v", "6"),
        ];
        let mut found = names(&document);
        found.sort();
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
