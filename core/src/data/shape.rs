//! How many elements an array has along each dimension.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::DataError;

/// Elements along each dimension, outermost first; without dimensions, one scalar. Its elements can be addressed,
/// however large they are.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
pub struct Shape {
    dimensions: Box<[u64]>,
    elements: u64,
}

// === impl Shape ===

impl Shape {
    /// What every version of NumPy can hold; models rarely need more than 6.
    pub const MAX_RANK: usize = 32;
    /// Bytes of an array of the largest elements: what a signed offset reaches.
    pub const MAX_BYTES: u64 = i64::MAX as u64;
    /// The largest element is a complex number of two doubles.
    const MAX_ELEMENT_BYTES: u64 = 16;

    /// # Errors
    /// Too many dimensions, or more elements than can be addressed. Dimensions of 0 do not excuse that: an array that is
    /// empty has strides too.
    pub fn new(dimensions: impl Into<Vec<u64>>) -> Result<Self, DataError> {
        let dimensions = dimensions.into();
        if dimensions.len() > Self::MAX_RANK {
            return Err(DataError::Rank { rank: dimensions.len() });
        }
        let grown = |product: u64, next: &u64| product.checked_mul((*next).max(1));
        let product = dimensions.iter().try_fold(1_u64, grown);
        match product.filter(|product| *product <= Self::MAX_BYTES / Self::MAX_ELEMENT_BYTES) {
            Some(product) => {
                let elements = if dimensions.contains(&0) { 0 } else { product };
                Ok(Self { dimensions: dimensions.into(), elements })
            }
            None => Err(DataError::Elements { shape: dimensions }),
        }
    }

    /// Elements along each dimension.
    #[must_use]
    pub fn dimensions(&self) -> &[u64] {
        &self.dimensions
    }

    /// How many dimensions.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.dimensions.len()
    }

    /// Elements of all dimensions together.
    #[must_use]
    pub const fn elements(&self) -> u64 {
        self.elements
    }

    /// Bytes of all elements, at most [`Self::MAX_BYTES`].
    pub(super) const fn bytes_of(&self, element_bytes: u64) -> u64 {
        debug_assert!(element_bytes <= Self::MAX_ELEMENT_BYTES);
        self.elements * element_bytes
    }
}

impl TryFrom<Vec<u64>> for Shape {
    type Error = DataError;

    fn try_from(dimensions: Vec<u64>) -> Result<Self, DataError> {
        Self::new(dimensions)
    }
}

impl From<Shape> for Vec<u64> {
    fn from(shape: Shape) -> Self {
        shape.dimensions.into()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dimensions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted_without_overflow() {
        let check = |dimensions: &[u64], elements: u64| {
            assert_eq!(Shape::new(dimensions).unwrap().elements(), elements, "{dimensions:?}");
        };
        check(&[], 1);
        check(&[0], 0);
        check(&[3, 0, 5], 0);
        check(&[2, 3, 4], 24);
        check(&[1; Shape::MAX_RANK], 1);
        check(&[1 << 58], 1 << 58);
    }

    #[test]
    fn what_cannot_be_addressed_is_refused() {
        for dimensions in [vec![u64::MAX], vec![1 << 32, 1 << 32], vec![1 << 60], vec![0, u64::MAX, 2]] {
            let error = Shape::new(dimensions.clone()).unwrap_err();
            assert_eq!(error, DataError::Elements { shape: dimensions });
        }
        assert_eq!(Shape::new([1; 33]).unwrap_err().to_string(), "an array of 33 dimensions: at most 32");
    }
}
