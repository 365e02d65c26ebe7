//! Ids as Kafka writes them.

use uuid::Uuid;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The id as Kafka shows it: 22 characters of unpadded, URL-safe base64. Cluster ids travel in this form.
#[must_use]
pub fn id_text(id: Uuid) -> String {
    let bits = id.as_u128();
    // 128 bits are 21 groups of six from the left and two bits left over, padded with zeros.
    (0..22)
        .map(|group| {
            let six = if group < 21 { bits >> (122 - 6 * group) } else { bits << 4 };
            char::from(ALPHABET[(six & 63) as usize])
        })
        .collect()
}

/// Whether a random id may name a topic: Kafka reserves 0 and 1, and avoids a leading dash, which tools would take
/// for an option.
#[must_use]
pub fn is_usable_id(id: Uuid) -> bool {
    id.as_u128() > 1 && !id_text(id).starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_as_kafkas() {
        assert_eq!(id_text(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(id_text(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ", "Kafka's id of its metadata topic");
        assert_eq!(id_text(Uuid::from_u128(u128::MAX)), "_____________________w");
        assert_eq!(id_text(Uuid::from_u128(62 << 122)), "-AAAAAAAAAAAAAAAAAAAAA");
    }

    #[test]
    fn reserved_ids() {
        for (id, usable) in [(0, false), (1, false), (2, true), (62 << 122, false)] {
            assert_eq!(is_usable_id(Uuid::from_u128(id)), usable, "{id:x}");
        }
    }
}
