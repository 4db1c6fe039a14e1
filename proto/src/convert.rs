//! Conversions between what travels ([`crate::v1`]) and what is judged ([`lastwords_diagnosis`]).
//!
//! Every struct is taken apart field by field without `..`, so that a new field breaks the build here instead of being lost.
//! A time of 0 and an absent timestamp are the same: nothing died in 1970.

/// Both conversions of a struct. Fields before the first `;` are the same on both sides, those behind it are optional messages with
/// conversions of their own, those behind the second follow from others and stand only on the wire. An enumeration behind a third is
/// a number on the wire.
macro_rules! both_ways {
    ($name:ident {
        $($same:ident),*
        $(; $($message:ident),* $(; $($derived:ident = $value:expr),* $(; $variant:ident: $wire:ty)?)?)?
    }) => {
        impl From<&evidence::$name> for v1::$name {
            fn from(from: &evidence::$name) -> Self {
                let evidence::$name { $($same,)* $($($message,)* $($($variant)?)?)? } = from;
                Self {
                    $($same: $same.clone(),)*
                    $($($message: $message.as_ref().map(Into::into),)*
                    $($($derived: $value,)* $($variant: <$wire>::from(*$variant).into(),)?)?)?
                }
            }
        }

        impl From<&v1::$name> for evidence::$name {
            fn from(from: &v1::$name) -> Self {
                let v1::$name { $($same,)* $($($message,)* $($($derived: _,)* $($variant: _)?)?)? } = from;
                Self {
                    $($same: $same.clone(),)*
                    $($($message: $message.as_ref().map(Into::into),)* $($($variant: from.$variant().into(),)?)?)?
                }
            }
        }
    };
}

mod calls;
mod from_wire;
mod places;
mod to_wire;

pub use from_wire::crash_to_evidence;
pub use to_wire::{cause, diagnosis_to_wire, evidence_to_crash};
