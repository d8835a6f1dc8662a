//! Theta in and out, along the tree of its layout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::msgpack::{Item, Reader, Writer};
use super::super::quote::{Names, lacking, quoted};
use super::array::{self, Array, CHUNK};
use super::tree::{Node, in_order, tree};
use crate::params::Layout;
use crate::{Error, Result, Theta};

/// Reads theta from its map.
///
/// # Errors
/// [`Error::Foreign`] naming the tensors that are missing and the keys that are too many, or the first tensor of another
/// shape or dtype, with its place in the file.
pub(in crate::interchange) fn read_theta(
    mut reader: Reader<'_>,
    layout: &Arc<Layout>,
    haiku: &[&str],
) -> Result<Theta> {
    let root = tree(layout, haiku);
    let place = format!("byte {} (theta)", reader.offset());
    let mut found = Found { layout, arrays: vec![None; layout.len()], surplus: Names::default(), path: String::new() };
    found.collect(&mut reader, &root)?;
    let mut missing = Names::default();
    for (tensor, array) in layout.tensors().iter().zip(&found.arrays) {
        if array.is_none() {
            missing.push(tensor.name());
        }
    }
    if !missing.is_empty() || !found.surplus.is_empty() {
        let expected = format!("the {} tensors of this optimizer", layout.len());
        return Err(Error::foreign(place, expected, lacking(&missing, &found.surplus)));
    }
    let arrays: Vec<Array<'_>> = found.arrays.into_iter().flatten().collect();
    for (tensor, array) in layout.tensors().iter().zip(&arrays) {
        array.check(tensor.shape(), tensor.name())?;
    }
    let mut theta = Theta::zeros(layout, 1);
    for (index, (tensor, array)) in layout.tensors().iter().zip(&arrays).enumerate() {
        array.copy_to(theta.tensor_mut(0, index), tensor.name())?;
    }
    Ok(theta)
}

/// What one pass over a file has met.
struct Found<'a, 'l> {
    layout: &'l Layout,
    /// One a tensor, in layout order.
    arrays: Vec<Option<Array<'a>>>,
    /// Keys that no tensor has.
    surplus: Names,
    /// Keys down to the dictionary that is being read, for messages.
    path: String,
}

impl<'a> Found<'a, '_> {
    /// Reads one dictionary. Recursion goes as deep as names of tensors do, whatever the file holds.
    fn collect(&mut self, reader: &mut Reader<'a>, dictionary: &BTreeMap<&str, Node<'_>>) -> Result<()> {
        let offset = reader.offset();
        let entries = match reader.item()? {
            Item::Map(entries) => entries,
            other => return Err(self.wrong(offset, "a dictionary", other.words())),
        };
        let mut seen = BTreeSet::new();
        for _ in 0..entries {
            let offset = reader.offset();
            let key = match reader.item()? {
                Item::Text(key) => key,
                other => return Err(self.wrong(offset, "a key", other.words())),
            };
            let Some((known, node)) = dictionary.get_key_value(key) else {
                let path = self.below(key);
                self.surplus.push(&path);
                reader.skip()?;
                continue;
            };
            if !seen.insert(*known) {
                return Err(self.wrong(offset, "a key once", format!("{} again", quoted(key))));
            }
            match node {
                Node::Tensor(index) => {
                    self.arrays[*index] = Some(Array::read(reader, self.layout.tensors()[*index].name())?);
                }
                Node::Dictionary(below) => {
                    let path = self.below(key);
                    let above = std::mem::replace(&mut self.path, path);
                    self.collect(reader, below)?;
                    self.path = above;
                }
            }
        }
        Ok(())
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}/{key}", self.path) }
    }

    fn wrong(&self, offset: usize, expected: &str, found: String) -> Error {
        let path = if self.path.is_empty() { "theta" } else { &self.path };
        Error::foreign(format!("byte {offset} ({path})"), expected, found)
    }
}

/// Shape of the array at these keys, `None` if there is none.
///
/// # Errors
/// [`Error::Foreign`] if the way there is damaged.
pub(in crate::interchange) fn shape_at(mut reader: Reader<'_>, path: &[&str]) -> Result<Option<Vec<usize>>> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(Array::read(&mut reader, "").ok().map(|array| array.shape));
    };
    let Item::Map(entries) = reader.item()? else { return Ok(None) };
    for _ in 0..entries {
        if reader.item()? == Item::Text(first) {
            return shape_at(reader, rest);
        }
        reader.skip()?;
    }
    Ok(None)
}

/// Writes theta as its map.
pub(in crate::interchange) fn write_theta(writer: &mut Writer, theta: &Theta, haiku: &[&str]) {
    write_dictionary(writer, None, &tree(theta.layout(), haiku), theta);
}

fn write_dictionary(writer: &mut Writer, key: Option<&str>, dictionary: &BTreeMap<&str, Node<'_>>, theta: &Theta) {
    writer.map(dictionary.len());
    for (key, node) in in_order(key, dictionary) {
        writer.text(key);
        match node {
            Node::Dictionary(below) => write_dictionary(writer, Some(key), below, theta),
            Node::Tensor(index) => {
                let shape = theta.layout().tensors()[*index].shape();
                array::write(writer, shape, theta.tensor(0, *index), CHUNK);
            }
        }
    }
}
