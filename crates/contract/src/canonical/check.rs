//! A serializer that rejects numbers that have no canonical JSON. It visits every value and writes
//! nothing.

use std::fmt::Display;

use serde::{Serialize, ser};

use super::error::{CanonicalJsonError, MAX_INTEGER};

type CheckResult = Result<(), CanonicalJsonError>;

/// Checks every number in a value and returns the first error.
#[derive(Clone, Copy)]
pub struct NumberChecker;

impl ser::Error for CanonicalJsonError {
    fn custom<T: Display>(message: T) -> Self {
        Self::NotJson(message.to_string())
    }
}

fn check_integer(magnitude: u128, value: impl Display) -> CheckResult {
    if magnitude > u128::from(MAX_INTEGER) {
        return Err(CanonicalJsonError::IntegerTooLarge(value.to_string()));
    }
    Ok(())
}

/// Methods for values that are always valid.
macro_rules! accept {
    ($($method:ident($($argument:ty),*)),* $(,)?) => {
        $(fn $method(self, $(_: $argument),*) -> CheckResult {
            Ok(())
        })*
    };
}

/// Methods that start a compound value.
macro_rules! enter_compound {
    ($($method:ident($($argument:ty),*) -> $associated:ident),* $(,)?) => {
        $(fn $method(self, $(_: $argument),*) -> Result<Self::$associated, CanonicalJsonError> {
            Ok(self)
        })*
    };
}

impl ser::Serializer for NumberChecker {
    type Ok = ();
    type Error = CanonicalJsonError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    accept! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_u8(u8),
        serialize_u16(u16), serialize_u32(u32), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_none(), serialize_unit(), serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }

    enter_compound! {
        serialize_seq(Option<usize>) -> SerializeSeq,
        serialize_tuple(usize) -> SerializeTuple,
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant,
        serialize_map(Option<usize>) -> SerializeMap,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant,
    }

    fn serialize_i64(self, value: i64) -> CheckResult {
        check_integer(value.unsigned_abs().into(), value)
    }

    fn serialize_i128(self, value: i128) -> CheckResult {
        check_integer(value.unsigned_abs(), value)
    }

    fn serialize_u64(self, value: u64) -> CheckResult {
        check_integer(value.into(), value)
    }

    fn serialize_u128(self, value: u128) -> CheckResult {
        check_integer(value, value)
    }

    fn serialize_f32(self, value: f32) -> CheckResult {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> CheckResult {
        if value.is_finite() { Ok(()) } else { Err(CanonicalJsonError::NotFinite) }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> CheckResult {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> CheckResult {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> CheckResult {
        value.serialize(self)
    }

    /// serde_json passes arbitrary-precision numbers and raw JSON as text, in structs with private
    /// names.
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self, CanonicalJsonError> {
        if name.starts_with("$serde_json::private::") {
            return Err(CanonicalJsonError::NotJson(format!("{name} carries unchecked text")));
        }
        Ok(self)
    }
}

/// Implements the traits of compound values; each method checks the nested value.
macro_rules! check_compound_values {
    ($($trait:ident: $method:ident($($key:ty)?)),* $(,)?) => {
        $(impl ser::$trait for NumberChecker {
            type Ok = ();
            type Error = CanonicalJsonError;

            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $key,)? value: &T) -> CheckResult {
                value.serialize(*self)
            }

            fn end(self) -> CheckResult {
                Ok(())
            }
        })*
    };
}

check_compound_values! {
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str),
}

impl ser::SerializeMap for NumberChecker {
    type Ok = ();
    type Error = CanonicalJsonError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> CheckResult {
        key.serialize(*self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> CheckResult {
        value.serialize(*self)
    }

    fn end(self) -> CheckResult {
        Ok(())
    }
}
