//! The columns of a part: those of its input, and a job's own.

use crate::bulk::parquet::properties::{column, field};
use crate::table::parquet::ParquetFile;
use crate::table::parquet::schema::Elements;
use arrow_schema::Schema;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::LogicalType;
use parquet::errors::ParquetError;
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type, TypePtr};
use std::sync::Arc;

/// The columns that a job writes itself.
#[derive(Clone, Debug)]
pub struct Own {
    /// Their names, in order.
    pub names: Vec<&'static str>,
    /// Whether columns of the input with these names are replaced, in their place. Where they are
    /// not, the input has none.
    pub replaces: bool,
}

/// A leaf column of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// The input's leaf of this number.
    Kept(usize),
    /// A text that is the same in every row.
    Constant(&'static str),
    /// The container's id, once more.
    Id,
    /// The names of each row's context.
    ContextNames,
    /// The values of each row's context.
    ContextValues,
    /// The wrapped keys.
    Blobs,
    /// When they were made.
    CreatedAt,
}

/// A column of a part: of the input, by its place there, or a job's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Kept(usize),
    Own(&'static str),
}

/// The columns of a part.
pub struct PartSchema {
    pub(super) roots: Vec<Root>,
    /// Its leaves, in order.
    pub leaves: Vec<Leaf>,
    /// As its footer describes them.
    pub parquet: SchemaDescPtr,
}

impl PartSchema {
    /// The columns of parts of a file with these columns.
    ///
    /// # Errors
    /// [`ParquetError`], when the job's own columns cannot be described: a fault of the caller.
    pub fn new(input: &SchemaDescriptor, own: &Own) -> Result<Self, ParquetError> {
        let fields = input.root_schema().get_fields();
        let replaced = |name: &str| {
            let mut names = own.names.iter().filter(|_| own.replaces);
            names.find(|own| **own == name).copied()
        };
        let mut roots: Vec<_> = fields
            .iter()
            .enumerate()
            .map(|(at, field)| replaced(field.name()).map_or(Root::Kept(at), Root::Own))
            .collect();
        let added = own.names.iter().map(|name| Root::Own(name));
        let missing: Vec<_> = added.filter(|root| !roots.contains(root)).collect();
        roots.extend(missing);
        let arrow = Schema::new(own.names.iter().map(|name| field(name)).collect::<Vec<_>>());
        let converted = ArrowSchemaConverter::new().convert(&arrow)?;
        let own_types = converted.root_schema().get_fields();
        let mut types: Vec<TypePtr> = Vec::with_capacity(roots.len());
        let mut leaves = Vec::new();
        for root in &roots {
            match *root {
                Root::Kept(at) => {
                    types.extend(fields.get(at).cloned());
                    let of_root = (0..input.num_columns())
                        .filter(|leaf| input.get_column_root_idx(*leaf) == at);
                    leaves.extend(of_root.map(Leaf::Kept));
                }
                Root::Own(name) => {
                    let own = own_types.iter().find(|own| own.name() == name);
                    types.extend(own.cloned());
                    leaves.extend_from_slice(own_leaves(name));
                }
            }
        }
        let root = input.root_schema();
        let root = Type::group_type_builder(root.name())
            .with_fields(types)
            .build()?;
        Ok(Self {
            roots,
            leaves,
            parquet: Arc::new(SchemaDescriptor::new(Arc::new(root))),
        })
    }

    /// The schema elements of the columns that keep their own.
    pub(super) fn elements<'a>(&self, file: &'a ParquetFile) -> Vec<Option<&'a Elements>> {
        let roots = self.roots.iter().map(|root| match *root {
            Root::Kept(at) => file.elements().get(at),
            Root::Own(_) => None,
        });
        roots.collect()
    }

    /// The place in a part of the input's leaf of this number.
    pub(super) fn place_of(&self, leaf: usize) -> Option<usize> {
        let mut leaves = self.leaves.iter();
        leaves.position(|other| *other == Leaf::Kept(leaf))
    }
}

fn own_leaves(name: &'static str) -> &'static [Leaf] {
    match name {
        column::CONTAINER_ID => &[Leaf::Id],
        column::KEY_ARN => &[Leaf::Constant(column::KEY_ARN)],
        column::KEY_MATERIAL_ID => &[Leaf::Constant(column::KEY_MATERIAL_ID)],
        column::KEY_SPEC => &[Leaf::Constant(column::KEY_SPEC)],
        column::ENCRYPTION_CONTEXT => &[Leaf::ContextNames, Leaf::ContextValues],
        column::CIPHERTEXT_BLOB => &[Leaf::Blobs],
        _ => &[Leaf::CreatedAt],
    }
}

/// The column whose type this program cannot write again, if there is one.
pub(super) fn unknown_type(input: &SchemaDescriptor) -> Option<String> {
    fn is_unknown(field: &Type) -> bool {
        let kind = field.get_basic_info().logical_type_ref();
        matches!(kind, Some(LogicalType::_Unknown { .. }))
            || field.is_group() && field.get_fields().iter().any(|field| is_unknown(field))
    }
    let mut fields = input.root_schema().get_fields().iter();
    let unknown = fields.find(|field| is_unknown(field));
    unknown.map(|field| field.name().to_owned())
}
