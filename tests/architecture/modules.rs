//! Imports between the modules of a crate form no cycle, at any level of nesting.
//!
//! The nodes are sibling modules. `a` depends on `b` when the code of `a`, its submodules included,
//! names anything in `b`. A parent may use its children and a child its parent: siblings alone are
//! compared.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Ident, ImplItemFn, ItemFn, ItemMod, ItemUse, Path, UseTree, Visibility,
    visit::{self, Visit},
};

use crate::source::{SourceFile, is_test, members};

/// A module or an item in it: the segments after `crate`.
type ItemPath = Vec<String>;

/// Collects the paths of the crate's own items that a file names outside its tests.
struct References<'a> {
    /// The module of the file.
    module: &'a [String],
    /// The modules of the crate.
    modules: &'a BTreeSet<ItemPath>,
    found: BTreeSet<ItemPath>,
    /// `pub use` and `pub(crate) use`: the name under which an item appears here, and its path.
    exports: Vec<(String, ItemPath)>,
}

impl References<'_> {
    /// Resolves a path relative to the file's module; `None` if it is of another crate.
    fn resolve(&self, segments: &[String]) -> Option<ItemPath> {
        let (first, rest) = segments.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.to_vec(),
            "super" => self.module[..self.module.len().checked_sub(1)?].to_vec(),
            name => {
                let child: ItemPath = self.module.iter().cloned().chain([name.to_owned()]).collect();
                return self.modules.contains(&child).then(|| [&child[..], rest].concat());
            }
        };
        let mut rest = rest;
        while rest.first().is_some_and(|segment| segment == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn add(&mut self, segments: &[String]) {
        if let Some(path) = self.resolve(segments) {
            self.found.insert(path);
        }
    }

    fn add_use(&mut self, tree: &UseTree, prefix: &mut Vec<String>, is_export: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.add_use(&path.tree, prefix, is_export);
                prefix.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_use(tree, prefix, is_export));
            }
            UseTree::Glob(_) => self.add(prefix),
            UseTree::Name(name) => self.add_leaf(&name.ident, &name.ident, prefix, is_export),
            UseTree::Rename(rename) => self.add_leaf(&rename.ident, &rename.rename, prefix, is_export),
        }
    }

    fn add_leaf(&mut self, ident: &Ident, visible: &Ident, prefix: &[String], is_export: bool) {
        let mut segments = prefix.to_vec();
        if ident != "self" {
            segments.push(ident.to_string());
        }
        if is_export && let Some(path) = self.resolve(&segments) {
            self.exports.push((visible.to_string(), path));
        }
        self.add(&segments);
    }
}

impl<'ast> Visit<'ast> for References<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            let is_export = !matches!(item.vis, Visibility::Inherited);
            self.add_use(&item.tree, &mut Vec::new(), is_export);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.add(&segments);
        }
        visit::visit_path(self, path);
    }
}

/// Follows re-exports: the path under which an item is named becomes the path where it is defined.
fn follow_exports(mut path: ItemPath, exports: &BTreeMap<ItemPath, ItemPath>) -> ItemPath {
    for _ in 0..8 {
        let prefix = (1..=path.len()).rev().find(|&length| exports.contains_key(&path[..length]));
        let Some(length) = prefix else { break };
        path = [&exports[&path[..length]][..], &path[length..]].concat();
    }
    path
}

/// The edges between sibling modules: parent, module, the sibling it uses, and a file that does.
fn sibling_edges(files: &[SourceFile]) -> BTreeMap<ItemPath, BTreeMap<String, BTreeMap<String, String>>> {
    let modules: BTreeSet<ItemPath> = files.iter().map(|file| file.module.clone()).collect();
    let mut exports = BTreeMap::new();
    let mut found = Vec::new();
    for file in files {
        let mut references = References {
            module: &file.module,
            modules: &modules,
            found: BTreeSet::new(),
            exports: Vec::new(),
        };
        references.visit_file(&file.syntax);
        for (name, path) in references.exports {
            let visible: ItemPath = file.module.iter().cloned().chain([name]).collect();
            if visible != path {
                exports.insert(visible, path);
            }
        }
        found.push((file, references.found));
    }
    let mut edges: BTreeMap<ItemPath, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
    for (file, paths) in found {
        for path in paths {
            let target = follow_exports(path, &exports);
            let common = file.module.iter().zip(&target).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(to)) = (file.module.get(common), target.get(common)) else { continue };
            let sibling: ItemPath = target[..=common].to_vec();
            if modules.contains(&sibling) {
                let uses = edges.entry(file.module[..common].to_vec()).or_default();
                let uses = uses.entry(from.clone()).or_default();
                uses.entry(to.clone()).or_insert_with(|| file.path.display().to_string());
            }
        }
    }
    edges
}

/// A cycle in a graph, as the list of its nodes, if there is one.
fn find_cycle(graph: &BTreeMap<String, BTreeMap<String, String>>) -> Option<Vec<String>> {
    fn visit(
        node: &str,
        graph: &BTreeMap<String, BTreeMap<String, String>>,
        trail: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = trail.iter().position(|visited| visited == node) {
            return Some(trail[start..].to_vec());
        }
        if done.contains(node) {
            return None;
        }
        trail.push(node.to_owned());
        let successors = graph.get(node).into_iter().flatten();
        let cycle = successors.into_iter().find_map(|(next, _)| visit(next, graph, trail, done));
        trail.pop();
        done.insert(node.to_owned());
        cycle
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|node| visit(node, graph, &mut Vec::new(), &mut done))
}

#[test]
fn modules_form_no_import_cycle() {
    let mut cycles = Vec::new();
    for (member, files) in members() {
        for (parent, mut graph) in sibling_edges(&files) {
            while let Some(cycle) = find_cycle(&graph) {
                let mut place = parent.clone();
                place.insert(0, member.clone());
                let place = place.join("::");
                let next = |index: usize| &cycle[(index + 1) % cycle.len()];
                let steps = cycle.iter().enumerate().map(|(index, module)| {
                    format!("  {module} uses {} in {}", next(index), graph[module][next(index)])
                });
                cycles.push(format!(
                    "{place}: {}\n{}",
                    cycle.join(" → "),
                    steps.collect::<Vec<_>>().join("\n")
                ));
                graph.get_mut(&cycle[0]).unwrap().remove(next(0));
            }
        }
    }
    assert!(cycles.is_empty(), "{} import cycles:\n{}", cycles.len(), cycles.join("\n"));
}

#[test]
fn a_cycle_is_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned(), String::new());
        }
        graph
    };
    assert_eq!(find_cycle(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
    let cycle = find_cycle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")]));
    assert_eq!(cycle, Some(vec!["b".to_owned(), "c".to_owned()]));
}
