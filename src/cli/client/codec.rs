//! Compression of record batches, as Kafka frames each codec. Decompression is bounded.

use std::io::{self, Read, Write};

use clap::ValueEnum;

/// Largest size that one batch may have when it is unpacked.
pub const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// Codec of a record batch: the lowest three bits of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// As they are.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in xerial's frame, as Java writes them.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

/// Head of xerial's frame: magic, version 1, readable from version 1.
const XERIAL: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Block size of xerial's frame, as Java's default.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

impl Codec {
    /// The codec of a batch with these attributes.
    pub fn of_attributes(attributes: i16) -> Option<Codec> {
        Some(match attributes & 7 {
            0 => Codec::None,
            1 => Codec::Gzip,
            2 => Codec::Snappy,
            3 => Codec::Lz4,
            4 => Codec::Zstd,
            _ => return None,
        })
    }

    /// Its bits in the attributes of a batch.
    pub fn attribute(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// Packs the records of a batch.
    pub fn compress(self, records: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Codec::None => Ok(records.to_vec()),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(records)?;
                encoder.finish()
            }
            Codec::Snappy => compress_xerial(records),
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(records)?;
                encoder.finish().map_err(io::Error::other)
            }
            Codec::Zstd => zstd::stream::encode_all(records, zstd::DEFAULT_COMPRESSION_LEVEL),
        }
    }

    /// Unpacks the records of a batch, refusing what grows over [`UNPACKED_BYTES_MAX`].
    pub fn decompress(self, packed: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Codec::None => Ok(packed.to_vec()),
            Codec::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(packed)),
            Codec::Snappy => decompress_snappy(packed),
            Codec::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(packed)),
            Codec::Zstd => read_bounded(zstd::stream::Decoder::new(packed)?),
        }
    }
}

fn read_bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(UNPACKED_BYTES_MAX as u64 + 1).read_to_end(&mut out)?;
    if out.len() > UNPACKED_BYTES_MAX { Err(too_large()) } else { Ok(out) }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a batch unpacks to over {UNPACKED_BYTES_MAX} bytes"))
}

fn compress_xerial(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = XERIAL.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(io::Error::other)?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

/// librdkafka writes one bare block, Java blocks in xerial's frame.
fn decompress_snappy(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if packed.get(..8) != Some(&XERIAL[..8]) {
        snappy_block(packed, &mut out)?;
        return Ok(out);
    }
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "a snappy batch is cut short");
    let mut rest = packed.get(XERIAL.len()..).ok_or_else(cut)?;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = u32::from_be_bytes(*length) as usize;
        snappy_block(tail.get(..length).ok_or_else(cut)?, &mut out)?;
        rest = &tail[length..];
    }
    Ok(out)
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let size = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    let from = out.len();
    if from + size > UNPACKED_BYTES_MAX {
        return Err(too_large());
    }
    out.resize(from + size, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[from..]).map_err(io::Error::other)?;
    out.truncate(from + written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    #[test]
    fn bits_and_codecs_are_one_to_one() {
        for codec in ALL {
            assert_eq!(Codec::of_attributes(codec.attribute() | 0x18), Some(codec));
        }
        assert_eq!(Codec::of_attributes(5), None);
    }

    #[test]
    fn both_snappy_forms_are_read() {
        let text = b"hello hello hello hello".repeat(5_000);
        let bare = snap::raw::Encoder::new().compress_vec(&text).unwrap();
        assert_eq!(Codec::Snappy.decompress(&bare).unwrap(), text);
        let framed = Codec::Snappy.compress(&text).unwrap();
        assert_eq!(framed[..8], *b"\x82SNAPPY\0");
        assert_eq!(Codec::Snappy.decompress(&framed).unwrap(), text);
        assert!(Codec::Snappy.decompress(&framed[..framed.len() - 1]).is_err());
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = Codec::Zstd.compress(&vec![0; UNPACKED_BYTES_MAX + 1]).unwrap();
        assert!(bomb.len() < 1 << 20);
        assert!(Codec::Zstd.decompress(&bomb).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_goes_in_comes_out(data in proptest::collection::vec(any::<u8>(), 0..100_000)) {
            for codec in ALL {
                prop_assert_eq!(&codec.decompress(&codec.compress(&data).unwrap()).unwrap(), &data);
            }
        }

        #[test]
        fn garbage_is_an_error_not_a_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            for codec in ALL {
                let _ = codec.decompress(&data);
            }
        }
    }
}
