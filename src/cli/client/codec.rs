//! Compression of record batches, as options name it: the log's own codecs, with their default levels.

use clap::builder::{PossibleValuesParser, TypedValueParser};
pub use ringlog_storage::compression::Codec;
use ringlog_storage::compression::{DecompressError, compress, decompress};

/// Largest size that one batch may have when it is unpacked.
pub const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// Takes the name of a codec.
pub fn parser() -> impl TypedValueParser<Value = Codec> {
    PossibleValuesParser::new(Codec::ALL.map(Codec::name)).map(|name| {
        Codec::ALL.into_iter().find(|codec| codec.name() == name).expect("it is one of the possible values")
    })
}

/// The codec of a batch with these attributes; `None` for bits that Kafka has not given out.
pub fn of_attributes(attributes: i16) -> Option<Codec> {
    Codec::from_id((attributes & 7) as u8)
}

/// Packs the records of a batch.
pub fn pack(codec: Codec, records: &[u8]) -> Vec<u8> {
    compress(codec, codec.default_level(), records)
}

/// Unpacks the records of a batch, refusing what grows over [`UNPACKED_BYTES_MAX`].
pub fn unpack(codec: Codec, packed: &[u8]) -> Result<Vec<u8>, DecompressError> {
    decompress(codec, packed, UNPACKED_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, Command};

    #[test]
    fn names_and_bits_are_the_logs() {
        let command = || Command::new("x").arg(Arg::new("codec").value_parser(parser()));
        for codec in Codec::ALL {
            let parsed = command().try_get_matches_from(["x", codec.name()]).unwrap();
            assert_eq!(parsed.get_one::<Codec>("codec"), Some(&codec));
            assert_eq!(of_attributes(codec as i16 | 0x18), Some(codec));
        }
        assert!(command().try_get_matches_from(["x", "brotli"]).is_err());
        assert_eq!(of_attributes(5), None);
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = pack(Codec::Zstd, &vec![0; UNPACKED_BYTES_MAX + 1]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(unpack(Codec::Zstd, &bomb), Err(DecompressError::TooLarge(UNPACKED_BYTES_MAX)));
    }
}
