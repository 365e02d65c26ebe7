//! Files and functions stay small. Past the first limit they are named, past the second one they fail.

use super::files::{self, report};
use super::rust::{code_only, functions};

const FILE_LINES_AIM: usize = 500;
const FILE_LINES_MAX: usize = 700;
const FUNCTION_LINES_AIM: usize = 70;
const FUNCTION_LINES_MAX: usize = 110;

#[test]
fn files_and_functions_stay_small() {
    let mut near = Vec::new();
    let mut over = Vec::new();
    for file in files::rust() {
        let lines = file.text.lines().count();
        let mut judge = |what: String, lines: usize, aim: usize, max: usize| {
            let size = format!("{what}: {lines} lines");
            if lines > max {
                over.push(size);
            } else if lines > aim {
                near.push(size);
            }
        };
        judge(file.path.clone(), lines, FILE_LINES_AIM, FILE_LINES_MAX);
        for function in functions(&code_only(&file.text)) {
            let what = format!("{}:{} {}", file.path, function.line, function.name);
            judge(what, function.lines, FUNCTION_LINES_AIM, FUNCTION_LINES_MAX);
        }
    }
    for size in near {
        println!("tidy: growing: {size}");
    }
    report(&format!("files over {FILE_LINES_MAX} or functions over {FUNCTION_LINES_MAX} lines"), &over);
}
