//! A tensor: a dense array of numbers of one type.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::listed::listed;
use super::shape::Shape;

/// Little-endian elements without gaps, the last dimension varying fastest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tensor {
    elements: Bytes,
    dtype: TensorDtype,
    shape: Shape,
    layout: String,
}

listed! {
    /// The type of a tensor's elements.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum TensorDtype {
        /// IEEE 754 single precision.
        F32,
        /// IEEE 754 half precision.
        F16,
        /// Signed 32 bits.
        I32,
        /// Signed 8 bits.
        I8,
        /// Unsigned 8 bits.
        U8,
    }
}

// === impl Tensor ===

impl Tensor {
    /// An empty `layout` means that nothing is said of what the dimensions stand for.
    ///
    /// # Errors
    /// The bytes are not as many as shape and type say.
    pub fn new(
        elements: Bytes,
        dtype: TensorDtype,
        shape: Shape,
        layout: impl Into<String>,
    ) -> Result<Self, DataError> {
        let (bytes, expected) = (elements.len(), shape.bytes_of(dtype.bytes() as u64));
        if bytes as u64 != expected {
            return Err(DataError::TensorBytes { bytes, expected, shape, dtype });
        }
        Ok(Self { elements, dtype, shape, layout: layout.into() })
    }

    /// The elements as bytes.
    #[must_use]
    pub const fn elements(&self) -> &Bytes {
        &self.elements
    }

    /// The type of each element.
    #[must_use]
    pub const fn dtype(&self) -> TensorDtype {
        self.dtype
    }

    /// Elements along each dimension.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the dimensions stand for, such as `NCHW`, or nothing.
    #[must_use]
    pub fn layout(&self) -> &str {
        &self.layout
    }
}

// === impl TensorDtype ===

impl TensorDtype {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }
}

impl fmt::Display for TensorDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I32 => "i32",
            Self::I8 => "i8",
            Self::U8 => "u8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_as_many_as_the_shape_says() {
        let tensor = |bytes, dtype, shape: &[u64]| {
            Tensor::new(vec![0; bytes].into(), dtype, Shape::new(shape).unwrap(), "")
        };
        assert!(tensor(24, TensorDtype::F32, &[2, 3]).is_ok());
        assert!(tensor(2, TensorDtype::F16, &[]).is_ok());
        assert!(tensor(0, TensorDtype::I8, &[7, 0]).is_ok());
        assert_eq!(
            tensor(23, TensorDtype::F32, &[2, 3]).unwrap_err().to_string(),
            "a tensor of shape [2, 3] in f32 has 24 bytes, got 23"
        );
    }
}
