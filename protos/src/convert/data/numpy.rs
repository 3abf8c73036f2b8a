//! `NumpyBuffer` ⇄ [`NumpyArray`].

use remotemedia_core::data::{DataError, MemoryOrder, NumpyArray, NumpyDtype, Shape};

use crate::v1::NumpyBuffer;

pub(super) fn from_wire(buffer: NumpyBuffer) -> Result<NumpyArray, DataError> {
    let NumpyBuffer { data, shape, dtype, strides, c_contiguous, f_contiguous } = buffer;
    let dtype = NumpyDtype::of_name(&dtype)?;
    NumpyArray::new(data, dtype, Shape::new(shape)?, strides, MemoryOrder { c_contiguous, f_contiguous })
}

pub(super) fn to_wire(array: &NumpyArray) -> NumpyBuffer {
    let MemoryOrder { c_contiguous, f_contiguous } = array.order();
    NumpyBuffer {
        data: array.bytes().clone(),
        shape: array.shape().dimensions().to_vec(),
        dtype: array.dtype().name().to_owned(),
        strides: array.given_strides().to_vec(),
        c_contiguous,
        f_contiguous,
    }
}
