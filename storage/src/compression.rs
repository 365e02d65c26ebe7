//! The four codecs of Kafka record batches, compatible with the Java client's streams.
//!
//! | codec  | stream                                                                                     |
//! |--------|--------------------------------------------------------------------------------------------|
//! | gzip   | RFC 1952, one or several members                                                           |
//! | snappy | written in snappy-java's framing (drawn below), read in that framing or as one raw block   |
//! | lz4    | LZ4 frame, independent blocks of 64 KiB, no checksums, as `KafkaLZ4BlockOutputStream`       |
//! | zstd   | zstandard frames                                                                           |
//!
//! ```text
//! snappy-java ("xerial") framing, big-endian
//! +---------------------------+-----------+------------+   +--------+----------------+
//! | 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version 1 | compatible 1 | { | length | raw snappy block } ...
//! |         8 bytes           |  4 bytes  |  4 bytes   |   |4 bytes | length bytes   |
//! +---------------------------+-----------+------------+   +--------+----------------+
//! ```
//!
//! Decompression never yields more than the caller's limit: a small batch may claim to hold gigabytes.

use std::fmt;
use std::io::{Read, Write};
use std::ops::RangeInclusive;

/// How the records of a batch are compressed; the discriminants are the attribute bits 0 to 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Records lie in the batch as they are.
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy, in snappy-java's framing or raw.
    Snappy = 2,
    /// LZ4 frame.
    Lz4 = 3,
    /// Zstandard (KIP-110).
    Zstd = 4,
}

impl Codec {
    /// Every codec, in the order of its id.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec with this id, `None` for the ids 5 to 7 that Kafka has not given out.
    pub fn from_id(id: u8) -> Option<Codec> {
        Codec::ALL.get(usize::from(id)).copied()
    }

    /// The name that `compression.type` uses (`uncompressed` for [`Codec::None`] is the topic option's word;
    /// `none` is the producers').
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The levels that Kafka's `compression.<codec>.level` accepts (KIP-390). A single value where the codec
    /// has no levels.
    pub fn levels(self) -> RangeInclusive<i32> {
        match self {
            Codec::None | Codec::Snappy => 0..=0,
            Codec::Gzip => -1..=9,
            Codec::Lz4 => 1..=17,
            Codec::Zstd => -131_072..=22,
        }
    }

    /// The level that Kafka uses where none is set.
    pub fn default_level(self) -> i32 {
        match self {
            Codec::None | Codec::Snappy => 0,
            Codec::Gzip => -1,
            Codec::Lz4 => 9,
            Codec::Zstd => 3,
        }
    }
}

/// Why compressed bytes could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// The decompressed size exceeds the limit, in bytes, that the caller set.
    TooLarge(usize),
    /// The bytes are not a stream of this codec; the text says what the codec's library found.
    Damaged(Codec, String),
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecompressError::TooLarge(limit) => write!(f, "decompresses to more than {limit} bytes"),
            DecompressError::Damaged(codec, why) => write!(f, "not a {} stream: {why}", codec.name()),
        }
    }
}

impl std::error::Error for DecompressError {}

/// First bytes of a stream in snappy-java's framing.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Version and lowest compatible version, both 1, big-endian.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes in one block of the framing, snappy-java's default.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// The best that snappy can do: 64 bytes from an element of three bytes. A block that claims more is damaged,
/// and is refused before anything is allocated for it.
const SNAPPY_MAX_RATIO: usize = 64 / 3 + 1;

/// Compresses `bytes`. `level` must be one of [`Codec::levels`]; lz4 has one speed only here, whatever the
/// level.
///
/// # Panics
/// When the level is not one of the codec's: options are checked where they are set.
pub fn compress(codec: Codec, level: i32, bytes: &[u8]) -> Vec<u8> {
    assert!(codec.levels().contains(&level), "level {level} is not one of {}'s", codec.name());
    match codec {
        Codec::None => bytes.to_vec(),
        Codec::Gzip => {
            let level = match u32::try_from(level) {
                Ok(level) => flate2::Compression::new(level),
                Err(_) => flate2::Compression::default(),
            };
            let mut out = flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 2), level);
            out.write_all(bytes).expect("writing to memory does not fail");
            out.finish().expect("writing to memory does not fail")
        }
        Codec::Snappy => compress_xerial(bytes),
        Codec::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let out = Vec::with_capacity(bytes.len() / 2);
            let mut out = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
            out.write_all(bytes).expect("writing to memory does not fail");
            out.finish().expect("writing to memory does not fail")
        }
        Codec::Zstd => zstd::bulk::compress(bytes, level).expect("a level in bounds and enough room"),
    }
}

