//! Rules of the house that no compiler checks: layout, imports, clocks, unsafe code, sizes, dependencies, links.
//!
//! Every test lists all it found, with file and line. Sizes that are only near their limit are printed and do
//! not fail: run with `-- --show-output` to see them.

mod tidy {
    pub mod dependencies;
    pub mod documents;
    pub mod files;
    pub mod imports;
    pub mod layout;
    pub mod licence;
    pub mod rust;
    pub mod sizes;
    pub mod unsafe_code;
}
