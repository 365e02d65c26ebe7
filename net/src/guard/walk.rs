//! Walks the bytes of a body along its skeleton.

use super::schema::{Api, Element, Field, Kind};
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
        let name = field.name;
        let present = match field.kind {
            Kind::Fixed(size) => self.reader.take(size).at(name).map(|_| true)?,
            Kind::Str => self.reader.nullable_str(self.flexible).at(name)?.is_some(),
            Kind::Bytes => self.reader.nullable_bytes(self.flexible).at(name)?.is_some(),
            Kind::Struct(fields) => self.optional_structure(field, fields)?,
            Kind::Array { max, element, element_heap } => self.array(name, max, element, element_heap)?,
        };
        if !present && !field.may_be_null(self.version) {
            return Err(GuardError { field: name, cause: Cause::Null });
        }
        Ok(())
    }

    /// Walks a structure that is a field; `Ok(false)` says that it is not there.
    fn optional_structure(&mut self, field: &Field, fields: &'static [Field]) -> Result<bool, GuardError> {
        if field.tag.is_none() {
            match self.reader.i8().at(field.name)? {
                1 => {}
                -1 => return Ok(false),
                _ => return Err(GuardError { field: field.name, cause: Cause::BadPresence }),
            }
        }
        self.structure(fields)?;
        Ok(true)
    }

    /// Walks an array; `Ok(false)` says that it is null.
    fn array(
        &mut self,
        name: &'static str,
        max: u32,
        element: Element,
        element_heap: u32,
    ) -> Result<bool, GuardError> {
        let Some(count) = self.reader.nullable_array_len(self.flexible).at(name)? else {
            return Ok(false);
        };
        if count > max {
            return Err(GuardError { field: name, cause: Cause::TooMany { count, max } });
        }
        // The library reserves the whole array here, so the memory is spent before its elements are walked.
        self.spend(name, u64::from(count) * u64::from(element_heap))?;
        match element {
            Element::Fixed(size) => {
                self.reader.take(count as usize * size).at(name)?;
            }
            Element::Str => {
                for _ in 0..count {
                    self.reader.str(self.flexible).at(name)?;
                }
            }
            Element::Struct(fields) => {
                for _ in 0..count {
                    self.structure(fields)?;
                }
            }
        }
        Ok(true)
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), GuardError> {
        let mut reader = self.reader;
        reader.tagged_fields(|tag, content| {
            let Some(field) = fields.iter().find(|field| field.tag == Some(tag)) else {
                self.spend("tagged_fields", u64::from(TAGGED_FIELD_HEAP))?;
                return Ok(false);
            };
            if !field.is_in(self.version) {
                return Err(GuardError { field: field.name, cause: Cause::TagNotInVersion });
            }
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
