//! `TensorBuffer` ⇄ [`Tensor`].

use remotemedia_core::data::{DataError, Shape, Tensor, TensorDtype};

use crate::v1::{self, TensorBuffer};

pub(super) fn from_wire(buffer: TensorBuffer) -> Result<Tensor, DataError> {
    let dtype = dtype_from_wire(buffer.dtype)?;
    Tensor::new(buffer.data, dtype, Shape::new(buffer.shape)?, buffer.layout)
}

pub(super) fn to_wire(tensor: &Tensor) -> TensorBuffer {
    TensorBuffer {
        data: tensor.elements().clone(),
        shape: tensor.shape().dimensions().to_vec(),
        dtype: dtype_to_wire(tensor.dtype()).into(),
        layout: tensor.layout().to_owned(),
    }
}

fn dtype_from_wire(number: i32) -> Result<TensorDtype, DataError> {
    match v1::TensorDtype::try_from(number) {
        Ok(v1::TensorDtype::F32) => Ok(TensorDtype::F32),
        Ok(v1::TensorDtype::F16) => Ok(TensorDtype::F16),
        Ok(v1::TensorDtype::I32) => Ok(TensorDtype::I32),
        Ok(v1::TensorDtype::I8) => Ok(TensorDtype::I8),
        Ok(v1::TensorDtype::U8) => Ok(TensorDtype::U8),
        Ok(v1::TensorDtype::Unspecified) | Err(_) => Err(DataError::TensorDtype { number }),
    }
}

const fn dtype_to_wire(dtype: TensorDtype) -> v1::TensorDtype {
    match dtype {
        TensorDtype::F32 => v1::TensorDtype::F32,
        TensorDtype::F16 => v1::TensorDtype::F16,
        TensorDtype::I32 => v1::TensorDtype::I32,
        TensorDtype::I8 => v1::TensorDtype::I8,
        TensorDtype::U8 => v1::TensorDtype::U8,
    }
}
