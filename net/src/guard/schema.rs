//! The language in which the guard's skeletons are written: fields in wire order, each with the versions it is in.

/// The skeleton of an API's requests.
#[derive(Debug)]
pub(super) struct Api {
    /// The API key.
    pub key: i16,
    /// The API's name in Kafka's documentation.
    pub name: &'static str,
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
    /// The first version in the flexible format (KIP-482).
    pub flexible_since: i16,
    /// The most memory that a decoded request may take, in bytes.
    pub heap_bytes_max: u32,
    /// The fields of the request itself.
    pub fields: &'static [Field],
}

/// One field of a structure.
#[derive(Debug)]
pub(super) struct Field {
    /// The name in Kafka's schema, in snake case.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The first version that has it.
    since: i16,
    /// The last version that has it.
    until: i16,
    /// The first version in which it may be null.
    nullable_since: i16,
    /// Its number, if it is a tagged field.
    pub tag: Option<u32>,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Something of this many bytes: an integer, a boolean, a UUID.
    Fixed(usize),
    /// A string.
    Str,
    /// A byte string.
    Bytes,
    /// A structure. Where it is not tagged, a byte in front says whether it is there.
    Struct(&'static [Field]),
    /// An array.
    Array {
        /// The most elements that Ringlog takes.
        max: u32,
        /// What each of them is. None may be null.
        element: Element,
        /// What each of them takes in the memory of the decoded request, in bytes.
        element_heap: u32,
    },
}

/// What an element of an array is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Element {
    /// Something of this many bytes.
    Fixed(usize),
    /// A string.
    Str,
    /// A structure.
    Struct(&'static [Field]),
}

/// Never, as a version.
pub(super) const NEVER: i16 = i16::MAX;

/// The size of the library's strings and byte strings in memory.
const BYTES_HANDLE: u32 = size_of::<bytes::Bytes>() as u32;
/// The size of a vector in memory, and of the map of unknown tagged fields.
const VEC_HANDLE: u32 = size_of::<Vec<u8>>() as u32;

/// An upper bound of the bytes that the library's type for these fields takes in memory: the fields of all versions,
/// for there is one type for all of them, each rounded up for alignment, and the map of unknown tagged fields.
const fn struct_heap(fields: &[Field]) -> u32 {
    let mut total = VEC_HANDLE;
    let mut at = 0;
    while at < fields.len() {
        total += match fields[at].kind {
            Kind::Fixed(size) => (size as u32).next_multiple_of(8),
            Kind::Str | Kind::Bytes => BYTES_HANDLE,
            Kind::Struct(fields) => struct_heap(fields),
            Kind::Array { .. } => VEC_HANDLE,
        };
        at += 1;
    }
    total
}

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, since: 0, until: NEVER, nullable_since: NEVER, tag: None }
    }

    /// Versions before `version` do not have the field.
    pub(super) const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    /// Versions after `version` do not have the field.
    pub(super) const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    /// The field may be null.
    pub(super) const fn nullable(self) -> Self {
        self.nullable_since(0)
    }

    /// The field may be null from `version` on.
    pub(super) const fn nullable_since(mut self, version: i16) -> Self {
        self.nullable_since = version;
        self
    }

    /// The field is tagged: it stands, or does not, among the tagged fields at the end of its structure.
    pub(super) const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Whether the field is in this version.
    pub(super) const fn is_in(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }

    /// Whether the field may be null in this version.
    pub(super) const fn may_be_null(&self, version: i16) -> bool {
        self.nullable_since <= version
    }
}

/// A boolean; any byte but 0 is true, as in Kafka.
pub(super) const fn bool(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}

/// An 8-bit integer.
pub(super) const fn i8(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}

/// A 16-bit integer.
pub(super) const fn i16(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(2))
}

/// A 32-bit integer.
pub(super) const fn i32(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(4))
}

/// A 64-bit integer.
pub(super) const fn i64(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(8))
}

/// A UUID.
pub(super) const fn uuid(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(16))
}

/// A string.
pub(super) const fn str(name: &'static str) -> Field {
    Field::new(name, Kind::Str)
}

/// A byte string.
pub(super) const fn bytes(name: &'static str) -> Field {
    Field::new(name, Kind::Bytes)
}

/// A structure.
pub(super) const fn structure(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Kind::Struct(fields))
}

/// An array of at most `max` structures.
pub(super) const fn structs(name: &'static str, max: u32, fields: &'static [Field]) -> Field {
    let element = Element::Struct(fields);
    Field::new(name, Kind::Array { max, element, element_heap: struct_heap(fields) })
}

/// An array of at most `max` strings.
pub(super) const fn strs(name: &'static str, max: u32) -> Field {
    Field::new(name, Kind::Array { max, element: Element::Str, element_heap: BYTES_HANDLE })
}

/// An array of at most `max` 8-bit integers.
pub(super) const fn i8s(name: &'static str, max: u32) -> Field {
    Field::new(name, Kind::Array { max, element: Element::Fixed(1), element_heap: 1 })
}

/// An array of at most `max` 32-bit integers.
pub(super) const fn i32s(name: &'static str, max: u32) -> Field {
    Field::new(name, Kind::Array { max, element: Element::Fixed(4), element_heap: 4 })
}
