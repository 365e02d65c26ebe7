//! Just enough reading of Rust for the rules: code without comments and literals, paths, functions.

/// The code with comments and the insides of literals replaced by spaces, so that lines and columns stay.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => match char_end(bytes, at) {
                Some(end) => end,
                None => at + 1,
            },
            b'r' if !continues_word(bytes, at) => raw_string_end(bytes, at).unwrap_or(at + 1),
            _ => at + 1,
        };
        if end > at + 1 {
            for byte in &mut code[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8(code).expect("only whole literals and comments were replaced, by ASCII")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let found = bytes[from..].windows(what.len()).position(|window| window == what);
    found.map_or(bytes.len(), |at| from + at)
}

/// Whether the byte belongs to a word that began before it. A literal's prefix `b` or `c` does not count.
fn continues_word(bytes: &[u8], at: usize) -> bool {
    let word = |at: usize| bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_';
    if at == 0 || !word(at - 1) {
        return false;
    }
    !(matches!(bytes[at - 1], b'b' | b'c') && (at == 1 || !word(at - 2)))
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a character literal; none if it is a lifetime or a label.
fn char_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        return Some(find(bytes, start + 3, b"'") + 1);
    }
    let text = std::str::from_utf8(&bytes[start + 1..]).ok()?;
    let length = text.chars().next()?.len_utf8();
    (bytes.get(start + 1 + length) == Some(&b'\'')).then_some(start + length + 2)
}

fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(start + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    Some((find(bytes, start + 2 + hashes, &close) + close.len()).min(bytes.len()))
}

/// The number, from 1, of the line that byte `at` is in.
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Where `word` stands alone in code, as byte positions.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = code.as_bytes();
        let before = *at == 0 || !part(bytes[at - 1]);
        before && bytes.get(at + word.len()).is_none_or(|byte| !part(*byte))
    })
}

/// A path of code, as `crate::machine::error`, with its line. Groups of `use` are spelled out.
#[derive(Debug, PartialEq, Eq)]
pub struct UsedPath {
    /// With `::` between its parts.
    pub path: String,
    /// From 1.
    pub line: usize,
}

/// All paths of more than one part, in `use` items and in expressions and types.
pub fn paths(code: &str) -> Vec<UsedPath> {
    let mut found = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    let mut path = String::new();
    let mut joined = false;
    let bytes = code.as_bytes();
    let mut at = 0;
    let mut line = 1;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte.is_ascii_alphabetic() || byte == b'_' {
            let length = bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            if !joined {
                finish(&mut path, &prefixes, line, &mut found);
            }
            path.push_str(&code[at..at + length]);
            joined = false;
            at += length;
            continue;
        }
        if bytes[at..].starts_with(b"::") {
            path.push_str("::");
            joined = true;
            at += 2;
            continue;
        }
        match byte {
            b'{' if joined => {
                let outer = prefixes.last().cloned().unwrap_or_default();
                prefixes.push(format!("{outer}{}", std::mem::take(&mut path)));
            }
            b'{' if !prefixes.is_empty() => prefixes.push(String::new()),
            b'}' => {
                finish(&mut path, &prefixes, line, &mut found);
                prefixes.pop();
            }
            _ if joined && byte.is_ascii_whitespace() => {
                line += usize::from(byte == b'\n');
                at += 1;
                continue;
            }
            _ => finish(&mut path, &prefixes, line, &mut found),
        }
        line += usize::from(byte == b'\n');
        joined = false;
        at += 1;
    }
    finish(&mut path, &[], line, &mut found);
    found
}

fn finish(path: &mut String, prefixes: &[String], line: usize, found: &mut Vec<UsedPath>) {
    let path = std::mem::take(path);
    let prefix = prefixes.last().map_or("", String::as_str);
    let whole = format!("{prefix}{}", path.trim_end_matches("::"));
    if !path.is_empty() && whole.contains("::") {
        found.push(UsedPath { path: whole.trim_start_matches("::").to_owned(), line });
    }
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
}

/// All functions with a body.
pub fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name: String =
            code[at + 2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue; // a type such as fn(u8)
        }
        let Some(open) = body_start(bytes, at) else { continue };
        let mut depth = 0;
        for (offset, byte) in bytes[open..].iter().enumerate() {
            depth += i32::from(*byte == b'{') - i32::from(*byte == b'}');
            if depth == 0 {
                let line = line_of(code, at);
                found.push(Function { name, line, lines: line_of(code, open + offset) - line + 1 });
                break;
            }
        }
    }
    found
}

fn body_start(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, byte) in bytes[from..].iter().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(from + offset),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = r##"a /* b /* c */ d */ e "f \" g" 'h' '\'' 'i: loop { r#"j " k"# b"l" br"m" }// n"##;
    let code = code_only(text);
    assert_eq!(code.len(), text.len());
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words, ["a", "e", "'i:", "loop", "{", "b", "b", "}"]);
    assert_eq!(code_only("x // ü\ny \"ö\n\" z").lines().count(), 3);
}

#[test]
fn paths_are_spelled_out() {
    let code = "use a::b; use crate::{c, d::{self, e as f}, g}; let x: h::I<j::K> = l::m(n, ::o::p); q { r }";
    let found: Vec<String> = paths(code).into_iter().map(|used| used.path).collect();
    for path in ["a::b", "crate::c", "crate::d::e", "crate::g", "h::I", "j::K", "l::m", "o::p"] {
        assert!(found.iter().any(|other| other == path), "{path} is not in {found:?}");
    }
    assert!(!found.iter().any(|path| path.contains('q') || path.contains('n')), "{found:?}");
    assert_eq!(paths("\n\nuse a::b;")[0].line, 3);
}

#[test]
fn functions_have_lengths() {
    let code = "trait T { fn none(&self); }\nfn one<const N: usize>(a: [u8; 3]) { x() }\nfn two()\nwhere A: B,\n{\n{}\n}\nlet f: fn(u8);";
    let found = functions(code);
    let lengths: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
    assert_eq!(lengths, [("one", 2, 1), ("two", 3, 5)]);
}
