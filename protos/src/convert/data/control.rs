//! `ControlMessage` ⇄ [`Control`].

use remotemedia_core::data::{Control, ControlWord, DataError};

use crate::v1::control_message::MessageType;
use crate::v1::{BatchHint, CancelSpeculation, ControlMessage, DeadlineWarning};

pub(super) fn from_wire(message: ControlMessage) -> Result<Control, DataError> {
    let word = match message.message_type.ok_or(DataError::NoControl)? {
        MessageType::CancelSpeculation(CancelSpeculation { from_timestamp: from, to_timestamp: to }) => {
            ControlWord::CancelSpeculation { from, to }
        }
        MessageType::BatchHint(BatchHint { suggested_batch_size: pieces }) => {
            ControlWord::BatchHint { pieces }
        }
        MessageType::DeadlineWarning(DeadlineWarning { deadline_us: left_us }) => {
            ControlWord::DeadlineWarning { left_us }
        }
    };
    let mut control = Control::new(word)?.annotated(message.metadata)?;
    control.segment_id = message.segment_id;
    control.timestamp_ms = message.timestamp_ms;
    Ok(control)
}

pub(super) fn to_wire(control: Control) -> ControlMessage {
    let message_type = match control.word() {
        ControlWord::CancelSpeculation { from, to } => {
            MessageType::CancelSpeculation(CancelSpeculation { from_timestamp: from, to_timestamp: to })
        }
        ControlWord::BatchHint { pieces } => {
            MessageType::BatchHint(BatchHint { suggested_batch_size: pieces })
        }
        ControlWord::DeadlineWarning { left_us } => {
            MessageType::DeadlineWarning(DeadlineWarning { deadline_us: left_us })
        }
    };
    ControlMessage {
        message_type: Some(message_type),
        metadata: control.annotations().to_owned(),
        segment_id: control.segment_id,
        timestamp_ms: control.timestamp_ms,
    }
}
