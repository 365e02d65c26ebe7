//! The pieces that the hot path's response encoders are put together from.

use super::NodeEndpoint;
use bytes::{BufMut, BytesMut};

/// Writes an unsigned variable-length integer.
#[inline]
pub(crate) fn put_uvarint(buf: &mut impl BufMut, mut value: u32) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

/// Writes the count of an array; compact in a flexible version.
#[inline]
pub(crate) fn array_len(buf: &mut impl BufMut, flexible: bool, len: usize) {
    let len =
        u32::try_from(len).ok().filter(|len| *len < i32::MAX as u32).expect("counts are bounded by frames");
    if flexible { put_uvarint(buf, len + 1) } else { buf.put_u32(len) }
}

/// Writes a string; compact in a flexible version.
#[inline]
pub(crate) fn string(buf: &mut impl BufMut, flexible: bool, value: &str) {
    nullable_string(buf, flexible, Some(value));
}

/// Writes a string or null; compact in a flexible version.
///
/// What is longer than Kafka's strings may be (a message made of many others) is cut at a character.
#[inline]
pub(crate) fn nullable_string(buf: &mut impl BufMut, flexible: bool, value: Option<&str>) {
    let Some(value) = value else {
        if flexible {
            buf.put_u8(0)
        } else {
            buf.put_i16(-1)
        }
        return;
    };
    let value = &value[..value.floor_char_boundary(i16::MAX as usize)];
    if flexible {
        put_uvarint(buf, value.len() as u32 + 1)
    } else {
        buf.put_u16(value.len() as u16)
    }
    buf.put_slice(value.as_bytes());
}

/// Writes a tagged field's number and the size of the content that the caller writes next.
#[inline]
pub(crate) fn tag(buf: &mut impl BufMut, tag: u32, size: usize) {
    put_uvarint(buf, tag);
    put_uvarint(buf, u32::try_from(size).expect("tagged fields are small"));
}

/// Starts a response frame: room for the length, then the response header (version 1 in a flexible version, else 0).
/// Gives back where the frame starts, for [`end_frame`].
#[inline]
pub(crate) fn begin_frame(buf: &mut BytesMut, flexible: bool, correlation_id: i32) -> usize {
    let start = buf.len();
    buf.put_u32(0);
    buf.put_i32(correlation_id);
    if flexible {
        buf.put_u8(0);
    }
    start
}

/// Ends the frame that began at `start`: writes its length, to which `elsewhere` bytes that are not in `buf` belong.
#[inline]
pub(crate) fn end_frame(buf: &mut BytesMut, start: usize, elsewhere: usize) {
    let len = buf.len() - start - 4 + elsewhere;
    let len = i32::try_from(len).expect("a response is bounded far below 2 GiB");
    buf[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Writes the tagged field that says where brokers are reached (KIP-951); nothing, if there are none.
pub(crate) fn node_endpoints(buf: &mut BytesMut, number: u32, endpoints: &[NodeEndpoint<'_>]) {
    if endpoints.is_empty() {
        return;
    }
    let mut content = BytesMut::new();
    array_len(&mut content, true, endpoints.len());
    for endpoint in endpoints {
        content.put_i32(endpoint.node_id);
        string(&mut content, true, endpoint.host);
        content.put_i32(endpoint.port);
        nullable_string(&mut content, true, endpoint.rack);
        content.put_u8(0);
    }
    put_uvarint(buf, number);
    put_uvarint(buf, u32::try_from(content.len()).expect("a few endpoints"));
    buf.put_slice(&content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Reader;

    #[test]
    fn a_string_longer_than_kafka_allows_is_cut_at_a_character() {
        let text = "語".repeat(20_000);
        for flexible in [false, true] {
            let mut buf = BytesMut::new();
            string(&mut buf, flexible, &text);
            let mut reader = Reader::new(&buf);
            // 32,767 is not a multiple of three.
            assert_eq!(reader.str(flexible), Ok(&text[..32_766]));
            assert!(reader.rest().is_empty());
        }
    }

    #[test]
    fn a_frame_counts_what_lies_elsewhere_and_not_what_came_before() {
        let mut buf = BytesMut::from(&b"before"[..]);
        let start = begin_frame(&mut buf, true, 0x0102_0304);
        end_frame(&mut buf, start, 1000);
        assert_eq!(&buf[6..], [0, 0, 0x03, 0xed, 1, 2, 3, 4, 0]);
    }
}
