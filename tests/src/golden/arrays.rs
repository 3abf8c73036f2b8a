//! Arrays written out, element by element.

use remotemedia_core::data::NumpyDtype;
use serde_json::{Value, json};

/// Elements where strides put them.
pub(super) struct Array<'a> {
    /// The type of each.
    pub(super) dtype: NumpyDtype,
    /// How many along each dimension.
    pub(super) shape: &'a [u64],
    /// Bytes from one to the next along each dimension.
    pub(super) strides: Vec<i64>,
    /// From the lowest in memory to the highest.
    pub(super) bytes: &'a [u8],
}

/// An array without gaps, the last dimension fastest, as it is told.
pub(super) fn gapless(dtype: NumpyDtype, shape: &[u64], bytes: &[u8]) -> Value {
    let mut strides = vec![0; shape.len()];
    let mut next = signed(dtype.bytes() as u64);
    for (stride, length) in strides.iter_mut().zip(shape).rev() {
        *stride = next;
        next *= signed((*length).max(1));
    }
    Array { dtype, shape, strides, bytes }.told()
}

// === impl Array ===

impl Array<'_> {
    /// Its type and shape, and its elements with the last dimension fastest, wherever they lie.
    pub(super) fn told(&self) -> Value {
        let values: Vec<Value> =
            self.places().into_iter().map(|at| element(self.dtype, self.at(at))).collect();
        json!({ "dtype": self.dtype, "shape": self.shape, "values": values })
    }

    fn places(&self) -> Vec<i64> {
        let backwards = self.shape.iter().zip(&self.strides).filter(|(_, stride)| **stride < 0);
        let first = backwards.map(|(length, stride)| -stride * signed(length.saturating_sub(1))).sum();
        let dimensions = self.shape.iter().zip(&self.strides);
        dimensions.fold(vec![first], |places, (length, stride)| {
            let steps = |place: i64| (0..signed(*length)).map(move |step| place + step * stride);
            places.into_iter().flat_map(steps).collect()
        })
    }

    fn at(&self, place: i64) -> &[u8] {
        let start = usize::try_from(place).expect("no element lies before the lowest");
        &self.bytes[start..start + self.dtype.bytes()]
    }
}

fn signed(length: u64) -> i64 {
    i64::try_from(length).expect("arrays of the corpus are small")
}

fn element(dtype: NumpyDtype, bytes: &[u8]) -> Value {
    match dtype {
        NumpyDtype::Bool => (bytes[0] != 0).into(),
        NumpyDtype::Int8 => i8::from_le_bytes(whole(bytes)).into(),
        NumpyDtype::Int16 => i16::from_le_bytes(whole(bytes)).into(),
        NumpyDtype::Int32 => i32::from_le_bytes(whole(bytes)).into(),
        NumpyDtype::Int64 => i64::from_le_bytes(whole(bytes)).into(),
        NumpyDtype::Uint8 => bytes[0].into(),
        NumpyDtype::Uint16 => u16::from_le_bytes(whole(bytes)).into(),
        NumpyDtype::Uint32 => u32::from_le_bytes(whole(bytes)).into(),
        NumpyDtype::Uint64 => u64::from_le_bytes(whole(bytes)).into(),
        NumpyDtype::Float16 => number(half(u16::from_le_bytes(whole(bytes)))),
        NumpyDtype::Float32 => number(f32::from_le_bytes(whole(bytes)).into()),
        NumpyDtype::Float64 => number(f64::from_le_bytes(whole(bytes))),
        NumpyDtype::Complex64 => {
            json!([element(NumpyDtype::Float32, &bytes[..4]), element(NumpyDtype::Float32, &bytes[4..])])
        }
        NumpyDtype::Complex128 => {
            json!([element(NumpyDtype::Float64, &bytes[..8]), element(NumpyDtype::Float64, &bytes[8..])])
        }
    }
}

fn whole<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("an element has as many bytes as its type")
}

/// JSON has no word for these, and readers lose the sign of nothing.
fn number(number: f64) -> Value {
    if number.is_nan() {
        "nan".into()
    } else if number.is_infinite() {
        if number > 0.0 { "inf".into() } else { "-inf".into() }
    } else if number == 0.0 && number.is_sign_negative() {
        "-0.0".into()
    } else {
        number.into()
    }
}

/// IEEE 754 binary16: a sign, 5 bits of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let fraction = f64::from(bits & 0x3ff) / 1_024.0;
    sign * match i32::from(bits >> 10 & 0x1f) {
        0 => fraction * 2.0_f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1.0 + fraction) * 2.0_f64.powi(exponent - 15),
    }
}
