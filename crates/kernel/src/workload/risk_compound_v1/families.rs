//! Families of laws: the parameters of each, in all the forms in which they may be given, and how
//! they are read. A family is an object with one key, its name, and the parameters as value; a
//! family of one parameter may have a bare number as value.

use std::ops::RangeInclusive;

use forge_contract::strict::{Node, ObjectReader, number_to_value};
use schemars::{Schema, json_schema};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value, json};

use super::other_names::{OtherFamilies, unknown_family, unknown_parameter};

/// A family of laws `L`.
pub struct Family<L: 'static> {
    /// Name, the key of the family in args.
    pub name: &'static str,
    /// What the family is, for the JSON Schema.
    pub description: &'static str,
    /// The sets of parameters that determine a law.
    pub forms: &'static [Form<L>],
}

/// A set of parameters that determines a law.
pub struct Form<L: 'static> {
    /// The parameters.
    pub parameters: &'static [Parameter],
    /// The law with the values of the parameters, which are all in range.
    pub law: fn(&[f64]) -> Result<L, ParameterError>,
}

/// A parameter of a family.
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// What it is, for the JSON Schema.
    pub description: &'static str,
    /// Its values.
    pub range: ParameterRange,
}

/// The values of a parameter.
#[derive(Debug, Clone, Copy)]
pub enum ParameterRange {
    /// An amount from [`MIN_AMOUNT`] to the largest one.
    Amount,
    /// An amount from 0 to the largest one.
    AmountOrZero,
    /// A number between two others, included.
    Number(f64, f64),
    /// A whole number from 0 to another one.
    Whole(u64),
}

/// Smallest parameter that is an amount.
pub const MIN_AMOUNT: f64 = 1e-9;
/// Largest amount, in minor units.
pub const MAX_MINOR_UNITS: f64 = 1e15;

/// Values of parameters that are each in range but have no law together.
#[derive(Debug)]
pub struct ParameterError {
    /// The parameter to change.
    pub parameter: &'static str,
    /// The problem; it continues the pointer to the parameter.
    pub message: String,
}

/// The parameters of a family, as written, and the law that they determine.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyArgs<L> {
    /// Name of the family.
    pub family: &'static str,
    /// Names and values of the parameters.
    pub parameters: Vec<(&'static str, f64)>,
    /// Whether the only parameter was given as a bare number.
    pub is_bare: bool,
    /// The law.
    pub law: L,
}

impl<L> FamilyArgs<L> {
    /// What stands for args with errors.
    pub fn placeholder(law: L) -> Self {
        Self { family: "", parameters: Vec::new(), is_bare: false, law }
    }
}

impl<L> Serialize for FamilyArgs<L> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        let parameters = self.parameters.iter();
        let value = match (self.is_bare, self.parameters.first()) {
            (true, Some((_, value))) => number_to_value(*value),
            _ => {
                Value::Object(parameters.map(|(name, x)| ((*name).to_owned(), number_to_value(*x))).collect())
            }
        };
        map.serialize_entry(self.family, &value)?;
        map.end()
    }
}

impl ParameterRange {
    fn numbers(self, largest_amount: f64) -> RangeInclusive<f64> {
        match self {
            Self::Amount => MIN_AMOUNT..=largest_amount,
            Self::AmountOrZero => 0.0..=largest_amount,
            Self::Number(from, to) => from..=to,
            Self::Whole(to) => 0.0..=to as f64,
        }
    }

    fn read(self, object: &mut ObjectReader<'_, '_>, name: &'static str, largest_amount: f64) -> f64 {
        match self {
            Self::Whole(to) => object.required_integer(name, 0..=to) as f64,
            _ => object.required_number(name, self.numbers(largest_amount)),
        }
    }

    fn schema(self, largest_amount: f64) -> Value {
        let range = self.numbers(largest_amount);
        let (from, to) = (number_to_value(*range.start()), number_to_value(*range.end()));
        let kind = if matches!(self, Self::Whole(_)) { "integer" } else { "number" };
        json!({"type": kind, "minimum": from, "maximum": to})
    }
}

