//! Layout and import rules, checked.
