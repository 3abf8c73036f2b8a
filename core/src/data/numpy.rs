//! A NumPy array: elements with gaps and in any order.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::listed::listed;
use super::shape::Shape;

/// Little-endian elements of a NumPy array, where its strides put them.
///
/// Its bytes begin with the lowest element in memory, which is the array's first element unless a stride is negative,
/// and end with the highest: nothing before, nothing after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NumpyArray {
    bytes: Bytes,
    dtype: NumpyDtype,
    shape: Shape,
    strides: Vec<i64>,
    order: MemoryOrder,
}

listed! {
    /// The type of an array's elements.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(missing_docs, reason = "they are NumPy's names")]
    pub enum NumpyDtype {
        Bool,
        Int8,
        Int16,
        Int32,
        Int64,
        Uint8,
        Uint16,
        Uint32,
        Uint64,
        Float16,
        Float32,
        Float64,
        Complex64,
        Complex128,
    }
}

/// In which orders the elements lie without gaps, as far as the sender said: both, one or neither.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MemoryOrder {
    /// The last dimension varies fastest.
    pub c_contiguous: bool,
    /// The first dimension varies fastest.
    pub f_contiguous: bool,
}

// === impl NumpyArray ===

impl NumpyArray {
    /// Strides are in bytes, one for each dimension; without them the order says how the elements lie. An order that is
    /// declared has to be true; one that is not declared may be so all the same.
    ///
    /// # Errors
    /// Shape, strides, order and bytes do not fit each other.
    pub fn new(
        bytes: Bytes,
        dtype: NumpyDtype,
        shape: Shape,
        strides: Vec<i64>,
        order: MemoryOrder,
    ) -> Result<Self, DataError> {
        let array = Self { bytes, dtype, shape, strides, order };
        array.check()?;
        Ok(array)
    }

    /// The elements, and what lies between them.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The type of each element.
    #[must_use]
    pub const fn dtype(&self) -> NumpyDtype {
        self.dtype
    }

    /// Elements along each dimension.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bytes from one element to the next along each dimension, as they were given: perhaps none.
    #[must_use]
    pub fn given_strides(&self) -> &[i64] {
        &self.strides
    }

    /// Bytes from one element to the next along each dimension.
    #[must_use]
    pub fn strides(&self) -> Vec<i64> {
        if self.strides.len() == self.shape.rank() {
            self.strides.clone()
        } else if self.order.c_contiguous {
            c_strides(&self.shape, self.dtype)
        } else {
            f_strides(&self.shape, self.dtype)
        }
    }

    /// The orders that were declared.
    #[must_use]
    pub const fn order(&self) -> MemoryOrder {
        self.order
    }

    fn check(&self) -> Result<(), DataError> {
        let shape = || self.shape.clone();
        match self.strides.len() {
            given if given == self.shape.rank() => {}
            0 if self.order.c_contiguous || self.order.f_contiguous => {}
            0 => return Err(DataError::NoOrder { shape: shape() }),
            given => return Err(DataError::StrideCount { strides: given, shape: shape() }),
        }
        let strides = self.strides();
        if self.order.c_contiguous {
            self.check_order('C', &strides, c_strides(&self.shape, self.dtype))?;
        }
        if self.order.f_contiguous {
            self.check_order('F', &strides, f_strides(&self.shape, self.dtype))?;
        }
        let expected = span(&self.shape, &strides, self.dtype)
            .ok_or_else(|| DataError::Elements { shape: self.shape.dimensions().to_vec() })?;
        let is_apart = are_apart(&self.shape, &strides, self.dtype);
        let (bytes, dtype, strides) = (self.bytes.len(), self.dtype, strides.into());
        if !is_apart {
            return Err(DataError::SharedElements { shape: shape(), dtype, strides });
        }
        if bytes as u64 != expected {
            return Err(DataError::NumpyBytes { bytes, expected, shape: shape(), dtype, strides });
        }
        Ok(())
    }

