//! Module dependencies follow the order that `lib.rs` states, so they form no circle.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// The modules in the order of the numbered list in `lib.rs`, with their positions.
fn stated_order() -> BTreeMap<String, usize> {
    let lib = fs::read_to_string(Path::new(SOURCE).join("lib.rs")).unwrap();
    let items = lib.lines().filter_map(|line| {
        let (number, item) = line.strip_prefix("//! ")?.split_once(". ")?;
        let position = number.parse().ok()?;
        Some((item.split('`').nth(1)?.to_owned(), position))
    });
    items.collect()
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The top-level modules that a source text names after `crate::`, outside of comments.
fn imports(text: &str) -> Vec<String> {
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    let code: String = text.lines().filter(|line| !is_comment(line)).flat_map(|line| [line, "\n"]).collect();
    let mut modules = Vec::new();
    for path in code.split("crate::").skip(1) {
        let mut depth = 0;
        let mut word = String::new();
        let mut is_first_segment = true;
        for character in path.chars() {
            match character {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => word.push(character),
                _ => {
                    if is_first_segment && depth <= 1 && !word.is_empty() {
                        modules.push(std::mem::take(&mut word));
                    }
                    word.clear();
                    match character {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ':' => is_first_segment = false,
                        ',' if depth == 1 => is_first_segment = true,
                        _ => {}
                    }
                    if depth == 0 && character != ':' {
                        break;
                    }
                }
            }
        }
    }
    modules
}

#[test]
fn every_module_imports_only_modules_above_it() {
    let order = stated_order();
    let mut files = Vec::new();
    rust_files(Path::new(SOURCE), &mut files);
    let mut checked = 0;
    for file in files {
        let relative = file.strip_prefix(SOURCE).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let position = *order.get(module).unwrap_or_else(|| panic!("lib.rs does not list {module}"));
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            // Items of the crate root, such as `KERNEL`, are no modules.
            let Some(&imported) = order.get(&import) else { continue };
            assert!(imported <= position, "{} imports {import}, which is below it", relative.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} imports were found");
}
