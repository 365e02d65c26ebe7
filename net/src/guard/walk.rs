//! Walks the bytes of a body along its skeleton.

use super::schema::{Api, Field, Kind};
use crate::wire::{At, Cause, GuardError, Reader};

/// What the library's map of unknown tagged fields takes for each of them, in bytes. A node with room for eleven is
/// 408 bytes and a single field takes a whole one; more share theirs.
const TAGGED_FIELD_HEAP: u32 = 512;

/// What decoding any message takes: the shared handle of the frame.
const MESSAGE_HEAP: u32 = 64;

/// A walk: what is left of the body and of the memory.
struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    heap: u32,
    heap_max: u32,
}

/// Walks `body` and gives an upper bound of the memory that the decoded request takes, in bytes.
pub(super) fn walk(api: &'static Api, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let mut walk = Walk {
        reader: Reader::new(body),
        version,
        flexible: version >= api.flexible_since,
        heap: MESSAGE_HEAP,
        heap_max: api.heap_bytes_max,
    };
    walk.structure(api.fields)?;
    Ok(walk.heap as usize)
}

impl Walk<'_> {
    fn structure(&mut self, fields: &'static [Field]) -> Result<(), GuardError> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.field(field)?;
            }
        }
        if self.flexible { self.tagged_fields(fields) } else { Ok(()) }
    }

    fn field(&mut self, field: &'static Field) -> Result<(), GuardError> {
        let present = match field.kind {
            Kind::Struct(_) if field.tag.is_none() => match self.reader.i8().at(field.name)? {
                1 => true,
                -1 => false,
                _ => return Err(GuardError { field: field.name, cause: Cause::BadPresence }),
            },
            kind => self.value(field.name, kind)?,
        };
        if !present && !field.may_be_null(self.version) {
            return Err(GuardError { field: field.name, cause: Cause::Null });
        }
        match field.kind {
            Kind::Struct(fields) if present => self.structure(fields),
            _ => Ok(()),
        }
    }

    /// Walks a value; `Ok(false)` says that it is null. Of a structure nothing is walked here.
    fn value(&mut self, name: &'static str, kind: Kind) -> Result<bool, GuardError> {
        match kind {
            Kind::Fixed(size) => self.reader.take(size).at(name).map(|_| true),
            Kind::Str => Ok(self.reader.nullable_str(self.flexible).at(name)?.is_some()),
            Kind::Bytes => Ok(self.reader.nullable_bytes(self.flexible).at(name)?.is_some()),
            Kind::Array { max, element, element_heap } => {
                let Some(count) = self.reader.nullable_array_len(self.flexible).at(name)? else {
                    return Ok(false);
                };
                if count > max {
                    return Err(GuardError { field: name, cause: Cause::TooMany { count, max } });
                }
                // The library reserves the whole array here, so the memory is spent before its elements are walked.
                self.spend(name, u64::from(count) * u64::from(element_heap))?;
                self.elements(name, count, element)?;
                Ok(true)
            }
            Kind::Struct(_) => Ok(true),
        }
    }

    fn elements(&mut self, name: &'static str, count: u32, element: &'static Kind) -> Result<(), GuardError> {
        if let Kind::Fixed(size) = element {
            return self.reader.take(count as usize * size).at(name).map(|_| ());
        }
        for _ in 0..count {
            match element {
                Kind::Struct(fields) => self.structure(fields)?,
                kind if self.value(name, *kind)? => {}
                _ => return Err(GuardError { field: name, cause: Cause::Null }),
            }
        }
        Ok(())
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), GuardError> {
        let mut reader = self.reader;
        reader.tagged_fields(|tag, content| {
            let known = |field: &&Field| field.tag == Some(tag) && field.is_in(self.version);
            let Some(field) = fields.iter().find(known) else {
                self.spend("tagged_fields", u64::from(TAGGED_FIELD_HEAP))?;
                return Ok(false);
            };
            let mut walk = Walk { reader: *content, ..*self };
            walk.field(field)?;
            *content = walk.reader;
            self.heap = walk.heap;
            Ok(true)
        })?;
        self.reader = reader;
        Ok(())
    }

    /// Counts memory that the decoded request will take.
    fn spend(&mut self, name: &'static str, bytes: u64) -> Result<(), GuardError> {
        let heap = u64::from(self.heap) + bytes;
        if heap > u64::from(self.heap_max) {
            return Err(GuardError { field: name, cause: Cause::TooMuchMemory });
        }
        self.heap = heap as u32;
        Ok(())
    }
}
