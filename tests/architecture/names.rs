//! One name for one type, in the whole workspace.

use std::collections::BTreeMap;

use syn::{
    Ident, ItemEnum, ItemMod, ItemStruct, ItemTrait, ItemType, ItemUnion,
    visit::{self, Visit},
};

use crate::source::{is_test, members};

/// Collects the names of the types and traits that a file defines outside its tests.
#[derive(Default)]
struct TypeNames(Vec<String>);

impl TypeNames {
    fn add(&mut self, name: &Ident) {
        self.0.push(name.to_string());
    }
}

impl<'ast> Visit<'ast> for TypeNames {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.add(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.add(&item.ident);
    }

    fn visit_item_union(&mut self, item: &'ast ItemUnion) {
        self.add(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.add(&item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        self.add(&item.ident);
    }
}

#[test]
fn no_two_types_share_a_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in members().into_iter().flat_map(|(_, files)| files) {
        let mut names = TypeNames::default();
        names.visit_file(&file.syntax);
        for name in names.0 {
            places.entry(name).or_default().push(file.path.display().to_string());
        }
    }
    // A type that is defined twice in one file is two variants of one type, chosen by `cfg`.
    for paths in places.values_mut() {
        paths.dedup();
    }
    places.retain(|_, paths| paths.len() > 1);
    let list: Vec<_> = places.iter().map(|(name, paths)| format!("{name}: {}", paths.join(", "))).collect();
    assert!(list.is_empty(), "{} names stand for several types:\n{}", list.len(), list.join("\n"));
}
