//! Names of tensors as the nested dictionaries that flax stores.
//!
//! ```text
//!  rnn_params/rnn/linear/w   ⇄   params │ rnn_params │ rnn/linear │ w      Haiku's dictionary: module, parameter
//!  ff_mod_stack/~/b0         ⇄   params │ ff_mod_stack │ ~ │ b0            "~" is the module outside all modules
//!  lstm_init_state/hidden    ⇄   params │ lstm_init_state │ hidden         a named tuple: its fields
//! ```
//!
//! Haiku keeps the parameters of a network as module → parameter, and the name of a module may hold slashes. So a name
//! cannot be split at its slashes; each optimizer says where its Haiku dictionaries stand.

use std::collections::BTreeMap;

use crate::params::Layout;

/// Field names of `haiku.LSTMState` in its order, and the key under which every optimizer keeps it.
const LSTM_STATE: (&str, [&str; 2]) = ("lstm_init_state", ["hidden", "cell"]);

/// A dictionary, or the tensor of this index.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Tensor(usize),
    Dictionary(BTreeMap<&'a str, Self>),
}

/// The dictionaries of a layout. `haiku` names the keys below which Haiku's dictionaries stand; `""` is theta itself.
pub(super) fn tree<'a>(layout: &'a Layout, haiku: &[&str]) -> BTreeMap<&'a str, Node<'a>> {
    let mut root = BTreeMap::new();
    for (index, tensor) in layout.tensors().iter().enumerate() {
        insert(&mut root, &key_path(haiku, tensor.name()), index);
    }
    root
}

fn insert<'a>(dictionary: &mut BTreeMap<&'a str, Node<'a>>, path: &[&'a str], index: usize) {
    match path {
        [] => {}
        [key] => {
            dictionary.insert(key, Node::Tensor(index));
        }
        [key, rest @ ..] => {
            let below = dictionary.entry(key).or_insert_with(|| Node::Dictionary(BTreeMap::new()));
            if let Node::Dictionary(below) = below {
                insert(below, rest, index);
            }
        }
    }
}

/// The keys that lead to a tensor.
fn key_path<'a>(haiku: &[&str], name: &'a str) -> Vec<&'a str> {
    for root in haiku {
        if root.is_empty() {
            return name.rsplit_once('/').map_or_else(|| vec![name], |(module, parameter)| vec![module, parameter]);
        }
        let below = name.strip_prefix(root).and_then(|below| below.strip_prefix('/'));
        if let Some((module, parameter)) = below.and_then(|below| below.rsplit_once('/')) {
            return vec![&name[..root.len()], module, parameter];
        }
    }
    name.split('/').collect()
}

/// The entries in the order of a state dictionary that JAX has mapped over, as every trained theta was: sorted keys,
/// but a named tuple's fields as they were declared.
pub(super) fn in_order<'a, 'b>(
    key: Option<&str>,
    dictionary: &'b BTreeMap<&'a str, Node<'a>>,
) -> Vec<(&'a str, &'b Node<'a>)> {
    let mut entries: Vec<_> = dictionary.iter().map(|(key, node)| (*key, node)).collect();
    let (tuple, fields) = LSTM_STATE;
    if key == Some(tuple) {
        entries.sort_by_key(|(key, _)| fields.iter().position(|field| field == key));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorSpec;

    #[test]
    fn modules_keep_their_slashes() {
        let hyper = ["rnn_params", "ff_mod_stack"];
        assert_eq!(key_path(&hyper, "rnn_params/rnn/linear/w"), ["rnn_params", "rnn/linear", "w"]);
        assert_eq!(key_path(&hyper, "rnn_params/linear_1/b"), ["rnn_params", "linear_1", "b"]);
        assert_eq!(key_path(&hyper, "ff_mod_stack/~/w0__10"), ["ff_mod_stack", "~", "w0__10"]);
        assert_eq!(key_path(&hyper, "lstm_init_state/cell"), ["lstm_init_state", "cell"]);
        assert_eq!(key_path(&[""], "mlp/~/linear_0/w"), ["mlp/~/linear_0", "w"]);
        assert_eq!(key_path(&["nn"], "momentum_decays"), ["momentum_decays"]);
    }

    #[test]
    fn keys_are_sorted_but_the_fields_of_a_tuple_are_not() {
        let names = ["b/x", "lstm_init_state/cell", "lstm_init_state/hidden", "a"];
        let layout = Layout::new(names.map(|name| TensorSpec::new(name, [])).to_vec()).unwrap();
        let root = tree(&layout, &[]);
        assert_eq!(
            in_order(None, &root).iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            ["a", "b", "lstm_init_state"]
        );
        let Node::Dictionary(state) = &root["lstm_init_state"] else { panic!("a dictionary") };
        let fields = in_order(Some("lstm_init_state"), state);
        assert_eq!(fields.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["hidden", "cell"]);
    }
}