/// Opens compressed `bytes`; at most `limit` bytes come out.
///
/// # Errors
/// When the bytes are not such a stream, or hold more than `limit` bytes. Memory in use stays within a small
/// multiple of the limit and the codec's window, whatever the stream claims.
pub fn decompress(codec: Codec, bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    match codec {
        Codec::None if bytes.len() > limit => Err(DecompressError::TooLarge(limit)),
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => read_all(codec, flate2::bufread::MultiGzDecoder::new(bytes), bytes.len(), limit),
        Codec::Snappy if bytes.starts_with(&XERIAL_MAGIC) => decompress_xerial(bytes, limit),
        Codec::Snappy => {
            let mut out = Vec::new();
            snappy_block(bytes, &mut out, limit)?;
            Ok(out)
        }
        Codec::Lz4 => read_all(codec, lz4_flex::frame::FrameDecoder::new(bytes), bytes.len(), limit),
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| damaged(codec, e))?;
            read_all(codec, decoder, bytes.len(), limit)
        }
    }
}

fn damaged(codec: Codec, why: impl fmt::Display) -> DecompressError {
    DecompressError::Damaged(codec, why.to_string())
}

/// Reads a decoder to its end, one byte beyond the limit at most.
fn read_all(codec: Codec, decoder: impl Read, from: usize, limit: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::with_capacity(from.saturating_mul(3).min(limit));
    let most = u64::try_from(limit).map_or(u64::MAX, |limit| limit.saturating_add(1));
    decoder.take(most).read_to_end(&mut out).map_err(|e| damaged(codec, e))?;
    if out.len() > limit {
        return Err(DecompressError::TooLarge(limit));
    }
    Ok(out)
}

fn compress_xerial(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + bytes.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
        let start = out.len() + 4;
        out.resize(start + snap::raw::max_compress_len(block.len()), 0);
        let written =
            encoder.compress(block, &mut out[start..]).expect("the room is the codec's own maximum");
        let length = u32::try_from(written).expect("a block is 32 KiB");
        out[start - 4..start].copy_from_slice(&length.to_be_bytes());
        out.truncate(start + written);
    }
    out
}

fn decompress_xerial(mut bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        // Streams may follow one another, each with its header, as snappy-java reads them.
        if bytes.starts_with(&XERIAL_MAGIC) {
            let header = XERIAL_MAGIC.len() + XERIAL_VERSIONS.len();
            bytes = bytes.get(header..).ok_or_else(|| damaged(Codec::Snappy, "header cut short"))?;
            continue;
        }
        let (length, rest) =
            bytes.split_first_chunk::<4>().ok_or_else(|| damaged(Codec::Snappy, "block length cut short"))?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (block, rest) =
            rest.split_at_checked(length).ok_or_else(|| damaged(Codec::Snappy, "block cut short"))?;
        snappy_block(block, &mut out, limit)?;
        bytes = rest;
    }
    Ok(out)
}

