//! Video: one picture, as raw pixels or as a codec left it.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::listed::listed;

/// One picture. Raw: the planes of its pixel format without padding. Encoded: one access unit, which may be empty
/// where an encoder dropped the picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Video {
    picture: Bytes,
    coding: PictureCoding,
    size: PictureSize,
    position: VideoPosition,
    keyframe: bool,
}

/// What the bytes of a picture are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PictureCoding {
    /// Pixels.
    Raw(PixelFormat),
    /// A bit stream.
    Encoded(VideoCodec),
}

listed! {
    /// How raw pixels lie in memory.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum PixelFormat {
        /// Packed R G B; 3 bytes a pixel.
        Rgb24,
        /// Packed R G B A; 4 bytes a pixel.
        Rgba32,
        /// Planes Y, U, V, the last two with one byte for each 2 x 2 pixels.
        Yuv420p,
        /// The same under the name that WebRTC uses.
        I420,
        /// Luma only; 1 byte a pixel.
        Gray8,
        /// Plane Y, then one of interleaved U and V, with one pair for each 2 x 2 pixels.
        Nv12,
    }
}

listed! {
    /// The compression of an encoded picture.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum VideoCodec {
        /// RFC 6386.
        Vp8,
        /// ITU-T H.264.
        H264,
        /// AOMedia Video 1.
        Av1,
    }
}

/// Width and height in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct PictureSize {
    width: u32,
    height: u32,
}

/// Where a picture belongs in its stream, as its source counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct VideoPosition {
    /// Pictures before it.
    pub frame_number: u64,
    /// Presentation time in microseconds, on the clock of its source.
    pub timestamp_us: u64,
}

// === impl Video ===

impl Video {
    /// # Errors
    /// Raw pixels that are not as many bytes as size and format say.
    pub fn new(
        picture: Bytes,
        coding: PictureCoding,
        size: PictureSize,
        position: VideoPosition,
    ) -> Result<Self, DataError> {
        match coding {
            PictureCoding::Raw(format) if picture.len() as u64 != format.bytes(size) => {
                let (bytes, expected) = (picture.len(), format.bytes(size));
                Err(DataError::PictureBytes { bytes, expected, size, format })
            }
            PictureCoding::Raw(_) | PictureCoding::Encoded(_) => {
                Ok(Self { picture, coding, size, position, keyframe: false })
            }
        }
    }

    /// The same picture, said to decode without any other, or not. Raw pixels always do, whatever is said.
    #[must_use]
    pub fn marked_keyframe(self, keyframe: bool) -> Self {
        Self { keyframe, ..self }
    }

    /// Pixels, or the bit stream.
    #[must_use]
    pub const fn picture(&self) -> &Bytes {
        &self.picture
    }

    /// Which of them.
    #[must_use]
    pub const fn coding(&self) -> PictureCoding {
        self.coding
    }

    /// Width and height.
    #[must_use]
    pub const fn size(&self) -> PictureSize {
        self.size
    }

    /// Where it belongs in its stream.
    #[must_use]
    pub const fn position(&self) -> VideoPosition {
        self.position
    }

    /// Whether its source said that it decodes without any other.
    #[must_use]
    pub const fn is_marked_keyframe(&self) -> bool {
        self.keyframe
    }
}

// === impl PixelFormat ===

impl PixelFormat {
    /// Bytes of a picture of this size. Where width or height are odd, the last chroma sample of a row or column
    /// stands for what there is.
    #[must_use]
    pub const fn bytes(self, size: PictureSize) -> u64 {
        let (width, height) = (size.width as u64, size.height as u64);
        let pixels = width * height;
        match self {
            Self::Rgb24 => pixels * 3,
            Self::Rgba32 => pixels * 4,
            Self::Gray8 => pixels,
            Self::Yuv420p | Self::I420 | Self::Nv12 => pixels + 2 * width.div_ceil(2) * height.div_ceil(2),
        }
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rgb24 => "RGB24",
            Self::Rgba32 => "RGBA32",
            Self::Yuv420p => "YUV420P",
            Self::I420 => "I420",
            Self::Gray8 => "GRAY8",
            Self::Nv12 => "NV12",
        })
    }
}

// === impl VideoCodec ===

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vp8 => "VP8",
            Self::H264 => "H264",
            Self::Av1 => "AV1",
        })
    }
}

// === impl PictureCoding ===

impl fmt::Display for PictureCoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(format) => format.fmt(f),
            Self::Encoded(codec) => codec.fmt(f),
        }
    }
}

// === impl PictureSize ===

impl PictureSize {
    /// The most that AV1, of all codecs here, can say.
    pub const MAX: u32 = 65_536;

    /// # Errors
    /// Width or height is 0, or above [`Self::MAX`].
    pub const fn new(width: u32, height: u32) -> Result<Self, DataError> {
        if width == 0 || height == 0 || width > Self::MAX || height > Self::MAX {
            return Err(DataError::PictureSize { width, height });
        }
        Ok(Self { width, height })
    }

    /// In pixels.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width
    }

    /// In pixels.
    #[must_use]
    pub const fn height(self) -> u32 {
        self.height
    }
}

impl TryFrom<(u32, u32)> for PictureSize {
    type Error = DataError;

    fn try_from((width, height): (u32, u32)) -> Result<Self, DataError> {
        Self::new(width, height)
    }
}

impl From<PictureSize> for (u32, u32) {
    fn from(size: PictureSize) -> Self {
        (size.width, size.height)
    }
}

impl fmt::Display for PictureSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_odd_size_has_chroma_for_its_last_row_and_column() {
        let check = |format: PixelFormat, width, height, bytes| {
            let size = PictureSize::new(width, height).unwrap();
            assert_eq!(format.bytes(size), bytes, "{size} in {format}");
        };
        for format in [PixelFormat::Yuv420p, PixelFormat::I420, PixelFormat::Nv12] {
            check(format, 1, 1, 3);
            check(format, 5, 3, 15 + 2 * 3 * 2);
            check(format, 1_920, 1_080, 3_110_400);
        }
        check(PixelFormat::Gray8, 5, 3, 15);
        check(PixelFormat::Rgb24, 5, 3, 45);
        check(PixelFormat::Rgba32, 1_920, 1_080, 8_294_400);
        check(PixelFormat::Rgba32, PictureSize::MAX, PictureSize::MAX, 1 << 34);
    }

    #[test]
    fn pixels_that_are_not_those_of_the_picture_are_refused() {
        let video = |bytes, coding| {
            let size = PictureSize::new(3, 3).unwrap();
            Video::new(vec![0; bytes].into(), coding, size, VideoPosition::default())
        };
        let nv12 = PictureCoding::Raw(PixelFormat::Nv12);
        assert!(video(17, nv12).is_ok());
        assert_eq!(
            video(13, nv12).unwrap_err().to_string(),
            "a picture of 3 x 3 pixels in NV12 has 17 bytes, got 13"
        );
        assert!(video(0, PictureCoding::Encoded(VideoCodec::Vp8)).is_ok());
        assert_eq!(
            PictureSize::new(0, 9).unwrap_err().to_string(),
            "a picture of 0 x 9 pixels: width and height are 1 to 65536"
        );
    }
}
