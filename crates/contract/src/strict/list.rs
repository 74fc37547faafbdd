//! Reads the fields of an object that are lists. Does not know the meaning of any field.

use std::ops::{RangeBounds, RangeInclusive};

use super::{
    errors::child_pointer,
    message::{describe_bounds, describe_number, format_number, quote_excerpt},
    node::Node,
    object::ObjectReader,
};

impl<'n> ObjectReader<'n, '_> {
    /// Reads a list of objects, each with `read`. `None` if the field is absent or, with errors
    /// recorded, is not a list of as many objects as `lengths` allows; the objects among the
    /// elements are read nevertheless, up to the end of `lengths`.
    pub fn optional_objects<T>(
        &mut self,
        name: &'static str,
        lengths: RangeInclusive<usize>,
        mut read: impl FnMut(ObjectReader<'n, '_>) -> T,
    ) -> Option<Vec<T>> {
        let (items, is_valid) = self.items(name, "objects", &lengths)?;
        let pointer = self.pointer_of(name);
        let items = items.iter().take(*lengths.end()).enumerate();
        // Every element is read, also after one that is not an object.
        let values: Vec<Option<T>> = items
            .map(|(index, node)| {
                let pointer = child_pointer(&pointer, &index.to_string());
                ObjectReader::open(node, &pointer, self.errors).map(&mut read)
            })
            .collect();
        values.into_iter().collect::<Option<Vec<_>>>().filter(|_| is_valid)
    }

    /// Reads a list of strings, each accepted by `is_valid`; `wanted` describes those: "a string of
    /// 1 to 64 characters". Invalid elements are errors, but remain in the list where they are
    /// strings. `None` if the field is absent or, with an error recorded, is not a list of as many
    /// strings as `lengths` allows.
    pub fn optional_strings(
        &mut self,
        name: &'static str,
        lengths: RangeInclusive<usize>,
        wanted: &str,
        is_valid: impl Fn(&str) -> bool,
    ) -> Option<Vec<String>> {
        self.elements(name, "strings", lengths, |node| match node {
            Node::String(text) if is_valid(text) => (Some(text.clone()), None),
            Node::String(text) => {
                (Some(text.clone()), Some(format!("must be {wanted}; it is {}", quote_excerpt(text))))
            }
            other => (None, Some(format!("must be {wanted}, not {}", other.type_name()))),
        })
    }

    /// Reads a list of numbers in `range`. Numbers outside it are errors, but remain in the list.
    /// `None` if the field is absent or, with an error recorded, is not a list of as many numbers
    /// as `lengths` allows.
    pub fn optional_numbers(
        &mut self,
        name: &'static str,
        lengths: RangeInclusive<usize>,
        range: impl RangeBounds<f64>,
    ) -> Option<Vec<f64>> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        self.elements(name, "numbers", lengths, |node| match node {
            Node::Number(value) if range.contains(value) => (Some(*value), None),
            Node::Number(value) => {
                let message = format!("must be {}; it is {}", describe_bounds(&range), format_number(*value));
                (Some(*value), Some(message))
            }
            other => (None, Some(format!("must be {}, not {}", describe_number(&range), other.type_name()))),
        })
    }

    /// Reads a list whose elements `read` converts to a value, an error, or both.
    fn elements<T>(
        &mut self,
        name: &'static str,
        kind: &str,
        lengths: RangeInclusive<usize>,
        read: impl Fn(&Node) -> (Option<T>, Option<String>),
    ) -> Option<Vec<T>> {
        let (items, is_valid) = self.items(name, kind, &lengths)?;
        let pointer = self.pointer_of(name);
        let mut values = Vec::new();
        for (index, node) in items.iter().take(*lengths.end()).enumerate() {
            let (value, message) = read(node);
            if let Some(message) = message {
                self.errors.push(&child_pointer(&pointer, &index.to_string()), message);
            }
            values.push(value);
        }
        values.into_iter().collect::<Option<Vec<_>>>().filter(|_| is_valid)
    }

    /// The elements of a list, and whether there are as many as `lengths` allows.
    fn items(
        &mut self,
        name: &'static str,
        kind: &str,
        lengths: &RangeInclusive<usize>,
    ) -> Option<(&'n [Node], bool)> {
        let Node::Array(items) = self.node(name)? else {
            let other = self.node(name)?.type_name();
            self.error(name, format!("must be a list of {kind}, not {other}"));
            return None;
        };
        let is_valid = lengths.contains(&items.len());
        if !is_valid {
            let (from, to) = (lengths.start(), lengths.end());
            self.error(name, format!("must have {from} to {to} elements; it has {}", items.len()));
        }
        Some((items, is_valid))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Errors, *};

    /// Reads the field `list` of a document with `read`, and returns what it read and the errors.
    fn read<T>(json: &str, read: impl FnOnce(&mut ObjectReader<'_, '_>) -> T) -> (T, Vec<(String, String)>) {
        let node = super::super::parse(json.as_bytes()).unwrap();
        let mut errors = Errors::new();
        let value = read(&mut ObjectReader::open(&node, "", &mut errors).unwrap());
        let errors = errors.into_result(()).err().map(|invalid| invalid.into_errors()).unwrap_or_default();
        (value, errors.into_iter().map(|error| (error.pointer, error.message)).collect())
    }

    #[test]
    fn objects_are_read_one_by_one() {
        let name = |mut object: ObjectReader<'_, '_>| {
            let name = object.required_string("name").to_owned();
            object.finish();
            name
        };
        let read_list = |json: &str| read(json, |object| object.optional_objects("list", 1..=2, name));
        assert_eq!(read_list(r#"{"list": [{"name": "a"}, {"name": "b"}]}"#).0.unwrap(), ["a", "b"]);
        assert_eq!(read_list("{}"), (None, vec![]));
        // The second element is read although the first one is not an object.
        let (list, errors) = read_list(r#"{"list": [3, {"nam": "b"}]}"#);
        let pointers: Vec<_> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!((list, pointers), (None, vec!["/list/0", "/list/1/name", "/list/1/nam"]));
        let (list, errors) = read_list(r#"{"list": []}"#);
        assert_eq!((list, errors[0].1.as_str()), (None, "must have 1 to 2 elements; it has 0"));
        let (list, errors) = read_list(r#"{"list": {}}"#);
        assert_eq!((list, errors[0].1.as_str()), (None, "must be a list of objects, not an object"));
    }

    #[test]
    fn elements_out_of_range_are_errors_of_their_own() {
        let numbers = |json: &str| read(json, |object| object.optional_numbers("list", 0..=3, 0.0..=1.0));
        assert_eq!(numbers(r#"{"list": [0, 0.5]}"#), (Some(vec![0.0, 0.5]), vec![]));
        let (list, errors) = numbers(r#"{"list": [0, 2]}"#);
        assert_eq!(list, Some(vec![0.0, 2.0]));
        assert_eq!(errors, [("/list/1".to_owned(), "must be from 0 to 1; it is 2".to_owned())]);
        let (list, errors) = numbers(r#"{"list": ["a"]}"#);
        assert_eq!(list, None);
        assert_eq!(errors[0].1, "must be a number from 0 to 1, not a string");
        let strings = |json: &str| {
            read(json, |object| object.optional_strings("list", 1..=2, "a letter", |text| text.len() == 1))
        };
        assert_eq!(strings(r#"{"list": ["a"]}"#).0.unwrap(), ["a"]);
        let (_, errors) = strings(r#"{"list": ["ab", null]}"#);
        let messages: Vec<_> = errors.iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(messages, ["must be a letter; it is \"ab\"", "must be a letter, not null"]);
    }
}