    /// As NumPy sees it, the stride of a dimension in which nobody takes a step can be anything.
    fn check_order(&self, order: char, strides: &[i64], expected: Vec<i64>) -> Result<(), DataError> {
        let steps = self.shape.dimensions().iter().zip(strides.iter().zip(&expected));
        let fits = steps.into_iter().all(|(length, (given, right))| *length == 1 || given == right);
        if fits || self.shape.elements() == 0 {
            return Ok(());
        }
        Err(DataError::NotContiguous {
            order,
            shape: self.shape.clone(),
            dtype: self.dtype,
            strides: strides.into(),
            expected: expected.into(),
        })
    }
}

/// From the first byte of the lowest element to the last of the highest; none if that cannot be addressed.
fn span(shape: &Shape, strides: &[i64], dtype: NumpyDtype) -> Option<u64> {
    if shape.elements() == 0 {
        return Some(0);
    }
    let reach = shape.dimensions().iter().zip(strides);
    let reach = reach.map(|(length, stride)| (length - 1).checked_mul(stride.unsigned_abs()));
    let reach = reach.into_iter().try_fold(dtype.bytes() as u64, |span, reach| span.checked_add(reach?));
    reach.filter(|span| *span <= Shape::MAX_BYTES)
}

/// Whether each step along a dimension leads past all that lies within it. So it is in every slice of an array whose
/// elements lie one after the other. Strides that interleave what lies within two steps are refused too, though
/// elements might miss each other: nobody gets them by slicing, and to tell them apart can take as long as one likes.
fn are_apart(shape: &Shape, strides: &[i64], dtype: NumpyDtype) -> bool {
    let steps = shape.dimensions().iter().zip(strides).filter(|(length, _)| **length > 1);
    let mut steps: Vec<(u64, u64)> = steps.map(|(length, step)| (step.unsigned_abs(), *length)).collect();
    steps.sort_unstable();
    // Within what can be addressed, as has been seen.
    let mut within = dtype.bytes() as u64;
    shape.elements() == 0
        || steps.into_iter().all(|(step, length)| {
            let is_apart = step >= within;
            within = within.saturating_add((length - 1).saturating_mul(step));
            is_apart
        })
}

fn c_strides(shape: &Shape, dtype: NumpyDtype) -> Vec<i64> {
    let mut strides = gapless(shape.dimensions().iter().rev(), dtype);
    strides.reverse();
    strides
}

fn f_strides(shape: &Shape, dtype: NumpyDtype) -> Vec<i64> {
    gapless(shape.dimensions().iter(), dtype)
}

/// The strides of these dimensions, given with the fastest first. A shape's bytes are within `i64`, so they are too.
fn gapless<'a>(dimensions: impl Iterator<Item = &'a u64>, dtype: NumpyDtype) -> Vec<i64> {
    let mut next = dtype.bytes() as u64;
    let stride = |length: &u64| {
        let stride = i64::try_from(next).unwrap_or(i64::MAX);
        next = next.saturating_mul((*length).max(1));
        stride
    };
    dimensions.map(stride).collect()
}

// === impl NumpyDtype ===

impl NumpyDtype {
    /// # Errors
    /// Not one of the names in [`Self::ALL`].
    pub fn of_name(name: &str) -> Result<Self, DataError> {
        let named = Self::ALL.into_iter().find(|dtype| dtype.name() == name);
        named.ok_or_else(|| DataError::NumpyDtype { dtype: name.chars().take(100).collect() })
    }