/// Appends one raw block to `out`, which may grow to `limit` in all.
fn snappy_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), DecompressError> {
    let claimed = snap::raw::decompress_len(block).map_err(|e| damaged(Codec::Snappy, e))?;
    if claimed > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(damaged(Codec::Snappy, "claims more than snappy can compress"));
    }
    let start = out.len();
    if claimed > limit - start {
        return Err(DecompressError::TooLarge(limit));
    }
    out.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|e| damaged(Codec::Snappy, e))?;
    out.truncate(start + written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1 << 20;

    /// Bytes that compress well in parts, so that every codec finds matches and literals.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec((any::<u8>(), 1usize..2_000), 0..60).prop_map(|runs| {
            runs.into_iter().flat_map(|(byte, n)| (0..n).map(move |i| byte ^ (i as u8 & 3))).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(bytes in payload()) {
            for codec in Codec::ALL {
                let packed = compress(codec, codec.default_level(), &bytes);
                let opened = decompress(codec, &packed, bytes.len());
                prop_assert_eq!(opened.as_ref(), Ok(&bytes), "{:?}", codec);
            }
        }

        #[test]
        fn the_limit_holds_to_the_byte(bytes in payload()) {
            prop_assume!(!bytes.is_empty());
            for codec in Codec::ALL {
                let packed = compress(codec, codec.default_level(), &bytes);
                let limit = bytes.len() - 1;
                prop_assert_eq!(decompress(codec, &packed, limit), Err(DecompressError::TooLarge(limit)));
            }
        }

        #[test]
        fn garbage_is_an_error_or_stays_in_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for codec in Codec::ALL {
                if let Ok(out) = decompress(codec, &bytes, 1_000) {
                    prop_assert!(out.len() <= 1_000);
                }
            }
        }

        #[test]
        fn a_changed_stream_never_panics(bytes in payload(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            for codec in Codec::ALL {
                let mut packed = compress(codec, codec.default_level(), &bytes);
                if !packed.is_empty() {
                    let at = at.index(packed.len());
                    packed[at] ^= flip;
                }
                if let Ok(out) = decompress(codec, &packed, LIMIT) {
                    prop_assert!(out.len() <= LIMIT);
                }
            }
        }
    }

    #[test]
    fn every_level_is_accepted_and_opens() {
        let bytes: Vec<u8> = (0..5_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for codec in Codec::ALL {
            let levels = codec.levels();
            for level in [*levels.start(), *levels.end(), codec.default_level()] {
                let packed = compress(codec, level, &bytes);
                assert_eq!(decompress(codec, &packed, LIMIT).as_ref(), Ok(&bytes), "{codec:?} {level}");
            }
        }
    }

    #[test]
    fn a_higher_gzip_level_compresses_more() {
        let bytes: Vec<u8> = (0..20_000u32).flat_map(|i| (i.wrapping_mul(i) % 977).to_le_bytes()).collect();
        assert!(compress(Codec::Gzip, 9, &bytes).len() < compress(Codec::Gzip, 1, &bytes).len());
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let bytes = b"raw snappy, as librdkafka and kafka-python may send it".repeat(9);
        let packed = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        assert_eq!(decompress(Codec::Snappy, &packed, LIMIT), Ok(bytes));
    }

    #[test]
    fn xerial_streams_may_follow_one_another() {
        let mut packed = compress(Codec::Snappy, 0, b"one, ");
        packed.extend(compress(Codec::Snappy, 0, b"two"));
        assert_eq!(decompress(Codec::Snappy, &packed, LIMIT).as_deref(), Ok(b"one, two".as_slice()));
    }

    #[test]
    fn a_stream_starts_with_snappy_javas_header() {
        // As in the batch that Kafka wrote (batch/kafka_answers.rs); each block has its length before it.
        let packed = compress(Codec::Snappy, 0, &[b'a'; XERIAL_BLOCK_BYTES + 1]);
        let header = [0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        assert_eq!(packed[..16], header);
        let first = usize::try_from(u32::from_be_bytes(*packed[16..].first_chunk().unwrap())).unwrap();
        assert_eq!(snap::raw::decompress_len(&packed[20..20 + first]), Ok(XERIAL_BLOCK_BYTES));
        assert_eq!(snap::raw::decompress_len(&packed[24 + first..]), Ok(1));
    }

    #[test]
    fn several_gzip_members_are_one_stream() {
        let mut packed = compress(Codec::Gzip, -1, b"one, ");
        packed.extend(compress(Codec::Gzip, -1, b"two"));
        assert_eq!(decompress(Codec::Gzip, &packed, LIMIT).as_deref(), Ok(b"one, two".as_slice()));
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = vec![0u8; 64 << 20];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let packed = compress(codec, codec.default_level(), &bomb);
            assert_eq!(decompress(codec, &packed, LIMIT), Err(DecompressError::TooLarge(LIMIT)), "{codec:?}");
        }
    }

    #[test]
    fn a_snappy_block_that_claims_gigabytes_is_refused_before_allocation() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, b'a'];
        assert!(matches!(
            decompress(Codec::Snappy, &claim, usize::MAX),
            Err(DecompressError::Damaged(Codec::Snappy, _))
        ));
    }
}
