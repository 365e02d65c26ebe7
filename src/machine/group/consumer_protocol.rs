//! The one thing that the coordinator reads of what members tell each other: the topics in a consumer's
//! subscription, so that offsets of subscribed topics are neither deleted nor expired (KIP-496, KIP-211).

use std::collections::BTreeSet;

use bytes::Bytes;

use super::codec::{CodecError, Reader};

/// The protocol type of consumer groups.
pub(super) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Adds the topics of a consumer's subscription to `topics`. Read as version 0, which every later version starts
/// with. Errors: the bytes are no subscription.
pub(super) fn add_subscribed_topics(
    metadata: &Bytes,
    topics: &mut BTreeSet<String>,
) -> Result<(), CodecError> {
    let mut reader = Reader::new(metadata.clone());
    let version = reader.i16()?;
    if version < 0 {
        return Err(CodecError::UnknownVersion(version));
    }
    for _ in 0..reader.array_length(2)? {
        topics.insert(reader.string()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_every_version_are_read() {
        let mut topics = BTreeSet::new();
        // Version 3 with user data, owned partitions, generation and rack behind the topics.
        let bytes =
            Bytes::from_static(b"\0\x03\0\0\0\x02\0\x01a\0\x02bb\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\0\x01r");
        add_subscribed_topics(&bytes, &mut topics).unwrap();
        add_subscribed_topics(&Bytes::from_static(b"\0\0\0\0\0\x01\0\x01c"), &mut topics).unwrap();
        assert_eq!(topics.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "bb", "c"]);
    }

    #[test]
    fn what_is_no_subscription_is_an_error() {
        for bytes in [&b""[..], b"\xff\xff\0\0\0\0", b"\0\0\0\0\0\x09\0\x01c", b"\0\0\0\0\0\x01\0\x01\xff"] {
            assert!(add_subscribed_topics(&Bytes::from_static(bytes), &mut BTreeSet::new()).is_err());
        }
    }
}
