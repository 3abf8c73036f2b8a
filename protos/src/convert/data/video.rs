//! `VideoFrame` ⇄ [`Video`].

use remotemedia_core::data::{
    DataError, PictureCoding, PictureSize, PixelFormat, Video, VideoCodec, VideoPosition,
};

use crate::v1::{self, VideoFrame};

pub(super) fn from_wire(frame: VideoFrame) -> Result<Video, DataError> {
    let coding = coding_from_wire(frame.format, frame.codec)?;
    let size = PictureSize::new(frame.width, frame.height)?;
    let position = VideoPosition { frame_number: frame.frame_number, timestamp_us: frame.timestamp_us };
    Ok(Video::new(frame.pixel_data, coding, size, position)?.marked_keyframe(frame.is_keyframe))
}

pub(super) fn to_wire(video: &Video) -> VideoFrame {
    let (format, codec) = coding_to_wire(video.coding());
    let VideoPosition { frame_number, timestamp_us } = video.position();
    VideoFrame {
        pixel_data: video.picture().clone(),
        width: video.size().width(),
        height: video.size().height(),
        format: format.into(),
        frame_number,
        timestamp_us,
        codec: codec.into(),
        is_keyframe: video.is_marked_keyframe(),
    }
}

fn coding_from_wire(format: i32, codec: i32) -> Result<PictureCoding, DataError> {
    use v1::PixelFormat::{Encoded, Gray8, I420, Nv12, Rgb24, Rgba32, Unspecified, Yuv420p};
    let codec = codec_from_wire(codec)?;
    let raw = match v1::PixelFormat::try_from(format) {
        Ok(Rgb24) => PixelFormat::Rgb24,
        Ok(Rgba32) => PixelFormat::Rgba32,
        Ok(Yuv420p) => PixelFormat::Yuv420p,
        Ok(Gray8) => PixelFormat::Gray8,
        Ok(I420) => PixelFormat::I420,
        Ok(Nv12) => PixelFormat::Nv12,
        Ok(Encoded) => return codec.map(PictureCoding::Encoded).ok_or(DataError::NoCodec),
        Ok(Unspecified) | Err(_) => return Err(DataError::PixelFormat { number: format }),
    };
    match codec {
        None => Ok(PictureCoding::Raw(raw)),
        Some(codec) => Err(DataError::CodecOfPixels { format: raw, codec }),
    }
}

/// None is what raw pixels have.
fn codec_from_wire(number: i32) -> Result<Option<VideoCodec>, DataError> {
    match v1::VideoCodec::try_from(number) {
        Ok(v1::VideoCodec::Unspecified) => Ok(None),
        Ok(v1::VideoCodec::Vp8) => Ok(Some(VideoCodec::Vp8)),
        Ok(v1::VideoCodec::H264) => Ok(Some(VideoCodec::H264)),
        Ok(v1::VideoCodec::Av1) => Ok(Some(VideoCodec::Av1)),
        Err(_) => Err(DataError::VideoCodec { number }),
    }
}

const fn coding_to_wire(coding: PictureCoding) -> (v1::PixelFormat, v1::VideoCodec) {
    match coding {
        PictureCoding::Raw(format) => (format_to_wire(format), v1::VideoCodec::Unspecified),
        PictureCoding::Encoded(codec) => (v1::PixelFormat::Encoded, codec_to_wire(codec)),
    }
}

const fn format_to_wire(format: PixelFormat) -> v1::PixelFormat {
    match format {
        PixelFormat::Rgb24 => v1::PixelFormat::Rgb24,
        PixelFormat::Rgba32 => v1::PixelFormat::Rgba32,
        PixelFormat::Yuv420p => v1::PixelFormat::Yuv420p,
        PixelFormat::I420 => v1::PixelFormat::I420,
        PixelFormat::Gray8 => v1::PixelFormat::Gray8,
        PixelFormat::Nv12 => v1::PixelFormat::Nv12,
    }
}

const fn codec_to_wire(codec: VideoCodec) -> v1::VideoCodec {
    match codec {
        VideoCodec::Vp8 => v1::VideoCodec::Vp8,
        VideoCodec::H264 => v1::VideoCodec::H264,
        VideoCodec::Av1 => v1::VideoCodec::Av1,
    }
}
