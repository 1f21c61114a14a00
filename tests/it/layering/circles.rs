//! Circles of imports between the files of one folder.
//!
//! The rule: **in every folder of `src`, files use each other one way; a file and the folder of its
//! name are one.** A file uses another if it names, in a `use` or in any other path, an item that
//! the other defines; re-exports are followed to the file that defines the item. What does not
//! count: `mod` lines, re-exports by themselves, modules that are only named on the way to an item,
//! and code that only tests are built with. A folder's own file stands above its files: it puts
//! them together, and they may use what it defines for all of them.

use crate::layering::source::{Name, Source};
use std::collections::{BTreeMap, BTreeSet};

type Module = Vec<String>;

/// How deep re-exports of re-exports are followed.
const RE_EXPORTS_MAX: usize = 16;

/// The files of the crate by their modules.
#[derive(Default)]
pub(super) struct Files(BTreeMap<Module, Source>);

/// A file that may use another although it closes a circle, and why.
pub(super) type Excuse = (&'static str, &'static str, &'static str);

/// What uses what, in each folder, and an example of it.
type Graph = BTreeMap<Module, BTreeMap<Module, String>>;

impl Files {
    pub(super) fn add(&mut self, module: &[impl AsRef<str>], text: &str) {
        let module = module.iter().map(|part| part.as_ref().to_owned());
        self.0.insert(module.collect(), Source::parse(text));
    }

    /// Every circle, as text: its files, and how each uses the next. A use is left out if it is
    /// among those that are `excused`, each with its reason.
    pub(super) fn circles(&self, excused: &[Excuse]) -> Vec<String> {
        let mut graph = self.graph();
        for (file, other, reason) in excused {
            let module = |file: &str| file.split('/').map(str::to_owned).collect::<Module>();
            let uses = graph.get_mut(&module(file));
            let is_used = uses.and_then(|uses| uses.remove(&module(other))).is_some();
            assert!(
                is_used,
                "{file} does not use {other}: \"{reason}\" excuses nothing"
            );
        }
        let mut left: BTreeSet<&Module> = graph.keys().collect();
        let mut found = Vec::new();
        while let Some(file) = left.pop_first() {
            let Some(circle) = shortest_circle(&graph, file) else {
                continue;
            };
            // Files of the same circle are told of once.
            let together = reachable(&graph, file);
            left.retain(|other| {
                !(together.contains(*other) && reachable(&graph, other).contains(file))
            });
            found.push(shown(&graph, &circle));
        }
        found
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for (file, source) in &self.0 {
            if self.is_test(file) {
                continue;
            }
            for name in source.names.iter().filter(|name| counts(name)) {
                let scope = [file.as_slice(), &name.inner].concat();
                let other = self.defined_in(&scope, name);
                let Some(other) = other.filter(|other| !self.is_test(other)) else {
                    continue;
                };
                let shared = file
                    .iter()
                    .zip(&other)
                    .take_while(|(one, other)| one == other);
                let shared = shared.count();
                // Of another top-level module, or a folder's own file.
                if shared == 0 || shared == file.len() || shared == other.len() {
                    continue;
                }
                let uses = graph.entry(file[..=shared].to_vec()).or_default();
                uses.entry(other[..=shared].to_vec()).or_insert_with(|| {
                    let (file, other, path) =
                        (file.join("/"), other.join("/"), name.segments.join("::"));
                    format!("src/{file}.rs:{} uses {path} of src/{other}.rs", name.line)
                });
            }
        }
        graph
    }

    /// The file that defines what a name means; nothing if it is a module or not of this crate.
    fn defined_in(&self, scope: &[String], name: &Name) -> Option<Module> {
        let path = self.absolute(scope, &name.segments, name.alias.is_some(), 0)?;
        if name.alias.as_deref() == Some("*") {
            return self.file_of(&path);
        }
        self.find(&path, 0)
    }

    /// The path from the crate's root.
    fn absolute(
        &self,
        scope: &[String],
        path: &[String],
        is_use: bool,
        depth: usize,
    ) -> Option<Module> {
        if depth > RE_EXPORTS_MAX {
            return None;
        }
        let first = path[0].as_str();
        let child = [scope, &path[..1]].concat();
        if first == "crate" || first == "keymill" {
            return Some(path[1..].to_vec());
        }
        if first == "self" {
            return Some([scope, &path[1..]].concat());
        }
        if first == "super" {
            let climbs = path.iter().take_while(|part| *part == "super").count();
            let up = scope.len().checked_sub(climbs)?;
            return Some([&scope[..up], &path[climbs..]].concat());
        }
        if self.is_module(&child) && (path.len() > 1 || is_use) {
            return Some([scope, path].concat());
        }
        let imported = self
            .imported(scope, first)
            .filter(|import| import.segments != path)?;
        let target = self.absolute(scope, &imported.segments, true, depth + 1)?;
        Some([&target, &path[1..]].concat())
    }

    /// The file of the item at this path from the root, over re-exports.
    fn find(&self, path: &[String], depth: usize) -> Option<Module> {
        let mut module = Module::new();
        for (at, part) in path.iter().enumerate() {
            let child = [module.as_slice(), std::slice::from_ref(part)].concat();
            let import = self.imported(&module, part);
            let is_last = at + 1 == path.len();
            if self.is_module(&child) && !(is_last && import.is_some()) {
                module = child;
                continue;
            }
            let Some(import) = import.filter(|_| depth < RE_EXPORTS_MAX) else {
                return self.file_of(&module);
            };
            let target = self.absolute(&module, &import.segments, true, 0)?;
            return self.find(&[&target, &path[at + 1..]].concat(), depth + 1);
        }
        None
    }

    /// The `use` by which a module has a name.
    fn imported(&self, module: &[String], name: &str) -> Option<&Name> {
        let file = self.file_of(module)?;
        let inner = &module[file.len()..];
        let mut names = self.0[&file].names.iter();
        names.find(|one| one.inner == inner && one.alias.as_deref() == Some(name))
    }

    fn is_module(&self, path: &[String]) -> bool {
        self.0.contains_key(path)
            || self.file_of(path).is_some_and(|file| {
                let mut modules = self.0[&file].modules.iter();
                modules.any(|declared| declared.path == path[file.len()..])
            })
    }

    fn file_of(&self, module: &[String]) -> Option<Module> {
        let mut lengths = (1..=module.len()).rev();
        let length = lengths.find(|length| self.0.contains_key(&module[..*length]))?;
        Some(module[..length].to_vec())
    }

    fn is_test(&self, file: &[String]) -> bool {
        (1..file.len()).any(|length| {
            let parent = self.0.get(&file[..length]);
            let mut modules = parent.iter().flat_map(|parent| &parent.modules);
            modules.any(|declared| declared.is_test && declared.path == file[length..=length])
        })
    }
}

/// Whether a name may be a use of another file.
fn counts(name: &Name) -> bool {
    // A lone word may be a variable.
    let is_word = name.alias.is_none()
        && name.segments.len() == 1
        && !name.segments[0].starts_with(char::is_uppercase);
    !name.is_test && !name.is_re_export && !is_word
}

fn reachable(graph: &Graph, from: &Module) -> BTreeSet<Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        for other in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    seen
}