impl<L: Clone> Family<L> {
    /// Reads the family's value in `object`, which has one; amounts may be up to `largest_amount`.
    /// The law is `placeholder` when an error was recorded.
    pub fn read(
        &self,
        object: &mut ObjectReader<'_, '_>,
        largest_amount: f64,
        placeholder: L,
    ) -> FamilyArgs<L> {
        let invalid = FamilyArgs { family: self.name, ..FamilyArgs::placeholder(placeholder) };
        let node = object.node(self.name);
        if matches!(node, Some(Node::Number(_))) {
            return self.read_bare(object, largest_amount).unwrap_or(invalid);
        }
        let path = format!("/{}", self.name);
        let Some(mut inner) = object.required_object(self.name) else { return invalid };
        let form = self.choose_form(&mut inner);
        let values = form.map_or_else(Vec::new, |form| {
            let read = |p: &Parameter| (p.name, p.range.read(&mut inner, p.name, largest_amount));
            form.parameters.iter().map(read).collect()
        });
        if form.is_none() {
            self.check_types(&mut inner);
        }
        let has_cv = self.parameters().any(|parameter| parameter.name == "cv");
        inner.finish_with(|key| unknown_parameter(self.name, key, &self.describe_forms(), has_cv));
        let Some(form) = form else {
            if !object.has_error_within(&path) {
                let message = format!("must have {}", self.describe_forms());
                object.error(self.name, message);
            }
            return invalid;
        };
        if object.has_error_within(&path) {
            return invalid;
        }
        let numbers: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
        match (form.law)(&numbers) {
            Ok(law) => FamilyArgs { parameters: values, law, ..invalid },
            Err(error) => {
                object.error_at(&format!("{path}/{}", error.parameter), error.message);
                invalid
            }
        }
    }

