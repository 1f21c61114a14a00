//! What a source file names: paths, the declarations among them, and the modules that it declares.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, ItemUse, Meta, UseTree, VisRestricted, Visibility};

/// A path as a file writes it, in a declaration or anywhere else.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) line: usize,
    /// The modules within the file that it stands in.
    pub(super) inner: Vec<String>,
    pub(super) segments: Vec<String>,
    /// For a `use`: the name that it gives, `*` for all.
    pub(super) alias: Option<String>,
    /// For a `use`: whether others may import it from here.
    pub(super) is_re_export: bool,
    /// Whether only tests are built with it.
    pub(super) is_test: bool,
}

/// A module that a file declares, as its path within the file.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) path: Vec<String>,
    pub(super) is_test: bool,
}

/// One parsed file.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) names: Vec<Name>,
    pub(super) modules: Vec<Declared>,
}

impl Source {
    /// Parses a file.
    pub(super) fn parse(text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut reader = Reader::default();
        reader.visit_file(&file);
        reader.source
    }
}

#[derive(Default)]
struct Reader {
    source: Source,
    inner: Vec<String>,
    is_test: bool,
}

impl Reader {
    fn push(&mut self, first: &Ident, segments: Vec<String>) {
        self.source.names.push(Name {
            line: first.span().start().line,
            inner: self.inner.clone(),
            segments,
            alias: None,
            is_re_export: false,
            is_test: self.is_test,
        });
    }

    /// Reads a `use`, each of its leaves as a path of its own.
    fn import(&mut self, tree: &UseTree, prefix: &[String], is_re_export: bool) {
        let (at, last, alias) = match tree {
            UseTree::Path(path) => {
                let prefix = [prefix, &[text(&path.ident)]].concat();
                return self.import(&path.tree, &prefix, is_re_export);
            }
            UseTree::Group(group) => {
                let trees = group.items.iter();
                return trees.for_each(|tree| self.import(tree, prefix, is_re_export));
            }
            UseTree::Name(name) => (name.ident.span(), Some(&name.ident), text(&name.ident)),
            UseTree::Rename(new) => (new.ident.span(), Some(&new.ident), text(&new.rename)),
            UseTree::Glob(glob) => (glob.star_token.spans[0], None, "*".to_owned()),
        };
        let line = at.start().line;
        let mut segments = prefix.to_vec();
        // `use a::b::{self}` is `use a::b`.
        segments.extend(last.map(text).filter(|last| last != "self"));
        let alias = match (alias.as_str(), prefix.last()) {
            ("self", Some(module)) => module.clone(),
            _ => alias,
        };
        self.source.names.push(Name {
            line,
            inner: self.inner.clone(),
            segments,
            alias: Some(alias),
            is_re_export,
            is_test: self.is_test,
        });
    }

    /// Reads what a macro or an attribute is given: its paths may begin anywhere.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_separator = |at: usize| {
            let is_colon = |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
            is_colon(tokens.get(at)) && is_colon(tokens.get(at + 1))
        };
        let mut at = 0;
        while at < tokens.len() {
            let from = at;
            at += 1;
            match &tokens[from] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut segments = vec![text(first)];
                    while is_separator(at) {
                        match tokens.get(at + 2) {
                            Some(TokenTree::Ident(next)) => segments.push(text(next)),
                            Some(TokenTree::Group(group))
                                if group.delimiter() == Delimiter::Brace =>
                            {
                                let tree = tokens[from..=at + 2].iter().cloned().collect();
                                if let Ok(tree) = syn::parse2::<UseTree>(tree) {
                                    self.import(&tree, &[], false);
                                }
                                segments.clear();
                            }
                            _ => break,
                        }
                        at += 3;
                    }
                    if segments.len() > 1 {
                        self.push(first, segments);
                    }
                }
                _ => {}
            }
        }
    }

    fn within(&mut self, attributes: &[Attribute], visit: impl FnOnce(&mut Self)) {
        let before = self.is_test;
        self.is_test |= attributes.iter().any(is_for_tests);
        visit(self);
        self.is_test = before;
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        self.within(attributes(item), |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        self.within(attributes, |reader| visit::visit_impl_item(reader, item));
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.inner.push(text(&item.ident));
        self.source.modules.push(Declared {
            path: self.inner.clone(),
            is_test: self.is_test,
        });
        visit::visit_item_mod(self, item);
        self.inner.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_re_export = !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, &[], is_re_export);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| text(&segment.ident));
        self.push(&path.segments[0].ident, segments.collect());
        visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        visit::visit_meta_list(self, list);
        self.tokens(list.tokens.clone());
    }
}

fn text(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether this is `#[cfg(test)]`, or of `test` and something else.
fn is_for_tests(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else {
        return false;
    };
    let words = list.tokens.to_string();
    let mut words = words.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    list.path.is_ident("cfg")
        && words.clone().all(|word| word != "not")
        && words.any(|word| word == "test")
}
