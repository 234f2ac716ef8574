//! How single values of a session document are written: text for people, few bytes on the wire.

use std::borrow::Cow;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vpnmesh_core::{PublicKey, SessionId};

use crate::suite::{Cipher, Kem, Profile};

/// A value with two forms. Each value has exactly one text and one wire form.
pub(super) trait Form: Sized {
    /// The text form in words, for errors.
    const EXPECTED: &'static str;
    /// The form on the wire.
    type Wire: Serialize + DeserializeOwned;

    fn text(&self) -> Cow<'static, str>;
    fn from_text(text: &str) -> Option<Self>;
    fn wire(&self) -> Self::Wire;
    fn from_wire(wire: Self::Wire) -> Option<Self>;
}

pub(super) fn serialize<T: Form, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() {
        to.serialize_str(&value.text())
    } else {
        value.wire().serialize(to)
    }
}

pub(super) fn deserialize<'de, T: Form, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let value = if from.is_human_readable() {
        T::from_text(&Cow::<str>::deserialize(from)?)
    } else {
        T::from_wire(T::Wire::deserialize(from)?)
    };
    value.ok_or_else(|| D::Error::custom(format_args!("expected {}", T::EXPECTED)))
}

/// A value that may be null but not absent.
pub(super) fn present<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(from)
}

macro_rules! named {
    ($type:ty, $expected:literal, $name:expr, $all:expr, $code:expr) => {
        impl Form for $type {
            const EXPECTED: &'static str = $expected;
            type Wire = u8;

            fn text(&self) -> Cow<'static, str> {
                $name(*self).into()
            }

            fn from_text(text: &str) -> Option<Self> {
                $all.into_iter().find(|value| $name(*value) == text)
            }

            fn wire(&self) -> u8 {
                $code(*self)
            }

            fn from_wire(wire: u8) -> Option<Self> {
                $all.into_iter().find(|value| $code(*value) == wire)
            }
        }
    };
}

named!(
    Cipher,
    "a packet cipher such as aes-256-gcm",
    Cipher::name,
    Cipher::ALL,
    Cipher::code
);
named!(
    Profile,
    "light, standard or high",
    Profile::name,
    Profile::ALL,
    Profile::code
);
named!(
    Kem,
    "a hybrid key exchange such as x25519+ml-kem-768",
    exchange_name,
    [Kem::MlKem768, Kem::MlKem1024],
    exchange_code
);

const fn exchange_name(kem: Kem) -> &'static str {
    match kem {
        Kem::MlKem768 => "x25519+ml-kem-768",
        Kem::MlKem1024 => "x25519+ml-kem-1024",
    }
}

const fn exchange_code(kem: Kem) -> u8 {
    match kem {
        Kem::MlKem768 => 1,
        Kem::MlKem1024 => 2,
    }
}

impl Form for SessionId {
    const EXPECTED: &'static str = "32 lower-case hexadecimal digits";
    type Wire = Self;

    fn text(&self) -> Cow<'static, str> {
        self.to_string().into()
    }

    fn from_text(text: &str) -> Option<Self> {
        hex(text).map(Self)
    }

    fn wire(&self) -> Self {
        *self
    }

    fn from_wire(wire: Self) -> Option<Self> {
        Some(wire)
    }
}

/// A hash.
impl Form for [u8; 32] {
    const EXPECTED: &'static str = "64 lower-case hexadecimal digits";
    type Wire = Self;

    fn text(&self) -> Cow<'static, str> {
        let digits = self
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
        digits.collect::<String>().into()
    }

    fn from_text(text: &str) -> Option<Self> {
        hex(text)
    }

    fn wire(&self) -> Self {
        *self
    }

    fn from_wire(wire: Self) -> Option<Self> {
        Some(wire)
    }
}

impl Form for PublicKey {
    const EXPECTED: &'static str = "32 bytes in base64";
    type Wire = Self;

    fn text(&self) -> Cow<'static, str> {
        base64_of(&self.0).into()
    }

    fn from_text(text: &str) -> Option<Self> {
        bytes_of(text)?.try_into().ok().map(Self)
    }

    fn wire(&self) -> Self {
        *self
    }

    fn from_wire(wire: Self) -> Option<Self> {
        Some(wire)
    }
}

/// Base64, padded.
pub(super) fn base64_of(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of canonical, padded base64.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}