    fn parameters(&self) -> impl Iterator<Item = &'static Parameter> {
        self.forms.iter().flat_map(|form| form.parameters)
    }

    /// Records an error for each given parameter that is no number: what is wrong with the others
    /// does not depend on it.
    fn check_types(&self, object: &mut ObjectReader<'_, '_>) {
        for parameter in self.parameters() {
            let is_number = |node: &Node| matches!(node, Node::Number(_));
            if object.node(parameter.name).is_some_and(|node| !is_number(node)) {
                parameter.range.read(object, parameter.name, f64::MAX);
            }
        }
    }

    /// Reads a bare number. `None` with an error recorded.
    fn read_bare(&self, object: &mut ObjectReader<'_, '_>, largest_amount: f64) -> Option<FamilyArgs<L>> {
        let Some((form, parameter)) = self.bare_form() else {
            object
                .error(self.name, format!("must be an object with {}, not a number", self.describe_forms()));
            return None;
        };
        let value = parameter.range.read(object, self.name, largest_amount);
        if object.has_error(self.name) {
            return None;
        }
        let law = (form.law)(&[value]).map_err(|error| object.error(self.name, error.message)).ok()?;
        Some(FamilyArgs { family: self.name, parameters: vec![(parameter.name, value)], is_bare: true, law })
    }

    /// The form whose parameters are given. `None` without one, with errors recorded where some of
    /// a form's parameters are missing and no other form is meant.
    fn choose_form(&self, object: &mut ObjectReader<'_, '_>) -> Option<&'static Form<L>> {
        let mut given: Vec<&str> = Vec::new();
        for parameter in self.parameters() {
            if object.node(parameter.name).is_some() && !given.contains(&parameter.name) {
                given.push(parameter.name);
            }
        }
        let has = |form: &Form<L>, name: &str| form.parameters.iter().any(|p| p.name == name);
        let mut possible = self.forms.iter().filter(|form| given.iter().all(|name| has(form, name)));
        let (first, is_only) = (possible.next()?, possible.next().is_none());
        let missing = || first.parameters.iter().filter(|p| !given.contains(&p.name));
        if missing().next().is_none() {
            return Some(first);
        }
        // The message for an unknown parameter names those that are missing.
        if is_only && !object.has_unknown_key() {
            for parameter in missing() {
                let message =
                    format!("is missing: {} has the parameters {}", self.name, self.describe_forms());
                object.error(parameter.name, message);
            }
        }
        None
    }

    fn bare_form(&self) -> Option<(&'static Form<L>, &'static Parameter)> {
        let mut forms = self.forms.iter();
        forms.find_map(|form| match form.parameters {
            [parameter] => Some((form, parameter)),
            _ => None,
        })
    }

    /// "mean and cv, or mu and sigma".
    fn describe_forms(&self) -> String {
        let describe = |form: &Form<L>| {
            let names: Vec<_> = form.parameters.iter().map(|p| p.name).collect();
            match names.split_last() {
                Some((last, [])) => (*last).to_owned(),
                Some((last, others)) => format!("{} and {last}", others.join(", ")),
                None => String::new(),
            }
        };
        self.forms.iter().map(describe).collect::<Vec<_>>().join(", or ")
    }

    /// JSON Schema of an object that names this family; amounts are at most `largest_amount`.
    pub fn schema(&self, largest_amount: f64) -> Value {
        let form_schema = |form: &Form<L>| {
            let properties: Map<String, Value> = form
                .parameters
                .iter()
                .map(|parameter| {
                    let mut schema = parameter.range.schema(largest_amount);
                    schema["description"] = parameter.description.into();
                    (parameter.name.to_owned(), schema)
                })
                .collect();
            let required: Vec<&str> = form.parameters.iter().map(|p| p.name).collect();
            json!({
                "type": "object", "properties": properties, "required": required, "additionalProperties": false
            })
        };
        let mut forms: Vec<Value> = self.forms.iter().map(form_schema).collect();
        if let Some((_, parameter)) = self.bare_form() {
            let mut schema = parameter.range.schema(largest_amount);
            schema["description"] = parameter.description.into();
            forms.push(schema);
        }
        let value = if forms.len() == 1 { forms.remove(0) } else { json!({"anyOf": forms}) };
        single_key_schema(self.name, self.description, value)
    }
}

/// JSON Schema of an object whose only key is `name`.
pub fn single_key_schema(name: &str, description: &str, value: Value) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {name: value},
        "required": [name],
        "additionalProperties": false
    })
}

/// Families of one kind of law, of which an object names one.
pub struct Families {
    /// What they are: "a severity".
    pub kind: &'static str,
    /// Their names.
    pub names: Vec<&'static str>,
    /// Names that they have elsewhere.
    pub others: &'static OtherFamilies,
}

impl Families {
    /// The family that is a key of `object`. Without one, or with an error recorded for several,
    /// `None`. Other unknown keys are left to [`Self::finish`].
    pub fn choose(&self, object: &mut ObjectReader<'_, '_>) -> Option<&'static str> {
        let given: Vec<_> = self.names.iter().copied().filter(|name| object.node(name).is_some()).collect();
        match given[..] {
            [name] => Some(name),
            [] => None,
            _ => {
                let message = format!("must be {} of one family; it has {}", self.kind, given.join(" and "));
                object.error_at("", message);
                None
            }
        }
    }

    /// Ends the reading of an object that should name a family.
    pub fn finish(&self, mut object: ObjectReader<'_, '_>) {
        let is_missing = self.names.iter().all(|name| object.node(name).is_none());
        if is_missing && !object.has_unknown_key() {
            let names = self.names.join("`, `");
            object.error_at("", format!("must name the family of {}: `{names}`", self.kind));
        }
        object.finish_with(|key| unknown_family(key, &self.names, self.kind, self.others));
    }
}

/// JSON Schema of a value that has one of the schemas.
pub fn one_of_schema(description: &str, schemas: impl Iterator<Item = Value>) -> Schema {
    json_schema!({"description": description, "oneOf": schemas.collect::<Vec<_>>()})
}
