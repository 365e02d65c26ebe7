//! Record batches that lie one behind the other in several pieces of memory, each whole or cut in two at the end of a
//! piece. Walking over them copies only what is cut.

use crate::batch::{BatchInfo, HEADER_BYTES, peek};
use std::borrow::Cow;
use std::io;

/// A place in the pieces.
pub struct Pieces<'a, P> {
    pieces: &'a [P],
    /// In the first of them.
    at: usize,
}

impl<'a, P: AsRef<[u8]>> Pieces<'a, P> {
    /// Their start.
    pub fn new(pieces: &'a [P]) -> Pieces<'a, P> {
        let mut all = Pieces { pieces, at: 0 };
        all.skip(0);
        all
    }

    /// The header of the batch that begins here; `None` at the end.
    ///
    /// # Errors
    /// `InvalidData` where no batch begins here.
    pub fn header(&self) -> io::Result<Option<BatchInfo>> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let info = peek(&self.bytes(HEADER_BYTES)?);
        info.map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
    }

    /// The next `len` bytes: borrowed where they lie in one piece.
    ///
    /// # Errors
    /// `UnexpectedEof` where there are fewer.
    pub fn bytes(&self, len: usize) -> io::Result<Cow<'a, [u8]>> {
        let mut pieces = self.pieces.iter().map(AsRef::as_ref);
        let first = &pieces.next().unwrap_or_default()[self.at..];
        if let Some(bytes) = first.get(..len) {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(first);
        for piece in pieces {
            bytes.extend_from_slice(&piece[..piece.len().min(len - bytes.len())]);
            if bytes.len() == len {
                return Ok(Cow::Owned(bytes));
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Goes on by `len` bytes, or to the end.
    pub fn skip(&mut self, len: usize) {
        self.at += len;
        while let Some(first) = self.pieces.first() {
            let size = first.as_ref().len();
            if self.at < size {
                return;
            }
            self.at -= size;
            self.pieces = &self.pieces[1..];
        }
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::compression::Codec;
    use proptest::prelude::*;

    fn batch(base: i64, size: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(base, None, Some(&vec![base as u8; size]), &[]);
        builder.build(base, 0)
    }

    proptest! {
        #[test]
        fn batches_are_found_wherever_they_are_cut_and_only_cut_ones_are_copied(
            sizes in proptest::collection::vec(0usize..300, 0..20),
            piece in 1usize..500,
        ) {
            let batches: Vec<_> = (0..).zip(&sizes).map(|(base, size)| batch(base, *size)).collect();
            let all = batches.concat();
            let pieces: Vec<&[u8]> = all.chunks(piece).collect();
            let mut walk = Pieces::new(&pieces);
            let mut position = 0;
            for batch in &batches {
                let info = walk.header().unwrap().expect("one more");
                prop_assert_eq!(info.size, batch.len());
                let bytes = walk.bytes(info.size).unwrap();
                prop_assert_eq!(&bytes[..], &batch[..]);
                let is_cut = position / piece != (position + batch.len() - 1) / piece;
                prop_assert_eq!(matches!(bytes, Cow::Owned(_)), is_cut);
                position += batch.len();
                walk.skip(info.size);
            }
            prop_assert!(walk.header().unwrap().is_none());
        }
    }

    #[test]
    fn what_ends_too_early_is_an_error() {
        let whole = batch(0, 100);
        let (a, b) = whole.split_at(70);
        let pieces = [a, &b[..5]];
        let walk = Pieces::new(&pieces);
        assert!(walk.bytes(whole.len()).is_err());
        assert!(Pieces::new(&[&a[..30]]).header().is_err());
        assert!(Pieces::new(&[[0u8; 100]]).header().is_err(), "no batch");
    }
}