/// The files of the shortest way from a file back to it.
fn shortest_circle(graph: &Graph, from: &Module) -> Option<Vec<Module>> {
    let mut ways = std::collections::VecDeque::from([vec![from.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for other in graph.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
            if other == from {
                return Some(way);
            }
            if seen.insert(other.clone()) {
                ways.push_back([way.as_slice(), std::slice::from_ref(other)].concat());
            }
        }
    }
    None
}

fn shown(graph: &Graph, circle: &[Module]) -> String {
    let next = circle.iter().cycle().skip(1);
    let uses = circle
        .iter()
        .zip(next)
        .map(|(one, next)| &*graph[one][next]);
    uses.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let found = |files: &[(&[&str], &str)]| {
        let mut all = Files::default();
        for (module, text) in files {
            all.add(module, text);
        }
        all.circles(&[])
    };
    let circles: [&[(&[&str], &str)]; 5] = [
        // Two files of a folder.
        &[
            (&["a"], "mod b; mod c;"),
            (&["a", "b"], "use super::c::C; pub struct B(C);"),
            (&["a", "c"], "use crate::a::b::B; pub struct C(Box<B>);"),
        ],
        // Without a `use`, from within a function and within a macro.
        &[
            (&["a"], "mod b; mod c;"),
            (&["a", "b"], "pub fn b() { crate::a::c::c() }"),
            (&["a", "c"], "pub fn c() { assert!(super::b::b() == ()) }"),
        ],
        // Over a module that is named first, and a re-export.
        &[
            (&["a"], "mod b; mod c; pub use c::C; pub use b::B as D;"),
            (&["a", "b"], "use crate::a; pub struct B(a::C);"),
            (&["a", "c"], "use crate::a::D; pub struct C(D);"),
        ],
        // Over three files, one of them in a folder of its own.
        &[
            (&["a"], "mod b; mod c;"),
            (
                &["a", "b"],
                "pub(super) mod d; use crate::a::c::C; pub struct B(C);",
            ),
            (&["a", "c"], "use super::b::d::{self, D}; pub struct C(D);"),
            (
                &["a", "b", "d"],
                "use crate::a::b::B; pub struct D(Box<B>);",
            ),
        ],
        // By everything of a file.
        &[
            (&["a"], "mod b; mod c;"),
            (&["a", "b"], "use crate::a::c::*; pub struct B;"),
            (&["a", "c"], "pub struct C(super::b::B);"),
        ],
    ];
    for files in circles {
        let circles = found(files);
        assert_eq!(circles.len(), 1, "{files:?}: {circles:?}");
    }
    let mut excused = Files::default();
    for (module, text) in circles[0] {
        excused.add(module, text);
    }
    let excuse = ("a/b", "a/c", "the test says so");
    assert_eq!(excused.circles(&[excuse]), Vec::<String>::new());
    let none: [&[(&[&str], &str)]; 5] = [
        // What a folder's own file defines is for all of its files.
        &[
            (&["a"], "mod b; use b::B; pub struct A;"),
            (&["a", "b"], "use super::A; pub struct B;"),
        ],
        // What declares and re-exports does not use.
        &[
            (&["a"], "mod b; mod c; pub use b::B; pub use c::C;"),
            (&["a", "b"], "use crate::a::C; pub struct B(C);"),
            (&["a", "c"], "pub struct C;"),
        ],
        // Tests use everything.
        &[
            (
                &["a"],
                "mod b; pub struct A; #[cfg(test)] mod tests; #[cfg(test)] use b::B;",
            ),
            (
                &["a", "b"],
                "use super::A; pub struct B; #[cfg(test)] mod tests { use super::*; }",
            ),
            (&["a", "tests"], "use super::*; use crate::a::b::B;"),
        ],
        // A word of another crate, and a variable with the name of a function.
        &[
            (
                &["a"],
                "mod b; pub use b::b; pub struct A; fn f() { let b = b::Other::new(); b; }",
            ),
            (&["a", "b"], "use std::a::A; pub fn b() {}"),
        ],
        // Two modules: their order is another rule.
        &[
            (&["a"], "use crate::b::B; pub struct A;"),
            (&["b"], "use crate::a::A; pub struct B;"),
        ],
    ];
    for files in none {
        assert_eq!(found(files), Vec::<String>::new(), "{files:?}");
    }
}
