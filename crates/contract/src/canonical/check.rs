//! Walks a value as a serializer does and refuses the numbers that canonical JSON cannot hold. Writes nothing.

use std::fmt::Display;

use serde::{Serialize, ser};

use super::{CanonicalJsonError, MAX_INTEGER};

type Checked = Result<(), CanonicalJsonError>;

/// Looks at every value it is given; the answer is that nothing is wrong, or the first thing that is.
#[derive(Clone, Copy)]
pub struct Checker;

impl ser::Error for CanonicalJsonError {
    fn custom<T: Display>(message: T) -> Self {
        Self::NotJson(message.to_string())
    }
}

fn integer(magnitude: u128, value: impl Display) -> Checked {
    if magnitude > u128::from(MAX_INTEGER) {
        return Err(CanonicalJsonError::IntegerTooLarge(value.to_string()));
    }
    Ok(())
}

/// Methods whose values are never wrong.
macro_rules! fine {
    ($($method:ident($($argument:ty),*)),* $(,)?) => {
        $(fn $method(self, $(_: $argument),*) -> Checked {
            Ok(())
        })*
    };
}

/// Methods that open a compound value.
macro_rules! compound {
    ($($method:ident($($argument:ty),*) -> $associated:ident),* $(,)?) => {
        $(fn $method(self, $(_: $argument),*) -> Result<Self::$associated, CanonicalJsonError> {
            Ok(self)
        })*
    };
}

impl ser::Serializer for Checker {
    type Ok = ();
    type Error = CanonicalJsonError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fine! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_u8(u8),
        serialize_u16(u16), serialize_u32(u32), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_none(), serialize_unit(), serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }

    compound! {
        serialize_seq(Option<usize>) -> SerializeSeq,
        serialize_tuple(usize) -> SerializeTuple,
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant,
        serialize_map(Option<usize>) -> SerializeMap,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant,
    }

    fn serialize_i64(self, value: i64) -> Checked {
        integer(value.unsigned_abs().into(), value)
    }

    fn serialize_i128(self, value: i128) -> Checked {
        integer(value.unsigned_abs(), value)
    }

    fn serialize_u64(self, value: u64) -> Checked {
        integer(value.into(), value)
    }

    fn serialize_u128(self, value: u128) -> Checked {
        integer(value, value)
    }

    fn serialize_f32(self, value: f32) -> Checked {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Checked {
        if value.is_finite() { Ok(()) } else { Err(CanonicalJsonError::NotFinite) }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Checked {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Checked {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Checked {
        value.serialize(self)
    }

    /// serde_json passes text that becomes a number or raw JSON through structs of private names.
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self, CanonicalJsonError> {
        if name.starts_with("$serde_json::private::") {
            return Err(CanonicalJsonError::NotJson(format!("{name} carries unchecked text")));
        }
        Ok(self)
    }
}

/// One trait of compound values: its method looks at the value.
macro_rules! compound_values {
    ($($trait:ident: $method:ident($($key:ty)?)),* $(,)?) => {
        $(impl ser::$trait for Checker {
            type Ok = ();
            type Error = CanonicalJsonError;

            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $key,)? value: &T) -> Checked {
                value.serialize(*self)
            }

            fn end(self) -> Checked {
                Ok(())
            }
        })*
    };
}

compound_values! {
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str),
}

impl ser::SerializeMap for Checker {
    type Ok = ();
    type Error = CanonicalJsonError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Checked {
        key.serialize(*self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
        value.serialize(*self)
    }

    fn end(self) -> Checked {
        Ok(())
    }
}