    /// As NumPy writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Float16 => "float16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Complex64 => "complex64",
            Self::Complex128 => "complex128",
        }
    }

    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::Int8 | Self::Uint8 => 1,
            Self::Int16 | Self::Uint16 | Self::Float16 => 2,
            Self::Int32 | Self::Uint32 | Self::Float32 => 4,
            Self::Int64 | Self::Uint64 | Self::Float64 | Self::Complex64 => 8,
            Self::Complex128 => 16,
        }
    }

    pub(super) fn list() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for NumpyDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEITHER: MemoryOrder = MemoryOrder { c_contiguous: false, f_contiguous: false };
    const C: MemoryOrder = MemoryOrder { c_contiguous: true, f_contiguous: false };
    const F: MemoryOrder = MemoryOrder { c_contiguous: false, f_contiguous: true };
    const BOTH: MemoryOrder = MemoryOrder { c_contiguous: true, f_contiguous: true };

    fn array(
        bytes: usize,
        shape: &[u64],
        strides: &[i64],
        order: MemoryOrder,
    ) -> Result<NumpyArray, DataError> {
        let shape = Shape::new(shape).unwrap();
        NumpyArray::new(vec![0; bytes].into(), NumpyDtype::Int16, shape, strides.to_vec(), order)
    }

    #[test]
    fn arrays_of_any_strides_are_taken() {
        let check = |bytes, shape: &[u64], strides: &[i64], order, expect: &[i64]| {
            assert_eq!(array(bytes, shape, strides, order).unwrap().strides(), expect);
        };
        check(2, &[], &[], NEITHER, &[]);
        check(2, &[], &[], BOTH, &[]);
        check(12, &[2, 3], &[6, 2], C, &[6, 2]);
        check(12, &[2, 3], &[6, 2], NEITHER, &[6, 2]);
        check(12, &[2, 3], &[2, 4], F, &[2, 4]);
        check(12, &[2, 3], &[], C, &[6, 2]);
        check(12, &[2, 3], &[], F, &[2, 4]);
        // Every second element of every third row, the rows backwards.
        check(54, &[2, 3], &[-36, 8], NEITHER, &[-36, 8]);
        // Every second element, backwards.
        check(10, &[3], &[-4], NEITHER, &[-4]);
        // A column, of which nobody takes a second step sideways.
        check(6, &[3, 1], &[2, 77], BOTH, &[2, 77]);
        check(0, &[3, 0], &[99, 7], BOTH, &[99, 7]);
    }

    #[test]
    fn arrays_that_are_not_what_they_claim_are_refused() {
        let check = |bytes, shape: &[u64], strides: &[i64], order, expect: &str| {
            assert_eq!(array(bytes, shape, strides, order).unwrap_err().to_string(), expect);
        };
        check(
            11,
            &[2, 3],
            &[6, 2],
            C,
            "an array of shape [2, 3] in int16 with strides [6, 2] spans 12 bytes, got 11",
        );
        check(
            12,
            &[2, 3],
            &[2, 4],
            C,
            "an array of shape [2, 3] in int16 with strides [2, 4] is declared C-contiguous and is not: the strides would be [6, 2]",
        );
        check(
            12,
            &[2, 3],
            &[6],
            NEITHER,
            "an array of shape [2, 3] has 1 strides: one for each dimension, or none if it is C- or F-contiguous",
        );
        check(
            12,
            &[2, 3],
            &[],
            NEITHER,
            "an array of shape [2, 3] has neither strides nor an order: give strides, or set c_contiguous or f_contiguous",
        );
        check(
            2,
            &[1_000_000],
            &[0],
            NEITHER,
            "the elements of an array of shape [1000000] in int16 share bytes or interleave (strides [0]): send a copy without gaps",
        );
        check(
            10,
            &[2, 2],
            &[4, 4],
            NEITHER,
            "the elements of an array of shape [2, 2] in int16 share bytes or interleave (strides [4, 4]): send a copy without gaps",
        );
        check(
            16,
            &[3, 2],
            &[4, -6],
            NEITHER,
            "the elements of an array of shape [3, 2] in int16 share bytes or interleave (strides [4, -6]): send a copy without gaps",
        );
        check(
            2,
            &[2],
            &[i64::MIN],
            NEITHER,
            "an array of shape [2] has more bytes than can be addressed: at most 9223372036854775807",
        );
    }

    #[test]
    fn a_dtype_that_is_not_processed_is_answered_with_those_that_are() {
        let error = NumpyDtype::of_name("<U10").unwrap_err().to_string();
        assert!(error.starts_with("numpy dtype '<U10' is not supported: one of bool, int8,"), "{error}");
        assert!(NumpyDtype::ALL.into_iter().all(|dtype| NumpyDtype::of_name(dtype.name()) == Ok(dtype)));
    }
}
